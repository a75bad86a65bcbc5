//! How names are answered, and to whom, as checked. What the fields do is described where they are [typed](file::Dns).

use super::{ConfigError, field, file, gateways::nameservers};
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZero,
    time::Duration,
};

/// What answers names.
#[derive(Clone, Debug)]
pub struct Dns {
    /// Where, and what kind of answer is given there.
    pub listeners: Vec<file::Listener>,
    /// The addresses of the zone's name server, as far as they are known.
    pub addresses: Vec<IpAddr>,
    /// Seconds an answer may be kept.
    pub ttl: u32,
    /// The longest time that a service may ask for, in seconds.
    pub longest_ttl: u32,
    /// Seconds the answer that there is none may be kept.
    pub negative_ttl: u32,
    /// With fewer endpoints than these, farther ones are answered too.
    pub min_answers: usize,
    /// Most addresses in one answer, but for headless services.
    pub max_answers: NonZero<u16>,
    /// Who is answered; empty for everybody.
    pub allow: Vec<IpNet>,
    /// What a client may ask.
    pub limits: Limits,
    /// Who is asked for names that are not ours; empty to refuse them.
    pub forward: Vec<SocketAddr>,
    /// Whether they are asked for names in the zone that the fleet does not have.
    pub forward_unknown: bool,
    /// Who is asked for the addresses of endpoints that are host names; empty for those of the machine.
    pub nameservers: Vec<SocketAddr>,
    /// For how long the store may be lost until what is known counts as stale, and whether nothing is answered then.
    pub stale: (Duration, file::Stale),
    /// Whether each query is logged.
    pub query_log: bool,
}

/// What a client may ask of a listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Whose queries are many clients'.
    pub forwarders: Vec<IpNet>,
    /// Queries a second over UDP from one client.
    pub client_queries: Option<NonZero<u32>>,
    /// Connections from one client.
    pub client_connections: Option<NonZero<usize>>,
    /// Connections from all clients.
    pub connections: usize,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// Queries under way for names that are not ours.
    pub forwarded: usize,
}

// === impl Dns ===

impl Dns {
    /// `rest` is for how long a virtual address is nobody's when its service is gone.
    pub(super) fn check(typed: file::Dns, rest: Duration) -> Result<Self, ConfigError> {
        let file::Dns { ttl, min_answers, max_answers, .. } = typed;
        if min_answers > max_answers.get() {
            return Err(field(
                "dns.minAnswers",
                format!("`{min_answers}` is more than `dns.maxAnswers`, {max_answers}"),
            ));
        }
        if rest <= Duration::from_secs(ttl.into()) {
            return Err(field("vips.restSeconds", "give more than `dns.ttl`: a cached answer must not outlive it"));
        }
        if let Some(own) = typed.forward.iter().find(|server| typed.listeners.iter().any(|own| own.address == **server))
        {
            return Err(field("dns.forward", format!("`{own}` is one of `dns.listeners`: it would ask itself")));
        }
        let forward_unknown = typed.unknown == file::Unknown::Forward;
        if forward_unknown && typed.forward.is_empty() {
            return Err(field("dns.unknown", "`forward` needs servers in `dns.forward`"));
        }
        let mut addresses = typed.addresses;
        if addresses.is_empty() {
            let own = typed.listeners.iter().map(|listener| listener.address.ip());
            addresses.extend(own.filter(|address| !address.is_unspecified()));
        }
        Ok(Self {
            listeners: typed.listeners,
            addresses,
            ttl,
            longest_ttl: u32::try_from(rest.as_secs() - 1).unwrap_or(u32::MAX),
            negative_ttl: typed.negative_ttl,
            min_answers: min_answers.into(),
            max_answers,
            allow: typed.allow,
            limits: Limits::new(typed.limits),
            forward: typed.forward,
            forward_unknown,
            nameservers: nameservers("dns.nameservers", &typed.nameservers)?,
            stale: (Duration::from_secs(typed.stale_after_seconds.into()), typed.stale),
            query_log: typed.query_log,
        })
    }
}

// === impl Limits ===

impl Limits {
    fn new(typed: file::DnsLimits) -> Self {
        let size = |number: NonZero<u32>| usize::try_from(number.get()).unwrap_or(usize::MAX);
        Self {
            forwarders: typed.forwarders,
            client_queries: NonZero::new(typed.client_queries),
            client_connections: NonZero::new(usize::try_from(typed.client_connections).unwrap_or(usize::MAX)),
            connections: size(typed.connections),
            idle: Duration::from_secs(typed.idle_seconds.get().into()),
            forwarded: size(typed.forwarded),
        }
    }
}
