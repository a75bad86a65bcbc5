//! Kubernetes objects to our nouns, one object at a time. Pure. Decides what is federated at all, and says why not.

use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::{Endpoint as SourceEndpoint, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use model::{
    export::{Head, Health, Kind, Port, Protocol, TargetPort, can_be_an_endpoint},
    locality::Locality,
    name::{Label, ServiceKey},
};
use std::{net::IpAddr, sync::Arc};

/// Federates a service that is left out by default, or with `"false"` leaves one out.
pub const EXPORT_ANNOTATION: &str = "federator.io/export";

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Slices that another multi-cluster implementation imported; exporting them again would loop.
const IMPORTED_LABEL: &str = "multicluster.kubernetes.io/service-name";
const REGION_LABEL: &str = "topology.kubernetes.io/region";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const SUBZONE_LABEL: &str = "topology.istio.io/subzone";

/// Why an object is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeftOut {
    /// `default/kubernetes` is the API server of each cluster, not a service of the fleet.
    #[error("every cluster has its own API server")]
    ApiServer,
    /// A system namespace.
    #[error("namespaces `kube-*` and `*-system` are not federated")]
    SystemNamespace,
    /// `type: ExternalName`.
    #[error("a service of type ExternalName has no endpoints")]
    ExternalName,
    /// `internalTrafficPolicy: Local`.
    #[error("internalTrafficPolicy is Local: it is for clients on its node (annotate {EXPORT_ANNOTATION}: \"true\")")]
    NodeLocal,
    /// Annotated so.
    #[error("annotated {EXPORT_ANNOTATION}: \"false\"")]
    Annotated,
    /// A slice of host names.
    #[error("addressType {0} is not supported")]
    AddressType(String),
    /// A slice that belongs to no service.
    #[error("no label {SERVICE_NAME_LABEL}")]
    NoService,
    /// A slice that was imported from elsewhere.
    #[error("imported from another cluster")]
    Imported,
    /// A name that cannot be part of a DNS name.
    #[error(transparent)]
    Name(#[from] model::name::NameError),
    /// An object without a name.
    #[error("no name")]
    Unnamed,
}

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
    pub address: IpAddr,
    /// Whether it takes traffic.
    pub health: Health,
    /// Its own host name.
    pub hostname: Arc<str>,
    /// The node it runs on.
    pub node: Arc<str>,
    /// The zone, as the slice says.
    pub zone: Arc<str>,
}

/// The namespace and name of an object.
///
/// # Errors
/// [`LeftOut`], when there are none, or none that can be part of a DNS name.
pub fn key(meta: &ObjectMeta) -> Result<ServiceKey, LeftOut> {
    let name = meta.name.as_deref().ok_or(LeftOut::Unnamed)?;
    Ok(ServiceKey::parse(meta.namespace.as_deref().unwrap_or("default"), name)?)
}

/// A Service as the head of an export.
///
/// # Errors
/// [`LeftOut`] says why it is not federated.
pub fn head(service: &Service) -> Result<(ServiceKey, Head), LeftOut> {
    let key = key(&service.metadata)?;
    let spec = service.spec.clone().unwrap_or_default();
    let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(EXPORT_ANNOTATION));
    let exported = annotation.is_some_and(|value| value == "true");
    if (key.namespace.as_str(), key.name.as_str()) == ("default", "kubernetes") {
        return Err(LeftOut::ApiServer);
    }
    if is_system(&key.namespace) {
        return Err(LeftOut::SystemNamespace);
    }
    if annotation.is_some_and(|value| value == "false") {
        return Err(LeftOut::Annotated);
    }
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(LeftOut::ExternalName);
    }
    if spec.internal_traffic_policy.as_deref() == Some("Local") && !exported {
        return Err(LeftOut::NodeLocal);
    }
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let ips = spec.cluster_ips.or_else(|| spec.cluster_ip.map(|ip| vec![ip])).unwrap_or_default();
    let head = Head {
        kind: if headless { Kind::Headless } else { Kind::ClusterIp },
        ports: spec
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter_map(|port| {
                Some(Port {
                    name: port.name.unwrap_or_default().into(),
                    number: number(port.port)?,
                    protocol: protocol(port.protocol.as_deref()),
                    app_protocol: port.app_protocol.unwrap_or_default().into(),
                })
            })
            .collect(),
        cluster_ips: ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
        client_ip_affinity: spec.session_affinity.as_deref() == Some("ClientIP"),
        created: service.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
    };
    Ok((key, head))
}

/// An EndpointSlice.
///
/// # Errors
/// [`LeftOut`] says why it is not used.
pub fn slice(slice: &EndpointSlice) -> Result<SourceSlice, LeftOut> {
    let labels = slice.metadata.labels.as_ref();
    let label = |name: &str| labels.and_then(|labels| labels.get(name));
    if label(IMPORTED_LABEL).is_some() {
        return Err(LeftOut::Imported);
    }
    let name = label(SERVICE_NAME_LABEL).ok_or(LeftOut::NoService)?;
    if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
        return Err(LeftOut::AddressType(slice.address_type.clone()));
    }
    let service = ServiceKey::parse(slice.metadata.namespace.as_deref().unwrap_or("default"), name)?;
    let ports = slice.ports.iter().flatten().filter_map(|port| {
        Some(TargetPort {
            name: port.name.clone().unwrap_or_default().into(),
            // A slice port without number means "all ports", which no client can dial.
            number: number(port.port?)?,
            protocol: protocol(port.protocol.as_deref()),
        })
    });
    let mut read = SourceSlice { service, ports: ports.collect(), endpoints: vec![], refused: vec![] };
    for endpoint in &slice.endpoints {
        let Some(text) = endpoint.addresses.first() else {
            continue;
        };
        match text.parse().ok().filter(|address| can_be_an_endpoint(*address)) {
            Some(address) => read.endpoints.push(placed(endpoint, address)),
            None => read.refused.push(text.clone()),
        }
    }
    Ok(read)
}

fn placed(endpoint: &SourceEndpoint, address: IpAddr) -> PlacedEndpoint {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    // Unset means ready; serving defaults to ready (KEP-1672).
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    let health = match (ready, serving && conditions.terminating == Some(true)) {
        (true, _) => Health::Ready,
        (false, true) => Health::Draining,
        (false, false) => Health::NotReady,
    };
    PlacedEndpoint {
        address,
        health,
        hostname: endpoint.hostname.clone().unwrap_or_default().into(),
        node: endpoint.node_name.clone().unwrap_or_default().into(),
        zone: endpoint.zone.clone().unwrap_or_default().into(),
    }
}

/// Where a node runs, from its labels.
#[must_use]
pub fn node(meta: &ObjectMeta) -> Locality {
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str);
    Locality::new(label(REGION_LABEL), label(ZONE_LABEL), label(SUBZONE_LABEL))
}

fn is_system(namespace: &Label) -> bool {
    namespace.as_str().starts_with("kube-") || namespace.as_str().ends_with("-system")
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
