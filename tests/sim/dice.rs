//! All chance of one run, from its seed. Knows nothing of what is decided by it.

use crate::journal::locked;
use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The dice of one run. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Arc<Mutex<fastrand::Rng>>);

// === impl Dice ===

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// True once in `times`.
    pub(crate) fn once_in(&self, times: u32) -> bool {
        locked(&self.0).u32(0..times) == 0
    }

    pub(crate) fn number(&self, range: RangeInclusive<usize>) -> usize {
        locked(&self.0).usize(range)
    }

    /// Any of them; none when there are none.
    pub(crate) fn any_of<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        locked(&self.0).choice(of)
    }

    /// A time of that many milliseconds. Most are short: all lengths in powers of two are equally likely.
    pub(crate) fn millis(&self, range: RangeInclusive<u64>) -> Duration {
        let mut dice = locked(&self.0);
        let (low, high) = (range.start() + 1, range.end() + 1);
        let power = dice.u32(low.ilog2()..=high.ilog2());
        let length = dice.u64(1 << power..2 << power);
        Duration::from_millis(length.clamp(low, high) - 1)
    }
}
