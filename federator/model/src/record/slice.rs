//! The record of a slice. Texts, localities and workloads that many endpoints have in common are held once, because a
//! fleet has many endpoints and few of those.

use super::{
    Record, RecordError, address_from_wire, address_to_wire, check_reader, port_from_wire, protocol_from_wire,
    protocol_to_wire,
};
use crate::{
    export::{
        Address, Endpoint, Exported, Health, Port, Slice, TargetPort, Traits, Workload, can_be_a_label,
        can_be_an_endpoint,
    },
    locality::{Levels, Network},
    name::ClusterId,
    wire,
};
use prost::Message;
use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

/// What is shared is looked through at this size first, for what nobody holds any more.
const FIRST_SWEEP: usize = 1024;

/// So many kinds of endpoints are told apart within a slice; a headless service may have as many as endpoints.
const MANY_KINDS: usize = 8;

/// What records that were decoded with it have in common.
#[derive(Debug, Default)]
pub struct Shared {
    clusters: HashSet<ClusterId>,
    texts: HashSet<Arc<str>>,
    ports: HashSet<Arc<[Port]>>,
    targets: HashSet<Arc<[TargetPort]>>,
    traits: HashSet<Arc<Traits>>,
    workloads: HashSet<Arc<Workload>>,
    exported: HashSet<Arc<Exported>>,
    /// The size at which it is looked through.
    sweep: usize,
}

impl Record for Slice {
    fn encode(&self) -> Vec<u8> {
        let target = |target: &TargetPort| wire::TargetPort {
            name: target.name.to_string(),
            number: target.number.into(),
            protocol: protocol_to_wire(target.protocol),
        };
        let mut workloads = Vec::new();
        let mut numbers: HashMap<&Workload, u32> = HashMap::new();
        for workload in self.endpoints.iter().map(|endpoint| &*endpoint.workload).filter(|known| !known.is_unknown()) {
            numbers.entry(workload).or_insert_with(|| {
                workloads.push(workload_to_wire(workload));
                u32::try_from(workloads.len()).unwrap_or(u32::MAX)
            });
        }
        let endpoint = |endpoint: &Endpoint| wire::Endpoint {
            address: endpoint.address.ip().map(address_to_wire).unwrap_or_default(),
            health: match endpoint.health {
                Health::NotReady => wire::Health::NotReady,
                Health::Ready | Health::Held => wire::Health::Ready,
                Health::Draining => wire::Health::Draining,
            }
            .into(),
            hostname: endpoint.hostname.to_string(),
            region: endpoint.locality.region.to_string(),
            zone: endpoint.locality.zone.to_string(),
            subzone: endpoint.locality.subzone.to_string(),
            host: match &endpoint.address {
                Address::Host(host) => host.to_string(),
                Address::Ip(_) => String::new(),
            },
            network: endpoint.network.as_ref().map(|network| network.as_str().to_owned()).unwrap_or_default(),
            workload: numbers.get(&*endpoint.workload).copied().unwrap_or_default(),
            held: endpoint.health == Health::Held,
        };
        let (ports, endpoints) =
            (self.ports.iter().map(target).collect(), self.endpoints.iter().map(endpoint).collect());
        wire::Slice { ports, endpoints, workloads, reader: 0 }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::decode_sharing(bytes, &mut Shared::default())
    }
}

