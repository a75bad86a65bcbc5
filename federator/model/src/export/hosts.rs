//! The hosts that an exporter asks for beside its service's own: aliases, and a host of its own cluster's part alone.
//! Knows nothing of who may have which, nor of how a host is served.

use crate::name::{ClusterId, Label, ServiceKey};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, LazyLock},
};

/// Most aliases of one export.
const MAX_ALIASES: usize = 64;

/// Most octets of a DNS name as text, without the final dot (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// A DNS name of at least two labels that an alias can be: lower-case, without a final dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

/// What an exporter asks for beside its service's own host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hosts {
    /// Other names of the service, wherever an importer lets it have them.
    pub aliases: BTreeSet<Host>,
    /// Whether what this cluster has of the service has a host too; see [`per_cluster`].
    pub per_cluster: bool,
}

/// Why a text cannot be an alias, or a list of them not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No name.
    #[error("`{0}` is no DNS name of two or more labels of a-z, 0-9 and `-`")]
    NoName(String),
    /// A name that means another thing to every cluster.
    #[error("`{0}` cannot be an alias: names under `local` are each cluster's own")]
    Local(String),
    /// Too many.
    #[error("{0} aliases, and {MAX_ALIASES} are the most")]
    TooMany(usize),
}

/// The host of what one cluster has of a service.
#[must_use]
pub fn per_cluster(service: &ServiceKey, cluster: &ClusterId) -> String {
    service.host(&format!("svc.cluster.{cluster}"))
}

/// The service and the cluster whose host this is; the other way round of [`per_cluster`].
#[must_use]
pub fn of_cluster(host: &str) -> Option<(ServiceKey, ClusterId)> {
    let (service, zone) = ServiceKey::of_host(host)?;
    Some((service, ClusterId::parse(zone.strip_prefix("svc.cluster.")?).ok()?))
}

// === impl Host ===

impl Host {
    /// Reads an alias; a final dot and capital letters make no difference.
    ///
    /// # Errors
    /// [`HostError`] names the text.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let last = host.rsplit('.').next().unwrap_or_default();
        let is_name = host.len() <= MAX_HOST && host.contains('.') && host.split('.').all(|l| Label::parse(l).is_ok());
        // The last label of an IPv4 address is a number, and no top-level domain is.
        if !is_name || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HostError::NoName(text.to_owned()));
        }
        if last == "local" {
            return Err(HostError::Local(text.to_owned()));
        }
        Ok(Self(host.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as text, to be held.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        self.0.clone()
    }

    /// Whether it is `suffix` or below it.
    #[must_use]
    pub fn is_under(&self, suffix: &str) -> bool {
        self.0.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

// === impl Hosts ===

impl Hosts {
    /// The one that asks for nothing.
    #[must_use]
    pub fn none() -> Arc<Self> {
        static NONE: LazyLock<Arc<Hosts>> = LazyLock::new(Arc::default);
        NONE.clone()
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.aliases.is_empty() && !self.per_cluster
    }

    /// Whether one export may ask for so many.
    ///
    /// # Errors
    /// [`HostError::TooMany`].
    pub fn check(&self) -> Result<(), HostError> {
        let many = self.aliases.len();
        if many > MAX_ALIASES { Err(HostError::TooMany(many)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_a_name_that_means_the_same_everywhere() {
        for (text, host) in [
            ("users.api.example.com", "users.api.example.com"),
            ("Users.Example.COM.", "users.example.com"),
            ("web.shop.global", "web.shop.global"),
            ("a.b", "a.b"),
        ] {
            assert_eq!(Host::parse(text).expect(text).as_str(), host);
        }
        let long = format!("{}.com", vec!["a"; 126].join("."));
        for text in ["", ".", "com", "a..b", "*.example.com", "_x.example.com", "10.0.0.1", "a b.com", "-a.com", &long]
        {
            assert_eq!(Host::parse(text), Err(HostError::NoName(text.to_owned())));
        }
        for text in ["web.shop.svc.cluster.local", "printer.local"] {
            assert_eq!(Host::parse(text), Err(HostError::Local(text.to_owned())));
        }
    }

    #[test]
    fn hosts_of_clusters_come_back() {
        let (service, cluster) =
            (ServiceKey::parse("demo", "web").expect("a key"), ClusterId::parse("west").expect("an id"));
        assert_eq!(of_cluster(&per_cluster(&service, &cluster)), Some((service, cluster)));
        for none in
            ["web.demo.svc.cluster.local", "web.demo.global", "*.demo.svc.cluster.west", "demo.svc.cluster.west"]
        {
            assert_eq!(of_cluster(none), None, "{none}");
        }
    }

    #[test]
    fn a_suffix_is_of_whole_labels() {
        let host = Host::parse("users.api.example.com").expect("a name");
        for (suffix, is_under) in [
            ("example.com", true),
            ("users.api.example.com", true),
            ("ample.com", false),
            ("x.users.api.example.com", false),
        ] {
            assert_eq!(host.is_under(suffix), is_under, "{suffix}");
        }
    }

    #[test]
    fn of_one_export_there_are_not_too_many() {
        let aliases = |many| (0..many).map(|n| Host::parse(&format!("a{n}.example.com")).expect("a name")).collect();
        let check = |many| Hosts { aliases: aliases(many), per_cluster: true }.check();
        assert_eq!(check(MAX_ALIASES), Ok(()));
        assert_eq!(check(MAX_ALIASES + 1), Err(HostError::TooMany(MAX_ALIASES + 1)));
    }
}
