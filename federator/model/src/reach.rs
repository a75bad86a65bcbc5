//! Which of a service's endpoints can be used from one place, and why the others cannot. Pure: networks and a place
//! in, a choice out. Knows nothing of DNS or Istio, which dress the choice each in their own way.

mod networks;

pub use networks::{Entrance, Networks};

use crate::{
    export::{Address, Health, Member},
    locality::Network,
    merge::Service,
    name::ClusterId,
};
use std::{collections::BTreeSet, fmt};

/// Where somebody asks from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cluster of the one who asks.
    pub cluster: ClusterId,
    /// The network of that cluster, as long as it has not said what it is.
    pub network: Network,
    /// How others are reached from there.
    pub mode: Mode,
}

/// How endpoints of other clusters are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Those on the same network directly, others through the gateways into theirs.
    #[default]
    Auto,
    /// All directly: somebody routes between the networks, which are taken as one.
    Workload,
    /// All through their cluster's own gateways, whatever its network: every cluster is taken as a network of its own.
    Gateway,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker<'a> {
    /// Whoever connects to what is answered: a gateway means nothing to it.
    Plain,
    /// A sidecar, which tells a gateway by the SNI for which host it comes.
    Meshed(&'a str),
}

/// What a place can use of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer<'a> {
    /// The endpoints to use, in the order of the exports.
    pub usable: Vec<Usable<'a>>,
    /// Those to be reached through gateways.
    pub through: Vec<Through<'a>>,
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

