//! Everything merged, at one revision: immutable, cheap to clone, a function of the store's contents alone, so all
//! agents at one revision hold the same one. Knows nothing of the agent that holds it: what is an agent's own (its
//! place, its imports, what its probes say) comes in where a View is projected.

use crate::{
    cluster::{Hold, Meta, SetHash, State, Synced},
    export::{Affinity, Answers, Exported, Families, Head, Kind, Port, Traffic},
    gateway::Gateway,
    merge::Service,
    name::{ClusterId, ServiceKey},
    tracked::Tracked,
};
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

/// What exists where.
#[derive(Clone, Debug, Default)]
pub struct View {
    revision: u64,
    clusters: Arc<BTreeMap<ClusterId, Cluster>>,
    services: Tracked<ServiceKey, Arc<Service>>,
    /// The sum of the hashes of all records that it was made of.
    hash: SetHash,
}

/// What is known of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// What it says it is; `None` when only its records are known.
    pub meta: Option<Meta>,
    /// Its marker; `None` when it never synced.
    pub synced: Option<Synced>,
    /// Whether what its owner says is news; `None` when no owner ever said.
    pub state: Option<State>,
    /// What is kept of it though its source does not name it any more.
    pub hold: Option<Hold>,
}

// === impl View ===

impl View {
    /// The largest revision of the store that this View contains.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All clusters, by id.
    #[must_use]
    pub fn clusters(&self) -> &BTreeMap<ClusterId, Cluster> {
        &self.clusters
    }

    /// All services, and what changed among them.
    #[must_use]
    pub fn services(&self) -> &Tracked<ServiceKey, Arc<Service>> {
        &self.services
    }

    /// Takes note of a revision; a revision never goes back.
    pub fn raise_revision(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// Sets or removes a cluster.
    pub fn set_cluster(&mut self, id: &ClusterId, cluster: Option<Cluster>) {
        if self.clusters.get(id) == cluster.as_ref() {
            return;
        }
        let clusters = Arc::make_mut(&mut self.clusters);
        match cluster {
            Some(cluster) => clusters.insert(id.clone(), cluster),
            None => clusters.remove(id),
        };
    }

    /// Sets or removes a service; says whether that changed anything.
    pub fn set_service(&mut self, key: &ServiceKey, service: Option<Service>) -> bool {
        self.services.set(key.clone(), service.map(Arc::new))
    }

    /// Sets the sum of the hashes of all records that it is made of. Whoever holds the records knows it at the price of
    /// an addition, where going over what became of them would cost the size of a service at every change.
    pub fn set_digest(&mut self, records: SetHash) {
        self.hash = records;
    }

    /// A hash of the records and of what is known of clusters: two agents with equal ones have read the same, and hold
    /// Views that are byte-identical. Costs the number of clusters, not of services.
    #[must_use]
    pub fn digest(&self) -> SetHash {
        self.hash.plus(SetHash::of("clusters", self.head().as_bytes()))
    }

    /// The contents as text, in a fixed order: what two agents at one revision have in common, byte for byte.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = self.head();
        for (_, service) in self.services.iter() {
            text.push_str(&canonical(service));
        }
        text
    }

    fn head(&self) -> String {
        let mut text = format!("revision {}\n", self.revision);
        for (id, cluster) in self.clusters.iter() {
            let _ = write!(text, "cluster {id}");
            if let Some(meta) = &cluster.meta {
                let Meta { uid, network, locality, gateways, passed, trust_domain } = meta;
                let _ = write!(text, " uid={uid} network={network} at={locality}");
                for Gateway { network, address, port } in gateways {
                    let _ = write!(text, " gateway={network}:{address}:{port}");
                }
                passed.iter().for_each(|passed| _ = write!(text, " passes={}", passed.as_str()));
                if !trust_domain.as_str().is_empty() {
                    let _ = write!(text, " trust={trust_domain}");
                }
            }
            if let Some(synced) = &cluster.synced {
                let Synced { epoch, generation, sequence, records, hash, source_version, behind, partial } = synced;
                let _ = write!(text, " synced={generation}.{epoch}.{sequence} records={records} hash={hash}");
                let _ = write!(text, " at={source_version}{}", if *behind { "+" } else { "" });
                text.push_str(if *partial { " partial" } else { "" });
            }
            if let Some(State { frozen: true, since, reason }) = &cluster.state {
                let _ = write!(text, " frozen={since} ({reason})");
            }
            if let Some(hold) = &cluster.hold {
                let _ =
                    write!(text, " hold={}.{} endpoints={} ({})", hold.since, hold.set, hold.endpoints, hold.reason);
            }
            text.push('\n');
        }
        text
    }
}

