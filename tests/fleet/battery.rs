//! What every engine of the store must do, written once and shown of both: the embedded one, and a real etcd. Each
//! behaviour has a root of its own, so that all run on one store; those that break the store come last, of etcd.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use federator::store::embedded::Embedded;
use federator::store::etcd::{Etcd, Settings};
use federator::store::{Committed, Entry, Guard, Lease, Store, StoreError, Txn, Watch};
use futures::FutureExt as _;
use harness::{Fleet, Result, SOON, eventually};
use tokio::time::timeout;

/// The shortest lease that etcd keeps to.
const LEASE_SECONDS: i64 = 2;

/// Every behaviour gets a fresh store from `make`.
async fn battery(make: impl AsyncFn(&str) -> Result<Arc<dyn Store>>) -> Result {
    /// Runs one under its own name and root.
    macro_rules! show {
        ($($behaviour:ident)*) => {
            $(
                let store = make(stringify!($behaviour)).await?;
                let shown = timeout(SOON, $behaviour(&*store)).await;
                shown.context("it hangs").flatten().context(stringify!($behaviour))?;
            )*
        };
    }
    show! {
        a_read_has_all_keys_of_a_prefix_at_one_revision
        a_transaction_has_one_revision
        guards_hold_or_nothing_is_done
        deleting_what_is_not_there_changes_nothing
        a_watch_has_every_change_once_and_in_order
        a_watch_does_not_tear_transactions
        a_watch_that_is_left_waiting_loses_nothing
        a_watch_from_the_future_is_refused
        keys_go_with_their_lease
        a_lease_that_is_kept_outlives_one_that_is_not
        a_leased_key_changes_hands_in_one_transaction
    }
    Ok(())
}

#[tokio::test]
async fn embedded_passes_the_battery() -> Result {
    battery(async |_| Ok(Arc::new(Embedded::new()) as Arc<dyn Store>)).await?;

    let store = Embedded::new();
    for n in 0..2000 {
        put(&store, "key", &n.to_string()).await?;
    }
    history_that_is_compacted_is_an_error(&store).await
}

#[test]
fn etcd_passes_the_battery() -> Result {
    Fleet::shared(async |fleet| {
        let endpoint = fleet.store().endpoint();
        battery(async |name| etcd(&endpoint, name).await).await
    })
}

#[test]
fn etcd_of_three_members_with_tls_and_users_passes_the_battery() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        trio.admit("east", "/battery/").await?;
        let settings = Settings { lease_seconds: LEASE_SECONDS, ..crate::etcd::settings(&trio, "east")? };
        battery(async |name| {
            let settings = Settings { root: format!("/battery/{name}"), ..settings.clone() };
            Ok(Arc::new(Etcd::connect(&settings).await?) as Arc<dyn Store>)
        })
        .await
    })
}

#[test]
fn etcd_that_compacted_or_restarted_is_told_by_errors() -> Result {
    Fleet::exclusive(async |fleet| {
        let shared = fleet.store();
        let store = etcd(&shared.endpoint(), "restart").await?;
        for n in 0..5 {
            put(&*store, "key", &n.to_string()).await?;
        }
        let revision = store.read("").await?.revision;
        shared.client().await?.compact(i64::try_from(revision)?, None).await?;
        history_that_is_compacted_is_an_error(&*store).await?;

        // Who held the store when it went hears of it, and goes on where it was when it is back.
        let mut watch = store.watch(revision + 1).await?;
        let mut lease = store.lease().await?;
        let epoch = own(&*store, "owner", "me", &*lease).await?;
        let owned = watch.next().await?;
        shared.etcd().kill()?;
        let ended = timeout(SOON, watch.next()).await.context("it hangs")?;
        ensure!(matches!(ended, Err(StoreError::Unavailable(_))), "{ended:?}");
        let read = store.read("").await;
        ensure!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
        shared.etcd().start()?;
        let mut watch =
            eventually(SOON, "the watch goes on", async || Ok(store.watch(owned.revision + 1).await?)).await?;
        let done = put(&*store, "key", "after").await?;
        ensure!(watch.next().await?.revision == done, "nothing came between");
        // A lease outlives a restart that is shorter than it, and never lies about a longer one.
        let guarded = write(&*store, [Guard::modified("owner", epoch)], [("key", Some("owned"))]).await?;
        if matches!(guarded, Committed::Refused(_)) {
            timeout(SOON, lease.lost()).await.context("it was lost in silence")?;
        }

        // Emptied, it knows less than was seen.
        shared.wipe().await?;
        let refused = eventually(SOON, "it answers", async || match store.watch(done).await {
            Err(StoreError::Unavailable(why)) => bail!("{why}"),
            other => Ok(other.map(|_| ())),
        })
        .await?;
        ensure!(matches!(refused, Err(StoreError::WentBack(_))), "{refused:?}");
        Ok(())
    })
}

