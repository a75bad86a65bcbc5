//! The names of one service in one answer mode, and what each answers. Pure.
//!
//! | mode | `<svc>.<ns>.<zone>` |
//! |---|---|
//! | `vip` | the virtual addresses, the same everywhere |
//! | `endpoints` | endpoints in reach that listen on the service's own port numbers |
//! | `cluster` | the ClusterIP here while it has ready endpoints here, else as `endpoints` |
//!
//! A headless service answers its endpoints in every mode. SRV points at the service's own name where its port
//! numbers are right for that answer; else at one name an endpoint, `<host>.<cluster>.<svc>.<ns>.<zone>`, with the
//! number that endpoint listens on.

use crate::config::file::AnswerMode;
use dns::{ExtendedError, Name, Node, Srv, Why};
use model::{
    export::{Head, Kind, Port},
    merge::Service,
    name::{Label, ServiceKey},
    reach::{Asker, Networks, Offer, Place, Usable, offer},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
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
    /// What a name answers.
    pub mode: AnswerMode,
}

/// Most addresses of one family in one answer: more would not fit into a message of 64 KiB, and a name that cannot be
/// set would keep its old answer.
const MAX_ADDRESSES: usize = 1000;

/// Most SRV records of one name, by the same measure: each carries a whole name, uncompressed.
const MAX_TARGETS: usize = 400;

/// Addresses by family.
#[derive(Default)]
struct Addresses {
    a: Vec<Ipv4Addr>,
    aaaa: Vec<Ipv6Addr>,
}

// === impl Namer ===

impl Namer {
    /// All names of a service, the service's own first.
    #[must_use]
    pub fn names(&self, networks: &Networks, service: &Service) -> Vec<(Name, Node)> {
        let Some(apex) = self.owner(&service.key) else {
            return Vec::new();
        };
        if service.kind == Kind::ClusterIp {
            let fixed = match self.mode {
                AnswerMode::Vip => {
                    let addresses = service.vip.map(|vip| [vip.v4.into(), vip.v6.into()]);
                    Some((addresses.into_iter().flatten().collect(), None))
                }
                AnswerMode::Cluster => {
                    let head = self.here(service);
                    head.map(|head| (head.cluster_ips.iter().copied().collect(), Some(&*head.ports)))
                }
                AnswerMode::Endpoints => None,
            };
            if let Some((addresses, own)) = fixed {
                return self.with_fixed(&apex, service, addresses, own);
            }
        }
        self.with_endpoints(&apex, service, &offer(networks, &self.place, service, Asker::Plain).with_addresses())
    }

    /// A service's own name; `None` when it is too long for DNS.
    #[must_use]
    pub fn owner(&self, service: &ServiceKey) -> Option<Name> {
        let labels = [service.name.as_str(), service.namespace.as_str()].into_iter().chain(self.zone.split('.'));
        Name::from_labels(labels.map(str::as_bytes)).ok()
    }

