//! Which of a service's endpoints can be used from one place, and why the others cannot. Pure: a View and a place
//! in, a choice out. Knows nothing of DNS or Istio, which dress the choice each in their own way.

use crate::{
    export::{Endpoint, Health, Slice},
    locality::Network,
    merge::Service,
    name::ClusterId,
    view::View,
};
use std::fmt;

/// Where somebody asks from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cluster of the one who asks.
    pub cluster: ClusterId,
    /// The network of that cluster.
    pub network: Network,
}

/// What a place can use of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer<'a> {
    /// The endpoints to use, in the order of the exports.
    pub usable: Vec<Usable<'a>>,
    /// What cannot be used, a reason a cluster.
    pub left_out: Vec<LeftOut<'a>>,
}

/// An endpoint to use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usable<'a> {
    /// The cluster that asserts it.
    pub cluster: &'a ClusterId,
    /// The slice it stands in, which says where it listens.
    pub slice: &'a Slice,
    /// The endpoint.
    pub endpoint: &'a Endpoint,
}

/// Endpoints of one cluster that cannot be used from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut<'a> {
    /// The cluster that asserts them.
    pub cluster: &'a ClusterId,
    /// How many there are.
    pub endpoints: usize,
    /// Why.
    pub reason: Reason<'a>,
}

/// Why endpoints cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// They are on another network, and no gateway into it is known.
    OtherNetwork(&'a Network),
    /// They are not ready.
    NotReady,
}

/// What `place` can use of `service`: ready endpoints on its network, or, when none of those is ready, draining
/// ones.
#[must_use]
pub fn offer<'a>(view: &'a View, place: &Place, service: &'a Service) -> Offer<'a> {
    let mut offer = Offer::default();
    let mut draining = Vec::new();
    for (cluster, export) in &service.exports {
        let network = network_of(view, cluster);
        let mut not_ready = 0;
        let mut elsewhere = 0;
        for (slice, endpoint) in export.endpoints() {
            let usable = Usable { cluster, slice, endpoint };
            match endpoint.health {
                Health::NotReady => not_ready += 1,
                Health::Ready | Health::Draining if network.is_some_and(|network| *network != place.network) => {
                    elsewhere += 1;
                }
                Health::Ready => offer.usable.push(usable),
                Health::Draining => draining.push(usable),
            }
        }
        if let Some(network) = network.filter(|_| elsewhere > 0) {
            let reason = Reason::OtherNetwork(network);
            offer.left_out.push(LeftOut { cluster, endpoints: elsewhere, reason });
        }
        if not_ready > 0 {
            offer.left_out.push(LeftOut { cluster, endpoints: not_ready, reason: Reason::NotReady });
        }
    }
    if offer.usable.is_empty() {
        offer.usable = draining;
    } else {
        for usable in draining {
            match offer.left_out.iter_mut().find(|l| l.cluster == usable.cluster && l.reason == Reason::NotReady) {
                Some(left_out) => left_out.endpoints += 1,
                None => {
                    let reason = Reason::NotReady;
                    offer.left_out.push(LeftOut { cluster: usable.cluster, endpoints: 1, reason });
                }
            }
        }
    }
    offer
}

/// The network of a cluster; `None` when the cluster has not said what it is, and then nothing speaks against it.
fn network_of<'a>(view: &'a View, cluster: &ClusterId) -> Option<&'a Network> {
    view.clusters().get(cluster).and_then(|cluster| cluster.meta.as_ref()).map(|meta| &meta.network)
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNetwork(network) => write!(f, "on network {network}, and no gateway into it is known"),
            Self::NotReady => f.write_str("not ready"),
        }
    }
}

impl fmt::Display for LeftOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} endpoints of {}: {}", self.endpoints, self.cluster, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::Meta,
        export::{Export, Head},
        locality::Locality,
        merge::{Parts, merge},
        name::ServiceKey,
        view::Cluster,
    };
    use std::{collections::BTreeMap, sync::Arc};

    /// Exports as `cluster@network: address+health…`, asked from network `n1`: `+` ready, `~` draining, `-` not.
    fn check(exports: &[(&str, &str, &[&str])]) -> (Vec<String>, Vec<String>) {
        let (mut view, mut parts) = (View::default(), Parts::default());
        for (cluster, network, endpoints) in exports {
            let id = ClusterId::parse(cluster).expect("an id");
            let meta = Some(Meta { uid: "".into(), network: Network::new(network) });
            view.set_cluster(&id, Some(Cluster { meta, synced: None }));
            let endpoint = |text: &&str| {
                let (address, health) = text.split_at(text.len() - 1);
                let health = match health {
                    "+" => Health::Ready,
                    "~" => Health::Draining,
                    _ => Health::NotReady,
                };
                Endpoint {
                    address: address.parse().expect("an address"),
                    health,
                    hostname: "".into(),
                    locality: Locality::default(),
                }
            };
            let slice = Slice { ports: vec![], endpoints: endpoints.iter().map(endpoint).collect() };
            let slices = BTreeMap::from([("s".into(), Arc::new(slice))]);
            parts.exports.insert(id, Arc::new(Export { head: Arc::new(Head::default()), slices }));
        }
        let key = ServiceKey::parse("demo", "web").expect("a key");
        let service = merge(&key, &parts).expect("exported");
        let place = Place { cluster: ClusterId::parse("east").expect("an id"), network: Network::new("n1") };
        let offer = offer(&view, &place, &service);
        (
            offer.usable.iter().map(|u| format!("{}:{}", u.cluster, u.endpoint.address)).collect(),
            offer.left_out.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn ready_ones_of_my_network_are_used() {
        let (usable, left_out) = check(&[
            ("east", "n1", &["10.0.0.1+", "10.0.0.2-"]),
            ("west", "n1", &["10.1.0.1+", "10.1.0.2~"]),
            ("south", "n2", &["10.2.0.1+", "10.2.0.2~"]),
        ]);
        assert_eq!(usable, ["east:10.0.0.1", "west:10.1.0.1"]);
        assert_eq!(
            left_out,
            [
                "1 endpoints of east: not ready",
                "2 endpoints of south: on network n2, and no gateway into it is known",
                "1 endpoints of west: not ready",
            ]
        );
    }

    #[test]
    fn draining_ones_are_used_when_nothing_else_is_there() {
        let (usable, left_out) = check(&[("east", "n1", &["10.0.0.1~", "10.0.0.2-"])]);
        assert_eq!(usable, ["east:10.0.0.1"]);
        assert_eq!(left_out, ["1 endpoints of east: not ready"]);
    }
}
