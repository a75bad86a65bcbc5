//! The ledger: what the store is known to hold of one cluster, so that a change is compared without reading. Read
//! once a tenure; kept by applying what was committed; corrected by what a refused transaction shows. Holds hashes,
//! not values.

use super::{batch::Batch, brake::Stood};
use crate::store::{Entry, Guard, Store, StoreError};
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
    hash::{DefaultHasher, Hasher as _},
    net::IpAddr,
    sync::Arc,
};

/// What the store holds of one cluster.
#[derive(Clone, Debug)]
pub struct Ledger {
    cluster: ClusterId,
    /// The tenure in which it is kept.
    epoch: u64,
    /// Whether the owner key is that tenure's.
    is_owner: bool,
    /// What stands behind the keys that fence every transaction, as it stands there.
    fences: BTreeMap<String, Option<Vec<u8>>>,
    meta: Option<Meta>,
    marker: Marker,
    /// Whether the marker was written before everybody had said what a lost store held, and is to say once more how far
    /// the source has come: who held more waits for that.
    is_early: bool,
    tombstone: Option<Tombstone>,
    generation: Option<Generation>,
    state: Option<State>,
    hold: Known<Option<Hold>>,
    /// In the order of the keys. Lists, because most services have two records, and a map has room for eleven.
    records: BTreeMap<ServiceKey, Vec<(Key, SetHash)>>,
    /// Of services that this cluster has a part in, here and below: what there is of others is learnt when it matters.
    orders: HashMap<ServiceKey, Known<Order>>,
    hosts: HashMap<Arc<str>, Known<Option<Vip>>>,
    /// Addresses that are somebody's, with the hash of what stands behind each: it is shared by all, and whose it is is
    /// asked of few.
    taken: HashMap<IpAddr, u64>,
    /// Whether these were read before everybody had said what a lost store held of them.
    is_unsaid: bool,
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
        let of_cluster = [Key::Owner, Key::Synced, Key::Tombstone].map(|key| key(cluster.clone()));
        let fences = of_cluster.into_iter().chain([Key::Generation]).map(|key| (key.to_string(), None)).collect();
        let mut ledger = Self {
            cluster: cluster.clone(),
            epoch,
            is_owner: false,
            fences,
            meta: None,
            marker: Marker::default(),
            is_early: false,
            tombstone: None,
            generation: None,
            state: None,
            hold: Known::default(),
            records: BTreeMap::new(),
            orders: HashMap::new(),
            hosts: HashMap::new(),
            taken: HashMap::new(),
            is_unsaid: false,
            later: HashSet::new(),
        };
        // The generation and the tombstone first: what was read before a loss or a removal must not be written after it.
        let first = [Key::Generation.to_string(), Key::Tombstone(cluster.clone()).to_string()];
        let own = first.into_iter().chain([Key::cluster(cluster), Key::records_of(cluster)]);
        for prefix in own {
            for (key, entry) in store.read(&prefix).await?.entries {
                ledger.note(&key, Some(&entry));
                stood.note(&key, entry.value);
            }
        }
        ledger.read_shared(store).await?;
        // The records are the truth about themselves: somebody may have written past the marker.
        let said = ledger.marker.synced.clone();
        let hashes = ledger.records.values().flatten().map(|(_, hash)| hash);
        ledger.marker.synced.records = hashes.clone().count() as u64;
        ledger.marker.synced.hash = hashes.fold(SetHash::default(), |sum, hash| sum.plus(*hash));
        ledger.marker.fits = said == ledger.marker.synced;
        Ok((ledger, stood))
    }

    /// Reads what all clusters share: anew, where others may have said it since.
    ///
    /// # Errors
    /// [`StoreError`], when not all of it could be read.
    pub async fn read_shared(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        self.is_unsaid = !self.is_settled();
        for prefix in [Key::ORDERS, Key::VIPS] {
            for (key, entry) in store.read(prefix).await?.entries {
                if !self.is_of_others(&key, &entry) {
                    self.note(&key, Some(&entry));
                }
            }
        }
        Ok(())
    }

    /// Whether what all clusters share is to be read again: everybody has said now what a lost store held of it.
    #[must_use]
    pub fn is_said_since(&self) -> bool {
        self.is_unsaid && self.is_settled()
    }

    /// The tenure's fence.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the cluster was this tenure's when it was read.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.is_owner
    }

    /// Whether an owner in this life of the store has said all there is.
    #[must_use]
    pub fn is_said(&self) -> bool {
        let Marker { synced, fits, .. } = &self.marker;
        *fits && synced.is_complete() && self.generation().is_some_and(|life| life.id == synced.generation)
    }

    /// What must be true for any of its records to be written: nobody else is the owner, has written the marker, has
    /// removed the cluster, or has found the store to have gone back. By what is there, not by revisions: a store that
    /// went back gives out the same ones again.
    pub fn fences(&self) -> impl Iterator<Item = Guard> {
        self.fences.iter().map(|(key, value)| match value {
            Some(value) => Guard::holds(key, value.clone()),
            None => Guard::absent(key),
        })
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

    /// The life of the store in which the ledger was read.
    #[must_use]
    pub fn generation(&self) -> Option<&Generation> {
        self.generation.as_ref()
    }

    /// Whether everybody had the time to say again what a lost store held.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.generation.as_ref().is_some_and(|generation| generation.settled)
    }

    /// Whether the marker is to say once more how far the source has come, when it has.
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// That life is heard to be settled. A transaction finds out whether it is.
    pub fn settle(&mut self) {
        if let Some(generation) = self.generation.as_mut().filter(|generation| !generation.settled) {
            generation.settled = true;
            self.is_early = true;
            self.fences.insert(Key::Generation.to_string(), Some(generation.encode()));
        }
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
        self.tombstone.as_ref().is_some_and(|tombstone| tombstone.removed)
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

    /// What must be true for a virtual address to be a host's to take or to give back, whose half of the pair would say
    /// `half`; `None` when it is another's. What is known may be of long ago, so nobody's is said too.
    #[must_use]
    pub fn guard(&self, address: IpAddr, half: &[u8]) -> Option<Guard> {
        let key = Key::HostOfVip(address).to_string();
        match self.taken.get(&address) {
            None => Some(Guard::absent(key)),
            Some(hash) if *hash == hash_of(half) => Some(Guard::holds(key, half)),
            Some(_) => None,
        }
    }

    /// The services in whose order this cluster has a place.
    pub fn places(&self) -> impl Iterator<Item = &ServiceKey> {
        self.orders.keys().filter(|service| self.has_place(service))
    }

    /// Whether this cluster has a place in the order of a service.
    #[must_use]
    pub fn has_place(&self, service: &ServiceKey) -> bool {
        self.orders.get(service).is_some_and(|order| order.value.0.contains(&self.cluster))
    }

    /// Takes over what a committed batch wrote.
    pub fn apply(&mut self, batch: &Batch, revision: u64) {
        self.is_early &= batch.marker.source_version == self.marker.synced.source_version;
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
        let is_other = |key: &str| {
            let now = found.get(key).map(|entry| entry.as_ref().map(|entry| &entry.value));
            now.is_some_and(|now| now != self.fences.get(key).and_then(Option::as_ref))
        };
        if is_other(&Key::Tombstone(self.cluster.clone()).to_string()) {
            return Surprise::Buried;
        }
        let generation = found.get(&Key::Generation.to_string()).and_then(Option::as_ref);
        let life = generation.and_then(|entry| Generation::decode(&entry.value).ok());
        // It is never unsettled again, but in a store that went back.
        let goes_on = |known: &Generation, life: &Generation| known.id == life.id && (life.settled || !known.settled);
        if !self.generation.iter().zip(&life).any(|(known, life)| goes_on(known, life)) {
            return Surprise::AnotherLife;
        }
        if is_other(&Key::Owner(self.cluster.clone()).to_string()) {
            return Surprise::NotOwner;
        }
        if is_other(&marker) {
            return Surprise::Overwritten;
        }
        for (key, entry) in found.iter().filter(|(key, _)| **key != marker) {
            self.note(key, entry.as_ref());
        }
        Surprise::Learned
    }

    /// Whether a key is the order or the host of a service that this cluster has no part in. A fleet has very many of
    /// them; one that this cluster comes to export is learnt when it is to be written over as if it were not there.
    fn is_of_others(&self, key: &str, entry: &Entry) -> bool {
        let is_ours = |order: Order| order.0.contains(&self.cluster);
        let service = match Key::parse(key) {
            // A store that was restored may have its place and not its records.
            Ok(Key::Order(_)) if Order::decode(&entry.value).is_ok_and(is_ours) => None,
            Ok(Key::Order(service)) => Some(service),
            Ok(Key::VipOfHost(host)) => ServiceKey::of_host(&host).map(|(service, _)| service),
            _ => None,
        };
        // Orders are read before hosts.
        let has_part = |service: &ServiceKey| self.records.contains_key(service) || self.orders.contains_key(service);
        service.is_some_and(|service| !has_part(&service))
    }

    /// Takes note of one key. What does not decode is treated as absent and so gets written again.
    fn note(&mut self, text: &str, entry: Option<&Entry>) {
        let Ok(key) = Key::parse(text) else { return };
        if let Some(fence) = self.fences.get_mut(text) {
            *fence = entry.map(|entry| entry.value.clone());
        }
        match &key {
            Key::Owner(id) if *id == self.cluster => {
                self.is_owner = entry.is_some_and(|entry| entry.modified == self.epoch);
            }
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
                self.generation = entry.and_then(|entry| Generation::decode(&entry.value).ok());
            }
            Key::Tombstone(id) if *id == self.cluster => {
                self.tombstone = entry.and_then(|entry| Tombstone::decode(&entry.value).ok());
            }
            Key::Head(id, service) | Key::Slice(id, service, _) if *id == self.cluster => {
                let hash = entry.map(|entry| SetHash::of(text, &entry.value));
                self.note_record(service.clone(), key.clone(), hash);
            }
            Key::Order(service) => {
                let Known { value, modified } = self.shared::<Order>(&key, entry);
                match entry {
                    Some(_) => {
                        let known = Known { value: value.unwrap_or_default(), modified };
                        self.orders.insert(service.clone(), known);
                    }
                    None => _ = self.orders.remove(service),
                }
            }
            Key::VipOfHost(host) => {
                let known = self.shared::<Vip>(&key, entry);
                match entry {
                    Some(_) => _ = self.hosts.insert(host.clone(), known),
                    None => _ = self.hosts.remove(host),
                }
            }
            Key::HostOfVip(address) => match entry {
                Some(entry) => _ = self.taken.insert(*address, hash_of(&entry.value)),
                None => _ = self.taken.remove(address),
            },
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

/// Tells values apart, in less room than they take.
fn hash_of(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(value);
    hasher.finish()
}
