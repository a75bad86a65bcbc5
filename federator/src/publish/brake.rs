//! The brake: what a comparison of everything would withdraw, and what of it is held instead. A reading that lacks half
//! of a cluster is more often wrong than right, so endpoints that many are kept as the last resort (`Health::Held`)
//! until it is known that they are gone. Pure. What goes one by one, told by a watch, never comes by here: only what
//! stood in the store before this owner began is compared.

use crate::observe::{
    Observed,
    object::{Kind, ObjectName},
};
use model::{
    cluster::{Hold, SetHash},
    export::{Address, Export, Head, Health, Slice},
    key::Key,
    locality::Network,
    name::ServiceKey,
    record::Record as _,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// So many endpoints at least are held; fewer are withdrawn.
const FEWEST: u64 = 20;

/// And of all that the cluster has, more than so many of a hundred.
const SHARE: u64 = 30;

/// In front of the name of the slice that held endpoints came from. No object's name has a capital letter.
const HELD: &str = "Held/";

/// In front of the name of the WorkloadEntry that a slice was made of.
const ENTRY: &str = "WorkloadEntry/";

/// Where an endpoint is, among those of its service.
type Place = (Address, Option<Network>);

/// What the store had of the cluster when an owner began, until it was compared. Values as they stand there, because
/// they are more than fit twice where a cluster is large.
#[derive(Clone, Debug, Default)]
pub struct Stood {
    records: BTreeMap<ServiceKey, Vec<(Key, Vec<u8>)>>,
    /// How many endpoints that could be used there were in all, once they were counted.
    total: Option<u64>,
}

/// What is known when a comparison begins.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// What an earlier owner held.
    pub hold: Option<&'a Hold>,
    /// Whether the source is behind what was seen of it.
    pub went_back: bool,
    /// The time, in seconds since 1970.
    pub at: i64,
    /// Whether what is seen is only remembered: then nothing that stands there is known to be gone.
    pub is_memory: bool,
}

/// The endpoints that are held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// By service: the head that a service without one has, and slices of nothing but held endpoints.
    services: BTreeMap<ServiceKey, Arc<Export>>,
    hold: Hold,
}

// === impl Stood ===

impl Stood {
    /// Takes up an entry of the store.
    pub fn note(&mut self, text: &str, value: Vec<u8>) {
        if let Ok(key @ (Key::Head(..) | Key::Slice(..))) = Key::parse(text)
            && let Key::Head(_, service) | Key::Slice(_, service, _) = &key
        {
            self.records.entry(service.clone()).or_default().push((key, value));
        }
    }

    /// Compares what stood there with what is seen, and forgets it. What a partial look does not show at all is not
    /// compared: it is not taken away either.
    pub fn compare(&mut self, now: &Observed, before: Before<'_>) -> Held {
        let mut gone = Held::default();
        let mut all = 0;
        self.records.retain(|service, records| {
            let Some(stood) = export(records) else { return false };
            let seen = now.exports.get(service).map(|export| &**export);
            all += places(&stood, is_useful).len() as u64;
            if seen.is_none() && now.partial {
                return true;
            }
            let is_held = if before.is_memory { |_| true } else { is_useful };
            gone.put(service, withdrawn(&stood, seen, is_held));
            false
        });
        let total = *self.total.get_or_insert(all);
        let count = gone.hold.endpoints;
        if !before.is_memory && (count < FEWEST || count * 100 <= total * SHARE) {
            // What an earlier owner held is held on, though the rest of it was released.
            let was_held = |_: &str, _: &Place, health| before.hold.is_some() && health == Health::Held;
            gone.keep(was_held);
        }
        if gone.hold.endpoints == 0 {
            return Held::default();
        }
        let goes_on = before.hold.filter(|hold| hold.set == gone.hold.set || gone.is_held_already());
        match goes_on {
            Some(hold) if hold.accepted => return Held::default(),
            Some(Hold { since, reason, went_back, .. }) => {
                gone.hold = Hold { since: *since, reason: reason.clone(), went_back: *went_back, ..gone.hold };
            }
            None => {
                let who = if before.is_memory {
                    "what is remembered of a lost store"
                } else {
                    "an owner that read everything anew"
                };
                let reason = format!("{who} misses {count} of {total} endpoints").into();
                gone.hold = Hold { since: before.at, reason, went_back: before.went_back, ..gone.hold };
            }
        }
        gone.demote();
        gone
    }
}

// === impl Held ===

