//! Asking the resolvers of the machine, or those of the configuration, for the addresses of a name. Remembers nothing: when
//! to ask again is for who asks.

use super::Answer;
use hickory_proto::rr::{RData, RecordType};
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// How long a server of the configuration has for each of three tries, each of which is repeated over UDP. Six seconds in
/// all, where hickory's fifteen would let servers that are gone keep others waiting for their turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whom to ask.
#[derive(Clone, Debug, Default)]
pub struct Names {
    servers: Arc<[SocketAddr]>,
}

// === impl Names ===

impl Names {
    /// Asks these; those of `/etc/resolv.conf` where there are none.
    #[must_use]
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self { servers: servers.into() }
    }

    /// The addresses of a host name, of both families. It is taken as it stands: no search domain is put behind it.
    pub async fn look_up(self, host: Arc<str>) -> Answer {
        // Made anew for each question: so what `/etc/resolv.conf` and `/etc/hosts` say now counts, and nothing is cached twice.
        let resolver = match resolver(&self.servers) {
            Ok(resolver) => resolver,
            Err(error) => return Answer::Failed(format!("no resolver: {error}")),
        };
        let name = format!("{host}.");
        let (four, six) =
            tokio::join!(resolver.lookup(&*name, RecordType::A), resolver.lookup(&*name, RecordType::AAAA));
        join(part(four), part(six))
    }
}

/// Who asks these servers; those of `/etc/resolv.conf` where there are none.
///
/// # Errors
/// What cannot be read or connected.
pub fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    if servers.is_empty() {
        return TokioResolver::builder_tokio()?.build();
    }
    let server = |server: &SocketAddr| {
        let mut known = NameServerConfig::udp_and_tcp(server.ip());
        known.connections.iter_mut().for_each(|connection| connection.port = server.port());
        known
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().timeout = PATIENCE;
    builder.build()
}

/// What is said of one family.
fn part(told: Result<Lookup, NetError>) -> Answer {
    match told {
        Ok(lookup) => {
            let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
            let address = |data: &RData| match data {
                RData::A(four) => Some(IpAddr::V4(four.0)),
                RData::AAAA(six) => Some(IpAddr::V6(six.0)),
                _ => None,
            };
            let addresses = lookup.answers().iter().filter_map(|record| address(&record.data)).collect();
            Answer::Addresses(addresses, Duration::from_secs(ttl.into()))
        }
        Err(error) if error.is_nx_domain() => Answer::Absent,
        Err(error) if error.is_no_records_found() => Answer::Addresses(Vec::new(), Duration::MAX),
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// Both families together. Addresses of IPv6 alone are no answer where nobody knows those of IPv4, which are preferred.
fn join(four: Answer, six: Answer) -> Answer {
    match (four, six) {
        (Answer::Addresses(mut all, ttl), Answer::Addresses(more, other)) => {
            all.extend(more);
            Answer::Addresses(all, ttl.min(other))
        }
        (Answer::Addresses(all, ttl), _) if !all.is_empty() => Answer::Addresses(all, ttl),
        (Answer::Absent, _) => Answer::Absent,
        (failed @ Answer::Failed(_), _) | (_, failed) => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_family_counts_where_one_is_not_known() {
        let of = |text: &str| match text {
            "absent" => Answer::Absent,
            "failed" => Answer::Failed("timed out".to_owned()),
            _ => Answer::Addresses(text.parse().into_iter().collect(), Duration::from_secs(60)),
        };
        for (four, six, expected) in [
            ("192.0.2.1", "", vec!["192.0.2.1"]),
            ("192.0.2.1", "2001:db8::1", vec!["192.0.2.1", "2001:db8::1"]),
            ("", "2001:db8::1", vec!["2001:db8::1"]),
            ("192.0.2.1", "failed", vec!["192.0.2.1"]),
            ("192.0.2.1", "absent", vec!["192.0.2.1"]),
            ("", "", vec![]),
        ] {
            let all = expected.into_iter().map(|text| text.parse().expect("an address")).collect();
            assert_eq!(join(of(four), of(six)), Answer::Addresses(all, Duration::from_secs(60)), "{four} {six}");
        }
        for (four, six, expected) in
            [("failed", "2001:db8::1", "failed"), ("", "failed", "failed"), ("absent", "absent", "absent")]
        {
            assert_eq!(join(of(four), of(six)), of(expected), "{four} {six}");
        }
    }
}
