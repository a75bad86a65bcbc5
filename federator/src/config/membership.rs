//! What is typed about remote Secrets, checked: whose they are, what ids mean, and where the clusters are that they
//! name. Opens nothing.

use super::{ConfigError, Place, Source, cluster_id, field, file, locality};
use crate::kubernetes::kubeconfig::Allowed;
use model::{
    export::Address,
    identity::TrustDomain,
    locality::{Locality, Network},
    name::{ClusterId, Label},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    defaults: Said,
    clusters: BTreeMap<ClusterId, Said>,
}

/// Where a cluster is, as far as it is said.
#[derive(Clone, Debug, Default)]
struct Said {
    network: Option<Network>,
    locality: Option<Locality>,
    root_namespace: Option<Arc<str>>,
    gateways: Option<Vec<(Address, u16)>>,
    trust_domain: Option<TrustDomain>,
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
            clusters.insert(cluster_id(&at, &id)?, Said::check(&at, &place)?);
        }
        let defaults = Said::check("membership.defaults", &typed.defaults)?;
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

    /// Where a cluster is that a Secret names.
    #[must_use]
    pub fn place(&self, id: &ClusterId) -> Place {
        fn said<T: Clone>(own: Option<&Said>, defaults: &Said, of: fn(&Said) -> &Option<T>) -> Option<T> {
            own.and_then(|own| of(own).clone()).or_else(|| of(defaults).clone())
        }
        let own = self.clusters.get(id);
        let otherwise = Place::default();
        Place {
            network: said(own, &self.defaults, |said| &said.network).unwrap_or(otherwise.network),
            locality: said(own, &self.defaults, |said| &said.locality).unwrap_or(otherwise.locality),
            root_namespace: said(own, &self.defaults, |said| &said.root_namespace).unwrap_or(otherwise.root_namespace),
            gateways: said(own, &self.defaults, |said| &said.gateways).unwrap_or(otherwise.gateways),
            trust_domain: said(own, &self.defaults, |said| &said.trust_domain).unwrap_or(otherwise.trust_domain),
        }
    }
}

// === impl Said ===

impl Said {
    fn check(at: &str, typed: &file::Place) -> Result<Self, ConfigError> {
        let locality = typed.locality.as_ref().map(|text| locality(&format!("{at}.locality"), text)).transpose()?;
        if let Some(name) = &typed.root_namespace {
            Label::parse(name).map_err(|error| field(format!("{at}.rootNamespace"), error.to_string()))?;
        }
        let root_namespace = typed.root_namespace.as_deref().map(Into::into);
        let gateways = typed.gateways.as_ref();
        let gateways = gateways.map(|typed| super::gateways::gateways(&format!("{at}.gateways"), typed)).transpose()?;
        let trust_domain = typed.trust_domain.as_ref();
        let trust_domain =
            trust_domain.map(|text| super::trust_domain(&format!("{at}.trustDomain"), text)).transpose()?;
        let network = typed.network.as_deref().map(Network::new);
        Ok(Self { network, locality, root_namespace, gateways, trust_domain })
    }
}
