//! What a service asks of those who send it traffic, besides its type and ports: in all clusters the same, so where
//! clusters say different things, one is heard. In Kubernetes' words; what they do is for whoever routes.

use std::{fmt, sync::Arc};

/// For how long a client keeps its endpoint where nothing is said of it (`sessionAffinityConfig`).
pub const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// The longest that Kubernetes allows.
pub const MAX_AFFINITY_SECONDS: u32 = 86_400;

/// How its traffic is spread over its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Whether a client keeps its endpoint.
    pub affinity: Affinity,
    /// Whether a client reaches the endpoints of its own node alone (`internalTrafficPolicy: Local`).
    pub node_local: bool,
    /// Which endpoints it prefers (`trafficDistribution`); `None` when it prefers none. [Can be
    /// one](can_be_a_distribution).
    pub distribution: Option<Arc<str>>,
}

/// Whether a client keeps its endpoint (`sessionAffinity`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// It need not.
    #[default]
    None,
    /// It does, by its address.
    ClientIp {
        /// After so many seconds without a connection it need not any more; at least 1, at most
        /// [`MAX_AFFINITY_SECONDS`].
        seconds: u32,
    },
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The families of a service's addresses, each once, the preferred one first; none when it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families([Option<Family>; 2]);

/// Whether a text can be a `trafficDistribution`: one word, as short as a label's.
#[must_use]
pub fn can_be_a_distribution(text: &str) -> bool {
    !text.is_empty() && super::can_be_a_label("trafficDistribution", text)
}

// === impl Families ===

impl Families {
    /// They, in order.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        self.0.into_iter().flatten()
    }

    /// Whether nothing is said of them.
    #[must_use]
    pub fn is_unknown(self) -> bool {
        self.0[0].is_none()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn has(self, family: Family) -> bool {
        self.0.contains(&Some(family))
    }
}

impl FromIterator<Family> for Families {
    fn from_iter<I: IntoIterator<Item = Family>>(all: I) -> Self {
        let mut all = all.into_iter();
        let first = all.next();
        Self([first, all.find(|family| Some(*family) != first)])
    }
}

impl From<std::net::IpAddr> for Family {
    fn from(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families: Vec<_> = self.iter().map(|family| family.to_string()).collect();
        f.write_str(&families.join(","))
    }
}
