//! The way from one agent to the store: the port that the agent is given. Calls take time, overtake each other, get lost
//! on either half of the way, arrive twice, or arrive when nobody waits for them any more. What an agent asks goes on
//! without it: whoever gives up waiting has not taken anything back.

mod lease;
mod watch;
mod weather;

pub(crate) use weather::{Cut, Weather};

use crate::{
    agent::Surroundings,
    dice::Dice,
    journal::{Journal, locked},
    store::Etcd,
    tasks::{Tasks, WORLD},
};
use async_trait::async_trait;
use federator::store::{Committed, Lease, Snapshot, Store, StoreError, Txn, Watch};
use lease::LinkLease;
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use watch::LinkWatch;
use weather::Fate;

/// How long a client waits for an answer, as that of etcd does.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// One life of an agent: once started anew it is somebody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) agent: Arc<str>,
    pub(crate) life: u32,
}

/// The id of the etcd cluster, its revision, and what became of a request.
type Answer<T> = (u64, u64, Result<T, StoreError>);

/// The store as all links share it.
#[derive(Clone, Debug)]
pub(crate) struct Shore {
    etcd: Arc<Mutex<Etcd>>,
    /// How often it was started, and its revision: for whoever waits for the next.
    tide: tokio::sync::watch::Sender<Tide>,
}

/// What whoever waits for the store is woken by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tide {
    started: u64,
    up: bool,
    revision: u64,
    leases: Option<Instant>,
}

/// One agent's way to the store.
#[derive(Clone)]
pub(crate) struct Link {
    who: Who,
    shore: Shore,
    weather: tokio::sync::watch::Receiver<Weather>,
    dice: Dice,
    tasks: Tasks,
    journal: Journal,
    known: Arc<Mutex<Known>>,
}

/// What a link knows of its etcd: neither another one nor an earlier state is mistaken for it.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The id of the etcd cluster once known, else zero.
    cluster: u64,
    /// The largest revision of an answer.
    revision: u64,
    /// How often another was taken for it.
    adopted: u32,
}

// === impl Who ===

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.agent, self.life)
    }
}

// === impl Shore ===

impl Shore {
    pub(crate) fn new(etcd: Etcd) -> Self {
        let tide = Tide { started: 1, up: true, revision: etcd.revision, leases: None };
        Self { etcd: Arc::new(Mutex::new(etcd)), tide: tokio::sync::watch::Sender::new(tide) }
    }

    /// Does something to the store, and wakes whoever waits for what it changes.
    pub(crate) fn with<T>(&self, does: impl FnOnce(&mut Etcd) -> T) -> T {
        let mut etcd = locked(&self.etcd);
        let done = does(&mut etcd);
        let leases = etcd.expire();
        let (up, revision) = (etcd.up, etcd.revision);
        drop(etcd);
        self.tide.send_if_modified(|tide| {
            let now = Tide { up, revision, leases, ..*tide };
            std::mem::replace(tide, now) != now
        });
        done
    }

