//! East-west gateways as Istio finds them: a Service that is labelled with the network that it leads into; and Istio's
//! `Gateway` objects, as far as they say which hosts such a gateway lets through (`AUTO_PASSTHROUGH`).

pub use super::workload_entry::{GROUP, VERSIONS};
use super::{NETWORK_LABEL, text};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use model::{
    export::Address,
    gateway::{self, Passed},
    locality::Network,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The port of a gateway's Service, where it is not 15443.
const PORT_LABEL: &str = "networking.istio.io/gatewayPort";

/// The mode of a server that passes mutual TLS through by its SNI.
const AUTO_PASSTHROUGH: &str = "AUTO_PASSTHROUGH";

/// A `Gateway` as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Gateway {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    selector: BTreeMap<String, String>,
    servers: Vec<Server>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    hosts: Vec<String>,
    tls: Option<Tls>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Tls {
    mode: String,
}

/// Which nodes are ways in to a gateway of type NodePort, as JSON of labels; `{}` stands for all.
const NODE_SELECTOR: &str = "traffic.istio.io/nodeSelector";

/// The Service in front of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceEntrance {
    /// Its ways in; none while it has no address.
    pub gateways: Vec<gateway::Gateway>,
    /// The nodes on which it has a port.
    pub nodes: Option<OnNodes>,
    /// Which pods are behind it.
    pub selector: BTreeMap<String, String>,
    /// Why it has no way in.
    pub trouble: Option<String>,
}

/// A gateway on a port of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnNodes {
    /// The network that it leads into.
    pub network: Network,
    /// The labels of the nodes that are meant.
    pub selector: BTreeMap<String, String>,
    /// The port that they all have for it.
    pub port: u16,
}

/// What a `Gateway` object lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePassage {
    /// Which pods it is for; empty for all.
    pub selector: BTreeMap<String, String>,
    /// The hosts.
    pub passed: Vec<Passed>,
}

/// Reads a Service that may be in front of an east-west gateway; `None` when it is not.
#[must_use]
pub fn entrance(service: &Service) -> Option<SourceEntrance> {
    let network = Network::new(text(service.metadata.labels.as_ref(), NETWORK_LABEL)?);
    let label = text(service.metadata.labels.as_ref(), PORT_LABEL);
    let number = label.and_then(|text| text.parse().ok()).unwrap_or(gateway::PORT);
    let spec = service.spec.clone().unwrap_or_default();
    let mut found = SourceEntrance {
        gateways: Vec::new(),
        nodes: None,
        selector: spec.selector.unwrap_or_default(),
        trouble: None,
    };
    let Some(port) = spec.ports.iter().flatten().find(|port| port.port == i32::from(number)) else {
        found.trouble = Some(format!("leads into network {network}, and has no port {number}"));
        return Some(found);
    };
    let selector = text(service.metadata.annotations.as_ref(), NODE_SELECTOR);
    let is_on_nodes = spec.type_.as_deref() == Some("NodePort");
    let selector = selector.filter(|_| is_on_nodes).map(serde_json::from_str::<BTreeMap<String, String>>);
    if let (Some(Ok(selector)), Some(port)) = (&selector, port.node_port.and_then(super::number)) {
        found.nodes = Some(OnNodes { network: network.clone(), selector: selector.clone(), port });
    }
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let given = ingress.filter_map(|ingress| ingress.ip.as_deref().or(ingress.hostname.as_deref()));
    let given = given.chain(spec.external_ips.iter().flatten().map(String::as_str));
    let mut refused = Vec::new();
    for text in given {
        match Address::parse_ip(text).or_else(|| Address::parse_host(text)) {
            Some(address) => found.gateways.push(gateway::Gateway { network: network.clone(), address, port: number }),
            None => refused.push(text),
        }
    }
    found.gateways.sort();
    found.gateways.dedup();
    found.trouble = match (refused.as_slice(), found.gateways.is_empty() && found.nodes.is_none()) {
        _ if matches!(selector, Some(Err(_))) => Some(format!("its annotation {NODE_SELECTOR} is no JSON of labels")),
        ([], false) => None,
        ([], true) if is_on_nodes && selector.is_none() => Some(format!(
            "leads into network {network}, and has no address: annotate which nodes are ways in, {NODE_SELECTOR}: '{{}}' for \
             all"
        )),
        ([], true) => Some(format!(
            "leads into network {network}, and has no address yet: no load balancer's, and no externalIPs"
        )),
        (refused, _) => Some(format!("addresses that cannot be a gateway's: {}", refused.join(", "))),
    };
    Some(found)
}

/// Reads a `Gateway`; `None` when it lets nothing through by its SNI.
#[must_use]
pub fn passage(gateway: &Gateway) -> Option<SourcePassage> {
    let is_open = |server: &&Server| server.tls.as_ref().is_some_and(|tls| tls.mode == AUTO_PASSTHROUGH);
    let open = gateway.spec.servers.iter().filter(is_open);
    let namespace = gateway.metadata.namespace.as_deref().unwrap_or_default();
    let mut passed: Vec<Passed> = open
        .flat_map(|server| &server.hosts)
        .map(|host| match host.strip_prefix("./") {
            // The Gateway's own namespace.
            Some(host) => Passed::new(&format!("{namespace}/{host}")),
            None => Passed::new(host),
        })
        .collect();
    passed.sort();
    passed.dedup();
    (!passed.is_empty()).then(|| SourcePassage { selector: gateway.spec.selector.clone(), passed })
}

