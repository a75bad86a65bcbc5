//! What the store says of single clusters: taken as far as a marker vouches for it, kept aside where none does.

use super::{
    Fold, Note, Seats,
    standing::{Count, Stamp, Stamped, Standing, decode, decode_with},
    under,
};
use crate::store::Entry;
use model::{
    cluster::{Hold, Meta, State, Synced},
    export::{Head, Slice},
    key::Key,
    name::{ClusterId, ServiceKey},
    record::Record as _,
    seat::{Candidate, Owner},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    slice,
    sync::Arc,
};

impl Fold {
    /// A cluster whose records, with these changes, would not be those that its marker speaks of.
    pub(super) fn doubted(&self, notes: &[Note<'_>]) -> Option<ClusterId> {
        let mut counts: BTreeMap<&ClusterId, Count> = BTreeMap::new();
        let mut markers: BTreeMap<&ClusterId, Option<Synced>> = BTreeMap::new();
        let mut changed: HashMap<&Key, Stamp> = HashMap::new();
        let mut buried: BTreeSet<&ClusterId> = BTreeSet::new();
        for note in notes {
            let Some(id) = note.key.owned_by() else { continue };
            match &note.key {
                Key::Synced(_) => {
                    markers.insert(id, note.entry.and_then(|entry| Synced::decode(&entry.value).ok()));
                    counts.entry(id).or_insert_with(|| self.count(id));
                }
                Key::Tombstone(_) => _ = buried.insert(id),
                key if key.is_record() => {
                    let before = changed.insert(key, note.stamp).unwrap_or_else(|| self.stamp(key));
                    counts.entry(id).or_insert_with(|| self.count(id)).change(before, note.stamp);
                }
                _ => {}
            }
        }
        let doubtful = |(id, count): (&ClusterId, Count)| {
            let standing = self.clusters.get(id);
            if buried.contains(id) || standing.is_some_and(|known| known.aside.is_some() || known.is_removed()) {
                return None;
            }
            let held = || standing.and_then(|known| known.synced.value.clone());
            let vouched = match markers.remove(id).unwrap_or_else(held) {
                Some(marker) => count.fits(&marker),
                None => !standing.is_some_and(|known| known.marked),
            };
            (!vouched).then(|| id.clone())
        };
        counts.into_iter().find_map(doubtful)
    }

    fn count(&self, id: &ClusterId) -> Count {
        self.clusters.get(id).map(|known| known.count).unwrap_or_default()
    }

    /// The stamp of a record that is used.
    pub(super) fn stamp(&self, key: &Key) -> Stamp {
        match key {
            Key::Head(id, service) => self.services.get(service).map(|known| known.head_stamp(id)),
            Key::Slice(id, service, name) => self.services.get(service).map(|known| known.slice_stamp(id, name)),
            _ => None,
        }
        .unwrap_or_default()
    }

    /// Takes over what the store says of every cluster, and drops what it does not say any more, where it vouches for
    /// that. Of a cluster that has no marker it says nothing, not even that something is gone.
    pub(super) fn replace_clusters(&mut self, entries: &BTreeMap<String, Entry>, touched: &mut HashSet<ServiceKey>) {
        let mut by_cluster: BTreeMap<ClusterId, Vec<Note<'_>>> =
            self.clusters.keys().map(|id| (id.clone(), Vec::new())).collect();
        let number = |standing: &Standing| standing.tombstone.value.as_ref().map_or(0, |tombstone| tombstone.number);
        let before: BTreeMap<ClusterId, u64> =
            self.clusters.iter().map(|(id, standing)| (id.clone(), number(standing))).collect();
        // A removal that the store has lost is held, and is to be said again.
        for standing in self.clusters.values_mut() {
            (standing.tombstone.stamp, standing.tombstone_number) = (Stamp::default(), 0);
        }
        let many = [Key::RECORDS, Key::ORDERS, Key::VIPS];
        for (text, entry) in entries.iter().filter(|(text, _)| !many.iter().any(|prefix| text.starts_with(prefix))) {
            let Some(note) = self.read(text, Some(entry)) else { continue };
            self.raise(slice::from_ref(&note));
            match note.key.owned_by() {
                Some(_) if matches!(note.key, Key::Tombstone(_)) => self.note_tombstone(&note, touched),
                Some(id) => by_cluster.entry(id.clone()).or_default().push(note),
                None => {}
            }
        }
        let mut last = "";
        for (text, entry) in under(entries, Key::RECORDS) {
            let id = text[Key::RECORDS.len()..].split_once('/').map_or("", |(id, _)| id);
            if !id.is_empty() && id == last {
                continue;
            }
            match ClusterId::parse(id) {
                Ok(known) => {
                    by_cluster.entry(known).or_default();
                    last = id;
                }
                // No key of ours.
                Err(_) => drop(self.read(text, Some(entry))),
            }
        }
        let mut held = self.record_keys(|_| true);
        for (id, mut notes) in by_cluster {
            // One cluster after the other, because there are very many records.
            let prefix = Key::records_of(&id);
            let records = under(entries, &prefix).map(|(text, entry)| self.read(text, Some(entry)));
            notes.extend(records.flatten());
            self.raise(&notes);
            let standing = self.clusters.entry(id.clone()).or_default();
            standing.seats = Seats::default();
            Arc::make_mut(&mut self.seats).remove(&id);
            let (seats, notes): (Vec<_>, Vec<_>) =
                notes.into_iter().partition(|note| matches!(note.key, Key::Owner(_) | Key::Candidate(..)));
            seats.into_iter().for_each(|note| self.note_seat(&note));
            let marker = notes.iter().find(|note| matches!(note.key, Key::Synced(_)));
            let marker = marker.and_then(|note| Synced::decode(&note.entry?.value).ok());
            let mut count = Count::default();
            for note in notes.iter().filter(|note| note.key.is_record()) {
                count.change(Stamp::default(), note.stamp);
            }
            let hold = notes.iter().find(|note| matches!(note.key, Key::Hold(_))).and_then(|note| note.entry);
            let vouched = self.is_vouched(marker.as_ref(), count)
                && marker.as_ref().is_some_and(|marker| self.is_late_enough(&id, marker, hold));
            let standing = self.clusters.entry(id.clone()).or_default();
            if !standing.is_removed() && !vouched && (standing.aside.is_some() || standing.marked) {
                if standing.aside.is_none() {
                    tracing::warn!(cluster = %id, "the store's word on it is kept aside: no marker vouches for it");
                }
                let entries = notes.iter().filter_map(|note| Some((note.text.to_owned(), note.entry?.clone())));
                standing.aside = Some(entries.collect());
                continue;
            }
            (standing.aside, standing.begun) = (None, false);
            // It may have been removed and readmitted meanwhile: then it begins anew.
            let is_another = before.get(&id).is_some_and(|before| number(standing) > *before);
            // Of one that never had anything there is nothing to keep.
            if marker.is_some() || standing.is_removed() || is_another || !standing.is_known() {
                let held = held.remove(&id).unwrap_or_default();
                self.sweep(&id, held, &notes.iter().map(|note| &note.key).collect(), touched);
            }
            notes.into_iter().for_each(|note| self.note_of_cluster(note, touched));
        }
    }

    /// Whether a marker says that these are all records, in this life of the store.
    fn is_vouched(&self, marker: Option<&Synced>, count: Count) -> bool {
        let life = self.generation.as_ref().map_or("", |(generation, _)| &generation.id);
        marker.is_some_and(|marker| marker.is_complete() && *marker.generation == *life && count.fits(marker))
    }

    /// Whether whoever wrote a marker in another life of the store has seen as much as there was in the one that is held:
    /// an owner may be behind its API server, and nobody but who held it knows what a lost store said. An operator may
    /// accept less.
    fn is_late_enough(&self, id: &ClusterId, marker: &Synced, hold: Option<&Entry>) -> bool {
        let Some(standing) = self.clusters.get(id) else { return true };
        let Some(held) = &standing.synced.value else { return true };
        let is_accepted = || hold.is_some_and(|entry| Hold::decode(&entry.value).is_ok_and(|hold| hold.accepted));
        held.generation == marker.generation
            || held.is_reached_by(&marker.source_version)
            || standing.count.fits(marker)
            || is_accepted()
    }

    /// The keys of all records that are used, of these clusters; in one go, because there are many services.
    fn record_keys(&self, of: impl Fn(&ClusterId) -> bool) -> BTreeMap<ClusterId, Vec<Key>> {
        let mut keys: BTreeMap<ClusterId, Vec<Key>> = BTreeMap::new();
        for (service, known) in &self.services {
            for id in known.clusters().filter(|id| of(id)) {
                let Some((head, slices)) = known.stamps(id) else { continue };
                let keys = keys.entry(id.clone()).or_default();
                keys.extend(head.exists().then(|| Key::Head(id.clone(), service.clone())));
                keys.extend(slices.map(|(name, _)| Key::Slice(id.clone(), service.clone(), name.clone())));
            }
        }
        keys
    }

    /// Drops what is held of a cluster, its records among it, and is none of the keys that are there.
    fn sweep(&mut self, id: &ClusterId, records: Vec<Key>, there: &HashSet<&Key>, touched: &mut HashSet<ServiceKey>) {
        let of_itself = [Key::Meta, Key::Synced, Key::State, Key::Hold].map(|key| key(id.clone()));
        let gone = records.into_iter().chain(of_itself);
        for key in gone.filter(|key| !there.contains(key)) {
            let text = key.to_string();
            self.note_of_cluster(Note { key, text: &text, entry: None, stamp: Stamp::default() }, touched);
        }
    }

    /// Takes the store's word again where a marker vouches for it.
    pub(super) fn release_clusters(&mut self, touched: &mut HashSet<ServiceKey>) {
        let kept: Vec<ClusterId> =
            self.clusters.iter().filter(|(_, known)| known.aside.is_some()).map(|(id, _)| id.clone()).collect();
        for id in kept {
            let entries = self.clusters.get(&id).and_then(|known| known.aside.as_ref());
            let Some(entries) = entries else { continue };
            let marker = entries.get(&Key::Synced(id.clone()).to_string());
            let Some(marker) = marker.and_then(|entry| Synced::decode(&entry.value).ok()) else { continue };
            // The hashes are summed only once the marker could be the one.
            let prefix = Key::records_of(&id);
            let records = || entries.iter().filter(|(key, _)| key.starts_with(&prefix));
            let complete = self.is_vouched(Some(&marker), Count { records: marker.records, hash: marker.hash });
            let hold = entries.get(&Key::Hold(id.clone()).to_string());
            if complete
                && self.is_late_enough(&id, &marker, hold)
                && self.is_vouched(Some(&marker), Count::of(records()))
            {
                tracing::info!(cluster = %id, "a marker vouches for the store's word on it again");
                self.release(&id, touched);
            }
        }
    }

    /// The store's word is taken, whatever it is: what was held beside it is given up.
    pub(super) fn release(&mut self, id: &ClusterId, touched: &mut HashSet<ServiceKey>) {
        let Some(standing) = self.clusters.get_mut(id) else { return };
        standing.begun = false;
        let entries = standing.aside.take().unwrap_or_default();
        let keys: Vec<Key> = entries.keys().filter_map(|text| Key::parse(text).ok()).collect();
        let held = self.record_keys(|known| known == id).remove(id).unwrap_or_default();
        self.sweep(id, held, &keys.iter().collect(), touched);
        for (text, entry) in &entries {
            if let Some(note) = self.read(text, Some(entry)) {
                self.note_of_cluster(note, touched);
            }
        }
    }

    /// Takes note of a key of one cluster. A value that does not decode counts as none, so that who reads the store
    /// anew holds the same View.
    pub(super) fn note_of_cluster(&mut self, note: Note<'_>, touched: &mut HashSet<ServiceKey>) {
        // The id is held once, and not with every record.
        let Some(id) = note.key.owned_by() else { return };
        let id = self.clusters.get_key_value(id).map_or(id, |(known, _)| known).clone();
        if matches!(note.key, Key::Owner(_) | Key::Candidate(..)) {
            return self.note_seat(&note);
        }
        let standing = self.clusters.entry(id.clone()).or_default();
        if let Some(aside) = &mut standing.aside {
            match note.entry {
                Some(entry) => _ = aside.insert(note.text.to_owned(), entry.clone()),
                None => _ = aside.remove(note.text),
            }
            return;
        }
        let Note { key, text, entry, stamp } = note;
        let is_record = key.is_record();
        let outcome = match key {
            Key::Head(_, service) => {
                let (head, outcome) = decode_with(entry, |bytes| Head::decode_sharing(bytes, &mut self.shared));
                let head = Stamped { value: head.map(Arc::new), stamp };
                let before = self.services.entry(service.clone()).or_default().set_head(&id, head);
                self.recount(&id, before, stamp);
                touched.insert(service);
                outcome
            }
            Key::Slice(_, service, name) => {
                let (slice, outcome) = decode_with(entry, |bytes| Slice::decode_sharing(bytes, &mut self.shared));
                let value = slice.map(|slice| self.once(&id, &service, &name, slice));
                let known = self.services.entry(service.clone()).or_default();
                let before = known.set_slice(&id, name, Stamped { value, stamp });
                self.recount(&id, before, stamp);
                touched.insert(service);
                outcome
            }
            _ => standing.set(&key, entry, stamp),
        };
        self.quarantine(text, outcome);
        if is_record {
            return;
        }
        let standing = self.clusters.entry(id.clone()).or_default();
        standing.marked |= standing.is_synced();
        let cluster = standing.in_view();
        self.view.set_cluster(&id, cluster);
    }

    fn recount(&mut self, id: &ClusterId, before: Stamp, after: Stamp) {
        self.clusters.entry(id.clone()).or_default().count.change(before, after);
        self.digest = self.digest.minus(before.hash).plus(after.hash);
    }

    fn note_seat(&mut self, note: &Note<'_>) {
        let Some(id) = note.key.owned_by() else { return };
        let seats = &mut self.clusters.entry(id.clone()).or_default().seats;
        match &note.key {
            Key::Owner(_) => {
                // An owner that does not decode owns all the same.
                seats.owner = note.entry.map(|entry| (Owner::decode(&entry.value).unwrap_or_default(), entry.modified));
            }
            Key::Candidate(_, agent) => match note.entry.and_then(|entry| Candidate::decode(&entry.value).ok()) {
                Some(candidate) => _ = seats.candidates.insert(agent.clone(), candidate),
                None => _ = seats.candidates.remove(agent),
            },
            _ => {}
        }
        let seats = seats.clone();
        let all = Arc::make_mut(&mut self.seats);
        if seats == Seats::default() {
            all.remove(id);
        } else {
            all.insert(id.clone(), seats);
        }
    }

    /// Takes who owns what as it stands where following is resumed; what is newer comes by itself. A store that went back a
    /// little and has come as far again may lack an owner that nobody will ever take back.
    pub fn resume_seats(&mut self, clusters: &BTreeMap<String, Entry>) {
        for standing in self.clusters.values_mut() {
            standing.seats = Seats::default();
        }
        self.seats = Arc::default();
        let reached = self.reached;
        for (text, entry) in clusters.iter().filter(|(_, entry)| entry.modified <= reached) {
            if let Ok(key @ (Key::Owner(_) | Key::Candidate(..))) = Key::parse(text) {
                self.note_seat(&Note { key, text, entry: Some(entry), stamp: Stamp::default() });
            }
        }
    }

    /// The slice as this agent observed it, where that is the same: what an agent publishes of a cluster of its own
    /// comes back to it, and endpoints are most of what there is.
    fn once(&self, id: &ClusterId, service: &ServiceKey, name: &str, slice: Slice) -> Arc<Slice> {
        let seen = self.own.get(id).and_then(|own| own.slice(service, name));
        seen.filter(|seen| ***seen == slice).cloned().unwrap_or_else(|| Arc::new(slice))
    }
}

impl Standing {
    /// Sets what the cluster says of itself.
    fn set(&mut self, key: &Key, entry: Option<&Entry>, stamp: Stamp) -> Result<(), String> {
        match key {
            Key::Meta(_) => {
                let (value, outcome) = decode::<Meta>(entry);
                self.meta = Stamped { value, stamp };
                outcome
            }
            Key::Synced(_) => {
                let (value, outcome) = decode::<Synced>(entry);
                self.synced = Stamped { value, stamp };
                outcome
            }
            Key::State(_) => {
                let (value, outcome) = decode::<State>(entry);
                self.state = Stamped { value, stamp };
                outcome
            }
            Key::Hold(_) => {
                let (value, outcome) = decode::<Hold>(entry);
                self.hold = Stamped { value, stamp };
                outcome
            }
            _ => Ok(()),
        }
    }
}
