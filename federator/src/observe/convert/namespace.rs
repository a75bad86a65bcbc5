//! A Namespace: whether it takes part, and which network a mesh's root namespace names. Only the metadata is read.

use super::{EXPORT, network, text};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::locality::Network;

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceNamespace {
    /// The network it is labelled with.
    pub network: Option<Network>,
    /// Whether nothing of it is exported.
    pub denied: bool,
}

/// Reads a Namespace's metadata.
#[must_use]
pub fn namespace(meta: &ObjectMeta) -> SourceNamespace {
    let labels = meta.labels.as_ref();
    SourceNamespace { network: network(labels), denied: text(labels, EXPORT) == Some("false") }
}
