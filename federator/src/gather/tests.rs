//! The stage over a store that comes and goes, with time paused.

use super::*;
use crate::{
    store::{Txn, embedded::Embedded},
    testing::{Faulty, head, id, key, observed, plain, slice},
};
use model::{cluster::Synced, record::Record as _};
use std::time::Duration;
use tokio::{task::JoinSet, time::timeout};

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
        let (own, seen) = watch::channel(Observed::default());
        let (sender, gathered) = watch::channel(Gathered::default());
        let mut task = JoinSet::new();
        let (_, clusters) =
            watch::channel(OwnClusters { complete: true, clusters: BTreeMap::from([(id("own"), seen)]) });
        task.spawn(run("global".into(), Arc::new(store), clusters, sender));
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
        fold.replace(&snapshot).expect("it did not go back");
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

async fn commit(store: &Embedded, writes: Vec<(String, Option<Vec<u8>>)>) {
    let txn = Txn { guards: vec![], writes, ..Txn::default() };
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
    let marker = Synced { epoch: 1, ..Synced::default() }.encode();
    commit(&store, vec![("clusters/east/synced".to_owned(), Some(marker))]).await;
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
async fn a_store_that_went_back_is_not_believed() {
    let store = Embedded::new();
    put(&store, "demo/web", "10.0.0.1").await;
    put(&store, "demo/web", "10.0.0.2").await;
    let faulty = Faulty::new(&store);
    let mut gatherer = Gatherer::start(faulty.clone());
    let before = gatherer.has_all_of(&store).await;
    faulty.set(Some(&Embedded::new()));
    let went_back =
        |gathered: &Gathered| matches!(&gathered.store, StoreHealth::Lost(why) if why.contains("went back"));
    let gathered = gatherer.comes_to(went_back).await;
    assert_eq!(gathered.view.canonical(), before.view.canonical());
    assert_eq!(gathered.complete, before.complete);
    faulty.set(Some(&store));
    put(&store, "demo/web", "10.0.0.3").await;
    gatherer.has_all_of(&store).await;
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
