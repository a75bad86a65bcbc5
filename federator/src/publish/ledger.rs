//! The ledger: what the store is known to hold of one cluster, so that a change is compared without reading. Read
//! once a tenure; kept by applying what was committed; corrected by what a refused transaction shows. Holds hashes,
//! not values.

use super::{batch::Batch, brake::Stood};
use crate::store::{Entry, Store, StoreError};
use model::{
    cluster::{Hold, Meta, SetHash, State, Synced, Tombstone},
    generation::Generation,
    key::Key,
    name::{ClusterId, ServiceKey},
    record::{Order, Record, RecordError},
    vip::Vip,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// What the store holds of one cluster.
#[derive(Clone, Debug)]
pub struct Ledger {
    cluster: ClusterId,
    /// The tenure in which it is kept.
    epoch: u64,
    meta: Option<Meta>,
    marker: Marker,
    tombstone: Known<Option<Tombstone>>,
    generation: Known<Option<Generation>>,
    state: Option<State>,
    hold: Known<Option<Hold>>,
    /// In the order of the keys. Lists, because most services have two records, and a map has room for eleven.
    records: BTreeMap<ServiceKey, Vec<(Key, SetHash)>>,
    orders: HashMap<ServiceKey, Known<Order>>,
    hosts: HashMap<Arc<str>, Known<Option<Vip>>>,
    taken: HashSet<IpAddr>,
    /// Keys that all clusters share and whose values are for readers of a later version: they are not written over.
    later: HashSet<Key>,
}

/// The marker as it stands in the store.
#[derive(Clone, Debug, Default)]
pub struct Marker {
    /// The revision of its last write; zero when there is none.
    pub modified: u64,
    /// What it says, with the count and hash that the records really have.
    pub synced: Synced,
    /// Whether it says so itself.
    pub fits: bool,
}

/// A value and the revision of its last write.
#[derive(Clone, Debug, Default)]
pub struct Known<T> {
    /// The value.
    pub value: T,
    /// The revision; zero when there is none.
    pub modified: u64,
}

/// What a refused transaction means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surprise {
    /// It had been done, at this revision.
    DoneAlready(u64),
    /// Somebody else is the owner.
    NotOwner,
    /// Somebody wrote the marker who is not the owner.
    Overwritten,
    /// The store was restored or emptied since the ledger was read.
    AnotherLife,
    /// The cluster was removed from the fleet, or readmitted, since the ledger was read.
    Buried,
    /// Something else stood there than was known, and is known now.
    Learned,
}

// === impl Ledger ===

impl Ledger {
    /// Reads what the store holds; the records themselves too, which are not kept.
    ///
    /// # Errors
    /// [`StoreError`], when not all of it could be read.
    pub async fn read(store: &dyn Store, cluster: &ClusterId, epoch: u64) -> Result<(Self, Stood), StoreError> {
        let mut stood = Stood::default();
        let mut ledger = Self {
            cluster: cluster.clone(),
            epoch,
            meta: None,
            marker: Marker::default(),
            tombstone: Known::default(),
            generation: Known::default(),
            state: None,
            hold: Known::default(),
            records: BTreeMap::new(),
            orders: HashMap::new(),
            hosts: HashMap::new(),
            taken: HashSet::new(),
            later: HashSet::new(),
        };
        // The generation and the tombstone first: what was read before a loss or a removal must not be written after it.
        let fences = [Key::Generation.to_string(), Key::Tombstone(cluster.clone()).to_string()];
        let own = fences.into_iter().chain([Key::cluster(cluster), Key::records_of(cluster)]);
        for prefix in own.chain([Key::ORDERS.into(), Key::VIPS.into()]) {
            for (key, entry) in store.read(&prefix).await?.entries {
                ledger.note(&key, Some(&entry));
                stood.note(&key, entry.value);
            }
        }
        // The records are the truth about themselves: somebody may have written past the marker.
        let said = ledger.marker.synced.clone();
        let hashes = ledger.records.values().flatten().map(|(_, hash)| hash);
        ledger.marker.synced.records = hashes.clone().count() as u64;
        ledger.marker.synced.hash = hashes.fold(SetHash::default(), |sum, hash| sum.plus(*hash));
        ledger.marker.fits = said == ledger.marker.synced;
        Ok((ledger, stood))
    }

