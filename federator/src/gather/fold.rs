//! The fold: store entries in, View out. Pure: everything is a method call on state, so it is tested without a store.
//! A change re-merges the services it touches and nothing else.
//!
//! What the store says of a cluster is taken when the cluster's marker vouches for it: the records are as many as it
//! says and have the hash that it says. Otherwise it is kept aside, and what was known before is used, until a marker
//! vouches again; so neither a store that was restored nor somebody who writes past an owner takes anything away.

mod cluster;
mod known;
mod life;
mod own;
mod standing;
mod vips;

use super::{Gathered, StoreHealth};
use crate::{
    snapshot::Loaded,
    store::{Batch, Entry, Snapshot},
};
use known::Known;
use model::{
    cluster::{SetHash, Tombstone},
    generation::Generation,
    key::Key,
    merge::merge,
    name::{ClusterId, ServiceKey},
    record::{Order, Shared, VipHost},
    view::View,
    vip::Vip,
};
use own::Own;
pub use standing::Seats;
use standing::{Stamp, Stamped, Standing, decode, decode_with};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound,
    slice,
    sync::Arc,
};
use vips::Vips;

pub use life::{Assertion, Judgement};

/// What is known of the store, and the View it makes.
#[derive(Debug)]
pub struct Fold {
    zone: Arc<str>,
    view: View,
    /// The store's revision up to which it was followed; `None` before the first read.
    position: Option<u64>,
    store: StoreHealth,
    /// Why it cannot be followed at the moment, for people.
    trouble: Option<String>,
    /// The largest revision that was seen in this life of the store.
    reached: u64,
    /// The revision up to which something was missed, while it is followed again.
    missed: Option<u64>,
    /// The life of the store that is followed, and the key that says so.
    generation: Option<(Generation, Arc<Entry>)>,
    /// Whether that life is over, though the store may not show it.
    is_lost: bool,
    clusters: BTreeMap<ClusterId, Standing>,
    services: HashMap<ServiceKey, Known>,
    /// What slices have in common.
    shared: Shared,
    vips: Vips,
    /// Orders and virtual addresses of a store that was restored, kept aside until everybody has said again what was
    /// held before.
    aside: Option<BTreeMap<String, Entry>>,
    /// The sum of the hashes of everything that the View is made of.
    digest: SetHash,
    own: BTreeMap<ClusterId, Own>,
    /// Whether it is known which clusters this agent observes itself.
    own_complete: bool,
    /// Whether a cluster that was never seen has had the time to be.
    given_up: bool,
    local: u64,
    quarantined: Arc<BTreeMap<String, String>>,
    /// Who owns what, ready to be handed on.
    seats: Arc<BTreeMap<ClusterId, Seats>>,
}

/// A key of a batch or of a snapshot, and what stands behind it.
#[derive(Clone, Debug)]
struct Note<'a> {
    key: Key,
    text: &'a str,
    entry: Option<&'a Entry>,
    stamp: Stamp,
}

/// What came of applying a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// All of it is taken.
    All,
    /// The store began another life: everything is to be read, and judged.
    AnotherLife,
    /// The records of a cluster are not those that its marker speaks of: everything is to be read.
    Doubt(ClusterId),
}

// === impl Fold ===

impl Fold {
    /// Nothing known yet, not even which clusters this agent observes itself.
    pub fn new(zone: &Arc<str>) -> Self {
        Self {
            zone: zone.clone(),
            view: View::default(),
            position: None,
            reached: 0,
            missed: None,
            store: StoreHealth::NeverRead,
            trouble: None,
            generation: None,
            is_lost: false,
            clusters: BTreeMap::new(),
            services: HashMap::new(),
            shared: Shared::default(),
            vips: Vips::default(),
            aside: None,
            digest: SetHash::default(),
            own: BTreeMap::new(),
            own_complete: false,
            given_up: false,
            local: 0,
            quarantined: Arc::default(),
            seats: Arc::default(),
        }
    }

    /// The View as it stands.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The store's revision up to which it was followed.
    pub fn position(&self) -> Option<u64> {
        self.position
    }

    /// The life of the store that is followed, and the key that says so.
    pub fn generation(&self) -> Option<&(Generation, Arc<Entry>)> {
        self.generation.as_ref()
    }

    /// Whether something that the store says is kept aside, and what was known before is used.
    pub fn sets_aside(&self) -> bool {
        self.aside.is_some() || self.clusters.values().any(Standing::is_aside)
    }

    /// Whether nothing is known of any cluster.
    pub fn is_empty(&self) -> bool {
        !self.clusters.values().any(Standing::is_known)
    }

    /// The store no longer knows what came after the position, or is another: the next thing is to read it all.
    pub fn forget_position(&mut self) {
        self.position = None;
    }

