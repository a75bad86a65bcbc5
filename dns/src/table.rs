//! A persistent map from paths to entries: a clone costs nothing, and a change to the clone copies the way to what changed. It
//! is made for finding, where nearly all time is spent on waiting for memory: each level is one step, and an entry is one
//! more, with its path and all that it holds. Does not know what that is.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// So many bits of a hash choose a child. With fewer a change copies less, and what is at the top is in the processor's caches.
const BITS: u32 = 4;

/// After so many levels a hash is used up, and paths that share it get another one.
const LEVELS: u32 = u64::BITS / BITS;

/// Entries by their paths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    root: Branch,
    hasher: RandomState,
    len: usize,
}

/// What there is at a path, as one run of octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry(Arc<[u8]>);

/// A branch has 16 places, and of those that are taken the children, in order.
#[derive(Debug, Clone, Default)]
struct Branch {
    taken: u16,
    children: Arc<[Child]>,
}

#[derive(Debug, Clone)]
enum Child {
    Branch(Branch),
    Entry(Entry),
}

/// The places that lead to a path, from the root on.
struct Way<'a> {
    hasher: &'a RandomState,
    path: &'a [u8],
    hash: u64,
    level: u32,
}

// === impl Table ===

impl Table {
    /// The entry of a path.
    pub(crate) fn get(&self, path: &[u8]) -> Option<&Entry> {
        let mut way = Way::new(&self.hasher, path, 0);
        let mut branch = &self.root;
        loop {
            let place = way.next_place();
            match branch.children.get(branch.find(place)?)? {
                Child::Branch(below) => branch = below,
                Child::Entry(entry) => return Some(entry).filter(|entry| entry.path() == path),
            }
        }
    }

    /// Puts an entry in the place of the one with its path, or beside the others.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let path = entry.clone();
        self.len += usize::from(self.root.insert(&mut Way::new(&self.hasher, path.path(), 0), entry));
    }

    /// Takes away the entry of a path, if there is one.
    pub(crate) fn remove(&mut self, path: &[u8]) {
        // A branch that nothing is taken from is not copied.
        if self.get(path).is_some() {
            self.root.remove(&mut Way::new(&self.hasher, path, 0));
            self.len -= 1;
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of them, in no order.
    pub(crate) fn entries(&self) -> Vec<&Entry> {
        let mut all = Vec::with_capacity(self.len);
        self.root.add_to(&mut all);
        all
    }
}

/// The same entries, however they came.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.entries().into_iter().all(|entry| other.get(entry.path()) == Some(entry))
    }
}

// === impl Branch ===

impl Branch {
    /// Where the child at a place is; `None` when the place is not taken.
    fn find(&self, place: u16) -> Option<usize> {
        (self.taken & place != 0).then(|| self.before(place))
    }

    /// How many children are at places before it.
    fn before(&self, place: u16) -> usize {
        usize::try_from((self.taken & (place - 1)).count_ones()).unwrap_or_default()
    }

    /// Puts an entry where the way to it leads; says whether there was none before.
    fn insert(&mut self, way: &mut Way<'_>, entry: Entry) -> bool {
        let place = way.next_place();
        let before = self.before(place);
        if self.taken & place == 0 {
            let (low, high) = self.children.split_at(before);
            self.children = low.iter().cloned().chain([Child::Entry(entry)]).chain(high.iter().cloned()).collect();
            self.taken |= place;
            return true;
        }
        match &mut Arc::make_mut(&mut self.children)[before] {
            Child::Branch(below) => below.insert(way, entry),
            Child::Entry(known) if known.path() == entry.path() => {
                *known = entry;
                false
            }
            Child::Entry(known) => {
                let (known, mut below) = (known.clone(), Self::default());
                below.insert(&mut Way::new(way.hasher, known.path(), way.level), known.clone());
                below.insert(way, entry);
                Arc::make_mut(&mut self.children)[before] = Child::Branch(below);
                true
            }
        }
    }

    /// Takes away what the way leads to.
    fn remove(&mut self, way: &mut Way<'_>) {
        let place = way.next_place();
        let Some(at) = self.find(place) else { return };
        if let Child::Branch(below) = &mut Arc::make_mut(&mut self.children)[at] {
            below.remove(way);
            // One that is left needs no branch.
            if let [only @ Child::Entry(_)] = &*below.children {
                let only = only.clone();
                Arc::make_mut(&mut self.children)[at] = only;
            }
            return;
        }
        let (low, high) = self.children.split_at(at);
        self.children = low.iter().chain(&high[1..]).cloned().collect();
        self.taken &= !place;
    }

