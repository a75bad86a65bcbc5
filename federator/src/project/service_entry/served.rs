//! Which of a service's endpoints an entry has. A gateway resets what comes for a port that the entry of its own cluster
//! lacks, and what it finds no endpoint for; every cluster sees the same records, so what an entry there holds is known
//! here. Knows nothing of how an entry looks.

use super::Made;
use model::{
    export::{Health, Port, Protocol},
    merge::Service,
    name::ClusterId,
    reach::{Asker, Networks, Offer, Place, Usable, offer, offer_without},
};
use std::collections::{BTreeMap, BTreeSet};

/// The endpoints of an entry.
pub(super) struct Chosen<'a> {
    pub(super) offer: Offer<'a>,
    /// Whether some are host names.
    pub(super) has_hosts: bool,
    /// How many behind gateways are left out, because some are host names.
    pub(super) behind: usize,
}

/// What the entry in a gateway's own cluster holds, as far as those matter who come in.
struct There {
    /// The ports that it lacks, of those that an entry can have.
    lacks: BTreeSet<(Protocol, u16)>,
    /// Whether there is anything that takes mutual TLS.
    is_open: bool,
}

// === impl Made ===

impl Made {
    /// The endpoints that the entry has. With the endpoints behind a gateway that lacks a port, the entry may lose what kept
    /// it from having another one; so it is looked at until every port of the entry is served.
    pub(super) fn choose(&self) -> Chosen<'_> {
        let asker = Asker::Meshed(&self.host);
        let mut without = BTreeSet::new();
        let mut there: BTreeMap<ClusterId, There> = BTreeMap::new();
        loop {
            let chosen = Chosen::new(offer_without(&self.networks, &self.place, &self.service, asker, &without));
            let through = &chosen.offer.through;
            if through.is_empty() || (is_uniform(&self.all) && chosen.is_ready_there(&self.networks)) {
                return chosen;
            }
            let lacking = lacking(&self.service, &chosen.offer, self.all_ports);
            let clusters: BTreeSet<&ClusterId> =
                through.iter().flat_map(|through| &through.gateways).map(|entrance| entrance.cluster).collect();
            let before = without.len();
            for cluster in clusters {
                let there = there.entry(cluster.clone()).or_insert_with(|| self.there(cluster, asker));
                if !there.is_open || !there.lacks.is_subset(&lacking) {
                    without.insert(cluster.clone());
                }
            }
            if without.len() == before {
                return chosen;
            }
        }
    }

    /// What the entry of a cluster holds at least, where modes are the same. It may leave out gateways in its turn, and then
    /// it has more ports.
    fn there(&self, cluster: &ClusterId, asker: Asker<'_>) -> There {
        let place = Place { cluster: cluster.clone(), ..(*self.place).clone() };
        let chosen = Chosen::new(offer(&self.networks, &place, &self.all, asker));
        let is_open = chosen.offer.usable.iter().any(|usable| usable.member.endpoint.workload.takes_mutual_tls());
        There { lacks: lacking(&self.all, &chosen.offer, self.all_ports), is_open }
    }
}

// === impl Chosen ===

impl<'a> Chosen<'a> {
    /// Istio refuses a host name as the address of a STATIC entry, and takes addresses in a DNS one as they are.
    fn new(mut offer: Offer<'a>) -> Self {
        let has_hosts = offer.usable.iter().any(|usable| usable.member.endpoint.address.ip().is_none());
        let mut behind = 0;
        if has_hosts {
            behind = std::mem::take(&mut offer.through).iter().map(|through| through.endpoints.len()).sum();
        }
        Self { offer, has_hosts, behind }
    }

    /// Whether behind every gateway something is ready that its own cluster reaches directly. This is nearly always so, and
    /// costs nothing to see.
    fn is_ready_there(&self, networks: &Networks) -> bool {
        self.offer.through.iter().all(|through| {
            let is_ready = through.endpoints.iter().any(|usable| usable.member.endpoint.health == Health::Ready);
            let is_there =
                |cluster: &ClusterId| through.endpoints.iter().all(|usable| usable.network == networks.of(cluster));
            is_ready && through.gateways.iter().all(|entrance| is_there(entrance.cluster))
        })
    }
}

/// All endpoints of an offer, whatever the way to them.
pub(super) fn endpoints<'a, 'b>(offer: &'b Offer<'a>) -> impl Iterator<Item = &'b Usable<'a>> {
    offer.usable.iter().chain(offer.through.iter().flat_map(|through| &through.endpoints))
}

/// The ports of a service that an entry of these endpoints lacks, because not all serve them; or none, where that is enough.
fn lacking(service: &Service, offer: &Offer<'_>, all_ports: bool) -> BTreeSet<(Protocol, u16)> {
    let lacks = |port: &&Port| {
        let mut serve = endpoints(offer).map(|usable| usable.member.target(port).is_some());
        if all_ports { !serve.any(|serves| serves) } else { !serve.all(|serves| serves) }
    };
    tcp(service).filter(lacks).map(|port| (port.protocol, port.number)).collect()
}

/// Whether every endpoint anywhere serves every port, whoever counts them.
fn is_uniform(service: &Service) -> bool {
    service.exports.iter().all(|(_, export)| {
        tcp(service).all(|port| {
            let own = export.head.ports.iter().find(|own| (own.protocol, own.number) == (port.protocol, port.number));
            let serves = |own: &Port| {
                let mut slices = export.slices.iter().filter(|(_, slice)| !slice.endpoints.is_empty());
                slices.all(|(_, slice)| {
                    slice.ports.iter().any(|target| (&target.name, target.protocol) == (&own.name, own.protocol))
                })
            };
            own.is_some_and(serves)
        })
    })
}

fn tcp(service: &Service) -> impl Iterator<Item = &Port> {
    service.ports.iter().filter(|port| port.protocol == Protocol::Tcp)
}
