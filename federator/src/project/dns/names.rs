//! The names of one service in one answer mode, and what each answers. Pure.
//!
//! | mode | `<svc>.<ns>.<zone>` |
//! |---|---|
//! | `vip` | the virtual addresses, the same everywhere |
//! | `endpoints` | endpoints in reach that listen on the service's own port numbers, the nearest first |
//! | `cluster` | the ClusterIP here while it has ready endpoints here, else as `endpoints` |
//!
//! A headless service answers its endpoints in every mode, and all of them. SRV points at the service's own name where its
//! port numbers are right for that answer; else at one name an endpoint, `<host>.<cluster>.<svc>.<ns>.<zone>`, with the
//! number that endpoint listens on.
//!
//! An endpoint that is a host name is at the addresses that this has, for as long as that was said to be so. While nobody has
//! said what it has, a name that has nothing else fails: it is not known to be empty.
//!
//! `<cluster>.<svc>.<ns>.<zone>` is what one cluster has of the service. Nothing of that has a virtual address, so it answers
//! the ClusterIP or endpoints where the service itself answers virtual ones.

use super::located::{Hosts as Located, hosts_of};
use dns::{ExtendedError, Name, Node, Srv, Why};
use model::{
    export::{AnswerMode, Head, Kind, Port},
    merge::{Parts, Service, merge},
    name::{ClusterId, Label, ServiceKey},
    reach::{Asker, Networks, Offer, Place, Usable, offer},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZero,
    sync::Arc,
};

/// Makes the names of services.
#[derive(Clone, Debug)]
pub struct Namer {
    /// Where the asker is.
    pub place: Place,
    /// The zone, without a final dot.
    pub zone: Arc<str>,
    /// Seconds an answer may be kept.
    pub ttl: u32,
    /// The longest that a service may ask for instead: no answer is to outlive a virtual address.
    pub longest_ttl: u32,
    /// What a name answers.
    pub mode: AnswerMode,
    /// With fewer endpoints than these, farther ones are taken too.
    pub min_answers: usize,
    /// Most addresses in one answer, but for a headless service.
    pub max_answers: NonZero<u16>,
}

/// The names of endpoints, which several ports and clusters may lead to.
type Hosts = BTreeMap<Name, BTreeSet<IpAddr>>;

/// A service under one of its names, or what one cluster has of it.
#[derive(Clone, Copy)]
struct Named<'a> {
    service: &'a Service,
    owner: &'a Name,
    /// Whether it is what one cluster has, so that names of endpoints need not say which.
    is_part: bool,
}

/// Most addresses of one family in one answer: more would not fit into a message of 64 KiB, and a name that cannot be
/// set would keep its old answer.
const MAX_ADDRESSES: usize = 1000;

/// Most SRV records of one name, by the same measure: each carries a whole name, uncompressed.
const MAX_TARGETS: usize = 400;

/// What the answers of a service depend on beside itself.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// Which endpoints are in reach.
    pub networks: &'a Networks,
    /// Where those are that are host names.
    pub located: &'a Located,
}

/// An endpoint at one of its addresses: a host name may have several.
#[derive(Clone, Copy)]
struct At<'a> {
    usable: &'a Usable<'a>,
    address: IpAddr,
}

/// Addresses by family.
#[derive(Default)]
struct Addresses {
    a: Vec<Ipv4Addr>,
    aaaa: Vec<Ipv6Addr>,
}

// === impl Namer ===

impl Namer {
    /// All names of a service, `owner` first, which is the service's own, then what each cluster has of it.
    #[must_use]
    pub fn names_at(&self, around: Around<'_>, service: &Service, owner: &Name) -> Vec<(Name, Node)> {
        let namer = self.suited(around.located, service);
        let mut hosts = Hosts::new();
        let mut names = namer.named(around, Named { service, owner, is_part: false }, &mut hosts);
        for (cluster, _) in &service.exports {
            let of_part = part(service, cluster).zip(child(cluster.as_str(), owner));
            if let Some((part, owner)) = of_part {
                let named = Named { service: &part, owner: &owner, is_part: true };
                names.extend(namer.named(around, named, &mut hosts));
            }
        }
        names.extend(hosts.into_iter().map(|(name, all)| (name, namer.node(all.into_iter().collect(), None))));
        names
    }

