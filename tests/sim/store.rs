//! The simulated etcd: what it holds, and what it forgets. Transactions, revisions, history and leases are those of the
//! port ([`federator::store`]); it can also be stopped, compacted, emptied, and put back to what it was earlier. Knows
//! nothing of who talks to it, but for whose a lease is. Every transaction is shown to the law before it is done.

use crate::{invariants::Law, journal::Journal, link::Who};
use federator::store::{Batch, Committed, Entry, Guard, LeaseId, Must, Snapshot, StoreError, Txn};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

/// What a simulated etcd holds.
#[derive(Debug)]
pub(crate) struct Etcd {
    /// The id of the cluster; a restored or emptied one may have another.
    pub(crate) cluster: u64,
    pub(crate) revision: u64,
    pub(crate) entries: BTreeMap<String, Entry>,
    /// Revisions up to this one are compacted.
    pub(crate) compacted: u64,
    /// The changes after that.
    history: VecDeque<Batch>,
    leases: BTreeMap<LeaseId, Lease>,
    /// Never goes back, as the ids of real leases are random.
    last_lease: i64,
    lease_time: Duration,
    /// Whether it answers.
    pub(crate) up: bool,
    /// Transactions that changed something, but for owners and candidates coming and going.
    pub(crate) writes: u64,
    pub(crate) law: Law,
    journal: Journal,
}

/// A lease.
#[derive(Clone, Debug)]
struct Lease {
    of: Who,
    ends: Instant,
    keys: BTreeSet<String>,
}

/// What it was at a time, to be put back to.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    revision: u64,
    entries: BTreeMap<String, Entry>,
    leases: BTreeMap<LeaseId, Lease>,
}

// === impl Etcd ===

impl Etcd {
    /// An empty one. The real one begins at revision one.
    pub(crate) fn new(law: Law, journal: Journal, lease_time: Duration) -> Self {
        Self {
            cluster: 1,
            revision: 1,
            entries: BTreeMap::new(),
            compacted: 0,
            history: VecDeque::new(),
            leases: BTreeMap::new(),
            last_lease: 0,
            lease_time,
            up: true,
            writes: 0,
            law,
            journal,
        }
    }

    pub(crate) fn read(&self, prefix: &str) -> Snapshot {
        let under = self.entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Snapshot { revision: self.revision, entries: under.map(|(key, entry)| (key.clone(), entry.clone())).collect() }
    }

    pub(crate) fn commit(&mut self, who: &Who, txn: &Txn) -> Result<Committed, StoreError> {
        if !txn.guards.iter().all(|guard| self.holds(guard)) {
            let now = |guard: &Guard| (guard.key.clone(), self.entries.get(&guard.key).cloned());
            return Ok(Committed::Refused(txn.guards.iter().map(now).collect()));
        }
        if txn.leased.iter().any(|(_, _, lease)| !self.leases.contains_key(lease)) {
            return Err(StoreError::Refused("lease not found".to_owned()));
        }
        let of = |lease: i64| self.leases.get(&LeaseId(lease)).map(|lease| lease.of.clone());
        self.law.transaction(&self.entries, who, txn, of);
        Ok(Committed::Done(self.write(&format_args!("{who}"), txn)))
    }

    fn holds(&self, guard: &Guard) -> bool {
        let entry = self.entries.get(&guard.key);
        match &guard.must {
            Must::Modified(revision) => entry.map_or(0, |entry| entry.modified) == *revision,
            Must::Hold(value) => entry.is_some_and(|entry| entry.value == *value),
        }
    }

