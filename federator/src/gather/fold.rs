//! The fold: store entries in, View out. Pure: everything is a method call on state, so it is tested without a
//! store. A change re-merges the services it touches and nothing else.

use super::{Gathered, StoreHealth};
use crate::{
    observe::Observed,
    store::{Batch, Entry, Snapshot, StoreError},
};
use model::{
    cluster::{Hold, Meta, State, Synced, Tombstone},
    export::{Export, Head, Slice},
    key::Key,
    merge::{Parts, merge},
    name::{ClusterId, ServiceKey},
    record::{Order, Record, RecordError},
    seat::Owner,
    tracked::Since,
    view::{Cluster, View},
    vip::Vip,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// What is known of the store, and the View it makes.
#[derive(Debug)]
pub struct Fold {
    zone: Arc<str>,
    view: View,
    /// The revision up to which the store was followed; `None` before the first read.
    position: Option<u64>,
    store: StoreHealth,
    /// Every key that stands in the store, for mark and sweep.
    keys: HashSet<String>,
    services: HashMap<ServiceKey, Known>,
    own: BTreeMap<ClusterId, Own>,
    /// Whether it is known which clusters this agent observes itself.
    own_complete: bool,
    local: u64,
    quarantined: Arc<BTreeMap<String, String>>,
    owners: Arc<BTreeMap<ClusterId, String>>,
    /// Clusters that are removed from the fleet, with what the store still holds of them. They are not in the View.
    removed: BTreeMap<ClusterId, Cluster>,
}

/// What is known of one service.
#[derive(Debug, Default)]
struct Known {
    records: BTreeMap<ClusterId, Records>,
    order: Vec<ClusterId>,
    vip: Option<Vip>,
    /// What this agent sees itself, for clusters of which the store has no word yet.
    local: BTreeMap<ClusterId, Arc<Export>>,
}

/// The records of one service in one cluster.
#[derive(Debug, Default)]
struct Records {
    head: Option<Arc<Head>>,
    slices: BTreeMap<Arc<str>, Arc<Slice>>,
}

/// A cluster that this agent observes itself.
#[derive(Debug, Default)]
struct Own {
    seen: Observed,
    /// Sequence of `seen.exports` that is folded in.
    folded: u64,
    /// Whether it was not among the first.
    late: bool,
}

// === impl Fold ===

impl Fold {
    /// Nothing known yet, not even which clusters this agent observes itself.
    pub fn new(zone: &Arc<str>) -> Self {
        Self {
            zone: zone.clone(),
            view: View::default(),
            position: None,
            store: StoreHealth::NeverRead,
            keys: HashSet::new(),
            services: HashMap::new(),
            own: BTreeMap::new(),
            own_complete: false,
            local: 0,
            quarantined: Arc::default(),
            owners: Arc::default(),
            removed: BTreeMap::new(),
        }
    }

    /// The View as it stands.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The revision up to which the store was followed.
    pub fn position(&self) -> Option<u64> {
        self.position
    }

    /// The store no longer knows what came after the position: the next thing is a [`Self::replace`].
    pub fn forget_position(&mut self) {
        self.position = None;
    }

    /// Everything, ready to be handed on.
    pub fn result(&self) -> Gathered {
        // A cluster of our own that could not be observed yet, nor has a marker, may hold any name. One that came later
        // holds none that anybody has known.
        let known = |(id, own): (&ClusterId, &Own)| {
            own.late || own.seen.settled() || self.is_synced(id) || self.removed.contains_key(id)
        };
        // What a removed cluster shows is folded in for the day it comes back, and is not in the View.
        let is_used = |(id, own): (&ClusterId, &Own)| own.folded > 0 && !self.removed.contains_key(id);
        Gathered {
            view: self.view.clone(),
            local: if self.own.iter().any(is_used) { self.local } else { 0 },
            complete: self.store != StoreHealth::NeverRead && self.own_complete && self.own.iter().all(known),
            store: self.store.clone(),
            quarantined: self.quarantined.clone(),
            owners: self.owners.clone(),
            removed: Arc::new(self.removed.keys().cloned().collect()),
        }
    }

    /// The store cannot be followed any more.
    pub fn lost(&mut self, why: String) {
        // Before anything was read there is nothing to have lost.
        if self.store != StoreHealth::NeverRead {
            self.store = StoreHealth::Lost(why);
        }
    }

    /// The store is followed.
    pub fn found(&mut self) {
        self.store = StoreHealth::Followed;
    }

    /// Takes over everything that stands in the store, and drops what does not, but for clusters of which the store
    /// has no marker: of those it says nothing, not even that they are gone.
    ///
    /// # Errors
    /// [`StoreError::WentBack`], when the store is older than what is known: then nothing is dropped.
    pub fn replace(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        if snapshot.revision < self.view.revision() {
            let (now, seen) = (snapshot.revision, self.view.revision());
            return Err(StoreError::WentBack(format!("it is at revision {now}, and {seen} was seen")));
        }
        let absent = self.keys.iter().filter(|key| !snapshot.entries.contains_key(*key));
        let gone: Vec<String> = absent.filter(|key| says_something(snapshot, key)).cloned().collect();
        let mut touched = BTreeSet::new();
        for key in gone {
            self.note(&key, None, &mut touched);
        }
        for (key, entry) in &snapshot.entries {
            self.note(key, Some(entry), &mut touched);
        }
        self.position = Some(snapshot.revision);
        self.store = StoreHealth::Followed;
        self.merge(touched);
        Ok(())
    }

    /// Takes over what changed.
    pub fn apply(&mut self, batch: &Batch) {
        let mut touched = BTreeSet::new();
        for (key, entry) in &batch.changes {
            self.note(key, entry.as_ref(), &mut touched);
        }
        self.position = self.position.max(Some(batch.revision));
        self.merge(touched);
    }

    /// Takes note of which clusters this agent observes itself, and whether these are all. Says whether it matters.
    pub fn own(&mut self, clusters: &BTreeSet<ClusterId>, complete: bool) -> bool {
        let gone: Vec<_> = self.own.keys().filter(|id| !clusters.contains(*id)).cloned().collect();
        let mut touched = BTreeSet::new();
        for id in &gone {
            self.drop_own(id, &mut touched);
            self.own.remove(id);
        }
        let known = self.own.len();
        let late = self.own_complete;
        for id in clusters {
            self.own.entry(id.clone()).or_insert_with(|| Own { late, ..Own::default() });
        }
        if !touched.is_empty() {
            self.local += 1;
        }
        self.merge(touched);
        let matters = !gone.is_empty() || self.own.len() != known || complete != self.own_complete;
        self.own_complete |= complete;
        matters
    }

    /// Takes note of what this agent sees in a cluster of its own. It is used as long as the store has no marker of
    /// that cluster: before the first publication, or with a store that was never there. Says whether it matters.
    pub fn observed(&mut self, id: &ClusterId, seen: Observed) -> bool {
        let Some(own) = self.own.get_mut(id) else {
            return false;
        };
        let was_settled = own.seen.settled();
        own.seen = seen;
        let newly_settled = own.seen.settled() != was_settled;
        if self.is_synced(id) {
            return newly_settled;
        }
        let mut touched = BTreeSet::new();
        self.fold_own(id, &mut touched);
        if touched.is_empty() {
            return newly_settled;
        }
        self.local += 1;
        self.merge(touched);
        true
    }

    fn is_synced(&self, id: &ClusterId) -> bool {
        self.cluster(id).and_then(|cluster| cluster.synced.as_ref()).is_some_and(Synced::is_complete)
    }

    /// What is known of a cluster, in the fleet or not.
    fn cluster(&self, id: &ClusterId) -> Option<&Cluster> {
        self.removed.get(id).or_else(|| self.view.clusters().get(id))
    }

    /// Folds in what is new in an own cluster's observation.
    fn fold_own(&mut self, id: &ClusterId, touched: &mut BTreeSet<ServiceKey>) {
        let Some(own) = self.own.get_mut(id) else { return };
        if !own.seen.synced {
            return;
        }
        let changes = match own.seen.exports.since(own.folded) {
            Since::Changes(changes) => changes,
            Since::Everything => {
                for (key, known) in &mut self.services {
                    if own.seen.exports.get(key).is_none() && known.local.remove(id).is_some() {
                        touched.insert(key.clone());
                    }
                }
                let exports = own.seen.exports.iter();
                exports.map(|(key, export)| (key, Some(export))).collect()
            }
        };
        for (key, export) in changes {
            let local = &mut self.services.entry(key.clone()).or_default().local;
            match export {
                Some(export) => local.insert(id.clone(), export.clone()),
                None => local.remove(id),
            };
            touched.insert(key.clone());
        }
        own.folded = own.seen.exports.sequence();
        let meta = own.seen.meta.clone();
        self.set_cluster(id, |cluster| {
            cluster.meta.get_or_insert(meta);
        });
    }

    /// The store has a word on this cluster now: what this agent saw itself is not used any more.
    fn drop_own(&mut self, id: &ClusterId, touched: &mut BTreeSet<ServiceKey>) {
        let Some(own) = self.own.get_mut(id).filter(|own| own.folded > 0) else {
            return;
        };
        own.folded = 0;
        for (key, known) in &mut self.services {
            if known.local.remove(id).is_some() {
                touched.insert(key.clone());
            }
        }
    }

    /// Takes note of one key. What cannot be used is set aside with its reason; its service goes on without it.
    fn note(&mut self, text: &str, entry: Option<&Entry>, touched: &mut BTreeSet<ServiceKey>) {
        if entry.is_some() {
            self.keys.insert(text.to_owned());
        } else {
            self.keys.remove(text);
        }
        let outcome = match Key::parse(text) {
            Ok(Key::Owner(id)) => {
                // Not part of the View: it comes and goes with leases, and would move the revision with them.
                self.note_owner(id, entry);
                Ok(())
            }
            Ok(key) => {
                self.view.raise_revision(entry.map_or(0, |entry| entry.modified));
                self.note_key(key, entry, touched).map_err(|error| error.to_string())
            }
            // Once it is gone it does not matter what it was.
            Err(_) if entry.is_none() => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(()) if self.quarantined.contains_key(text) => {
                Arc::make_mut(&mut self.quarantined).remove(text);
            }
            Ok(()) => {}
            Err(reason) => {
                tracing::warn!(key = text, reason, "record set aside");
                Arc::make_mut(&mut self.quarantined).insert(text.to_owned(), reason);
            }
        }
    }

    /// A value that does not decode counts as none, so that who reads the store anew holds the same View.
    fn note_key(
        &mut self,
        key: Key,
        entry: Option<&Entry>,
        touched: &mut BTreeSet<ServiceKey>,
    ) -> Result<(), RecordError> {
        match key {
            Key::Meta(id) => {
                let (meta, outcome) = decode::<Meta>(entry);
                self.set_cluster(&id, |cluster| cluster.meta = meta);
                outcome
            }
            Key::Synced(id) => {
                let (synced, outcome) = decode::<Synced>(entry);
                self.set_cluster(&id, |cluster| cluster.synced = synced);
                if self.is_synced(&id) {
                    self.drop_own(&id, touched);
                }
                outcome
            }
            Key::Head(id, service) => {
                let (head, outcome) = decode::<Head>(entry);
                self.records(&id, &service).head = head.map(Arc::new);
                touched.insert(service);
                outcome
            }
            Key::Slice(id, service, name) => {
                let (slice, outcome) = decode::<Slice>(entry);
                let slice = slice.map(|slice| self.once(&id, &service, &name, slice));
                let slices = &mut self.records(&id, &service).slices;
                match slice {
                    Some(slice) => slices.insert(name, slice),
                    None => slices.remove(&name),
                };
                touched.insert(service);
                outcome
            }
            Key::Order(service) => {
                let (order, outcome) = decode::<Order>(entry);
                self.services.entry(service.clone()).or_default().order = order.unwrap_or_default().0;
                touched.insert(service);
                outcome
            }
            Key::VipOfHost(host) => {
                let (vip, outcome) = decode::<Vip>(entry);
                if let Some(service) = service_of(&host, &self.zone) {
                    self.services.entry(service.clone()).or_default().vip = vip;
                    touched.insert(service);
                }
                outcome
            }
            Key::Tombstone(id) => {
                let (tombstone, outcome) = decode::<Tombstone>(entry);
                self.bury(&id, tombstone.is_some_and(|tombstone| tombstone.removed), touched);
                outcome
            }
            Key::State(id) => {
                let (state, outcome) = decode::<State>(entry);
                self.set_cluster(&id, |cluster| cluster.state = state);
                outcome
            }
            Key::Hold(id) => {
                let (hold, outcome) = decode::<Hold>(entry);
                self.set_cluster(&id, |cluster| cluster.hold = hold);
                outcome
            }
            Key::HostOfVip(_) | Key::Owner(_) | Key::Candidate(..) | Key::Generation => Ok(()),
        }
    }

    fn note_owner(&mut self, id: ClusterId, entry: Option<&Entry>) {
        let owners = Arc::make_mut(&mut self.owners);
        match entry.and_then(|entry| Owner::decode(&entry.value).ok()) {
            Some(owner) => owners.insert(id, owner.agent),
            None => owners.remove(&id),
        };
    }

    fn set_cluster(&mut self, id: &ClusterId, change: impl FnOnce(&mut Cluster)) {
        if let Some(cluster) = self.removed.get_mut(id) {
            return change(cluster);
        }
        let mut cluster = self.view.clusters().get(id).cloned().unwrap_or_default();
        change(&mut cluster);
        let known = (cluster != Cluster::default()).then_some(cluster);
        self.view.set_cluster(id, known);
    }

    /// Takes a cluster out of the View with all that it exports, or brings back what there is of it.
    fn bury(&mut self, id: &ClusterId, removed: bool, touched: &mut BTreeSet<ServiceKey>) {
        if removed == self.removed.contains_key(id) {
            return;
        }
        let cluster = self.cluster(id).cloned().unwrap_or_default();
        if removed {
            self.removed.insert(id.clone(), cluster);
            self.view.set_cluster(id, None);
        } else {
            self.removed.remove(id);
            self.set_cluster(id, |known| *known = cluster);
        }
        let of_it = |known: &Known| known.records.contains_key(id) || known.local.contains_key(id);
        touched.extend(self.services.iter().filter(|(_, known)| of_it(known)).map(|(key, _)| key.clone()));
    }

    /// The slice as this agent observed it, where that is the same: what an agent publishes of a cluster of its own
    /// comes back to it, and endpoints are most of what there is.
    fn once(&self, id: &ClusterId, service: &ServiceKey, name: &str, slice: Slice) -> Arc<Slice> {
        let seen = self.own.get(id).and_then(|own| own.seen.exports.get(service)?.slices.get(name));
        seen.filter(|seen| ***seen == slice).cloned().unwrap_or_else(|| Arc::new(slice))
    }

    fn records(&mut self, id: &ClusterId, service: &ServiceKey) -> &mut Records {
        self.services.entry(service.clone()).or_default().records.entry(id.clone()).or_default()
    }

    /// Merges the touched services again.
    fn merge(&mut self, touched: BTreeSet<ServiceKey>) {
        for key in touched {
            let Some(known) = self.services.get_mut(&key) else {
                continue;
            };
            known.records.retain(|_, records| records.head.is_some() || !records.slices.is_empty());
            let parts = known.parts(|id| !self.removed.contains_key(id));
            let merged = merge(&key, &parts);
            if known.local.is_empty() {
                // A map keeps its room for eleven when it is emptied.
                known.local = BTreeMap::new();
            }
            if known.is_empty() {
                self.services.remove(&key);
            }
            self.view.set_service(&key, merged);
        }
    }
}

// === impl Known ===

impl Known {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.order.is_empty() && self.vip.is_none() && self.local.is_empty()
    }

    /// What the clusters of the fleet say. Without a head a cluster exports nothing, whatever slices it has.
    fn parts(&self, in_fleet: impl Fn(&ClusterId) -> bool) -> Parts {
        let mut exports: BTreeMap<ClusterId, Arc<Export>> = BTreeMap::new();
        for (id, records) in self.records.iter().filter(|(id, _)| in_fleet(id)) {
            if let Some(head) = &records.head {
                let export = Export { head: head.clone(), slices: records.slices.clone() };
                exports.insert(id.clone(), Arc::new(export));
            }
        }
        exports
            .extend(self.local.iter().filter(|(id, _)| in_fleet(id)).map(|(id, export)| (id.clone(), export.clone())));
        Parts { exports, order: self.order.clone(), vip: self.vip }
    }
}

/// Whether a snapshot that lacks a key says that it is gone: not of a cluster that has no marker there, unless its
/// tombstone says that somebody took it away.
fn says_something(snapshot: &Snapshot, key: &str) -> bool {
    match Key::parse(key) {
        Ok(Key::Meta(id) | Key::Synced(id) | Key::Head(id, _) | Key::Slice(id, _, _)) => {
            [Key::Synced(id.clone()), Key::Tombstone(id)]
                .iter()
                .any(|key| snapshot.entries.contains_key(&key.to_string()))
        }
        _ => true,
    }
}

fn decode<R: Record>(entry: Option<&Entry>) -> (Option<R>, Result<(), RecordError>) {
    match entry.map(|entry| R::decode(&entry.value)) {
        Some(Ok(record)) => (Some(record), Ok(())),
        Some(Err(error)) => (None, Err(error)),
        None => (None, Ok(())),
    }
}

/// The service whose host this is, if it is one of the zone's.
fn service_of(host: &str, zone: &str) -> Option<ServiceKey> {
    let (name, namespace) = host.strip_suffix(zone)?.strip_suffix('.')?.split_once('.')?;
    ServiceKey::parse(namespace, name).ok()
}

#[cfg(test)]
mod tests;
