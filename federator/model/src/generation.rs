//! Generations: the lives of a store. One that was restored from a backup or emptied counts its revisions from an
//! earlier number, so they mean something only within a generation; a base added to them makes a revision that never
//! goes back. Knows nothing of how a restored store is told.

use std::sync::Arc;

/// One life of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// Random. Two are the same life exactly when these are equal.
    pub id: Arc<str>,
    /// What is added to the store's revisions.
    pub base: u64,
    /// Whether every agent has had the time to say again what it holds. Until then nothing is swept or given out.
    pub settled: bool,
}

// === impl Generation ===

impl Generation {
    /// The first revision that a View may show, of one of the store's own.
    #[must_use]
    pub fn revision(&self, of_store: u64) -> u64 {
        self.base + of_store
    }

    /// The generation that follows whatever was seen up to a revision, in a store that is at `of_store`.
    #[must_use]
    pub fn after(seen: u64, of_store: u64, id: &str) -> Self {
        Self { id: id.into(), base: (seen + 1).saturating_sub(of_store), settled: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_later_generation_counts_on(seen in 0..u64::MAX / 4, now in 0..u64::MAX / 4) {
            let next = Generation::after(seen, now, "x");
            prop_assert!(next.revision(now) > seen);
            // Nothing is added where the store itself has come further.
            prop_assert!(next.base == 0 || next.revision(now) == seen + 1);
        }
    }
}
