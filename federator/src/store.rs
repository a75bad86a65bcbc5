//! The store's port: a small revisioned key-value store with guarded transactions, watches and leased keys. Two
//! engines stand behind it, with one battery of behaviours (in the tests package): [`embedded`] for an agent that
//! watches every cluster itself, [`etcd`] for a fleet. Keys are texts relative to the configured root.
//!
//! It knows nothing of what keys mean; that is `model::key`. Neither engine retries: an error says whether trying
//! again can help, and the caller decides.

use async_trait::async_trait;
use std::{collections::BTreeMap, fmt};

pub mod embedded;
pub mod etcd;

/// Most writes that one transaction may carry: etcd takes 128 operations (`--max-txn-ops`), and the rest is for
/// what rides along with every transaction.
pub const MAX_WRITES: usize = 120;

/// Most bytes of keys and values that one transaction may carry: etcd takes 1.5 MiB (`--max-request-bytes`).
pub const MAX_BYTES: usize = 1 << 20;

/// Both engines.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Everything under `prefix`, all of it as it was at one revision.
    ///
    /// # Errors
    /// [`StoreError`], when not all of it could be read: nothing is returned in part.
    async fn read(&self, prefix: &str) -> Result<Snapshot, StoreError>;

    /// Everything, as it was at one revision. `borders` are keys, there or not: a store that is read in parts is read
    /// from one to the next. They change what it costs, and nothing of what is read.
    ///
    /// # Errors
    /// As [`Self::read`].
    async fn read_all(&self, borders: &[String]) -> Result<Snapshot, StoreError> {
        let _ = borders;
        self.read("").await
    }

    /// Does all writes at one revision, or none because a guard failed.
    ///
    /// # Errors
    /// [`StoreError`]; after [`StoreError::Unavailable`] it is not known whether the writes were done.
    async fn commit(&self, txn: &Txn) -> Result<Committed, StoreError>;

    /// All changes under the root from `revision` on, itself included, in order and without a gap.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the store no longer knows them, [`StoreError::WentBack`] when it never did.
    async fn watch(&self, revision: u64) -> Result<Box<dyn Watch>, StoreError>;

    /// A lease: keys that are bound to it ([`Txn::leased`]) live as long as it does.
    ///
    /// # Errors
    /// [`StoreError`], when there is none to be had.
    async fn lease(&self) -> Result<Box<dyn Lease>, StoreError>;

    /// Takes a store that [went back](StoreError::WentBack) for another one that is to be used from now on. Whoever
    /// keeps what was read says so, once it knows what the loss means.
    fn adopt(&self);

    /// How the store itself is looked after, for its operator; `None` where there is nothing to look after. Costs some
    /// calls: meant for every half minute.
    async fn upkeep(&self) -> Option<Upkeep> {
        None
    }
}

/// A stream of changes.
#[async_trait]
pub trait Watch: Send {
    /// The next changes; waits for them. May be dropped and called again without losing any.
    ///
    /// # Errors
    /// [`StoreError`]; the watch has ended then, and a new one must be made.
    async fn next(&mut self) -> Result<Batch, StoreError>;
}

/// Keeps keys alive.
#[async_trait]
pub trait Lease: Send + Sync {
    /// What a transaction calls it.
    fn id(&self) -> LeaseId;

    /// Keeps it alive, and returns when it may have run out; the reason is for people. Nothing is kept alive unless
    /// this is waited for. May be dropped and called again.
    async fn lost(&mut self) -> String;

    /// Gives up all keys that are bound to it at once, so that nobody need wait for it to run out.
    async fn revoke(self: Box<Self>);
}

/// What a store calls a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A key and what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// The revision at which the key came to be.
    pub created: u64,
    /// The revision of its last write.
    pub modified: u64,
}

/// What was read, all at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The store's revision when it was read.
    pub revision: u64,
    /// The entries, by key.
    pub entries: BTreeMap<String, Entry>,
}

/// Changes of one or more whole transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The largest revision in it. Without any change: nothing happened to our keys up to this revision.
    pub revision: u64,
    /// The changes in the order in which they happened; `None` is a deletion.
    pub changes: Vec<(String, Option<Entry>)>,
}

/// Writes that are done together, if all guards hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must be true.
    pub guards: Vec<Guard>,
    /// What is done then: a value to put, or `None` to delete. A key may stand here once, and then not in
    /// `leased`.
    pub writes: Vec<(String, Option<Vec<u8>>)>,
    /// What is put and lives as long as a lease does: one that exists, or the transaction fails.
    pub leased: Vec<(String, Vec<u8>, LeaseId)>,
}

/// What the operator of a store has to look after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// What is wrong with each member, by endpoint; `None` where it serves.
    pub members: BTreeMap<String, Option<String>>,
    /// Size of the largest member's database, on its disk.
    pub db_bytes: u64,
    /// How much of it holds something.
    pub db_in_use_bytes: u64,
    /// How large it may become, where the store says so.
    pub quota_bytes: Option<u64>,
    /// How many revisions can still be read, where that is known.
    pub kept_revisions: Option<u64>,
    /// What to do, a sentence each.
    pub advice: Vec<String>,
}

/// Something that must be true of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The key.
    pub key: String,
    /// What must be true of it.
    pub must: Must,
}

/// What can be asked of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Must {
    /// It was last written at this revision; zero stands for a key that does not exist.
    Modified(u64),
    /// It holds just this. A revision can be that of another write, in a store that went back; what is unlike anything
    /// else cannot.
    Hold(Vec<u8>),
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All writes were done at this revision.
    Done(u64),
    /// A guard failed and nothing was written; this is what stands behind the guarded keys instead.
    Refused(BTreeMap<String, Option<Entry>>),
}

/// Why the store did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be reached, or has no leader or no room. Trying again can help.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// It refuses our credentials, or this request as such. Trying the same again does not help by itself.
    #[error("store refuses: {0}")]
    Refused(String),
    /// Revisions before this one are compacted away: read everything, then watch from there.
    #[error("revisions before {0} are compacted")]
    Compacted(u64),
    /// Its revision is below one that was seen before, or it is another cluster: restored, wiped, or a wrong address.
    #[error("the store went back: {0}")]
    WentBack(String),
}

// === impl Guard ===

impl Guard {
    /// The key holds just this.
    pub fn holds(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), must: Must::Hold(value.into()) }
    }

    /// The key was last written at `revision`, or does not exist when that is zero.
    pub fn modified(key: impl Into<String>, revision: u64) -> Self {
        Self { key: key.into(), must: Must::Modified(revision) }
    }

    /// The key does not exist.
    pub fn absent(key: impl Into<String>) -> Self {
        Self::modified(key, 0)
    }
}
