//! Fleets from seeds: a few clusters on up to three networks, what each exports of up to three services, and how others
//! come in. The same seed deals the same fleet. Knows nothing of what becomes of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

/// The namespace of all services.
pub(super) const NAMESPACE: &str = "shop";

/// Services, networks, regions, and zones of a region.
const SERVICES: [&str; 3] = ["web", "api", "db"];
const NETWORKS: [&str; 3] = ["n1", "n2", "n3"];
const REGIONS: [&str; 3] = ["r1", "r2", "r3"];
const ZONES: [&str; 2] = ["z1", "z2"];

/// Numbers of ports with what they may be called. No name is that of two numbers: which of two such ports counts is for
/// the order of exports to say, and here nobody is first.
const PORTS: [(u16, [&str; 2], bool); 4] = [
    (80, ["http", "http-web"], false),
    (90, ["grpc", "tcp-api"], false),
    (9090, ["metrics", "http-metrics"], false),
    (53, ["dns", "dns-udp"], true),
];

/// A fleet.
#[derive(Debug)]
pub(super) struct Dealt {
    pub(super) seed: u64,
    pub(super) clusters: Vec<Cluster>,
}

/// A cluster of it.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) id: &'static str,
    /// None where nobody in the fleet says on which network anything is.
    pub(super) network: Option<&'static str>,
    pub(super) region: &'static str,
    /// At least one.
    pub(super) zones: Vec<&'static str>,
    pub(super) gateways: Vec<IpAddr>,
    pub(super) gateway_port: u16,
    /// Whether the gateways are to be found, and not configured.
    pub(super) found: bool,
    /// What the gateways let through, as their `Gateway` says it; empty where there is none.
    pub(super) passes: &'static str,
    pub(super) services: BTreeMap<&'static str, Service>,
}

/// What a cluster exports.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) headless: bool,
    /// Whether an endpoint stands in two slices, as while a controller moves it.
    pub(super) moving: bool,
    pub(super) ports: Vec<Port>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// A port of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) name: &'static str,
    pub(super) udp: bool,
}

/// An endpoint of a service.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) health: Health,
    pub(super) zone: &'static str,
    /// Whether it has a sidecar.
    pub(super) meshed: bool,
    /// Where it is not on the network of its cluster.
    pub(super) network: Option<&'static str>,
    /// The service's ports that it serves, and where it listens.
    pub(super) targets: BTreeMap<u16, u16>,
}

/// What an EndpointSlice says of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Ready,
    /// It is being stopped, and serves.
    Serving,
    /// It is being stopped, and does not serve any more.
    Terminating,
    NotReady,
}

/// Who deals.
struct Dealer {
    rng: Rng,
    seed: u64,
    /// Whether networks use the same addresses, as those do that nobody routes between.
    overlap: bool,
}

// === impl Dealt ===

impl Dealt {
    pub(super) fn of(seed: u64) -> Self {
        let mut dealer = Dealer { rng: Rng::with_seed(seed), seed, overlap: false };
        dealer.fleet()
    }

    /// The services that anybody exports, and the numbers of all ports of each.
    pub(super) fn services(&self) -> BTreeMap<&'static str, Vec<u16>> {
        let mut all: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
        for (name, service) in self.clusters.iter().flat_map(|cluster| &cluster.services) {
            all.entry(name).or_default().extend(service.ports.iter().map(|port| port.number));
        }
        for ports in all.values_mut() {
            ports.sort_unstable();
            ports.dedup();
        }
        all
    }
}

// === impl Dealer ===