impl Slice {
    /// Reads it back, and holds what it has in common with others only once.
    ///
    /// # Errors
    /// As [`Record::decode`].
    pub fn decode_sharing(bytes: &[u8], shared: &mut Shared) -> Result<Self, RecordError> {
        let wire = wire::Slice::decode(bytes)?;
        check_reader(wire.reader)?;
        shared.sweep();
        let workloads: Vec<Arc<Workload>> =
            wire.workloads.iter().map(|workload| workload_from_wire(workload, shared)).collect::<Result<_, _>>()?;
        let mut ports = Vec::with_capacity(wire.ports.len());
        for target in wire.ports {
            let (number, protocol) = (port_from_wire(target.number)?, protocol_from_wire(target.protocol()));
            ports.push(TargetPort { name: shared.text(&target.name), number, protocol });
        }
        let mut endpoints = Vec::with_capacity(wire.endpoints.len());
        // A few kinds of endpoints make most slices.
        let mut kinds: Vec<(&wire::Endpoint, Arc<Traits>)> = Vec::new();
        for endpoint in &wire.endpoints {
            let (address, health) = (endpoint_address(endpoint)?, health_from_wire(endpoint));
            let known = kinds.iter().find(|(known, _)| is_alike(known, endpoint));
            let traits = match known {
                Some((_, traits)) => traits.clone(),
                None => {
                    let traits = traits_from_wire(endpoint, &workloads, shared)?;
                    if kinds.len() < MANY_KINDS {
                        kinds.push((endpoint, traits.clone()));
                    }
                    traits
                }
            };
            endpoints.push(Endpoint { address, health, traits });
        }
        Ok(Self { ports: once(&mut shared.targets, ports), endpoints })
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn text(&mut self, text: &str) -> Arc<str> {
        once(&mut self.texts, text)
    }

    pub(super) fn cluster(&mut self, id: ClusterId) -> ClusterId {
        if let Some(known) = self.clusters.get(&id) {
            return known.clone();
        }
        self.clusters.insert(id.clone());
        id
    }

    pub(super) fn ports(&mut self, ports: Vec<Port>) -> Arc<[Port]> {
        once(&mut self.ports, ports)
    }

    pub(super) fn exported(&mut self, exported: Exported) -> Arc<Exported> {
        once(&mut self.exported, exported)
    }

    /// Forgets what nobody else holds, whenever it has doubled in size.
    pub(super) fn sweep(&mut self) {
        let size = |shared: &Self| {
            let lists = shared.ports.len() + shared.targets.len() + shared.exported.len();
            lists + shared.clusters.len() + shared.texts.len() + shared.traits.len() + shared.workloads.len()
        };
        if size(self) < self.sweep.max(FIRST_SWEEP) {
            return;
        }
        self.clusters.retain(ClusterId::is_shared);
        self.ports.retain(|ports| Arc::strong_count(ports) > 1);
        self.targets.retain(|targets| Arc::strong_count(targets) > 1);
        self.traits.retain(|traits| Arc::strong_count(traits) > 1);
        self.workloads.retain(|workload| Arc::strong_count(workload) > 1);
        self.exported.retain(|exported| Arc::strong_count(exported) > 1);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.sweep = 2 * size(self);
    }
}

/// The value that is held already, else this one from now on.
fn once<T: ?Sized + Eq + Hash>(held: &mut HashSet<Arc<T>>, new: impl Into<Arc<T>> + Borrow<T>) -> Arc<T> {
    if let Some(known) = held.get(new.borrow()) {
        return known.clone();
    }
    let new = new.into();
    held.insert(new.clone());
    new
}

fn endpoint_address(wire: &wire::Endpoint) -> Result<Address, RecordError> {
    if wire.host.is_empty() {
        let address = address_from_wire(&wire.address)?;
        return if can_be_an_endpoint(address) { Ok(Address::Ip(address)) } else { Err(RecordError::Address(address)) };
    }
    let host = Address::parse_host(&wire.host).filter(|address| address.to_string() == wire.host);
    host.ok_or_else(|| RecordError::Host(wire.host.clone()))
}

fn health_from_wire(wire: &wire::Endpoint) -> Health {
    match wire.health() {
        wire::Health::NotReady => Health::NotReady,
        wire::Health::Ready if wire.held => Health::Held,
        wire::Health::Ready => Health::Ready,
        wire::Health::Draining => Health::Draining,
    }
}

/// Whether two endpoints of one slice have the same traits.
fn is_alike(a: &wire::Endpoint, b: &wire::Endpoint) -> bool {
    a.workload == b.workload
        && a.zone == b.zone
        && a.region == b.region
        && a.subzone == b.subzone
        && a.network == b.network
        && a.hostname == b.hostname
}

fn traits_from_wire(
    wire: &wire::Endpoint,
    workloads: &[Arc<Workload>],
    shared: &mut Shared,
) -> Result<Arc<Traits>, RecordError> {
    let workload = match wire.workload.checked_sub(1) {
        None => Workload::unknown(),
        Some(at) => {
            let known = usize::try_from(at).ok().and_then(|at| workloads.get(at));
            known.ok_or(RecordError::Workload(wire.workload))?.clone()
        }
    };
    let [region, zone, subzone] = [&wire.region, &wire.zone, &wire.subzone].map(|text| shared.text(text));
    let traits = Traits {
        network: (!wire.network.is_empty()).then(|| Network::from(shared.text(&wire.network))),
        hostname: shared.text(&wire.hostname),
        locality: Levels { region, zone, subzone }.into(),
        workload,
    };
    Ok(once(&mut shared.traits, traits))
}

fn workload_to_wire(workload: &Workload) -> wire::Workload {
    let label = |(key, value): (&Arc<str>, &Arc<str>)| wire::Label { key: key.to_string(), value: value.to_string() };
    wire::Workload {
        labels: workload.labels.iter().map(label).collect(),
        service_account: workload.service_account.to_string(),
    }
}

fn workload_from_wire(wire: &wire::Workload, shared: &mut Shared) -> Result<Arc<Workload>, RecordError> {
    if let Some(bad) = wire.labels.iter().find(|label| !can_be_a_label(&label.key, &label.value)) {
        return Err(RecordError::Label(bad.key.clone(), bad.value.clone()));
    }
    let labels = wire.labels.iter().map(|label| (shared.text(&label.key), shared.text(&label.value))).collect();
    let service_account = shared.text(&wire.service_account);
    Ok(once(&mut shared.workloads, Workload { labels, service_account }))
}