    /// The store is another, or at an earlier revision than this agent has seen anywhere: whatever it holds, the life
    /// that was followed is over.
    pub fn end_life(&mut self) {
        self.is_lost = self.generation.is_some();
        self.position = None;
    }

    /// Everything, ready to be handed on.
    pub fn result(&self) -> Gathered {
        let removed = |id: &ClusterId| self.clusters.get(id).is_some_and(Standing::is_removed);
        // A cluster of our own that could not be observed yet, nor has a marker, may hold any name; for a while. One
        // that came later holds none that anybody has known.
        let settled = |(id, own): (&ClusterId, &Own)| own.is_settled(self.is_whole(id)) || removed(id);
        let seen =
            (self.given_up || self.own.iter().all(settled)) && self.clusters.iter().all(|known| self.is_new(known));
        let used = || self.own.iter().filter(|(id, own)| own.counts() && !removed(id)).map(|(id, _)| id);
        let readable = !self.clusters.values().any(Standing::is_unreadable);
        Gathered {
            view: self.view.clone(),
            local: if used().next().is_some() { self.local } else { 0 },
            complete: matches!(self.store, StoreHealth::Followed | StoreHealth::Lost(_))
                && self.own_complete
                && seen
                && readable,
            begun: self.store == StoreHealth::Snapshot || self.clusters.values().any(|known| known.begun),
            store: self.store.clone(),
            trouble: self.trouble.clone(),
            generation: self.generation.clone(),
            position: self.reached,
            quarantined: self.quarantined.clone(),
            seats: self.seats.clone(),
            removed: Arc::new(self.clusters.keys().filter(|id| removed(id)).cloned().collect()),
            seen: Arc::new(used().cloned().collect()),
            aside: Arc::new(
                self.clusters.iter().filter(|(_, known)| known.is_aside()).map(|(id, _)| id.clone()).collect(),
            ),
        }
    }

    /// The store cannot be followed any more. What this agent sees itself counts from now on.
    pub fn lost(&mut self, why: String) {
        self.trouble = Some(why.clone());
        self.missed = None;
        // Before anything was read there is nothing to have lost.
        if !matches!(self.store, StoreHealth::NeverRead | StoreHealth::Snapshot) {
            self.store = StoreHealth::Lost(why);
        }
        self.see_for_itself();
    }

    /// Whether what is known of a cluster is more than what an earlier process knew: what came since is not absent.
    fn is_new(&self, (id, known): (&ClusterId, &Standing)) -> bool {
        // What is seen of a source that is behind what was known is not used.
        !known.begun || known.is_removed() || self.own.get(id).is_some_and(|own| own.is_seen() && own.counts())
    }

    /// The store is followed again, after what it holds was found to be what is known, but for what was missed, up to
    /// a revision.
    pub fn found(&mut self, missed: u64) {
        self.trouble = None;
        self.missed = Some(missed);
        self.catch_up();
        self.see_for_itself();
    }

    /// Once what was missed is there, the store counts as followed.
    fn catch_up(&mut self) {
        if self.missed.take_if(|missed| self.reached >= *missed).is_some() {
            self.store = StoreHealth::Followed;
            self.clusters.values_mut().filter(|known| known.aside.is_none()).for_each(|known| known.begun = false);
        }
    }

    /// Clusters that were never seen have had the time to be: they are a trouble of their own from now on. Those that only
    /// this agent could see are, too; all of them, where it is `alone` with its store.
    pub fn give_up_on_the_unseen(&mut self, alone: bool) {
        self.given_up = true;
        for (id, known) in &mut self.clusters {
            known.begun &= !alone && self.own.get(id).is_none_or(Own::is_late);
        }
    }

    /// Takes over what an earlier process knew, as the first thing that this one knows.
    pub fn begin(&mut self, loaded: Loaded) {
        let Loaded { position, entries, .. } = loaded;
        self.replace(&Snapshot { revision: position, entries: entries.into_iter().collect() });
        self.store = StoreHealth::Snapshot;
        self.clusters.values_mut().for_each(|known| known.begun = true);
        self.see_for_itself();
    }

    /// Takes over everything that stands in the store, and drops what does not, as far as its markers vouch for it.
    /// Whether the store is one to be believed is for [`Self::judge`], before.
    pub fn replace(&mut self, snapshot: &Snapshot) {
        let mut touched = HashSet::new();
        let gone: Vec<String> =
            self.quarantined.keys().filter(|key| !snapshot.entries.contains_key(*key)).cloned().collect();
        gone.iter().for_each(|key| self.quarantine(key, Ok(())));
        self.note_generation(snapshot.entries.get(&Key::Generation.to_string()));
        self.reached = snapshot.revision;
        self.position = Some(snapshot.revision);
        self.store = StoreHealth::Followed;
        self.replace_shared(&snapshot.entries, &mut touched);
        self.replace_clusters(&snapshot.entries, &mut touched);
        self.note_old_markers();
        self.merge(touched);
        self.see_for_itself();
    }

