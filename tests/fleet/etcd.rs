//! The etcd engine while its etcd is broken: a call does what was asked, or says clearly why not; a watch loses
//! nothing, or says that it did; and nothing is ever taken for deleted.

mod access;
mod rights;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use federator::store::etcd::{Etcd, Settings, Tls};
use federator::store::{Lease, Store as _, StoreError, Txn, Watch};
use harness::{ClientFiles, Fleet, Result, SOON, Trio, eventually};
use tokio::time::timeout;

use crate::battery::{changes_until, own, put, write};

/// More than a call may take that is tried at every member, each of which is silent.
const CALLS: Duration = Duration::from_secs(25);

/// Long enough to find another member while one is silent.
const LEASE_SECONDS: i64 = 5;

#[test]
fn a_dead_member_is_not_noticed() -> Result {
    Fleet::shared(async |fleet| {
        let (trio, store, used) = start(fleet).await?;
        let last = put(&store, "key", "0").await?;
        let mut lease = store.lease().await?;
        kept(&store, &mut *lease).await?;
        let last = store.read("").await?.revision.max(last);
        let mut watch = store.watch(last + 1).await?;
        trio.member(used).kill()?;

        // It is the one in use, and what may be asked twice is asked of another one; writes go there from then on.
        ensure!(store.read("key").await?.entries.len() == 1, "all is there");
        let done = put(&store, "key", "1").await?;
        let ended = timeout(SOON, watch.next()).await.context("it hangs")?;
        ensure!(matches!(ended, Err(StoreError::Unavailable(_))), "{ended:?}");
        let changes = changes_until(&mut *store.watch(last + 1).await?, done).await?;
        ensure!(changes.len() == 1, "{changes:?}");
        kept(&store, &mut *lease).await
    })
}

#[test]
fn a_new_leader_loses_no_change() -> Result {
    Fleet::shared(async |fleet| {
        let (trio, store, _) = start(fleet).await?;
        let first = put(&store, "key", "0").await?;
        let mut following =
            Following { watch: store.watch(first + 1).await.ok(), store: &store, at: first, seen: BTreeMap::new() };
        for n in 1..=3 {
            let leader = trio.leader().await?;
            trio.member(leader).kill()?;
            let done = eventually(SOON, "another one leads", async || put(&store, "key", &n.to_string()).await).await?;
            following.until(done).await?;
            trio.start()?;
            trio.ready().await?;
        }
        // A write that failed may have been done, so there may be more than three.
        let mut seen: Vec<_> = following.seen.values().collect();
        seen.dedup();
        ensure!(seen == ["1", "2", "3"], "{seen:?}");
        Ok(())
    })
}

#[test]
fn without_a_quorum_everything_waits_and_says_so() -> Result {
    Fleet::shared(async |fleet| {
        let (trio, store, _) = start(fleet).await?;
        let last = put(&store, "key", "0").await?;
        let mut watch = store.watch(last + 1).await?;
        for member in [0, 1] {
            trio.member(member).kill()?;
        }
        for outcome in [
            timeout(CALLS, store.read("")).await.context("it hangs")?.map(drop),
            timeout(CALLS, put(&store, "key", "1")).await.context("it hangs")?.map(drop).map_err(unavailable),
            timeout(CALLS, store.lease()).await.context("it hangs")?.map(drop),
            timeout(CALLS, store.watch(last + 1)).await.context("it hangs")?.map(drop),
            timeout(CALLS, watch.next()).await.context("it hangs")?.map(drop),
        ] {
            let said = outcome.map_err(|error| error.to_string());
            ensure!(said.as_ref().is_err_and(|said| said.starts_with("store unavailable: https://")), "{said:?}");
        }
        trio.start()?;
        trio.ready().await?;
        let done = eventually(SOON, "it goes on", async || put(&store, "key", "2").await).await?;
        let mut watch = eventually(SOON, "it is watched", async || Ok(store.watch(last + 1).await?)).await?;
        let changes = changes_until(&mut *watch, done).await?;
        ensure!(changes.iter().all(|(_, entry)| entry.is_some()), "{changes:?}");
        Ok(())
    })
}

