//! The canary: a Lease that is renewed again and again, and whose every renewal must come back through a watch. Pure:
//! what was written, found and seen goes in, what it means comes out. It tells an API server whose watches have gone
//! deaf, or whose storage went back, though all it answers is friendly.

use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// How many renewals are remembered: a roll-back further than that is told without knowing where the new world begins.
const HISTORY: usize = 256;

/// One renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    /// Counts renewals.
    pub(super) sequence: u64,
    /// The resourceVersion that the API server gave it.
    pub(super) version: u64,
}

/// What the canary says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is well, or it is too early to say otherwise.
    Fine,
    /// A renewal did not come back in time.
    Deaf,
    /// The storage is older than what was written. Versions from this one on are surely of the restored world.
    RolledBack(u64),
}

/// What is known of the Lease.
#[derive(Debug)]
pub(super) struct Canary {
    patience: Duration,
    /// What was written, the latest last.
    written: VecDeque<Renewal>,
    /// When the latest was written.
    at: Instant,
    /// The largest version that came back.
    seen: u64,
    /// What a roll-back that was found out says about the new world, until a write there says it exactly.
    floor: Option<u64>,
}

// === impl Canary ===

impl Canary {
    /// A canary that was not renewed yet; a renewal must come back within `patience`.
    #[must_use]
    pub(super) fn new(patience: Duration, now: Instant) -> Self {
        Self { patience, written: VecDeque::new(), at: now, seen: 0, floor: None }
    }

    /// The last renewal; `None` before the first.
    #[must_use]
    pub(super) fn last(&self) -> Option<Renewal> {
        self.written.back().copied()
    }

    /// A renewal was written.
    pub(super) fn wrote(&mut self, renewal: Renewal, now: Instant) -> Verdict {
        let older = self.last().filter(|last| renewal.version < last.version);
        let verdict = match (self.floor.take(), older) {
            (Some(floor), _) => Verdict::RolledBack(floor.min(renewal.version)),
            (None, Some(_)) => Verdict::RolledBack(renewal.version),
            (None, None) => Verdict::Fine,
        };
        if verdict != Verdict::Fine {
            self.written.clear();
            self.seen = 0;
        }
        if self.written.len() == HISTORY {
            self.written.pop_front();
        }
        self.written.push_back(renewal);
        self.at = now;
        verdict
    }

    /// What stands there is not what was written last. Where it is an earlier renewal, the storage went back; the next
    /// write says so. Where it is nothing of ours, somebody else has written, which is no sign of anything.
    pub(super) fn found(&mut self, found: Option<Renewal>) {
        let Some(last) = self.last() else { return };
        let Some(found) = found else {
            // Deleted, or of a time before it was made: the version of the next write tells.
            return;
        };
        if found.sequence < last.sequence {
            let lost = self.written.iter().find(|renewal| renewal.sequence > found.sequence);
            self.floor = Some(lost.map_or(u64::MAX, |renewal| renewal.version));
        }
    }

    /// A renewal came back through the watch.
    pub(super) fn saw(&mut self, version: u64) {
        self.seen = self.seen.max(version);
    }

    /// The watch begins anew: what was written before it is waited for anew.
    pub(super) fn pause(&mut self, now: Instant) {
        self.at = now;
    }

    /// Whether the last renewal came back.
    #[must_use]
    pub(super) fn is_back(&self) -> bool {
        self.last().is_none_or(|last| self.seen >= last.version)
    }

    /// Whether something is wrong by now.
    #[must_use]
    pub(super) fn check(&self, now: Instant) -> Verdict {
        if !self.is_back() && now.duration_since(self.at) >= self.patience { Verdict::Deaf } else { Verdict::Fine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn canary(written: &[(u64, u64)]) -> Canary {
        let now = Instant::now();
        let mut canary = Canary::new(PATIENCE, now);
        for (sequence, version) in written {
            assert_eq!(canary.wrote(Renewal { sequence: *sequence, version: *version }, now), Verdict::Fine);
            canary.saw(*version);
        }
        canary
    }

    #[test]
    fn a_renewal_that_does_not_come_back_is_deafness() {
        let now = Instant::now();
        let mut canary = canary(&[(1, 10), (2, 20)]);
        canary.wrote(Renewal { sequence: 3, version: 30 }, now);
        assert_eq!(canary.check(now + PATIENCE / 2), Verdict::Fine);
        assert_eq!(canary.check(now + PATIENCE), Verdict::Deaf);
        canary.saw(30);
        assert_eq!(canary.check(now + PATIENCE), Verdict::Fine);
    }

    #[test]
    fn an_earlier_renewal_is_a_roll_back_and_says_where_the_new_world_begins() {
        // The storage was saved between the second and the third renewal; the first one lost had version 30.
        let mut canary = canary(&[(1, 10), (2, 20), (3, 30), (4, 40)]);
        canary.found(Some(Renewal { sequence: 2, version: 20 }));
        assert_eq!(canary.wrote(Renewal { sequence: 5, version: 35 }, Instant::now()), Verdict::RolledBack(30));
        // Young as it is, the new world may not have come as far as that.
        let mut canary = self::canary(&[(1, 10), (2, 20), (3, 30), (4, 40)]);
        canary.found(Some(Renewal { sequence: 2, version: 20 }));
        assert_eq!(canary.wrote(Renewal { sequence: 5, version: 25 }, Instant::now()), Verdict::RolledBack(25));
        assert_eq!(canary.wrote(Renewal { sequence: 6, version: 26 }, Instant::now()), Verdict::Fine);
    }

    #[test]
    fn a_storage_from_before_the_canary_is_told_by_its_version() {
        let mut canary = canary(&[(1, 10), (2, 20)]);
        canary.found(None);
        assert_eq!(canary.wrote(Renewal { sequence: 3, version: 15 }, Instant::now()), Verdict::RolledBack(15));
        // Deleted by hand, it is just written again.
        let mut canary = self::canary(&[(1, 10), (2, 20)]);
        canary.found(None);
        assert_eq!(canary.wrote(Renewal { sequence: 3, version: 25 }, Instant::now()), Verdict::Fine);
    }
}
