//! What of the fleet this agent's rules let through to its own cluster: whole services, or what some clusters export of
//! them. Pure. It is decided after the merge: a service keeps its type, its ports, its virtual addresses and who won a
//! conflict, whatever is refused here, so that agents with other rules never tell another story of it.

use crate::config::rules::{ImportRules, NotImported};
use model::{
    merge::Service,
    name::{ClusterId, ServiceKey},
    view::View,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How many services are named that one rule leaves out.
const NAMED: usize = 10;

/// What one rule leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many services, in whole or in part.
    pub services: usize,
    /// The clusters that export these.
    pub clusters: BTreeSet<ClusterId>,
    /// The first few of the services.
    pub some: Vec<ServiceKey>,
}

/// What is imported of a service: itself, where nothing of it is refused; `None`, where nothing of it is left.
#[must_use]
pub fn imported(rules: &ImportRules, service: &Arc<Service>) -> Option<Arc<Service>> {
    if rules.refuse_service(&service.key).is_some() {
        return None;
    }
    let taken = |(cluster, _): &&(ClusterId, _)| rules.refuse_cluster(cluster).is_none();
    match service.exports.iter().filter(taken).count() {
        0 => None,
        all if all == service.exports.len() => Some(service.clone()),
        _ => {
            let exports = service.exports.iter().filter(taken).cloned().collect();
            Some(Arc::new(Service { exports, ..(**service).clone() }))
        }
    }
}

/// Why what a cluster exports of a service is not imported; `None` when it is.
#[must_use]
pub fn refuse(rules: &ImportRules, service: &ServiceKey, cluster: &ClusterId) -> Option<NotImported> {
    rules.refuse_service(service).or_else(|| rules.refuse_cluster(cluster))
}

/// What is left out of a View, by rule. Costs the fleet.
#[must_use]
pub fn left_out(rules: &ImportRules, view: &View) -> BTreeMap<String, LeftOut> {
    let mut all: BTreeMap<String, LeftOut> = BTreeMap::new();
    for (key, service) in view.services().iter() {
        let mut by_rule: BTreeMap<String, BTreeSet<ClusterId>> = BTreeMap::new();
        for (cluster, _) in &service.exports {
            if let Some(refusal) = refuse(rules, key, cluster) {
                by_rule.entry(refusal.to_string()).or_default().insert(cluster.clone());
            }
        }
        for (rule, clusters) in by_rule {
            let left_out = all.entry(rule).or_default();
            left_out.services += 1;
            left_out.clusters.extend(clusters);
            if left_out.some.len() < NAMED {
                left_out.some.push(key.clone());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