    /// What one cluster has of a service, with `owner` as its name.
    #[must_use]
    pub fn part_at(
        &self,
        around: Around<'_>,
        service: &Service,
        cluster: &ClusterId,
        owner: &Name,
    ) -> Vec<(Name, Node)> {
        let namer = self.suited(around.located, service);
        let mut hosts = Hosts::new();
        let Some(part) = part(service, cluster) else { return Vec::new() };
        let mut names = namer.named(around, Named { service: &part, owner, is_part: true }, &mut hosts);
        names.extend(hosts.into_iter().map(|(name, all)| (name, namer.node(all.into_iter().collect(), None))));
        names
    }

    /// A service's own name; `None` when it is too long for DNS.
    #[must_use]
    pub fn owner(&self, service: &ServiceKey) -> Option<Name> {
        name(&service.host(&self.zone))
    }

    /// With what a service asks of its answers, and for no longer than its endpoints are known.
    fn suited(&self, located: &Located, service: &Service) -> Cow<'_, Self> {
        let mut namer = Cow::Borrowed(self);
        if let Some(mode) = service.answers.mode {
            namer.to_mut().mode = mode;
        }
        if let Some(ttl) = service.answers.ttl {
            namer.to_mut().ttl = ttl.min(self.longest_ttl);
        }
        if let Some(ttl) = located.ttl(service).filter(|ttl| *ttl < namer.ttl) {
            namer.to_mut().ttl = ttl;
        }
        namer
    }

    /// The names without those of endpoints, which go to `hosts`.
    fn named(&self, around: Around<'_>, named: Named<'_>, hosts: &mut Hosts) -> Vec<(Name, Node)> {
        let Named { service, is_part, .. } = named;
        if service.kind == Kind::ClusterIp {
            let fixed = match self.mode {
                AnswerMode::Vip if !is_part => {
                    let addresses = service.vip.map(|vip| [vip.v4.into(), vip.v6.into()]);
                    Some((addresses.into_iter().flatten().collect(), None))
                }
                AnswerMode::Vip | AnswerMode::Cluster => {
                    let head = self.here(service);
                    head.map(|head| (head.cluster_ips.iter().copied().collect(), Some(&*head.ports)))
                }
                AnswerMode::Endpoints => None,
            };
            if let Some((addresses, own)) = fixed {
                return self.with_fixed(named, addresses, own);
            }
        }
        let Around { networks, located } = around;
        let offer = offer(networks, &self.place, service, Asker::Plain);
        let offer = offer.located(|address| located.addresses(address).is_some_and(|all| !all.is_empty()));
        self.with_endpoints(around, named, &offer, hosts)
    }

    /// The Service here, while it has ready endpoints here.
    fn here<'a>(&self, service: &'a Service) -> Option<&'a Head> {
        let (_, export) = service.exports.iter().find(|(cluster, _)| *cluster == self.place.cluster)?;
        (export.ready() > 0).then_some(&export.head)
    }

    /// A name that answers addresses on which every port of the service is right, or those of them whose numbers are
    /// among `own`.
    fn with_fixed(&self, named: Named<'_>, addresses: Addresses, own: Option<&[Port]>) -> Vec<(Name, Node)> {
        let Named { service, owner, .. } = named;
        let why = addresses.is_empty().then(|| Why::new(ExtendedError::Other, "no virtual address yet"));
        let mut names = vec![(owner.clone(), self.node(addresses, why))];
        let number = |port: &Port| (port.protocol, port.number);
        let is_own = |port: &&Port| own.is_none_or(|own| own.iter().any(|own| number(own) == number(port)));
        for port in service.ports.iter().filter(is_own) {
            let srv = Srv { priority: 0, weight: 1, port: port.number, target: owner.clone() };
            names.extend(self.srv(owner, port, vec![srv], None));
        }
        names
    }

    fn with_endpoints(
        &self,
        around: Around<'_>,
        named: Named<'_>,
        offer: &Offer<'_>,
        hosts: &mut Hosts,
    ) -> Vec<(Name, Node)> {
        let Named { service, owner, .. } = named;
        let headless = service.kind == Kind::Headless;
        let at_most = Some(self.max_answers).filter(|_| !headless);
        let all = offer.usable.iter().flat_map(|usable| {
            let addresses = around.located.addresses(&usable.member.endpoint.address).unwrap_or_default();
            addresses.iter().map(move |&address| At { usable, address })
        });
        let all: Vec<At<'_>> = all.collect();
        let (direct, mapped): (Vec<At<'_>>, Vec<At<'_>>) =
            all.iter().partition(|at| headless || listens_on_own_ports(service, at.usable));
        let one_target = mapped.is_empty() && !headless && !direct.is_empty();
        let chosen = if headless { direct } else { self.nearest(around.networks, direct) };
        let addresses: Addresses = chosen.iter().map(|at| at.address).collect();
        let serves = |at: &&At<'_>| service.ports.iter().any(|port| at.usable.member.target(port).is_some());
        let is_unknown = hosts_of(service).any(|host| around.located.awaits(host));
        let why_none = addresses.is_empty().then(|| {
            let elsewhere = mapped.iter().filter(serves).count();
            let listen = "listen on other port numbers than the service's: ask for SRV";
            let none = mapped.len() - elsewhere;
            why_empty(offer, is_unknown, [(elsewhere, listen), (none, "serve none of the service's ports")])
        });
        let mut names = vec![(owner.clone(), Node { at_most, ..self.node(addresses, why_none) })];
        for port in &*service.ports {
            let everywhere = || all.iter().all(|at| at.usable.member.target(port).is_some());
            if one_target && everywhere() {
                let srv = Srv { priority: 0, weight: 1, port: port.number, target: owner.clone() };
                names.extend(self.srv(owner, port, vec![srv], None));
                continue;
            }
            let serving = all.iter().copied().filter(|at| at.usable.member.target(port).is_some()).collect();
            let serving = if headless { serving } else { self.nearest(around.networks, serving) };
            let mut targets = Vec::new();
            for at in serving.into_iter().take(MAX_TARGETS) {
                let Some((number, target)) = at.usable.member.target(port).zip(host(named, at)) else { continue };
                hosts.entry(target.clone()).or_default().insert(at.address);
                targets.push(Srv { priority: 0, weight: 1, port: number, target });
            }
            let why_none =
                targets.is_empty().then(|| why_empty(offer, is_unknown, [(all.len(), "do not serve this port")]));
            names.extend(
                self.srv(owner, port, targets, at_most)
                    .map(|(name, node)| (name, Node { why_empty: why_none, ..node })),
            );
        }
        // Pods of a headless service have names, whether or not a port leads to them.
        for at in all.iter().copied().filter(|_| headless && named.is_part) {
            if let Some(name) = host(named, at) {
                hosts.entry(name).or_default().insert(at.address);
            }
        }
        names
    }

    /// Of endpoints those of this cluster; with those of its region, where these are too few, and with all, where these are
    /// too few again.
    fn nearest<'a>(&self, networks: &Networks, all: Vec<At<'a>>) -> Vec<At<'a>> {
        let region_of = |cluster: &ClusterId| networks.locality(cluster).map_or("", |locality| &*locality.region);
        let here = region_of(&self.place.cluster);
        let level = |At { usable, .. }: &At<'_>| {
            let own = &*usable.member.endpoint.locality.region;
            let region = if own.is_empty() { region_of(usable.cluster) } else { own };
            match *usable.cluster == self.place.cluster {
                true => 0,
                false if !here.is_empty() && region == here => 1,
                false => 2,
            }
        };
        let is_enough = |level_of_all: u8| {
            let taken = all.iter().filter(|at| level(at) <= level_of_all);
            let v4 = taken.clone().filter(|at| at.address.is_ipv4()).count();
            let families = [v4, taken.count() - v4];
            // Of a family that there is, there are enough; who has both is not two.
            families.iter().all(|count| *count == 0 || *count >= self.min_answers) && families != [0, 0]
        };
        let farthest = (0..2).find(|level| is_enough(*level)).unwrap_or(2);
        all.into_iter().filter(|at| level(at) <= farthest).collect()
    }

    /// `_port._protocol.<svc>…`; a port without a name has none, and one that nobody serves has it in vain.
    fn srv(&self, owner: &Name, port: &Port, srv: Vec<Srv>, at_most: Option<NonZero<u16>>) -> Option<(Name, Node)> {
        if port.name.is_empty() {
            return None;
        }
        let (port, protocol) = (format!("_{}", port.name), port.protocol.srv_label());
        let name = Name::from_labels([port.as_bytes(), protocol.as_bytes()].into_iter().chain(owner.iter())).ok()?;
        Some((name, Node { ttl: self.ttl, srv, at_most, ..Node::default() }))
    }

    fn node(&self, addresses: Addresses, why_empty: Option<Why>) -> Node {
        Node { ttl: self.ttl, a: addresses.a, aaaa: addresses.aaaa, why_empty, ..Node::default() }
    }
}

