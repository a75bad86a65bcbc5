//! What is known of one cluster beside its services: what it says of itself, how far its records can be believed, and
//! who publishes it. Knows nothing of services.

use crate::store::Entry;
use model::{
    cluster::{Hold, Meta, SetHash, State, Synced, Tombstone},
    record::{Record, RecordError},
    seat::{Candidate, Owner},
    view::Cluster,
};
use std::{collections::BTreeMap, sync::Arc};

/// When a key was written last and what its value adds to a sum of hashes. A default one is of a key that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The store's revision of the last write.
    pub(super) modified: u64,
    /// The hash of key and value.
    pub(super) hash: SetHash,
}

/// A value, if it can be used, and the stamp of its key.
#[derive(Clone, Debug)]
pub(super) struct Stamped<T> {
    /// `None` when there is no key, or when what stands behind it cannot be used.
    pub(super) value: Option<T>,
    /// Of the key.
    pub(super) stamp: Stamp,
}

/// Who publishes a cluster, and who could. Not part of a View.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seats {
    /// The owner, and the revision of the key that says so: the fence of its transactions.
    pub owner: Option<(Owner, u64)>,
    /// The candidates, by agent.
    pub candidates: BTreeMap<Arc<str>, Candidate>,
}

/// One cluster.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) meta: Stamped<Meta>,
    pub(super) synced: Stamped<Synced>,
    pub(super) state: Stamped<State>,
    pub(super) hold: Stamped<Hold>,
    /// The one with the largest number that was seen.
    pub(super) tombstone: Stamped<Tombstone>,
    /// The number of the one that stands in the store, whose stamp that is.
    pub(super) tombstone_number: u64,
    pub(super) seats: Seats,
    /// The records that are used, counted and summed as the marker does.
    pub(super) count: Count,
    /// Whether there ever was a complete marker: then a name of it may be absent only for a reason.
    pub(super) marked: bool,
    /// Whether what is used of it is what an earlier process knew, and no store has confirmed it to this one.
    pub(super) begun: bool,
    /// The store's word, kept aside until it can be believed: what was known before is used meanwhile.
    pub(super) aside: Option<BTreeMap<String, Entry>>,
}

/// A number of records and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// How many.
    pub(super) records: u64,
    /// Their sum.
    pub(super) hash: SetHash,
}

// === impl Stamp ===

impl Stamp {
    /// Of a key as it stands in the store.
    pub(super) fn of(key: &str, entry: Option<&Entry>) -> Self {
        entry
            .map_or_else(Self::default, |entry| Self { modified: entry.modified, hash: SetHash::of(key, &entry.value) })
    }

    /// Whether the key is there.
    pub(super) fn exists(self) -> bool {
        self.modified != 0
    }
}

// === impl Stamped ===

impl<T> Default for Stamped<T> {
    fn default() -> Self {
        Self { value: None, stamp: Stamp::default() }
    }
}

// === impl Count ===

impl Count {
    /// With one record changed from what it was to what it is.
    pub(super) fn change(&mut self, from: Stamp, to: Stamp) {
        self.records = self.records + u64::from(to.exists()) - u64::from(from.exists());
        self.hash = self.hash.minus(from.hash).plus(to.hash);
    }

    /// Whether these are the records that a marker speaks of.
    pub(super) fn fits(&self, marker: &Synced) -> bool {
        self.records == marker.records && self.hash == marker.hash
    }

    /// Of these entries, which are a cluster's records.
    pub(super) fn of<'a>(records: impl Iterator<Item = (&'a String, &'a Entry)>) -> Self {
        let mut count = Self::default();
        for (key, entry) in records {
            count.change(Stamp::default(), Stamp::of(key, Some(entry)));
        }
        count
    }
}

// === impl Standing ===

impl Standing {
    pub(super) fn is_removed(&self) -> bool {
        self.tombstone.value.as_ref().is_some_and(|tombstone| tombstone.removed)
    }

    /// Whether it was removed or readmitted, and the store has lost that.
    pub(super) fn is_unsaid(&self) -> bool {
        self.tombstone.value.as_ref().is_some_and(|tombstone| tombstone.number > self.tombstone_number)
    }

    /// Whether what the store says of it is not what is used.
    pub(super) fn is_aside(&self) -> bool {
        self.aside.is_some() || self.is_unsaid()
    }

    /// Whether the marker says that the records are complete.
    pub(super) fn is_synced(&self) -> bool {
        self.synced.value.as_ref().is_some_and(Synced::is_complete)
    }

    /// Whether the marker says besides that what the records do not hold is not there.
    pub(super) fn is_whole(&self) -> bool {
        self.is_synced() && self.synced.value.as_ref().is_some_and(|marker| !marker.partial)
    }

    /// Whether the cluster was complete once and the store has lost its word on it.
    pub(super) fn is_unreadable(&self) -> bool {
        self.marked && !self.is_synced() && !self.is_removed()
    }

    /// Whether anything of it is used.
    pub(super) fn is_known(&self) -> bool {
        self.count.records > 0 || self.marked
    }

    /// As it stands in a View; `None` when nothing is known of it.
    pub(super) fn in_view(&self) -> Option<Cluster> {
        let cluster = Cluster {
            meta: self.meta.value.clone(),
            synced: self.synced.value.clone(),
            state: self.state.value.clone(),
            hold: self.hold.value.clone(),
        };
        (cluster != Cluster::default() && !self.is_removed()).then_some(cluster)
    }
}

/// A value and what is wrong with it.
pub(super) fn decode<R: Record>(entry: Option<&Entry>) -> (Option<R>, Result<(), String>) {
    decode_with(entry, R::decode)
}

/// The same, read by `read`.
pub(super) fn decode_with<R>(
    entry: Option<&Entry>,
    read: impl FnOnce(&[u8]) -> Result<R, RecordError>,
) -> (Option<R>, Result<(), String>) {
    match entry.map(|entry| read(&entry.value)) {
        Some(Ok(record)) => (Some(record), Ok(())),
        Some(Err(error)) => (None, Err(error.to_string())),
        None => (None, Ok(())),
    }
}
