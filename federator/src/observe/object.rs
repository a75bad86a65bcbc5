//! The objects that are observed, and their names. Knows nothing of what they mean.

use super::convert::{
    gateway::Gateway, namespace_of, node::Node, pod::Pod, service_export::ServiceExport, workload_entry::WorkloadEntry,
};
use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::{fmt, sync::Arc};

/// An object's kind and name: what a delete needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for a Node and a Namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// The kinds that are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// core/v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// core/v1 Node, of which next to nothing is looked at.
    Node,
    /// core/v1 Pod, of which next to nothing is looked at.
    Pod,
    /// core/v1 Namespace, of which only the metadata is looked at.
    Namespace,
    /// networking.istio.io WorkloadEntry.
    WorkloadEntry,
    /// networking.istio.io Gateway, of which only what it lets through is looked at.
    Gateway,
    /// multicluster.x-k8s.io ServiceExport.
    ServiceExport,
}

/// An observed object.
#[derive(Clone, Debug)]
pub enum Object {
    /// A service.
    Service(Box<Service>),
    /// Some endpoints.
    EndpointSlice(Box<EndpointSlice>),
    /// A node.
    Node(Box<Node>),
    /// A pod.
    Pod(Box<Pod>),
    /// A namespace's metadata.
    Namespace(Box<ObjectMeta>),
    /// A workload that is no pod.
    WorkloadEntry(Box<WorkloadEntry>),
    /// What gateways let through.
    Gateway(Box<Gateway>),
    /// A wish that a service be exported.
    ServiceExport(Box<ServiceExport>),
}

// === impl Object ===

impl Object {
    /// Its kind and name.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        let (kind, meta) = match self {
            Self::Service(service) => (Kind::Service, &service.metadata),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, &slice.metadata),
            Self::Node(node) => (Kind::Node, &node.metadata),
            Self::Pod(pod) => (Kind::Pod, &pod.metadata),
            Self::Namespace(meta) => (Kind::Namespace, &**meta),
            Self::WorkloadEntry(entry) => (Kind::WorkloadEntry, &entry.metadata),
            Self::Gateway(gateway) => (Kind::Gateway, &gateway.metadata),
            Self::ServiceExport(export) => (Kind::ServiceExport, &export.metadata),
        };
        ObjectName::new(kind, meta)
    }
}

// === impl ObjectName ===

impl ObjectName {
    /// The name of an object of this kind with this metadata.
    #[must_use]
    pub fn new(kind: Kind, meta: &ObjectMeta) -> Self {
        let namespace = if kind.has_namespace() { namespace_of(meta) } else { "" };
        Self { kind, namespace: namespace.into(), name: meta.name.as_deref().unwrap_or_default().into() }
    }

    /// The name of an object by its [`Self::id`].
    pub(super) fn of_id(kind: Kind, id: &str) -> Self {
        let (namespace, name) = id.split_once('/').unwrap_or(("", id));
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// `namespace/name`, or the name of what is in no namespace.
    pub(super) fn id(&self) -> Arc<str> {
        if self.kind.has_namespace() { format!("{}/{}", self.namespace, self.name).into() } else { self.name.clone() }
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Service,
        Self::EndpointSlice,
        Self::Node,
        Self::Pod,
        Self::Namespace,
        Self::WorkloadEntry,
        Self::Gateway,
        Self::ServiceExport,
    ];

    fn has_namespace(self) -> bool {
        !matches!(self, Self::Node | Self::Namespace)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.has_namespace() {
            write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
        } else {
            write!(f, "{:?} {}", self.kind, self.name)
        }
    }
}
