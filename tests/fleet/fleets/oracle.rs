//! What a proxy is to be told, said a second time and in another way: by the rules that the manual gives, from the fleet as
//! it was dealt. Shares no code with what it judges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::deal::{Cluster, Dealt, Endpoint, Health, NAMESPACE};

/// Whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Viewer {
    pub(super) network: Option<&'static str>,
    /// `region/zone`.
    pub(super) locality: String,
    /// Whether it is an east-west gateway, which wants to see its own network only.
    pub(super) gate: bool,
}

/// What is said of an endpoint, without its weight.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) level: u32,
    pub(super) locality: String,
    pub(super) address: String,
    pub(super) port: u32,
    pub(super) mutual_tls: bool,
}

/// Rows, each with how many endpoints it stands for.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) rows: Vec<(Row, f64)>,
    /// Whether weights are in exactly these proportions.
    pub(super) exact: bool,
}

/// An endpoint that somebody may use.
struct Usable<'a> {
    cluster: &'a Cluster,
    endpoint: &'a Endpoint,
    /// The gateways that lead to it; none where it is reached directly.
    through: Vec<&'a Cluster>,
}

/// What `viewer`, a proxy in the cluster `home`, is to be told of a port of a service.
pub(super) fn expected(fleet: &Dealt, home: &Cluster, viewer: &Viewer, service: &str, port: u16) -> Expected {
    let usable = usable(fleet, home, service);
    let known = fleet.clusters.iter().filter_map(|cluster| cluster.services.get(service));
    let is_tcp = known.flat_map(|of| &of.ports).any(|of| of.number == port && !of.udp);
    if !is_tcp || !usable.iter().all(|of| of.endpoint.targets.contains_key(&port)) {
        return Expected::default();
    }
    let mut rows: BTreeMap<(IpAddr, u16), (Row, f64)> = BTreeMap::new();
    let (mut many, mut ways) = (BTreeMap::new(), BTreeSet::new());
    for Usable { cluster, endpoint, through } in &usable {
        if through.is_empty() {
            let target = endpoint.targets[&port];
            let locality = format!("{}/{}", cluster.region, endpoint.zone);
            let row = row(viewer, home, home.network, &locality, endpoint.address, target, endpoint.meshed);
            // One machine that several clusters know is one.
            rows.insert((endpoint.address, target), (row, 1.0));
            continue;
        }
        let gateways: Vec<_> = through.iter().flat_map(|of| ways_in(of).map(move |address| (*of, address))).collect();
        *many.entry(through.iter().map(|of| of.id).collect::<Vec<_>>()).or_insert(0) += 1;
        ways.insert(gateways.len());
        for (of, address) in &gateways {
            let locality = match &*of.zones {
                [only] => format!("{}/{only}", of.region),
                _ => of.region.to_owned(),
            };
            let row = row(viewer, home, of.network, &locality, *address, of.gateway_port, true);
            let (_, share) = rows.entry((*address, of.gateway_port)).or_insert((row, 0.0));
            *share += 1.0 / f64::from(u32::try_from(gateways.len()).unwrap_or(u32::MAX));
        }
    }
    let direct: BTreeSet<_> = usable.iter().filter(|of| of.through.is_empty()).map(|of| of.endpoint.address).collect();
    let mut rows: Vec<_> = rows.into_values().collect();
    if viewer.gate {
        // What came in through a gateway does not leave through another, and goes on as the mutual TLS that it came as.
        rows.retain(|(row, _)| row.mutual_tls && row.address.parse().is_ok_and(|address| direct.contains(&address)));
    }
    let levels: BTreeSet<u32> = rows.iter().map(|(row, _)| row.level).collect();
    for (row, _) in &mut rows {
        row.level = u32::try_from(levels.range(..row.level).count()).unwrap_or(u32::MAX);
    }
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let exact = many.values().all(|count| *count <= 16) && ways.iter().all(|count| 60 % count == 0);
    Expected { rows, exact }
}

