//! Which of a service's endpoints can be used from one place, and why the others cannot. Pure: networks and a place
//! in, a choice out. Knows nothing of DNS or Istio, which dress the choice each in their own way.

use crate::{
    export::{Health, Member},
    locality::Network,
    merge::Service,
    name::ClusterId,
    view::View,
};
use std::{collections::BTreeMap, fmt};

/// Where somebody asks from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cluster of the one who asks.
    pub cluster: ClusterId,
    /// The network of that cluster, as long as it has not said what it is.
    pub network: Network,
}

/// The networks of clusters, as far as they have said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(BTreeMap<ClusterId, Network>);

/// What a place can use of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer<'a> {
    /// The endpoints to use, in the order of the exports.
    pub usable: Vec<Usable<'a>>,
    /// What cannot be used, a reason a cluster.
    pub left_out: Vec<LeftOut<'a>>,
}

/// An endpoint to use.
#[derive(Clone, Debug, PartialEq)]
pub struct Usable<'a> {
    /// The cluster that asserts it.
    pub cluster: &'a ClusterId,
    /// The network it is on; `None` while its cluster has not said.
    pub network: Option<&'a Network>,
    /// The endpoint, and where it listens.
    pub member: Member<'a>,
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
    /// They are host names, and nobody looks them up here.
    HostName,
}

/// What `place` can use of `service`: ready endpoints on its network, or, when none of those is ready, those that are
/// held, or else draining ones.
#[must_use]
pub fn offer<'a>(networks: &'a Networks, place: &'a Place, service: &'a Service) -> Offer<'a> {
    let here = networks.of(&place.cluster).unwrap_or(&place.network);
    let mut offer = Offer::default();
    let (mut held, mut draining) = (Vec::new(), Vec::new());
    for (cluster, export) in &service.exports {
        let of_cluster = networks.of(cluster);
        for member in export.endpoints() {
            let endpoint = member.endpoint;
            let network = endpoint.network.as_ref().or(of_cluster);
            match (endpoint.health, network) {
                (Health::NotReady, _) => offer.leave_out(cluster, Reason::NotReady),
                (_, Some(network)) if network != here => offer.leave_out(cluster, Reason::OtherNetwork(network)),
                (Health::Ready, _) => offer.usable.push(Usable { cluster, network, member }),
                (Health::Held, _) => held.push(Usable { cluster, network, member }),
                (Health::Draining, _) => draining.push(Usable { cluster, network, member }),
            }
        }
    }
    for lesser in [held, draining] {
        if offer.usable.is_empty() {
            offer.usable = lesser;
        } else {
            lesser.iter().for_each(|usable| offer.leave_out(usable.cluster, Reason::NotReady));
        }
    }
    offer
}

// === impl Networks ===

impl Networks {
    /// Those of the clusters of a View.
    #[must_use]
    pub fn new(view: &View) -> Self {
        Self(said(view).map(|(id, network)| (id.clone(), network.clone())).collect())
    }

    /// Whether they are still those of this View. Costs less than to make them anew.
    #[must_use]
    pub fn hold(&self, view: &View) -> bool {
        self.0.iter().eq(said(view))
    }

    /// The network of a cluster; `None` when the cluster has not said what it is, and then nothing speaks against it.
    fn of(&self, cluster: &ClusterId) -> Option<&Network> {
        self.0.get(cluster)
    }
}

fn said(view: &View) -> impl Iterator<Item = (&ClusterId, &Network)> {
    view.clusters().iter().filter_map(|(id, cluster)| Some((id, &cluster.meta.as_ref()?.network)))
}

// === impl Offer ===

impl<'a> Offer<'a> {
    /// What somebody can use who looks no host name up.
    #[must_use]
    pub fn with_addresses(mut self) -> Self {
        let (addresses, hosts) =
            self.usable.into_iter().partition(|usable| usable.member.endpoint.address.ip().is_some());
        self.usable = addresses;
        let hosts: Vec<Usable<'a>> = hosts;
        hosts.iter().for_each(|usable| self.leave_out(usable.cluster, Reason::HostName));
        self
    }

