//! A View as Istio ServiceEntries, one a service: hosts, virtual addresses, and the endpoints this cluster can use.
//! Pure; knows nothing of what is already in the cluster. An entry is made when it is compared or written, and not held.
//!
//! A ServiceEntry cannot leave an endpoint out of one port, so a port that not every endpoint serves is left out. What an
//! entry has no room or no word for is said as a condition of its service.

mod condition;

use super::Cursor;
use crate::config::rules::ImportRules;
use crate::emit::object::{Desired, Endpoint, Labels, ObjectKey, Port, Recipe, ServiceEntry};
use crate::gather::Gathered;
use model::{
    export,
    merge::Service,
    name::ServiceKey,
    reach::{Networks, Place, Usable, offer},
    tracked::Tracked,
};
use std::{borrow::Cow, sync::Arc};

pub use condition::{Condition, Reason};

/// What is missing of entries, by service; nothing of those that are whole.
pub type Conditions = Tracked<ServiceKey, Arc<[Condition]>>;

/// Most endpoints of one ServiceEntry (its CRD).
const MAX_ENDPOINTS: usize = 4096;

/// Most bytes of them, as JSON: etcd refuses objects of 1.5 MiB, and there are managed fields beside them.
const MAX_BYTES: usize = 1 << 20;

/// No endpoint has more bytes, apart from its ports: a host name of 253, and labels, a locality and a network of at most 63
/// each, with their keys.
const MAX_ENDPOINT: usize = 1200;

/// No port of an endpoint has more bytes.
const MAX_PORT: usize = 32;

/// Most ports of one ServiceEntry (its CRD).
const MAX_PORTS: usize = 256;

/// What the projection needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the objects are for.
    pub place: Place,
    /// The zone, without a final dot.
    pub zone: Arc<str>,
    /// The namespace of objects for services that the cluster does not have.
    pub namespace: Arc<str>,
}

/// What an entry is made of.
#[derive(Debug)]
struct Made {
    place: Arc<Place>,
    networks: Arc<Networks>,
    service: Arc<Service>,
    host: Arc<str>,
}

/// ServiceEntries kept equal to a View.
#[derive(Debug)]
pub struct ServiceEntries {
    config: Config,
    place: Arc<Place>,
    cursor: Cursor,
    desired: Tracked<ObjectKey, Desired>,
    conditions: Conditions,
}

// === impl ServiceEntries ===

impl ServiceEntries {
    /// None yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let place = Arc::new(config.place.clone());
        Self { config, place, cursor: Cursor::default(), desired: Tracked::new(), conditions: Tracked::new() }
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

    /// Brings the entries to what was gathered, and hands them out.
    pub fn update(&mut self, gathered: &Gathered) -> Tracked<ObjectKey, Desired> {
        let view = &gathered.view;
        let due = self.cursor.advance(view);
        for (key, service) in due.services {
            let host: Arc<str> = key.host(&self.config.zone).into();
            let made = service.map(|service| Made {
                place: self.place.clone(),
                networks: due.networks.clone(),
                service,
                host: host.clone(),
            });
            let mut missing = Vec::new();
            let desired = made.and_then(|made| {
                let entry = made.make(&mut missing);
                let (at, hash) = (self.at(&made), entry.digest());
                // Without a port Istio could do nothing with it.
                let useful = !entry.ports.is_empty();
                if !useful {
                    missing.push(Condition::no_port());
                }
                useful.then(|| (at, Desired::new(Arc::new(made), hash, view.revision())))
            });
            self.put(&key, &host, desired);
            self.conditions.set(key, (!missing.is_empty()).then(|| missing.into()));
        }
        self.desired.clone()
    }

    /// Where an entry goes: beside the service, where the cluster has it.
    fn at(&self, made: &Made) -> ObjectKey {
        let here = made.service.exports.iter().any(|(cluster, _)| *cluster == self.config.place.cluster);
        let namespace = if here { made.service.key.namespace.as_str().into() } else { self.config.namespace.clone() };
        ObjectKey { namespace, name: made.host.clone() }
    }

    /// Sets or removes the entry of a service, which moves when the cluster gets or loses the service itself.
    fn put(&mut self, key: &ServiceKey, host: &Arc<str>, desired: Option<(ObjectKey, Desired)>) {
        for namespace in [key.namespace.as_str().into(), self.config.namespace.clone()] {
            let at = ObjectKey { namespace, name: host.clone() };
            if desired.as_ref().is_none_or(|(wanted, _)| *wanted != at) {
                self.desired.set(at, None);
            }
        }
        if let Some((at, desired)) = desired {
            self.desired.set(at, Some(desired));
        }
    }
}

