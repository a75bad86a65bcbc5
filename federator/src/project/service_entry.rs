//! One service as Istio's ServiceEntry: hosts, virtual addresses, and the endpoints that this cluster can use, those of
//! other networks as the gateways that lead to them. Pure.
//!
//! A ServiceEntry cannot leave an endpoint out of one port, so a port that not every endpoint serves is left out, unless all
//! are asked for. What an entry has no room or no word for is said as a condition of its service.

mod condition;
mod identities;
mod served;
mod through;

use crate::emit::service_entry::{Endpoint, Labels, Port, STATIC, ServiceEntry};
use model::{
    export::{self, Address, Families, Family},
    locality::Locality,
    merge::Service,
    reach::{Networks, Offer, Place, Usable},
    vip::Vip,
};
use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{Arc, LazyLock},
};

pub use condition::{Condition, Reason};
use served::Chosen;

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

/// What an entry is made of.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) place: Arc<Place>,
    pub(super) networks: Arc<Networks>,
    pub(super) service: Arc<Service>,
    /// The same with what is not imported, which other clusters may.
    pub(super) all: Arc<Service>,
    pub(super) host: Arc<str>,
    /// Whether the host is beside the service's own, whose addresses these are: it is told apart by its name alone.
    pub(super) is_further: bool,
    /// Whether it has ports that not every endpoint serves; the same in all clusters.
    pub(super) all_ports: bool,
    /// The namespaces that see it; empty for all.
    pub(super) export_to: Arc<[String]>,
    /// The families of which it has virtual addresses.
    pub(super) families: Families,
}

// === impl Made ===