async fn a_read_has_all_keys_of_a_prefix_at_one_revision(store: &dyn Store) -> Result {
    // More than the 10,000 of a first page, and neighbours on both sides.
    let keys: Vec<String> = (0..20_001).map(|n| format!("a/{n:05}")).collect();
    for some in keys.chunks(100) {
        let writes = some.iter().map(|key| (key.as_str(), Some("value")));
        write(store, [], writes).await?;
    }
    put(store, "a", "no").await?;
    let last = put(store, "ab/x", "no").await?;
    let read = store.read("a/").await?;
    ensure!(read.entries.keys().eq(&keys), "{} keys", read.entries.len());
    ensure!(read.revision >= last, "{} is before {last}", read.revision);
    ensure!(store.read("").await?.entries.len() == keys.len() + 2, "the root has all");
    ensure!(store.read("none/").await?.entries.is_empty(), "nothing is there");
    // Borders may be keys, lie between keys, in no order, before everything and behind it.
    let whole = store.read("").await?;
    for borders in [&[][..], &["a/"], &["b", "a/", "", "a/00007", "a/00007", "~", "a/5x"]] {
        let borders: Vec<String> = borders.iter().map(|border| (*border).to_owned()).collect();
        ensure!(store.read_all(&borders).await? == whole, "between {borders:?}");
    }
    Ok(())
}

async fn a_transaction_has_one_revision(store: &dyn Store) -> Result {
    let before = put(store, "a", "1").await?;
    let done = write(store, [], [("a", Some("2")), ("b", Some("3"))]).await?;
    let revision = revision(done)?;
    ensure!(revision > before, "{revision} is not after {before}");
    let expected = BTreeMap::from([
        ("a".to_owned(), entry("2", before, revision)),
        ("b".to_owned(), entry("3", revision, revision)),
    ]);
    ensure!(store.read("").await?.entries == expected, "{:?}", store.read("").await?);
    // A key that went and came again is another one.
    put_or_delete(store, "a", None).await?;
    let again = put(store, "a", "4").await?;
    ensure!(store.read("a").await?.entries["a"] == entry("4", again, again), "it is new");
    Ok(())
}

async fn guards_hold_or_nothing_is_done(store: &dyn Store) -> Result {
    let created = put(store, "key", "1").await?;
    let modified = put(store, "key", "2").await?;
    let key = || entry("2", created, modified);
    for (guards, holds) in [
        (vec![], true),
        (vec![Guard::holds("key", "2")], true),
        (vec![Guard::holds("key", "1")], false),
        (vec![Guard::holds("key", "")], false),
        (vec![Guard::modified("key", modified)], true),
        (vec![Guard::modified("key", created)], false),
        (vec![Guard::absent("key")], false),
        (vec![Guard::absent("none")], true),
        (vec![Guard::holds("none", "")], false),
        (vec![Guard::holds("key", "2"), Guard::absent("none")], true),
        (vec![Guard::absent("none"), Guard::absent("key")], false),
    ] {
        let expected: BTreeMap<String, Option<Entry>> =
            guards.iter().map(|guard| (guard.key.clone(), (guard.key == "key").then(key))).collect();
        let outcome = write(store, guards.clone(), [("other", Some("x"))]).await?;
        let done = matches!(outcome, Committed::Done(_));
        ensure!(done == holds, "{guards:?}: {outcome:?}");
        ensure!(store.read("other").await?.entries.contains_key("other") == holds, "{guards:?}");
        if let Committed::Refused(found) = outcome {
            ensure!(found == expected, "{guards:?}: {found:?}");
        }
        put_or_delete(store, "other", None).await?;
    }
    Ok(())
}

async fn deleting_what_is_not_there_changes_nothing(store: &dyn Store) -> Result {
    let before = put(store, "key", "1").await?;
    let mut watch = store.watch(before + 1).await?;
    put_or_delete(store, "none", None).await?;
    write(store, [], [("none", None), ("key", Some("2"))]).await?;
    let changes = watch.next().await?.changes;
    ensure!(changes.len() == 1 && changes[0].0 == "key", "{changes:?}");
    Ok(())
}

