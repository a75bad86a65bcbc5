//! A service with what leads to it: its slices and the entries it selects, with what nodes and pods say of their
//! endpoints. Reads the index and changes nothing.

use super::Index;
use crate::observe::convert::{service::SourceService, slice::PlacedEndpoint, workload_entry::SourceEntry};
use model::{
    export::{Endpoint, Export, Head, Health, Slice, TargetPort, Traits, Workload},
    locality::Locality,
    name::ServiceKey,
};
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// Most endpoints in one record. Slices of the EndpointSlice controller hold no more; hand-made ones are split, so
/// that one change rewrites one small record.
const MAX_ENDPOINTS: usize = 100;

impl Index {
    /// What the cluster asserts about a service; `None` when it exports none of that name.
    pub(super) fn export(&self, key: &ServiceKey) -> Option<Export> {
        if self.refused.contains_key(key) {
            return None;
        }
        let service = self.services.get(key)?;
        let mut slices: BTreeMap<Arc<str>, _> = BTreeMap::new();
        for id in self.of_service.get(key).into_iter().flatten() {
            let Some(source) = self.slices.get(id) else {
                continue;
            };
            let name = name_in(id);
            let mut parts = source.endpoints.chunks(MAX_ENDPOINTS);
            // A slice without endpoints still says where they would listen.
            let first = parts.next().unwrap_or_default();
            slices.insert(name.into(), self.part(&source.ports, first));
            for (n, part) in parts.enumerate() {
                // No object's name has a slash, so no other slice has this name.
                slices.insert(format!("{name}/{}", n + 1).into(), self.part(&source.ports, part));
            }
        }
        for (id, entry) in self.entries_in(key.namespace.as_str()) {
            if let Some(ports) = entry.serves(service) {
                // No object's name has a capital letter: neither a slice, nor part of one, is called so.
                let endpoints = vec![self.entry_endpoint(entry)];
                slices.insert(
                    format!("WorkloadEntry/{}", name_in(id)).into(),
                    Arc::new(Slice { ports: ports.into(), endpoints }),
                );
            }
        }
        Some(Export { head: self.head(key, service), slices: slices.into_iter().collect() })
    }

    /// What the service says it is, with what a ServiceExport has said of it elsewhere.
    fn head(&self, key: &ServiceKey, service: &SourceService) -> Arc<Head> {
        match self.service_exports.get(key).filter(|exported| !exported.is_empty()) {
            Some(exported) => Arc::new(Head { exported: exported.clone(), ..(*service.head).clone() }),
            None => service.head.clone(),
        }
    }

    /// The WorkloadEntries of a namespace.
    fn entries_in(&self, namespace: &str) -> impl Iterator<Item = (&Arc<str>, &SourceEntry)> {
        // `0` is the character behind the slash.
        let (from, to) = (format!("{namespace}/"), format!("{namespace}0"));
        self.entries.range::<str, _>((Bound::Included(&*from), Bound::Excluded(&*to)))
    }

    fn part(&self, ports: &[TargetPort], endpoints: &[PlacedEndpoint]) -> Arc<Slice> {
        let endpoints = endpoints.iter().map(|placed| self.slice_endpoint(placed)).collect();
        Arc::new(Slice { ports: ports.into(), endpoints })
    }

    fn slice_endpoint(&self, placed: &PlacedEndpoint) -> Endpoint {
        let pod = self.pods.get(&placed.pod);
        // What takes no traffic need not say what it is: its Pod appears a little before it takes any, and is gone a
        // little before the slice knows, and neither is worth a write.
        let workload = pod.filter(|_| placed.health != Health::NotReady).map(|pod| pod.workload.clone());
        Endpoint {
            address: placed.address.clone(),
            health: placed.health,
            traits: Arc::new(Traits {
                network: pod.and_then(|pod| pod.network.clone()),
                hostname: placed.hostname.clone(),
                locality: self.locality(placed),
                workload: workload.unwrap_or_else(Workload::unknown),
            }),
        }
    }

    fn entry_endpoint(&self, entry: &SourceEntry) -> Endpoint {
        let locality = if entry.locality.is_unknown() { &self.default_locality } else { &entry.locality };
        Endpoint {
            address: entry.address.clone(),
            health: entry.health,
            traits: Arc::new(Traits {
                network: entry.network.clone(),
                hostname: "".into(),
                locality: locality.clone(),
                workload: entry.workload.clone(),
            }),
        }
    }

    /// The zone is the slice's, else the node's; the region, which no slice has, is the node's; what neither says is
    /// the cluster's default.
    fn locality(&self, placed: &PlacedEndpoint) -> Locality {
        let node = self.nodes.get(&placed.node).filter(|node| !node.is_unknown());
        let locality = node.unwrap_or(&self.default_locality);
        if placed.zone.is_empty() || placed.zone == locality.zone {
            return locality.clone();
        }
        locality.with_zone(placed.zone.clone())
    }
}

/// The name of an object by its `namespace/name`.
fn name_in(id: &str) -> &str {
    id.split_once('/').map_or(id, |(_, name)| name)
}
