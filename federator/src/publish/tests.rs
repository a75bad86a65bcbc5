//! The stage over the embedded store, with time paused: who publishes when, and what becomes of it under faults.

use super::*;
use crate::{
    membership::removal::{How, readmit, remove},
    store::{Committed, Entry, Guard, Txn, embedded::Embedded},
    testing::{Fault, Faulty, id, key, meta, observed, plain},
};
use model::{cluster::Synced, export::Export};
use std::{collections::BTreeMap, time::Duration};
use tokio::{task::JoinSet, time::timeout};

/// Paused time jumps there when nothing moves any more.
const NEVER: Duration = Duration::from_secs(3600);

/// A publisher at work.
struct Publisher {
    observed: watch::Sender<Observed>,
    status: watch::Receiver<Status>,
    shutdown: CancellationToken,
    task: JoinSet<Result<(), PublishError>>,
}

fn config(agent: &str) -> Config {
    Config {
        cluster: id("east"),
        agent: agent.to_owned(),
        zone: "global".into(),
        vips: VipRanges::new("240.64.0.0/12".parse().expect("a net"), "fd66::/64".parse().expect("a net"))
            .expect("good ranges"),
    }
}

impl Publisher {
    fn start(agent: &str, store: impl Store + 'static, observed: Observed) -> Self {
        let (observed, seen) = watch::channel(observed);
        let (said, status) = watch::channel(Status::default());
        let shutdown = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(run(config(agent), Arc::new(store), seen, said, shutdown.clone()));
        Self { observed, status, shutdown, task }
    }

    fn set(&self, service: &str, export: Arc<Export>) {
        self.observed.send_modify(|seen| {
            seen.exports.set(key(service), Some(export));
        });
    }

    async fn says(&mut self, what: impl FnMut(&Status) -> bool) -> Status {
        let said = timeout(NEVER, self.status.wait_for(what)).await;
        said.expect("it says so").expect("it runs").clone()
    }

    async fn ended(&mut self) -> Result<(), PublishError> {
        let ended = timeout(NEVER, self.task.join_next()).await;
        ended.expect("it ends").expect("one task").expect("no panic")
    }
}

/// Waits until the store's contents are so.
async fn until(store: &Embedded, what: impl Fn(&BTreeMap<String, Entry>) -> bool) {
    let wait = async {
        loop {
            let seen = store.read("").await.expect("it is there");
            if what(&seen.entries) {
                return;
            }
            let mut watch = store.watch(seen.revision + 1).await.expect("it is there");
            watch.next().await.expect("a change");
        }
    };
    timeout(NEVER, wait).await.expect("the store comes to hold it");
}

/// Waits until the store holds the observation, and says so in its marker.
async fn holds(store: &Embedded, observed: &watch::Sender<Observed>) {
    let seen = observed.borrow().clone();
    until(store, |entries| {
        let records = entries.keys().filter(|key| key.starts_with("records/east/"));
        let all = seen.exports.iter().all(|(service, export)| {
            let head = format!("records/east/{service}/head");
            let slice = format!("records/east/{service}/slices/s0");
            entries.get(&head).map(|entry| &entry.value) == Some(&export.head.encode())
                && entries.get(&slice).map(|entry| &entry.value) == Some(&export.slices["s0"].encode())
        });
        all && records.count() == 2 * seen.exports.len() && marker(entries).is_complete()
    })
    .await;
}

fn marker(entries: &BTreeMap<String, Entry>) -> Synced {
    let entry = entries.get("clusters/east/synced");
    entry.map_or_else(Synced::default, |entry| Synced::decode(&entry.value).expect("a marker"))
}

async fn transactions(store: &Embedded) -> u64 {
    marker(&store.read("").await.expect("it is there").entries).sequence
}