async fn a_watch_has_every_change_once_and_in_order(store: &dyn Store) -> Result {
    let first = put(store, "key", "0").await?;
    for n in 1..50 {
        put(store, "key", &n.to_string()).await?;
    }
    let mut watch = store.watch(first).await?;
    for n in 50..99 {
        put(store, "key", &n.to_string()).await?;
    }
    let last = put_or_delete(store, "key", None).await?;
    let changes = changes_until(&mut *watch, last).await?;
    let seen = changes.iter().map(|(_, entry)| entry.as_ref().map(value));
    let expected = (0..99).map(|n| Some(n.to_string())).chain([None]);
    ensure!(seen.eq(expected), "{changes:?}");
    let revisions: Vec<u64> = changes.iter().flat_map(|(_, entry)| entry).map(|e| e.modified).collect();
    ensure!(revisions[0] == first && revisions.is_sorted(), "{revisions:?}");

    // From the middle, the revision itself included.
    let mut watch = store.watch(revisions[40]).await?;
    let changes = changes_until(&mut *watch, last).await?;
    ensure!(changes.len() == 60, "{} changes", changes.len());
    Ok(())
}

async fn a_watch_does_not_tear_transactions(store: &dyn Store) -> Result {
    let first = put(store, "first", "").await?;
    let mut watch = store.watch(first + 1).await?;
    let mut last = first;
    for n in 0..20 {
        let keys: Vec<String> = (0..100).map(|key| format!("{key}")).collect();
        let text = format!("{n}").repeat(1000);
        last = revision(write(store, [], keys.iter().map(|key| (key.as_str(), Some(text.as_str())))).await?)?;
    }
    loop {
        let batch = watch.next().await?;
        ensure!(batch.changes.len().is_multiple_of(100), "{} changes", batch.changes.len());
        if batch.revision == last {
            return Ok(());
        }
    }
}

async fn a_watch_that_is_left_waiting_loses_nothing(store: &dyn Store) -> Result {
    let first = put(store, "key", "").await?;
    let mut watch = store.watch(first + 1).await?;
    let mut seen = Vec::new();
    let mut last = first;
    for n in 0..50 {
        // Dropped wherever it happens to wait.
        if let Some(batch) = watch.next().now_or_never() {
            seen.extend(batch?.changes);
        }
        last = put(store, "key", &n.to_string()).await?;
    }
    if seen.last().is_none_or(|(_, entry)| entry.as_ref().is_none_or(|entry| entry.modified < last)) {
        seen.extend(changes_until(&mut *watch, last).await?);
    }
    ensure!(seen.len() == 50, "{} changes", seen.len());
    Ok(())
}

async fn a_watch_from_the_future_is_refused(store: &dyn Store) -> Result {
    let last = put(store, "key", "").await?;
    store.watch(last + 1).await?;
    // Far enough that others, who use the same store, do not reach it.
    let refused = store.watch(last + 1_000_000).await.map(|_| ());
    ensure!(matches!(refused, Err(StoreError::WentBack(_))), "{refused:?}");
    Ok(())
}

async fn keys_go_with_their_lease(store: &dyn Store) -> Result {
    let lease = store.lease().await?;
    put(store, "other", "stays").await?;
    let bound = own(store, "owner", "me", &*lease).await?;
    own(store, "other", "goes", &*lease).await?;
    // A key that is put without the lease is free of it.
    put(store, "other", "stays").await?;
    let entries = store.read("owner").await?.entries;
    ensure!(entries["owner"] == entry("me", bound, bound), "{entries:?}");
    let mut watch = store.watch(bound + 1).await?;
    let id = lease.id();
    lease.revoke().await;
    while !watch.next().await?.changes.contains(&("owner".to_owned(), None)) {}
    let left = store.read("").await?.entries;
    ensure!(left.keys().eq(["other"]), "{left:?}");
    let late = Txn { leased: vec![("owner".to_owned(), vec![], id)], ..Txn::default() };
    let refused = store.commit(&late).await;
    ensure!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    Ok(())
}

async fn a_lease_that_is_kept_outlives_one_that_is_not(store: &dyn Store) -> Result {
    let mut kept = store.lease().await?;
    own(store, "kept", "me", &*kept).await?;
    // It is dropped as by a process that dies: nobody renews it.
    let lost = store.lease().await?;
    let bound = own(store, "lost", "me", &*lost).await?;
    drop(lost);
    let gone = async {
        let mut watch = store.watch(bound + 1).await?;
        while !watch.next().await?.changes.contains(&("lost".to_owned(), None)) {}
        Result::Ok(())
    };
    tokio::select! {
        why = kept.lost() => bail!("{why}"),
        gone = gone => gone,
    }?;
    let left = store.read("").await?.entries;
    ensure!(left.keys().eq(["kept"]), "{left:?}");
    Ok(())
}

