//! When an object may be written again. Its first change goes out at once; the next after a gap in proportion to how large
//! it is; and what somebody else changes back again and again is put right later each time. Pure: times are arguments.

use crate::emit::object::ObjectKey;
use model::cluster::SetHash;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// An object of 100 kB is written once a second.
const GAP_PER_BYTE: Duration = Duration::from_micros(10);

/// After the second time that an object is put right. It doubles from there.
const FIRST: Duration = Duration::from_secs(1);

/// Longest that a wrong object is left alone.
const LONGEST: Duration = Duration::from_secs(300);

/// Who has changed nothing for so long does not fight.
const CALM: Duration = Duration::from_secs(600);

/// So often is no chance.
const FIGHT: u32 = 3;

/// How many objects are remembered before those that do not matter any more are forgotten.
const REMEMBERED: usize = 1024;

/// When objects were written.
#[derive(Debug)]
pub(super) struct Pace {
    written: BTreeMap<ObjectKey, Written>,
    /// Those that were the same too often to be chance, when they were written last.
    fights: BTreeSet<ObjectKey>,
    forget_at: usize,
}

/// The last write of one.
#[derive(Clone, Copy, Debug)]
struct Written {
    /// What was written; `None` where it was deleted.
    hash: Option<SetHash>,
    at: Instant,
    gap: Duration,
    /// How often in a row the same was written: each time but the first, somebody had changed it.
    again: u32,
}

// === impl Pace ===

impl Pace {
    pub(super) fn new() -> Self {
        Self { written: BTreeMap::new(), fights: BTreeSet::new(), forget_at: REMEMBERED }
    }

    /// An object was written, or deleted where there is no hash.
    pub(super) fn wrote(&mut self, key: ObjectKey, hash: Option<SetHash>, bytes: usize, now: Instant) {
        let same = |last: &&Written| last.hash == hash && now.duration_since(last.at) < CALM;
        let again = self.written.get(&key).filter(same).map_or(0, |last| last.again.saturating_add(1));
        let by_size = GAP_PER_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        let by_fight = match again.checked_sub(1) {
            Some(before) => FIRST.saturating_mul(1 << before.min(16)).min(LONGEST),
            None => Duration::ZERO,
        };
        if again >= FIGHT {
            self.fights.insert(key.clone());
        } else {
            self.fights.remove(&key);
        }
        self.written.insert(key, Written { hash, at: now, gap: by_size.max(by_fight), again });
        if self.written.len() >= self.forget_at {
            self.written.retain(|_, written| now.duration_since(written.at) < CALM);
            self.fights.retain(|key| self.written.contains_key(key));
            self.forget_at = REMEMBERED.max(2 * self.written.len());
        }
    }

    /// When an object may be written; `None` for at any time.
    pub(super) fn due(&self, key: &ObjectKey) -> Option<Instant> {
        self.written.get(key).map(|written| written.at + written.gap)
    }

    /// What somebody else changes again and again, and how often in a row that was put right. An object that waits to be
    /// put right once more is one of these.
    pub(super) fn fought(&self, now: Instant) -> impl Iterator<Item = (&ObjectKey, u32)> {
        let written = self.fights.iter().filter_map(|key| Some((key, self.written.get(key)?)));
        let lasting = written.filter(move |(_, written)| now.duration_since(written.at) < CALM + written.gap);
        lasting.map(|(key, written)| (key, written.again))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::object::Kind;

    fn some(text: &str) -> Option<SetHash> {
        Some(SetHash::of("", text.as_bytes()))
    }

    fn key() -> ObjectKey {
        ObjectKey { kind: Kind::ServiceEntry, namespace: "demo".into(), name: "web.demo.global".into() }
    }

    #[test]
    fn a_large_object_is_written_less_often() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        assert_eq!(pace.due(&key()), None);
        pace.wrote(key(), some("1"), 1_000, now);
        assert_eq!(pace.due(&key()), Some(now + Duration::from_millis(10)));
        pace.wrote(key(), some("2"), 100_000, now);
        assert_eq!(pace.due(&key()), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn who_puts_it_back_again_and_again_waits_longer_each_time() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        let mut gaps = Vec::new();
        for _ in 0..12 {
            pace.wrote(key(), some("1"), 0, now);
            let due = pace.due(&key()).expect("it was written");
            gaps.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(gaps, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pace.fought(now).map(|(_, times)| times).collect::<Vec<_>>(), [11]);
        // Another content is a change of ours, and not theirs.
        pace.wrote(key(), some("2"), 0, now);
        assert_eq!((pace.due(&key()), pace.fought(now).count()), (Some(now), 0));
    }

    #[test]
    fn once_in_a_while_is_no_fight() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        for _ in 0..10 {
            pace.wrote(key(), some("1"), 0, now);
            assert_eq!((pace.due(&key()), pace.fought(now).count()), (Some(now), 0));
            now += CALM;
        }
        // A deletion that somebody undoes is one.
        (0..4).for_each(|_| pace.wrote(key(), None, 0, now));
        assert_eq!(pace.fought(now).count(), 1);
    }

    #[test]
    fn what_does_not_matter_any_more_is_forgotten() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        let key = |n: usize| ObjectKey { name: n.to_string().into(), ..key() };
        (0..REMEMBERED - 1).for_each(|n| pace.wrote(key(n), some("1"), 0, now));
        assert_eq!(pace.written.len(), REMEMBERED - 1);
        pace.wrote(key(REMEMBERED), some("1"), 0, now + CALM);
        assert_eq!(pace.written.len(), 1);
    }
}