    fn leave_out(&mut self, cluster: &'a ClusterId, reason: Reason<'a>) {
        match self.left_out.iter_mut().find(|known| known.cluster == cluster && known.reason == reason) {
            Some(known) => known.endpoints += 1,
            None => self.left_out.push(LeftOut { cluster, endpoints: 1, reason }),
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNetwork(network) => write!(f, "on network {network}, and no gateway into it is known"),
            Self::NotReady => f.write_str("not ready"),
            Self::HostName => f.write_str("host names, which are not looked up here"),
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
        export::{Address, Endpoint, Export, Head, Slice, Traits},
        merge::{Parts, merge},
        name::ServiceKey,
        view::Cluster,
    };
    use std::sync::Arc;

    /// Exports as `cluster@network: address[@network]health…`, asked from `east`: `+` ready, `~` draining, `-` not.
    /// A cluster without network has not said what it is.
    fn check(exports: &[(&str, &str, &[&str])]) -> (Vec<String>, Vec<String>) {
        let (usable, left_out, _) = asked(exports);
        (usable, left_out)
    }

    /// The same, and what is left when nobody looks host names up.
    fn asked(exports: &[(&str, &str, &[&str])]) -> (Vec<String>, Vec<String>, Vec<String>) {
        let (mut view, mut parts) = (View::default(), Parts::default());
        for (cluster, network, endpoints) in exports {
            let id = ClusterId::parse(cluster).expect("an id");
            let meta = (!network.is_empty()).then(|| Meta { uid: "".into(), network: Network::new(network) });
            view.set_cluster(&id, Some(Cluster { meta, ..Cluster::default() }));
            let endpoint = |text: &&str| {
                let (address, health) = text.split_at(text.len() - 1);
                let (address, network) = address.split_once('@').unwrap_or((address, ""));
                let health = match health {
                    "+" => Health::Ready,
                    "?" => Health::Held,
                    "~" => Health::Draining,
                    _ => Health::NotReady,
                };
                Endpoint {
                    address: Address::parse_ip(address).or_else(|| Address::parse_host(address)).expect("an address"),
                    health,
                    traits: Traits {
                        network: (!network.is_empty()).then(|| Network::new(network)),
                        ..Traits::default()
                    }
                    .into(),
                }
            };
            let slice = Slice { ports: [].into(), endpoints: endpoints.iter().map(endpoint).collect() };
            let slices = [("s".into(), Arc::new(slice))].into_iter().collect();
            parts.exports.insert(id, Arc::new(Export { head: Arc::new(Head::default()), slices }));
        }
        let key = ServiceKey::parse("demo", "web").expect("a key");
        let service = merge(&key, &parts).expect("exported");
        let place = Place { cluster: ClusterId::parse("east").expect("an id"), network: Network::new("n1") };
        let shown = |offer: &Offer<'_>| {
            let usable = |u: &Usable<'_>| format!("{}:{}", u.cluster, u.member.endpoint.address);
            offer.usable.iter().map(usable).collect()
        };
        let said = |offer: &Offer<'_>| offer.left_out.iter().map(ToString::to_string).collect();
        let networks = Networks::new(&view);
        let offer = offer(&networks, &place, &service);
        let (usable, left_out) = (shown(&offer), said(&offer));
        let offer = offer.with_addresses();
        let mut without: Vec<String> = shown(&offer);
        without.extend(said(&offer));
        (usable, left_out, without)
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

    #[test]
    fn an_endpoint_may_be_on_another_network_than_its_cluster() {
        let (usable, left_out) = check(&[
            ("east", "n1", &["10.0.0.1+", "10.0.0.2@n2+"]),
            ("south", "n2", &["10.2.0.1@n1+", "10.2.0.2+", "10.2.0.3@n3+", "10.2.0.4@n3-"]),
        ]);
        assert_eq!(usable, ["east:10.0.0.1", "south:10.2.0.1"]);
        assert_eq!(
            left_out,
            [
                "1 endpoints of east: on network n2, and no gateway into it is known",
                "1 endpoints of south: on network n2, and no gateway into it is known",
                "1 endpoints of south: on network n3, and no gateway into it is known",
                "1 endpoints of south: not ready",
            ]
        );
    }

    #[test]
    fn where_i_am_is_what_my_cluster_says() {
        assert_eq!(check(&[("east", "n9", &["10.0.0.1+"]), ("west", "n9", &["10.1.0.1+"])]).0.len(), 2);
        // While it says nothing, what was configured counts; and against a cluster that says nothing speaks nothing.
        assert_eq!(check(&[("east", "", &[]), ("west", "n1", &["10.1.0.1+"])]).0, ["west:10.1.0.1"]);
        assert_eq!(check(&[("east", "n1", &[]), ("west", "", &["10.1.0.1+"])]).0, ["west:10.1.0.1"]);
    }

    #[test]
    fn host_names_are_for_those_who_look_them_up() {
        let (usable, left_out, without) = asked(&[("east", "n1", &["db.example+", "10.0.0.1+", "old.example-"])]);
        assert_eq!(usable, ["east:10.0.0.1", "east:db.example"]);
        assert_eq!(left_out, ["1 endpoints of east: not ready"]);
        assert_eq!(
            without,
            [
                "east:10.0.0.1",
                "1 endpoints of east: not ready",
                "1 endpoints of east: host names, which are not looked up here",
            ]
        );
    }

    #[test]
    fn an_address_in_two_slices_counts_once() {
        let (usable, left_out) = check(&[("east", "n1", &["10.0.0.1~", "10.0.0.1+", "10.0.0.1-"])]);
        assert_eq!((usable, left_out), (vec!["east:10.0.0.1".to_owned()], vec![]));
    }
}
