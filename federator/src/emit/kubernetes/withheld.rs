//! What a dry run would write or delete, object by object, counted as it changes. Pure.

use crate::emit::{DryRun, object::ObjectKey, plan::Action};
use std::collections::BTreeMap;

/// What is not done.
#[derive(Default)]
pub(super) struct Withheld {
    /// The action, and whether the object is there.
    objects: BTreeMap<ObjectKey, (Action, bool)>,
    would: DryRun,
}

// === impl Withheld ===

impl Withheld {
    /// Takes note of what is to be done about an object now; says whether that is withheld.
    pub(super) fn note(&mut self, key: &ObjectKey, action: Action, is_there: bool) -> bool {
        if let Some(before) = self.objects.remove(key) {
            *self.count(before) -= 1;
        }
        let withheld = matches!(action, Action::Apply | Action::Delete);
        if withheld {
            *self.count((action, is_there)) += 1;
            self.objects.insert(key.clone(), (action, is_there));
        }
        withheld
    }

    /// How many objects these are.
    pub(super) fn would(&self) -> DryRun {
        self.would
    }

    fn count(&mut self, (action, is_there): (Action, bool)) -> &mut usize {
        match (action, is_there) {
            (Action::Delete, _) => &mut self.would.deleted,
            (_, true) => &mut self.would.changed,
            (_, false) => &mut self.would.created,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::object::Kind;

    #[test]
    fn each_object_counts_once_as_what_was_decided_last() {
        let key = |name: &str| ObjectKey { kind: Kind::ServiceEntry, namespace: "demo".into(), name: name.into() };
        let mut withheld = Withheld::default();
        let mut check = |name, action, is_there, expected: (usize, usize, usize)| {
            let is_withheld = withheld.note(&key(name), action, is_there);
            assert_eq!(is_withheld, matches!(action, Action::Apply | Action::Delete), "{action:?}");
            let DryRun { created, changed, deleted } = withheld.would();
            assert_eq!((created, changed, deleted), expected, "{name}: {action:?}");
        };
        check("a", Action::Apply, false, (1, 0, 0));
        check("a", Action::Apply, false, (1, 0, 0));
        check("b", Action::Apply, true, (1, 1, 0));
        check("a", Action::Apply, true, (0, 2, 0));
        check("b", Action::Delete, true, (0, 1, 1));
        check("b", Action::Nothing, false, (0, 1, 0));
        check("a", Action::Foreign, true, (0, 0, 0));
    }
}