async fn depose(store: &Embedded) {
    let txn = Txn { guards: vec![], writes: vec![("clusters/east/owner".to_owned(), None)], ..Txn::default() };
    store.commit(&txn).await.expect("it is there");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_before_everything_was_seen() {
    let store = Embedded::new();
    let partial = Observed { synced: false, ..observed([("demo/web", plain("10.0.0.1"))]) };
    let mut publisher = Publisher::start("east-1", store.clone(), partial);
    publisher.observed.send_modify(|seen| seen.source_version = "2".into());
    tokio::task::yield_now().await;
    assert_eq!(store.read("").await.expect("it is there").revision, 0);
    publisher.observed.send_modify(|seen| seen.synced = true);
    holds(&store, &publisher.observed).await;
    publisher.says(|status| status.owner).await;
}

#[tokio::test(start_paused = true)]
async fn changes_follow_and_the_cluster_is_given_up_at_the_end() {
    let store = Embedded::new();
    let mut publisher = Publisher::start("east-1", store.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    holds(&store, &publisher.observed).await;
    publisher.set("demo/web", plain("10.0.0.2"));
    publisher.set("demo/api", plain("10.0.0.3"));
    holds(&store, &publisher.observed).await;
    publisher.observed.send_modify(|seen| {
        seen.exports.set(key("demo/web"), None);
    });
    holds(&store, &publisher.observed).await;
    publisher.shutdown.cancel();
    assert_eq!(publisher.ended().await, Ok(()));
    let entries = store.read("").await.expect("it is there").entries;
    assert!(!entries.contains_key("clusters/east/owner"));
    assert!(entries.contains_key("records/east/demo/api/head"), "records outlive their owner");
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_the_store_is_away_coalesces() {
    let store = Embedded::new();
    let faulty = Faulty::new(&store);
    let publisher = Publisher::start("east-1", faulty.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    holds(&store, &publisher.observed).await;
    let before = transactions(&store).await;
    faulty.set(None);
    for n in 0..200 {
        publisher.set("demo/web", plain(&format!("10.0.1.{n}")));
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    faulty.set(Some(&store));
    holds(&store, &publisher.observed).await;
    // The one in flight when the store went, and one for all the rest.
    assert!(transactions(&store).await - before <= 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_does_not_do_anything_twice() {
    let store = Embedded::new();
    let faulty = Faulty::new(&store);
    faulty.fail([Fault::LostAnswer, Fault::LostRequest, Fault::LostRequest]);
    let mut publisher = Publisher::start("east-1", faulty.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    holds(&store, &publisher.observed).await;
    publisher.says(|status| status.owner).await;
    assert_eq!(transactions(&store).await, 1);
    faulty.fail([Fault::LostRequest, Fault::LostAnswer]);
    publisher.set("demo/web", plain("10.0.0.2"));
    holds(&store, &publisher.observed).await;
    publisher.set("demo/web", plain("10.0.0.3"));
    holds(&store, &publisher.observed).await;
    assert_eq!(transactions(&store).await, 3);
    assert!(publisher.status.borrow().owner, "it stayed the owner");
}

#[tokio::test(start_paused = true)]
async fn a_second_publisher_stands_by_and_takes_over() {
    let store = Embedded::new();
    let mut first = Publisher::start("east-1", store.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    first.says(|status| status.owner).await;
    let mut second = Publisher::start("east-2", store.clone(), observed([("demo/web", plain("10.0.0.2"))]));
    let status = second.says(|status| status.standing_by_for.is_some()).await;
    assert_eq!(status.standing_by_for.as_deref(), Some("east-1"));
    holds(&store, &first.observed).await;
    first.shutdown.cancel();
    assert_eq!(first.ended().await, Ok(()));
    second.says(|status| status.owner).await;
    holds(&store, &second.observed).await;
}

#[tokio::test(start_paused = true)]
async fn another_cluster_of_the_same_id_is_refused() {
    let store = Embedded::new();
    let theirs = || Observed { meta: meta("another", "n1"), ..observed([("demo/web", plain("10.0.0.2"))]) };
    let refused = Err(PublishError::IdTaken { id: id("east"), pinned: "uid".to_owned(), ours: "another".to_owned() });
    let mut first = Publisher::start("east-1", store.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    // It looks before anything is pinned, and again when its turn has come.
    let mut early = Publisher::start("east-2", store.clone(), theirs());
    holds(&store, &first.observed).await;
    let mut late = Publisher::start("east-3", store.clone(), theirs());
    assert_eq!(late.ended().await, refused);
    first.shutdown.cancel();
    assert_eq!(first.ended().await, Ok(()));
    assert_eq!(early.ended().await, refused);
    holds(&store, &first.observed).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lost_its_key_cannot_write_and_runs_again() {
    {
        let store = Embedded::new();
        let mut publisher = Publisher::start("east-1", store.clone(), observed([("demo/web", plain("10.0.0.1"))]));
        holds(&store, &publisher.observed).await;
        publisher.says(|status| status.owner).await;
        depose(&store).await;
        let guards = vec![Guard::absent("clusters/east/owner")];
        let writes = vec![("clusters/east/owner".to_owned(), Some(vec![]))];
        let taken = store.commit(&Txn { guards, writes, ..Txn::default() }).await;
        assert!(matches!(taken, Ok(Committed::Done(_))), "{taken:?}");
        let before = transactions(&store).await;
        publisher.set("demo/web", plain("10.0.0.2"));
        publisher.says(|status| !status.owner && status.trouble.is_some()).await;
        assert_eq!(transactions(&store).await, before);
        depose(&store).await;
        publisher.says(|status| status.owner).await;
        holds(&store, &publisher.observed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_not_there_is_waited_for() {
    let store = Embedded::new();
    let faulty = Faulty::new(&store);
    faulty.set(None);
    let mut publisher = Publisher::start("east-1", faulty.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    publisher.says(|status| status.trouble.is_some()).await;
    tokio::time::advance(NEVER).await;
    faulty.set(Some(&store));
    publisher.says(|status| status.owner && status.trouble.is_none()).await;
    holds(&store, &publisher.observed).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_cluster_writes_nothing_until_it_is_readmitted() {
    let store = Embedded::new();
    let mut publisher = Publisher::start("east-1", store.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    holds(&store, &publisher.observed).await;
    remove(&store, &id("east"), How::default()).await.expect("it does");
    // It has nothing to write, and hears of it all the same.
    let removed = |status: &Status| status.conditions.get(Reason::Removed).is_some();
    let observed = publisher.observed.clone();
    let observing = async {
        loop {
            sleep(LOOK / 2).await;
            // Nothing in it is new.
            observed.send_modify(|_| ());
        }
    };
    let status = tokio::select! {
        status = publisher.says(removed) => status,
        () = observing => unreachable!("it never ends"),
    };
    assert!(!status.owner && status.trouble.is_some_and(|trouble| trouble.contains("cluster readmit east")));
    publisher.set("demo/web", plain("10.0.0.2"));
    sleep(NEVER).await;
    let entries = store.read("").await.expect("it is there").entries;
    assert!(!entries.keys().any(|key| key.contains("/east/")), "{:?}", entries.keys());
    assert_eq!(publisher.task.len(), 1, "it waits");
    // Another cluster may have the id now: the uid it was pinned to is forgotten.
    readmit(&store, &id("east"), How::default()).await.expect("it does");
    publisher.observed.send_modify(|seen| seen.meta = meta("another", "n1"));
    publisher.says(|status| status.owner && status.conditions.is_empty()).await;
    holds(&store, &publisher.observed).await;
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_slept_over_a_removal_cannot_write_one_key() {
    for readmitted in [false, true] {
        let store = Embedded::new();
        let config = config("east-1");
        let now = observed([("demo/web", plain("10.0.0.1")), ("demo/api", plain("10.0.0.2"))]);
        let mut lease = store.lease().await.expect("there is one");
        let leased = vec![("clusters/east/owner".to_owned(), vec![], lease.id())];
        let owned = store.commit(&Txn { leased, ..Txn::default() }).await;
        let Ok(Committed::Done(epoch)) = owned else { panic!("{owned:?}") };
        let mut ledger = Ledger::read(&store, &config.cluster, epoch).await.expect("it is there");
        let todo = now.exports.iter().map(|(key, _)| key.clone()).collect();
        let batch = plan::batch(&config, &ledger, &now, &todo).expect("something to write");
        // It reads, it plans, it sleeps; and the lease outlives it all.
        remove(&store, &id("east"), How { force: true, ..How::default() }).await.expect("it does");
        if readmitted {
            readmit(&store, &id("east"), How::default()).await.expect("it does");
        }
        let before = store.read("").await.expect("it is there");
        let status = watch::Sender::new(Status::default());
        let ended = commit(&config, &store, &mut ledger, batch, &status).await;
        assert!(matches!(ended, Err(Ended::Buried)));
        assert_eq!(store.read("").await.expect("it is there"), before);
        let lost = timeout(Duration::from_secs(1), lease.lost()).await;
        assert!(lost.is_err(), "it is still the owner");
    }
}