/// The endpoints that home can use. A way that leads to a port which is none there is no way; without it home may have a
/// port more, which leads on.
fn usable<'a>(fleet: &'a Dealt, home: &Cluster, service: &str) -> Vec<Usable<'a>> {
    let mut shut = BTreeSet::new();
    loop {
        let usable = offered(fleet, home, service, &shut);
        let here = ports(fleet, service, &usable);
        let ways: BTreeSet<_> = usable.iter().flat_map(|of| &of.through).map(|gate| gate.id).collect();
        let leads = |id: &str| {
            let gate = fleet.clusters.iter().find(|of| of.id == id);
            gate.is_some_and(|gate| {
                let there = offered(fleet, gate, service, &BTreeSet::new());
                let is_open = there.iter().any(|of| of.through.is_empty() && of.endpoint.meshed);
                is_open && here.is_subset(&ports(fleet, service, &there))
            })
        };
        let more: Vec<_> = ways.into_iter().filter(|id| !leads(id)).collect();
        if more.is_empty() {
            return usable;
        }
        shut.extend(more);
    }
}

/// The ports that all of these serve.
fn ports(fleet: &Dealt, service: &str, all: &[Usable<'_>]) -> BTreeSet<u16> {
    let known = fleet.clusters.iter().filter_map(|cluster| cluster.services.get(service));
    let tcp = known.flat_map(|of| &of.ports).filter(|of| !of.udp).map(|of| of.number);
    tcp.filter(|port| all.iter().all(|of| of.endpoint.targets.contains_key(port))).collect()
}

/// Ready ones, or those that still serve where none is ready; through the gateways of any cluster but these.
fn offered<'a>(fleet: &'a Dealt, home: &Cluster, service: &str, shut: &BTreeSet<&str>) -> Vec<Usable<'a>> {
    let mut ready = Vec::new();
    let mut serving = Vec::new();
    for cluster in &fleet.clusters {
        for endpoint in cluster.services.get(service).into_iter().flat_map(|of| &of.endpoints) {
            let network = endpoint.network.or(cluster.network);
            let through =
                if network == home.network { Some(Vec::new()) } else { lets_in(fleet, cluster, network, shut) };
            let Some(through) = through.filter(|through| through.is_empty() || endpoint.meshed) else { continue };
            let usable = Usable { cluster, endpoint, through };
            match endpoint.health {
                Health::Ready => ready.push(usable),
                Health::Serving => serving.push(usable),
                Health::Terminating | Health::NotReady => {}
            }
        }
    }
    if ready.is_empty() { serving } else { ready }
}

/// The clusters whose gateways lead to what a cluster has on a network: it itself, or all that have any there, as far as
/// these let our hosts through. `None` when there is none.
fn lets_in<'a>(
    fleet: &'a Dealt,
    cluster: &'a Cluster,
    network: Option<&str>,
    shut: &BTreeSet<&str>,
) -> Option<Vec<&'a Cluster>> {
    let leads = |of: &&Cluster| of.network == network && !of.gateways.is_empty();
    let mut all: Vec<&Cluster> = match Some(cluster).filter(leads) {
        Some(itself) => vec![itself],
        None => fleet.clusters.iter().filter(leads).collect(),
    };
    all.retain(|of| of.passes == "*.global" || of.passes == format!("{NAMESPACE}/*.global"));
    all.retain(|of| !shut.contains(of.id));
    (!all.is_empty()).then_some(all)
}

/// The addresses of a cluster's gateways: of two families those of IPv4.
fn ways_in(cluster: &Cluster) -> impl Iterator<Item = IpAddr> {
    let has_four = cluster.gateways.iter().any(IpAddr::is_ipv4);
    cluster.gateways.iter().copied().filter(move |address| address.is_ipv4() == has_four)
}

fn row(
    viewer: &Viewer,
    home: &Cluster,
    network: Option<&str>,
    locality: &str,
    address: IpAddr,
    port: u16,
    mutual_tls: bool,
) -> Row {
    let (mut theirs, mut ours) = (locality.split('/'), viewer.locality.split('/'));
    let mut is_same = || theirs.next() == ours.next();
    let distance = match (is_same(), is_same()) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    };
    let level = distance + if network == home.network { 0 } else { 3 };
    Row { level, locality: locality.to_owned(), address: address.to_string(), port: port.into(), mutual_tls }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, locality, address, port, mutual_tls } = self;
        write!(f, "P{level} {locality} {address} {port}{}", if *mutual_tls { " istio" } else { "" })
    }
}
