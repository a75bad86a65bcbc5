//! The index: objects of one cluster in, exports out. An object touches the services that it is of; only those are
//! rebuilt. What is held is a function of the objects and the rules alone, not of how they came. Knows nothing of
//! where objects come from.

mod gateways;
mod inside;
mod join;
mod references;
pub(super) mod shared;
mod verdict;

pub use super::object::{Kind, Object, ObjectName};

use super::{
    Observed,
    convert::{
        self, LeftOut,
        gateway::{SourceEntrance, SourcePassage},
        namespace::SourceNamespace,
        node::SourceNode,
        pod::SourcePod,
        service::SourceService,
        slice::SourceSlice,
        workload_entry::SourceEntry,
    },
};
use crate::{condition::Reason, config::rules::ExportRules};
use gateways::Gateways;
use inside::Inside;
use model::{
    export::{Address, Exported, Health, Workload},
    identity::TrustDomain,
    locality::{Locality, Network},
    name::{Label, ServiceKey},
};
use references::References;
use shared::Shared;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// Under this name [`Observed::left_out`] says of how many endpoints it is not known where they run.
const LOCALITY: &str = "Locality";

/// Nodes, or namespaces, that are named where something is wrong with many.
const MAX_NAMED: usize = 3;

/// The objects of one cluster, and what it exports. Objects in a namespace are held by `namespace/name`.
#[derive(Debug, Default)]
pub struct Index {
    services: BTreeMap<ServiceKey, SourceService>,
    /// The services that are not exported, by the rules and by what they say themselves.
    refused: BTreeMap<ServiceKey, LeftOut>,
    slices: HashMap<Arc<str>, SourceSlice>,
    of_service: HashMap<ServiceKey, BTreeSet<Arc<str>>>,
    entries: BTreeMap<Arc<str>, SourceEntry>,
    pods: HashMap<Arc<str>, SourcePod>,
    nodes: HashMap<Arc<str>, Locality>,
    namespaces: HashMap<Arc<str>, SourceNamespace>,
    /// Those of them whose Pods have no sidecars.
    ambient: BTreeSet<Arc<str>>,
    /// What ServiceExports say of their services.
    service_exports: BTreeMap<ServiceKey, Arc<Exported>>,
    /// The services with endpoints on a node.
    on_node: References,
    /// The services with endpoints that lead to a pod.
    on_pod: References,
    /// Nodes with endpoints of which it is not known where they run.
    unplaced: BTreeSet<Arc<str>>,
    gateways: Gateways,
    inside: Inside,
    /// Whether nodes came or went, or are elsewhere now.
    moved: bool,
    /// Where endpoints run of which nothing better is known.
    default_locality: Locality,
    /// The network while the root namespace names none.
    network: Network,
    root_namespace: Arc<str>,
    rules: ExportRules,
    dirty: BTreeSet<ServiceKey>,
    /// What is wrong with an object itself.
    complaints: BTreeMap<ObjectName, String>,
    /// What was seen; handed on after each flush.
    observed: Observed,
    texts: Shared<str>,
    workloads: Shared<Workload>,
}

// === impl Index ===

impl Index {
    /// An empty index of a cluster, with the default rules.
    #[must_use]
    pub fn new(observed: Observed, default_locality: Locality) -> Self {
        let network = observed.meta.network.clone();
        Self { observed, default_locality, network, moved: true, ..Self::default() }
    }

    /// What was seen; to be changed for everything but exports and the network, which are the index's to say.
    pub fn observed(&mut self) -> &mut Observed {
        &mut self.observed
    }

    /// Sets the network that the cluster is on while its root namespace is labelled with none.
    pub fn set_network(&mut self, network: Network) {
        self.network = network;
        self.settle_network();
    }

    /// Sets which namespace is the root of the cluster's mesh.
    pub fn set_root_namespace(&mut self, name: &str) {
        self.root_namespace = name.into();
        self.settle_network();
    }

