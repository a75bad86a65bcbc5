//! What the server counts.
//!
//! Every counter exists from the start and is reached by index, so that counting a query is one atomic addition:
//! no lock, no lookup by label. Names get their prefix from the registry they are put into.

use std::fmt;

use hickory_proto::op::ResponseCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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

/// How a message came, and how its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One message, one datagram.
    Udp,
    /// Many messages, one connection (RFC 7766).
    Tcp,
}

/// Counters of one or several listeners; clones count into the same ones. By default in no registry.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    udp: [Counter; RCODES.len()],
    tcp: [Counter; RCODES.len()],
    truncated: Counter,
    pub(crate) tcp_connections: Gauge,
    pub(crate) tcp_turned_away: Counter,
}

/// Counted among the open connections for as long as it lives.
pub(crate) struct Open(Gauge);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    transport: Transport,
    rcode: &'static str,
}

// === impl Metrics ===

impl Metrics {
    /// Puts them into `registry`: `dns_replies_total{transport,rcode}`, `dns_truncated_replies_total`,
    /// `dns_tcp_connections` and `dns_tcp_turned_away_total`.
    pub fn register(registry: &mut Registry) -> Self {
        let replies = Family::<Labels, Counter>::default();
        let counters = |transport| RCODES.map(|(_, rcode)| replies.get_or_create_owned(&Labels { transport, rcode }));
        let metrics = Self { udp: counters(Transport::Udp), tcp: counters(Transport::Tcp), ..Self::default() };
        registry.register("dns_replies", "DNS replies sent", replies);
        registry.register(
            "dns_truncated_replies",
            "DNS replies over UDP that asked the client to come back over TCP",
            metrics.truncated.clone(),
        );
        registry.register("dns_tcp_connections", "Open DNS connections over TCP", metrics.tcp_connections.clone());
        registry.register(
            "dns_tcp_turned_away",
            "DNS connections over TCP closed at once because too many were open",
            metrics.tcp_turned_away.clone(),
        );
        metrics
    }

    pub(crate) fn replied(&self, transport: Transport, Replied { rcode, truncated }: Replied) {
        let counters = match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        };
        if let Some(at) = RCODES.iter().position(|(known, _)| *known == rcode) {
            counters[at].inc();
        }
        if truncated {
            self.truncated.inc();
        }
    }

    pub(crate) fn open(&self) -> Open {
        self.tcp_connections.inc();
        Open(self.tcp_connections.clone())
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
