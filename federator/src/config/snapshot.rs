//! What is typed about snapshots, checked. Opens nothing: a directory that cannot be had is said while the agent runs,
//! because it goes on without.

use super::{Config, ConfigError, Store, field, file};
use crate::snapshot::format::Identity;
use std::{net::Ipv6Addr, path::PathBuf, time::Duration};

/// What an agent begins with after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it is kept.
    pub directory: PathBuf,
    /// How long a state may not have been confirmed by the store and is still begun with.
    pub max_age: Duration,
    /// `HOST:PORT` of the admin ports of other replicas.
    pub siblings: Vec<String>,
}

// === impl Snapshot ===

impl Snapshot {
    pub(super) fn check(typed: file::Snapshot) -> Result<Self, ConfigError> {
        if typed.directory.as_os_str().is_empty() {
            return Err(field("snapshot.directory", "give a directory on a volume that outlives the process"));
        }
        if typed.max_age_seconds == 0 {
            return Err(field("snapshot.maxAgeSeconds", "give at least 1, or no `snapshot` at all"));
        }
        let siblings = typed.siblings.iter().enumerate();
        let siblings = siblings.map(|(n, text)| {
            let at = || {
                field(
                    format!("snapshot.siblings[{n}]"),
                    format!("`{text}` is not HOST:PORT, like agents.istio-system:9153"),
                )
            };
            let plain = text.strip_prefix("http://").map_or(&**text, |rest| rest.trim_end_matches('/'));
            let (host, port) = plain.rsplit_once(':').ok_or_else(at)?;
            // An IPv6 address stands in brackets: else nobody knows where it ends.
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let good = match bare {
                Some(address) => address.parse::<Ipv6Addr>().is_ok(),
                None => !host.contains([':', '/', '[', ']']),
            };
            if host.is_empty() || !good || !port.parse::<u16>().is_ok_and(|port| port != 0) {
                return Err(at());
            }
            Ok(plain.to_owned())
        });
        Ok(Self {
            directory: typed.directory,
            max_age: Duration::from_secs(typed.max_age_seconds.into()),
            siblings: siblings.collect::<Result<_, _>>()?,
        })
    }
}

// === impl Identity ===

impl Identity {
    /// What the snapshots of an agent with this configuration are of.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let store = match &config.store {
            Store::Embedded => "embedded".to_owned(),
            Store::Etcd { settings, .. } => format!("etcd {}", settings.root.trim_end_matches('/')),
        };
        Self { cluster: config.cluster.to_string(), zone: config.zone.to_string(), store }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::configured;
    use serde_json::json;

    fn of(snapshot: serde_json::Value) -> Result<Snapshot, String> {
        let typed = serde_json::from_value(snapshot).map_err(|error| error.to_string())?;
        Snapshot::check(typed).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_typed_is_checked() {
        assert_eq!(configured(json!({})).snapshot, None);
        let config = configured(json!({ "snapshot": { "directory": "d" } }));
        let day = Duration::from_secs(86_400);
        assert_eq!(config.snapshot, Some(Snapshot { directory: "d".into(), max_age: day, siblings: vec![] }));
        let names = ["a:1", "http://10.0.0.1:2/", "[::1]:3", "agents.istio-system.svc:65535"];
        let siblings = of(json!({ "directory": "d", "siblings": names })).expect("good ones").siblings;
        assert_eq!(siblings, ["a:1", "10.0.0.1:2", "[::1]:3", "agents.istio-system.svc:65535"]);
        let check = |typed: serde_json::Value, says: &str| {
            let error = of(typed.clone()).expect_err("refused");
            assert!(error.contains(says), "{typed}: {error}");
        };
        check(json!({ "siblings": ["a:1"] }), "missing field `directory`");
        check(json!({ "directory": "" }), "field `snapshot.directory`");
        check(json!({ "directory": "d", "maxAgeSeconds": 0 }), "field `snapshot.maxAgeSeconds`: give at least 1");
        for bad in ["", "a", "a:", ":1", "a:0", "a:65536", "::1:1", "https://a:1", "http://a:1/b", "[a]:1"] {
            check(
                json!({ "directory": "d", "siblings": ["a:1", bad] }),
                &format!("`snapshot.siblings[1]`: `{bad}` is not"),
            );
        }
    }

    #[test]
    fn an_identity_is_what_a_view_depends_on() {
        let identity = |more| Identity::of(&configured(more));
        let etcd = |root| json!({ "store": { "etcd": { "endpoints": ["http://e:1"], "root": root } }, "agent": "a" });
        let own = Identity { cluster: "east".into(), zone: "global".into(), store: "etcd /r".into() };
        assert_eq!(identity(etcd("/r")), own);
        assert_eq!(identity(etcd("/r/")), own);
        assert_eq!(
            identity(json!({ "zone": "mesh" })),
            Identity { zone: "mesh".into(), store: "embedded".into(), ..own }
        );
    }
}