// === impl Made ===

impl Made {
    /// The entry, and what is missing of it.
    fn make(&self, missing: &mut Vec<Condition>) -> ServiceEntry<'_> {
        let usable = offer(&self.networks, &self.place, &self.service).usable;
        let ports = self.ports(&usable, missing);
        let mut endpoints: Vec<Endpoint<'_>> = usable.iter().map(|usable| endpoint(&ports, usable)).collect();
        // Istio refuses a host name as the address of a STATIC entry, and takes addresses in a DNS one as they are.
        let has_hosts = endpoints.iter().any(|endpoint| endpoint.address.ip().is_none());
        endpoints.sort();
        endpoints.dedup();
        let fit = how_many_fit(&endpoints);
        if fit < endpoints.len() {
            missing.push(Condition::endpoints(fit, endpoints.len()));
            endpoints.truncate(fit);
        }
        ServiceEntry {
            addresses: addresses(&self.service),
            endpoints,
            hosts: vec![self.host.to_string()],
            ports: ports.into_iter().map(object_port).collect(),
            resolution: if has_hosts { "DNS" } else { "STATIC" },
            ..ServiceEntry::default()
        }
    }

    /// The ports that every endpoint serves. Istio's ServiceEntry knows no UDP or SCTP, and a number only once.
    fn ports(&self, usable: &[Usable<'_>], missing: &mut Vec<Condition>) -> Vec<&export::Port> {
        let mut ports: Vec<&export::Port> = Vec::new();
        for port in &*self.service.ports {
            let served = || usable.iter().filter(|usable| usable.member.target(port).is_some()).count();
            if port.protocol != export::Protocol::Tcp {
                missing.push(Condition::transport(port));
            } else if let Some(by) = ports.iter().find(|known| known.number == port.number) {
                missing.push(Condition::taken(port, by));
            } else if served() < usable.len() {
                missing.push(Condition::partial(port, served(), usable.len()));
            } else {
                ports.push(port);
            }
        }
        if ports.len() > MAX_PORTS {
            missing.push(Condition::ports(MAX_PORTS, ports.len()));
            ports.truncate(MAX_PORTS);
        }
        ports
    }
}

impl Recipe for Made {
    fn entry(&self) -> ServiceEntry<'_> {
        self.make(&mut Vec::new())
    }
}

/// How many of these one entry holds.
fn how_many_fit(endpoints: &[Endpoint<'_>]) -> usize {
    let most = endpoints.len().min(MAX_ENDPOINTS);
    let ports = endpoints.iter().map(|endpoint| endpoint.ports.len()).max().unwrap_or_default();
    if most * (MAX_ENDPOINT + ports * MAX_PORT) <= MAX_BYTES {
        return most;
    }
    let mut bytes = 0;
    let fits = |endpoint: &&Endpoint<'_>| {
        bytes += serde_json::to_vec(endpoint).map_or(0, |text| text.len() + 1);
        bytes <= MAX_BYTES
    };
    endpoints[..most].iter().take_while(fits).count()
}

fn object_port(port: &export::Port) -> Port<'_> {
    Port { name: port_name(port), number: port.number, protocol: istio_protocol(port) }
}

/// The CRD wants a name for every port.
fn port_name(port: &export::Port) -> Cow<'_, str> {
    if port.name.is_empty() { format!("tcp-{}", port.number).into() } else { Cow::Borrowed(&port.name) }
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

fn endpoint<'a>(ports: &[&'a export::Port], usable: &Usable<'a>) -> Endpoint<'a> {
    let endpoint = usable.member.endpoint;
    let mapped = ports.iter().filter_map(|port| {
        // The merged service's port may be another cluster's; where it listens is for its own to say.
        let number = usable.member.target(port)?;
        (number != port.number).then(|| (port_name(port), number))
    });
    Endpoint {
        address: &endpoint.address,
        labels: Labels { cluster: usable.cluster.as_str(), workload: &endpoint.workload },
        locality: &endpoint.locality,
        network: usable.network.map(model::locality::Network::as_str).unwrap_or_default(),
        ports: mapped.collect(),
    }
}

/// An entry carries no more addresses than the cluster has families, because istiod repeats every endpoint once an
/// address; nearly every cluster has IPv4.
fn addresses(service: &Service) -> Vec<String> {
    service.vip.iter().map(|vip| vip.v4.to_string()).collect()
}

#[cfg(test)]
mod tests;
