//! Virtual addresses of global services: the ranges they come from, and the sequence in which addresses are tried
//! for a host. The first candidate is a hash of the host, so that even a fleet that lost its store gives nearly
//! every host the address it had. Knows nothing of what is taken.

use ipnet::{Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of one host, allocated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// The ranges that virtual addresses come from. All agents of a fleet must have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VipRanges {
    v4: Ipv4Net,
    v6: Ipv6Net,
}

/// Why ranges cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VipRangeError {
    /// Too few addresses.
    #[error("{0} is too small: use at least a /24 (IPv4) and a /112 (IPv6)")]
    TooSmall(String),
    /// Others allocate from there.
    #[error("{0} overlaps {1}, from which {2} allocates")]
    Taken(String, &'static str, &'static str),
    /// No machine has its addresses, or every machine has.
    #[error("{0} overlaps {1}, whose addresses cannot be virtual ones")]
    Impossible(String, &'static str),
}

/// Ranges from which others allocate addresses for the same purpose: a clash would be silent.
const TAKEN_V4: [(&str, Ipv4Addr, u8, &str); 2] = [
    ("240.240.0.0/16", Ipv4Addr::new(240, 240, 0, 0), 16, "Istio"),
    ("240.0.0.0/16", Ipv4Addr::new(240, 0, 0, 0), 16, "Admiral"),
];
const TAKEN_V6: (&str, Ipv6Addr, u8, &str) = ("2001:2::/48", Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48, "Istio");

/// Ranges of which no address can be a host's in the whole fleet: records with one are refused.
const IMPOSSIBLE_V4: [&str; 3] = ["127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4"];
const IMPOSSIBLE_V6: [&str; 4] = ["::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8"];

// === impl VipRanges ===

impl VipRanges {
    /// The range of IPv4.
    #[must_use]
    pub fn v4(&self) -> Ipv4Net {
        self.v4
    }

    /// The range of IPv6.
    #[must_use]
    pub fn v6(&self) -> Ipv6Net {
        self.v6
    }

    /// Both ranges, checked.
    ///
    /// # Errors
    /// [`VipRangeError`] when a range is too small or is someone else's.
    pub fn new(v4: Ipv4Net, v6: Ipv6Net) -> Result<Self, VipRangeError> {
        if v4.prefix_len() > 24 {
            return Err(VipRangeError::TooSmall(v4.to_string()));
        }
        if v6.prefix_len() > 112 {
            return Err(VipRangeError::TooSmall(v6.to_string()));
        }
        for (text, network, length, who) in TAKEN_V4 {
            if Ipv4Net::new(network, length).is_ok_and(|taken| overlap_v4(taken, v4)) {
                return Err(VipRangeError::Taken(v4.to_string(), text, who));
            }
        }
        let (text, network, length, who) = TAKEN_V6;
        if Ipv6Net::new(network, length).is_ok_and(|taken| taken.contains(&v6) || v6.contains(&taken)) {
            return Err(VipRangeError::Taken(v6.to_string(), text, who));
        }
        for text in IMPOSSIBLE_V4 {
            if text.parse().is_ok_and(|impossible| overlap_v4(impossible, v4)) {
                return Err(VipRangeError::Impossible(v4.to_string(), text));
            }
        }
        for text in IMPOSSIBLE_V6 {
            if text.parse().is_ok_and(|impossible: Ipv6Net| impossible.contains(&v6) || v6.contains(&impossible)) {
                return Err(VipRangeError::Impossible(v6.to_string(), text));
            }
        }
        Ok(Self { v4: v4.trunc(), v6: v6.trunc() })
    }

    /// Whether an address may be given to a host.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.contains(&address),
            IpAddr::V6(address) => self.v6.contains(&address),
        }
    }

    /// The addresses to try for a host, best first. The sequence is the same everywhere and never ends; how often
    /// to try is the caller's to decide.
    pub fn candidates(&self, host: &str) -> impl Iterator<Item = Vip> {
        let (v4, v6, host) = (self.v4, self.v6, host.to_owned());
        (0_u32..).map(move |attempt| {
            let digest = Sha256::new().chain_update(attempt.to_be_bytes()).chain_update(&host).finalize();
            let (parts, _) = digest.as_chunks::<16>();
            let (low, high) = (u128::from_be_bytes(parts[0]), u128::from_be_bytes(parts[1]));
            // The first and the last address of a range are left out: some stacks treat them as network and
            // broadcast.
            let v4_hosts = (1_u128 << (32 - v4.prefix_len())) - 2;
            let v4_offset = u32::try_from(low % v4_hosts).unwrap_or(0) + 1;
            let v6_hosts = (1_u128 << (128 - v6.prefix_len()).min(127)) - 2;
            let v6_offset = high % v6_hosts + 1;
            Vip { v4: (u32::from(v4.network()) + v4_offset).into(), v6: (u128::from(v6.network()) + v6_offset).into() }
        })
    }
}

fn overlap_v4(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(v4: &str, v6: &str) -> Result<VipRanges, VipRangeError> {
        VipRanges::new(v4.parse().expect("a net"), v6.parse().expect("a net"))
    }

    #[test]
    fn candidates_are_in_range_differ_and_never_change() {
        let ranges = ranges("240.64.0.0/24", "fd66::/112").expect("good ranges");
        let first: Vec<Vip> = ranges.candidates("web.demo.global").take(50).collect();
        assert_eq!(first, ranges.candidates("web.demo.global").take(50).collect::<Vec<_>>());
        let (v4, v6): (Ipv4Net, Ipv6Net) =
            ("240.64.0.0/24".parse().expect("a net"), "fd66::/112".parse().expect("a net"));
        for vip in &first {
            assert!(v4.contains(&vip.v4) && vip.v4 != v4.network() && vip.v4 != v4.broadcast(), "{vip:?}");
            assert!(v6.contains(&vip.v6) && vip.v6 != v6.network(), "{vip:?}");
        }
        assert_ne!(first[0], first[1]);
        assert_ne!(first[0], ranges.candidates("api.demo.global").next().expect("endless"));
        // A change of the hash would move the address of every service of every fleet.
        assert_eq!(first[0].v4.to_string(), "240.64.0.215");
    }

    #[test]
    fn ranges_of_others_are_refused() {
        for (v4, v6) in [
            ("240.240.8.0/24", "fd66::/64"),
            ("240.0.0.0/4", "fd66::/64"),
            ("240.0.4.0/24", "fd66::/64"),
            ("240.64.0.0/12", "2001:2::/64"),
        ] {
            assert!(matches!(ranges(v4, v6), Err(VipRangeError::Taken(..))), "{v4} {v6}");
        }
        for (v4, v6) in [
            ("127.0.0.0/24", "fd66::/64"),
            ("160.0.0.0/4", "fd66::/64"),
            ("224.1.0.0/16", "fd66::/64"),
            ("240.64.0.0/12", "::/64"),
            ("240.64.0.0/12", "fe80::/64"),
            ("240.64.0.0/12", "ff05::/64"),
        ] {
            assert!(matches!(ranges(v4, v6), Err(VipRangeError::Impossible(..))), "{v4} {v6}");
        }
        assert!(matches!(ranges("240.64.0.0/25", "fd66::/64"), Err(VipRangeError::TooSmall(_))));
        assert!(matches!(ranges("240.64.0.0/12", "fd66::/120"), Err(VipRangeError::TooSmall(_))));
    }
}
