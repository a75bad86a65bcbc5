//! The local snapshot: what the View was made of, on a volume that outlives the process, so that an agent serves at
//! once after a restart, with neither store nor API servers. A snapshot is taken whole or refused with a reason: when
//! it is torn, of something else, or too old. Knows nothing of what the entries mean.
//!
//! `format` (pure) is what the bytes look like, `files` the directory, `keeper` the task that writes, `sibling` what
//! another replica of this agent gives, `begin` the start.

mod begin;
mod files;
pub mod format;
mod keeper;
mod sibling;

pub use begin::{Begun, Kept, begin};
pub use keeper::{Keeper, Notes, Stand, Status};
pub use sibling::give;

use crate::store::Entry;
use format::{Identity, Mark, ReadError, Reader};
use std::{
    collections::BTreeMap,
    io::Read,
    path::Path,
    time::{Duration, SystemTime},
};

/// What a snapshot has to be, to be taken.
#[derive(Clone, Debug)]
pub struct Terms {
    /// It has to be of this.
    pub identity: Identity,
    /// The state in it has to have been the store's within this.
    pub max_age: Duration,
    /// The time now.
    pub now: SystemTime,
}

/// A snapshot that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The store's revision when this was its state: a watch goes on behind it.
    pub position: u64,
    /// When this was last known to be the state of the store.
    pub written: SystemTime,
    /// The entries, in ascending order of their keys.
    pub entries: Vec<(String, Entry)>,
}

/// Why a snapshot is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It cannot be read whole.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is of something else.
    #[error("it is foreign: its {what} is `{found}`, and this agent's is `{wanted}`")]
    Foreign {
        /// What differs.
        what: &'static str,
        /// What it is there.
        found: String,
        /// What it is here.
        wanted: String,
    },
    /// Too much may have happened since.
    #[error("it is too old: {} seconds, and snapshot.maxAgeSeconds is {}", age.as_secs(), max.as_secs())]
    TooOld {
        /// Its age.
        age: Duration,
        /// What is taken.
        max: Duration,
    },
    /// One of two clocks is wrong, so nobody knows how old it is.
    #[error("it is from the future, by {} seconds: compare the clocks", .0.as_secs())]
    Future(Duration),
}

/// What bytes hold, whether or not it is to be taken.
#[derive(Debug)]
pub struct Found {
    /// What it is of.
    pub identity: Identity,
    /// What is in it.
    pub loaded: Loaded,
    /// The end of the base.
    pub base: Mark,
    /// The end of the last whole frame.
    pub end: Mark,
    /// Whether something behind that was left aside: a crash came in the middle of writing.
    pub torn: bool,
}

// === impl Terms ===

impl Terms {
    /// Whether what was found is taken.
    ///
    /// # Errors
    /// [`SnapshotError`] says why not.
    pub fn check(&self, found: &Found) -> Result<(), SnapshotError> {
        self.check_identity(&found.identity)?;
        self.check_age(found.loaded.written)
    }

    fn check_identity(&self, found: &Identity) -> Result<(), SnapshotError> {
        let Identity { cluster, zone, store } = &self.identity;
        let pairs = [("cluster", &found.cluster, cluster), ("zone", &found.zone, zone), ("store", &found.store, store)];
        match pairs.into_iter().find(|(_, found, wanted)| found != wanted) {
            None => Ok(()),
            Some((what, found, wanted)) => {
                Err(SnapshotError::Foreign { what, found: found.clone(), wanted: wanted.clone() })
            }
        }
    }

    /// Clocks differ, and are set: a snapshot from a little in the future is as good as one from the past.
    fn check_age(&self, written: SystemTime) -> Result<(), SnapshotError> {
        match self.now.duration_since(written) {
            Ok(age) if age > self.max_age => Err(SnapshotError::TooOld { age, max: self.max_age }),
            Err(ahead) if ahead.duration() > self.max_age => Err(SnapshotError::Future(ahead.duration())),
            _ => Ok(()),
        }
    }
}

// === impl Found ===

impl Found {
    /// Reads a snapshot to its end. `source` should be buffered.
    ///
    /// # Errors
    /// [`ReadError`], when it is not one, or not whole.
    pub fn read(source: impl Read) -> Result<Self, ReadError> {
        let (mut reader, head) = Reader::open(source)?;
        let mut entries = Vec::new();
        while let Some(block) = reader.block()? {
            for item in block {
                let item = item?;
                entries.extend(item.to_entry().map(|entry| (item.key.to_owned(), entry)));
            }
        }
        let base = reader.mark();
        let (mut position, mut written) = (head.position, head.written);
        let mut later = BTreeMap::new();
        while let Some(batch) = reader.batch()? {
            (position, written) = (batch.position, batch.written);
            for item in batch.items {
                let item = item?;
                later.insert(item.key.to_owned(), item.to_entry());
            }
        }
        let loaded = Loaded { position, written, entries: overlaid(entries, later) };
        Ok(Self { identity: head.identity, loaded, base, end: reader.mark(), torn: reader.is_torn() })
    }

    /// Reads the snapshot in a file, or in a directory where one is kept.
    ///
    /// # Errors
    /// [`ReadError`], when it is not one, or not whole.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::read(files::open(&files::in_directory(path))?)
    }
}

/// Sorted entries with later changes over them.
fn overlaid(entries: Vec<(String, Entry)>, later: BTreeMap<String, Option<Entry>>) -> Vec<(String, Entry)> {
    if later.is_empty() {
        return entries;
    }
    let mut merged = Vec::with_capacity(entries.len() + later.len());
    let mut later = later.into_iter().peekable();
    for (key, entry) in entries {
        while let Some((new, change)) = later.next_if(|(new, _)| *new < key) {
            merged.extend(change.map(|entry| (new, entry)));
        }
        match later.next_if(|(same, _)| *same == key) {
            Some((_, change)) => merged.extend(change.map(|entry| (key, entry))),
            None => merged.push((key, entry)),
        }
    }
    merged.extend(later.filter_map(|(key, change)| Some((key, change?))));
    merged
}
