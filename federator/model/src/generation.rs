//! Generations: the lives of a store. One that was restored from a backup or emptied counts its revisions from an
//! earlier number, so they mean something only within a generation; a base added to them makes a revision that never
//! goes back. Knows nothing of how a restored store is told.

use std::sync::Arc;

/// So many lives are remembered: backups older than that many losses are not put back.
const MOST_PAST: usize = 16;

/// One life of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// Random. Two are the same life exactly when these are equal.
    pub id: Arc<str>,
    /// What is added to the store's revisions.
    pub base: u64,
    /// Whether every agent has had the time to say again what it holds. Until then nothing is swept or given out.
    pub settled: bool,
    /// The lives before it that whoever began it knew of, the latest first. A store that was put back to one of them is
    /// no later life, however far it has come since.
    pub past: Vec<Arc<str>>,
}

// === impl Generation ===

impl Generation {
    /// The first revision that a View may show, of one of the store's own.
    #[must_use]
    pub fn revision(&self, of_store: u64) -> u64 {
        self.base + of_store
    }

    /// The generation that follows whatever was seen up to a revision, in a store that is at `of_store`; `before` are the
    /// lives that are over, the latest first.
    #[must_use]
    pub fn after<'a>(seen: u64, of_store: u64, id: &str, before: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut past = Vec::new();
        for life in before {
            let ids = std::iter::once(&life.id).chain(&life.past).filter(|id| !past.contains(*id)).cloned();
            past.extend(ids.collect::<Vec<_>>());
        }
        past.truncate(MOST_PAST);
        Self { id: id.into(), base: (seen + 1).saturating_sub(of_store), settled: false, past }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_later_generation_counts_on(seen in 0..u64::MAX / 4, now in 0..u64::MAX / 4) {
            let first = Generation { id: "a".into(), ..Generation::default() };
            let next = Generation::after(seen, now, "x", [&first, &first]);
            prop_assert_eq!(&next.past, &["a".into()]);
            prop_assert!(next.revision(now) > seen);
            // Nothing is added where the store itself has come further.
            prop_assert!(next.base == 0 || next.revision(now) == seen + 1);
        }
    }
}
