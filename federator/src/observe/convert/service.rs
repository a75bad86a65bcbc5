//! A Service: the head of an export, and whom it selects. Whether it is exported is for the rules to say, which may
//! change; here is only what they ask for.

use super::{EXPORT, LeftOut, key, number, protocol, text};
use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use model::{
    export::{Head, Kind, Port},
    name::ServiceKey,
};
use std::{collections::BTreeMap, sync::Arc};

/// A Service, as far as it can be federated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceService {
    /// The head of its export.
    pub head: Arc<Head>,
    /// Where its ports lead, in their order.
    pub targets: Vec<Target>,
    /// The labels of those it leads to; empty when others make its endpoints.
    pub selector: BTreeMap<String, String>,
    /// What its annotation says about exporting.
    pub annotated: Option<bool>,
    /// Whether it is for clients on the same node.
    pub node_local: bool,
}

/// Where a port of a service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a port of this number.
    Number(u16),
    /// To the port of this name.
    Name(Arc<str>),
}

/// Reads a Service.
///
/// # Errors
/// [`LeftOut`] says why it can never be federated.
pub fn service(service: &Service) -> Result<(ServiceKey, SourceService), LeftOut> {
    let key = key(&service.metadata)?;
    let spec = service.spec.clone().unwrap_or_default();
    if (key.namespace.as_str(), key.name.as_str()) == ("default", "kubernetes") {
        return Err(LeftOut::ApiServer);
    }
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(LeftOut::ExternalName);
    }
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let ips = spec.cluster_ips.or_else(|| spec.cluster_ip.map(|ip| vec![ip])).unwrap_or_default();
    let (ports, mut targets): (Vec<_>, Vec<_>) = spec.ports.unwrap_or_default().into_iter().filter_map(port).unzip();
    // They are held as they are here, and have grown with room to spare.
    targets.shrink_to_fit();
    let head = Head {
        kind: if headless { Kind::Headless } else { Kind::ClusterIp },
        ports: ports.into(),
        cluster_ips: ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
        client_ip_affinity: spec.session_affinity.as_deref() == Some("ClientIP"),
        created: service.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
    };
    let annotated = match text(service.metadata.annotations.as_ref(), EXPORT) {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    };
    let node_local = spec.internal_traffic_policy.as_deref() == Some("Local");
    let selector = spec.selector.unwrap_or_default();
    Ok((key, SourceService { head: Arc::new(head), targets, selector, annotated, node_local }))
}

fn port(port: ServicePort) -> Option<(Port, Target)> {
    let own = number(port.port)?;
    let target = match port.target_port {
        Some(IntOrString::String(name)) => Target::Name(name.into()),
        // An API server writes the port's own number where none is given.
        Some(IntOrString::Int(target)) => Target::Number(number(target).unwrap_or(own)),
        None => Target::Number(own),
    };
    let known = Port {
        name: port.name.unwrap_or_default().into(),
        number: own,
        protocol: protocol(port.protocol.as_deref()),
        app_protocol: port.app_protocol.unwrap_or_default().into(),
    };
    Some((known, target))
}
