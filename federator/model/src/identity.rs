//! Who a workload is to Istio's mutual TLS: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. Knows nothing of
//! certificates.

use crate::name::Label;
use std::{fmt, sync::Arc};

/// Longest trust domain, in bytes (SPIFFE-ID, section 2.3).
const MAX_DOMAIN: usize = 255;

/// The trust domain of a mesh; empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

// === impl TrustDomain ===

impl TrustDomain {
    /// One that can be (SPIFFE-ID, section 2.1); `None` for what cannot.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let can_be =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
        (text.len() <= MAX_DOMAIN && text.bytes().all(can_be)).then(|| Self(text.into()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity of an account of a namespace; `None` where that is not known.
    #[must_use]
    pub fn identity(&self, namespace: &Label, account: &str) -> Option<String> {
        (!self.0.is_empty() && !account.is_empty()).then(|| format!("spiffe://{self}/ns/{namespace}/sa/{account}"))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_needs_a_domain_and_an_account() {
        let namespace = Label::parse("shop").expect("a label");
        let identity = |domain: &str, account: &str| TrustDomain::parse(domain)?.identity(&namespace, account);
        let expected = "spiffe://east.example/ns/shop/sa/web";
        assert_eq!(identity("east.example", "web").as_deref(), Some(expected));
        assert_eq!((identity("", "web"), identity("east.example", "")), (None, None));
        for text in ["East", "a/b", "a b", "ä", &"a".repeat(256)] {
            assert_eq!(TrustDomain::parse(text), None, "{text}");
        }
    }
}
