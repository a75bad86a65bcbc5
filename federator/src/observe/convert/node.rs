//! A Node: where it runs, and where it is reached from outside, for gateways on ports of nodes. Nothing else of it is kept,
//! and what is large is skipped while it is read.

use super::text;
use k8s_openapi::{Resource as _, api::core::v1::Node as WholeNode, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use model::{export::can_be_an_endpoint, locality::Locality};
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

/// What names the region, the old spelling last.
const REGION_LABELS: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
const ZONE_LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
const SUBZONE_LABELS: [&str; 1] = ["topology.istio.io/subzone"];

/// A Node as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Node {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    addresses: Vec<Typed>,
    conditions: Vec<Typed>,
}

/// An address or a condition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
    address: String,
    status: String,
}

/// What a Node says about what runs on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceNode {
    /// Where it runs.
    pub locality: Locality,
    /// How it is reached from outside of its network; hardly any Node is.
    pub outside: Option<Outside>,
}

/// A Node that is reached from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The address.
    pub address: IpAddr,
    /// Its labels, by which it may be chosen.
    pub labels: BTreeMap<String, String>,
    /// Whether it is in order.
    pub ready: bool,
}

/// Reads a Node. As in Istio its first ExternalIP counts, and no InternalIP, which is an address of its own network.
#[must_use]
pub fn node(node: &Node) -> SourceNode {
    let labels = node.metadata.labels.as_ref();
    let first = |names: &[&str]| names.iter().find_map(|name| text(labels, name)).unwrap_or_default();
    let external = node.status.addresses.iter().find(|of| of.kind == "ExternalIP" && !of.address.is_empty());
    let address = external.and_then(|of| of.address.parse().ok()).filter(|address| can_be_an_endpoint(*address));
    // In manifests there is no condition.
    let ready = node.status.conditions.iter().find(|of| of.kind == "Ready").is_none_or(|of| of.status == "True");
    SourceNode {
        locality: Locality::new(first(&REGION_LABELS), first(&ZONE_LABELS), first(&SUBZONE_LABELS)),
        outside: address.map(|address| Outside { address, labels: labels.cloned().unwrap_or_default(), ready }),
    }
}

impl Resource for Node {
    type DynamicType = ();
    type Scope = <WholeNode as k8s_openapi::Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        WholeNode::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        WholeNode::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        WholeNode::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        <WholeNode as k8s_openapi::Resource>::URL_PATH_SEGMENT.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_node_is_reached_from_outside_where_it_has_an_external_address() {
        let check = |addresses: Value, conditions: Value, expected: &str| {
            let text = json!({"metadata": {"name": "a", "labels": {"edge": "yes"}}, "status": {
                "addresses": addresses, "conditions": conditions, "images": [{"names": ["x"]}]}});
            let found = node(&serde_json::from_value(text).expect("a Node")).outside;
            let shown = found.map(|outside| {
                format!("{}{} {:?}", outside.address, if outside.ready { "" } else { " not ready" }, outside.labels)
            });
            assert_eq!(shown.unwrap_or_default(), expected);
        };
        let of = |kind: &str, address: &str| json!({"type": kind, "address": address});
        let (inside, outside) = (of("InternalIP", "10.0.0.1"), of("ExternalIP", "192.0.2.1"));
        let labels = r#"{"edge": "yes"}"#;
        check(json!([inside]), json!([]), "");
        check(json!([inside, outside, of("ExternalIP", "192.0.2.2")]), json!([]), &format!("192.0.2.1 {labels}"));
        check(json!([of("ExternalIP", ""), of("ExternalIP", "fd00::1")]), json!([]), &format!("fd00::1 {labels}"));
        check(json!([of("ExternalIP", "127.0.0.1")]), json!([]), "");
        let ready =
            |status: &str| json!([{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": status}]);
        check(json!([outside]), ready("True"), &format!("192.0.2.1 {labels}"));
        check(json!([outside]), ready("Unknown"), &format!("192.0.2.1 not ready {labels}"));
        assert_eq!(node(&Node::default()), SourceNode::default());
    }
}
