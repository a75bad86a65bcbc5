//! The index: objects of one cluster in, exports out. An object touches the services that it is of; only those are
//! rebuilt. Knows nothing of where objects come from.

use super::{Observed, convert};
use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use model::{
    export::{Endpoint, Export, Head, Slice, Workload},
    locality::Locality,
    name::ServiceKey,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

/// Most endpoints in one record. Slices of the EndpointSlice controller hold no more; hand-made ones are split, so
/// that one change rewrites one small record.
const MAX_ENDPOINTS: usize = 100;

/// An object's kind and name: what a delete needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for a node.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// The kinds that are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// core/v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// core/v1 Node, of which only the metadata is looked at.
    Node,
}

/// An observed object.
#[derive(Clone, Debug)]
pub enum Object {
    /// A service.
    Service(Box<Service>),
    /// Some endpoints.
    EndpointSlice(Box<EndpointSlice>),
    /// A node's metadata.
    Node(Box<ObjectMeta>),
}

/// The objects of one cluster, and what it exports.
#[derive(Debug, Default)]
pub struct Index {
    services: BTreeMap<ServiceKey, Arc<Head>>,
    slices: HashMap<Arc<str>, convert::SourceSlice>,
    /// The slices of a service, by `namespace/name`.
    of_service: HashMap<ServiceKey, BTreeSet<Arc<str>>>,
    nodes: HashMap<Arc<str>, Locality>,
    /// The services with endpoints on a node, and how many.
    on_node: HashMap<Arc<str>, BTreeMap<ServiceKey, usize>>,
    /// Where endpoints run of which nothing better is known.
    default_locality: Locality,
    dirty: BTreeSet<ServiceKey>,
    /// The objects of which something is left out.
    complaints: BTreeSet<ObjectName>,
    /// What was seen; handed on after each flush.
    observed: Observed,
}

// === impl Object ===

impl Object {
    /// Its kind and name.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        let (kind, meta) = match self {
            Self::Service(service) => (Kind::Service, &service.metadata),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, &slice.metadata),
            Self::Node(meta) => (Kind::Node, &**meta),
        };
        ObjectName::new(kind, meta)
    }
}

// === impl ObjectName ===

impl ObjectName {
    /// The name of an object of this kind with this metadata.
    #[must_use]
    pub fn new(kind: Kind, meta: &ObjectMeta) -> Self {
        let namespace = if kind == Kind::Node { "" } else { meta.namespace.as_deref().unwrap_or("default") };
        Self { kind, namespace: namespace.into(), name: meta.name.as_deref().unwrap_or_default().into() }
    }

    fn slice_id(&self) -> Arc<str> {
        format!("{}/{}", self.namespace, self.name).into()
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Node => write!(f, "Node {}", self.name),
            kind => write!(f, "{kind:?} {}/{}", self.namespace, self.name),
        }
    }
}

// === impl Index ===

impl Index {
    /// An empty index of a cluster.
    #[must_use]
    pub fn new(observed: Observed, default_locality: Locality) -> Self {
        Self { observed, default_locality, ..Self::default() }
    }

    /// What was seen; to be changed for everything but exports, which [`Self::flush`] brings up to date.
    pub fn observed(&mut self) -> &mut Observed {
        &mut self.observed
    }

    /// The names of all objects of a kind that are held or left out, for mark and sweep.
    #[must_use]
    pub fn names(&self, kind: Kind) -> HashSet<ObjectName> {
        let split = |id: &str| {
            let (namespace, name) = id.split_once('/').unwrap_or(("", id));
            ObjectName { kind, namespace: namespace.into(), name: name.into() }
        };
        let mut names: HashSet<ObjectName> = match kind {
            Kind::Service => self.services.keys().map(|key| split(&key.to_string())).collect(),
            Kind::EndpointSlice => self.slices.keys().map(|id| split(id)).collect(),
            Kind::Node => self.nodes.keys().map(|name| split(name)).collect(),
        };
        names.extend(self.complaints.iter().filter(|name| name.kind == kind).cloned());
        names
    }

    /// Takes over a new or changed object.
    pub fn apply(&mut self, object: &Object) {
        let name = object.name();
        let outcome = match object {
            Object::Service(service) => convert::head(service).map(|(key, head)| {
                self.services.insert(key.clone(), Arc::new(head));
                self.dirty.insert(key);
                None
            }),
            Object::EndpointSlice(slice) => convert::slice(slice).map(|slice| {
                let refused = (!slice.refused.is_empty())
                    .then(|| format!("addresses that cannot be an endpoint's: {}", slice.refused.join(", ")));
                self.remove_slice(&name.slice_id());
                self.insert_slice(name.slice_id(), slice);
                refused
            }),
            Object::Node(meta) => {
                self.set_node(&name.name, Some(convert::node(meta)));
                Ok(None)
            }
        };
        match outcome {
            Ok(complaint) => self.leave_out(&name, complaint),
            Err(reason) => {
                self.forget(&name);
                self.leave_out(&name, Some(reason.to_string()));
            }
        }
    }

    /// An object is gone.
    pub fn delete(&mut self, name: &ObjectName) {
        self.forget(name);
        self.leave_out(name, None);
    }

