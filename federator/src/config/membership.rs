//! What is typed about remote Secrets, checked: whose they are, what ids mean, and where the clusters are that they
//! name. Opens nothing.

use super::{ConfigError, Source, cluster_id, field, file, locality};
use crate::kubernetes::kubeconfig::Allowed;
use model::{
    locality::{Locality, Network},
    name::{ClusterId, Label},
};
use std::{collections::BTreeMap, time::Duration};

/// How remote Secrets name clusters.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The cluster that holds them.
    pub kubernetes: file::Kubernetes,
    /// Namespaces to read beside the agent's own.
    pub namespaces: Vec<String>,
    /// Cluster ids for what a Secret calls otherwise.
    pub aliases: BTreeMap<String, ClusterId>,
    /// What a kubeconfig may say that is refused otherwise.
    pub allowed: Allowed,
    /// How long a cluster's services stay after its Secret was deleted, without a shared store.
    pub grace: Duration,
    defaults: Place,
    clusters: BTreeMap<ClusterId, Place>,
}

/// Where a cluster is, as far as it is said.
#[derive(Clone, Debug, Default)]
struct Place {
    network: Option<Network>,
    locality: Option<Locality>,
}

// === impl Membership ===

impl Membership {
    /// Checks what was typed; `own` is how the agent's own cluster is observed.
    pub(super) fn check(typed: file::Membership, own: Option<&Source>) -> Result<Self, ConfigError> {
        let kubernetes = match own {
            Some(Source::Kubernetes(own)) if typed.kubernetes == file::Kubernetes::default() => own.clone(),
            _ => typed.kubernetes,
        };
        for (n, namespace) in typed.namespaces.iter().enumerate() {
            Label::parse(namespace).map_err(|error| field(format!("membership.namespaces[{n}]"), error.to_string()))?;
        }
        let mut aliases = BTreeMap::new();
        for (text, id) in typed.aliases {
            let id = cluster_id(&format!("membership.aliases.{text}"), &id)?;
            aliases.insert(text, id);
        }
        let mut clusters = BTreeMap::new();
        for (id, place) in typed.clusters {
            let at = format!("membership.clusters.{id}");
            clusters.insert(cluster_id(&at, &id)?, Place::check(&at, &place)?);
        }
        let defaults = Place::check("membership.defaults", &typed.defaults)?;
        let mut allowed = Allowed::default();
        for (n, what) in typed.allow.iter().enumerate() {
            match what.as_str() {
                "insecure-skip-tls-verify" => allowed.insecure_skip_tls_verify = true,
                "loopback" => allowed.loopback = true,
                _ => {
                    let reason = format!("`{what}` is not one of insecure-skip-tls-verify, loopback");
                    return Err(field(format!("membership.allow[{n}]"), reason));
                }
            }
        }
        let grace = Duration::from_secs(typed.drain_seconds.into());
        Ok(Self { kubernetes, namespaces: typed.namespaces, aliases, allowed, grace, defaults, clusters })
    }

    /// The network of a cluster that a Secret names, and where its endpoints run when nothing says so.
    #[must_use]
    pub fn place(&self, id: &ClusterId) -> (Network, Locality) {
        let own = self.clusters.get(id);
        let network = own.and_then(|place| place.network.as_ref()).or(self.defaults.network.as_ref());
        let locality = own.and_then(|place| place.locality.as_ref()).or(self.defaults.locality.as_ref());
        (network.cloned().unwrap_or_default(), locality.cloned().unwrap_or_default())
    }
}

// === impl Place ===

impl Place {
    fn check(at: &str, typed: &file::Place) -> Result<Self, ConfigError> {
        let locality = typed.locality.as_ref().map(|text| locality(&format!("{at}.locality"), text)).transpose()?;
        Ok(Self { network: typed.network.as_deref().map(Network::new), locality })
    }
}
