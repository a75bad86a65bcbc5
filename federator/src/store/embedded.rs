//! The engine without a store: everything in memory, for one agent that watches every cluster itself. Same
//! revisions, guards, watches and leases as etcd, so nothing above it can tell. Keeps nothing over a restart by itself,
//! but can begin with what was kept.

use super::{Batch, Committed, Entry, Guard, Lease, LeaseId, Must, Snapshot, Store, StoreError, Txn, Watch};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Batches kept for watches that start late; older ones are compacted. The one reader of an embedded store starts
/// right after its read, so a few would do.
const HISTORY: usize = 1024;

/// A store in memory. Clones share it.
#[derive(Clone)]
pub struct Embedded {
    state: Arc<Mutex<State>>,
    /// The last revision, for whoever waits for the next.
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    revision: u64,
    entries: BTreeMap<String, Entry>,
    history: VecDeque<Batch>,
    /// The keys of each lease that there is.
    leases: BTreeMap<LeaseId, BTreeSet<String>>,
    last_lease: i64,
}

struct EmbeddedWatch {
    store: Embedded,
    next: u64,
}

struct EmbeddedLease {
    store: Embedded,
    id: LeaseId,
}

// === impl Embedded ===

impl Embedded {
    /// An empty store at revision zero.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::default(), revision: watch::Sender::new(0) }
    }

    /// A store that holds these entries already, and whose next change comes after `revision`. None of them is bound
    /// to a lease.
    #[must_use]
    pub fn restore(entries: BTreeMap<String, Entry>, revision: u64) -> Self {
        let state = State { revision, entries, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), revision: watch::Sender::new(revision) }
    }

    // Every critical section leaves the state whole, so a panic elsewhere does not make it unusable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits. Commits announce themselves after they let go of the state, so perhaps not in their order.
    fn announce(&self, revision: u64) {
        self.revision.send_if_modified(|last| {
            let newer = *last < revision;
            *last = revision.max(*last);
            newer
        });
    }

    fn revoke(&self, lease: LeaseId) {
        let mut state = self.state();
        let keys = state.leases.remove(&lease).unwrap_or_default();
        let writes: Vec<_> = keys.into_iter().map(|key| (key, None)).collect();
        let revision = state.write(&Txn { writes, ..Txn::default() });
        drop(state);
        self.announce(revision);
    }
}

impl Default for Embedded {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("embedded store")
    }
}

#[async_trait]
impl Store for Embedded {
    async fn read(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let state = self.state();
        let under = state.entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let entries = under.map(|(key, entry)| (key.clone(), entry.clone())).collect();
        Ok(Snapshot { revision: state.revision, entries })
    }

    async fn commit(&self, txn: &Txn) -> Result<Committed, StoreError> {
        let mut state = self.state();
        if !txn.guards.iter().all(|guard| state.holds(guard)) {
            let now = |guard: &Guard| (guard.key.clone(), state.entries.get(&guard.key).cloned());
            return Ok(Committed::Refused(txn.guards.iter().map(now).collect()));
        }
        if txn.leased.iter().any(|(_, _, lease)| !state.leases.contains_key(lease)) {
            return Err(StoreError::Refused("the lease has run out".to_owned()));
        }
        let revision = state.write(txn);
        drop(state);
        self.announce(revision);
        Ok(Committed::Done(revision))
    }

    async fn watch(&self, revision: u64) -> Result<Box<dyn Watch>, StoreError> {
        let now = self.state().revision;
        if now + 1 < revision {
            return Err(StoreError::WentBack(format!("it is at revision {now}, and {} was seen", revision - 1)));
        }
        Ok(Box::new(EmbeddedWatch { store: self.clone(), next: revision }))
    }

    async fn lease(&self) -> Result<Box<dyn Lease>, StoreError> {
        let mut state = self.state();
        state.last_lease += 1;
        let id = LeaseId(state.last_lease);
        state.leases.insert(id, BTreeSet::new());
        Ok(Box::new(EmbeddedLease { store: self.clone(), id }))
    }

    fn adopt(&self) {}
}

// === impl State ===

