//! Istio's Gateway, as far as it is written here: what east-west gateways let through. Fields are in the order of their
//! names: so is what is written.

use serde::Serialize;
use std::collections::BTreeMap;

/// `Gateway.spec`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Gateway {
    /// The pods that it is for.
    pub selector: BTreeMap<String, String>,
    /// What these let through.
    pub servers: Vec<Server>,
}

/// `Gateway.spec.servers[]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Server {
    /// Hosts, as patterns.
    pub hosts: Vec<String>,
    /// Where it listens.
    pub port: Port,
    /// What it does with TLS.
    pub tls: Tls,
}

/// `Gateway.spec.servers[].port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub number: u16,
    /// What Istio takes it for.
    pub protocol: &'static str,
}

/// `Gateway.spec.servers[].tls`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Tls {
    /// `AUTO_PASSTHROUGH` goes by the SNI to whatever this cluster's mesh has of that host.
    pub mode: &'static str,
}

// === impl Gateway ===

impl Gateway {
    /// Lets mutual TLS for these hosts through the pods that `selector` names.
    #[must_use]
    pub fn passing(hosts: Vec<String>, selector: BTreeMap<String, String>) -> Self {
        let port = Port { name: "tls", number: model::gateway::PORT, protocol: "TLS" };
        Self { selector, servers: vec![Server { hosts, port, tls: Tls { mode: "AUTO_PASSTHROUGH" } }] }
    }
}
