//! Who a proxy says it is: an id, a locality, and metadata that istiod trusts.

use std::collections::HashMap;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use serde_json::{Map, json};

/// The Istio that the proxies are of.
const VERSION: &str = "1.31.0";

/// A proxy before it connects.
#[derive(Debug, Clone)]
pub struct XdsNode {
    kind: &'static str,
    address: IpAddr,
    namespace: String,
    locality: Locality,
    metadata: Map<String, serde_json::Value>,
}

impl XdsNode {
    /// The sidecar of a pod with this address.
    pub fn sidecar(namespace: &str, address: impl Into<IpAddr>) -> Self {
        Self::new("sidecar", namespace, address.into())
    }

    /// A gateway with this address.
    pub fn router(namespace: &str, address: impl Into<IpAddr>) -> Self {
        Self::new("router", namespace, address.into())
    }

    fn new(kind: &'static str, namespace: &str, address: IpAddr) -> Self {
        let fields = json!({
            "INSTANCE_IPS": address.to_string(),
            // Envoy listens on the loopback itself, since nothing is redirected to it.
            "INTERCEPTION_MODE": "NONE",
            "ISTIO_VERSION": VERSION,
            "LABELS": {"app": "client"},
            "NAMESPACE": namespace,
        });
        let metadata = fields.as_object().cloned().unwrap_or_default();
        Self { kind, address, namespace: namespace.to_owned(), locality: Locality::default(), metadata }
    }

    /// Where it is: `region/zone/subzone`, or less of it.
    #[must_use]
    pub fn locality(mut self, locality: &str) -> Self {
        let mut parts = locality.split('/').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        self.locality = Locality { region: part(), zone: part(), sub_zone: part() };
        self
    }

    /// What its pod sends to others is redirected to it, and it listens on no port of theirs.
    #[must_use]
    pub fn redirected(mut self) -> Self {
        self.metadata.insert("INTERCEPTION_MODE".to_owned(), "REDIRECT".into());
        self
    }

    /// A label of its pod, by which objects select it.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.metadata["LABELS"][key] = value.into();
        self
    }

    /// The network that it is on.
    #[must_use]
    pub fn network(mut self, network: &str) -> Self {
        self.metadata.insert("NETWORK".to_owned(), network.into());
        self
    }

    /// The networks whose endpoints it wants to see, with commas between them.
    #[must_use]
    pub fn view(mut self, networks: &str) -> Self {
        self.metadata.insert("REQUESTED_NETWORK_VIEW".to_owned(), networks.into());
        self
    }

    /// `sidecar` or `router`.
    pub(crate) const fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn proto(&self, cluster: &str) -> Node {
        Node {
            id: self.id(),
            locality: Some(self.locality.clone()),
            metadata: Some(structure(self.metadata(cluster))),
            ..Node::default()
        }
    }

    /// The same in Envoy's bootstrap.
    pub(crate) fn json(&self, cluster: &str) -> serde_json::Value {
        let Locality { region, zone, sub_zone } = &self.locality;
        json!({
            "id": self.id(),
            "cluster": format!("client.{}", self.namespace),
            "locality": {"region": region, "zone": zone, "sub_zone": sub_zone},
            "metadata": self.metadata(cluster),
        })
    }

    fn id(&self) -> String {
        let (kind, address, namespace) = (self.kind, self.address, &self.namespace);
        format!("{kind}~{address}~client.{namespace}~{namespace}.svc.cluster.local")
    }

    fn metadata(&self, cluster: &str) -> Map<String, serde_json::Value> {
        let mut metadata = self.metadata.clone();
        metadata.insert("CLUSTER_ID".to_owned(), cluster.into());
        metadata
    }
}

fn structure(map: Map<String, serde_json::Value>) -> Struct {
    Struct { fields: map.into_iter().map(|(key, of)| (key, value(of))).collect::<HashMap<_, _>>() }
}

/// Metadata is text, and maps of it.
fn value(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Object(map) => Kind::StructValue(structure(map)),
        serde_json::Value::String(text) => Kind::StringValue(text),
        other => Kind::StringValue(other.to_string()),
    };
    Value { kind: Some(kind) }
}
