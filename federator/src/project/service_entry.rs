//! A View as Istio ServiceEntries, one a service: hosts, virtual addresses, and the endpoints this cluster can use.
//! Pure; knows nothing of what is already in the cluster.
//!
//! A ServiceEntry cannot leave an endpoint out of one port, so a port that not every endpoint serves is left out.

use super::Cursor;
use crate::config::rules::ImportRules;
use crate::emit::object::{Desired, Endpoint, ObjectKey, Port, ServiceEntry};
use crate::gather::Gathered;
use model::{
    export,
    merge::Service,
    name::ServiceKey,
    reach::{Place, Usable, offer},
    tracked::Tracked,
    view::View,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Most endpoints of one ServiceEntry (its CRD).
const MAX_ENDPOINTS: usize = 4096;

/// Tells which cluster an endpoint is in, to Istio and to people.
const CLUSTER_LABEL: &str = "topology.istio.io/cluster";

/// Turns mutual TLS on. Alone it would make clients ask for an identity that the entry does not name.
const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";

/// What the projection needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the objects are for.
    pub place: Place,
    /// The zone, without a final dot.
    pub zone: Arc<str>,
    /// The namespace of objects for services that the cluster does not have.
    pub namespace: String,
}

/// ServiceEntries kept equal to a View.
#[derive(Debug)]
pub struct ServiceEntries {
    config: Config,
    cursor: Cursor,
    desired: Tracked<ObjectKey, Desired>,
    /// Where the entry of a service is, which moves when the cluster gets or loses the service itself.
    placed: HashMap<ServiceKey, ObjectKey>,
}

// === impl ServiceEntries ===

impl ServiceEntries {
    /// None yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, cursor: Cursor::default(), desired: Tracked::new(), placed: HashMap::new() }
    }

    /// Sets what is imported, from the next update on.
    pub fn set_rules(&mut self, rules: ImportRules) {
        self.cursor.set_rules(rules);
    }

    /// Brings the entries to what was gathered, and hands them out.
    pub fn update(&mut self, gathered: &Gathered) -> Tracked<ObjectKey, Desired> {
        let view = &gathered.view;
        let due = self.cursor.advance(view);
        if due.everything {
            let gone: Vec<_> = self.placed.keys().filter(|key| view.services().get(key).is_none()).cloned().collect();
            for key in gone {
                self.put(&key, None);
            }
        }
        for (key, service) in due.services {
            let entry = service.and_then(|service| entry(&self.config, view, service));
            let desired = entry.map(|(at, entry)| (at, Desired { entry: Arc::new(entry), revision: view.revision() }));
            self.put(key, desired);
        }
        self.desired.clone()
    }

    fn put(&mut self, key: &ServiceKey, desired: Option<(ObjectKey, Desired)>) {
        let at = desired.as_ref().map(|(at, _)| at.clone());
        if let Some(before) = self.placed.remove(key).filter(|before| Some(before) != at.as_ref()) {
            self.desired.set(before, None);
        }
        if let Some((at, desired)) = desired {
            self.placed.insert(key.clone(), at.clone());
            self.desired.set(at, Some(desired));
        }
    }
}

/// The entry of a service, and where it goes; `None` when Istio could do nothing with one.
fn entry(config: &Config, view: &View, service: &Service) -> Option<(ObjectKey, ServiceEntry)> {
    let host = service.key.host(&config.zone);
    let here = service.exports.iter().any(|(cluster, _)| *cluster == config.place.cluster);
    let namespace = if here { service.key.namespace.to_string() } else { config.namespace.clone() };
    let offer = offer(view, &config.place, service);
    let ports = ports(service, &offer.usable);
    if ports.is_empty() {
        return None;
    }
    let mut endpoints: Vec<Endpoint> = offer.usable.iter().map(|usable| endpoint(&ports, usable)).collect();
    // Istio refuses a host name as the address of a STATIC entry, and takes addresses in a DNS one as they are.
    let has_hosts = offer.usable.iter().any(|usable| usable.member.endpoint.address.ip().is_none());
    endpoints.sort();
    endpoints.dedup();
    endpoints.truncate(MAX_ENDPOINTS);
    let entry = ServiceEntry {
        hosts: vec![host.clone()],
        addresses: addresses(service),
        ports: ports.iter().map(|port| object_port(port)).collect(),
        resolution: if has_hosts { "DNS" } else { "STATIC" },
        endpoints,
        ..ServiceEntry::default()
    };
    Some((ObjectKey { namespace, name: host }, entry))
}

/// The ports that every endpoint serves. Istio's ServiceEntry knows no UDP or SCTP, and a number only once.
fn ports<'a>(service: &'a Service, usable: &[Usable<'_>]) -> Vec<&'a export::Port> {
    let mut numbers = BTreeSet::new();
    let served = |port: &&export::Port| usable.iter().all(|usable| usable.member.target(port).is_some());
    let tcp = service.ports.iter().filter(|port| port.protocol == export::Protocol::Tcp);
    tcp.filter(served).filter(|port| numbers.insert(port.number)).collect()
}

fn object_port(port: &export::Port) -> Port {
    Port { number: port.number, name: port_name(port), protocol: istio_protocol(port).to_owned() }
}

/// The CRD wants a name for every port.
fn port_name(port: &export::Port) -> String {
    if port.name.is_empty() { format!("tcp-{}", port.number) } else { port.name.to_string() }
}

/// The protocol as Istio selects it: by `appProtocol`, else by the prefix of the port's name, else TCP.
fn istio_protocol(port: &export::Port) -> &'static str {
    let said = if port.app_protocol.is_empty() {
        port.name.split('-').next().unwrap_or_default()
    } else {
        // `kubernetes.io/h2c` and `kubernetes.io/ws` are Kubernetes' own names.
        port.app_protocol.rsplit('/').next().unwrap_or_default()
    };
    match said.to_ascii_lowercase().as_str() {
        "http" | "ws" => "HTTP",
        "http2" | "h2c" => "HTTP2",
        "https" | "wss" => "HTTPS",
        "grpc" => "GRPC",
        "tls" => "TLS",
        "mongo" => "MONGO",
        _ => "TCP",
    }
}

fn endpoint(ports: &[&export::Port], usable: &Usable<'_>) -> Endpoint {
    let endpoint = usable.member.endpoint;
    let mapped = ports.iter().filter_map(|port| {
        // The merged service's port may be another cluster's; where it listens is for its own to say.
        let number = usable.member.target(port)?;
        (number != port.number).then(|| (port_name(port), number))
    });
    let versions = endpoint.workload.labels.iter().filter(|(key, _)| &***key != TLS_MODE_LABEL);
    let mut labels: BTreeMap<_, _> = versions.map(|(key, value)| (key.to_string(), value.to_string())).collect();
    labels.insert(CLUSTER_LABEL.to_owned(), usable.cluster.to_string());
    Endpoint {
        address: endpoint.address.to_string(),
        ports: mapped.collect(),
        locality: endpoint.locality.to_string(),
        network: usable.network.map(|network| network.as_str().to_owned()).unwrap_or_default(),
        labels,
    }
}

/// An entry carries no more addresses than the cluster has families, because istiod repeats every endpoint once an
/// address; nearly every cluster has IPv4.
fn addresses(service: &Service) -> Vec<String> {
    service.vip.iter().map(|vip| vip.v4.to_string()).collect()
}

#[cfg(test)]
mod tests;
