//! A Service: the head of an export, and whom it selects. Whether it is exported is for the rules to say, which may
//! change; here is only what they ask for.

use super::{ALIASES, ANSWER_MODE, ANSWER_TTL, CLUSTER_HOST, EXPORT, LeftOut, key, number, protocol, text};
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use model::{
    export::{
        Affinity, AnswerMode, Answers, DEFAULT_AFFINITY_SECONDS, Exported, Families, Family, Head, Host, Hosts, Kind,
        MAX_AFFINITY_SECONDS, MAX_TTL, Port, Traffic, can_be_a_distribution,
    },
    name::ServiceKey,
};
use std::{collections::BTreeMap, net::IpAddr, slice, sync::Arc};

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
    /// What of its other annotations cannot be.
    pub trouble: Option<String>,
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
    let only = || spec.cluster_ip.as_ref().map(slice::from_ref);
    let ips = spec.cluster_ips.as_deref().or_else(only).unwrap_or_default();
    let ips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let ports = spec.ports.iter().flatten();
    let (ports, mut targets): (Vec<_>, Vec<_>) = ports.filter_map(port).unzip();
    // They are held as they are here, and have grown with room to spare.
    targets.shrink_to_fit();
    let annotations = service.metadata.annotations.as_ref();
    let (hosts, of_hosts) = hosts(annotations);
    let (answers, of_answers) = answers(annotations);
    let troubles: Vec<_> = of_hosts.into_iter().chain(of_answers).collect();
    let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
    let head = Head {
        kind: if headless { Kind::Headless } else { Kind::ClusterIp },
        ports: ports.into(),
        families: families(spec.ip_families.as_deref().unwrap_or_default(), &ips),
        cluster_ips: ips,
        traffic: traffic(&spec),
        exported: Exported::none(),
        hosts,
        answers,
        created: service.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
    };
    let annotated = match text(annotations, EXPORT) {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    };
    let selector = spec.selector.unwrap_or_default();
    Ok((key, SourceService { head: Arc::new(head), targets, selector, annotated, trouble }))
}

/// The hosts that it is to have beside its own, and what of that cannot be: of many aliases the good ones count.
fn hosts(annotations: Option<&BTreeMap<String, String>>) -> (Arc<Hosts>, Option<String>) {
    let aliases = text(annotations, ALIASES).unwrap_or_default();
    let per_cluster = text(annotations, CLUSTER_HOST) == Some("true");
    if aliases.is_empty() && !per_cluster {
        return (Hosts::none(), None);
    }
    let named = aliases.split(|c: char| c == ',' || c.is_whitespace()).filter(|text| !text.is_empty());
    let (good, bad): (Vec<_>, Vec<_>) = named.map(Host::parse).partition(Result::is_ok);
    let mut hosts = Hosts { aliases: good.into_iter().flatten().collect(), per_cluster };
    let mut wrong: Vec<_> = bad.into_iter().filter_map(Result::err).collect();
    if let Err(error) = hosts.check() {
        hosts.aliases.clear();
        wrong.push(error);
    }
    let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    (Arc::new(hosts), (!wrong.is_empty()).then(|| format!("{ALIASES}: {}", wrong.join("; "))))
}

/// How it wants to be answered, and what of that cannot be.
fn answers(annotations: Option<&BTreeMap<String, String>>) -> (Answers, Vec<String>) {
    let mut wrong = Vec::new();
    let mode = text(annotations, ANSWER_MODE).and_then(|text| {
        let mode = AnswerMode::parse(text);
        if mode.is_none() {
            let known = AnswerMode::ALL.map(AnswerMode::as_str).join(", ");
            wrong.push(format!("{ANSWER_MODE}: `{text}` is none of {known}"));
        }
        mode
    });
    let ttl = text(annotations, ANSWER_TTL).and_then(|text| {
        let ttl = text.parse().ok().filter(|ttl| *ttl <= MAX_TTL);
        if ttl.is_none() {
            wrong.push(format!("{ANSWER_TTL}: `{text}` is no number of seconds from 0 to {MAX_TTL}"));
        }
        ttl
    });
    (Answers { mode, ttl }, wrong)
}

/// What it says of its families; where it says nothing, its addresses do.
fn families(said: &[String], ips: &[IpAddr]) -> Families {
    let known = said.iter().filter_map(|family| match family.as_str() {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    });
    let known: Families = known.collect();
    if known.is_unknown() { ips.iter().map(|ip| Family::from(*ip)).collect() } else { known }
}

fn traffic(spec: &ServiceSpec) -> Traffic {
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|config| u32::try_from(config.timeout_seconds?).ok());
    // An API server writes the default where none is given, and lets no other time in.
    let seconds = seconds.filter(|seconds| (1..=MAX_AFFINITY_SECONDS).contains(seconds));
    let affinity = match spec.session_affinity.as_deref() {
        Some("ClientIP") => Affinity::ClientIp { seconds: seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS) },
        _ => Affinity::None,
    };
    let distribution = spec.traffic_distribution.as_deref().filter(|text| can_be_a_distribution(text));
    Traffic {
        affinity,
        node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        distribution: distribution.map(Into::into),
    }
}

fn port(port: &ServicePort) -> Option<(Port, Target)> {
    let own = number(port.port)?;
    let target = match &port.target_port {
        Some(IntOrString::String(name)) => Target::Name(name.as_str().into()),
        // An API server writes the port's own number where none is given.
        Some(IntOrString::Int(target)) => Target::Number(number(*target).unwrap_or(own)),
        None => Target::Number(own),
    };
    let known = Port {
        name: port.name.as_deref().unwrap_or_default().into(),
        number: own,
        protocol: protocol(port.protocol.as_deref()),
        app_protocol: port.app_protocol.as_deref().unwrap_or_default().into(),
    };
    Some((known, target))
}
