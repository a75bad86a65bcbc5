//! What a cluster of Envoy says, apart from its endpoints, as lines: which endpoints are encrypted and to whom, and how it
//! balances.

use anyhow::Context;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::LocalityConfigSpecifier;
use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, UpstreamTlsContext,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::value::Kind;
use prost::{Message, Name};

use crate::Result;

pub(super) fn text(cluster: &Cluster) -> Result<String> {
    let mut lines = Vec::new();
    for choice in &cluster.transport_socket_matches {
        let fields = choice.r#match.iter().flat_map(|fields| &fields.fields);
        let of = fields.map(|(key, value)| match &value.kind {
            Some(Kind::StringValue(value)) => format!("{key}={value}"),
            other => format!("{key}={other:?}"),
        });
        let of = of.collect::<Vec<_>>().join(",");
        let of = if of.is_empty() { "else".to_owned() } else { of };
        lines.push(format!("{of}: {}", socket(choice.transport_socket.as_ref())?));
    }
    if cluster.transport_socket.is_some() {
        lines.push(format!("all: {}", socket(cluster.transport_socket.as_ref())?));
    }
    if cluster.outlier_detection.is_some() {
        lines.push("outlier detection".to_owned());
    }
    let balancing = cluster.common_lb_config.as_ref().and_then(|common| common.locality_config_specifier.as_ref());
    match balancing {
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => lines.push("localities by weight".to_owned()),
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => lines.push("zone aware".to_owned()),
        None => {}
    }
    Ok(lines.join("\n"))
}

/// `plain`, or the SNI and the names of which the other side has to have one.
fn socket(socket: Option<&TransportSocket>) -> Result<String> {
    let socket = socket.context("no transport socket")?;
    let Some(ConfigType::TypedConfig(config)) = &socket.config_type else {
        return Ok(socket.name.clone());
    };
    if config.type_url != UpstreamTlsContext::type_url() {
        return Ok("plain".to_owned());
    }
    let tls = UpstreamTlsContext::decode(&*config.value)?;
    let validation = tls.common_tls_context.and_then(|common| common.validation_context_type);
    let names = match validation {
        Some(ValidationContextType::CombinedValidationContext(both)) => both.default_validation_context.map(names),
        Some(ValidationContextType::ValidationContext(one)) => Some(names(one)),
        _ => None,
    };
    let names =
        names.filter(|names| !names.is_empty()).map_or_else(|| "anybody".to_owned(), |names| names.join(" or "));
    Ok(format!("{} to {names}", tls.sni))
}

/// Whom it takes the other side for; istiod writes them in two places, by the proxy's version.
fn names(context: CertificateValidationContext) -> Vec<String> {
    let typed = context.match_typed_subject_alt_names.into_iter().filter_map(|typed| typed.matcher);
    #[expect(deprecated, reason = "istiod still writes it")]
    let plain = context.match_subject_alt_names;
    let name = |pattern| match pattern {
        Some(MatchPattern::Exact(name)) => name,
        other => format!("{other:?}"),
    };
    typed.chain(plain).map(|matcher| name(matcher.match_pattern)).collect()
}
