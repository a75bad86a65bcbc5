//! The record of a slice. Texts, localities and workloads that many endpoints have in common are held once, because a
//! fleet has many endpoints and few of those.

use super::{
    Record, RecordError, address_from_wire, address_to_wire, check_reader, port_from_wire, protocol_from_wire,
    protocol_to_wire,
};
use crate::{
    export::{Address, Endpoint, Health, Slice, TargetPort, Workload, can_be_a_label, can_be_an_endpoint},
    locality::{Levels, Locality, Network},
    wire,
};
use prost::Message;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// What is shared is looked through at this size first, for what nobody holds any more.
const FIRST_SWEEP: usize = 1024;

/// What slices that were decoded with it have in common.
#[derive(Debug, Default)]
pub struct Shared {
    texts: HashSet<Arc<str>>,
    localities: HashSet<Locality>,
    workloads: HashSet<Arc<Workload>>,
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
        for endpoint in wire.endpoints {
            endpoints.push(endpoint_from_wire(&endpoint, &workloads, shared)?);
        }
        Ok(Self { ports, endpoints })
    }
}

// === impl Shared ===

impl Shared {
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.texts.insert(new.clone());
        new
    }

    fn locality(&mut self, region: &str, zone: &str, subzone: &str) -> Locality {
        let new = Levels { region: self.text(region), zone: self.text(zone), subzone: self.text(subzone) };
        if let Some(known) = self.localities.get(&new) {
            return known.clone();
        }
        let new = Locality::from(new);
        self.localities.insert(new.clone());
        new
    }

    fn workload(&mut self, new: Workload) -> Arc<Workload> {
        if let Some(known) = self.workloads.get(&new) {
            return known.clone();
        }
        let new = Arc::new(new);
        self.workloads.insert(new.clone());
        new
    }

    /// Forgets what nobody else holds, whenever it has doubled in size.
    fn sweep(&mut self) {
        let size = |shared: &Self| shared.texts.len() + shared.localities.len() + shared.workloads.len();
        if size(self) < self.sweep.max(FIRST_SWEEP) {
            return;
        }
        self.localities.retain(|locality| Arc::strong_count(&locality.0) > 1);
        self.workloads.retain(|workload| Arc::strong_count(workload) > 1);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.sweep = 2 * size(self);
    }
}

fn endpoint_from_wire(
    wire: &wire::Endpoint,
    workloads: &[Arc<Workload>],
    shared: &mut Shared,
) -> Result<Endpoint, RecordError> {
    let address = if wire.host.is_empty() {
        let address = address_from_wire(&wire.address)?;
        if !can_be_an_endpoint(address) {
            return Err(RecordError::Address(address));
        }
        Address::Ip(address)
    } else {
        let host = Address::parse_host(&wire.host).filter(|address| address.to_string() == wire.host);
        host.ok_or_else(|| RecordError::Host(wire.host.clone()))?
    };
    let health = match wire.health() {
        wire::Health::NotReady => Health::NotReady,
        wire::Health::Ready if wire.held => Health::Held,
        wire::Health::Ready => Health::Ready,
        wire::Health::Draining => Health::Draining,
    };
    let workload = match wire.workload.checked_sub(1) {
        None => Workload::unknown(),
        Some(at) => {
            let known = usize::try_from(at).ok().and_then(|at| workloads.get(at));
            known.ok_or(RecordError::Workload(wire.workload))?.clone()
        }
    };
    Ok(Endpoint {
        address,
        network: (!wire.network.is_empty()).then(|| Network::from(shared.text(&wire.network))),
        health,
        // One of its own is hardly anybody else's.
        hostname: if wire.hostname.is_empty() { shared.text("") } else { wire.hostname.as_str().into() },
        locality: shared.locality(&wire.region, &wire.zone, &wire.subzone),
        workload,
    })
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
    Ok(shared.workload(Workload { labels, service_account }))
}
