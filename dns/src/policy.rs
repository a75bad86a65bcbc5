//! Who is answered, and how often. By default everybody is, without a limit: who asks is a forwarder as often as not, and a
//! forwarder is one client with everybody's queries.
//!
//! Who asks too much over UDP is told to come back over TCP, which costs no more than its query did and reaches nobody whose
//! address was forged. Nobody is left without an answer.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use tokio::time::Instant;

use crate::metrics::Transport;

/// How many clients are told apart, as far as chance lets them: those of one slot share what one client may.
const SLOTS: usize = 16_384;

const SECOND: u64 = 1_000_000_000;

/// Who may ask, and how often.
#[derive(Debug, Default)]
pub struct Policy {
    /// Who is answered; empty means everybody.
    pub allow: Vec<IpNet>,
    /// Those whose queries are many clients': no limit is for them.
    pub forwarders: Vec<IpNet>,
    /// How often any other client may ask over UDP.
    pub rate: Option<Rate>,
}

/// What becomes of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is answered.
    Answered,
    /// Its client is to come back over TCP.
    Slowed,
    /// It is refused.
    Prohibited,
}

/// Queries a second of each client, and as many at once after a second of silence.
#[derive(Debug)]
pub struct Rate {
    /// Nanoseconds that a query takes of its client's time.
    interval: u64,
    /// By client, the time up to which it has used its share.
    used: Box<[AtomicU64]>,
    hasher: RandomState,
    start: Instant,
}

// === impl Policy ===

impl Policy {
    /// What becomes of a query of this client.
    pub fn admit(&self, client: IpAddr, transport: Transport) -> Admission {
        if self.allow.is_empty() && self.rate.is_none() {
            return Admission::Answered;
        }
        let client = client.to_canonical();
        if !self.allow.is_empty() && !covers(&self.allow, client) {
            return Admission::Prohibited;
        }
        match &self.rate {
            Some(rate) if transport == Transport::Udp && !self.is_forwarder(client) && !rate.admits(client) => {
                Admission::Slowed
            }
            _ => Admission::Answered,
        }
    }

    /// Whether its queries are many clients'.
    pub(crate) fn is_forwarder(&self, client: IpAddr) -> bool {
        covers(&self.forwarders, client.to_canonical())
    }
}

fn covers(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

// === impl Rate ===

impl Rate {
    /// So many queries a second.
    pub fn new(queries: NonZero<u32>) -> Self {
        let used = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { interval: SECOND / u64::from(queries.get()), used, hasher: RandomState::new(), start: Instant::now() }
    }

    fn admits(&self, client: IpAddr) -> bool {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.admits_at(client, now.saturating_add(SECOND))
    }

    /// `now` is in nanoseconds, and never less than a second.
    fn admits_at(&self, client: IpAddr, now: u64) -> bool {
        // One host has all the addresses of a /64.
        let key = match client {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or_default(),
        };
        let slot = usize::try_from(self.hasher.hash_one(key)).unwrap_or_default() % SLOTS;
        // The generic cell rate algorithm: time that is not used is lost after a second.
        let take = |used: u64| Some(used.max(now - SECOND)).filter(|used| *used < now).map(|used| used + self.interval);
        self.used[slot].fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn rate(queries: u32) -> Option<Rate> {
        Some(Rate::new(NonZero::new(queries).unwrap()))
    }

    #[test]
    fn everybody_is_answered_unless_somebody_is_named() {
        let anybody = Policy::default();
        assert_eq!(anybody.admit(ip("192.0.2.1"), Transport::Udp), Admission::Answered);
        let named = Policy { allow: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()], ..anybody };
        for (client, expected) in [
            ("10.1.2.3", Admission::Answered),
            ("::ffff:10.1.2.3", Admission::Answered),
            ("fd00::1", Admission::Answered),
            ("192.0.2.1", Admission::Prohibited),
            ("2001:db8::1", Admission::Prohibited),
        ] {
            for transport in [Transport::Udp, Transport::Tcp] {
                assert_eq!(named.admit(ip(client), transport), expected, "{client}");
            }
        }
    }

    #[test]
    fn a_client_has_its_rate_and_a_second_of_it_at_once() {
        let rate = rate(10).unwrap();
        let (client, other) = (ip("10.0.0.1"), ip("10.0.0.2"));
        let admitted = |client, now| (0..100).filter(|_| rate.admits_at(client, now)).count();
        assert_eq!(admitted(client, 100 * SECOND), 10);
        assert_eq!(admitted(client, 100 * SECOND + SECOND / 2), 5);
        assert_eq!(admitted(client, 200 * SECOND), 10, "silence saves no more than a second");
        assert_eq!(admitted(other, 200 * SECOND), 10);
        assert_eq!(admitted(ip("fd00::1"), 200 * SECOND), 10);
        assert_eq!(admitted(ip("fd00::2"), 200 * SECOND), 0, "one host");
    }

    #[test]
    fn neither_a_forwarder_nor_a_connection_is_slowed() {
        let policy = Policy { rate: rate(1), forwarders: vec!["10.0.0.10/32".parse().unwrap()], ..Policy::default() };
        let slowed =
            |client, transport| (0..100).filter(|_| policy.admit(ip(client), transport) == Admission::Slowed).count();
        assert_eq!(slowed("10.0.0.10", Transport::Udp), 0);
        assert_eq!(slowed("10.0.0.11", Transport::Tcp), 0);
        assert!(slowed("10.0.0.11", Transport::Udp) > 90);
    }
}
