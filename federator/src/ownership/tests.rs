//! Gathering, owning and publishing together over the embedded store, with time paused: who publishes when, and what
//! becomes of it under faults.

use super::*;
use crate::{
    gather::{self, OwnCluster, OwnClusters},
    membership::{
        removal::{How, readmit, remove},
        withdrawal::{self, accept},
    },
    publish::{
        brake::Held,
        ledger::{Ledger, Surprise},
        plan,
    },
    store::{Entry, embedded::Embedded},
    testing::{Fault, Faulty, gathering, id, key, meta, observed, plain},
};
use model::{
    cluster::{Hold, Synced},
    export::{Export, Health, Slice},
    generation::Generation,
    vip::VipRanges,
};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};
use tokio::{task::JoinSet, time::timeout};

/// Paused time jumps there when nothing moves any more.
const NEVER: Duration = Duration::from_secs(3600);

/// A publisher at work.
struct Publisher {
    observed: watch::Sender<Observed>,
    status: watch::Receiver<Status>,
    look: watch::Sender<bool>,
    doubts: watch::Sender<Arc<BTreeSet<ObjectName>>>,
    shutdown: CancellationToken,
    task: JoinSet<Result<(), PublishError>>,
    _own: watch::Sender<OwnClusters>,
    /// What it needs beside.
    gathers: JoinSet<()>,
}

const TIMING: Timing = Timing {
    deputy_after: Duration::from_secs(30),
    resign_after: Duration::from_secs(60),
    hand_back_after: Duration::from_secs(120),
};

const HOLD: Duration = Duration::from_secs(600);

/// How long a service that is gone keeps its addresses.
const REST: Duration = Duration::from_secs(1200);

fn config(agent: &str) -> Config {
    Config {
        agent: agent.to_owned(),
        role: Role::Home,
        timing: TIMING,
        publish: publish::Config {
            cluster: id("east"),
            zone: "global".into(),
            vips: VipRanges::new("240.64.0.0/12".parse().expect("a net"), "fd66::/64".parse().expect("a net"))
                .expect("good ranges"),
            clock: || SystemTime::UNIX_EPOCH,
            hold: HOLD,
            rest: REST,
            seeds: watch::Sender::default().subscribe(),
            is_memory: false,
        },
    }
}

impl Publisher {
    fn start(agent: &str, store: impl Store + 'static, observed: Observed) -> Self {
        Self::of(config(agent), store, observed)
    }

