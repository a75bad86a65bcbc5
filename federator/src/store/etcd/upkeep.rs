//! Whether etcd is looked after: each of its members serves, it forgets history by itself, and it has room. What to set
//! where it is not stands in `advice`, a sentence each, for people. Deciding is pure; asking costs some small calls.
//!
//! etcd does not say whether it compacts by itself, so that is inferred: from the oldest revision that can still be
//! read, and for how long it has been the oldest. The quota is said by etcd 3.6 and later only.

use super::{
    Etcd,
    failure::{Failure, NO_ROOM},
    members::Retry,
    sign, watch,
};
use crate::store::{StoreError, Upkeep};
use etcd_client::{GetOptions, StatusResponse};
use std::{collections::BTreeMap, sync::PoisonError, time::Duration};
use tokio::time::Instant;

/// An etcd that never forgot anything is no concern before this.
const YOUNG: u64 = 10_000;

/// Longer than any history that somebody keeps on purpose.
const LONG: Duration = Duration::from_secs(25 * 3600);

/// etcd's own quota where none is set.
const DEFAULT_QUOTA: u64 = 2 << 30;

/// Less is not worth getting back.
const WORTH_DEFRAGMENTING: u64 = 256 << 20;

/// The oldest revision that could be read, when last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oldest {
    revision: u64,
    /// Since when it is the oldest, as far as this agent knows.
    since: Instant,
}

/// What one member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    version: String,
    db_bytes: u64,
    db_in_use_bytes: u64,
    /// Zero where it is not said.
    quota_bytes: u64,
    errors: Vec<String>,
}

impl Etcd {
    /// How etcd is looked after.
    pub(super) async fn look_after(&self) -> Upkeep {
        let statuses = self.members.statuses().await;
        let ids: Vec<_> = statuses.iter().map(|status| Some(status.as_ref().ok()?.header()?.cluster_id())).collect();
        let mixed = self.members.cluster().and_then(|known| self.members.compare(known, &ids));
        let endpoints = self.members.endpoints().map(str::to_owned);
        let members: BTreeMap<_, _> =
            endpoints.zip(statuses.iter().map(|status| status.as_ref().map(Said::new))).collect();
        let history = self.history().await.ok();
        let mut upkeep = sum_up(&members);
        if let Some((oldest, revision)) = history {
            upkeep.kept_revisions = Some(revision.saturating_sub(oldest.revision) + 1);
            upkeep.advice.extend(compaction(oldest, revision, Instant::now()));
        }
        upkeep.advice.extend(mixed);
        upkeep
    }

    /// The oldest revision that can be read, and the newest.
    async fn history(&self) -> Result<(Oldest, u64), StoreError> {
        let newest = self.read_at(0).await?;
        let before = *self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        // A store that went back has another history.
        let before = before.filter(|oldest| oldest.revision <= newest);
        let oldest = match before {
            Some(oldest) if self.is_kept(oldest.revision).await? => oldest,
            _ => {
                let low = before.map_or(1, |oldest| oldest.revision);
                Oldest { revision: self.first_kept(low, newest).await?, since: Instant::now() }
            }
        };
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = Some(oldest);
        Ok((oldest, newest))
    }