    /// The names of all objects of a kind that are held or left out, for mark and sweep.
    #[must_use]
    pub fn names(&self, kind: Kind) -> HashSet<ObjectName> {
        let of_ids = |ids: &mut dyn Iterator<Item = &Arc<str>>| ids.map(|id| ObjectName::of_id(kind, id)).collect();
        let of_key = |key: &ServiceKey| name_of(kind, key);
        let mut names: HashSet<ObjectName> = match kind {
            Kind::Service => self.services.keys().map(of_key).collect(),
            Kind::ServiceExport => self.service_exports.keys().map(of_key).collect(),
            Kind::EndpointSlice => of_ids(&mut self.slices.keys()),
            Kind::WorkloadEntry => of_ids(&mut self.entries.keys()),
            Kind::Pod => of_ids(&mut self.pods.keys()),
            Kind::Node => of_ids(&mut self.nodes.keys()),
            Kind::Namespace => of_ids(&mut self.namespaces.keys()),
            Kind::Gateway => of_ids(&mut self.gateways.passages()),
        };
        names.extend(self.complaints.keys().filter(|name| name.kind == kind).cloned());
        names
    }

    /// Takes over a new or changed object.
    pub fn apply(&mut self, object: &Object) {
        let name = object.name();
        self.look_inside(&name, Some(object));
        match self.read(object, &name) {
            Ok(complaint) => self.leave_out(&name, complaint),
            Err(reason) => {
                self.forget(&name);
                self.leave_out(&name, Some(reason.to_string()));
            }
        }
    }

    /// An object is gone.
    pub fn delete(&mut self, name: &ObjectName) {
        self.look_inside(name, None);
        self.forget(name);
        self.leave_out(name, None);
    }

    /// Says why an object, or something of it, is left out; `None` when nothing is any more. What is held of it stays.
    pub fn leave_out(&mut self, name: &ObjectName, reason: Option<String>) {
        match reason {
            Some(reason) => {
                self.complaints.insert(name.clone(), reason);
            }
            None if self.complaints.remove(name).is_none() => return,
            None => {}
        }
        self.say(name);
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
        if std::mem::take(&mut self.moved) {
            let common = self.nodes.values().cloned().reduce(|one, other| one.common(&other));
            self.observed.meta.locality = common.unwrap_or_else(|| self.default_locality.clone());
        }
        // Before everything was seen, nodes are only late.
        let unplaced = if self.observed.synced { self.unplaced() } else { None };
        self.note(LOCALITY, unplaced);
        // Whoever has not seen everything is not taken for somebody who has, by a condition.
        let is_whole = self.observed.synced && !self.observed.partial;
        let overlap = if is_whole { self.overlap() } else { None };
        self.observed.conditions.set(Reason::VipsOverlap, overlap);
        let ambient = if is_whole { self.ambient() } else { None };
        self.observed.conditions.set(Reason::AmbientUnsupported, ambient);
        let unready = if is_whole { self.gateways.unready() } else { None };
        self.observed.conditions.set(Reason::GatewayNotReady, unready);
        self.observed.clone()
    }

    /// Reads an object and holds it; the text says what of it is left out.
    fn read(&mut self, object: &Object, name: &ObjectName) -> Result<Option<String>, LeftOut> {
        match object {
            Object::Service(service) => {
                self.set_entrance(name, convert::gateway::entrance(service));
                let (key, service) = convert::service::service(service)?;
                let trouble = service.trouble.clone();
                if self.services.get(&key) != Some(&service) {
                    self.services.insert(key.clone(), service);
                    self.dirty.insert(key.clone());
                }
                self.judge(&key);
                return Ok(trouble);
            }
            Object::EndpointSlice(slice) => {
                let slice = convert::slice::slice(slice)?;
                let refused = (!slice.refused.is_empty())
                    .then(|| format!("addresses that cannot be an endpoint's: {}", slice.refused.join(", ")));
                self.set_slice(&name.id(), Some(slice));
                return Ok(refused);
            }
            Object::WorkloadEntry(entry) => {
                let entry = convert::workload_entry::workload_entry(entry)?;
                let namespace = Label::parse(&name.namespace)?;
                self.set_entry(&namespace, name.id(), Some(entry));
            }
            Object::Gateway(gateway) => self.set_passage(name.id(), convert::gateway::passage(gateway)),
            Object::ServiceExport(export) => {
                let (exported, refused) = convert::service_export::exported(export);
                self.set_service_export(&convert::key(&export.metadata)?, Some(exported));
                return Ok(refused.map(|reason| reason.to_string()));
            }
            Object::Pod(pod) => self.set_pod(&name.id(), Some(convert::pod::pod(pod))),
            Object::Node(node) => self.set_node(&name.name, Some(convert::node::node(node))),
            Object::Namespace(meta) => self.set_namespace(&name.name, Some(convert::namespace::namespace(meta))),
        }
        Ok(None)
    }

