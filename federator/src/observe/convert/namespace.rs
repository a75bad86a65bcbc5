//! A Namespace: whether it takes part, how Istio takes in its Pods, and which network a mesh's root namespace names. Only the metadata is read.

use super::{EXPORT, network, text};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::locality::Network;

/// How Istio takes in Pods that have no sidecar.
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceNamespace {
    /// The network it is labelled with.
    pub network: Option<Network>,
    /// Whether nothing of it is exported.
    pub denied: bool,
    /// Whether its Pods are in Istio's mesh without sidecars.
    pub ambient: bool,
}

/// Reads a Namespace's metadata.
#[must_use]
pub fn namespace(meta: &ObjectMeta) -> SourceNamespace {
    let labels = meta.labels.as_ref();
    SourceNamespace {
        network: network(labels),
        denied: text(labels, EXPORT) == Some("false"),
        ambient: text(labels, DATAPLANE_MODE) == Some("ambient"),
    }
}
