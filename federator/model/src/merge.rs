//! Many clusters' exports of one service, merged. A function of the set of exports and of their order, so it does
//! not matter when which record arrived. Knows nothing of reachability: what a place can use is [`crate::reach`].
//!
//! The rules are those of the MCS API (KEP-1645), "oldest" being the first in order:
//!
//! | property | rule |
//! |---|---|
//! | type, session affinity, traffic policy and distribution | the oldest export's |
//! | exported labels, exported annotations, mode and TTL of answers | the oldest export's, whole |
//! | ports | the union, by name, then by protocol and number; on a collision the oldest export's |
//! | families of addresses | all that any export has, those of the oldest first |
//!
//! What exports differ in is a [`Conflict`], which every exporter is told of.

mod conflict;

pub use conflict::{Conflict, ConflictKind, Difference};

use crate::{
    export::{Answers, Export, Exported, Families, Kind, Port, Traffic},
    name::{ClusterId, ServiceKey},
    vip::Vip,
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// A service of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace and name.
    pub key: ServiceKey,
    /// Whether it has a virtual address.
    pub kind: Kind,
    /// The union of its ports. No name is there twice, and no number of a protocol.
    pub ports: Arc<[Port]>,
    /// The families that its exports have addresses of.
    pub families: Families,
    /// How its traffic is spread over its endpoints.
    pub traffic: Traffic,
    /// What is said of it where it is imported.
    pub exported: Arc<Exported>,
    /// How it wants to be answered by name.
    pub answers: Answers,
    /// Who exports it, oldest first.
    pub exports: Vec<(ClusterId, Arc<Export>)>,
    /// Its virtual addresses, once the store has given them out.
    pub vip: Option<Vip>,
}

/// Everything merging needs of one service.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// What each cluster asserts.
    pub exports: BTreeMap<ClusterId, Arc<Export>>,
    /// Clusters in first-seen order, where a store keeps it.
    pub order: Vec<ClusterId>,
    /// The service's virtual addresses.
    pub vip: Option<Vip>,
}

/// Merges what the clusters assert; `None` when none asserts anything.
#[must_use]
pub fn merge(key: &ServiceKey, parts: &Parts) -> Option<Service> {
    let exports = ordered(parts);
    let (_, oldest) = exports.first()?;
    Some(Service {
        key: key.clone(),
        kind: oldest.head.kind,
        ports: ports(&exports),
        families: exports.iter().flat_map(|(_, export)| export.head.families.iter()).collect(),
        traffic: oldest.head.traffic.clone(),
        exported: oldest.head.exported.clone(),
        answers: oldest.head.answers,
        exports,
        vip: parts.vip,
    })
}

/// First seen first; whoever the store's order does not know comes after, by creation time, then by id.
fn ordered(parts: &Parts) -> Vec<(ClusterId, Arc<Export>)> {
    let mut ranks: BTreeMap<&ClusterId, usize> = BTreeMap::new();
    for (rank, cluster) in parts.order.iter().enumerate() {
        ranks.entry(cluster).or_insert(rank);
    }
    let rank = |cluster| ranks.get(cluster).copied().unwrap_or(usize::MAX);
    let mut exports: Vec<_> = parts.exports.iter().map(|(id, export)| (rank(id), id, export)).collect();
    exports.sort_by(|(a, x, of_a), (b, y, of_b)| (a, of_a.head.created, x).cmp(&(b, of_b.head.created, y)));
    exports.into_iter().map(|(_, id, export)| (id.clone(), export.clone())).collect()
}

/// The union of their ports.
fn ports(exports: &[(ClusterId, Arc<Export>)]) -> Arc<[Port]> {
    let (mut names, mut numbers, mut union) = (HashSet::new(), HashSet::new(), Vec::new());
    let mut before: &[Port] = &[];
    for (_, export) in exports {
        // Most clusters say what the one before them said.
        if *export.head.ports == *before {
            continue;
        }
        before = &export.head.ports;
        for port in before {
            let number = (port.protocol, port.number);
            if !names.contains(&port.name) && !numbers.contains(&number) {
                names.insert(&port.name);
                numbers.insert(number);
                union.push(port);
            }
        }
    }
    // The list of the oldest is held once for all services that have it, so it is taken where it is all there is.
    match exports.first() {
        Some((_, oldest)) if oldest.head.ports.iter().eq(union.iter().copied()) => oldest.head.ports.clone(),
        _ => union.into_iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