    /// Takes over what changed.
    pub fn apply(&mut self, batch: &Batch) -> Applied {
        let changes = batch.changes.iter();
        let notes: Vec<Note<'_>> = changes.filter_map(|(key, entry)| self.read(key, entry.as_ref())).collect();
        if notes.iter().any(|note| note.key == Key::Generation && self.is_another_life(note.entry)) {
            return Applied::AnotherLife;
        }
        if let Some(id) = self.doubted(&notes) {
            return Applied::Doubt(id);
        }
        self.reached = self.reached.max(batch.revision);
        self.position = self.position.max(Some(batch.revision));
        self.catch_up();
        self.raise(&notes);
        let mut touched = HashSet::new();
        for note in notes {
            match &note.key {
                Key::Generation => self.note_generation(note.entry),
                Key::Order(_) | Key::VipOfHost(_) | Key::HostOfVip(_) => self.note_shared(note, &mut touched),
                Key::Tombstone(_) => self.note_tombstone(&note, &mut touched),
                _ => self.note_of_cluster(note, &mut touched),
            }
        }
        self.release_clusters(&mut touched);
        self.release_shared(&mut touched);
        self.merge(touched);
        self.see_for_itself();
        Applied::All
    }

    /// A key and what stands behind it; a key that is none of ours is set aside.
    fn read<'a>(&mut self, text: &'a str, entry: Option<&'a Entry>) -> Option<Note<'a>> {
        match Key::parse(text) {
            Ok(key) => Some(Note { key, text, entry, stamp: Stamp::of(text, entry) }),
            Err(error) => {
                // Once it is gone it does not matter what it was.
                self.quarantine(text, entry.map_or(Ok(()), |_| Err(error.to_string())));
                None
            }
        }
    }