/// A service as text; `write!` to a `String` cannot fail.
fn canonical(service: &Service) -> String {
    let Service { key, kind, ports, families, traffic, exported, answers, exports, vip } = service;
    let mut text = format!("service {key}{}", said(*kind, ports, *families, traffic, exported, *answers));
    if let Some(vip) = vip {
        let _ = write!(text, " vip={},{}", vip.v4, vip.v6);
    }
    text.push('\n');
    for conflict in service.conflicts() {
        let _ = writeln!(text, "  conflict {conflict}");
    }
    for (cluster, export) in exports {
        let Head { kind, ports, cluster_ips, families, traffic, exported, hosts, answers, created } = &*export.head;
        let said = said(*kind, ports, *families, traffic, exported, *answers);
        let _ = write!(text, "  export {cluster} created={created}{said}");
        for ip in cluster_ips {
            let _ = write!(text, " ip={ip}");
        }
        for alias in &hosts.aliases {
            let _ = write!(text, " alias={alias}");
        }
        text.push_str(if hosts.per_cluster { " per-cluster-host" } else { "" });
        text.push('\n');
        for (name, slice) in &export.slices {
            let _ = write!(text, "    slice {name}");
            for target in &*slice.ports {
                let _ = write!(text, " {}={}/{}", target.name, target.number, target.protocol);
            }
            text.push('\n');
            for endpoint in &slice.endpoints {
                let _ = write!(text, "      {} {}", endpoint.address, endpoint.health);
                if !endpoint.hostname.is_empty() {
                    let _ = write!(text, " host={}", endpoint.hostname);
                }
                if !endpoint.locality.is_unknown() {
                    let _ = write!(text, " at={}", endpoint.locality);
                }
                if let Some(network) = &endpoint.network {
                    let _ = write!(text, " network={network}");
                }
                for (key, value) in &endpoint.workload.labels {
                    let _ = write!(text, " {key}={value}");
                }
                if !endpoint.workload.service_account.is_empty() {
                    let _ = write!(text, " account={}", endpoint.workload.service_account);
                }
                text.push('\n');
            }
        }
    }
    text
}

/// What both a service and each of its exports say.
fn said(
    kind: Kind,
    ports: &[Port],
    families: Families,
    traffic: &Traffic,
    exported: &Exported,
    answers: Answers,
) -> String {
    let mut text = format!(" {}", kind.as_str());
    if !families.is_unknown() {
        let _ = write!(text, " families={families}");
    }
    if let Affinity::ClientIp { seconds } = traffic.affinity {
        let _ = write!(text, " affinity=ClientIP/{seconds}");
    }
    if traffic.node_local {
        text.push_str(" node-local");
    }
    if let Some(distribution) = &traffic.distribution {
        let _ = write!(text, " distribution={distribution}");
    }
    if let Some(mode) = answers.mode {
        let _ = write!(text, " answers={mode}");
    }
    if let Some(ttl) = answers.ttl {
        let _ = write!(text, " ttl={ttl}");
    }
    for port in ports {
        let _ = write!(text, " port={port}");
        if !port.app_protocol.is_empty() {
            let _ = write!(text, ":{}", port.app_protocol);
        }
    }
    for (what, texts) in [("label", &exported.labels), ("annotation", &exported.annotations)] {
        for (key, value) in texts {
            // A value may be of many lines.
            let _ = write!(text, " {what}={key}={value:?}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The digest is that of the records and of the revision, whatever came first.
        #[test]
        fn equal_records_have_equal_digests(values in prop::collection::btree_map("[a-c]{1,2}", 0..3_u8, 0..6)) {
            let sum = |records: &mut dyn Iterator<Item = (&String, &u8)>| {
                records.fold(SetHash::default(), |sum, (key, value)| sum.plus(SetHash::of(key, &[*value])))
            };
            let (mut view, mut other) = (View::default(), View::default());
            view.set_digest(sum(&mut values.iter()));
            other.set_digest(sum(&mut values.iter().rev()));
            prop_assert_eq!(other.digest(), view.digest());
            other.raise_revision(view.revision() + 1);
            prop_assert_ne!(other.digest(), view.digest());
        }
    }
}