    fn write(&mut self, who: &dyn std::fmt::Display, txn: &Txn) -> u64 {
        let revision = self.revision + 1;
        let mut changes = Vec::new();
        let plain = txn.writes.iter().map(|(key, value)| (key, value.as_ref(), None));
        let leased = txn.leased.iter().map(|(key, value, lease)| (key, Some(value), Some(lease)));
        for (key, value, lease) in plain.chain(leased) {
            for lease in self.leases.values_mut() {
                lease.keys.remove(key);
            }
            if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(lease)) {
                lease.keys.insert(key.clone());
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
        if changes.is_empty() {
            return self.revision;
        }
        self.revision = revision;
        self.journal.note(format_args!("{who} writes {revision}:{}", keys(&changes)));
        if changes.iter().any(|(key, _)| !is_seat(key)) {
            self.writes += 1;
        }
        self.history.push_back(Batch { revision, changes });
        revision
    }

    /// What changed from `revision` on, itself included, up to at most `last`.
    pub(crate) fn since(&self, revision: u64, last: u64) -> Result<Batch, StoreError> {
        if revision <= self.compacted {
            return Err(StoreError::Compacted(self.compacted + 1));
        }
        let batches = self.history.iter().filter(|batch| (revision..=last).contains(&batch.revision));
        let changes = batches.flat_map(|batch| batch.changes.iter().cloned()).collect();
        Ok(Batch { revision: last.min(self.revision), changes })
    }

    /// Forgets what was up to a revision.
    pub(crate) fn compact(&mut self, up_to: u64) {
        let up_to = up_to.min(self.revision).max(self.compacted);
        self.journal.note(format_args!("store compacted up to {up_to}"));
        self.compacted = up_to;
        self.history.retain(|batch| batch.revision > up_to);
    }

    // Leases.

    pub(crate) fn grant(&mut self, of: Who) -> LeaseId {
        self.last_lease += 1;
        let id = LeaseId(self.last_lease);
        self.leases.insert(id, Lease { of, ends: Instant::now() + self.lease_time, keys: BTreeSet::new() });
        id
    }

    /// Keeps a lease alive; false when there is none.
    pub(crate) fn renew(&mut self, id: LeaseId) -> bool {
        let ends = Instant::now() + self.lease_time;
        self.leases.get_mut(&id).map(|lease| lease.ends = ends).is_some()
    }

    pub(crate) fn revoke(&mut self, id: LeaseId, why: &str) {
        if let Some(lease) = self.leases.remove(&id) {
            let writes = lease.keys.into_iter().map(|key| (key, None)).collect();
            self.write(&format_args!("{} {why}", lease.of), &Txn { writes, ..Txn::default() });
        }
    }

    /// Revokes what has run out, and says when the next does. While it is stopped, none does.
    pub(crate) fn expire(&mut self) -> Option<Instant> {
        if !self.up {
            return None;
        }
        let over = self.leases.iter().filter(|(_, lease)| lease.ends <= Instant::now());
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.revoke(id, "ran out:");
        }
        self.leases.values().map(|lease| lease.ends).min()
    }

    /// Whose a lease is.
    pub(crate) fn holder(&self, id: LeaseId) -> Option<&Who> {
        self.leases.get(&id).map(|lease| &lease.of)
    }

    /// How long a lease lives that nobody keeps alive.
    pub(crate) fn lease_time(&self) -> Duration {
        self.lease_time
    }

    // What becomes of it.

    /// Starts it again: what it held is there, and every lease has its time anew.
    pub(crate) fn start(&mut self) {
        self.up = true;
        let ends = Instant::now() + self.lease_time;
        for lease in self.leases.values_mut() {
            lease.ends = ends;
        }
    }

    pub(crate) fn backup(&self) -> Backup {
        Backup { revision: self.revision, entries: self.entries.clone(), leases: self.leases.clone() }
    }

    /// Puts it back to what it was, or empties it. A backup knows no history; the leases of its time live on.
    pub(crate) fn restore(&mut self, backup: Option<Backup>, cluster: u64) {
        let empty = Backup { revision: 1, entries: BTreeMap::new(), leases: BTreeMap::new() };
        let Backup { revision, entries, leases } = backup.unwrap_or(empty);
        self.journal.note(format_args!("store went back from {} to {revision}, cluster {cluster}", self.revision));
        self.cluster = cluster;
        self.law.restored(&entries);
        (self.revision, self.entries, self.leases) = (revision, entries, leases);
        self.compacted = revision;
        self.history.clear();
        self.start();
    }
}

/// Whether it stands behind a lease, and comes and goes with it.
fn is_seat(key: &str) -> bool {
    key.starts_with("clusters/") && (key.ends_with("/owner") || key.contains("/candidates/"))
}

fn keys(changes: &[(String, Option<Entry>)]) -> impl std::fmt::Display + '_ {
    std::fmt::from_fn(move |f| {
        for (key, entry) in changes {
            write!(f, " {}{key}", if entry.is_some() { "" } else { "-" })?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