/// What one cluster has of a service, by the cluster's own word alone.
fn part(service: &Service, cluster: &ClusterId) -> Option<Service> {
    let (_, export) = service.exports.iter().find(|(known, _)| known == cluster)?;
    let exports = BTreeMap::from([(cluster.clone(), export.clone())]);
    merge(&service.key, &Parts { exports, ..Parts::default() })
}

/// The name of an endpoint.
fn host(named: Named<'_>, At { usable, address }: At<'_>) -> Option<Name> {
    let label = host_label(&usable.member.endpoint.hostname, address);
    let above = if named.is_part { None } else { Some(child(usable.cluster.as_str(), named.owner)?) };
    child(&label, above.as_ref().unwrap_or(named.owner))
}

/// A name with one label more; `None` when it is too long for DNS.
fn child(label: &str, owner: &Name) -> Option<Name> {
    Name::from_labels(std::iter::once(label.as_bytes()).chain(owner.iter())).ok()
}

/// A name; `None` when it is too long for DNS. Labels are checked where they come from.
fn name(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{text}.")).ok()
}

/// Whether a client that dials the service's port numbers reaches this endpoint on all that it serves.
fn listens_on_own_ports(service: &Service, usable: &Usable<'_>) -> bool {
    let mut served =
        service.ports.iter().filter_map(|port| Some((port.number, usable.member.target(port)?))).peekable();
    served.peek().is_some() && served.all(|(number, target)| number == target)
}

