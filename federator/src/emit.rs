//! Emit: makes what is in the agent's own cluster, or in a directory, equal to what was projected. Only differences
//! are written, and nothing that others made is touched. Knows nothing of why an object is as it is.

pub mod destination_rule;
pub mod diff;
pub mod directory;
pub mod gateway;
pub mod kubernetes;
pub mod object;
pub mod plan;
pub mod seeds;
pub mod service_entry;
pub mod yaml;

use model::name::{ClusterId, ServiceKey};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Hosts of what single clusters have of services.
pub type OfClusters = Arc<BTreeSet<(ServiceKey, ClusterId)>>;

/// How emitting stands, for people and for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Objects that are as they should be.
    pub in_place: usize,
    /// Writes and deletes done since the start.
    pub writes: u64,
    /// Writes and deletes that failed since the start.
    pub failures: u64,
    /// Objects that are not as they should be, and why.
    pub troubles: Arc<BTreeMap<String, String>>,
    /// Why nothing can be emitted at all.
    pub trouble: Option<String>,
    /// Why it is not known, or not all of it, which hosts of clusters others name here. Nothing is emitted before it is.
    pub unread: Option<String>,
    /// What would be done, where nothing is.
    pub dry_run: Option<DryRun>,
    /// The agent that was elected to write, as far as is known.
    pub writer: Option<Arc<str>>,
    /// Whether that is this one, and it may write now.
    pub is_writer: bool,
}

/// How many objects would be created, changed and deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// Objects that are not there.
    pub created: usize,
    /// Objects of ours that say something else.
    pub changed: usize,
    /// Objects of ours that should not be there.
    pub deleted: usize,
}
