//! The stage over a store that comes and goes, with time paused.

use super::*;
use crate::{
    config,
    observe::Observed,
    publish,
    snapshot::{self, Begun, Found, Stand, format::Identity},
    store::{Txn, embedded::Embedded},
    testing::{Faulty, as_owner, gathering, head, id, key, observed, plain, slice},
};
use model::{
    record::{Record as _, VipHost},
    vip::Vip,
};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Paused time jumps there when nothing moves any more.
const NEVER: Duration = Duration::from_secs(3600);

/// An agent that gathers.
struct Gatherer {
    own: watch::Sender<Observed>,
    gathered: watch::Receiver<Gathered>,
    task: JoinSet<()>,
}

impl Gatherer {
    fn start(store: impl Store + 'static) -> Self {
        Self::begin(store, Begin::default())
    }

    fn begin(store: impl Store + 'static, begin: Begin) -> Self {
        let (own, seen) = watch::channel(Observed::default());
        let (sender, gathered) = watch::channel(Gathered::default());
        let mut task = JoinSet::new();
        let (_, published) = watch::channel(publish::status::Status::default());
        let own_cluster = OwnCluster { observed: seen, published, awaited: true };
        let (_, clusters) =
            watch::channel(OwnClusters { complete: true, clusters: BTreeMap::from([(id("own"), own_cluster)]) });
        task.spawn(run(gathering(), Arc::new(store), begin, clusters, sender));
        Self { own, gathered, task }
    }

    async fn comes_to(&mut self, what: impl FnMut(&Gathered) -> bool) -> Gathered {
        let gathered = timeout(NEVER, self.gathered.wait_for(what)).await;
        gathered.expect("it comes to that").expect("it runs").clone()
    }

    /// Waits until it has gathered all that is in the store.
    async fn has_all_of(&mut self, store: &Embedded) -> Gathered {
        let snapshot = store.read("").await.expect("it is there");
        let revision = snapshot.revision;
        let mut fold = Fold::new(&"global".into());
        fold.replace(&snapshot);
        let gathered = self.comes_to(|gathered| gathered.view.revision() >= revision).await;
        assert_eq!(gathered.view.canonical(), fold.view().canonical());
        gathered
    }
}

/// Puts a service of cluster `east` into the store.
async fn put(store: &Embedded, service: &str, address: &str) {
    let head = (format!("records/east/{service}/head"), Some(head("http:80").encode()));
    let slice = slice("http:80", address).encode();
    let slice = (format!("records/east/{service}/slices/s0"), Some(slice));
    commit(store, vec![head, slice]).await;
}

/// Writes as the owner of `east` does.
async fn commit(store: &Embedded, writes: Vec<(String, Option<Vec<u8>>)>) {
    let txn = Txn { writes: as_owner(store, "east", 1, &writes), ..Txn::default() };
    store.commit(&txn).await.expect("it is there");
}

