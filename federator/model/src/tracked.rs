//! A persistent map that knows what changed since a sequence number. Every stage of the pipeline hands one on: a
//! snapshot is cheap to clone, a consumer asks what changed since the last one it saw, and a slow consumer skips
//! states instead of queueing events. Knows nothing of what it holds.
//!
//! The sequence number counts this map's own changes; it means nothing outside the process.

use rpds::RedBlackTreeMapSync;

/// Removals are remembered at least until there are this many of them, so that a consumer a little behind never
/// has to compare everything.
const MIN_REMEMBERED_REMOVALS: usize = 1024;

/// Changes are journalled at least until there are this many of them; tests go beyond it.
const MIN_JOURNAL: usize = if cfg!(test) { 4 } else { 1024 };

/// Of how many keys one is journalled: whoever is further behind has so much to do that going through all slots is
/// nothing beside it.
const KEYS_A_CHANGE: usize = 16;

/// A persistent ordered map with a journal of its latest changes, one entry a key: its last.
#[derive(Clone, Debug)]
pub struct Tracked<K: Ord, V> {
    slots: RedBlackTreeMapSync<K, Slot<V>>,
    /// Sequence of a key's last change to the key, of all changes after `journalled`.
    journal: RedBlackTreeMapSync<u64, K>,
    journalled: u64,
    sequence: u64,
    /// Removals up to this sequence are forgotten.
    horizon: u64,
    live: usize,
}

/// What is known of a key: when it changed last, and its value unless it was removed.
#[derive(Clone, Debug)]
struct Slot<V> {
    changed: u64,
    value: Option<V>,
}

/// What a consumer has to do to catch up.
#[derive(Debug)]
pub enum Since<'a, K, V> {
    /// These keys changed, in the order of their last change; `None` was removed.
    Changes(Vec<(&'a K, Option<&'a V>)>),
    /// Removals it has not seen are forgotten: go through everything, and drop what is not there.
    Everything,
}

// === impl Tracked ===

impl<K: Ord + Clone, V: Clone + PartialEq> Tracked<K, V> {
    /// An empty map at sequence zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            slots: RedBlackTreeMapSync::new_sync(),
            journal: RedBlackTreeMapSync::new_sync(),
            journalled: 0,
            sequence: 0,
            horizon: 0,
            live: 0,
        }
    }

    /// The number of the last change; zero before the first.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.slots.get(key)?.value.as_ref()
    }

    /// All keys and values, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().filter_map(|(key, slot)| Some((key, slot.value.as_ref()?)))
    }

    /// Sets or removes a key; says whether that changed anything. What does not change is not journalled, so
    /// nothing downstream is rebuilt for it.
    pub fn set(&mut self, key: K, value: Option<V>) -> bool {
        let old = self.slots.get(&key);
        if old.and_then(|slot| slot.value.as_ref()) == value.as_ref() {
            return false;
        }
        let was_live = old.is_some_and(|slot| slot.value.is_some());
        if let Some(changed) = old.map(|slot| slot.changed) {
            self.journal.remove_mut(&changed);
        }
        self.sequence += 1;
        let removed = value.is_none();
        self.live = self.live + usize::from(!removed) - usize::from(was_live);
        self.journal.insert_mut(self.sequence, key.clone());
        self.slots.insert_mut(key, Slot { changed: self.sequence, value });
        self.shorten_journal();
        if removed {
            self.forget_old_removals();
        }
        true
    }

    /// What changed after `sequence`, which is that of a snapshot seen before, or zero for "have seen nothing".
    #[must_use]
    pub fn since(&self, sequence: u64) -> Since<'_, K, V> {
        if sequence > 0 && sequence < self.horizon {
            return Since::Everything;
        }
        // Who has seen nothing need not hear what went.
        let is_news = |slot: &Slot<V>| sequence > 0 || slot.value.is_some();
        let mut changes = Vec::new();
        if sequence >= self.journalled {
            let changed = self.journal.range(sequence + 1..).filter_map(|(_, key)| Some((key, self.slots.get(key)?)));
            changes.extend(changed.filter(|(_, slot)| is_news(slot)));
        } else {
            changes.extend(self.slots.iter().filter(|(_, slot)| slot.changed > sequence && is_news(slot)));
            changes.sort_unstable_by_key(|(_, slot)| slot.changed);
        }
        Since::Changes(changes.into_iter().map(|(key, slot)| (key, slot.value.as_ref())).collect())
    }

    fn shorten_journal(&mut self) {
        if self.journal.size() > MIN_JOURNAL.max(self.slots.size() / KEYS_A_CHANGE)
            && let Some(oldest) = self.journal.first().map(|(sequence, _)| *sequence)
        {
            self.journal.remove_mut(&oldest);
            self.journalled = oldest;
        }
    }

    fn forget_old_removals(&mut self) {
        let removals = self.slots.size() - self.live;
        if removals <= MIN_REMEMBERED_REMOVALS.max(self.live) {
            return;
        }
        let gone = self.slots.iter().filter(|(_, slot)| slot.value.is_none());
        let mut oldest: Vec<(u64, K)> = gone.map(|(key, slot)| (slot.changed, key.clone())).collect();
        oldest.sort_unstable_by_key(|(sequence, _)| *sequence);
        oldest.truncate(removals / 2);
        for (sequence, key) in oldest {
            self.horizon = sequence;
            self.journal.remove_mut(&sequence);
            self.slots.remove_mut(&key);
        }
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> Default for Tracked<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn everything(map: &Tracked<u8, u8>) -> BTreeMap<u8, u8> {
        map.iter().map(|(k, v)| (*k, *v)).collect()
    }

    proptest! {
        /// Whoever follows the changes from any snapshot on holds what the map holds.
        #[test]
        fn replaying_changes_equals_reading_everything(
            writes in prop::collection::vec((0..20_u8, prop::option::of(0..3_u8)), 0..80),
            at in 0..80_usize,
        ) {
            let (mut map, mut model, mut held, mut seen) = (Tracked::new(), BTreeMap::new(), BTreeMap::new(), 0);
            for (step, (key, value)) in writes.into_iter().enumerate() {
                let changed = match value {
                    Some(value) => model.insert(key, value) != Some(value),
                    None => model.remove(&key).is_some(),
                };
                prop_assert_eq!(map.set(key, value), changed);
                if step == at {
                    (held, seen) = (everything(&map), map.sequence());
                }
            }
            let Since::Changes(changes) = map.since(seen) else { panic!("nothing was forgotten") };
            for (key, value) in changes {
                match value {
                    Some(value) => held.insert(*key, *value),
                    None => held.remove(key),
                };
            }
            prop_assert_eq!(&held, &model);
            prop_assert_eq!(everything(&map), model);
            prop_assert_eq!(map.len(), held.len());
        }
    }

    #[test]
    fn whoever_is_too_far_behind_is_told_to_read_everything() {
        let mut map = Tracked::new();
        map.set(0_u32, Some(()));
        let seen = map.sequence();
        for key in 1..=3000 {
            map.set(key, Some(()));
            map.set(key, None);
        }
        assert!(matches!(map.since(seen), Since::Everything));
        assert!(matches!(map.since(0), Since::Changes(changes) if changes == [(&0, Some(&()))]));
        assert!(matches!(map.since(map.sequence()), Since::Changes(changes) if changes.is_empty()));
        assert!(map.slots.size() < 3000, "removals are forgotten at some point");
    }
}
