//! One endpoint: where it is reached, whether it takes traffic, where it runs and what runs there. Knows nothing of
//! the slice that it stands in, nor of how its address is resolved.

use crate::{
    locality::{Locality, Network},
    name::Label,
};
use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    ops::Deref,
    sync::{Arc, LazyLock},
};

/// Longest host name, in octets (RFC 1035, section 2.3.4, without the root's length octet and the final dot).
const MAX_HOST: usize = 253;

/// Says of a Pod whether it takes Istio's mutual TLS: `istio`, or not.
pub const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";

/// Longest value of a Kubernetes label, and longest name of one without its prefix.
const MAX_LABEL: usize = 63;

/// One endpoint with one address. There are very many of them, so it is small: what it has in common with others is held
/// once, and read as if it were its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it is reached within its network.
    pub address: Address,
    /// Whether it takes traffic.
    pub health: Health,
    /// What it has in common with others. Endpoints of one kind share the value.
    pub traits: Arc<Traits>,
}

/// What many endpoints have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Traits {
    /// The network they are on; `None` is that of their cluster.
    pub network: Option<Network>,
    /// The own host name of one within a headless service, empty when it has none.
    pub hostname: Arc<str>,
    /// Where they run.
    pub locality: Locality,
    /// What runs there.
    pub workload: Arc<Workload>,
}

/// Where an endpoint is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// At an address.
    Ip(IpAddr),
    /// At whatever addresses this host name has: lower case, two labels or more, without a final dot.
    Host(Arc<str>),
}

/// What runs behind an endpoint, as far as other clusters have to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Labels that mean something elsewhere: those that tell its version, and `security.istio.io/tlsMode`. Each
    /// [can be one](can_be_a_label).
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// The service account it runs as, in the namespace of its service; empty when not known.
    pub service_account: Arc<str>,
}

/// Whether an endpoint takes traffic, from its EndpointSlice conditions; the better comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It does.
    Ready,
    /// It did when it was seen last, and its cluster does not name it any more; whether that can be believed is not
    /// known yet: used when nothing is ready.
    Held,
    /// It is being stopped but still serves: used when nothing is ready.
    Draining,
    /// It does not.
    #[default]
    NotReady,
}

/// Whether an address can be some other machine's: not loopback, link-local (the metadata service among them),
/// multicast, unspecified or broadcast. An API server refuses the same ones in an EndpointSlice.
#[must_use]
pub fn can_be_an_endpoint(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_unspecified() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || v6.is_unspecified()
                || v6.to_ipv4_mapped().is_some())
        }
    }
}

/// Whether Kubernetes takes this for a label. Istio refuses a whole object for one that is none.
#[must_use]
pub fn can_be_a_label(key: &str, value: &str) -> bool {
    let word = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        bytes.len() <= MAX_LABEL && bytes.iter().all(|byte| inner(*byte)) && outer(bytes.first()) && outer(bytes.last())
    };
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let domain = |text: &str| text.len() <= MAX_HOST && text.split('.').all(|label| Label::parse(label).is_ok());
    prefix.is_none_or(domain) && word(name) && (value.is_empty() || word(value))
}

// === impl Address ===

impl Address {
    /// An address in its usual spelling; `None` when it is none, or none that another machine can have.
    #[must_use]
    pub fn parse_ip(text: &str) -> Option<Self> {
        text.parse().ok().filter(|address| can_be_an_endpoint(*address)).map(Self::Ip)
    }

    /// A host name that means the same everywhere; `None` when the text is none, or an address.
    #[must_use]
    pub fn parse_host(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let labels: Vec<&str> = text.split('.').collect();
        // RFC 1123, section 2.1: the last label is never all digits, so an address is not taken for a name. What ends
        // in `localhost` is the machine that asks (RFC 6761, section 6.3).
        let last_counts = labels.last().is_some_and(|last| {
            *last != "localhost" && last.bytes().any(|byte| !byte.is_ascii_digit()) && labels.len() > 1
        });
        let good = last_counts && text.len() <= MAX_HOST && labels.iter().all(|label| Label::parse(label).is_ok());
        good.then(|| Self::Host(text.into()))
    }

    /// The address, unless it is still to be looked up.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Host(_) => None,
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Host(host) => f.write_str(host),
        }
    }
}

// === impl Endpoint ===

impl Deref for Endpoint {
    type Target = Traits;

    fn deref(&self) -> &Traits {
        &self.traits
    }
}

// === impl Workload ===

impl Workload {
    /// The one of which nothing is known.
    #[must_use]
    pub fn unknown() -> Arc<Self> {
        static UNKNOWN: LazyLock<Arc<Workload>> = LazyLock::new(Arc::default);
        UNKNOWN.clone()
    }

    /// Whether it takes mutual TLS, which sidecars do: nothing else comes through a gateway.
    #[must_use]
    pub fn takes_mutual_tls(&self) -> bool {
        self.labels.get(TLS_MODE_LABEL).is_some_and(|mode| **mode == *"istio")
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.labels.is_empty() && self.service_account.is_empty()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Held => "held",
            Self::Draining => "draining",
            Self::NotReady => "not-ready",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_other_machines() {
        for good in ["10.0.0.1", "240.0.0.1", "100.64.0.1", "fd00::1", "2001:db8::1"] {
            assert_eq!(Address::parse_ip(good).map(|address| address.to_string()).as_deref(), Some(good));
        }
        for bad in
            ["", "x", "127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "::1", "fe80::1", "::ffff:10.0.0.1"]
        {
            assert_eq!(Address::parse_ip(bad), None, "{bad}");
        }
    }

    #[test]
    fn labels_are_those_that_kubernetes_takes() {
        let long = "x".repeat(63);
        for (key, value) in [("version", "v1"), ("a.b/c_d.e-F", "1.2_3-x"), ("a", ""), (&long, &long), ("a.b/c", "X")] {
            assert!(can_be_a_label(key, value), "{key}={value}");
        }
        let longer = "x".repeat(64);
        for (key, value) in [
            ("", "a"),
            ("a", "-a"),
            ("a", "a b"),
            ("a", "a\n"),
            ("a/", "b"),
            ("/a", "b"),
            ("A.b/c", "d"),
            ("a/b/c", "d"),
            ("a", &longer),
        ] {
            assert!(!can_be_a_label(key, value), "{key}={value}");
        }
    }

    #[test]
    fn hosts_are_names_that_mean_the_same_everywhere() {
        for (text, host) in
            [("a.example", "a.example"), ("A.Example.", "a.example"), ("1.b2", "1.b2"), ("x-1.y.z", "x-1.y.z")]
        {
            assert_eq!(Address::parse_host(text), Some(Address::Host(host.into())), "{text}");
        }
        let long = format!("{}a.example", "abcdefghi.".repeat(25));
        for bad in
            ["", ".", "a", "localhost", "a.localhost", "10.0.0.1", "10.0.0.256", "a..b", "-a.b", "*.b", "a b.c", &long]
        {
            assert_eq!(Address::parse_host(bad), None, "{bad}");
        }
    }
}
