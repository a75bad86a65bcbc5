//! What one cluster asserts about one service: a head (what it is) and slices of endpoints that mirror the source's
//! EndpointSlices. Knows nothing of other clusters, and nothing of Kubernetes' own types.

mod answers;
mod endpoint;
mod exported;
mod hosts;
mod members;
mod slices;
mod traffic;

pub use answers::{AnswerMode, Answers, MAX_TTL};
pub use endpoint::{Address, Endpoint, Health, TLS_MODE_LABEL, Traits, Workload, can_be_a_label, can_be_an_endpoint};
pub use exported::{Exported, ExportedError, Texts};
pub use hosts::{Host, HostError, Hosts, of_cluster, per_cluster};
pub use members::Member;
pub use slices::Slices;
pub use traffic::{
    Affinity, DEFAULT_AFFINITY_SECONDS, Families, Family, MAX_AFFINITY_SECONDS, Traffic, can_be_a_distribution,
};

use std::{fmt, net::IpAddr, sync::Arc};

/// One cluster's assertion about one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// What the service is.
    pub head: Arc<Head>,
    /// Its endpoints, by the name of the EndpointSlice they stand in, or whatever else they were made of.
    pub slices: Slices,
}

/// What a service is, apart from its endpoints: a service without endpoints exists too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Whether it has an address of its own.
    pub kind: Kind,
    /// Its ports, in the order of the source.
    pub ports: Arc<[Port]>,
    /// Its addresses in its own cluster, at most one a family; none when headless.
    pub cluster_ips: Vec<IpAddr>,
    /// The families that it has addresses of, headless or not.
    pub families: Families,
    /// How its traffic is spread over its endpoints.
    pub traffic: Traffic,
    /// What is said of it in other clusters.
    pub exported: Arc<Exported>,
    /// The hosts that it is to have beside its own.
    pub hosts: Arc<Hosts>,
    /// How it wants to be answered by name.
    pub answers: Answers,
    /// `metadata.creationTimestamp`, in seconds since 1970; orders exports only where no store does.
    pub created: i64,
}

/// Whether a service has a virtual address in its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It has (`ClusterIP`, `NodePort`, `LoadBalancer`).
    #[default]
    ClusterIp,
    /// It has none; clients want its endpoints (`clusterIP: None`).
    Headless,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Its name; empty for the only port of a service.
    pub name: Arc<str>,
    /// The number clients connect to.
    pub number: u16,
    /// Its transport.
    pub protocol: Protocol,
    /// What is spoken on it (`appProtocol`), empty when not said.
    pub app_protocol: Arc<str>,
}

/// The endpoints of one EndpointSlice, and the ports on which all of them listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Where the endpoints listen, matched to the service's ports by name.
    pub ports: Arc<[TargetPort]>,
    /// The endpoints, in the order of the source.
    pub endpoints: Vec<Endpoint>,
}

/// Where the endpoints of a slice listen for one of the service's ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetPort {
    /// The name of the service's port.
    pub name: Arc<str>,
    /// The number endpoints listen on.
    pub number: u16,
    /// Its transport.
    pub protocol: Protocol,
}

// === impl Export ===

impl Export {
    /// Its endpoints, each address once, in the order of their addresses. How they are spread over slices, and how
    /// the slices are called, makes no difference.
    pub fn endpoints(&self) -> impl Iterator<Item = Member<'_>> {
        members::members(&self.head.ports, self.slices.values().map(|slice| &**slice))
    }

    /// How many endpoints are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.endpoints().filter(|member| member.endpoint.health == Health::Ready).count()
    }
}

// === impl Kind ===

impl Kind {
    /// The name it has in the MCS API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterSetIP",
            Self::Headless => "Headless",
        }
    }
}

// === impl Protocol ===

impl Protocol {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// As a label of an SRV owner name (RFC 2782).
    #[must_use]
    pub fn srv_label(self) -> &'static str {
        match self {
            Self::Tcp => "_tcp",
            Self::Udp => "_udp",
            Self::Sctp => "_sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, "({})", self.name) }
    }
}