impl Dealer {
    fn once_in(&mut self, times: u32) -> bool {
        self.rng.u32(0..times) == 0
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())]
    }

    fn fleet(&mut self) -> Dealt {
        let clusters = self.rng.usize(1..=4);
        let said = !self.once_in(5);
        let networks = self.rng.usize(1..=3);
        self.overlap = said && self.once_in(3);
        let ids = ["a", "b", "c", "d"];
        let mut clusters: Vec<Cluster> = (0..clusters)
            .map(|number| {
                let network = said.then(|| self.any(&NETWORKS[..networks]));
                self.cluster(ids[number], network)
            })
            .collect();
        for service in SERVICES.into_iter().take(self.rng.usize(1..=3)) {
            let headless = self.once_in(5);
            let usual: Vec<_> =
                PORTS.into_iter().filter(|(number, ..)| !self.once_in(if *number == 80 { 9 } else { 2 })).collect();
            let exporter = self.rng.usize(0..clusters.len());
            for number in 0..clusters.len() {
                if number == exporter || !self.once_in(4) {
                    // What of all clusters of a network is one range.
                    let before = clusters[..number].iter().filter(|other| other.network == clusters[number].network);
                    let range = if self.overlap { before.count() } else { number };
                    let ports = self.ports(&usual);
                    let made = self.service(service, headless, ports, &clusters[number], range);
                    clusters[number].services.insert(service, made);
                }
            }
            self.share(service, &mut clusters);
        }
        Dealt { seed: self.seed, clusters }
    }

    fn cluster(&mut self, id: &'static str, network: Option<&'static str>) -> Cluster {
        let digit = id.as_bytes()[0] - b'a' + 1;
        let count = if network.is_some() { self.any(&[0, 0, 1, 1, 2, 3]) } else { 0 };
        let gateway = |six: bool, number: u8| -> IpAddr {
            match six {
                false => Ipv4Addr::new(172, 16, digit, number).into(),
                true => Ipv6Addr::new(0xfd00, 0x16, 0, 0, 0, 0, digit.into(), number.into()).into(),
            }
        };
        let six = self.once_in(4);
        let mut gateways: Vec<IpAddr> = (1..=count).map(|number| gateway(six, number)).collect();
        if count > 0 && self.once_in(3) {
            gateways.push(gateway(!six, 9));
        }
        let found = self.once_in(2);
        let zones = if self.once_in(3) { vec![self.any(&ZONES)] } else { ZONES.to_vec() };
        Cluster {
            id,
            network,
            region: self.any(&REGIONS),
            zones,
            gateways,
            gateway_port: if self.once_in(4) { 8443 } else { 15443 },
            found,
            passes: self.any(&["*.global", "*.global", "*.global", "shop/*.global", "other/*.global", "*.local", ""]),
            services: BTreeMap::new(),
        }
    }

    /// The ports of a service in one cluster, which may lack one that it has elsewhere.
    fn ports(&mut self, usual: &[(u16, [&'static str; 2], bool)]) -> Vec<Port> {
        let mut ports = Vec::new();
        for (number, names, udp) in usual {
            if !self.once_in(9) {
                ports.push(Port { number: *number, name: self.any(names), udp: *udp });
            }
        }
        if ports.is_empty() {
            ports.push(Port { number: 80, name: "", udp: false });
        }
        ports
    }

    fn service(&mut self, name: &str, headless: bool, ports: Vec<Port>, cluster: &Cluster, range: usize) -> Service {
        let (count, dying) = (self.any(&[0, 1, 2, 3, 4, 5, 20]), self.once_in(4));
        // All alike, or pods of two kinds, of which one does not serve all.
        let kinds: Vec<BTreeMap<u16, u16>> = (0..self.any(&[1, 1, 2]))
            .map(|kind| {
                let mut targets = BTreeMap::new();
                for port in &ports {
                    let elsewhere = self.any(&[0, 0, 8000, 10_000]);
                    if kind == 0 || !self.once_in(5) {
                        targets.insert(port.number, port.number + elsewhere);
                    }
                }
                targets
            })
            .collect();
        let endpoints = (0..count).map(|number| {
            let six = self.once_in(4);
            let health = match self.rng.u32(0..10) {
                0..6 if !dying => Health::Ready,
                0..8 => Health::Serving,
                8 => Health::Terminating,
                _ => Health::NotReady,
            };
            let mine = SERVICES.iter().position(|of| *of == name).unwrap_or_default();
            let elsewhere = cluster.network.is_some() && !self.overlap && self.once_in(12);
            Endpoint {
                address: address(six, range, mine, number),
                health,
                zone: self.any(&cluster.zones),
                meshed: !self.once_in(4),
                network: elsewhere.then(|| self.any(&NETWORKS)),
                targets: kinds[self.rng.usize(0..kinds.len())].clone(),
            }
        });
        let endpoints = endpoints.collect();
        Service { headless, moving: self.once_in(4), ports, endpoints }
    }

    /// A machine outside of clusters may be registered in two of them.
    fn share(&mut self, service: &str, clusters: &mut [Cluster]) {
        if self.overlap || clusters.len() < 2 || !self.once_in(3) {
            return;
        }
        let (first, others) = clusters.split_at_mut(1);
        let first = &first[0];
        let Some(machine) = first.services.get(service).and_then(|of| of.endpoints.first()) else { return };
        for other in others.iter_mut().filter(|of| (of.network, of.region) == (first.network, first.region)) {
            let zones = &other.zones;
            let Some(known) = other.services.get_mut(service) else { continue };
            let is_port = |number: &u16| known.ports.iter().any(|port| port.number == *number);
            if zones.contains(&machine.zone) && machine.targets.keys().all(is_port) {
                known.endpoints.push(machine.clone());
            }
        }
    }
}

fn address(six: bool, range: usize, service: usize, number: usize) -> IpAddr {
    let part = |number: usize| u8::try_from(number + 1).unwrap_or(u8::MAX);
    let (range, service, number) = (part(range), part(service), part(number));
    match six {
        false => Ipv4Addr::new(10, range, service, number).into(),
        true => Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, range.into(), service.into(), number.into()).into(),
    }
}