impl Held {
    /// What is said of it in the store; `None` when nothing is held.
    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        (self.hold.endpoints > 0).then_some(&self.hold)
    }

    /// What is to stand in the store of a service: what is seen of it, and what is held.
    #[must_use]
    pub fn amend(&self, service: &ServiceKey, seen: Option<&Arc<Export>>) -> Option<Arc<Export>> {
        match (self.services.get(service), seen) {
            (None, seen) => seen.cloned(),
            (Some(held), None) => Some(held.clone()),
            (Some(held), Some(seen)) => {
                let both = seen.slices.iter().chain(held.slices.iter());
                let slices = both.map(|(name, slice)| (name.clone(), slice.clone())).collect();
                Some(Arc::new(Export { head: seen.head.clone(), slices }))
            }
        }
    }

    /// Holds also what another comparison found.
    pub fn join(&mut self, other: Self) {
        if self.hold().is_none() {
            *self = other;
            return;
        }
        for (service, export) in other.services {
            self.put(&service, Arc::unwrap_or_clone(export));
        }
    }

    /// What is seen again of a service is held no longer.
    pub fn see(&mut self, service: &ServiceKey, seen: Option<&Export>) {
        let (Some(_), Some(seen)) = (self.services.get(service), seen) else { return };
        let seen = places(seen, |_| true);
        self.keep_of(service, |_, place, _| !seen.contains(place));
    }

    /// The objects that say whether held endpoints are gone: the Service where it is not seen, else what the endpoints
    /// stood in.
    #[must_use]
    pub fn doubts(&self, now: &Observed) -> BTreeSet<ObjectName> {
        let of = |(service, held): (&ServiceKey, &Arc<Export>)| -> Vec<ObjectName> {
            match now.exports.get(service) {
                None => vec![object(service, None)],
                Some(_) => held.slices.iter().map(|(name, _)| object(service, Some(name))).collect(),
            }
        };
        self.services.iter().flat_map(of).collect()
    }

    /// Releases what the source was asked for one by one, and does not have. The services concerned.
    pub fn confirm(&mut self, now: &Observed) -> BTreeSet<ServiceKey> {
        if now.confirmed.is_empty() {
            return BTreeSet::new();
        }
        let mut released = BTreeSet::new();
        for service in self.services.keys().cloned().collect::<Vec<_>>() {
            let before = self.hold.endpoints;
            let is_seen = now.exports.get(&service).is_some();
            self.keep_of(&service, |name, _, _| !now.confirmed.contains(&object(&service, is_seen.then_some(name))));
            if self.hold.endpoints != before {
                released.insert(service);
            }
        }
        released
    }

    /// Releases everything. The services concerned.
    pub fn release(&mut self) -> BTreeSet<ServiceKey> {
        std::mem::take(self).services.into_keys().collect()
    }

    /// Whether an earlier owner held all of it.
    fn is_held_already(&self) -> bool {
        let mut slices = self.services.values().flat_map(|export| export.slices.values());
        slices.all(|slice| slice.endpoints.iter().all(|endpoint| endpoint.health == Health::Held))
    }

    fn demote(&mut self) {
        for export in self.services.values_mut() {
            let demoted = |(name, slice): (&Arc<str>, &Arc<Slice>)| {
                let mut slice = Slice::clone(slice);
                slice.endpoints.iter_mut().for_each(|endpoint| endpoint.health = endpoint.health.max(Health::Held));
                (name.clone(), Arc::new(slice))
            };
            let slices = export.slices.iter().map(demoted).collect();
            *export = Arc::new(Export { head: export.head.clone(), slices });
        }
    }

    fn keep(&mut self, stays: impl Fn(&str, &Place, Health) -> bool) {
        for service in self.services.keys().cloned().collect::<Vec<_>>() {
            self.keep_of(&service, &stays);
        }
    }

    /// Holds of a service only these endpoints, by the name of what they stand in, their place and health.
    fn keep_of(&mut self, service: &ServiceKey, stays: impl Fn(&str, &Place, Health) -> bool) {
        let Some(held) = self.services.get(service) else { return };
        let stays = |name: &str, slice: &Slice| {
            let endpoints = slice.endpoints.iter();
            endpoints.map(|endpoint| stays(name, &place(endpoint), endpoint.health)).collect::<Vec<_>>()
        };
        let kept: Vec<Vec<bool>> = held.slices.iter().map(|(name, slice)| stays(name, slice)).collect();
        if kept.iter().flatten().all(|stays| *stays) {
            return;
        }
        let kept_of = |((name, slice), kept): ((&Arc<str>, &Arc<Slice>), Vec<bool>)| {
            let (mut slice, mut kept) = (Slice::clone(slice), kept.into_iter());
            slice.endpoints.retain(|_| kept.next().unwrap_or_default());
            (!slice.endpoints.is_empty()).then(|| (name.clone(), Arc::new(slice)))
        };
        let slices = held.slices.iter().zip(kept).filter_map(kept_of).collect();
        let export = Export { head: held.head.clone(), slices };
        self.put(service, export);
    }

    /// Sets what is held of a service.
    fn put(&mut self, service: &ServiceKey, export: Export) {
        if let Some(old) = self.services.remove(service) {
            let (set, endpoints) = sum(service, &old);
            (self.hold.set, self.hold.endpoints) = (self.hold.set.minus(set), self.hold.endpoints - endpoints);
        }
        if !export.slices.is_empty() {
            let (set, endpoints) = sum(service, &export);
            (self.hold.set, self.hold.endpoints) = (self.hold.set.plus(set), self.hold.endpoints + endpoints);
            self.services.insert(service.clone(), Arc::new(export));
        }
    }
}

