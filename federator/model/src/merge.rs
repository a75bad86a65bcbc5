//! Many clusters' exports of one service, merged. A function of the set of exports and of their order, so it does
//! not matter when which record arrived. Knows nothing of reachability: what a place can use is [`crate::reach`].
//!
//! Conflict rules (MCS API, KEP-1645), "oldest" being the first in order:
//!
//! | property | rule |
//! |---|---|
//! | type, session affinity | the oldest export's |
//! | ports | the union, by name, then by protocol and number; on a collision the oldest export's |

use crate::{
    export::{Export, Kind, Port},
    name::{ClusterId, ServiceKey},
    vip::Vip,
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A service of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace and name.
    pub key: ServiceKey,
    /// Whether it has a virtual address.
    pub kind: Kind,
    /// The union of its ports.
    pub ports: Arc<[Port]>,
    /// Whether a client keeps its endpoint.
    pub client_ip_affinity: bool,
    /// Who exports it, oldest first.
    pub exports: Vec<(ClusterId, Arc<Export>)>,
    /// Its virtual addresses, once the store has given them out.
    pub vip: Option<Vip>,
    /// Where exports contradict each other.
    pub conflicts: Vec<Conflict>,
}

/// A property on which two exports differ in a way that cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What they differ in.
    pub kind: ConflictKind,
    /// Whose value is not used.
    pub loser: ClusterId,
    /// Whose value is.
    pub winner: ClusterId,
}

/// What exports can differ in; the names are the reasons of the MCS API's `Conflict` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConflictKind {
    /// One is headless, the other is not.
    Type,
    /// Their ports differ.
    Port,
    /// Their session affinity differs.
    SessionAffinity,
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
    let (winner, oldest) = exports.first()?;
    let mut service = Service {
        key: key.clone(),
        kind: oldest.head.kind,
        ports: oldest.head.ports.clone(),
        client_ip_affinity: oldest.head.client_ip_affinity,
        exports: Vec::new(),
        vip: parts.vip,
        conflicts: Vec::new(),
    };
    for (cluster, export) in &exports[1..] {
        let head = &export.head;
        let differs = [
            (ConflictKind::Type, head.kind != service.kind),
            (ConflictKind::Port, !same_ports(&head.ports, &oldest.head.ports)),
            (ConflictKind::SessionAffinity, head.client_ip_affinity != service.client_ip_affinity),
        ];
        for (kind, _) in differs.into_iter().filter(|(_, differs)| *differs) {
            service.conflicts.push(Conflict { kind, loser: cluster.clone(), winner: winner.clone() });
        }
        let taken = |port: &Port, known: &Port| {
            known.name == port.name || (known.protocol, known.number) == (port.protocol, port.number)
        };
        for port in &*head.ports {
            if !service.ports.iter().any(|known| taken(port, known)) {
                service.ports = service.ports.iter().chain([port]).cloned().collect();
            }
        }
    }
    service.exports = exports;
    Some(service)
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

/// Whether they are the same, in whatever order.
fn same_ports(a: &[Port], b: &[Port]) -> bool {
    let sorted = |ports: &[Port]| {
        let mut ports = ports.to_vec();
        ports.sort();
        ports
    };
    a == b || sorted(a) == sorted(b)
}

// === impl Conflict ===

impl ConflictKind {
    /// The reason of the MCS API's `Conflict` condition.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Type => "TypeConflict",
            Self::Port => "PortConflict",
            Self::SessionAffinity => "SessionAffinityConflict",
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, loser, winner) = (self.kind.reason(), &self.loser, &self.winner);
        write!(f, "{kind}: {loser} differs from {winner}, which exported the service first")
    }
}

#[cfg(test)]
mod tests;