// === impl SourcePassage ===

impl SourcePassage {
    /// Whether it is for the pods behind a Service: surely, where these have all that it asks for.
    #[must_use]
    pub fn is_for(&self, entrance: &SourceEntrance) -> bool {
        self.selector.iter().all(|(name, value)| entrance.selector.get(name) == Some(value))
    }
}

custom_resource!(Gateway, GROUP, VERSIONS[0], "gateways");

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: &Value, status: &Value) -> Service {
        let labels = json!({"topology.istio.io/network": "n2"});
        serde_json::from_value(json!({"metadata": {"labels": labels}, "spec": spec, "status": status}))
            .expect("a Service")
    }

    fn shown(found: &SourceEntrance) -> String {
        let gateway = |gateway: &gateway::Gateway| format!("{}@{}:{}", gateway.network, gateway.address, gateway.port);
        let gateways: Vec<String> = found.gateways.iter().map(gateway).collect();
        format!("{}{}", gateways.join(" "), found.trouble.as_deref().unwrap_or_default())
    }

    #[test]
    fn a_service_with_a_network_is_a_way_into_it() {
        let ports = json!([{"port": 15021}, {"port": 15443}]);
        let ip = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}, {"ip": "192.0.2.7"}]}});
        let host = json!({"loadBalancer": {"ingress": [{"hostname": "GW.example."}, {"ip": "127.0.0.1"}]}});
        for (spec, status, expected) in [
            (json!({"ports": ports}), ip.clone(), "n2@192.0.2.7:15443"),
            (json!({"ports": ports}), host, "n2@gw.example:15443addresses that cannot be a gateway's: 127.0.0.1"),
            (json!({"ports": ports, "externalIPs": ["192.0.2.9"]}), json!({}), "n2@192.0.2.9:15443"),
            (
                json!({"ports": ports}),
                json!({}),
                "leads into network n2, and has no address yet: no load balancer's, and no externalIPs",
            ),
            (json!({"ports": [{"port": 80}]}), ip, "leads into network n2, and has no port 15443"),
        ] {
            assert_eq!(shown(&entrance(&service(&spec, &status)).expect("a gateway's")), expected);
        }
        assert_eq!(entrance(&Service::default()), None);
    }

    #[test]
    fn a_gateway_on_nodes_says_which() {
        let check = |kind: &str, annotation: Option<&str>, expected: &str| {
            let ports = json!([{"port": 15021, "nodePort": 30021}, {"port": 15443, "nodePort": 30443}]);
            let mut service = service(&json!({"type": kind, "ports": ports}), &json!({}));
            service.metadata.annotations = annotation.map(|text| [(NODE_SELECTOR.to_owned(), text.to_owned())].into());
            let found = entrance(&service).expect("a gateway's");
            let nodes = found.nodes.as_ref().map(|on| format!("{} {:?}:{}", on.network, on.selector, on.port));
            assert_eq!(nodes.unwrap_or_default() + found.trouble.as_deref().unwrap_or_default(), expected);
        };
        check("NodePort", Some(r#"{"edge":"yes"}"#), r#"n2 {"edge": "yes"}:30443"#);
        check("NodePort", Some("{}"), "n2 {}:30443");
        check("NodePort", Some("edge=yes"), "its annotation traffic.istio.io/nodeSelector is no JSON of labels");
        check(
            "NodePort",
            None,
            "leads into network n2, and has no address: annotate which nodes are ways in, traffic.istio.io/nodeSelector: \
             '{}' for all",
        );
        // Ports of nodes that are behind a load balancer are its own to use.
        let none = "leads into network n2, and has no address yet: no load balancer's, and no externalIPs";
        check("LoadBalancer", Some("{}"), none);
    }

    #[test]
    fn a_gateway_has_the_port_that_it_says() {
        let mut service = service(&json!({"ports": [{"port": 443}], "externalIPs": ["192.0.2.9"]}), &json!({}));
        service.metadata.labels.get_or_insert_default().insert(PORT_LABEL.to_owned(), "443".to_owned());
        assert_eq!(shown(&entrance(&service).expect("a gateway's")), "n2@192.0.2.9:443");
    }

    #[test]
    fn servers_that_end_tls_let_nothing_through() {
        let gateway = |mode: &str, hosts: Value| -> Gateway {
            let server = json!({"port": {"number": 15443}, "tls": {"mode": mode}, "hosts": hosts});
            let spec = json!({"selector": {"istio": "eastwest"}, "servers": [server, {"hosts": ["*"]}]});
            serde_json::from_value(json!({"metadata": {"namespace": "gw"}, "spec": spec})).expect("a Gateway")
        };
        let found = passage(&gateway("AUTO_PASSTHROUGH", json!(["*.local", "./*.global"]))).expect("it is open");
        assert_eq!(found.passed, ["*.local", "gw/*.global"].map(Passed::new));
        assert_eq!(passage(&gateway("PASSTHROUGH", json!(["*"]))), None);
        let mut entrance = SourceEntrance { gateways: vec![], nodes: None, selector: BTreeMap::new(), trouble: None };
        assert!(!found.is_for(&entrance));
        entrance.selector.extend([("istio", "eastwest"), ("app", "gw")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert!(found.is_for(&entrance));
    }
}