    fn add_to<'a>(&'a self, all: &mut Vec<&'a Entry>) {
        for child in &*self.children {
            match child {
                Child::Branch(below) => below.add_to(all),
                Child::Entry(entry) => all.push(entry),
            }
        }
    }
}

// === impl Way ===

impl<'a> Way<'a> {
    /// From a level on.
    fn new(hasher: &'a RandomState, path: &'a [u8], level: u32) -> Self {
        let mut way = Self { hasher, path, hash: 0, level };
        let used = level % LEVELS;
        if used > 0 {
            way.hash = way.nth_hash(level - used) >> (used * BITS);
        }
        way
    }

    /// The place at the next level, as one bit of 16.
    fn next_place(&mut self) -> u16 {
        if self.level.is_multiple_of(LEVELS) {
            self.hash = self.nth_hash(self.level);
        }
        let place = 1 << (self.hash & ((1 << BITS) - 1));
        (self.hash, self.level) = (self.hash >> BITS, self.level + 1);
        place
    }

    /// The hash that is used from this level on.
    fn nth_hash(&self, level: u32) -> u64 {
        if level == 0 { self.hasher.hash_one(self.path) } else { self.hasher.hash_one((level, self.path)) }
    }
}

// === impl Entry ===

/// Where the number of children is, and the length of the path.
const CHILDREN: usize = 4;
const HEAD: usize = CHILDREN + 1;

impl Entry {
    /// `path` is that of a name, so it has fewer than 256 octets. What is held may be empty.
    pub(crate) fn new(path: &[u8], children: u32, held: &[u8]) -> Self {
        let len = u8::try_from(path.len()).unwrap_or(u8::MAX);
        Self([&children.to_be_bytes(), &[len][..], &path[..usize::from(len)], held].concat().into())
    }

    /// The same with another number of children.
    pub(crate) fn with_children(&self, children: u32) -> Self {
        Self::new(self.path(), children, self.held())
    }

    /// Its path.
    pub(crate) fn path(&self) -> &[u8] {
        &self.0[HEAD..self.begin()]
    }

    /// How many entries are directly below.
    pub(crate) fn children(&self) -> u32 {
        self.0[..CHILDREN].iter().fold(0, |number, octet| number << 8 | u32::from(*octet))
    }

    /// What it holds.
    pub(crate) fn held(&self) -> &[u8] {
        &self.0[self.begin()..]
    }

    fn begin(&self) -> usize {
        HEAD + usize::from(self.0[CHILDREN])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// It is a map, and what was cloned before a change is as it was.
        #[test]
        fn a_table_is_a_map(
            steps in prop::collection::vec((0..300_u16, prop::option::of(any::<u8>())), 0..600),
            at in any::<prop::sample::Index>(),
        ) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            let same = |table: &Table, map: &BTreeMap<Vec<u8>, u8>| {
                let shown = |entry: &&Entry| (entry.path().to_vec(), entry.held()[0]);
                let entries: BTreeMap<_, _> = table.entries().iter().map(shown).collect();
                entries == *map && table.len() == map.len()
            };
            let mut kept = None;
            for (number, (key, value)) in steps.iter().enumerate() {
                if number == at.index(steps.len()) {
                    kept = Some((table.clone(), map.clone()));
                }
                let path = key.to_be_bytes();
                match value {
                    Some(value) => {
                        table.insert(Entry::new(&path, u32::from(*key), &[*value]));
                        map.insert(path.to_vec(), *value);
                    }
                    None => {
                        table.remove(&path);
                        map.remove(&path[..]);
                    }
                }
                let held = table.get(&path).map(|entry| (entry.children(), entry.held()));
                prop_assert_eq!(held, value.as_ref().map(|value| (u32::from(*key), std::slice::from_ref(value))));
            }
            prop_assert!(same(&table, &map));
            prop_assert!(kept.is_none_or(|(table, map)| same(&table, &map)));
            // By other ways, with other hashes.
            let mut other = Table::default();
            for (path, value) in map.iter().rev() {
                other.insert(Entry::new(path, u32::from(path[0]) << 8 | u32::from(path[1]), &[*value]));
            }
            prop_assert!(other == table);
        }
    }

    /// With every hash alike up to some level, paths are still told apart behind it.
    #[test]
    fn a_way_goes_on_behind_the_end_of_a_hash() {
        let hasher = RandomState::new();
        let mut whole = Way::new(&hasher, b"path", 0);
        let places: Vec<u16> = (0..3 * LEVELS).map(|_| whole.next_place()).collect();
        for level in 0..3 * LEVELS {
            assert_eq!(Way::new(&hasher, b"path", level).next_place(), places[usize::try_from(level).unwrap()]);
        }
        assert_ne!(places[..16], places[16..32]);
    }
}
