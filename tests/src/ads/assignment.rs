//! The endpoints of a cluster as a table: a line an endpoint, in an order that istiod does not promise.
//!
//! Networks and labels are not in what Envoy gets; istiod has used them by then.

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{HealthStatus, Locality};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use envoy_types::pb::google::protobuf::value::Kind;

/// The metadata by which a cluster finds the transport socket of an endpoint.
const MATCH: &str = "envoy.transport_socket_match";

pub(super) fn table(assignment: &ClusterLoadAssignment) -> String {
    let mut rows = Vec::new();
    for group in &assignment.endpoints {
        let locality = locality(group.locality.as_ref());
        rows.extend(group.lb_endpoints.iter().map(|endpoint| (group.priority, locality.clone(), row(endpoint))));
    }
    rows.sort();
    let rows: Vec<_> =
        rows.iter().map(|(priority, locality, (at, rest))| format!("P{priority} {locality} {at}{rest}")).collect();
    rows.join("\n")
}

/// Its parts without empty ones at the end, or a dash.
fn locality(locality: Option<&Locality>) -> String {
    let Some(Locality { region, zone, sub_zone }) = locality else {
        return "-".to_owned();
    };
    let all = format!("{region}/{zone}/{sub_zone}");
    let text = all.trim_end_matches('/');
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// Where it is, and the rest: ` x1` for its weight, ` istio` for mutual TLS, its health unless Envoy may find out itself.
fn row(endpoint: &LbEndpoint) -> (String, String) {
    let mut rest = endpoint.load_balancing_weight.map(|weight| format!(" x{}", weight.value)).unwrap_or_default();
    let metadata = endpoint.metadata.iter().filter_map(|metadata| metadata.filter_metadata.get(MATCH));
    for (key, value) in metadata.flat_map(|fields| &fields.fields) {
        match &value.kind {
            Some(Kind::StringValue(mode)) if key == "tlsMode" => rest.extend([" ", mode]),
            other => rest.push_str(&format!(" {key}={other:?}")),
        }
    }
    if endpoint.health_status() != HealthStatus::Unknown {
        rest.push_str(&format!(" {}", endpoint.health_status().as_str_name()));
    }
    (address(endpoint), rest)
}

fn address(endpoint: &LbEndpoint) -> String {
    let Some(HostIdentifier::Endpoint(at)) = &endpoint.host_identifier else {
        return "?".to_owned();
    };
    match at.address.as_ref().and_then(|address| address.address.as_ref()) {
        Some(Address::SocketAddress(socket)) => {
            let port = match &socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => port.to_string(),
                other => format!("{other:?}"),
            };
            format!("{}:{port}", socket.address)
        }
        other => format!("{other:?}"),
    }
}
