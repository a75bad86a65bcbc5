//! One cluster as it really is: services and pods that come and go, and its API server's version of them. It is the truth
//! that every View is compared with. Knows nothing of who looks at it.

use crate::{dice::Dice, journal::Journal};
use model::{
    cluster::Meta,
    export::{Address, Endpoint, Export, Head, Health, Kind, Port, Protocol, Slice, TargetPort},
    locality::Network,
    name::{ClusterId, ServiceKey},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Services of these names exist at times; several clusters have the same.
const NAMES: [&str; 7] = ["web", "api", "cart", "mail", "search", "pay", "log"];

/// A cluster. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) id: ClusterId,
    pub(crate) meta: Meta,
    number: u8,
    now: watch::Sender<State>,
    journal: Journal,
}

/// What there is in a cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Grows with every change.
    pub(crate) version: u64,
    pub(crate) services: BTreeMap<ServiceKey, Service>,
    /// How many pods there ever were: no address is used twice.
    pods: u16,
    /// The services that there were before.
    deleted: BTreeMap<ServiceKey, Instant>,
}

/// A service, and since when there is what.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// What it is and what is behind it, as it is to be seen everywhere.
    pub(crate) export: Arc<Export>,
    kind: Kind,
    pods: BTreeMap<IpAddr, Pod>,
    /// Since when it exists; long before, when it never existed and went.
    pub(crate) since: Option<Instant>,
}

/// A pod behind a service.
#[derive(Clone, Copy, Debug)]
struct Pod {
    since: Instant,
    slice: &'static str,
    health: Health,
}

// === impl Source ===

impl Source {
    /// The cluster of a number, with some services.
    pub(crate) fn new(number: u8, dice: &Dice, journal: &Journal) -> Self {
        let names = ["east", "west", "south", "north"];
        let id = ClusterId::parse(names[usize::from(number) % names.len()]).expect("a cluster id");
        let network = Network::new(if number < 2 { "n1" } else { "n2" });
        let meta = Meta { uid: format!("uid-{id}").into(), network, ..Meta::default() };
        let source = Self { id, meta, number, now: watch::Sender::default(), journal: journal.clone() };
        for _ in 0..dice.number(1..=4) {
            source.change(dice);
        }
        source
    }

    /// What there is, and what there will be.
    pub(crate) fn look(&self) -> watch::Receiver<State> {
        self.now.subscribe()
    }

    /// Something changes in the cluster.
    pub(crate) fn change(&self, dice: &Dice) {
        self.now.send_modify(|state| {
            state.version += dice.number(1..=5) as u64;
            let services: Vec<_> = state.services.keys().cloned().collect();
            match (dice.any_of(&services), dice.number(0..=9)) {
                (Some(service), 0) => {
                    self.journal.note(format_args!("{}: {service} is deleted", self.id));
                    state.services.remove(service);
                    state.deleted.insert(service.clone(), Instant::now());
                }
                (Some(service), 1..=7) => self.change_service(state, service, dice),
                _ => {
                    let name = dice.any_of(&NAMES).expect("there are names");
                    let service = ServiceKey::parse("demo", name).expect("labels");
                    self.change_service(state, &service, dice);
                }
            }
        });
    }

    fn change_service(&self, state: &mut State, key: &ServiceKey, dice: &Dice) {
        let since = state.deleted.get(key).map(|_| Instant::now());
        let kind = if dice.once_in(4) { Kind::Headless } else { Kind::ClusterIp };
        let new = || Service { export: export(kind, &BTreeMap::new()), kind, pods: BTreeMap::new(), since };
        let service = state.services.entry(key.clone()).or_insert_with(new);
        let pods: Vec<_> = service.pods.keys().copied().collect();
        match (dice.any_of(&pods), dice.number(0..=5)) {
            (Some(pod), 0..=1) => {
                self.journal.note(format_args!("{}: {key} loses {pod}", self.id));
                service.pods.remove(pod);
            }
            (Some(address), 2) => {
                self.journal.note(format_args!("{}: {key}: health of {address} turns", self.id));
                if let Some(pod) = service.pods.get_mut(address) {
                    pod.health = if pod.health == Health::Ready { Health::NotReady } else { Health::Ready };
                }
            }
            _ => {
                state.pods += 1;
                let [high, low] = state.pods.to_be_bytes();
                let address = IpAddr::from(Ipv4Addr::new(10, self.number + 1, high, low));
                self.journal.note(format_args!("{}: {key} gets {address}", self.id));
                let slice = if dice.once_in(2) { "s0" } else { "s1" };
                service.pods.insert(address, Pod { since: Instant::now(), slice, health: Health::Ready });
            }
        }
        service.export = export(service.kind, &service.pods);
    }
}

// === impl State ===

impl State {
    /// Since when a pod is behind a service, if it is.
    pub(crate) fn pod_since(&self, service: &ServiceKey, pod: IpAddr) -> Option<Instant> {
        Some(self.services.get(service)?.pods.get(&pod)?.since)
    }

    /// Whether a service has been there all the time since well before `when`.
    pub(crate) fn is_older(&self, service: &ServiceKey, when: Instant) -> bool {
        let slack = Duration::from_secs(20);
        self.services.get(service).is_some_and(|service| service.since.is_none_or(|since| since + slack <= when))
    }
}

/// What a service is to be seen as.
fn export(kind: Kind, pods: &BTreeMap<IpAddr, Pod>) -> Arc<Export> {
    let port = Port { name: "http".into(), number: 80, protocol: Protocol::Tcp, app_protocol: "".into() };
    let target = TargetPort { name: "http".into(), number: 8080, protocol: Protocol::Tcp };
    let mut slices: BTreeMap<Arc<str>, Slice> = BTreeMap::new();
    for (address, pod) in pods {
        let slice = slices.entry(pod.slice.into()).or_default();
        slice.ports = [target.clone()].into();
        slice.endpoints.push(endpoint(*address, pod.health));
    }
    let slices = slices.into_iter().map(|(name, slice)| (name, Arc::new(slice))).collect();
    Arc::new(Export { head: Arc::new(Head { kind, ports: [port].into(), ..Head::default() }), slices })
}

fn endpoint(pod: IpAddr, health: Health) -> Endpoint {
    Endpoint { address: Address::Ip(pod), health, traits: Arc::default() }
}
