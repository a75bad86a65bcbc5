//! Kubernetes objects to our nouns, one object at a time, a module a kind. Pure. Decides what can be federated at all,
//! and says why not; whether it may be is for the rules, which the index applies.
//!
//! Kinds of which little is used are read into types of our own that hold nothing else, so that a page of whole
//! objects is never in memory.

/// Makes a slim type of ours a kind of the API: its group, the version that is asked for, and the name of its resource.
macro_rules! custom_resource {
    ($kind:ident, $group:expr, $version:expr, $plural:literal) => {
        impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = k8s_openapi::NamespaceResourceScope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                stringify!($kind).into()
            }

            fn group((): &()) -> std::borrow::Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> std::borrow::Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

pub mod gateway;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod service;
pub mod service_export;
pub mod slice;
pub mod workload_entry;

use crate::config::rules::Refusal;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{
    export::{Protocol, TLS_MODE_LABEL, Workload, can_be_a_label},
    locality::Network,
    name::ServiceKey,
};
use std::{collections::BTreeMap, sync::Arc};

/// Asks for a service to be federated, or with `"false"` leaves one out. As a label of a namespace, `"false"` leaves
/// out all of its services.
pub const EXPORT: &str = "federator.io/export";

/// Other names of a service, with commas or white space between them.
pub const ALIASES: &str = "federator.io/aliases";

/// With `"true"`, what this cluster has of the service has a host of its own in the mesh of every cluster.
pub const CLUSTER_HOST: &str = "federator.io/cluster-host";

/// What a service's name answers, whichever listener is asked: `endpoints`, `vip` or `cluster`.
pub const ANSWER_MODE: &str = "federator.io/dns-mode";

/// For how many seconds answers with a service's names may be kept.
pub const ANSWER_TTL: &str = "federator.io/dns-ttl";

/// The network of a Pod or WorkloadEntry, and on the root namespace of a mesh that of its cluster.
const NETWORK_LABEL: &str = "topology.istio.io/network";

/// Labels that other clusters are told of a workload: by the first three, the subsets of DestinationRules tell
/// versions apart, and by the last, Istio whether it takes mutual TLS.
const WORKLOAD_LABELS: [&str; 4] =
    ["version", "app.kubernetes.io/version", "service.istio.io/canonical-revision", TLS_MODE_LABEL];

/// Why an object is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeftOut {
    /// `default/kubernetes` is the API server of each cluster, not a service of the fleet.
    #[error("every cluster has its own API server")]
    ApiServer,
    /// A namespace that is not exported.
    #[error("export.namespaces: {0}")]
    Namespace(Refusal),
    /// A namespace that is labelled so.
    #[error("its namespace is labelled {EXPORT}: \"false\"")]
    NamespaceLabel,
    /// `type: ExternalName`.
    #[error("a service of type ExternalName has no endpoints")]
    ExternalName,
    /// `internalTrafficPolicy: Local`.
    #[error("internalTrafficPolicy is Local: it is for clients on its node (annotate {EXPORT}: \"true\")")]
    NodeLocal,
    /// Annotated so.
    #[error("annotated {EXPORT}: \"false\"")]
    Annotated,
    /// `export.mode` is `opt-in`.
    #[error("export.mode is opt-in: annotate {EXPORT}: \"true\", or make a ServiceExport")]
    NotAsked,
    /// A slice of something that is no address.
    #[error("addressType {0} is not supported")]
    AddressType(String),
    /// A slice that belongs to no service.
    #[error("no label {SERVICE_NAME_LABEL}", SERVICE_NAME_LABEL = slice::SERVICE_NAME_LABEL)]
    NoService,
    /// A slice that was imported from elsewhere.
    #[error("imported from another cluster")]
    Imported,
    /// A WorkloadEntry that names only a network.
    #[error("no address: it is reached through the gateways of its network alone")]
    NoAddress,
    /// A WorkloadEntry on a Unix socket.
    #[error("a Unix socket is on one machine only")]
    UnixSocket,
    /// A WorkloadEntry whose address is none.
    #[error("address `{0}` cannot be an endpoint's")]
    Address(String),
    /// A name that cannot be part of a DNS name.
    #[error(transparent)]
    Name(#[from] model::name::NameError),
    /// An object without a name.
    #[error("no name")]
    Unnamed,
}

/// The namespace and name of an object.
///
/// # Errors
/// [`LeftOut`], when there are none, or none that can be part of a DNS name.
pub fn key(meta: &ObjectMeta) -> Result<ServiceKey, LeftOut> {
    let name = meta.name.as_deref().ok_or(LeftOut::Unnamed)?;
    Ok(ServiceKey::parse(namespace_of(meta), name)?)
}

/// The namespace of an object: that of kubectl, where a manifest names none.
#[must_use]
pub fn namespace_of(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or("default")
}

/// Labels or annotations.
type Texts = BTreeMap<String, String>;

fn text<'a>(of: Option<&'a Texts>, name: &str) -> Option<&'a str> {
    of.and_then(|texts| texts.get(name)).map(String::as_str).filter(|text| !text.is_empty())
}

fn network(labels: Option<&Texts>) -> Option<Network> {
    text(labels, NETWORK_LABEL).map(Network::new)
}

fn workload(labels: Option<&Texts>, service_account: &str) -> Arc<Workload> {
    // A WorkloadEntry's labels may be any texts; those of a Pod are labels.
    let value = |name: &str| text(labels, name).filter(|value| can_be_a_label(name, value));
    let kept = WORKLOAD_LABELS.iter().filter_map(|name| Some(((*name).into(), value(name)?.into())));
    let workload = Workload { labels: kept.collect(), service_account: service_account.into() };
    if workload.is_unknown() { Workload::unknown() } else { Arc::new(workload) }
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn protocol(name: Option<&str>) -> Protocol {
    match name {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

#[cfg(test)]
mod tests;