#[test]
fn a_paused_member_is_found_out() -> Result {
    Fleet::shared(async |fleet| {
        let (trio, store, used) = start(fleet).await?;
        let last = put(&store, "key", "0").await?;
        let mut watch = store.watch(last + 1).await?;
        let mut lease = store.lease().await?;
        kept(&store, &mut *lease).await?;
        trio.member(used).pause()?;

        let goes_on = async {
            // Reads go to the next one within the call; and a watch that would be silent for ever ends.
            let read = timeout(CALLS, store.read("key")).await.context("it hangs")??;
            ensure!(read.entries.len() == 1, "{read:?}");
            let ended = timeout(SOON, async { while watch.next().await.is_ok() {} });
            ended.await.context("it hangs")?;
            let done = put(&store, "key", "1").await?;
            let changes = changes_until(&mut *store.watch(read.revision + 1).await?, done).await?;
            ensure!(changes.len() == 1, "{changes:?}");
            Ok(())
        };
        tokio::select! {
            why = lease.lost() => bail!("{why}"),
            gone_on = goes_on => gone_on?,
        }
        kept(&store, &mut *lease).await
    })
}

#[test]
fn a_member_that_is_cut_off_ends_its_watches() -> Result {
    Fleet::shared(async |fleet| {
        let (trio, store, used) = start(fleet).await?;
        let last = put(&store, "key", "0").await?;
        let mut watch = store.watch(last + 1).await?;
        // It answers us, and knows nothing new: only that it has no leader.
        let others = [0, 1, 2].into_iter().filter(|&member| member != used);
        let _cuts = others.map(|member| trio.cut(used, trio.place(member).name())).collect::<Result<Vec<_>>>()?;
        let ended = timeout(SOON, watch.next()).await.context("it hangs")?;
        let said = ended.map_err(|error| error.to_string());
        ensure!(said.as_ref().is_err_and(|said| said.contains("no leader")), "{said:?}");
        put(&store, "key", "1").await?;
        Ok(())
    })
}

#[test]
fn without_room_it_takes_no_writes_and_says_what_to_do() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().quota(2 << 20).start().await?;
        trio.admit("east", "/fleet/").await?;
        let store = Etcd::connect(&settings(&trio, "east")?).await?;
        let big = "x".repeat(100 << 10);
        let kept = put(&store, "kept", "").await?;
        let mut watch = store.watch(kept + 1).await?;
        let full = eventually(SOON, "it is full", async || {
            let full = write(&store, [], [("big", Some(big.as_str()))]).await;
            Ok(full.err().context("not yet")?.to_string())
        })
        .await?;
        ensure!(full.starts_with("store unavailable: ") && full.contains("alarm disarm"), "{full}");

        let read = store.read("").await?;
        ensure!(read.entries.len() == 2, "reads go on: {:?}", read.entries.keys());
        changes_until(&mut *watch, read.entries["big"].modified).await?;

        trio.compact(read.revision).await?;
        trio.defragment().await?;
        trio.etcdctl(["alarm", "disarm"])?;
        let done = eventually(SOON, "writes go on", async || put(&store, "kept", "1").await).await?;
        changes_until(&mut *watch, done).await?;
        Ok(())
    })
}

#[test]
fn a_read_that_is_overtaken_by_compaction_begins_anew() -> Result {
    Fleet::shared(async |fleet| {
        let (trio, store, _) = start(fleet).await?;
        let keys: Vec<String> = (0..20_001).map(|n| format!("a/{n:05}")).collect();
        for some in keys.chunks(100) {
            write(&store, [], some.iter().map(|key| (key.as_str(), Some("value")))).await?;
        }
        let mut admin = trio.client().await?;
        let mut overtaken = 0;
        let mut reading = std::pin::pin!(async {
            for _ in 0..20 {
                match store.read("a/").await {
                    Ok(read) => ensure!(read.entries.keys().eq(&keys), "{} keys", read.entries.len()),
                    // A storm that does not end is not waited out.
                    Err(StoreError::Unavailable(why)) => ensure!(why.contains("--auto-compaction-retention"), "{why}"),
                    Err(error) => bail!("{error}"),
                }
            }
            Ok(())
        });
        loop {
            tokio::select! {
                read = &mut reading => break read?,
                compacted = async {
                    let put = admin.put("/other", "", None).await?;
                    let revision = put.header().context("no header")?.revision();
                    admin.compact(revision, None).await?;
                    Ok::<_, anyhow::Error>(())
                } => compacted?,
            }
            overtaken += 1;
        }
        ensure!(overtaken > 20, "{overtaken} compactions are none to each read");
        let read = store.read("a/").await?;
        ensure!(read.entries.len() == keys.len(), "once it is quiet it is read");
        Ok(())
    })
}