    /// The first revision from `low` on that is kept; `high` is.
    async fn first_kept(&self, mut low: u64, mut high: u64) -> Result<u64, StoreError> {
        while low < high {
            let middle = low + (high - low) / 2;
            if self.is_kept(middle).await? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    async fn is_kept(&self, revision: u64) -> Result<bool, StoreError> {
        match self.read_at(revision).await {
            Ok(_) => Ok(true),
            Err(StoreError::Compacted(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads next to nothing as it was at a revision, or now; returns the newest one.
    async fn read_at(&self, revision: u64) -> Result<u64, StoreError> {
        let options = GetOptions::new().with_revision(sign(revision)).with_keys_only().with_limit(1);
        let read = self.members.call(Retry::Freely, |client| {
            let (root, options) = (self.root.as_bytes().to_vec(), options.clone());
            async move { client.kv_client().get(root, Some(options)).await }
        });
        let (_, read) = read.await?;
        Ok(read.header().map_or(0, |header| super::unsign(header.revision())))
    }
}

// === impl Said ===

impl Said {
    fn new(status: &StatusResponse) -> Self {
        let bytes = |size: i64| u64::try_from(size).unwrap_or(0);
        Self {
            version: status.version().to_owned(),
            db_bytes: bytes(status.db_size()),
            db_in_use_bytes: bytes(status.raft_used_db_size()),
            quota_bytes: bytes(status.db_size_quota()),
            errors: status.errors().to_vec(),
        }
    }
}

/// The worst that members say of themselves, and what follows of it.
fn sum_up(members: &BTreeMap<String, Result<Said, &Failure>>) -> Upkeep {
    let said = || members.values().flatten();
    let most = |of: fn(&Said) -> u64| said().map(of).max().unwrap_or(0);
    let quota = said().map(|said| said.quota_bytes).filter(|quota| *quota > 0).min();
    let mut upkeep = Upkeep {
        members: BTreeMap::new(),
        db_bytes: most(|said| said.db_bytes),
        db_in_use_bytes: most(|said| said.db_in_use_bytes),
        quota_bytes: quota,
        kept_revisions: None,
        advice: Vec::new(),
    };
    for (endpoint, said) in members {
        let trouble = match said {
            Ok(said) if said.errors.is_empty() => None,
            Ok(said) => Some(said.errors.join(", ")),
            Err(failure) => Some(failure.error.to_string()),
        };
        upkeep.members.insert(endpoint.clone(), trouble);
    }
    let alarm = |word: &str| said().any(|said| said.errors.iter().any(|error| error.contains(word)));
    if alarm("NOSPACE") {
        upkeep.advice.push(NO_ROOM.to_owned());
    } else {
        upkeep.advice.extend(room(upkeep.db_bytes, upkeep.db_in_use_bytes, quota));
    }
    if alarm("CORRUPT") {
        let advice = "members of etcd hold different data (alarm CORRUPT): replace the one that is wrong, as etcd's manual \
                      says, then `etcdctl alarm disarm`";
        upkeep.advice.push(advice.to_owned());
    }
    if let Some(old) = said().find(|said| !watch::truthful(&said.version)) {
        let version = &old.version;
        upkeep.advice.push(format!("etcd {version} has known faults in watches: upgrade it to 3.5.8 or later"));
    }
    upkeep
}

/// What to do about a database that becomes too large.
fn room(size: u64, in_use: u64, quota: Option<u64>) -> Option<String> {
    let mib = |bytes: u64| bytes >> 20;
    let limit = quota.unwrap_or(DEFAULT_QUOTA);
    let of = if quota.is_some() { "" } else { " (etcd's default; this version does not say what it has)" };
    if size / 4 >= limit / 5 {
        let (size, limit) = (mib(size), mib(limit));
        return Some(format!(
            "etcd's database has {size} of {limit} MiB{of}: `etcdctl defrag`, or give it a larger --quota-backend-bytes"
        ));
    }
    let free = size.saturating_sub(in_use);
    (free >= WORTH_DEFRAGMENTING && free > in_use).then(|| {
        format!("{} of {} MiB of etcd's database are unused: `etcdctl defrag` gives them back", mib(free), mib(size))
    })
}

/// What to do about an etcd that forgets nothing.
fn compaction(oldest: Oldest, newest: u64, now: Instant) -> Option<String> {
    let kept = newest.saturating_sub(oldest.revision) + 1;
    let never = oldest.revision <= 1;
    let long_ago = now.duration_since(oldest.since) >= LONG;
    (kept > YOUNG && (never || long_ago)).then(|| {
        let when = if never { "never" } else { "not for a day" };
        format!(
            "etcd has {kept} revisions of history and has {when} forgotten any: have it run with \
             --auto-compaction-mode=periodic --auto-compaction-retention=10m"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_forgets_nothing_is_told_from_a_young_one() {
        let start = Instant::now();
        let check = |oldest: u64, newest: u64, hours: u64, expected: &str| {
            let now = start + Duration::from_secs(hours * 3600);
            let said = compaction(Oldest { revision: oldest, since: start }, newest, now).unwrap_or_default();
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        };
        check(1, 9_000, 100, "");
        check(1, 20_000, 0, "20000 revisions of history and has never");
        check(5_000, 9_000_000, 0, "");
        check(5_000, 9_000_000, 24, "");
        check(5_000, 9_000_000, 25, "not for a day");
        check(5_000, 9_000, 1000, "");
    }

    #[test]
    fn a_database_that_becomes_too_large_is_said_before_it_is() {
        let check = |size: u64, in_use: u64, quota: Option<u64>, expected: &str| {
            let said = room(size << 20, in_use << 20, quota.map(|quota| quota << 20)).unwrap_or_default();
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        };
        check(79, 79, Some(100), "");
        check(80, 80, Some(100), "has 80 of 100 MiB: ");
        check(1000, 900, None, "");
        check(1700, 1700, None, "has 1700 of 2048 MiB (etcd's default");
        check(1700, 1700, Some(8192), "");
        check(600, 100, Some(8192), "500 of 600 MiB of etcd's database are unused");
        check(200, 10, Some(8192), "");
    }

    #[test]
    fn the_worst_member_counts() {
        let silent = Failure::of_member("no answer within 2 s");
        let well =
            Said { version: "3.7.3".to_owned(), db_bytes: 10, db_in_use_bytes: 5, quota_bytes: 100, errors: vec![] };
        let full = Said { db_bytes: 50, errors: vec!["memberID:1 alarm:NOSPACE ".to_owned()], ..well.clone() };
        let members = |list: Vec<Result<Said, &Failure>>| {
            sum_up(&list.into_iter().enumerate().map(|(n, said)| (format!("m{n}"), said)).collect())
        };
        let upkeep = members(vec![Ok(well.clone()), Ok(full), Err(&silent)]);
        assert_eq!((upkeep.db_bytes, upkeep.db_in_use_bytes, upkeep.quota_bytes), (50, 5, Some(100)));
        assert_eq!(upkeep.members["m0"], None);
        assert!(upkeep.members["m1"].as_ref().is_some_and(|why| why.contains("NOSPACE")));
        assert!(upkeep.members["m2"].as_ref().is_some_and(|why| why.contains("no answer")));
        assert_eq!(upkeep.advice, [NO_ROOM]);

        let old = members(vec![Ok(Said { version: "3.5.6".to_owned(), quota_bytes: 0, ..well.clone() })]);
        assert_eq!((old.quota_bytes, old.advice.len()), (None, 1), "{:?}", old.advice);
        assert!(members(vec![Ok(well)]).advice.is_empty());
    }
}