    fn of(config: Config, store: impl Store + 'static, observed: Observed) -> Self {
        let store: Arc<dyn Store> = Arc::new(store);
        let (observed, seen) = watch::channel(observed);
        let (said, status) = watch::channel(Status::default());
        let (gathered, heard) = watch::channel(Gathered::default());
        let own = OwnCluster { observed: seen.clone(), published: status.clone(), awaited: true };
        let clusters = BTreeMap::from([(config.publish.cluster.clone(), own)]);
        let (own, owned) = watch::channel(OwnClusters { complete: true, clusters });
        let look = watch::Sender::new(false);
        let doubts = watch::Sender::new(Arc::default());
        let channels =
            Channels { observed: seen, gathered: heard, look: look.clone(), doubts: doubts.clone(), status: said };
        let shutdown = CancellationToken::new();
        let (mut task, mut gathers) = (JoinSet::new(), JoinSet::new());
        gathers.spawn(gather::run(gathering(), store.clone(), gather::Begin::default(), owned, gathered));
        task.spawn(run(config, store, channels, shutdown.clone()));
        Self { observed, status, look, doubts, shutdown, task, _own: own, gathers }
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
                && entries.get(&slice).map(|entry| &entry.value)
                    == export.slices.get("s0").map(|slice| slice.encode()).as_ref()
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
    let entries = store.read("").await.expect("it is there").entries;
    assert!(!entries.keys().any(|key| key.contains("/east/")), "{:?}", entries.keys());
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
        publisher.says(|status| !status.owner && status.standing_by_for.is_some()).await;
        assert_eq!(transactions(&store).await, before);
        depose(&store).await;
        publisher.says(|status| status.owner).await;
        holds(&store, &publisher.observed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_key_is_in_the_backup_writes_its_marker_anew() {
    let store = Embedded::new();
    let publisher = Publisher::start("east-1", store.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    holds(&store, &publisher.observed).await;
    // What a rolled back store looks like in its next life: the owner stands there, with a marker of its own epoch.
    let next = Generation { id: "next".into(), base: 1000, settled: false, ..Generation::default() };
    let writes = vec![("generation".to_owned(), Some(next.encode()))];
    store.commit(&Txn { writes, ..Txn::default() }).await.expect("it is there");
    until(&store, |entries| *marker(entries).generation == *"next").await;
    publisher.set("demo/web", plain("10.0.0.2"));
    holds(&store, &publisher.observed).await;
}

#[tokio::test(start_paused = true)]
async fn in_an_emptied_store_a_cluster_is_taken_once() {
    let (store, emptied) = (Embedded::new(), Embedded::new());
    // So that the epoch is one that the emptied store does not come to.
    for _ in 0..100 {
        depose(&store).await;
    }
    let faulty = Faulty::new(&store);
    let mut publisher = Publisher::start("east-1", faulty.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    holds(&store, &publisher.observed).await;
    // It has lost the cluster once, at such an epoch.
    publisher.says(|status| status.owner).await;
    depose(&store).await;
    publisher.set("demo/web", plain("10.0.0.2"));
    publisher.says(|status| !status.owner).await;
    holds(&store, &publisher.observed).await;
    faulty.set(Some(&emptied));
    holds(&emptied, &publisher.observed).await;

    sleep(NEVER).await;
    let last = emptied.read("").await.expect("it is there").revision;
    let mut watch = emptied.watch(1).await.expect("it is there");
    let (mut seen, mut taken) = (0, 0);
    while seen < last {
        let batch = watch.next().await.expect("a change");
        seen = batch.revision;
        let owner = |(key, entry): &&(String, Option<Entry>)| key == "clusters/east/owner" && entry.is_some();
        taken += batch.changes.iter().filter(owner).count();
    }
    assert_eq!(taken, 1);
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
    let status = publisher.says(|status| status.conditions.get(Reason::Removed).is_some()).await;
    assert!(!status.owner);
    assert!(status.conditions.get(Reason::Removed).is_some_and(|why| why.contains("cluster readmit east")));
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
        let config = config("east-1").publish;
        let now = observed([("demo/web", plain("10.0.0.1")), ("demo/api", plain("10.0.0.2"))]);
        let life = Generation { id: "life".into(), base: 0, settled: true, ..Generation::default() };
        let writes =
            vec![("generation".to_owned(), Some(life.encode())), ("clusters/east/owner".to_owned(), Some(vec![]))];
        let owned = store.commit(&Txn { writes, ..Txn::default() }).await;
        let Ok(Committed::Done(epoch)) = owned else { panic!("{owned:?}") };
        let (mut ledger, _) = Ledger::read(&store, &config.cluster, epoch).await.expect("it is there");
        let todo = now.exports.iter().map(|(key, _)| key.clone()).collect();
        let batch =
            plan::batch(&config, &ledger, &now, &Held::default(), &todo, &BTreeSet::new()).expect("something to write");
        // It reads, it plans, it sleeps; and it is the owner all the time.
        remove(&store, &id("east"), How { force: true, ..How::default() }).await.expect("it does");
        if readmitted {
            readmit(&store, &id("east"), How::default()).await.expect("it does");
        }
        let before = store.read("").await.expect("it is there");
        let Ok(Committed::Refused(found)) = store.commit(&batch.txn).await else { panic!("it wrote") };
        assert_eq!(ledger.learn(&batch, &found), Surprise::Buried);
        assert_eq!(store.read("").await.expect("it is there"), before);
    }
}

/// A deputy of the cluster, which sees what it is told to once it looks.
fn deputy(agent: &str, store: &Embedded, seen: Observed) -> Publisher {
    let config = Config { role: Role::Deputy, ..config(agent) };
    let mut deputy = Publisher::of(config, store.clone(), Observed::default());
    let (mut look, observed) = (deputy.look.subscribe(), deputy.observed.clone());
    deputy.gathers.spawn(async move {
        while look.wait_for(|look| *look).await.is_ok() {
            observed.send_replace(seen.clone());
            let _ = look.wait_for(|look| !look).await;
            observed.send_replace(Observed::default());
        }
    });
    deputy
}

/// Who owned the cluster, at every change of the owner key; `-` is nobody.
async fn owners(store: &Embedded) -> impl AsyncFnMut() -> String {
    let mut watch = store.watch(store.read("").await.expect("it is there").revision + 1).await.expect("it is there");
    async move || loop {
        let batch = timeout(NEVER, watch.next()).await.expect("somebody else owns it").expect("it is there");
        if let Some((_, entry)) = batch.changes.iter().find(|(key, _)| key == "clusters/east/owner") {
            let owner = entry.as_ref().map(|entry| Owner::decode(&entry.value).expect("an owner"));
            return owner.map_or_else(|| "-".to_owned(), |owner| format!("{} {}", owner.agent, owner.flaps));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deputy_steps_in_and_hands_back_without_a_moment_between() {
    let store = Embedded::new();
    let seen = || observed([("demo/web", plain("10.0.0.1"))]);
    let mut home = Publisher::start("home", store.clone(), seen());
    holds(&store, &home.observed).await;
    let mut next = owners(&store).await;
    let mut deputy = deputy("deputy", &store, seen());
    home.shutdown.cancel();
    assert_eq!(home.ended().await, Ok(()));
    assert_eq!(next().await, "-");
    assert_eq!(next().await, "deputy 0");
    deputy.says(|status| status.settled.is_some()).await;

    // It comes back, is lost again soon, and is waited for longer.
    let mut home = Publisher::start("home", store.clone(), seen());
    assert_eq!(next().await, "home 1");
    assert!(!*deputy.look.borrow() || deputy.says(|status| !status.owner).await.standing_by_for.is_some());
    home.shutdown.cancel();
    assert_eq!(home.ended().await, Ok(()));
    assert_eq!(next().await, "-");
    assert_eq!(next().await, "deputy 1");
    let before = Instant::now();
    let mut home = Publisher::start("home", store.clone(), seen());
    assert_eq!(next().await, "home 2");
    assert!(before.elapsed() >= TIMING.hand_back_after * 2, "{:?}", before.elapsed());
    home.says(|status| status.settled.is_some()).await;
    holds(&store, &home.observed).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lost_sight_gives_the_cluster_to_a_deputy_that_sees() {
    let store = Embedded::new();
    let mut home = Publisher::start("home", store.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    holds(&store, &home.observed).await;
    let deputy = deputy("deputy", &store, observed([("demo/web", plain("10.0.0.2"))]));
    let mut next = owners(&store).await;
    home.observed.send_modify(|seen| {
        seen.frozen_since = Some(Instant::now());
        seen.conditions.set(Reason::Unreachable, Some("no route".to_owned()));
    });
    assert_eq!(next().await, "deputy 0");
    home.says(|status| status.standing_by_for.as_deref() == Some("deputy")).await;
    holds(&store, &deputy.observed).await;
    let entries = store.read("").await.expect("it is there").entries;
    let state = model::cluster::State::decode(&entries["clusters/east/state"].value).expect("a state");
    assert!(!state.frozen, "{state:?}");
    // And gets it back when it sees again.
    home.observed.send_modify(|seen| (seen.frozen_since, seen.conditions) = (None, Conditions::default()));
    assert_eq!(next().await, "home 1");
}

#[tokio::test(start_paused = true)]
async fn who_sees_less_than_was_there_takes_nothing() {
    let store = Embedded::new();
    let at = |version: &str, address| Observed {
        source_version: version.into(),
        ..observed([("demo/web", plain(address))])
    };
    let mut first = Publisher::start("first", store.clone(), at("100", "10.0.0.1"));
    holds(&store, &first.observed).await;
    first.shutdown.cancel();
    assert_eq!(first.ended().await, Ok(()));
    let mut second = Publisher::start("second", store.clone(), at("99", "10.0.0.2"));
    second.says(|status| status.conditions.get(Reason::Behind).is_some()).await;
    sleep(NEVER).await;
    assert!(!second.status.borrow().owner);
    holds(&store, &first.observed).await;
    second.observed.send_modify(|seen| seen.source_version = "100".into());
    second.says(|status| status.owner && status.conditions.is_empty()).await;
    holds(&store, &second.observed).await;
}

/// It may have said that it could own it when that was true.
#[tokio::test(start_paused = true)]
async fn who_is_handed_a_cluster_and_sees_less_than_was_there_gives_it_up() {
    let store = Embedded::new();
    let at = |version: &str, address| Observed {
        source_version: version.into(),
        ..observed([("demo/web", plain(address))])
    };
    let deputy = deputy("deputy", &store, at("100", "10.0.0.1"));
    let candidate = "clusters/east/candidates/home";
    until(&store, |entries| entries.contains_key("clusters/east/synced")).await;
    let home = Publisher::start("home", store.clone(), at("99", "10.0.0.2"));
    until(&store, |entries| entries.contains_key(candidate)).await;
    let stands = store.read(candidate).await.expect("it is there").entries.remove(candidate);
    let Candidate { lease, qualified, role } = Candidate::decode(&stands.expect("it is there").value).expect("one");
    assert!(!qualified);
    let owner = Owner { agent: "home".to_owned(), role, lease, ..Owner::default() };
    let leased = vec![("clusters/east/owner".to_owned(), owner.encode(), LeaseId(lease))];
    let mut next = owners(&store).await;
    store.commit(&Txn { leased, ..Txn::default() }).await.expect("it is there");
    assert_eq!((next().await, next().await, next().await), ("home 0".into(), "-".into(), "deputy 0".into()));
    holds(&store, &deputy.observed).await;
    drop(home);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_nobody_speaks_for_is_written_again_by_whoever_holds_it() {
    let store = Embedded::new();
    let faulty = Faulty::new(&store);
    let mut first = Publisher::start("east", store.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    holds(&store, &first.observed).await;
    let marked = marker(&store.read("").await.expect("it is there").entries);

    // Another agent has gathered it all. The cluster's own is gone, and then the store is.
    let (gathered, mut heard) = watch::channel(Gathered::default());
    let (_own, owned) = watch::channel(OwnClusters { complete: true, ..OwnClusters::default() });
    let shared: Arc<dyn Store> = Arc::new(faulty.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(gather::run(gathering(), shared.clone(), gather::Begin::default(), owned, gathered));
    tasks.spawn(caretaker::run(Config { role: Role::Caretaker, ..config("west") }, shared, heard.clone()));
    let known = timeout(NEVER, heard.wait_for(|now| now.view.services().len() == 1)).await;
    let known = known.expect("it hears of it").expect("it runs").view.canonical();
    first.shutdown.cancel();
    assert_eq!(first.ended().await, Ok(()));
    let emptied = Embedded::new();
    faulty.set(Some(&emptied));

    until(&emptied, |entries| marker(entries).is_complete() && !entries.contains_key("clusters/east/owner")).await;
    let entries = emptied.read("").await.expect("it is there").entries;
    assert_eq!((marker(&entries).hash, marker(&entries).source_version), (marked.hash, marked.source_version));
    let state = model::cluster::State::decode(&entries["clusters/east/state"].value).expect("a state");
    assert!(state.frozen && &*state.reason == "Unattended", "{state:?}");
    let now =
        timeout(NEVER, heard.wait_for(|now| now.aside.is_empty())).await.expect("it is vouched for").expect("it runs");
    let services = |text: &str| text.split_once("service ").map(|(_, text)| text.to_owned());
    assert_eq!(services(&now.view.canonical()), services(&known));
}

/// What `10.0.0.N` for each number is, as one service.
fn many(numbers: std::ops::Range<u8>) -> Observed {
    observed([("demo/web", plain(&numbers.map(|n| format!("10.0.0.{n} ")).collect::<String>()))])
}

/// Endpoints of the cluster in the store that are ready, and that are held.
fn health(entries: &BTreeMap<String, Entry>) -> (usize, usize) {
    let slices = entries.iter().filter(|(key, _)| key.starts_with("records/east/") && key.contains("/slices/"));
    let slices = slices.map(|(_, entry)| Slice::decode(&entry.value).expect("a slice"));
    let all: Vec<Health> = slices.flat_map(|slice| slice.endpoints).map(|endpoint| endpoint.health).collect();
    let count = |wanted: Health| all.iter().filter(|health| **health == wanted).count();
    (count(Health::Ready), count(Health::Held))
}

fn hold(entries: &BTreeMap<String, Entry>) -> Option<Hold> {
    entries.get("clusters/east/hold").map(|entry| Hold::decode(&entry.value).expect("a hold"))
}

/// An owner of sixty endpoints, which has gone.
async fn sixty() -> Embedded {
    let store = Embedded::new();
    let mut first = Publisher::start("first", store.clone(), Observed { source_version: "100".into(), ..many(0..60) });
    holds(&store, &first.observed).await;
    first.shutdown.cancel();
    assert_eq!(first.ended().await, Ok(()));
    store
}

/// An owner that sees the second half of them.
async fn half(agent: &str, store: &Embedded, version: &str, clock: fn() -> SystemTime) -> Publisher {
    let mut config = config(agent);
    config.publish.clock = clock;
    Publisher::of(config, store.clone(), Observed { source_version: version.into(), ..many(30..60) })
}

async fn is_held(store: &Embedded) -> Hold {
    until(store, |entries| health(entries) == (30, 30) && hold(entries).is_some()).await;
    hold(&store.read("").await.expect("it is there").entries).expect("it is held")
}

async fn is_withdrawn(store: &Embedded) {
    until(store, |entries| health(entries) == (30, 0) && hold(entries).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn what_goes_in_a_tenure_is_not_held() {
    let store = Embedded::new();
    let publisher = Publisher::start("east-1", store.clone(), many(0..60));
    holds(&store, &publisher.observed).await;
    publisher.set("demo/web", plain("10.0.0.1"));
    holds(&store, &publisher.observed).await;
    assert!(publisher.status.borrow().conditions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_holds_what_it_misses_until_single_questions_confirm_it() {
    let store = sixty().await;
    let mut second = half("second", &store, "100", || SystemTime::UNIX_EPOCH).await;
    assert_eq!(is_held(&store).await.endpoints, 30);
    let status = second.says(|status| status.conditions.get(Reason::WithdrawalHeld).is_some()).await;
    let why = status.conditions.get(Reason::WithdrawalHeld).expect("a condition").to_owned();
    for part in ["30 endpoints", "misses 30 of 60", "600 s", "federator cluster accept-withdrawal east"] {
        assert!(why.contains(part), "{why}");
    }
    let doubts: Vec<String> = second.doubts.borrow().iter().map(ToString::to_string).collect();
    assert_eq!(doubts, ["EndpointSlice demo/s0"]);
    second.observed.send_modify(|seen| seen.confirmed = second.doubts.borrow().clone());
    is_withdrawn(&store).await;
    second.says(|status| status.conditions.is_empty()).await;
    assert!(second.doubts.borrow().is_empty());
    assert!(second.status.borrow().owner);
}

#[tokio::test(start_paused = true)]
async fn what_is_seen_again_is_held_no_longer_and_may_go_by_itself() {
    let store = sixty().await;
    let second = half("second", &store, "100", || SystemTime::UNIX_EPOCH).await;
    is_held(&store).await;
    let addresses = |numbers: std::ops::Range<u8>| numbers.map(|n| format!("10.0.0.{n} ")).collect::<String>();
    second.set("demo/web", plain(&addresses(10..60)));
    until(&store, |entries| health(entries) == (50, 10) && hold(entries).is_some_and(|h| h.endpoints == 10)).await;
    second.set("demo/web", plain(&addresses(30..60)));
    until(&store, |entries| health(entries) == (30, 10)).await;
}

#[tokio::test(start_paused = true)]
async fn the_grace_goes_on_where_the_last_owner_left_it() {
    let store = sixty().await;
    let mut second = half("second", &store, "100", || SystemTime::UNIX_EPOCH + Duration::from_secs(1000)).await;
    let held = is_held(&store).await;
    assert_eq!((held.since, held.went_back), (1000, false));
    second.shutdown.cancel();
    assert_eq!(second.ended().await, Ok(()));
    let before = Instant::now();
    let _third = half("third", &store, "100", || SystemTime::UNIX_EPOCH + Duration::from_secs(1500)).await;
    assert_eq!(is_held(&store).await, held);
    is_withdrawn(&store).await;
    assert_eq!(before.elapsed().as_secs(), 100);
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_accept_it() {
    let store = sixty().await;
    let mut second = half("second", &store, "100", || SystemTime::UNIX_EPOCH).await;
    is_held(&store).await;
    let before = Instant::now();
    let accepted = accept(&store, &id("east"), withdrawal::How::default()).await.expect("it is held");
    assert_eq!(accepted.endpoints, 30);
    is_withdrawn(&store).await;
    second.says(|status| status.conditions.is_empty()).await;
    assert!(before.elapsed() < HOLD, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn of_a_source_that_went_back_nothing_goes_by_time() {
    let store = sixty().await;
    let mut second = half("second", &store, "50", || SystemTime::UNIX_EPOCH).await;
    second.says(|status| status.conditions.get(Reason::Behind).is_some()).await;
    let force = withdrawal::How { force: true, ..withdrawal::How::default() };
    accept(&store, &id("east"), force).await.expect("a licence");
    let held = is_held(&store).await;
    assert!(held.went_back && !held.accepted, "{held:?}");
    sleep(HOLD * 100).await;
    // The next one finds a marker that speaks of the earlier state, and knows better.
    second.shutdown.cancel();
    assert_eq!(second.ended().await, Ok(()));
    let _third = half("third", &store, "50", || SystemTime::UNIX_EPOCH + HOLD * 200).await;
    sleep(HOLD * 100).await;
    assert_eq!(is_held(&store).await, held);
    accept(&store, &id("east"), withdrawal::How::default()).await.expect("it is held");
    is_withdrawn(&store).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_gone_keeps_its_addresses_for_the_rest_and_not_for_longer() {
    let store = Embedded::new();
    let web = "vips/hosts/web.demo.global";
    let publisher = Publisher::start("east-1", store.clone(), observed([("demo/web", plain("10.0.0.1"))]));
    let goes = async || {
        publisher.observed.send_modify(|seen| _ = seen.exports.set(key("demo/web"), None));
        holds(&store, &publisher.observed).await;
    };
    let address = async || store.read(web).await.expect("it is there").entries.remove(web).map(|entry| entry.value);
    holds(&store, &publisher.observed).await;
    let had = address().await;
    goes().await;
    sleep(REST - Duration::from_secs(1)).await;
    publisher.set("demo/web", plain("10.0.0.2"));
    holds(&store, &publisher.observed).await;
    sleep(REST).await;
    assert!(had.is_some() && address().await == had, "it came back in time");

    // What cannot be known to be gone when it is due rests once more.
    goes().await;
    let gone = Instant::now();
    publisher.observed.send_modify(|seen| seen.frozen_since = Some(Instant::now()));
    sleep(REST + Duration::from_secs(1)).await;
    assert_eq!(address().await, had);
    publisher.observed.send_modify(|seen| seen.frozen_since = None);
    sleep(REST / 2).await;
    assert_eq!(address().await, had);
    until(&store, |entries| {
        let is_given_up = |key: &&String| key.starts_with("vips/") || key.starts_with("order/");
        !entries.keys().any(|key| is_given_up(&key))
    })
    .await;
    assert!(gone.elapsed() >= 2 * REST && gone.elapsed() < 3 * REST);
}