#[test]
fn values_that_are_too_large_for_one_answer_are_read_all_the_same() -> Result {
    Fleet::shared(async |fleet| {
        let settings = Settings {
            endpoints: vec![fleet.store().endpoint()],
            root: "/large".to_owned(),
            lease_seconds: LEASE_SECONDS,
            tls: None,
            user: None,
        };
        let store = Etcd::connect(&settings).await?;
        let first = put(&store, "first", "").await?;
        let mut watch = store.watch(first + 1).await?;
        let big = "x".repeat(1 << 20);
        let keys: Vec<String> = (0..70).map(|n| format!("a/{n:02}")).collect();
        let mut last = first;
        for key in &keys {
            last = put(&store, key, &big).await?;
        }
        let read = store.read("a/").await?;
        ensure!(read.entries.keys().eq(&keys), "{} keys", read.entries.len());
        changes_until(&mut *watch, last).await?;
        // One who comes late would get all of it at once, and is told to read it instead.
        let mut late = store.watch(first + 1).await?;
        let told = timeout(SOON, late.next()).await.context("it hangs")?;
        ensure!(matches!(told, Err(StoreError::Compacted(_))), "{:?}", told.map(|batch| batch.revision));
        Ok(())
    })
}

#[test]
fn a_watch_on_which_nothing_happens_moves_on() -> Result {
    Fleet::shared(async |fleet| {
        let (trio, store, _) = start(fleet).await?;
        let first = put(&store, "key", "0").await?;
        let mut watch = store.watch(first + 1).await?;
        let admin = trio.client().await?;
        let others = (0..1100).map(async |n| admin.kv_client().put(format!("/other/{n}"), "", None).await);
        futures::future::try_join_all(others).await?;
        let batch = timeout(SOON, watch.next()).await.context("it hangs")??;
        ensure!(batch.changes.is_empty() && batch.revision >= first + 1000, "{batch:?}");

        // What nobody needs may be forgotten, and nothing is read again for it.
        trio.compact(batch.revision).await?;
        let mut watch = store.watch(batch.revision + 1).await?;
        let done = put(&store, "key", "1").await?;
        let changes = changes_until(&mut *watch, done).await?;
        ensure!(changes.len() == 1, "{changes:?}");
        Ok(())
    })
}

#[test]
fn a_store_that_went_back_is_refused_until_it_is_adopted() -> Result {
    Fleet::shared(async |fleet| {
        let (trio, store, _) = start(fleet).await?;
        put(&store, "key", "0").await?;
        let snapshot = trio.snapshot()?;
        for n in 1..20 {
            put(&store, "key", &n.to_string()).await?;
        }
        let last = store.read("").await?.revision;
        let answered = async || {
            eventually(SOON, "it answers", async || match store.watch(last + 1).await {
                Err(StoreError::Unavailable(why)) => bail!("{why}"),
                other => Ok(other.map(drop)),
            })
            .await
        };
        // Under the id that it had, its revision tells; under another one everything does.
        trio.restore(&snapshot).await?;
        let refused = answered().await?;
        ensure!(matches!(refused, Err(StoreError::WentBack(_))), "{refused:?}");
        // Also what is read: it is older than what was seen.
        let read = store.read("").await;
        ensure!(matches!(read, Err(StoreError::WentBack(_))), "{read:?}");
        trio.restore_as_another(&snapshot).await?;
        let refused = answered().await?;
        ensure!(matches!(refused, Err(StoreError::WentBack(_))), "{refused:?}");
        let read = store.read("").await;
        ensure!(matches!(read, Err(StoreError::WentBack(_))), "{read:?}");
        let written = store.commit(&Txn::default()).await;
        ensure!(matches!(written, Err(StoreError::WentBack(_))), "{written:?}");

        // Whoever has judged it takes it as it is: what was written after the backup is gone, and what comes is seen.
        store.adopt();
        let all = store.read("").await?;
        let value = all.entries.get("key").map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        ensure!(value.as_deref() == Some("0") && all.revision < last, "{all:?}");
        let mut watch = store.watch(all.revision + 1).await?;
        let done = put(&store, "key", "anew").await?;
        let changes = changes_until(&mut *watch, done).await?;
        ensure!(changes.len() == 1, "{changes:?}");
        Ok(())
    })
}

