//! How publishing one cluster stands: for people, and for whoever goes by it. Knows nothing of how it is done.

use crate::condition::Conditions;

/// How publishing stands, for people and for whoever must know who owns the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether this agent is the owner.
    pub owner: bool,
    /// The agent that is the owner instead, when that is known.
    pub standing_by_for: Option<String>,
    /// How far the store holds what was observed, as long as this agent is the owner.
    pub settled: Option<Settled>,
    /// What is wrong, for people.
    pub trouble: Option<String>,
    /// What is wrong, by name.
    pub conditions: Conditions,
}

/// The store, at a revision, holds what was observed up to a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Of the observed exports.
    pub sequence: u64,
    /// Of the store.
    pub revision: u64,
}
