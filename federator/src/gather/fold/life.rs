//! Lives of a store: whether the one that answers is the one that was known, and what is done when it is another. A
//! store that was restored or emptied begins a new generation; until everybody has said again what it holds, nothing
//! of it is taken for gone.

use super::{Fold, standing::Standing};
use crate::store::{Entry, Snapshot};
use model::{
    cluster::Tombstone,
    generation::Generation,
    key::Key,
    name::ServiceKey,
    record::{Order, Record as _, RecordError, VipHost},
};
use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// What is thought of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is the one that was known, or one that others have judged already: it can be taken over.
    Good,
    /// It is another, or nobody has used it yet: this generation is to be proposed, over what stands behind its key.
    Propose(Generation, Option<Vec<u8>>),
}

/// Keys to be written together, each with its value and the revision of the write it goes over; zero where there is to
/// be none.
pub type Assertion = Vec<(Key, Vec<u8>, u64)>;

impl Fold {
    /// What is thought of the store, all of which stands here. `id` would be that of a new generation.
    pub fn judge(&self, snapshot: &Snapshot, id: &str) -> Judgement {
        let entry = snapshot.entries.get(&Key::Generation.to_string());
        let stands = entry.and_then(|entry| Generation::decode(&entry.value).ok());
        let seen = self.view.revision();
        let is_good = match (&self.generation, &stands) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some((known, _)), Some(stands)) if known.id == stands.id => {
                !self.is_lost && snapshot.revision >= self.reached && !self.went_back(&snapshot.entries)
            }
            (Some((known, _)), Some(stands)) => {
                !known.past.contains(&stands.id) && stands.revision(snapshot.revision) > seen
            }
        };
        if is_good {
            return Judgement::Good;
        }
        let over = entry.map(|entry| entry.value.clone());
        let before = self.generation.iter().map(|(known, _)| known).chain(&stands);
        Judgement::Propose(Generation::after(seen, snapshot.revision, id, before), over)
    }

    /// Whether what is known of clusters stands here too, or something later: some of all keys, enough to tell whether a
    /// store that was away for a while is still the one it was.
    pub fn is_same_life(&self, generation: Option<&Entry>, clusters: &Snapshot) -> bool {
        // One that is known to be settled later, or was settled before it is known to be, is that of another past.
        let another = |known: &Entry, now: &Entry| now.modified != known.modified && now.modified <= self.reached;
        let is_another = self.generation.as_ref().zip(generation).is_some_and(|((_, known), now)| another(known, now));
        !self.is_another_life(generation)
            && !is_another
            && clusters.revision >= self.reached
            && !self.went_another_way(&clusters.entries)
    }

    fn went_back(&self, entries: &BTreeMap<String, Entry>) -> bool {
        let older = |key: Key, known: u64| entries.get(&key.to_string()).is_some_and(|entry| entry.modified < known);
        self.went_another_way(entries)
            || (self.aside.is_none()
                && self
                    .services
                    .iter()
                    .any(|(service, known)| older(Key::Order(service.clone()), known.order.stamp.modified)))
    }

    /// Whether a marker, an owner or a tombstone is another than is known, and no later one: the store went back, though it
    /// may have come as far again by other writes. One that is gone is another matter: leases run out, and an
    /// administrator takes markers away.
    fn went_another_way(&self, entries: &BTreeMap<String, Entry>) -> bool {
        let another = |key: Key, known: u64| {
            let now = entries.get(&key.to_string()).map_or(0, |entry| entry.modified);
            now != known && now != 0 && now <= self.reached
        };
        self.clusters.iter().filter(|(_, known)| known.aside.is_none()).any(|(id, known)| {
            let owner = known.seats.owner.as_ref().map_or(0, |(_, epoch)| *epoch);
            another(Key::Owner(id.clone()), owner)
                || another(Key::Synced(id.clone()), known.synced.stamp.modified)
                || another(Key::Tombstone(id.clone()), known.tombstone.stamp.modified)
        })
    }

    /// Whether the key of the generation says something else than was known.
    pub(super) fn is_another_life(&self, entry: Option<&Entry>) -> bool {
        let now = entry.and_then(|entry| Generation::decode(&entry.value).ok());
        self.generation.as_ref().is_some_and(|(known, _)| now.is_none_or(|now| now.id != known.id))
    }

    /// Takes note of the generation. In another one, all that is held stays until it is vouched for anew.
    pub(super) fn note_generation(&mut self, entry: Option<&Entry>) {
        let Some((now, entry)) = entry.and_then(|entry| Some((Generation::decode(&entry.value).ok()?, entry))) else {
            return;
        };
        if self.is_another_life(Some(entry)) {
            tracing::warn!(generation = %now.id, base = now.base, "the store was restored or emptied; what is known is held");
            for standing in self.clusters.values_mut().filter(|known| known.is_known() && !known.is_removed()) {
                standing.aside = Some(BTreeMap::new());
            }
            self.aside = Some(BTreeMap::new());
        }
        self.is_lost &= self.generation.as_ref().is_some_and(|(known, _)| known.id == now.id);
        self.generation = Some((now, Arc::new(entry.clone())));
    }

    /// Takes over orders and virtual addresses once everybody has said again what it held.
    pub(super) fn release_shared(&mut self, touched: &mut HashSet<ServiceKey>) {
        if !self.generation.as_ref().is_some_and(|(generation, _)| generation.settled) {
            return;
        }
        let Some(entries) = self.aside.take() else { return };
        for key in self.shared_keys() {
            let text = key.to_string();
            if !entries.contains_key(&text) {
                let note = super::Note { key, text: &text, entry: None, stamp: super::Stamp::default() };
                self.note_shared(note, touched);
            }
        }
        for (text, entry) in &entries {
            if let Some(note) = self.read(text, Some(entry)) {
                self.note_shared(note, touched);
            }
        }
    }

    /// What the store has lost and is held here: removals of clusters, whenever that is found out; and orders and virtual
    /// addresses, until everybody has said them. Nothing while there was no loss.
    pub fn assertions(&self) -> Vec<Assertion> {
        let mut all = Vec::new();
        for (id, Standing { tombstone, .. }) in self.clusters.iter().filter(|(_, known)| known.is_unsaid()) {
            let held = tombstone.value.as_ref().map(Tombstone::encode).unwrap_or_default();
            all.push(vec![(Key::Tombstone(id.clone()), held, tombstone.stamp.modified)]);
        }
        let services = self.aside.iter().flat_map(|aside| self.services.iter().map(move |known| (aside, known)));
        for (aside, (service, known)) in services {
            let host = service.host(&self.zone);
            let by_host = Key::VipOfHost(host.as_str().into());
            let held = known.vip.value.filter(|vip| self.vips.agree(service, *vip));
            if let Some(vip) = held.filter(|_| !aside.contains_key(&by_host.to_string())) {
                let by_address = |address: IpAddr| (Key::HostOfVip(address), VipHost(host.clone()).encode(), 0);
                all.push(vec![(by_host, vip.encode(), 0), by_address(vip.v4.into()), by_address(vip.v6.into())]);
            }
            let Some(order) = &known.order.value else { continue };
            let key = Key::Order(service.clone());
            let stands = aside.get(&key.to_string());
            let theirs = match stands.map(|entry| Order::decode(&entry.value)) {
                // Somebody of a later version has said it: this one does not write over that.
                Some(Err(RecordError::Reader(_))) => continue,
                theirs => theirs.and_then(Result::ok).unwrap_or_default(),
            };
            // What was held goes in front of what was lost; but in this life whoever said it first has said it.
            let begun = self.generation.as_ref().map_or(0, |(_, entry)| entry.modified);
            let is_said = stands.is_some_and(|entry| entry.modified > begun);
            let merged = if is_said { theirs.followed_by(order) } else { order.followed_by(&theirs) };
            if merged != theirs {
                all.push(vec![(key, merged.encode(), stands.map_or(0, |entry| entry.modified))]);
            }
        }
        all.sort();
        all
    }
}
