//! A batch: one transaction of a publisher, between the plan that makes it and the ledger that learns from it.

use crate::store::Txn;
use model::{cluster::Synced, name::ServiceKey};
use std::collections::BTreeSet;

/// A transaction and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What to commit.
    pub txn: Txn,
    /// The marker it writes.
    pub marker: Synced,
    /// The services that are up to date once it is done.
    pub settles: BTreeSet<ServiceKey>,
}
