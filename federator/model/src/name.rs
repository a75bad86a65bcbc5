//! Validated identifiers. Parsed once, at the rim; from there on a name is known to be good, because it becomes
//! part of DNS names and of store keys. Knows nothing of zones or key layout.

use std::{fmt, sync::Arc};

/// Longest label of a DNS name, in octets (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// Cluster ids that would collide with a label that has a meaning of its own in a name.
const RESERVED_CLUSTER_IDS: [&str; 3] = ["local", "svc", "global"];

/// One lower-case DNS label (RFC 1123): letters, digits and inner hyphens, 1 to 63 octets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

/// The name of a cluster in the fleet: a [`Label`] that is not all digits and not `local`, `svc` or `global`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(Label);

/// A service by namespace and name, the same in every cluster (namespace sameness). Shown as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Its namespace.
    pub namespace: Label,
    /// Its name within the namespace.
    pub name: Label,
}

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, too long, or with a character that a DNS label cannot have.
    #[error("`{0}` is not a DNS label: use 1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit")]
    NotALabel(String),
    /// A label, but one that a cluster cannot have.
    #[error("`{0}` cannot be a cluster id: it must not be all digits, nor `local`, `svc` or `global`")]
    ReservedClusterId(String),
}

// === impl Label ===

impl Label {
    /// Accepts a DNS label and nothing else.
    ///
    /// # Errors
    /// [`NameError::NotALabel`] names the text.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let good = (1..=MAX_LABEL).contains(&bytes.len())
            && bytes.iter().all(inner)
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-';
        if good { Ok(Self(text.into())) } else { Err(NameError::NotALabel(text.to_owned())) }
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

// === impl ClusterId ===

impl ClusterId {
    /// Accepts what can be a cluster id.
    ///
    /// # Errors
    /// [`NameError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let label = Label::parse(text)?;
        if RESERVED_CLUSTER_IDS.contains(&text) || text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError::ReservedClusterId(text.to_owned()));
        }
        Ok(Self(label))
    }

    /// Whether it is held elsewhere too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0.0) > 1
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

// === impl ServiceKey ===

impl ServiceKey {
    /// A service by the text of its namespace and name.
    ///
    /// # Errors
    /// [`NameError::NotALabel`] names the part that is none.
    pub fn parse(namespace: &str, name: &str) -> Result<Self, NameError> {
        Ok(Self { namespace: Label::parse(namespace)?, name: Label::parse(name)? })
    }

    /// Its host in `zone`: `<service>.<namespace>.<zone>`, without a final dot.
    #[must_use]
    pub fn host(&self, zone: &str) -> String {
        format!("{}.{}.{zone}", self.name, self.namespace)
    }

    /// The service whose host this is, and the zone; the other way round of [`Self::host`].
    #[must_use]
    pub fn of_host(host: &str) -> Option<(Self, &str)> {
        let mut labels = host.splitn(3, '.');
        let (name, namespace, zone) = (labels.next()?, labels.next()?, labels.next()?);
        Some((Self::parse(namespace, name).ok()?, zone))
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "web", "a-b", "0a", "x".repeat(63).as_str()] {
            assert!(Label::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "é", "a/b", "x".repeat(64).as_str()] {
            assert_eq!(Label::parse(bad), Err(NameError::NotALabel(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn hosts_come_back() {
        let key = ServiceKey::parse("demo", "web").expect("a key");
        for zone in ["global", "fed.example"] {
            assert_eq!(ServiceKey::of_host(&key.host(zone)), Some((key.clone(), zone)));
        }
        for none in ["", "web", "web.demo", ".demo.global", "web..global"] {
            assert_eq!(ServiceKey::of_host(none), None, "{none}");
        }
    }

    #[test]
    fn cluster_ids() {
        for good in ["east", "eu-1", "1a"] {
            assert!(ClusterId::parse(good).is_ok(), "{good}");
        }
        for bad in ["local", "svc", "global", "123"] {
            assert_eq!(ClusterId::parse(bad), Err(NameError::ReservedClusterId(bad.to_owned())), "{bad}");
        }
        assert!(ClusterId::parse("arn:aws:eks").is_err());
    }
}
