//! What an agent says about itself: `/status` for people and scripts, `/view` for comparing agents, `/metrics`,
//! `/livez` and `/readyz`. Read-only, from what the stages last handed on.

pub mod http;
pub mod metrics;
pub mod report;

use crate::{emit, gather::Gathered, observe::Observed, publish};
use model::{name::ClusterId, reach::Place};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// The last word of every stage.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The agent's name.
    pub agent: String,
    /// Where it is.
    pub place: Place,
    /// What was gathered.
    pub gathered: watch::Receiver<Gathered>,
    /// What is observed and published, by cluster.
    pub own: BTreeMap<ClusterId, Own>,
    /// How emitting stands.
    pub emitted: watch::Receiver<emit::Status>,
}

/// The stages of a cluster that this agent observes.
#[derive(Clone, Debug)]
pub struct Own {
    /// What is seen.
    pub observed: watch::Receiver<Observed>,
    /// How publishing stands.
    pub published: watch::Receiver<publish::Status>,
}
