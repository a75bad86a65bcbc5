//! Emit: makes what is in the agent's own cluster, or in a directory, equal to what was projected. Only differences
//! are written, and nothing that others made is touched. Knows nothing of why an object is as it is.

pub mod destination_rule;
pub mod diff;
pub mod directory;
pub mod gateway;
pub mod kubernetes;
pub mod object;
pub mod plan;
pub mod service_entry;
pub mod yaml;

use std::{collections::BTreeMap, sync::Arc};

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
}