/// The set of a service's endpoints, and how many these are.
fn sum(service: &ServiceKey, export: &Export) -> (SetHash, u64) {
    let places = places(export, |_| true);
    let hash = |(address, network): &Place| {
        let network = network.as_ref().map_or("", Network::as_str);
        SetHash::of(&service.to_string(), format!("{address}%{network}").as_bytes())
    };
    (places.iter().map(hash).fold(SetHash::default(), SetHash::plus), places.len() as u64)
}

/// What the records of a service say. One that does not decode says nothing, and without a head none does, as it is for
/// everybody else.
fn export(records: &[(Key, Vec<u8>)]) -> Option<Export> {
    let head = records.iter().find(|(key, _)| matches!(key, Key::Head(..)));
    let head = head.and_then(|(_, value)| Head::decode(value).ok())?;
    let slice = |(key, value): &(Key, Vec<u8>)| match key {
        Key::Slice(_, _, name) => Some((name.clone(), Arc::new(Slice::decode(value).ok()?))),
        _ => None,
    };
    Some(Export { head: Arc::new(head), slices: records.iter().filter_map(slice).collect() })
}

/// The endpoints that stood there, are of such a health, and are not named any more, each in its slice.
fn withdrawn(stood: &Export, seen: Option<&Export>, of: fn(Health) -> bool) -> Export {
    let seen = seen.map(|seen| places(seen, |_| true)).unwrap_or_default();
    let mut slices: BTreeMap<Arc<str>, Arc<Slice>> = BTreeMap::new();
    for (name, slice) in &stood.slices {
        let gone = slice.endpoints.iter().filter(|endpoint| of(endpoint.health) && !seen.contains(&place(endpoint)));
        let gone: Vec<_> = gone.cloned().collect();
        if gone.is_empty() {
            continue;
        }
        // An owner before this one may have held some of the same slice; where they listen may be another place.
        let mut held: Arc<str> = format!("{HELD}{}", name.strip_prefix(HELD).unwrap_or(name)).into();
        while slices.get(&held).is_some_and(|other| other.ports != slice.ports) {
            held = format!("{held}/0").into();
        }
        let slice = Slice { ports: slice.ports.clone(), endpoints: Vec::new() };
        Arc::make_mut(slices.entry(held).or_insert_with(|| Arc::new(slice))).endpoints.extend(gone);
    }
    Export { head: stood.head.clone(), slices: slices.into_iter().collect() }
}

/// The object that a service is, or that its held endpoints of this name came from.
fn object(service: &ServiceKey, held: Option<&str>) -> ObjectName {
    let name = held.map(|name| name.strip_prefix(HELD).unwrap_or(name));
    let (kind, name) = match name {
        None => (Kind::Service, service.name.as_str()),
        Some(name) => match name.strip_prefix(ENTRY) {
            Some(entry) => (Kind::WorkloadEntry, entry),
            None => (Kind::EndpointSlice, name),
        },
    };
    let name = name.split('/').next().unwrap_or(name);
    ObjectName { kind, namespace: service.namespace.as_str().into(), name: name.into() }
}

fn is_useful(health: Health) -> bool {
    matches!(health, Health::Ready | Health::Held)
}

fn place(endpoint: &model::export::Endpoint) -> Place {
    (endpoint.address.clone(), endpoint.network.clone())
}

fn places(export: &Export, of: impl Fn(Health) -> bool) -> BTreeSet<Place> {
    let endpoints = export.slices.values().flat_map(|slice| &slice.endpoints);
    endpoints.filter(|endpoint| of(endpoint.health)).map(place).collect()
}

#[cfg(test)]
mod tests;
