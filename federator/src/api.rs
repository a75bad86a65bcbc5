//! What an agent says about itself: `/status` for people and scripts, `/view` for comparing agents, `/metrics`,
//! `/livez` and `/readyz`; `/objects` for who wants to see what is emitted, `/snapshot` for another replica. Read-only, from what the stages last handed on.

pub mod http;
pub mod metrics;
pub mod report;

use crate::{
    condition::{Conditions, Reason},
    config::rules::ImportRules,
    emit::{
        self,
        object::{Desired, ObjectKey},
    },
    gather::Gathered,
    kubernetes::kubeconfig::Access,
    membership::roster::Roster,
    observe::Observed,
    project::objects,
    publish, snapshot,
    store::Upkeep,
};
use model::{cluster::Meta, name::ClusterId, reach::Place, tracked::Tracked};
use std::collections::BTreeMap;
use tokio::{sync::watch, time::Instant};

/// The last word of every stage.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The agent's name.
    pub agent: String,
    /// Where it is.
    pub place: Place,
    /// What was gathered.
    pub gathered: watch::Receiver<Gathered>,
    /// Whether DNS answers what is known. It learns what was gathered a moment later.
    pub ready: watch::Receiver<bool>,
    /// Since when nobody has confirmed that what is known is the state of the store.
    pub unconfirmed: watch::Receiver<Option<Instant>>,
    /// What of it is imported.
    pub import: watch::Receiver<ImportRules>,
    /// How a shared store is looked after.
    pub upkeep: watch::Receiver<Option<Upkeep>>,
    /// What is observed and published, by cluster.
    pub own: watch::Receiver<BTreeMap<ClusterId, Own>>,
    /// What remote Secrets say.
    pub roster: watch::Receiver<Roster<Access>>,
    /// What is to be emitted, by whoever emits; never marked as seen, so it has changed once it is known.
    pub desired: Option<watch::Receiver<Tracked<ObjectKey, Desired>>>,
    /// How emitting stands.
    pub emitted: watch::Receiver<emit::Status>,
    /// What is missing of emitted objects.
    pub entry_conditions: watch::Receiver<objects::Conditions>,
    /// What is kept for the next start.
    pub snapshot: snapshot::Kept,
}

// === impl Sources ===

impl Sources {
    /// What is wrong, by cluster; what a Secret names that cannot be a cluster stands under its place.
    fn conditions(&self) -> BTreeMap<String, Conditions> {
        let mut all = self.roster.borrow().conditions.clone();
        for (id, own) in &*self.own.borrow() {
            let observed = own.observed.borrow().conditions.clone();
            let conditions = all.entry(id.to_string()).or_default();
            let publishing = own.published.borrow().conditions.clone();
            let of_secret = std::mem::take(conditions);
            *conditions = observed.and(&of_secret).and(&publishing);
        }
        // Clusters without a network count as one network. That is right for a single one, and perhaps for several.
        let view = self.gathered.borrow().view.clone();
        let unset = |meta: &Meta| meta.network.as_str().is_empty();
        for (id, cluster) in view.clusters().iter().filter(|_| view.clusters().len() > 1) {
            if cluster.meta.as_ref().is_some_and(unset) {
                let why = "no network is set, so its pods are taken to be reachable from all others without one";
                all.entry(id.to_string()).or_default().set(Reason::NetworkUnset, Some(why.to_owned()));
            }
        }
        all
    }
}

/// The stages of a cluster that this agent observes.
#[derive(Clone, Debug)]
pub struct Own {
    /// What is seen.
    pub observed: watch::Receiver<Observed>,
    /// How publishing stands.
    pub published: watch::Receiver<publish::status::Status>,
}
