//! What is emitted for a View: a ServiceEntry and a DestinationRule for every host of a service, and the Gateway that lets
//! others in. Pure; knows nothing of what is already in the cluster. An entry is made when it is compared or written, and
//! not held.

use super::{
    Cursor,
    aliases::Named,
    service_entry::{Condition, Made},
};
use crate::{
    config::rules::ImportRules,
    emit::{
        OfClusters,
        destination_rule::DestinationRule,
        gateway::Gateway,
        object::{Desired, Kind, ObjectKey, Recipe, Spec},
        service_entry::STATIC,
    },
    gather::Gathered,
};
use model::{
    export::{Families, per_cluster},
    merge::{Parts, Service, merge},
    name::{ClusterId, ServiceKey},
    reach::{Networks, Place},
    tracked::Tracked,
    view::View,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What is missing of entries, by service; nothing of those that are whole.
pub type Conditions = Tracked<ServiceKey, Arc<[Condition]>>;

/// The name of the Gateway.
const GATEWAY: &str = "federator";

/// What the projection needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the objects are for.
    pub place: Place,
    /// The zone, without a final dot.
    pub zone: Arc<str>,
    /// The namespace of objects for services that the cluster does not have.
    pub namespace: Arc<str>,
    /// Whether a DestinationRule goes with every service.
    pub rules: bool,
    /// The namespaces that see entries and rules, as Istio's `exportTo`; empty for all.
    pub export_to: Arc<[String]>,
    /// Whether there is nothing for services that no other cluster exports.
    pub remote_only: bool,
    /// Whether entries have ports that not every endpoint serves.
    pub all_ports: bool,
    /// The families of which entries have virtual addresses.
    pub families: Families,
    /// The labels of the pods of east-west gateways; none where the Gateway is somebody else's to write.
    pub gateway: BTreeMap<String, String>,
}

/// A host, and what answers for it.
struct Host {
    name: Arc<str>,
    kind: HostKind,
    /// As it is imported.
    service: Arc<Service>,
    /// As every cluster sees it.
    whole: Arc<Service>,
}

/// Whose a host is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HostKind {
    /// The service's own.
    Own,
    /// The service's, by another name.
    Alias,
    /// What one cluster has of the service.
    OfCluster,
}

/// What there is for one host.
struct Both {
    namespace: Arc<str>,
    host: Arc<str>,
    entry: Desired,
    rule: Desired,
}

/// Objects kept equal to a View.
#[derive(Debug)]
pub struct Objects {
    config: Config,
    place: Arc<Place>,
    cursor: Cursor,
    desired: Tracked<ObjectKey, Desired>,
    /// The hosts that services have beside their own.
    further: HashMap<ServiceKey, Vec<Arc<str>>>,
    /// Whether these are others since the Gateway was made.
    is_renamed: bool,
    has_gateway: bool,
    /// The hosts of clusters that somebody names here.
    named: OfClusters,
    conditions: Conditions,
}

// === impl Objects ===