#[test]
fn what_etcd_needs_is_said() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().quota(2 << 20).start().await?;
        trio.admit("east", "/fleet/").await?;
        let store = Etcd::connect(&settings(&trio, "east")?).await?;
        let last = put(&store, "key", "0").await?;
        let well = store.upkeep().await.context("no word")?;
        ensure!(well.members.len() == 3 && well.members.values().all(Option::is_none), "{well:?}");
        ensure!(well.advice.is_empty() && well.quota_bytes == Some(2 << 20), "{well:?}");
        ensure!(well.kept_revisions >= Some(last), "{well:?}");
        ensure!((1..=well.db_bytes).contains(&well.db_in_use_bytes), "{well:?}");

        // What is forgotten is seen, and so is a member that is gone.
        for n in 1..20 {
            put(&store, "key", &n.to_string()).await?;
        }
        let newest = store.read("").await?.revision;
        trio.compact(newest).await?;
        trio.member(2).kill()?;
        let less = store.upkeep().await.context("no word")?;
        ensure!(less.kept_revisions == Some(1), "{less:?}");
        let gone = less.members.get(&trio.endpoints()[2]).cloned().flatten();
        ensure!(gone.is_some_and(|why| why.contains("connect")), "{less:?}");

        let big = "x".repeat(100 << 10);
        eventually(SOON, "it is full", async || {
            let full = write(&store, [], [("big", Some(big.as_str()))]).await;
            ensure!(full.is_err_and(|error| error.to_string().contains("space exceeded")), "not yet");
            Ok(())
        })
        .await?;
        let full = store.upkeep().await.context("no word")?;
        ensure!(full.advice.iter().any(|said| said.contains("alarm disarm")), "{full:?}");
        Ok(())
    })
}

/// A trio, a store in it, and the member that this uses first, which does not lead.
async fn start(fleet: &Fleet) -> Result<(Trio, Etcd, usize)> {
    let trio = fleet.trio().start().await?;
    trio.admit("east", "/fleet/").await?;
    let mut settings = settings(&trio, "east")?;
    let used = (trio.leader().await? + 1) % 3;
    settings.endpoints.rotate_left(used);
    let store = Etcd::connect(&settings).await?;
    Ok((trio, store, used))
}

/// Shows that a lease is kept: it outlives one that is made later and is not.
async fn kept(store: &Etcd, lease: &mut dyn Lease) -> Result {
    let other = store.lease().await?;
    let bound = own(store, "other", "", &*other).await?;
    drop(other);
    let ran_out = async {
        let mut watch = store.watch(bound + 1).await?;
        while !watch.next().await?.changes.contains(&("other".to_owned(), None)) {}
        Ok(())
    };
    tokio::select! {
        why = lease.lost() => bail!("{why}"),
        ran_out = timeout(SOON, ran_out) => ran_out.context("it hangs")?,
    }
}

/// How a user reaches a trio.
pub(crate) fn settings(trio: &Trio, user: &str) -> Result<Settings> {
    let ClientFiles { ca, cert, key } = trio.credentials(user)?;
    Ok(Settings {
        endpoints: trio.endpoints().to_vec(),
        root: "/fleet".to_owned(),
        lease_seconds: LEASE_SECONDS,
        tls: Some(Tls { ca, identity: Some((cert, key)) }),
        user: None,
    })
}

fn unavailable(error: anyhow::Error) -> StoreError {
    error.downcast().unwrap_or_else(|error| StoreError::Refused(error.to_string()))
}

/// Follows one key as gathering does: goes on where it was after every trouble.
struct Following<'a> {
    store: &'a Etcd,
    at: u64,
    /// What was seen, by revision.
    seen: BTreeMap<u64, String>,
    watch: Option<Box<dyn Watch>>,
}

impl Following<'_> {
    async fn until(&mut self, revision: u64) -> Result {
        timeout(SOON, async {
            while self.at < revision {
                let Some(watch) = self.watch.as_mut() else {
                    match self.store.watch(self.at + 1).await {
                        Ok(watch) => self.watch = Some(watch),
                        Err(StoreError::Unavailable(_)) => tokio::task::yield_now().await,
                        Err(error) => bail!("{error}"),
                    }
                    continue;
                };
                match watch.next().await {
                    Ok(batch) => {
                        for (_, entry) in batch.changes {
                            let entry = entry.context("a deletion")?;
                            let value = String::from_utf8_lossy(&entry.value).into_owned();
                            ensure!(self.seen.insert(entry.modified, value).is_none(), "{} twice", entry.modified);
                        }
                        self.at = batch.revision;
                    }
                    Err(StoreError::Unavailable(_)) => self.watch = None,
                    Err(error) => bail!("{error}"),
                }
            }
            Ok(())
        })
        .await
        .context("it hangs")?
    }
}