impl State {
    fn holds(&self, guard: &Guard) -> bool {
        let entry = self.entries.get(&guard.key);
        match &guard.must {
            Must::Modified(revision) => entry.map_or(0, |entry| entry.modified) == *revision,
            Must::Hold(value) => entry.is_some_and(|entry| entry.value == *value),
        }
    }

    /// Like etcd, deleting what is not there is no change, and a transaction without changes no revision.
    fn write(&mut self, txn: &Txn) -> u64 {
        let revision = self.revision + 1;
        let mut changes = Vec::new();
        let plain = txn.writes.iter().map(|(key, value)| (key, value.as_ref(), None));
        let leased = txn.leased.iter().map(|(key, value, lease)| (key, Some(value), Some(lease)));
        for (key, value, lease) in plain.chain(leased) {
            for keys in self.leases.values_mut() {
                keys.remove(key);
            }
            if let Some(keys) = lease.and_then(|lease| self.leases.get_mut(lease)) {
                keys.insert(key.clone());
            }
            match value {
                Some(value) => {
                    let created = self.entries.get(key).map_or(revision, |entry| entry.created);
                    let entry = Entry { value: value.clone(), created, modified: revision };
                    self.entries.insert(key.clone(), entry.clone());
                    changes.push((key.clone(), Some(entry)));
                }
                None if self.entries.remove(key).is_some() => changes.push((key.clone(), None)),
                None => {}
            }
        }
        if !changes.is_empty() {
            self.revision = revision;
            self.history.push_back(Batch { revision, changes });
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
        self.revision
    }
}

// === impl EmbeddedWatch ===

#[async_trait]
impl Watch for EmbeddedWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        let mut revision = self.store.revision.subscribe();
        // Watching is done when the state says so; an error is impossible while `self.store` holds the sender.
        let _ = revision.wait_for(|revision| *revision >= self.next).await;
        let state = self.store.state();
        let oldest = state.history.front().map_or(state.revision + 1, |batch| batch.revision);
        if self.next < oldest {
            return Err(StoreError::Compacted(oldest));
        }
        let batches = state.history.iter().filter(|batch| batch.revision >= self.next);
        let changes = batches.flat_map(|batch| batch.changes.iter().cloned()).collect();
        let batch = Batch { revision: state.revision, changes };
        self.next = state.revision + 1;
        Ok(batch)
    }
}

// === impl EmbeddedLease ===

#[async_trait]
impl Lease for EmbeddedLease {
    fn id(&self) -> LeaseId {
        self.id
    }

    async fn lost(&mut self) -> String {
        // Who holds it is in the same process.
        std::future::pending().await
    }

    async fn revoke(self: Box<Self>) {}
}

impl Drop for EmbeddedLease {
    /// There is nothing to run out: whoever lets a lease go gives up its keys.
    fn drop(&mut self) {
        self.store.revoke(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;

    #[test]
    fn what_was_kept_goes_on_with_later_revisions() {
        let entry = Entry { value: b"1".to_vec(), created: 3, modified: 5 };
        let store = Embedded::restore(BTreeMap::from([("a".to_owned(), entry.clone())]), 7);
        let all = now(store.read("")).expect("it is there");
        assert_eq!((all.revision, &all.entries["a"]), (7, &entry));
        // Nobody knows any more what the last change was.
        let mut behind = now(store.watch(7)).expect("it finds out when it asks");
        assert_eq!(now(behind.next()), Err(StoreError::Compacted(8)));
        let mut watch = now(store.watch(8)).expect("it follows on what was kept");
        let txn = Txn {
            guards: vec![Guard::holds("a", "1"), Guard::modified("a", 5)],
            writes: vec![("a".to_owned(), Some(b"2".to_vec()))],
            ..Txn::default()
        };
        assert_eq!(now(store.commit(&txn)), Ok(Committed::Done(8)));
        let later = Entry { value: b"2".to_vec(), created: 3, modified: 8 };
        assert_eq!(now(watch.next()), Ok(Batch { revision: 8, changes: vec![("a".to_owned(), Some(later))] }));
    }
}