    fn forget(&mut self, name: &ObjectName) {
        match name.kind {
            Kind::Service => {
                self.set_entrance(name, None);
                if let Ok(key) = ServiceKey::parse(&name.namespace, &name.name)
                    && self.services.remove(&key).is_some()
                {
                    self.judge(&key);
                    self.dirty.insert(key);
                }
            }
            Kind::EndpointSlice => self.set_slice(&name.id(), None),
            Kind::WorkloadEntry => {
                if let Ok(namespace) = Label::parse(&name.namespace) {
                    self.set_entry(&namespace, name.id(), None);
                }
            }
            Kind::ServiceExport => {
                if let Ok(key) = ServiceKey::parse(&name.namespace, &name.name) {
                    self.set_service_export(&key, None);
                }
            }
            Kind::Gateway => self.set_passage(name.id(), None),
            Kind::Pod => self.set_pod(&name.id(), None),
            Kind::Node => self.set_node(&name.name, None),
            Kind::Namespace => self.set_namespace(&name.name, None),
        }
    }

    fn set_slice(&mut self, id: &Arc<str>, slice: Option<SourceSlice>) {
        if self.slices.get(id) == slice.as_ref() {
            return;
        }
        let old = self.slices.remove(id);
        if let Some(mut slice) = slice {
            self.refer(&mut slice);
            self.of_service.entry(slice.service.clone()).or_default().insert(id.clone());
            self.dirty.insert(slice.service.clone());
            let service = slice.service.clone();
            self.slices.insert(id.clone(), slice);
            self.look_behind(&service);
        }
        let Some(old) = old else { return };
        if self.slices.get(id).is_none_or(|new| new.service != old.service)
            && let Some(ids) = self.of_service.get_mut(&old.service)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.of_service.remove(&old.service);
            }
        }
        for endpoint in &old.endpoints {
            self.on_pod.remove(&endpoint.pod, &old.service);
            self.on_node.remove(&endpoint.node, &old.service);
            self.place(&endpoint.node);
        }
        self.look_behind(&old.service);
        self.dirty.insert(old.service);
    }

    /// Notes what a slice refers to, and shares what others have too.
    fn refer(&mut self, slice: &mut SourceSlice) {
        for endpoint in &mut slice.endpoints {
            for text in [&mut endpoint.hostname, &mut endpoint.node, &mut endpoint.zone, &mut endpoint.pod] {
                self.texts.share(text);
            }
            if !endpoint.pod.is_empty() {
                self.on_pod.insert(&endpoint.pod, &slice.service);
            }
            if !endpoint.node.is_empty() {
                self.on_node.insert(&endpoint.node, &slice.service);
                self.place(&endpoint.node);
            }
        }
        slice.ports.iter_mut().for_each(|port| self.texts.share(&mut port.name));
    }

    fn set_entry(&mut self, namespace: &Label, id: Arc<str>, mut entry: Option<SourceEntry>) {
        if self.entries.get(&id) == entry.as_ref() {
            return;
        }
        if let Some(entry) = &mut entry {
            self.workloads.share(&mut entry.workload);
        }
        let old = self.entries.get(&id);
        let selects =
            |service: &SourceService| old.iter().copied().chain(&entry).any(|entry| entry.is_selected(service));
        let touched: Vec<_> =
            self.services_in(namespace).filter(|(_, service)| selects(service)).map(|(key, _)| key.clone()).collect();
        self.dirty.extend(touched);
        match entry {
            Some(entry) => self.entries.insert(id, entry),
            None => self.entries.remove(&id),
        };
    }

    fn set_pod(&mut self, id: &Arc<str>, mut pod: Option<SourcePod>) {
        if self.pods.get(id) == pod.as_ref() {
            return;
        }
        self.dirty.extend(self.on_pod.of(id).cloned());
        match &mut pod {
            Some(pod) => {
                self.workloads.share(&mut pod.workload);
                if let Some(network) = &mut pod.network {
                    *network = self.texts.one(&network.as_str().into()).into();
                }
                self.pods.insert(self.texts.one(id), pod.clone());
            }
            None => {
                self.pods.remove(id);
            }
        }
    }

    fn set_node(&mut self, name: &Arc<str>, node: Option<SourceNode>) {
        let (locality, outside) = node.map(|node| (node.locality, node.outside)).unzip();
        if self.gateways.set_node(name, outside.flatten()) {
            self.settle_gateways();
        }
        if self.nodes.get(name) == locality.as_ref() {
            return;
        }
        match locality {
            Some(locality) => self.nodes.insert(name.clone(), locality),
            None => self.nodes.remove(name),
        };
        self.moved = true;
        self.dirty.extend(self.on_node.of(name).cloned());
        self.place(name);
    }

    fn set_namespace(&mut self, name: &Arc<str>, namespace: Option<SourceNamespace>) {
        if self.namespaces.get(name) == namespace.as_ref() {
            return;
        }
        if namespace.as_ref().is_some_and(|namespace| namespace.ambient) {
            self.ambient.insert(name.clone());
        } else {
            self.ambient.remove(name);
        }
        match namespace {
            Some(namespace) => self.namespaces.insert(name.clone(), namespace),
            None => self.namespaces.remove(name),
        };
        self.settle_network();
        if let Ok(name) = Label::parse(name) {
            let keys: Vec<_> = self.services_in(&name).map(|(key, _)| key.clone()).collect();
            self.judge_all(&keys);
        }
    }

    fn set_service_export(&mut self, key: &ServiceKey, exported: Option<Arc<Exported>>) {
        let before = match exported.clone() {
            Some(exported) => self.service_exports.insert(key.clone(), exported),
            None => self.service_exports.remove(key),
        };
        if before.unwrap_or_else(Exported::none) != exported.unwrap_or_else(Exported::none) {
            self.dirty.insert(key.clone());
        }
        self.judge(key);
    }

    /// The services of a namespace.
    fn services_in(&self, namespace: &Label) -> impl Iterator<Item = (&ServiceKey, &SourceService)> {
        let all = self.services.range(first_of(namespace)..);
        all.take_while(|(key, _)| key.namespace == *namespace)
    }

    /// What is missing of namespaces with services that are exported.
    fn ambient(&self) -> Option<String> {
        let exports = |name: &&Arc<str>| {
            let name = Label::parse(name).ok();
            name.is_some_and(|name| self.services_in(&name).any(|(key, _)| !self.refused.contains_key(key)))
        };
        let names: Vec<&str> = self.ambient.iter().filter(exports).map(|name| &**name).collect();
        let named = names.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(MAX_NAMED);
        let and_more = if more == 0 { String::new() } else { format!(" and {more} more") };
        (!names.is_empty()).then(|| {
            format!(
                "namespaces {named}{and_more} are in ambient mode: what has no sidecar there is reached on its own network \
                 only, through no gateway"
            )
        })
    }

    fn settle_network(&mut self) {
        let labelled = self.namespaces.get(&self.root_namespace).and_then(|namespace| namespace.network.clone());
        self.observed.meta.network = labelled.unwrap_or_else(|| self.network.clone());
        self.gateways.settle(&mut self.observed.meta);
    }

    /// Sets the gateways that count instead of those that are found; none for those.
    pub fn set_gateways(&mut self, configured: Vec<(Address, u16)>) {
        self.gateways.configure(configured);
        self.gateways.settle(&mut self.observed.meta);
    }

    /// Sets the trust domain of the cluster's mesh.
    pub fn set_trust_domain(&mut self, domain: TrustDomain) {
        self.observed.meta.trust_domain = domain;
    }

    fn set_entrance(&mut self, name: &ObjectName, entrance: Option<SourceEntrance>) {
        let id = name.id();
        // Hardly any Service is one.
        if entrance.is_none() && !self.gateways.has_entrance(&id) {
            return;
        }
        if entrance.is_none() {
            self.note(&format!("gateway {name}"), None);
        }
        self.gateways.set_entrance(id, entrance);
        self.settle_gateways();
    }

    /// Looks again at what there is of gateways, and says what is wrong with them.
    fn settle_gateways(&mut self) {
        for id in self.gateways.entrances().cloned().collect::<Vec<_>>() {
            let ready = self.is_ready(&id);
            self.gateways.set_ready(&id, ready);
        }
        for (id, trouble) in self.gateways.refresh() {
            self.note(&format!("gateway {}", ObjectName::of_id(Kind::Service, &id)), trouble);
        }
        self.gateways.settle(&mut self.observed.meta);
    }

    /// Whether any endpoint of a Service is ready; `None` where no slice says anything of it.
    fn is_ready(&self, id: &str) -> Option<bool> {
        let (namespace, name) = id.split_once('/')?;
        let ids = self.of_service.get(&ServiceKey::parse(namespace, name).ok()?)?;
        let mut endpoints = ids.iter().filter_map(|id| self.slices.get(id)).flat_map(|slice| &slice.endpoints);
        Some(endpoints.any(|endpoint| endpoint.health == Health::Ready))
    }

    /// What is said of a service has changed, which may be a gateway's.
    fn look_behind(&mut self, service: &ServiceKey) {
        let parts = Some((service.namespace.as_str(), service.name.as_str()));
        if self.gateways.entrances().any(|id| id.split_once('/') == parts) {
            self.settle_gateways();
        }
    }

    fn set_passage(&mut self, id: Arc<str>, passage: Option<SourcePassage>) {
        self.gateways.set_passage(id, passage);
        self.gateways.settle(&mut self.observed.meta);
    }

    /// Notes whether it is known where the endpoints on a node run.
    fn place(&mut self, node: &Arc<str>) {
        let known = !self.default_locality.is_unknown() || self.nodes.get(node).is_some_and(|at| !at.is_unknown());
        if self.on_node.has(node) && !known {
            self.unplaced.insert(node.clone());
        } else {
            self.unplaced.remove(node);
        }
    }

    fn unplaced(&self) -> Option<String> {
        let named: Vec<&str> = self.unplaced.iter().take(MAX_NAMED).map(|name| &**name).collect();
        let more = if self.unplaced.len() > named.len() { ", …" } else { "" };
        (!named.is_empty()).then(|| {
            format!(
                "of endpoints on {} nodes ({}{more}): no label topology.kubernetes.io/region there, and no \
                 clusters[].locality",
                self.unplaced.len(),
                named.join(", ")
            )
        })
    }
}

fn name_of(kind: Kind, key: &ServiceKey) -> ObjectName {
    ObjectName { kind, namespace: key.namespace.as_str().into(), name: key.name.as_str().into() }
}

/// The least key that a service of a namespace can have.
fn first_of(namespace: &Label) -> ServiceKey {
    // No label begins with a lesser character than `0`.
    let name = Label::parse("0").unwrap_or_else(|_| namespace.clone());
    ServiceKey { namespace: namespace.clone(), name }
}

#[cfg(test)]
mod tests;
