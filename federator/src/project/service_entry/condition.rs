//! What an entry does not hold of its service, and why: what Istio's ServiceEntry has no words for, and what its limits
//! keep out. An object that would be refused is never written; what is missing of it is said instead.

use crate::project::aliases::Refusal;
use model::{
    export::{Host, Port},
    reach::{self, LeftOut},
};
use std::fmt;

/// Why something is missing. The names are for people and for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A port that not every endpoint serves, left out or not. A ServiceEntry cannot leave an endpoint out of one port.
    PortPartial,
    /// A port of a host without an address of its own, on which nobody says for which host he comes.
    PortNeedsAddress,
    /// An alias that the service has not.
    AliasRefused,
    /// A port of a transport that a ServiceEntry does not know.
    PortTransport,
    /// More ports than an entry holds.
    TooManyPorts,
    /// More endpoints than an entry holds, or than an object may be large.
    TooManyEndpoints,
    /// No port is left, so there is no entry at all.
    NoPort,
    /// Endpoints on a network into which no gateway is known.
    NoGateway,
    /// Endpoints behind gateways that are host names of which no address is known.
    GatewayHostName,
    /// Endpoints behind gateways, where others are host names: what such an entry says of networks ends istiod.
    HostNames,
    /// Endpoints behind gateways that do not let the host through: they would reset every connection.
    GatewayDoesNotServeHost,
    /// Endpoints behind gateways whose own cluster has less of the service than this one: what comes for it would be reset.
    GatewayDoesNotServePort,
    /// Endpoints behind a gateway without the mutual TLS that is all it passes.
    NoMutualTls,
}

/// What is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Why.
    pub reason: Reason,
    /// What, for people.
    pub message: String,
}

// === impl Reason ===

impl Reason {
    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PortPartial => "PortPartial",
            Self::PortNeedsAddress => "PortNeedsAddress",
            Self::AliasRefused => "AliasRefused",
            Self::PortTransport => "PortTransport",
            Self::TooManyPorts => "TooManyPorts",
            Self::TooManyEndpoints => "TooManyEndpoints",
            Self::NoPort => "NoPort",
            Self::NoGateway => "NoGateway",
            Self::GatewayHostName => "GatewayHostName",
            Self::HostNames => "HostNames",
            Self::GatewayDoesNotServeHost => "GatewayDoesNotServeHost",
            Self::GatewayDoesNotServePort => "GatewayDoesNotServePort",
            Self::NoMutualTls => "NoMutualTls",
        }
    }
}

impl Reason {
    /// Whether it is nothing to who connects to addresses that the service's own host has.
    pub(in crate::project) fn is_of_address(self) -> bool {
        matches!(self, Self::PortNeedsAddress | Self::NoPort)
    }
}

// === impl Condition ===

impl Condition {
    /// What somebody has to do something about, of what cannot be reached.
    pub(super) fn out_of_reach(left_out: &LeftOut<'_>) -> Option<Self> {
        let reason = match left_out.reason {
            reach::Reason::OtherNetwork(_) => Reason::NoGateway,
            reach::Reason::NamedGateway(_) => Reason::GatewayHostName,
            reach::Reason::NotPassed(_) => Reason::GatewayDoesNotServeHost,
            reach::Reason::NotServed(_) => Reason::GatewayDoesNotServePort,
            reach::Reason::NoMutualTls(_) => Reason::NoMutualTls,
            reach::Reason::MeshOnly(_) | reach::Reason::NotReady | reach::Reason::HostName => return None,
        };
        Some(Self::of(reason, left_out.to_string()))
    }

    pub(super) fn host_names(behind: usize) -> Self {
        let why = "an entry with host names cannot tell networks apart";
        Self::of(Reason::HostNames, format!("{behind} endpoints behind gateways are left out: {why}"))
    }

    pub(super) fn partial(port: &Port, served: usize, endpoints: usize) -> Self {
        Self::of(Reason::PortPartial, format!("{port} is served by {served} of {endpoints} endpoints, and left out"))
    }

    pub(super) fn kept(port: &Port, served: usize, endpoints: usize) -> Self {
        let why = "the others refuse what comes for it";
        Self::of(Reason::PortPartial, format!("{port} is served by {served} of {endpoints} endpoints, and {why}"))
    }

    pub(super) fn needs_address(port: &Port) -> Self {
        let why = "only HTTP and TLS say for which host they come, and the host has no address of its own";
        Self::of(Reason::PortNeedsAddress, format!("{port} is left out: {why}"))
    }

    pub(in crate::project) fn alias(alias: &Host, refusal: &Refusal) -> Self {
        Self::of(Reason::AliasRefused, format!("{alias}: {refusal}"))
    }

    /// The same of a host beside the service's own.
    pub(in crate::project) fn of_host(self, host: &str) -> Self {
        Self { message: format!("{host}: {}", self.message), ..self }
    }

    pub(super) fn transport(port: &Port) -> Self {
        Self::of(Reason::PortTransport, format!("{port} is left out: a ServiceEntry knows TCP only"))
    }

    pub(super) fn ports(held: usize, of: usize) -> Self {
        Self::of(Reason::TooManyPorts, format!("{held} of {of} ports are held: an entry has room for no more"))
    }

    pub(super) fn endpoints(held: usize, of: usize) -> Self {
        Self::of(Reason::TooManyEndpoints, format!("{held} of {of} endpoints are held: an entry has room for no more"))
    }

    pub(in crate::project) fn no_port() -> Self {
        Self::of(Reason::NoPort, "no port is left, so there is no entry".to_owned())
    }

    fn of(reason: Reason, message: String) -> Self {
        Self { reason, message }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.message)
    }
}
