//! Objects that may not be as they should be, in the order in which they are looked at: first those that nobody should be
//! led to any more, or that lead somewhere again. Pure.

use crate::emit::object::ObjectKey;
use std::collections::BTreeSet;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    urgent: BTreeSet<ObjectKey>,
    others: BTreeSet<ObjectKey>,
}

// === impl Waiting ===

impl Waiting {
    /// Adds one; what was urgent stays so until it is removed.
    pub(super) fn insert(&mut self, key: ObjectKey, is_urgent: bool) {
        if is_urgent {
            self.others.remove(&key);
            self.urgent.insert(key);
        } else if !self.urgent.contains(&key) {
            self.others.insert(key);
        }
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) {
        self.urgent.remove(key);
        self.others.remove(key);
    }

    pub(super) fn contains(&self, key: &ObjectKey) -> bool {
        self.urgent.contains(key) || self.others.contains(key)
    }

    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.others.len()
    }

    /// The urgent ones first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ObjectKey> {
        self.urgent().chain(&self.others)
    }

    pub(super) fn urgent(&self) -> impl Iterator<Item = &ObjectKey> {
        self.urgent.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::object::Kind;

    #[test]
    fn what_is_urgent_comes_first_and_stays_so() {
        let key = |name: &str| ObjectKey { kind: Kind::ServiceEntry, namespace: "demo".into(), name: name.into() };
        let mut waiting = Waiting::default();
        for (name, is_urgent) in [("a", false), ("b", false), ("b", true), ("c", true), ("c", false)] {
            waiting.insert(key(name), is_urgent);
        }
        assert_eq!(waiting.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["b", "c", "a"]);
        assert_eq!((waiting.len(), waiting.contains(&key("a"))), (3, true));
        waiting.remove(&key("b"));
        waiting.insert(key("b"), false);
        assert_eq!(waiting.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["c", "a", "b"]);
    }
}