    /// What stands behind a key.
    pub(crate) fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.with(|etcd| etcd.entries.get(key).map(|entry| entry.value.clone()))
    }

    /// Stops it: whoever watches is told.
    pub(crate) fn stop(&self) {
        self.with(|etcd| etcd.up = false);
        self.tide.send_modify(|tide| tide.started += 1);
    }

    /// Lets leases run out, for ever.
    pub(crate) async fn run_out(self) {
        let mut tide = self.tide.subscribe();
        loop {
            let next = tide.borrow_and_update().leases;
            tokio::select! {
                biased;
                changed = tide.changed() => if changed.is_err() { return },
                () = sleep_until(next) => self.with(|_| ()),
            }
        }
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

// === impl Link ===

impl Link {
    pub(crate) fn new(who: Who, around: &Surroundings, weather: tokio::sync::watch::Receiver<Weather>) -> Self {
        let Surroundings { journal, dice, tasks, shore, .. } = around.clone();
        Self { who, shore, weather, dice, tasks, journal, known: Arc::default() }
    }

    /// Asks the store for something, once or twice, with whatever happens on the way.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        does: impl Fn(&mut Etcd, &Who) -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let fate = self.weather.borrow().fate(&self.dice);
        if fate != Fate::default() {
            self.journal.note(format_args!("{} {what}: {fate}", self.who));
        }
        let before = *locked(&self.known);
        let (answer, answered) = oneshot::channel();
        self.tasks.spawn(WORLD, self.clone().carry(fate, does, answer));
        let gone = |why: &str| Err(StoreError::Unavailable(format!("{what}: {why}")));
        match timeout(CALL_TIMEOUT, answered).await {
            Ok(Ok((cluster, revision, done))) => locked(&self.known).check(before, cluster, revision).and(done),
            Ok(Err(_)) => gone("connection lost"),
            Err(_) => gone("no answer in time"),
        }
    }

    /// Carries a request to the store and its answer back.
    async fn carry<T>(
        self,
        fate: Fate,
        does: impl Fn(&mut Etcd, &Who) -> Result<T, StoreError>,
        answer: oneshot::Sender<Answer<T>>,
    ) {
        sleep(self.delay() + fate.late).await;
        let lost = fate.request_lost || !self.weather.borrow().carries_requests();
        if self.stray(lost).await {
            return;
        }
        let mut done = self.ask(&does);
        if fate.twice {
            sleep(self.delay()).await;
            let again = self.ask(&does);
            if fate.second_answer {
                done = again;
            }
        }
        sleep(self.delay()).await;
        let lost = fate.answer_lost || !self.weather.borrow().carries_answers();
        if self.stray(lost).await {
            return;
        }
        if let Some(done) = done {
            // Perhaps nobody waits any more.
            let _ = answer.send(done);
        }
    }

    fn delay(&self) -> Duration {
        self.weather.borrow().delay(&self.dice)
    }

    /// Whether what is on its way gets lost. At times that is known at once, at times not for longer than anybody waits.
    async fn stray(&self, lost: bool) -> bool {
        let silent = lost && self.weather.borrow().is_silent(&self.dice);
        if silent {
            sleep(CALL_TIMEOUT * 2).await;
        }
        lost
    }

    /// What the store says, and which cluster it is; nothing while it is stopped.
    fn ask<T>(&self, does: impl Fn(&mut Etcd, &Who) -> Result<T, StoreError>) -> Option<Answer<T>> {
        self.shore.with(|etcd| {
            etcd.up.then(|| {
                let done = does(etcd, &self.who);
                (etcd.cluster, etcd.revision, done)
            })
        })
    }
}

// === impl Known ===

impl Known {
    /// Refuses an answer of another etcd cluster than the first that answered, and one of an earlier revision than was
    /// known before it was asked for.
    fn check(&mut self, before: Self, cluster: u64, revision: u64) -> Result<(), StoreError> {
        if self.cluster == 0 {
            self.cluster = cluster;
        }
        let known = self.cluster;
        if known != cluster {
            return Err(StoreError::WentBack(format!("it was etcd cluster {known:x} and now is {cluster:x}")));
        }
        if before.adopted != self.adopted {
            return Ok(());
        }
        if revision < before.revision {
            let seen = before.revision;
            return Err(StoreError::WentBack(format!("it is at revision {revision}, and {seen} was seen")));
        }
        self.revision = self.revision.max(revision);
        Ok(())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated etcd of {}", self.who)
    }
}

#[async_trait]
impl Store for Link {
    async fn read(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let prefix = prefix.to_owned();
        self.call("read", move |etcd, _| Ok(etcd.read(&prefix))).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Committed, StoreError> {
        let txn = txn.clone();
        self.call("commit", move |etcd, who| etcd.commit(who, &txn)).await
    }

    async fn watch(&self, revision: u64) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(LinkWatch::start(self.clone(), revision).await?))
    }

    async fn lease(&self) -> Result<Box<dyn Lease>, StoreError> {
        let id = self.call("lease", |etcd, who| Ok(etcd.grant(who.clone()))).await?;
        Ok(Box::new(LinkLease::new(self.clone(), id)))
    }

    fn adopt(&self) {
        let mut known = locked(&self.known);
        *known = Known { adopted: known.adopted + 1, ..Known::default() };
    }
}