    /// The Service here, while it has ready endpoints here.
    fn here<'a>(&self, service: &'a Service) -> Option<&'a Head> {
        let (_, export) = service.exports.iter().find(|(cluster, _)| *cluster == self.place.cluster)?;
        (export.ready() > 0).then_some(&export.head)
    }

    /// A name that answers addresses on which every port of the service is right, or those of them whose numbers are
    /// among `own`.
    fn with_fixed(
        &self,
        apex: &Name,
        service: &Service,
        addresses: Addresses,
        own: Option<&[Port]>,
    ) -> Vec<(Name, Node)> {
        let why = addresses.is_empty().then(|| Why::new(ExtendedError::Other, "no virtual address yet"));
        let mut names = vec![(apex.clone(), self.node(addresses, why))];
        let number = |port: &Port| (port.protocol, port.number);
        let is_own = |port: &&Port| own.is_none_or(|own| own.iter().any(|own| number(own) == number(port)));
        for port in service.ports.iter().filter(is_own) {
            let srv = Srv { priority: 0, weight: 1, port: port.number, target: apex.clone() };
            names.extend(self.srv(apex, port, vec![srv]));
        }
        names
    }

    fn with_endpoints(&self, apex: &Name, service: &Service, offer: &Offer<'_>) -> Vec<(Name, Node)> {
        let headless = service.kind == Kind::Headless;
        let (direct, mapped): (Vec<&Usable<'_>>, Vec<&Usable<'_>>) =
            offer.usable.iter().partition(|usable| headless || listens_on_own_ports(service, usable));
        let addresses: Addresses = direct.iter().filter_map(|usable| usable.member.endpoint.address.ip()).collect();
        let serves = |usable: &&&Usable<'_>| service.ports.iter().any(|port| usable.member.target(port).is_some());
        let why = addresses.is_empty().then(|| {
            let elsewhere = mapped.iter().filter(serves).count();
            why_empty(offer, elsewhere, mapped.len() - elsewhere)
        });
        let mut names = vec![(apex.clone(), self.node(addresses, why))];
        let one_target = mapped.is_empty() && !headless && !direct.is_empty();
        let mut hosts: BTreeMap<String, Addresses> = BTreeMap::new();
        for port in &*service.ports {
            let mut targets = Vec::new();
            let everywhere = || offer.usable.iter().all(|usable| usable.member.target(port).is_some());
            if one_target && everywhere() {
                targets.push(Srv { priority: 0, weight: 1, port: port.number, target: apex.clone() });
            } else {
                for usable in &offer.usable {
                    let Some((number, address)) = usable.member.target(port).zip(usable.member.endpoint.address.ip())
                    else {
                        continue;
                    };
                    let label = host_label(&usable.member.endpoint.hostname, address);
                    let host = format!("{label}.{}.{}", usable.cluster, service.key.host(&self.zone));
                    let Some(target) = name(&host) else { continue };
                    hosts.entry(host).or_default().push(address);
                    targets.push(Srv { priority: 0, weight: 1, port: number, target });
                }
            }
            targets.truncate(MAX_TARGETS);
            names.extend(self.srv(apex, port, targets));
        }
        for (host, addresses) in hosts {
            names.extend(name(&host).map(|name| (name, self.node(addresses, None))));
        }
        names
    }

    /// `_port._protocol.<svc>…`; a port without a name has none.
    fn srv(&self, apex: &Name, port: &Port, srv: Vec<Srv>) -> Option<(Name, Node)> {
        if port.name.is_empty() || srv.is_empty() {
            return None;
        }
        let (port, protocol) = (format!("_{}", port.name), port.protocol.srv_label());
        let name = Name::from_labels([port.as_bytes(), protocol.as_bytes()].into_iter().chain(apex.iter())).ok()?;
        Some((name, Node { ttl: self.ttl, srv, ..Node::default() }))
    }

    fn node(&self, addresses: Addresses, why_empty: Option<Why>) -> Node {
        Node { ttl: self.ttl, a: addresses.a, aaaa: addresses.aaaa, why_empty, ..Node::default() }
    }
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

/// Why a known name has no address to give, for whoever reads `dig`: of the endpoints that could be reached, some
/// serve a port of the service elsewhere, and some serve none of its ports.
fn why_empty(offer: &Offer<'_>, elsewhere: usize, none: usize) -> Why {
    let mut reasons: Vec<String> = offer.left_out.iter().map(ToString::to_string).collect();
    if elsewhere > 0 {
        reasons.push(format!("{elsewhere} endpoints listen on other port numbers than the service's: ask for SRV"));
    }
    if none > 0 {
        reasons.push(format!("{none} endpoints serve none of the service's ports"));
    }
    let text = if reasons.is_empty() { "no endpoints".to_owned() } else { reasons.join("; ") };
    Why::new(ExtendedError::Other, text)
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