impl Made {
    /// The entry, and what is missing of it.
    pub(super) fn make(&self, missing: &mut Vec<Condition>) -> ServiceEntry<'_> {
        let Chosen { offer, has_hosts, behind } = self.choose();
        missing.extend(offer.left_out.iter().filter_map(Condition::out_of_reach));
        if behind > 0 {
            missing.push(Condition::host_names(behind));
        }
        let ports = self.ports(&offer, missing);
        let (unit, gateways) = through::endpoints(&offer.through, &ports, self.place.network_in(&self.networks));
        let mut endpoints: Vec<_> = offer.usable.iter().map(|usable| endpoint(&ports, usable, unit)).collect();
        endpoints.sort();
        // A machine that several clusters know is one: gRPC takes no assignment that names it twice.
        endpoints.dedup_by(|again, first| again.address == first.address);
        let entrances: HashSet<&Address> = gateways.iter().map(|gateway| gateway.address).collect();
        endpoints.extend(gateways);
        if has_hosts {
            endpoints.iter_mut().for_each(forget_place);
        }
        endpoints.sort();
        let all = endpoints.len();
        if how_many_fit(&endpoints) < all {
            // Those here are asked first, and a gateway stands for many.
            let is_here = |endpoint: &Endpoint<'_>| endpoint.labels.cluster == self.place.cluster.as_str();
            endpoints.sort_by_key(|endpoint| !is_here(endpoint) && !entrances.contains(endpoint.address));
            endpoints.truncate(how_many_fit(&endpoints));
            endpoints.sort();
            missing.push(Condition::endpoints(endpoints.len(), all));
        }
        ServiceEntry {
            addresses: self.addresses(),
            endpoints,
            export_to: self.export_to.to_vec(),
            hosts: vec![self.host.to_string()],
            ports: ports.into_iter().map(object_port).collect(),
            resolution: if has_hosts { "DNS" } else { STATIC },
            subject_alt_names: identities::identities(&self.networks, &self.service),
            ..ServiceEntry::default()
        }
    }

    /// No more addresses than the cluster has families, because istiod repeats every endpoint once an address.
    fn addresses(&self) -> Vec<String> {
        if self.is_further {
            return Vec::new();
        }
        let of = |vip: Vip, family| match family {
            Family::V4 => vip.v4.to_string(),
            Family::V6 => vip.v6.to_string(),
        };
        self.service.vip.iter().flat_map(|vip| self.families.iter().map(|family| of(*vip, family))).collect()
    }

    /// The ports that every endpoint serves, or any. Istio's ServiceEntry knows no UDP or SCTP, and a number only once: so do merged TCP ports.
    fn ports(&self, offer: &Offer<'_>, missing: &mut Vec<Condition>) -> Vec<&export::Port> {
        let mut ports: Vec<&export::Port> = Vec::new();
        let usable: Vec<&Usable<'_>> = served::endpoints(offer).collect();
        for port in &*self.service.ports {
            let served = || usable.iter().filter(|usable| usable.member.target(port).is_some()).count();
            let is_partial = || served() < usable.len() && !(self.all_ports && served() > 0);
            if port.protocol != export::Protocol::Tcp {
                missing.push(Condition::transport(port));
            } else if is_partial() {
                missing.push(Condition::partial(port, served(), usable.len()));
            } else if self.is_further && !is_told_by_name(istio_protocol(port)) {
                missing.push(Condition::needs_address(port));
            } else {
                if served() < usable.len() {
                    missing.push(Condition::kept(port, served(), usable.len()));
                }
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

/// Endpoints of a DNS entry that can be told apart by locality or network end the process of istiod 1.31, once any rule for
/// the host asks for levels by label: `failoverPriority`, whoever wrote it.
fn forget_place(endpoint: &mut Endpoint<'_>) {
    static NOWHERE: LazyLock<Locality> = LazyLock::new(Locality::default);
    (endpoint.locality, endpoint.network) = (&NOWHERE, Cow::Borrowed(""));
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

/// Whether a request says for which host it is: in HTTP, or by SNI. Without an address of its own Istio would take whatever
/// is sent to such a port's number for any other.
fn is_told_by_name(protocol: &str) -> bool {
    matches!(protocol, "HTTP" | "HTTP2" | "GRPC" | "HTTPS" | "TLS")
}

/// An endpoint that is reached directly; it weighs one unit.
fn endpoint<'a>(ports: &[&'a export::Port], usable: &Usable<'a>, unit: u32) -> Endpoint<'a> {
    let endpoint = usable.member.endpoint;
    let mapped = ports.iter().filter_map(|port| {
        // The merged service's port may be another cluster's; where it listens is for its own to say.
        let number = usable.member.target(port)?;
        (number != port.number).then(|| (port_name(port), number))
    });
    Endpoint {
        address: &endpoint.address,
        labels: Labels { cluster: usable.cluster.as_str(), workload: Cow::Borrowed(&endpoint.workload) },
        locality: &endpoint.locality,
        network: usable.network.map(model::locality::Network::as_str).unwrap_or_default().into(),
        ports: mapped.collect(),
        weight: (unit != 1).then_some(unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::head;
    use model::export::Head;

    #[test]
    fn protocols_are_selected_as_istio_does() {
        for (ports, protocol) in [
            ("http:1", "HTTP"),
            ("http-web:1", "HTTP"),
            ("http2-x:1", "HTTP2"),
            ("https:1", "HTTPS"),
            ("grpc-api:1", "GRPC"),
            ("tls-x:1", "TLS"),
            ("mongo:1", "MONGO"),
            ("tcp-http:1", "TCP"),
            ("web:1", "TCP"),
            ("httpx:1", "TCP"),
            (":1", "TCP"),
            // What is said outright counts more than a name.
            ("http:1@tcp", "TCP"),
            ("web:1@http", "HTTP"),
            ("web:1@HTTP", "HTTP"),
            ("web:1@kubernetes.io/h2c", "HTTP2"),
            ("web:1@kubernetes.io/ws", "HTTP"),
            ("web:1@kubernetes.io/wss", "HTTPS"),
            ("http:1@example.com/own", "TCP"),
        ] {
            let Head { ports: parsed, .. } = head(ports);
            assert_eq!(istio_protocol(&parsed[0]), protocol, "{ports}");
        }
    }
}