/// Why a known name has nothing to give, for whoever reads `dig`: what could not be used, and what so many of the others do.
/// It may be that nobody knows.
fn why_empty<const N: usize>(offer: &Offer<'_>, is_unknown: bool, others: [(usize, &str); N]) -> Why {
    let mut reasons: Vec<String> = offer.left_out.iter().map(ToString::to_string).collect();
    let others = others.into_iter().filter(|(endpoints, _)| *endpoints > 0);
    reasons.extend(others.map(|(endpoints, what)| format!("{endpoints} endpoints {what}")));
    let text = if reasons.is_empty() { "no endpoints".to_owned() } else { reasons.join("; ") };
    Why::new(if is_unknown { ExtendedError::NetworkError } else { ExtendedError::Other }, text)
}

/// The host label of an endpoint: its own, else its address with dashes.
fn host_label(hostname: &str, address: IpAddr) -> String {
    if Label::parse(hostname).is_ok() {
        return hostname.to_string();
    }
    match address {
        IpAddr::V4(v4) => v4.to_string().replace('.', "-"),
        // Written out in full: a `::` at an end would make a label that begins or ends with a dash.
        IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:x}")).join("-"),
    }
}

// === impl Addresses ===

impl Addresses {
    fn push(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) if self.a.len() < MAX_ADDRESSES => self.a.push(v4),
            IpAddr::V6(v6) if self.aaaa.len() < MAX_ADDRESSES => self.aaaa.push(v6),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.a.is_empty() && self.aaaa.is_empty()
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut all = Self::default();
        addresses.into_iter().for_each(|address| all.push(address));
        all
    }
}

#[cfg(test)]
mod tests;