    /// The tenure's fence.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The services of this cluster that the store has records of.
    pub fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.records.keys()
    }

    /// The record keys of a service, in their order.
    pub fn records(&self, service: &ServiceKey) -> impl Iterator<Item = &Key> {
        self.records.get(service).into_iter().flatten().map(|(key, _)| key)
    }

    /// The hash of what stands behind a record key of a service.
    #[must_use]
    pub fn hash(&self, service: &ServiceKey, key: &Key) -> Option<SetHash> {
        let records = self.records.get(service)?;
        let at = records.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        Some(records[at].1)
    }

    /// What the cluster is said to be.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()
    }

    /// The marker.
    #[must_use]
    pub fn marker(&self) -> &Marker {
        &self.marker
    }

    /// The tombstone.
    #[must_use]
    pub fn tombstone(&self) -> &Known<Option<Tombstone>> {
        &self.tombstone
    }

    /// The life of the store in which the ledger was read.
    #[must_use]
    pub fn generation(&self) -> &Known<Option<Generation>> {
        &self.generation
    }

    /// Whether everybody had the time to say again what a lost store held.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.generation.value.as_ref().is_some_and(|generation| generation.settled)
    }

    /// The same life of the store, said anew: it is settled now.
    pub fn set_generation(&mut self, generation: Generation, modified: u64) {
        self.generation = Known { value: Some(generation), modified };
    }

    /// Whether the cluster is said to be live or frozen.
    #[must_use]
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// What is said of endpoints that are held.
    #[must_use]
    pub fn hold(&self) -> &Known<Option<Hold>> {
        &self.hold
    }

    /// What is said of held endpoints is not about those that are held now: whatever it says is written over.
    pub fn disregard_hold(&mut self) {
        self.hold.value = None;
    }

    /// An operator was heard to accept what is held.
    pub fn accept_hold(&mut self) {
        if let Some(hold) = &mut self.hold.value {
            hold.accepted = true;
        }
    }

    /// Whether the cluster is removed from the fleet.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.tombstone.value.as_ref().is_some_and(|tombstone| tombstone.removed)
    }

    /// The order of a service's clusters.
    #[must_use]
    pub fn order(&self, service: &ServiceKey) -> Option<&Known<Order>> {
        self.orders.get(service)
    }

    /// The virtual addresses of a host; a key without addresses is one that does not decode.
    #[must_use]
    pub fn vip(&self, host: &str) -> Option<&Known<Option<Vip>>> {
        self.hosts.get(host)
    }

    /// Whether what stands behind a key that all clusters share is for readers of a later version.
    #[must_use]
    pub fn is_later(&self, key: &Key) -> bool {
        self.later.contains(key)
    }

    /// Whether a virtual address is some host's.
    #[must_use]
    pub fn is_taken(&self, address: IpAddr) -> bool {
        self.taken.contains(&address)
    }

    /// Takes over what a committed batch wrote.
    pub fn apply(&mut self, batch: &Batch, revision: u64) {
        for (key, value) in &batch.txn.writes {
            let entry =
                value.as_ref().map(|value| Entry { value: value.clone(), created: revision, modified: revision });
            self.note(key, entry.as_ref());
        }
        self.marker = Marker { modified: revision, synced: batch.marker.clone(), fits: true };
    }

    /// Takes over what stands behind the guarded keys of a refused batch.
    pub fn learn(&mut self, batch: &Batch, found: &BTreeMap<String, Option<Entry>>) -> Surprise {
        let marker = Key::Synced(self.cluster.clone()).to_string();
        if let Some(Some(entry)) = found.get(&marker)
            && entry.value == batch.marker.encode()
        {
            return Surprise::DoneAlready(entry.modified);
        }
        let tombstone = found.get(&Key::Tombstone(self.cluster.clone()).to_string());
        let modified = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.modified);
        if tombstone.is_some_and(|entry| modified(entry) != self.tombstone.modified) {
            return Surprise::Buried;
        }
        let owner = found.get(&Key::Owner(self.cluster.clone()).to_string());
        let still_owner = owner.is_none_or(|entry| modified(entry) == self.epoch);
        let generation = found.get(&Key::Generation.to_string()).and_then(Option::as_ref);
        let life = generation.and_then(|entry| Generation::decode(&entry.value).ok());
        if life.map(|life| life.id) != self.generation.value.as_ref().map(|life| life.id.clone()) {
            return Surprise::AnotherLife;
        }
        let same_marker = found.get(&marker).is_none_or(|entry| modified(entry) == self.marker.modified);
        if !still_owner {
            return Surprise::NotOwner;
        }
        if !same_marker {
            return Surprise::Overwritten;
        }
        for (key, entry) in found {
            self.note(key, entry.as_ref());
        }
        Surprise::Learned
    }

    /// Takes note of one key. What does not decode is treated as absent and so gets written again.
    fn note(&mut self, text: &str, entry: Option<&Entry>) {
        let Ok(key) = Key::parse(text) else { return };
        match &key {
            Key::Meta(id) if *id == self.cluster => {
                self.meta = entry.and_then(|entry| Meta::decode(&entry.value).ok());
            }
            Key::Synced(id) if *id == self.cluster => {
                let synced = entry.and_then(|entry| Synced::decode(&entry.value).ok()).unwrap_or_default();
                self.marker = Marker { modified: entry.map_or(0, |entry| entry.modified), synced, fits: true };
            }
            Key::State(id) if *id == self.cluster => {
                self.state = entry.and_then(|entry| State::decode(&entry.value).ok());
            }
            Key::Hold(id) if *id == self.cluster => {
                let value = entry.and_then(|entry| Hold::decode(&entry.value).ok());
                self.hold = Known { value, modified: entry.map_or(0, |entry| entry.modified) };
            }
            Key::Generation => {
                let value = entry.and_then(|entry| Generation::decode(&entry.value).ok());
                self.generation = Known { value, modified: entry.map_or(0, |entry| entry.modified) };
            }
            Key::Tombstone(id) if *id == self.cluster => {
                let modified = entry.map_or(0, |entry| entry.modified);
                self.tombstone =
                    Known { value: entry.and_then(|entry| Tombstone::decode(&entry.value).ok()), modified };
            }
            Key::Head(id, service) | Key::Slice(id, service, _) if *id == self.cluster => {
                let hash = entry.map(|entry| SetHash::of(text, &entry.value));
                self.note_record(service.clone(), key.clone(), hash);
            }
            Key::Order(service) => {
                let Known { value, modified } = self.shared::<Order>(&key, entry);
                self.orders.insert(service.clone(), Known { value: value.unwrap_or_default(), modified });
            }
            Key::VipOfHost(host) => {
                let known = self.shared::<Vip>(&key, entry);
                self.hosts.insert(host.clone(), known);
            }
            Key::HostOfVip(address) => {
                if entry.is_some() {
                    self.taken.insert(*address);
                } else {
                    self.taken.remove(address);
                }
            }
            _ => {}
        }
    }

    /// What stands behind a key that all clusters share.
    fn shared<R: Record>(&mut self, key: &Key, entry: Option<&Entry>) -> Known<Option<R>> {
        let value = entry.map(|entry| R::decode(&entry.value));
        if let Some(Err(RecordError::Reader(_))) = value {
            self.later.insert(key.clone());
        } else {
            self.later.remove(key);
        }
        Known { value: value.and_then(Result::ok), modified: entry.map_or(0, |entry| entry.modified) }
    }

    fn note_record(&mut self, service: ServiceKey, key: Key, hash: Option<SetHash>) {
        match hash {
            Some(hash) => {
                let records = self.records.entry(service).or_insert_with(|| Vec::with_capacity(2));
                match records.binary_search_by(|(known, _)| known.cmp(&key)) {
                    Ok(at) => records[at].1 = hash,
                    Err(at) => records.insert(at, (key, hash)),
                }
            }
            None => {
                if let Some(records) = self.records.get_mut(&service) {
                    records.retain(|(known, _)| *known != key);
                    if records.is_empty() {
                        self.records.remove(&service);
                    }
                }
            }
        }
    }
}