/// Endpoints of one cluster on one network that are reached through any of some gateways.
#[derive(Clone, Debug, PartialEq)]
pub struct Through<'a> {
    /// The gateways; at least one.
    pub gateways: Vec<Entrance<'a>>,
    /// The endpoints behind them; at least one.
    pub endpoints: Vec<Usable<'a>>,
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
    /// They are on another network, and its gateways are for the mesh.
    MeshOnly(&'a Network),
    /// They are on another network, and its gateways are host names of which no address is known.
    NamedGateway(&'a Network),
    /// They are on another network, and its gateways let the host of their service not through.
    NotPassed(&'a Network),
    /// They are on another network, and its gateways have nowhere to pass on what comes for the service.
    NotServed(&'a Network),
    /// They are on another network, and do not take the mutual TLS that is all its gateways pass.
    NoMutualTls(&'a Network),
    /// They are not ready.
    NotReady,
    /// They are host names of which no address is known.
    HostName,
}

/// The endpoints of one cluster on one network.
struct Part<'a> {
    network: Option<&'a Network>,
    way: Way<'a>,
    /// Where in the offer its gateways are, once one of its endpoints was taken.
    through: Option<usize>,
}

/// How they are reached.
enum Way<'a> {
    Directly,
    Through(Vec<Entrance<'a>>),
    Not(Reason<'a>),
}

/// What `place` can use of `service`: ready endpoints on its network or behind a gateway, or, when none of those is
/// ready, those that are held, or else draining ones.
#[must_use]
pub fn offer<'a>(networks: &'a Networks, place: &'a Place, service: &'a Service, asker: Asker<'_>) -> Offer<'a> {
    offer_without(networks, place, service, asker, &BTreeSet::new())
}

/// The same without the gateways of some clusters, which could not pass on what comes for the service.
#[must_use]
pub fn offer_without<'a>(
    networks: &'a Networks,
    place: &'a Place,
    service: &'a Service,
    asker: Asker<'_>,
    without: &BTreeSet<ClusterId>,
) -> Offer<'a> {
    let here = place.network_in(networks);
    let mut offer = Offer::default();
    let (mut held, mut draining) = (Vec::new(), Vec::new());
    let mut parts: Vec<Part<'_>> = Vec::new();
    for (cluster, export) in &service.exports {
        let of_cluster = networks.of(cluster);
        let first = parts.len();
        for member in export.endpoints() {
            let endpoint = member.endpoint;
            if endpoint.health == Health::NotReady {
                offer.leave_out(cluster, Reason::NotReady);
                continue;
            }
            let network = endpoint.network.as_ref().or(of_cluster);
            let part = match parts[first..].iter().position(|part| part.network == network) {
                Some(known) => first + known,
                None => {
                    let way = way(networks, place, (cluster, network), service, asker, without);
                    parts.push(Part { network, way, through: None });
                    parts.len() - 1
                }
            };
            match (&parts[part].way, network) {
                (Way::Not(reason), _) => {
                    offer.leave_out(cluster, reason.clone());
                    continue;
                }
                (Way::Through(_), Some(network)) if !endpoint.workload.takes_mutual_tls() => {
                    offer.leave_out(cluster, Reason::NoMutualTls(network));
                    continue;
                }
                _ => {}
            }
            let network = if place.mode == Mode::Workload { Some(here) } else { network };
            let usable = Usable { cluster, network, member };
            match endpoint.health {
                Health::Held => held.push((usable, part)),
                Health::Draining => draining.push((usable, part)),
                _ => offer.take(usable, &mut parts[part]),
            }
        }
    }
    for lesser in [held, draining] {
        let needed = offer.is_empty();
        for (usable, part) in lesser {
            if needed {
                offer.take(usable, &mut parts[part]);
            } else {
                offer.leave_out(usable.cluster, Reason::NotReady);
            }
        }
    }
    offer
}

fn way<'a>(
    networks: &'a Networks,
    place: &Place,
    (cluster, network): (&ClusterId, Option<&'a Network>),
    service: &Service,
    asker: Asker<'_>,
    without: &BTreeSet<ClusterId>,
) -> Way<'a> {
    let Some(network) = network else { return Way::Directly };
    let is_here = network == place.network_in(networks);
    let is_apart = *cluster != place.cluster && matches!(asker, Asker::Meshed(_));
    let mut gateways = match place.mode {
        Mode::Workload => return Way::Directly,
        Mode::Gateway if is_apart => networks.entrances(cluster, network),
        _ if is_here => return Way::Directly,
        _ => networks.gateways(cluster, network),
    };
    if gateways.is_empty() {
        return Way::Not(Reason::OtherNetwork(network));
    }
    let Asker::Meshed(host) = asker else { return Way::Not(Reason::MeshOnly(network)) };
    let namespace = service.key.namespace.as_str();
    gateways.retain(|entrance| networks.passes(entrance.cluster, namespace, host));
    if gateways.is_empty() {
        return Way::Not(Reason::NotPassed(network));
    }
    gateways.retain(|entrance| entrance.gateway.address.ip().is_some());
    if gateways.is_empty() {
        return Way::Not(Reason::NamedGateway(network));
    }
    gateways.retain(|entrance| !without.contains(entrance.cluster));
    if gateways.is_empty() { Way::Not(Reason::NotServed(network)) } else { Way::Through(gateways) }
}

// === impl Place ===

impl Place {
    /// The network of that cluster.
    #[must_use]
    pub fn network_in<'a>(&'a self, networks: &'a Networks) -> &'a Network {
        networks.of(&self.cluster).unwrap_or(&self.network)
    }
}

// === impl Offer ===

impl<'a> Offer<'a> {
    /// Whether there is nothing to use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.usable.is_empty() && self.through.is_empty()
    }

    /// Leaves out endpoints of which it is not known where they are: host names without an address.
    #[must_use]
    pub fn located(mut self, is_known: impl Fn(&Address) -> bool) -> Self {
        let (usable, lost): (Vec<_>, Vec<Usable<'a>>) =
            self.usable.into_iter().partition(|usable| is_known(&usable.member.endpoint.address));
        self.usable = usable;
        lost.iter().for_each(|usable| self.leave_out(usable.cluster, Reason::HostName));
        self
    }

    /// Takes an endpoint of this part. Parts with the same gateways are together behind them.
    fn take(&mut self, usable: Usable<'a>, part: &mut Part<'a>) {
        let Way::Through(gateways) = &part.way else {
            self.usable.push(usable);
            return;
        };
        let at = *part.through.get_or_insert_with(|| {
            self.through.iter().position(|known| known.gateways == *gateways).unwrap_or_else(|| {
                self.through.push(Through { gateways: gateways.clone(), endpoints: Vec::new() });
                self.through.len() - 1
            })
        });
        self.through[at].endpoints.push(usable);
    }

    fn leave_out(&mut self, cluster: &'a ClusterId, reason: Reason<'a>) {
        // In the order of ids: that of exports is their age, of which a reader knows nothing.
        let after = self.left_out.partition_point(|known| known.cluster <= cluster);
        let mut own = self.left_out[..after].iter_mut().rev().take_while(|known| known.cluster == cluster);
        match own.find(|known| known.reason == reason) {
            Some(known) => known.endpoints += 1,
            None => self.left_out.insert(after, LeftOut { cluster, endpoints: 1, reason }),
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNetwork(network) => write!(f, "on network {network}, and no gateway into it is known"),
            Self::MeshOnly(network) => write!(f, "on network {network}, whose gateways are for sidecars only"),
            Self::NamedGateway(network) => {
                write!(f, "on network {network}, whose gateways are host names of which no address is known")
            }
            Self::NotPassed(network) => {
                write!(
                    f,
                    "on network {network}, whose gateways do not serve the host: no Gateway there passes it through"
                )
            }
            Self::NotServed(network) => {
                write!(
                    f,
                    "on network {network}, whose gateways have nowhere to pass it on: in their cluster it lacks a port that it \
                     has here, or nothing of it is ready with a sidecar"
                )
            }
            Self::NoMutualTls(network) => {
                write!(f, "on network {network}, whose gateways pass mutual TLS only, and without a sidecar")
            }
            Self::NotReady => f.write_str("not ready"),
            Self::HostName => f.write_str("host names of which no address is known"),
        }
    }
}

impl fmt::Display for LeftOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} endpoints of {}: {}", self.endpoints, self.cluster, self.reason)
    }
}

#[cfg(test)]
mod tests;
