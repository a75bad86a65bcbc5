//! What to do about one object, given what should be and what is. Pure.

use super::object::{Desired, MANAGED_BY};
use model::cluster::SetHash;
use serde_json::Value;

/// An object as it is. What it says is held as a hash: only whether it is what should be matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Whether we made it.
    pub ours: bool,
    /// Whether it may become ours.
    pub adoptable: bool,
    /// The hash of its `spec`.
    pub spec: SetHash,
    /// How long that is as JSON.
    pub bytes: usize,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is as it should be.
    Nothing,
    /// Write it.
    Apply,
    /// It is ours and should not be there.
    Delete,
    /// Somebody else made an object of this name: leave it alone and say so.
    Foreign,
}

/// Decides.
#[must_use]
pub fn action(desired: Option<&Desired>, actual: Option<&Actual>) -> Action {
    decide(desired.map(|desired| || desired.json()), actual)
}

/// The same of what is only known as its `spec`, which is asked for when it matters.
#[must_use]
pub fn decide(desired: Option<impl FnOnce() -> Value>, actual: Option<&Actual>) -> Action {
    match (desired, actual) {
        (None, None) => Action::Nothing,
        (None, Some(actual)) if actual.ours => Action::Delete,
        (None, Some(_)) => Action::Nothing,
        (Some(_), None) => Action::Apply,
        (Some(_), Some(actual)) if !actual.ours && actual.adoptable => Action::Apply,
        (Some(_), Some(actual)) if !actual.ours => Action::Foreign,
        (Some(desired), Some(actual)) => {
            if hash(&desired()) == actual.spec {
                Action::Nothing
            } else {
                Action::Apply
            }
        }
    }
}

// === impl Actual ===

impl Actual {
    /// From the labels and the `spec` of an object.
    #[must_use]
    pub fn new<'a>(mut labels: impl Iterator<Item = (&'a str, &'a str)>, spec: &Value) -> Self {
        let text = spec.to_string();
        Self {
            ours: labels.any(|label| label == MANAGED_BY),
            adoptable: false,
            spec: SetHash::of("", text.as_bytes()),
            bytes: text.len(),
        }
    }
}

/// Equal values are equal texts: maps are written in the order of their keys.
fn hash(spec: &Value) -> SetHash {
    SetHash::of("", spec.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::service_entry::ServiceEntry;

    fn desired(host: &str) -> Desired {
        let entry = ServiceEntry { hosts: vec![host.to_owned()], ..ServiceEntry::default() };
        entry.into()
    }

    fn actual(host: &str, managed_by: &str) -> Actual {
        Actual::new([(MANAGED_BY.0, managed_by)].into_iter(), &desired(host).json())
    }

    #[test]
    fn only_differences_of_our_own_objects_are_written() {
        let (a, ours, theirs) = (desired("a"), actual("a", "federator"), actual("a", "Helm"));
        let adoptable = Actual { adoptable: true, ..theirs };
        let mut later = desired("a");
        later.revision = 8;
        for (want, is, action_is) in [
            (None, None, Action::Nothing),
            (None, Some(&ours), Action::Delete),
            (None, Some(&theirs), Action::Nothing),
            (Some(&a), None, Action::Apply),
            (Some(&a), Some(&theirs), Action::Foreign),
            (Some(&a), Some(&adoptable), Action::Apply),
            (None, Some(&adoptable), Action::Nothing),
            (Some(&a), Some(&ours), Action::Nothing),
            (Some(&later), Some(&ours), Action::Nothing),
            (Some(&a), Some(&actual("b", "federator")), Action::Apply),
        ] {
            assert_eq!(action(want, is), action_is, "{want:?} {is:?}");
        }
    }
}
