//! What the clusters of a View say of their networks, and of the gateways into them. Knows nothing of services.

use crate::{
    cluster::Meta,
    gateway::{Gateway, Passed},
    identity::TrustDomain,
    locality::{Locality, Network},
    name::ClusterId,
    view::View,
};
use std::collections::BTreeMap;

/// The networks of clusters, and the gateways into them, as far as they have said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    sites: BTreeMap<ClusterId, Site>,
    /// The clusters with gateways into a network.
    into: BTreeMap<Network, Vec<ClusterId>>,
}

/// What one cluster has said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Site {
    network: Network,
    locality: Locality,
    gateways: Vec<Gateway>,
    passed: Vec<Passed>,
    trust_domain: TrustDomain,
}

/// A gateway, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entrance<'a> {
    /// The gateway.
    pub gateway: &'a Gateway,
    /// The cluster that it runs in.
    pub cluster: &'a ClusterId,
    /// Where that cluster is.
    pub locality: &'a Locality,
}

// === impl Networks ===

impl Networks {
    /// Those of the clusters of a View.
    #[must_use]
    pub fn new(view: &View) -> Self {
        let sites: BTreeMap<_, _> = said(view).map(|(id, meta)| (id.clone(), Site::new(meta))).collect();
        let mut into: BTreeMap<Network, Vec<ClusterId>> = BTreeMap::new();
        for (id, site) in &sites {
            for gateway in &site.gateways {
                let clusters = into.entry(gateway.network.clone()).or_default();
                if clusters.last() != Some(id) {
                    clusters.push(id.clone());
                }
            }
        }
        Self { sites, into }
    }

    /// Whether they are still those of this View. Costs less than to make them anew.
    #[must_use]
    pub fn hold(&self, view: &View) -> bool {
        let known = |(id, site): (_, &Site), (of, meta)| id == of && site.is(meta);
        self.sites.len() == said(view).count() && self.sites.iter().zip(said(view)).all(|(a, b)| known(a, b))
    }

    /// The network of a cluster; `None` when the cluster has not said what it is, and then nothing speaks against it.
    #[must_use]
    pub fn of(&self, cluster: &ClusterId) -> Option<&Network> {
        self.sites.get(cluster).map(|site| &site.network)
    }

    /// Where a cluster is, as far as that is the same of all of it; `None` when it is not known.
    #[must_use]
    pub fn locality(&self, cluster: &ClusterId) -> Option<&Locality> {
        self.sites.get(cluster).map(|site| &site.locality)
    }

    /// The trust domain of a cluster; `None` when it is not known.
    #[must_use]
    pub fn trust_domain(&self, cluster: &ClusterId) -> Option<&TrustDomain> {
        self.sites.get(cluster).map(|site| &site.trust_domain).filter(|domain| !domain.as_str().is_empty())
    }

    /// The gateways to what a cluster has on a network: its own, or else those of any cluster there.
    pub(super) fn gateways<'a>(&'a self, cluster: &ClusterId, network: &Network) -> Vec<Entrance<'a>> {
        let own = self.entrances(cluster, network);
        if own.iter().any(Entrance::has_address) {
            return own;
        }
        let clusters = self.into.get(network).into_iter().flatten();
        let all = clusters.flat_map(|cluster| self.entrances(cluster, network));
        let (known, named): (Vec<_>, Vec<_>) = all.partition(Entrance::has_address);
        if known.is_empty() { named } else { known }
    }

    /// Whether the gateways of a cluster let this host of this namespace through.
    pub(super) fn passes(&self, cluster: &ClusterId, namespace: &str, host: &str) -> bool {
        let passed = |site: &Site| site.passed.iter().any(|pattern| pattern.matches(namespace, host));
        self.sites.get(cluster).is_some_and(passed)
    }

    /// A cluster's own gateways into a network. Of one with addresses of both families those of the one that nearly
    /// every cluster has: one gateway is one way in, and must not count twice. Host names only where there is nothing else:
    /// whoever reads its cluster could not look them up.
    pub(super) fn entrances<'a>(&'a self, cluster: &ClusterId, network: &Network) -> Vec<Entrance<'a>> {
        let Some((cluster, site)) = self.sites.get_key_value(cluster) else { return Vec::new() };
        let all = || site.gateways.iter().filter(|gateway| gateway.network == *network);
        let rank = |gateway: &Gateway| gateway.address.ip().map_or(2, |ip| u8::from(ip.is_ipv6()));
        let Some(best) = all().map(rank).min() else { return Vec::new() };
        let entrance = |gateway| Entrance { gateway, cluster, locality: &site.locality };
        all().filter(|gateway| rank(gateway) == best).map(entrance).collect()
    }
}

// === impl Entrance ===

impl Entrance<'_> {
    /// Whether it can be sent to without looking anything up.
    fn has_address(&self) -> bool {
        self.gateway.address.ip().is_some()
    }
}

// === impl Site ===

impl Site {
    fn new(meta: &Meta) -> Self {
        let Meta { uid: _, network, locality, gateways, passed, trust_domain } = meta.clone();
        Self { network, locality, gateways, passed, trust_domain }
    }

    fn is(&self, meta: &Meta) -> bool {
        let Meta { uid: _, network, locality, gateways, passed, trust_domain } = meta;
        let known = (&self.network, &self.locality, &self.gateways, &self.passed, &self.trust_domain);
        known == (network, locality, gateways, passed, trust_domain)
    }
}

fn said(view: &View) -> impl Iterator<Item = (&ClusterId, &Meta)> {
    view.clusters().iter().filter_map(|(id, cluster)| Some((id, cluster.meta.as_ref()?)))
}