    /// Raises the View's revision to the largest of these that is one of a View. Who owns what comes and goes with
    /// leases, and is none of it.
    fn raise(&mut self, notes: &[Note<'_>]) {
        let counts = |key: &Key| !matches!(key, Key::Owner(_) | Key::Candidate(..) | Key::Generation);
        let largest = notes.iter().filter(|note| counts(&note.key)).map(|note| note.stamp.modified).max();
        let base = self.generation.as_ref().map_or(0, |(generation, _)| generation.base);
        if let Some(modified) = largest.filter(|modified| *modified > 0) {
            self.view.raise_revision(base + modified);
        }
    }

    /// Drops orders and virtual addresses that are not there any more, and takes over those that are.
    fn replace_shared(&mut self, entries: &BTreeMap<String, Entry>, touched: &mut HashSet<ServiceKey>) {
        let is_aside = self.aside.is_some();
        if is_aside {
            self.aside = Some(BTreeMap::new());
        } else {
            for key in self.shared_keys() {
                let text = key.to_string();
                if !entries.contains_key(&text) {
                    self.note_shared(Note { key, text: &text, entry: None, stamp: Stamp::default() }, touched);
                }
            }
        }
        // Taken one by one, because there are very many: lists of them would be most of what a start needs.
        for (text, entry) in [Key::ORDERS, Key::VIPS].into_iter().flat_map(|prefix| under(entries, prefix)) {
            if let Some(note) = self.read(text, Some(entry)) {
                self.raise(slice::from_ref(&note));
                self.note_shared(note, touched);
            }
        }
        if is_aside {
            self.release_shared(touched);
        }
    }

    /// The keys of all orders and virtual addresses that are held.
    fn shared_keys(&self) -> Vec<Key> {
        let of_service = |(key, known): (&ServiceKey, &Known)| {
            let order = known.order.stamp.exists().then(|| Key::Order(key.clone()));
            let vip = known.vip.stamp.exists().then(|| Key::VipOfHost(key.host(&self.zone).into()));
            [order, vip].into_iter().flatten().collect::<Vec<_>>()
        };
        let keys = self.services.iter().flat_map(of_service);
        keys.chain(self.vips.addresses().map(Key::HostOfVip)).collect()
    }

    /// Takes note of an order or of a virtual address.
    fn note_shared(&mut self, note: Note<'_>, touched: &mut HashSet<ServiceKey>) {
        let Note { key, text, entry, stamp } = note;
        if let Some(aside) = &mut self.aside {
            match entry {
                Some(entry) => _ = aside.insert(text.to_owned(), entry.clone()),
                None => _ = aside.remove(text),
            }
            return;
        }
        let (before, outcome) = match key {
            Key::Order(service) => {
                let (value, outcome) = decode_with(entry, |bytes| Order::decode_sharing(bytes, &mut self.shared));
                touched.insert(service.clone());
                let known = self.services.entry(service).or_default();
                (std::mem::replace(&mut known.order, Stamped { value, stamp }).stamp, outcome)
            }
            Key::VipOfHost(host) => {
                let (value, outcome) = decode::<Vip>(entry);
                match service_of(&host, &self.zone) {
                    Some(service) => {
                        touched.insert(service.clone());
                        let known = self.services.entry(service).or_default();
                        let before = std::mem::replace(&mut known.vip, Stamped { value, stamp });
                        self.vips.host_changed(&host, before.value, value);
                        (before.stamp, outcome)
                    }
                    // Another zone's: an agent that serves it holds it.
                    None => return,
                }
            }
            Key::HostOfVip(address) => {
                let (value, outcome) = decode::<VipHost>(entry);
                self.quarantine(text, outcome);
                return self.note_address(address, Stamped { value, stamp }, touched);
            }
            _ => return,
        };
        self.digest = self.digest.minus(before.hash).plus(stamp.hash);
        self.quarantine(text, outcome);
    }

    /// Takes note of a tombstone. Its number never goes back: a store that was restored may have an earlier one.
    fn note_tombstone(&mut self, note: &Note<'_>, touched: &mut HashSet<ServiceKey>) {
        let Key::Tombstone(id) = &note.key else { return };
        let (tombstone, outcome) = decode::<Tombstone>(note.entry);
        self.quarantine(note.text, outcome);
        let standing = self.clusters.entry(id.clone()).or_default();
        let number = |tombstone: Option<&Tombstone>| tombstone.map_or(0, |tombstone| tombstone.number);
        let (now, before) = (number(tombstone.as_ref()), number(standing.tombstone.value.as_ref()));
        standing.tombstone.stamp = note.stamp;
        standing.tombstone_number = now;
        if now < before {
            return;
        }
        if now > before {
            // Whatever was there is another's, or gone: nothing of it is to be kept.
            standing.marked = false;
            if standing.aside.is_some() {
                self.release(id, touched);
            }
        }
        let standing = self.clusters.entry(id.clone()).or_default();
        let was_removed = standing.is_removed();
        standing.tombstone.value = tombstone;
        if standing.is_removed() != was_removed {
            let cluster = standing.in_view();
            self.view.set_cluster(id, cluster);
            let of_it = |known: &Known| known.clusters().any(|known| known == id) || known.is_seen(id);
            touched.extend(self.services.iter().filter(|(_, known)| of_it(known)).map(|(key, _)| key.clone()));
        }
    }

    fn is_whole(&self, id: &ClusterId) -> bool {
        self.clusters.get(id).is_some_and(Standing::is_whole)
    }

    /// Sets a key aside with its reason, or takes it back.
    fn quarantine(&mut self, text: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) if self.quarantined.contains_key(text) => {
                Arc::make_mut(&mut self.quarantined).remove(text);
            }
            Ok(()) => {}
            Err(reason) if self.quarantined.get(text) == Some(&reason) => {}
            Err(reason) => {
                tracing::warn!(key = text, reason, "record set aside");
                Arc::make_mut(&mut self.quarantined).insert(text.to_owned(), reason);
            }
        }
    }

    /// Merges the touched services again.
    fn merge(&mut self, touched: HashSet<ServiceKey>) {
        self.judge_vips();
        let mut touched: Vec<ServiceKey> = touched.into_iter().collect();
        touched.sort_unstable();
        for key in touched {
            let Some(known) = self.services.get_mut(&key) else {
                continue;
            };
            let clusters = &self.clusters;
            let mut parts = known.parts(|id| !clusters.get(id).is_some_and(Standing::is_removed));
            parts.vip = parts.vip.filter(|vip| self.vips.agree(&key, *vip));
            let merged = merge(&key, &parts);
            if known.is_empty() {
                self.services.remove(&key);
            }
            self.view.set_service(&key, merged);
        }
        // What a removed cluster has left is swept later, and no revision tells of it.
        let removed = self.clusters.values().filter(|known| known.is_removed());
        self.view.set_digest(removed.fold(self.digest, |sum, known| sum.minus(known.count.hash)));
    }
}

/// The entries whose keys begin with this.
fn under<'a>(entries: &'a BTreeMap<String, Entry>, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Entry)> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    entries.range::<str, _>(from).take_while(move |(key, _)| key.starts_with(prefix))
}

/// The service whose host this is, if it is one of the zone's.
fn service_of(host: &str, zone: &str) -> Option<ServiceKey> {
    ServiceKey::of_host(host).filter(|(_, of)| *of == zone).map(|(service, _)| service)
}

#[cfg(test)]
mod tests;
