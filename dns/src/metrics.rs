//! What the server counts.
//!
//! A counter is made when there is first something to count, and reached by index from then on, so that counting a query is
//! one atomic addition: no lock, no lookup by label. Names get their prefix from the registry they are put into.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::policy::Admission;
use crate::reply::Replied;

/// The codes that this server can give, and their names in the IANA registry.
const RCODES: [(ResponseCode, &str); 7] = [
    (ResponseCode::NoError, "NOERROR"),
    (ResponseCode::FormErr, "FORMERR"),
    (ResponseCode::ServFail, "SERVFAIL"),
    (ResponseCode::NXDomain, "NXDOMAIN"),
    (ResponseCode::NotImp, "NOTIMP"),
    (ResponseCode::Refused, "REFUSED"),
    (ResponseCode::BADVERS, "BADVERS"),
];

/// The types that are counted by their name, and the one for all others.
const TYPES: [(RecordType, &str); 9] = [
    (RecordType::A, "A"),
    (RecordType::AAAA, "AAAA"),
    (RecordType::SRV, "SRV"),
    (RecordType::TXT, "TXT"),
    (RecordType::PTR, "PTR"),
    (RecordType::SOA, "SOA"),
    (RecordType::NS, "NS"),
    (RecordType::HTTPS, "HTTPS"),
    (RecordType::ANY, "ANY"),
];
const OTHER_TYPE: &str = "other";

/// Where a name is in no zone.
const NO_ZONE: &str = "none";

/// In seconds: a lookup takes less than a microsecond, and only who must wait for a processor takes a thousand.
const DURATIONS: [f64; 7] = [1e-6, 2e-6, 5e-6, 1e-5, 1e-4, 1e-3, 1e-2];

/// How a message came, and how its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One message, one datagram.
    Udp,
    /// Many messages, one connection (RFC 7766).
    Tcp,
}

const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];

/// Counters of one or several listeners; clones count into the same ones. By default of no zones, and in no registry.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// The names of groups of zones.
    groups: Arc<[&'static str]>,
    family: Family<Labels, Counter>,
    /// By group, type, code and transport.
    replies: Arc<[OnceLock<Counter>]>,
    durations: Histogram,
    truncated: Counter,
    limited: Family<By, Counter>,
    slowed: Counter,
    prohibited: Counter,
    dropped: Counter,
    forwarded: Counter,
    pub(crate) tcp_connections: Gauge,
    pub(crate) tcp_turned_away: Counter,
}

/// Counted among the open connections for as long as it lives.
pub(crate) struct Open(Gauge);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    zone: &'static str,
    r#type: &'static str,
    rcode: &'static str,
    transport: Transport,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    by: &'static str,
}

// === impl Metrics ===

impl Metrics {
    /// Counters for zones of these groups, which [`Zone::set_group`](crate::Zone::set_group) numbers, in no registry.
    #[must_use]
    pub fn new(groups: &[&'static str]) -> Self {
        let groups: Arc<[_]> = groups.iter().copied().chain([NO_ZONE]).collect();
        let cells = groups.len() * (TYPES.len() + 1) * RCODES.len() * TRANSPORTS.len();
        let limited = Family::<By, Counter>::default();
        Self {
            groups,
            family: Family::default(),
            replies: (0..cells).map(|_| OnceLock::new()).collect(),
            durations: Histogram::new(DURATIONS),
            truncated: Counter::default(),
            slowed: limited.get_or_create_owned(&By { by: "rate" }),
            prohibited: limited.get_or_create_owned(&By { by: "allow" }),
            limited,
            dropped: Counter::default(),
            forwarded: Counter::default(),
            tcp_connections: Gauge::default(),
            tcp_turned_away: Counter::default(),
        }
    }

    /// The same in `registry`: `dns_replies_total{zone,type,rcode,transport}`, `dns_reply_duration_seconds`,
    /// `dns_truncated_replies_total`, `dns_limited_replies_total{by}`, `dns_dropped_messages_total`,
    /// `dns_forwarded_queries_total`, `dns_tcp_connections` and `dns_tcp_turned_away_total`.
    pub fn register(registry: &mut Registry, groups: &[&'static str]) -> Self {
        let all = Self::new(groups);
        let mut put = |name, help, counter: &Counter| registry.register(name, help, counter.clone());
        put(
            "dns_truncated_replies",
            "DNS replies over UDP that asked the client to come back over TCP",
            &all.truncated,
        );
        put("dns_dropped_messages", "Messages to the DNS port that are no queries, and never answered", &all.dropped);
        put("dns_forwarded_queries", "DNS queries for names of other servers, asked of these", &all.forwarded);
        put(
            "dns_tcp_turned_away",
            "DNS connections over TCP closed at once because too many were open",
            &all.tcp_turned_away,
        );
        registry.register("dns_replies", "DNS replies sent", all.family.clone());
        registry.register(
            "dns_limited_replies",
            "DNS replies without an answer, by what kept it back",
            all.limited.clone(),
        );
        registry.register(
            "dns_reply_duration_seconds",
            "Time from a DNS query to its reply, of one in 64",
            all.durations.clone(),
        );
        registry.register("dns_tcp_connections", "Open DNS connections over TCP", all.tcp_connections.clone());
        all
    }

    /// `took` is given where somebody looked at the clock.
    pub(crate) fn replied(&self, transport: Transport, admission: Admission, replied: Replied, took: Option<Duration>) {
        let Replied { rcode, truncated, kind, group, .. } = replied;
        let Some(rcode) = RCODES.iter().position(|(known, _)| *known == rcode) else { return };
        let none = self.groups.len() - 1;
        let group = group.map_or(none, |group| usize::from(group).min(none));
        let kind = TYPES.iter().position(|(known, _)| Some(*known) == kind).unwrap_or(TYPES.len());
        let cell = (group * (TYPES.len() + 1) + kind) * RCODES.len() + rcode;
        let counter = self.replies[cell * TRANSPORTS.len() + transport as usize].get_or_init(|| {
            self.family.get_or_create_owned(&Labels {
                zone: self.groups[group],
                r#type: TYPES.get(kind).map_or(OTHER_TYPE, |(_, name)| name),
                rcode: RCODES[rcode].1,
                transport,
            })
        });
        counter.inc();
        if truncated {
            self.truncated.inc();
        }
        match admission {
            Admission::Answered => {}
            Admission::Slowed => _ = self.slowed.inc(),
            Admission::Prohibited => _ = self.prohibited.inc(),
        }
        if let Some(took) = took {
            self.durations.observe(took.as_secs_f64());
        }
    }

    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }

    pub(crate) fn forwarded(&self) {
        self.forwarded.inc();
    }

    pub(crate) fn open(&self) -> Open {
        self.tcp_connections.inc();
        Open(self.tcp_connections.clone())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(&[])
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

// === impl Transport ===

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl EncodeLabelValue for Transport {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.name().encode(encoder)
    }
}