    /// Says why an object, or something of it, is left out; `None` when nothing is any more. What is held of it stays.
    pub fn leave_out(&mut self, name: &ObjectName, reason: Option<String>) {
        if reason.is_some() {
            self.complaints.insert(name.clone());
        } else if !self.complaints.remove(name) {
            return;
        }
        self.note(&name.to_string(), reason);
    }

    /// Says why a file, or whatever else is no object of its own, is left out; `None` when it is no longer.
    pub fn note(&mut self, what: &str, reason: Option<String>) {
        let held = self.observed.left_out.get(what);
        if held == reason.as_ref() {
            return;
        }
        let left_out = Arc::make_mut(&mut self.observed.left_out);
        match reason {
            Some(reason) => {
                tracing::info!(object = what, reason, "left out");
                left_out.insert(what.to_owned(), reason);
            }
            None => {
                left_out.remove(what);
            }
        }
    }

    /// Rebuilds what was touched since the last time, and hands out what is seen now.
    pub fn flush(&mut self) -> Observed {
        for key in std::mem::take(&mut self.dirty) {
            let export = self.export(&key).map(Arc::new);
            self.observed.exports.set(key, export);
        }
        self.observed.clone()
    }

    fn forget(&mut self, name: &ObjectName) {
        match name.kind {
            Kind::Service => {
                if let Ok(key) = ServiceKey::parse(&name.namespace, &name.name)
                    && self.services.remove(&key).is_some()
                {
                    self.dirty.insert(key);
                }
            }
            Kind::EndpointSlice => self.remove_slice(&name.slice_id()),
            Kind::Node => self.set_node(&name.name, None),
        }
    }

    fn insert_slice(&mut self, id: Arc<str>, slice: convert::SourceSlice) {
        for endpoint in slice.endpoints.iter().filter(|endpoint| !endpoint.node.is_empty()) {
            let services = self.on_node.entry(endpoint.node.clone()).or_default();
            *services.entry(slice.service.clone()).or_default() += 1;
        }
        self.of_service.entry(slice.service.clone()).or_default().insert(id.clone());
        self.dirty.insert(slice.service.clone());
        self.slices.insert(id, slice);
    }

    fn remove_slice(&mut self, id: &Arc<str>) {
        let Some(slice) = self.slices.remove(id) else {
            return;
        };
        if let Some(ids) = self.of_service.get_mut(&slice.service) {
            ids.remove(id);
            if ids.is_empty() {
                self.of_service.remove(&slice.service);
            }
        }
        for endpoint in &slice.endpoints {
            let Entry::Occupied(mut services) = self.on_node.entry(endpoint.node.clone()) else {
                continue;
            };
            if let Some(count) = services.get_mut().get_mut(&slice.service) {
                *count -= 1;
                if *count == 0 {
                    services.get_mut().remove(&slice.service);
                }
            }
            if services.get().is_empty() {
                services.remove();
            }
        }
        self.dirty.insert(slice.service);
    }

    fn set_node(&mut self, name: &Arc<str>, locality: Option<Locality>) {
        if self.nodes.get(name) == locality.as_ref() {
            return;
        }
        match locality {
            Some(locality) => self.nodes.insert(name.clone(), locality),
            None => self.nodes.remove(name),
        };
        self.dirty.extend(self.on_node.get(name).into_iter().flat_map(BTreeMap::keys).cloned());
    }

    fn export(&self, key: &ServiceKey) -> Option<Export> {
        let head = self.services.get(key)?.clone();
        let mut slices = BTreeMap::new();
        for id in self.of_service.get(key).into_iter().flatten() {
            let Some(source) = self.slices.get(id) else {
                continue;
            };
            let name = id.split_once('/').map_or(&**id, |(_, name)| name);
            let mut parts = source.endpoints.chunks(MAX_ENDPOINTS);
            // A slice without endpoints still says where they would listen.
            let first = parts.next().unwrap_or_default();
            slices.insert(name.into(), self.part(source, first));
            for (n, part) in parts.enumerate() {
                // No object's name has a slash, so no other slice has this name.
                slices.insert(format!("{name}/{}", n + 1).into(), self.part(source, part));
            }
        }
        Some(Export { head, slices })
    }

    fn part(&self, source: &convert::SourceSlice, endpoints: &[convert::PlacedEndpoint]) -> Arc<Slice> {
        let endpoint = |placed: &convert::PlacedEndpoint| Endpoint {
            address: placed.address.into(),
            network: None,
            health: placed.health,
            hostname: placed.hostname.clone(),
            locality: self.locality(placed),
            workload: Workload::unknown(),
        };
        Arc::new(Slice { ports: source.ports.clone(), endpoints: endpoints.iter().map(endpoint).collect() })
    }

    /// The zone is the slice's, else the node's; the region, which no slice has, is the node's; what neither says is
    /// the cluster's default.
    fn locality(&self, placed: &convert::PlacedEndpoint) -> Locality {
        let node = self.nodes.get(&placed.node).filter(|node| !node.is_unknown());
        let mut locality = node.unwrap_or(&self.default_locality).clone();
        if !placed.zone.is_empty() && placed.zone != locality.zone {
            locality.zone = placed.zone.clone();
            locality.subzone = "".into();
        }
        locality
    }
}

#[cfg(test)]
mod tests;
