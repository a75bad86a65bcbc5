//! Taking a cluster out of the fleet, and back in: an administrator's act on the shared store. A tombstone comes first
//! and bars every publisher from then on; what the cluster left behind goes after it, so whoever is interrupted does
//! it again. The owner key stays: it has a lease. Order and virtual addresses stay too: they mean nothing without an
//! export, and a cluster that comes back finds its services at the same addresses.

use crate::store::{Committed, Guard, MAX_WRITES, Store, StoreError, Txn};
use model::{
    cluster::{Meta, Tombstone},
    key::Key,
    name::ClusterId,
    record::Record as _,
};
use std::collections::BTreeSet;

/// How an act is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Remove a cluster that the store does not know: it is barred before it comes.
    pub force: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The tombstone as it stands then.
    pub tombstone: Tombstone,
    /// Whether it stood there before: an earlier removal was only brought to its end.
    pub already: bool,
    /// How many records of services were deleted.
    pub records: usize,
}

/// Why an act is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemovalError {
    /// The store has nothing of such a cluster.
    #[error("the store knows no cluster `{id}`; it knows {}; --force bars it before it comes", list(known))]
    Unknown {
        /// The id that was given.
        id: ClusterId,
        /// The ids that there are.
        known: BTreeSet<ClusterId>,
    },
    /// There is nothing to take back.
    #[error("cluster `{0}` is not removed")]
    NotRemoved(ClusterId),
    /// Somebody else removes or readmits the cluster at the same time.
    #[error("the tombstone of cluster `{0}` changed meanwhile: look who else is at it, then run this again")]
    Contended(ClusterId),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the store has of a cluster.
struct Found {
    tombstone: Tombstone,
    /// The revision of the tombstone's last write; zero when there is none.
    modified: u64,
    /// What the cluster says of itself, the marker among it, in front of its records: without a marker nobody takes
    /// what is left for complete.
    keys: Vec<String>,
    records: usize,
    uid: Option<String>,
}

/// Takes a cluster out of the fleet.
///
/// # Errors
/// [`RemovalError`]; what was begun is finished by doing it again.
pub async fn remove(store: &dyn Store, id: &ClusterId, how: How) -> Result<Done, RemovalError> {
    let found = Found::read(store, id).await?;
    let is_known = found.modified != 0 || !found.keys.is_empty();
    if !is_known && !how.force {
        let known = known(store).await?;
        return Err(RemovalError::Unknown { id: id.clone(), known });
    }
    let already = found.tombstone.removed;
    let tombstone = if already {
        found.tombstone.clone()
    } else {
        let uid = found.uid.clone().unwrap_or_default().into();
        Tombstone { uid, number: found.tombstone.number + 1, removed: true }
    };
    let done = Done { tombstone, already, records: found.records };
    if how.dry_run {
        return Ok(done);
    }
    if already {
        clear(store, id, found.modified, &found.keys).await?;
        return Ok(done);
    }
    let modified = bury(store, id, found.modified, &done.tombstone).await?;
    // Read again: until the tombstone stood there, publishers went on.
    let left = Found::read(store, id).await?;
    clear(store, id, modified, &left.keys).await?;
    Ok(Done { records: left.records, ..done })
}

/// Takes a cluster back. What an interrupted removal left behind is deleted first: nobody knows of which time it is,
/// and the uid that the id was pinned to is to be forgotten.
///
/// # Errors
/// [`RemovalError`]; what was begun is finished by doing it again.
pub async fn readmit(store: &dyn Store, id: &ClusterId, how: How) -> Result<Done, RemovalError> {
    let found = Found::read(store, id).await?;
    if !found.tombstone.removed {
        return Err(RemovalError::NotRemoved(id.clone()));
    }
    let tombstone = Tombstone { uid: "".into(), number: found.tombstone.number + 1, removed: false };
    if !how.dry_run {
        clear(store, id, found.modified, &found.keys).await?;
        bury(store, id, found.modified, &tombstone).await?;
    }
    Ok(Done { tombstone, already: false, records: found.records })
}

/// Deletes what a cluster has in the store: a cluster that comes back begins anew. How many records that were. It takes
/// a removal and a readmission: what is only missing is not gone, as long as no tombstone says so.
///
/// # Errors
/// [`RemovalError`]; what was begun is finished by doing it again.
pub async fn erase(store: &dyn Store, id: &ClusterId) -> Result<usize, RemovalError> {
    let done = remove(store, id, How { force: true, ..How::default() }).await?;
    readmit(store, id, How::default()).await?;
    Ok(done.records)
}

/// Writes a tombstone over the one that was read; the revision of that.
async fn bury(store: &dyn Store, id: &ClusterId, over: u64, tombstone: &Tombstone) -> Result<u64, RemovalError> {
    let key = Key::Tombstone(id.clone()).to_string();
    let guards = vec![Guard::modified(&key, over)];
    match store.commit(&Txn { guards, writes: vec![(key, Some(tombstone.encode()))], ..Txn::default() }).await? {
        Committed::Done(revision) => Ok(revision),
        Committed::Refused(_) => Err(RemovalError::Contended(id.clone())),
    }
}

/// Deletes keys of a cluster as long as its tombstone is this one: after a readmission they are another's.
async fn clear(store: &dyn Store, id: &ClusterId, modified: u64, keys: &[String]) -> Result<(), RemovalError> {
    let tombstone = Key::Tombstone(id.clone()).to_string();
    for keys in keys.chunks(MAX_WRITES) {
        let guards = vec![Guard::modified(&tombstone, modified)];
        let writes = keys.iter().map(|key| (key.clone(), None)).collect();
        if let Committed::Refused(_) = store.commit(&Txn { guards, writes, ..Txn::default() }).await? {
            return Err(RemovalError::Contended(id.clone()));
        }
    }
    Ok(())
}

async fn known(store: &dyn Store) -> Result<BTreeSet<ClusterId>, StoreError> {
    let keys = store.read("clusters/").await?.entries.into_keys();
    Ok(keys.filter_map(|key| ClusterId::parse(key.split('/').nth(1)?).ok()).collect())
}

fn list(ids: &BTreeSet<ClusterId>) -> String {
    if ids.is_empty() {
        return "none".to_owned();
    }
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

// === impl Found ===

impl Found {
    async fn read(store: &dyn Store, id: &ClusterId) -> Result<Self, StoreError> {
        let key = Key::Tombstone(id.clone()).to_string();
        let tombstone = store.read(&key).await?.entries.remove(&key);
        let mut own = store.read(&format!("clusters/{id}/")).await?.entries;
        let records = store.read(&Key::records_of(id)).await?.entries;
        let meta = own.get(&Key::Meta(id.clone()).to_string()).and_then(|entry| Meta::decode(&entry.value).ok());
        own.remove(&Key::Owner(id.clone()).to_string());
        Ok(Self {
            modified: tombstone.as_ref().map_or(0, |entry| entry.modified),
            // One that does not decode removes nobody, and is written over.
            tombstone: tombstone.and_then(|entry| Tombstone::decode(&entry.value).ok()).unwrap_or_default(),
            records: records.len(),
            keys: own.into_keys().chain(records.into_keys()).collect(),
            uid: meta.map(|meta| meta.uid.to_string()),
        })
    }
}

#[cfg(test)]
mod tests;