#[tokio::test(start_paused = true)]
async fn it_follows_the_store_over_its_absence() {
    let store = Embedded::new();
    put(&store, "demo/web", "10.0.0.1").await;
    let faulty = Faulty::new(&store);
    let mut gatherer = Gatherer::start(faulty.clone());
    gatherer.has_all_of(&store).await;
    put(&store, "demo/web", "10.0.0.2").await;
    let gathered = gatherer.has_all_of(&store).await;
    assert_eq!(gathered.store, StoreHealth::Followed);

    faulty.set(None);
    put(&store, "demo/api", "10.0.0.3").await;
    let lost = gatherer.comes_to(|gathered| matches!(gathered.store, StoreHealth::Lost(_))).await;
    assert_eq!(lost.view.canonical(), gathered.view.canonical(), "it holds what it knows");
    faulty.set(Some(&store));
    gatherer.has_all_of(&store).await;
    gatherer.comes_to(|gathered| gathered.store == StoreHealth::Followed).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_store_has_forgotten_is_read_anew() {
    let store = Embedded::new();
    put(&store, "demo/gone", "10.0.0.1").await;
    let faulty = Faulty::new(&store);
    let mut gatherer = Gatherer::start(faulty.clone());
    gatherer.has_all_of(&store).await;
    faulty.set(None);
    let gone = ["head", "slices/s0"].map(|leaf| (format!("records/east/demo/gone/{leaf}"), None));
    commit(&store, gone.into()).await;
    for n in 0..2000 {
        put(&store, "demo/web", &format!("10.0.{}.{}", n / 250, n % 250)).await;
    }
    faulty.set(Some(&store));
    let gathered = gatherer.has_all_of(&store).await;
    assert_eq!(gathered.view.services().len(), 1);
    put(&store, "demo/web", "10.1.0.1").await;
    gatherer.has_all_of(&store).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_emptied_begins_another_life_and_loses_nothing() {
    let store = Embedded::new();
    put(&store, "demo/web", "10.0.0.1").await;
    let vip = Vip { v4: [240, 64, 0, 1].into(), v6: "fd66::1".parse().expect("an address") };
    let host = || Some(VipHost("web.demo.global".to_owned()).encode());
    let addresses = ["240.64.0.1", "fd66::1"].map(|address| (format!("vips/addresses/{address}"), host()));
    let by_host = ("vips/hosts/web.demo.global".to_owned(), Some(vip.encode()));
    commit(&store, addresses.into_iter().chain([by_host]).collect()).await;
    let faulty = Faulty::new(&store);
    let mut gatherer = Gatherer::start(faulty.clone());
    gatherer.has_all_of(&store).await;
    let life = |gathered: &Gathered| gathered.generation.clone().expect("a generation").0;
    let first = gatherer.comes_to(|now| now.generation.is_some() && life(now).settled).await;

    let emptied = Embedded::new();
    faulty.set(Some(&emptied));
    let next = gatherer.comes_to(|now| now.generation.is_some() && life(now).id != life(&first).id).await;
    let contents = |gathered: &Gathered| gathered.view.canonical().split_once('\n').map(|(_, text)| text.to_owned());
    assert_eq!(contents(&next), contents(&first));
    assert!(next.complete && !life(&next).settled && next.aside.contains(&id("east")));
    // It says again what it held, by creating it; and when everybody has had the time to, the life is settled.
    let settled = gatherer.comes_to(|now| life(now).id == life(&next).id && life(now).settled).await;
    let entries = emptied.read("").await.expect("it is there").entries;
    for key in ["vips/hosts/web.demo.global", "vips/addresses/240.64.0.1", "vips/addresses/fd66::1"] {
        assert!(entries.contains_key(key), "{key}: {:?}", entries.keys());
    }
    assert!(settled.view.revision() >= first.view.revision());
    put(&emptied, "demo/web", "10.0.0.2").await;
    let vouched = gatherer.comes_to(|now| now.aside.is_empty()).await;
    assert!(vouched.view.canonical().contains("10.0.0.2") && vouched.view.canonical().contains("240.64.0.1"));
}

/// Two lives may have been begun at one revision.
#[tokio::test(start_paused = true)]
async fn a_life_is_settled_only_by_who_is_in_it() {
    let store = Embedded::new();
    let life = |id: &str, settled| Generation { id: id.into(), settled, ..Generation::default() };
    life::propose(&store, &life("a", false), None).await.expect("it is there");
    for (settled, over, expected) in [("b", "b", false), ("a", "a", true)] {
        let over = life(over, false).encode();
        life::propose(&store, &life(settled, true), Some(&over)).await.expect("it is there");
        let entries = store.read("generation").await.expect("it is there").entries;
        assert_eq!(entries["generation"].value, life("a", expected).encode());
    }
}

#[tokio::test(start_paused = true)]
async fn a_life_is_settled_though_the_watch_breaks_again_and_again() {
    let store = Embedded::new();
    put(&store, "demo/web", "10.0.0.1").await;
    let faulty = Faulty::new(&store);
    let mut gatherer = Gatherer::start(faulty.clone());
    gatherer.has_all_of(&store).await;
    let emptied = Embedded::new();
    faulty.set(Some(&emptied));
    let unsettled = |now: &Gathered| now.generation.as_ref().is_some_and(|(life, _)| !life.settled);
    gatherer.comes_to(unsettled).await;
    // Each time long before the grace is over, and more often than the grace is long.
    for _ in 0..20 {
        sleep(gathering().grace / 10).await;
        faulty.set(None);
        gatherer.comes_to(|now| now.store != StoreHealth::Followed).await;
        faulty.set(Some(&emptied));
        gatherer.comes_to(|now| now.store == StoreHealth::Followed).await;
    }
    assert!(!unsettled(&gatherer.gathered.borrow()));
}

#[tokio::test(start_paused = true)]
async fn own_clusters_are_fresh_while_there_was_never_a_store() {
    let store = Embedded::new();
    let faulty = Faulty::new(&store);
    faulty.set(None);
    let mut gatherer = Gatherer::start(faulty.clone());
    for address in ["10.0.0.1", "10.0.0.2"] {
        gatherer.own.send_replace(Observed {
            exports: {
                let mut exports = gatherer.own.borrow().exports.clone();
                exports.set(key("demo/web"), Some(plain(address)));
                exports
            },
            ..observed([])
        });
        let has = |gathered: &Gathered| gathered.view.canonical().contains(address);
        let gathered = gatherer.comes_to(has).await;
        assert_eq!(gathered.store, StoreHealth::NeverRead);
        assert!(!gathered.complete && gathered.local > 0);
    }
    faulty.set(Some(&store));
    gatherer.comes_to(|gathered| gathered.complete).await;
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_wants_it() {
    let mut gatherer = Gatherer::start(Embedded::new());
    gatherer.comes_to(|gathered| gathered.store == StoreHealth::Followed).await;
    drop(gatherer.gathered);
    let ended = timeout(NEVER, gatherer.task.join_next()).await;
    ended.expect("it ends").expect("one task").expect("no panic");
}

/// What is kept of the gathering, in a directory.
struct Kept {
    begun: Begun,
    directory: PathBuf,
}

impl Kept {
    async fn begin(directory: &Path) -> Self {
        let config = config::Snapshot { directory: directory.to_owned(), max_age: NEVER, siblings: vec![] };
        let identity = Identity { cluster: "own".into(), zone: "global".into(), store: "test".into() };
        let begun = snapshot::begin(Some(&config), identity, (Ipv4Addr::LOCALHOST, 1).into(), || UNIX_EPOCH).await;
        Self { begun, directory: directory.to_owned() }
    }

    /// Gathers, and keeps what comes of it.
    fn gather(&mut self, store: impl Store + 'static) -> Gatherer {
        let begin = Begin { loaded: self.begun.loaded.take(), notes: self.begun.notes.clone() };
        let mut gatherer = Gatherer::begin(store, begin);
        let keeper = self.begun.keeper.take().expect("one gatherer");
        gatherer.task.spawn(async { keeper.run(CancellationToken::new()).await.expect("it runs") });
        gatherer
    }

    async fn comes_to(&mut self, what: impl FnMut(&snapshot::Status) -> bool) {
        let status = timeout(NEVER, self.begun.kept.status.wait_for(what)).await;
        status.expect("it comes to that").expect("it runs");
    }

    fn entries(&self) -> BTreeMap<String, Entry> {
        Found::open(&self.directory).expect("a snapshot").loaded.entries.into_iter().collect()
    }

    /// Waits until it keeps all that is in the store.
    async fn has_all_of(&mut self, store: &Embedded) {
        let all = store.read("").await.expect("it is there");
        self.comes_to(|status| status.position >= all.revision && status.stand == Stand::Kept).await;
        assert_eq!(self.entries(), all.entries);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_gathered_is_begun_with_when_neither_the_store_nor_a_cluster_is_there() {
    let home = tempfile::tempdir().expect("a directory");
    let store = Embedded::new();
    put(&store, "demo/web", "10.0.0.1").await;
    let faulty = Faulty::new(&store);
    let mut kept = Kept::begin(home.path()).await;
    let mut gatherer = kept.gather(faulty.clone());
    gatherer.comes_to(|gathered| gathered.generation.as_ref().is_some_and(|(life, _)| life.settled)).await;
    put(&store, "demo/api", "10.0.0.2").await;
    let before = gatherer.has_all_of(&store).await;
    kept.has_all_of(&store).await;
    drop((gatherer, kept));

    faulty.set(None);
    let mut kept = Kept::begin(home.path()).await;
    let mut gatherer = kept.gather(faulty.clone());
    let after = gatherer.comes_to(|gathered| gathered.store == StoreHealth::Snapshot).await;
    assert_eq!(after.view.canonical(), before.view.canonical());
    let failed = gatherer.comes_to(|gathered| gathered.trouble.is_some()).await;
    assert_eq!((&failed.store, failed.view.digest()), (&StoreHealth::Snapshot, before.view.digest()));
    // What it knew is answered; what it did not know may have come since.
    assert!(failed.is_ready() && !failed.complete);
    // The store goes on where it was known, and so does what is kept.
    put(&store, "demo/late", "10.0.0.3").await;
    faulty.set(Some(&store));
    let caught_up = gatherer.comes_to(|gathered| gathered.store == StoreHealth::Followed).await;
    assert!(
        caught_up.view.services().get(&key("demo/late")).is_some(),
        "nothing is missed by who says that he follows"
    );
    put(&store, "demo/web", "10.0.0.4").await;
    gatherer.has_all_of(&store).await;
    kept.has_all_of(&store).await;
    gatherer.own.send_replace(observed([]));
    gatherer.comes_to(|gathered| gathered.complete && !gathered.begun).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_emptied_does_not_empty_what_is_kept() {
    let home = tempfile::tempdir().expect("a directory");
    let store = Embedded::new();
    put(&store, "demo/web", "10.0.0.1").await;
    let faulty = Faulty::new(&store);
    let mut kept = Kept::begin(home.path()).await;
    let mut gatherer = kept.gather(faulty.clone());
    gatherer.comes_to(|gathered| gathered.generation.as_ref().is_some_and(|(life, _)| life.settled)).await;
    kept.has_all_of(&store).await;
    let before = kept.entries();

    let emptied = Embedded::new();
    faulty.set(Some(&emptied));
    gatherer.comes_to(|gathered| gathered.aside.contains(&id("east"))).await;
    kept.comes_to(|status| status.stand == Stand::Behind).await;
    assert_eq!(kept.entries(), before);
    // Its owner vouches for it again, in the new life, and everybody had the time to say what was held.
    gatherer.comes_to(|gathered| gathered.generation.as_ref().is_some_and(|(life, _)| life.settled)).await;
    put(&emptied, "demo/web", "10.0.0.2").await;
    gatherer.comes_to(|gathered| gathered.aside.is_empty()).await;
    kept.has_all_of(&emptied).await;
}