async fn a_leased_key_changes_hands_in_one_transaction(store: &dyn Store) -> Result {
    let (first, second) = (store.lease().await?, store.lease().await?);
    let epoch = own(store, "owner", "first", &*first).await?;
    fenced(store, epoch, true).await?;
    let handed = Txn {
        guards: vec![Guard::modified("owner", epoch)],
        leased: vec![("owner".to_owned(), b"second".to_vec(), second.id())],
        ..Txn::default()
    };
    let next = revision(store.commit(&handed).await?)?;
    fenced(store, epoch, false).await?;
    fenced(store, next, true).await?;
    // Giving up what it has not takes nothing from its successor.
    first.revoke().await;
    fenced(store, next, true).await?;
    second.revoke().await;
    fenced(store, next, false).await
}

async fn history_that_is_compacted_is_an_error(store: &dyn Store) -> Result {
    let last = store.read("").await?.revision;
    let outcome = match store.watch(2).await {
        Ok(mut watch) => watch.next().await.map(|_| ()),
        Err(error) => Err(error),
    };
    ensure!(matches!(outcome, Err(StoreError::Compacted(_))), "{outcome:?}");
    // What is read now can be watched from there.
    let mut watch = store.watch(last + 1).await?;
    let done = put(store, "key", "after").await?;
    ensure!(watch.next().await?.revision == done, "nothing came between");
    Ok(())
}

/// Binds a key to a lease; the revision.
pub(crate) async fn own(store: &dyn Store, key: &str, value: &str, lease: &dyn Lease) -> Result<u64> {
    let leased = vec![(key.to_owned(), value.as_bytes().to_vec(), lease.id())];
    revision(store.commit(&Txn { leased, ..Txn::default() }).await?)
}

/// Whether the fence of an owner lets a write through.
async fn fenced(store: &dyn Store, epoch: u64, expected: bool) -> Result {
    let guard = Guard::modified("owner", epoch);
    let outcome = write(store, [guard], [("guarded", Some("x"))]).await?;
    ensure!(matches!(outcome, Committed::Done(_)) == expected, "{outcome:?}");
    Ok(())
}

async fn etcd(endpoint: &str, name: &str) -> Result<Arc<dyn Store>> {
    let settings = Settings {
        endpoints: vec![endpoint.to_owned()],
        root: format!("/battery/{name}"),
        lease_seconds: LEASE_SECONDS,
        tls: None,
        user: None,
    };
    Ok(Arc::new(Etcd::connect(&settings).await?))
}

pub(crate) async fn write<'a>(
    store: &dyn Store,
    guards: impl IntoIterator<Item = Guard>,
    writes: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<Committed> {
    let bytes = |(key, value): (&str, Option<&str>)| (key.to_owned(), value.map(|v| v.as_bytes().to_vec()));
    let txn =
        Txn { guards: guards.into_iter().collect(), writes: writes.into_iter().map(bytes).collect(), ..Txn::default() };
    Ok(store.commit(&txn).await?)
}

pub(crate) async fn put(store: &dyn Store, key: &str, value: &str) -> Result<u64> {
    put_or_delete(store, key, Some(value)).await
}

async fn put_or_delete(store: &dyn Store, key: &str, value: Option<&str>) -> Result<u64> {
    revision(write(store, [], [(key, value)]).await?)
}

pub(crate) fn revision(outcome: Committed) -> Result<u64> {
    match outcome {
        Committed::Done(revision) => Ok(revision),
        Committed::Refused(found) => bail!("refused: {found:?}"),
    }
}

fn entry(value: &str, created: u64, modified: u64) -> Entry {
    Entry { value: value.as_bytes().to_vec(), created, modified }
}

fn value(entry: &Entry) -> String {
    String::from_utf8_lossy(&entry.value).into_owned()
}

/// The changes of a watch up to this revision.
pub(crate) async fn changes_until(watch: &mut dyn Watch, revision: u64) -> Result<Vec<(String, Option<Entry>)>> {
    let mut changes = Vec::new();
    loop {
        let batch = watch.next().await?;
        changes.extend(batch.changes);
        if batch.revision >= revision {
            return Ok(changes);
        }
    }
}
