//! An EndpointSlice, whoever manages it. Where its endpoints run, and what they are, is partly for nodes and pods to
//! say: here is what the slice says, and whom to ask.

use super::{LeftOut, namespace_of, number, protocol, text};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use model::{
    export::{Address, Health, TargetPort},
    name::ServiceKey,
};
use std::sync::Arc;

/// The service that a slice is of.
pub(super) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Slices that another multi-cluster implementation imported; exporting them again would loop.
const IMPORTED_LABEL: &str = "multicluster.kubernetes.io/service-name";

/// An EndpointSlice, before its endpoints know where they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSlice {
    /// The service it is of.
    pub service: ServiceKey,
    /// Where its endpoints listen.
    pub ports: Vec<TargetPort>,
    /// Its endpoints.
    pub endpoints: Vec<PlacedEndpoint>,
    /// Addresses that were left out, because they cannot be another machine's.
    pub refused: Vec<String>,
}

/// An endpoint and where the slice says it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedEndpoint {
    /// Its address: the first, because all of them are equal to a client.
    pub address: Address,
    /// Whether it takes traffic.
    pub health: Health,
    /// Its own host name.
    pub hostname: Arc<str>,
    /// The node it runs on; empty when not said.
    pub node: Arc<str>,
    /// The zone, as the slice says; empty when it does not.
    pub zone: Arc<str>,
    /// The pod behind it, as `namespace/name`; empty when there is none.
    pub pod: Arc<str>,
}

/// Reads an EndpointSlice.
///
/// # Errors
/// [`LeftOut`] says why it is not used.
pub fn slice(slice: &EndpointSlice) -> Result<SourceSlice, LeftOut> {
    let labels = slice.metadata.labels.as_ref();
    if text(labels, IMPORTED_LABEL).is_some() {
        return Err(LeftOut::Imported);
    }
    let name = text(labels, SERVICE_NAME_LABEL).ok_or(LeftOut::NoService)?;
    let parse = match slice.address_type.as_str() {
        "IPv4" | "IPv6" => Address::parse_ip,
        "FQDN" => Address::parse_host,
        other => return Err(LeftOut::AddressType(other.to_owned())),
    };
    let namespace = namespace_of(&slice.metadata);
    let service = ServiceKey::parse(namespace, name)?;
    let ports = slice.ports.iter().flatten().filter_map(|port| {
        Some(TargetPort {
            name: port.name.clone().unwrap_or_default().into(),
            // A slice port without number means "all ports", which no client can dial.
            number: number(port.port?)?,
            protocol: protocol(port.protocol.as_deref()),
        })
    });
    let endpoints = Vec::with_capacity(slice.endpoints.len());
    let mut read = SourceSlice { service, ports: ports.collect(), endpoints, refused: vec![] };
    for endpoint in &slice.endpoints {
        let Some(text) = endpoint.addresses.first() else {
            continue;
        };
        match parse(text) {
            Some(address) => read.endpoints.push(placed(endpoint, address, namespace)),
            None => read.refused.push(text.clone()),
        }
    }
    Ok(read)
}

fn placed(endpoint: &Endpoint, address: Address, namespace: &str) -> PlacedEndpoint {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod")).and_then(|target| {
        let namespace = target.namespace.as_deref().unwrap_or(namespace);
        Some(format!("{namespace}/{}", target.name.as_deref()?).into())
    });
    PlacedEndpoint {
        address,
        health: health(endpoint),
        hostname: text(&endpoint.hostname),
        node: text(&endpoint.node_name),
        zone: text(&endpoint.zone),
        pod: pod.unwrap_or_default(),
    }
}

pub(super) fn health(endpoint: &Endpoint) -> Health {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    // Unset means ready; serving defaults to ready (KEP-1672). A controller writes a terminating endpoint down as
    // ready only for `publishNotReadyAddresses`, which asks for just that.
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    match (ready, serving && conditions.terminating == Some(true)) {
        (true, _) => Health::Ready,
        (false, true) => Health::Draining,
        (false, false) => Health::NotReady,
    }
}