impl Objects {
    /// None yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let place = Arc::new(config.place.clone());
        Self {
            config,
            place,
            cursor: Cursor::default(),
            desired: Tracked::new(),
            further: HashMap::new(),
            is_renamed: false,
            has_gateway: false,
            named: OfClusters::default(),
            conditions: Tracked::new(),
        }
    }

    /// Sets what is imported, from the next update on.
    pub fn set_rules(&mut self, rules: ImportRules) {
        self.cursor.set_rules(rules);
    }

    /// What is missing of the entries.
    #[must_use]
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Sets which hosts of clusters there are though no exporter asks for them, from the next update on.
    pub fn set_named(&mut self, named: &OfClusters) {
        let changed = self.named.symmetric_difference(named).map(|(service, _)| service.clone());
        self.cursor.touch(changed);
        self.named = named.clone();
    }

    /// Brings the objects to what was gathered, and hands them out.
    pub fn update(&mut self, gathered: &Gathered) -> Tracked<ObjectKey, Desired> {
        let view = &gathered.view;
        let due = self.cursor.advance(view);
        let mut written = Vec::with_capacity(due.services.len());
        for (key, service) in due.services {
            let mut missing = Vec::new();
            let imported = service.filter(|service| self.is_wanted(view, service));
            let named = imported.as_ref().map(|service| self.cursor.named(service)).unwrap_or_default();
            let all = match imported.or_else(|| self.for_others(view, &key)) {
                Some(service) => self.of_service(view, &due.networks, &service, &named, &mut missing),
                None => Vec::new(),
            };
            self.take_away(&key, &all);
            written.push((key.clone(), all));
            self.conditions.set(key, (!missing.is_empty()).then(|| missing.into()));
        }
        // A host may be another service's now.
        for (key, all) in written {
            self.put(key, all);
        }
        self.set_gateway(view);
        self.desired.clone()
    }

    /// What there is of a service, for each of its hosts.
    fn of_service(
        &self,
        view: &View,
        networks: &Arc<Networks>,
        service: &Arc<Service>,
        named: &Named,
        missing: &mut Vec<Condition>,
    ) -> Vec<Both> {
        let namespace = self.namespace(service);
        let export_to = self.export_to(view, &namespace);
        missing.extend(named.refused.iter().map(|(alias, refusal)| Condition::alias(alias, refusal)));
        let mut all = Vec::new();
        for Host { name, kind, service, whole } in self.hosts(view, service, named) {
            let made = Made {
                place: self.place.clone(),
                networks: networks.clone(),
                service,
                all: whole,
                host: name.clone(),
                is_further: kind != HostKind::Own,
                all_ports: self.config.all_ports,
                export_to: export_to.clone(),
                families: self.config.families,
            };
            let mut of_host = Vec::new();
            let entry = made.make(&mut of_host);
            // Without a port Istio could do nothing with it.
            if entry.ports.is_empty() {
                of_host.push(Condition::no_port());
            } else {
                let (is_static, is_empty) = (entry.resolution == STATIC, entry.endpoints.is_empty());
                let hash = Spec::from(entry).digest();
                let rule =
                    DestinationRule { export_to: export_to.to_vec(), ..DestinationRule::near_first(&name, is_static) };
                all.push(Both {
                    namespace: namespace.clone(),
                    host: name.clone(),
                    entry: Desired::new(Arc::new(made), hash, view.revision()).empty(is_empty),
                    rule: Desired::fixed(Spec::DestinationRule(rule), view.revision()),
                });
            }
            match kind {
                HostKind::Own => missing.append(&mut of_host),
                HostKind::Alias | HostKind::OfCluster => {
                    // Who looks an alias up is told the service's own addresses, and does without a name.
                    let is_harmless =
                        |condition: &Condition| kind == HostKind::Alias && condition.reason.is_of_address();
                    of_host.retain(|condition| !missing.contains(condition) && !is_harmless(condition));
                    missing.extend(of_host.into_iter().map(|condition| condition.of_host(&name)));
                }
            }
        }
        all
    }

    /// The hosts of a service, its own first.
    fn hosts(&self, view: &View, service: &Arc<Service>, named: &Named) -> Vec<Host> {
        let whole = view.services().get(&service.key).unwrap_or(service);
        let of_all = |name: Arc<str>, kind| Host { name, kind, service: service.clone(), whole: whole.clone() };
        let mut hosts = vec![of_all(service.key.host(&self.config.zone).into(), HostKind::Own)];
        hosts.extend(named.held.iter().map(|alias| of_all(alias.text(), HostKind::Alias)));
        let is_named = |cluster: &ClusterId| {
            !self.named.is_empty() && self.named.contains(&(service.key.clone(), cluster.clone()))
        };
        for (cluster, export) in
            service.exports.iter().filter(|(cluster, export)| export.head.hosts.per_cluster || is_named(cluster))
        {
            let exports = BTreeMap::from([(cluster.clone(), export.clone())]);
            if let Some(part) = merge(&service.key, &Parts { exports, ..Parts::default() }) {
                let (part, name) = (Arc::new(part), per_cluster(&service.key, cluster).into());
                hosts.push(Host { name, kind: HostKind::OfCluster, service: part.clone(), whole: part });
            }
        }
        hosts
    }

    /// What this cluster has itself of a service that it does not import. Where others come in through its gateways, these
    /// reset every host of which the cluster has no entry.
    fn for_others(&self, view: &View, key: &ServiceKey) -> Option<Arc<Service>> {
        let service = view.services().get(key).filter(|_| self.has_gateways(view))?;
        let own = service.exports.iter().filter(|(cluster, _)| *cluster == self.config.place.cluster);
        let exports: Vec<_> = own.cloned().collect();
        (!exports.is_empty()).then(|| Arc::new(Service { exports, ..(**service).clone() }))
    }

    /// Whether a service that is imported is to be known to the mesh here.
    fn is_wanted(&self, view: &View, service: &Service) -> bool {
        let is_remote = service.exports.iter().any(|(cluster, _)| *cluster != self.config.place.cluster);
        !self.config.remote_only || is_remote || self.has_gateways(view)
    }

    /// Who sees entries and rules. Gateways are among those, where others come in through them.
    fn export_to(&self, view: &View, namespace: &str) -> Arc<[String]> {
        let all = &self.config.export_to;
        let sees = |to: &String| match &**to {
            "*" => true,
            "." => *namespace == *self.config.namespace,
            to => *to == *self.config.namespace,
        };
        if all.is_empty() || all.iter().any(sees) || !self.has_gateways(view) {
            return all.clone();
        }
        all.iter().cloned().chain([self.config.namespace.to_string()]).collect()
    }

    fn has_gateways(&self, view: &View) -> bool {
        let home = view.clusters().get(&self.config.place.cluster);
        home.and_then(|home| home.meta.as_ref()).is_some_and(|meta| !meta.gateways.is_empty())
    }

    /// Where an entry goes: beside the service, where the cluster has it. There its DestinationRules are looked for.
    fn namespace(&self, service: &Service) -> Arc<str> {
        let here = service.exports.iter().any(|(cluster, _)| *cluster == self.config.place.cluster);
        if here { service.key.namespace.as_str().into() } else { self.config.namespace.clone() }
    }

    /// Removes what is of a service no more. What there is of it moves when the cluster gets or loses the service itself.
    fn take_away(&mut self, key: &ServiceKey, all: &[Both]) {
        let further = self.further.get(key).into_iter().flatten().cloned();
        for host in further.chain([key.host(&self.config.zone).into()]) {
            for namespace in [key.namespace.as_str().into(), self.config.namespace.clone()] {
                if !all.iter().any(|both| both.host == host && both.namespace == namespace) {
                    for kind in [Kind::ServiceEntry, Kind::DestinationRule] {
                        let at = ObjectKey { kind, namespace: namespace.clone(), name: host.clone() };
                        self.desired.set(at, None);
                    }
                }
            }
        }
    }

    fn put(&mut self, key: ServiceKey, all: Vec<Both>) {
        let own = key.host(&self.config.zone);
        let further: Vec<_> = all.iter().map(|both| both.host.clone()).filter(|host| **host != *own).collect();
        let before = match further.is_empty() {
            true => self.further.remove(&key),
            false => self.further.insert(key, further.clone()),
        };
        self.is_renamed |= before.unwrap_or_default() != further;
        for Both { namespace, host, entry, rule } in all {
            let at = |kind| ObjectKey { kind, namespace: namespace.clone(), name: host.clone() };
            self.desired.set(at(Kind::ServiceEntry), Some(entry));
            self.desired.set(at(Kind::DestinationRule), self.config.rules.then_some(rule));
        }
    }

    /// A cluster with east-west gateways lets everything through that others may ask it for by a name of ours.
    fn set_gateway(&mut self, view: &View) {
        let wanted = self.has_gateways(view) && !self.config.gateway.is_empty();
        // All hosts there are need not be gone through for every change of a service.
        if !std::mem::take(&mut self.is_renamed) && wanted == self.has_gateway {
            return;
        }
        self.has_gateway = wanted;
        let gateway = wanted.then(|| {
            let zone = format!("*.{}", self.config.zone);
            let outside = |host: &&Arc<str>| host.strip_suffix(&zone[1..]).is_none();
            let further: BTreeSet<_> = self.further.values().flatten().filter(outside).collect();
            let hosts = [zone.clone()].into_iter().chain(further.into_iter().map(ToString::to_string)).collect();
            let gateway = Gateway::passing(hosts, self.config.gateway.clone());
            Desired::fixed(Spec::Gateway(gateway), view.revision())
        });
        let at = ObjectKey { kind: Kind::Gateway, namespace: self.config.namespace.clone(), name: GATEWAY.into() };
        self.desired.set(at, gateway);
    }
}

impl Recipe for Made {
    fn spec(&self) -> Spec<'_> {
        self.make(&mut Vec::new()).into()
    }
}

#[cfg(test)]
mod tests;
