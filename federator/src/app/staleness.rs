//! Since when nobody has confirmed that what is known is the state of the store, and what that does to answers. Own clusters
//! are seen all the while; nobody can tell whose name a name is that is not known.

use crate::{config::file, gather::StoreHealth};
use dns::Stale;
use std::time::Duration;
use tokio::time::Instant;

/// Watches over the age of what is known.
#[derive(Debug)]
pub(super) struct Staleness {
    after: Duration,
    then: Stale,
    since: Option<Instant>,
}

// === impl Staleness ===

impl Staleness {
    pub(super) fn new((after, then): (Duration, file::Stale)) -> Self {
        let then = match then {
            file::Stale::Known => Stale::Answers,
            file::Stale::Servfail => Stale::Fails,
        };
        Self { after, then, since: None }
    }

    /// Takes how the store is now.
    pub(super) fn see(&mut self, store: &StoreHealth, now: Instant) {
        self.since = match store {
            StoreHealth::Lost(_) | StoreHealth::Snapshot => self.since.or(Some(now)),
            // Before it was ever read, what is known is not old, but little.
            StoreHealth::Followed | StoreHealth::NeverRead => None,
        };
    }

    /// Since when nothing is confirmed.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// What answers say now.
    pub(super) fn stale(&self, now: Instant) -> Option<Stale> {
        self.since.filter(|since| now.duration_since(*since) >= self.after).map(|_| self.then)
    }

    /// When that will be otherwise, if nothing else happens.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.since.map(|since| since + self.after).filter(|due| *due > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_stale_when_the_store_was_lost_for_long() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut staleness = Staleness::new((Duration::from_secs(30), file::Stale::Servfail));
        let lost = || StoreHealth::Lost("away".to_owned());
        for (second, store, stale, due) in [
            (0, StoreHealth::NeverRead, false, None),
            (1, StoreHealth::Snapshot, false, Some(31)),
            (20, lost(), false, Some(31)),
            (31, lost(), true, None),
            (32, StoreHealth::Followed, false, None),
            (33, lost(), false, Some(63)),
            (70, lost(), true, None),
        ] {
            staleness.see(&store, at(second));
            let expected = (stale.then_some(Stale::Fails), due.map(at));
            assert_eq!((staleness.stale(at(second)), staleness.due(at(second))), expected, "{second}");
        }
    }
}
