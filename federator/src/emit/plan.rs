//! What to do about one object, given what should be and what is. Pure.

use super::object::{Desired, MANAGED_BY};
use serde_json::Value;
use std::collections::BTreeMap;

/// An object as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actual {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its `spec`.
    pub spec: Value,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// It is as it should be.
    Nothing,
    /// Write it.
    Apply(Desired),
    /// It is ours and should not be there.
    Delete,
    /// Somebody else made an object of this name: leave it alone and say so.
    Foreign,
}

/// Decides.
#[must_use]
pub fn action(desired: Option<&Desired>, actual: Option<&Actual>) -> Action {
    match (desired, actual) {
        (None, None) => Action::Nothing,
        (None, Some(actual)) if actual.is_ours() => Action::Delete,
        (None, Some(_)) => Action::Nothing,
        (Some(desired), None) => Action::Apply(desired.clone()),
        (Some(_), Some(actual)) if !actual.is_ours() => Action::Foreign,
        (Some(desired), Some(actual)) if desired.spec() == actual.spec => Action::Nothing,
        (Some(desired), Some(_)) => Action::Apply(desired.clone()),
    }
}

// === impl Actual ===

impl Actual {
    /// Whether we made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.labels.get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::object::ServiceEntry;
    use std::sync::Arc;

    fn desired(host: &str) -> Desired {
        let entry = ServiceEntry { hosts: vec![host.to_owned()], ..ServiceEntry::default() };
        Desired { entry: Arc::new(entry), revision: 7 }
    }

    fn actual(host: &str, managed_by: &str) -> Actual {
        let labels = BTreeMap::from([(MANAGED_BY.0.to_owned(), managed_by.to_owned())]);
        Actual { labels, spec: desired(host).spec() }
    }

    #[test]
    fn only_differences_of_our_own_objects_are_written() {
        let (a, ours, theirs) = (desired("a"), actual("a", "federator"), actual("a", "Helm"));
        let mut later = desired("a");
        later.revision = 8;
        for (want, is, action_is) in [
            (None, None, Action::Nothing),
            (None, Some(&ours), Action::Delete),
            (None, Some(&theirs), Action::Nothing),
            (Some(&a), None, Action::Apply(a.clone())),
            (Some(&a), Some(&theirs), Action::Foreign),
            (Some(&a), Some(&ours), Action::Nothing),
            (Some(&later), Some(&ours), Action::Nothing),
            (Some(&a), Some(&actual("b", "federator")), Action::Apply(a.clone())),
        ] {
            assert_eq!(action(want, is), action_is, "{want:?} {is:?}");
        }
    }

    /// What is planned, once done, plans nothing more.
    #[test]
    fn a_plan_settles() {
        let want = desired("a");
        let Action::Apply(written) = action(Some(&want), None) else { panic!("a missing object is written") };
        let labels = BTreeMap::from([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())]);
        assert_eq!(action(Some(&want), Some(&Actual { labels, spec: written.spec() })), Action::Nothing);
    }
}
