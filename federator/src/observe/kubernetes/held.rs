//! What is held of a cluster, by name and version, and which news of an API server are believed. Pure. Versions are
//! compared within one kind only; those of one kind grow with every write (KEP-5504).
//!
//! After a roll-back of the API server's storage the world is another one: what was held before is *remembered*, until
//! the restored world says something newer about it. A list that does not have it proves nothing, for it may have been
//! made in the time that was lost.

use crate::observe::index::{Kind, ObjectName, shared::Shared};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// How many of the newest objects are known by name, for questions that are most telling of them.
const NEWEST: usize = 16;

/// Where news come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// A watch, which may leave something out but invents nothing.
    Watch,
    /// A list, which may be of an old world.
    List,
    /// A get, which tells the truth.
    Get,
}

/// The versions of what is held.
#[derive(Debug, Default)]
pub(super) struct Held {
    objects: HashMap<ObjectName, Mark>,
    namespaces: Shared<str>,
    /// Which list of a kind is the current one.
    passes: HashMap<Kind, u32>,
    /// The largest version seen of a kind.
    highest: HashMap<Kind, u64>,
    newest: VecDeque<ObjectName>,
    /// The first version that is surely of the restored world; zero when there never was a roll-back.
    floor: u64,
    /// Whether lists are of an old world.
    lists_lie: bool,
    /// What is held of a world that is gone. A set of its own: it is looked through at every change, however much is held.
    remembered: BTreeSet<ObjectName>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    version: u64,
    pass: u32,
}

// === impl Held ===

impl Held {
    /// Takes note of an object at a version; zero when it has none that can be compared. Says whether it is news to
    /// be believed.
    pub(super) fn see(&mut self, name: &ObjectName, version: u64, via: Via) -> bool {
        let pass = self.passes.get(&name.kind).copied().unwrap_or_default();
        let highest = self.highest.entry(name.kind).or_default();
        *highest = (*highest).max(version);
        let (floor, lists_lie) = (self.floor, self.lists_lie && via == Via::List);
        let Some(mark) = self.objects.get_mut(name) else {
            let namespace = self.namespaces.one(&name.namespace);
            let held = ObjectName { namespace, ..name.clone() };
            self.objects.insert(held, Mark { version, pass });
            self.is_new(name);
            return true;
        };
        mark.pass = pass;
        let same = version == mark.version && version != 0;
        let remembered = self.remembered.contains(name);
        let newer = if remembered { version >= floor } else { version > mark.version || version == 0 };
        if remembered && !lists_lie && (same || newer) {
            self.remembered.remove(name);
        }
        if same || !newer {
            return false;
        }
        mark.version = version;
        self.is_new(name);
        true
    }

    /// Takes note that a watch told of a deletion, at a version. Says whether it is to be believed.
    pub(super) fn gone(&mut self, name: &ObjectName, version: u64) -> bool {
        let believed = self.objects.get(name).is_some_and(|mark| {
            let newer = if self.is_remembered(name) { version >= self.floor } else { version >= mark.version };
            newer || version == 0
        });
        if believed {
            self.forget(name);
        }
        believed
    }

    /// An object is not held any more.
    pub(super) fn forget(&mut self, name: &ObjectName) {
        self.objects.remove(name);
        self.remembered.remove(name);
    }

    /// A list of a kind begins.
    pub(super) fn begin(&mut self, kind: Kind) {
        *self.passes.entry(kind).or_default() += 1;
    }

    /// A list of a kind is complete; what is held and it did not name, but for what is only remembered.
    #[must_use]
    pub(super) fn missing(&self, kind: Kind) -> HashSet<ObjectName> {
        let pass = self.passes.get(&kind).copied().unwrap_or_default();
        let missing =
            |(name, mark): &(&ObjectName, &Mark)| name.kind == kind && mark.pass != pass && !self.is_remembered(name);
        self.objects.iter().filter(missing).map(|(name, _)| name.clone()).collect()
    }

    /// Whether an object is held and neither the last list named it nor anything told of it since.
    #[must_use]
    pub(super) fn is_missing(&self, name: &ObjectName) -> bool {
        let pass = self.passes.get(&name.kind).copied().unwrap_or_default();
        self.objects.get(name).is_some_and(|mark| mark.pass != pass) && !self.is_remembered(name)
    }

    /// The largest version seen of a kind.
    #[must_use]
    pub(super) fn highest(&self, kind: Kind) -> u64 {
        self.highest.get(&kind).copied().unwrap_or_default()
    }

    /// The version at which an object is held.
    #[must_use]
    pub(super) fn version(&self, name: &ObjectName) -> Option<u64> {
        self.objects.get(name).map(|mark| mark.version)
    }

    /// Whether an object is only remembered.
    #[must_use]
    pub(super) fn is_remembered(&self, name: &ObjectName) -> bool {
        self.remembered.contains(name)
    }

    /// How many objects are only remembered.
    #[must_use]
    pub(super) fn remembered(&self) -> usize {
        self.remembered.len()
    }

    /// The objects that are only remembered.
    pub(super) fn remembered_names(&self) -> impl Iterator<Item = &ObjectName> {
        self.remembered.iter()
    }

    /// The objects that changed last and are still held, the newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &ObjectName> {
        self.newest.iter().rev().filter(|name| self.objects.contains_key(*name))
    }

    /// The storage went back: from here on everything held is only remembered. What has a version from `floor` on was
    /// written in the restored world.
    pub(super) fn roll_back(&mut self, floor: u64) {
        self.floor = floor;
        self.highest.clear();
        self.remembered = self.objects.keys().cloned().collect();
    }

    /// From this version on, too, everything is of the restored world.
    pub(super) fn lower_floor(&mut self, version: u64) {
        self.floor = self.floor.min(version);
    }

    /// Whether lists are known to be of an old world.
    pub(super) fn lists_lie(&mut self, lie: bool) {
        self.lists_lie = lie;
    }

    fn is_new(&mut self, name: &ObjectName) {
        if self.newest.back() != Some(name) {
            self.newest.retain(|known| known != name);
            self.newest.push_back(name.clone());
        }
        if self.newest.len() > NEWEST {
            self.newest.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
