//! Values of which many are equal, each held once. Knows nothing of what they mean.

use std::{collections::HashSet, hash::Hash, sync::Arc};

/// From how many values on it is worth looking for those that nobody holds any more.
const SWEEP_FROM: usize = 1024;

/// The values that somebody holds.
#[derive(Debug)]
pub(in crate::observe) struct Shared<T: ?Sized> {
    known: HashSet<Arc<T>>,
    sweep_at: usize,
}

// === impl Shared ===

impl<T: Hash + Eq + ?Sized> Shared<T> {
    /// The value that is equal to this one and is held already, if there is one.
    pub(in crate::observe) fn one(&mut self, value: &Arc<T>) -> Arc<T> {
        if let Some(known) = self.known.get(&**value) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            // Twice as many as are left: so a sweep costs no more than what came since the last one.
            self.sweep_at = SWEEP_FROM.max(2 * self.known.len());
        }
        self.known.insert(value.clone());
        value.clone()
    }

    /// Replaces a value by the one that is held.
    pub(in crate::observe) fn share(&mut self, value: &mut Arc<T>) {
        *value = self.one(value);
    }
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), sweep_at: SWEEP_FROM }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_what_nobody_holds_is_forgotten() {
        let mut shared: Shared<str> = Shared::default();
        let held = shared.one(&"a".into());
        assert!(Arc::ptr_eq(&held, &shared.one(&"a".into())));
        for n in 0..10 * SWEEP_FROM {
            drop(shared.one(&n.to_string().into()));
        }
        assert!(shared.known.len() <= SWEEP_FROM, "{}", shared.known.len());
        assert!(Arc::ptr_eq(&held, &shared.one(&"a".into())));
    }
}
