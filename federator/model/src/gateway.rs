//! East-west gateways: where the endpoints of another network are reached, and for which hosts. Knows nothing of how a
//! gateway is found, nor of what is behind it.

use crate::{export::Address, locality::Network};
use std::{fmt, net::IpAddr, sync::Arc};

/// The port on which a gateway passes mutual TLS through by its SNI, where it is not told another (Istio).
pub const PORT: u16 = 15443;

/// One address of an east-west gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gateway {
    /// The network that it leads into.
    pub network: Network,
    /// Where it is reached from other networks.
    pub address: Address,
    /// The port that passes everything through.
    pub port: u16,
}

/// A host that gateways pass through, as Istio's `Gateway.servers[].hosts` has it: `[namespace/]host`, where the host may
/// be `*` or begin with `*.`, and the namespace `*`. For any other SNI a gateway resets the connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Passed(Arc<str>);

// === impl Gateway ===

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, address, port } = self;
        match address {
            Address::Ip(IpAddr::V6(v6)) => write!(f, "{network} at [{v6}]:{port}"),
            _ => write!(f, "{network} at {address}:{port}"),
        }
    }
}

// === impl Passed ===

impl Passed {
    /// A pattern; what is none matches nothing.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_lowercase().into())
    }

    /// The pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `host` of an object in `namespace` is passed through.
    #[must_use]
    pub fn matches(&self, namespace: &str, host: &str) -> bool {
        let (of, pattern) = self.0.split_once('/').unwrap_or(("*", &self.0));
        let is_host = match pattern.strip_prefix('*') {
            Some("") => true,
            // `*.global` is not `global` itself.
            Some(suffix) => suffix.starts_with('.') && host.len() > suffix.len() && host.ends_with(suffix),
            None => pattern == host,
        };
        is_host && (of == "*" || of == namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_passes_what_its_patterns_match() {
        for (pattern, passed) in [
            ("*", true),
            ("*.global", true),
            ("*.shop.GLOBAL", true),
            ("web.shop.global", true),
            ("*/*.global", true),
            ("shop/*.global", true),
            ("*.local", false),
            ("demo/*.global", false),
            ("./*.global", false),
            ("*.web.shop.global", false),
            ("*web.shop.global", false),
            ("*global", false),
            ("cart.shop.global", false),
            ("", false),
        ] {
            assert_eq!(Passed::new(pattern).matches("shop", "web.shop.global"), passed, "{pattern}");
        }
    }
}
