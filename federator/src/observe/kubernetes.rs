//! A cluster by its API server: list and watch of every kind, under the eyes of a sentinel. Trouble is shown and what
//! is known is kept. Only a delete event, or a list and a get that agree, take anything away; of an API server that is
//! found to lie nothing is taken away at all, until its lists agree with its gets.

mod canary;
mod candidate;
mod cluster;
mod defined;
mod held;
mod kinds;
mod questions;
pub mod sentinel;

use super::{
    Observed,
    index::{Index, Kind},
    object::ObjectName,
};
use crate::{
    condition::Reason,
    config::{Place, rules::ExportRules},
    kubernetes::{client::Connector, follow::Event},
};
use candidate::Candidate;
use cluster::{Cluster, Todo};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream, stream::BoxStream};
use kinds::{Seen, follow_kind};
use kube::Client;
use model::vip::VipRanges;
use questions::{Lists, Questions, Why, compare};
use sentinel::{Orders, Sign};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Events taken together when they are there together, so that a burst is one look; none waits for another.
const BURST: usize = 256;

/// Signs that may wait: the sentinel waits for whoever does not listen.
const SIGNS: usize = 8;

/// Remembered objects that are looked at again between two beats of the sentinel.
const RECHECKED: usize = 100;

/// What one Kubernetes source needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the cluster is, and how it is reached from other networks.
    pub place: Place,
    /// Which addresses cannot be the cluster's.
    pub vips: VipRanges,
    /// What is exported.
    pub rules: watch::Receiver<ExportRules>,
    /// How its API server is watched over.
    pub sentinel: sentinel::Config,
}

/// All watches of a cluster.
type Events = BoxStream<'static, Vec<(Kind, Event<Seen>)>>;

/// Observes the cluster until nobody wants the result any more. What `connectors` says last is how it is reached, and
/// what `doubts` says last is asked for by name.
pub async fn run(
    config: Config,
    mut connectors: watch::Receiver<Connector>,
    doubts: watch::Receiver<Arc<BTreeSet<ObjectName>>>,
    observed: watch::Sender<Observed>,
) {
    let connector = connectors.borrow_and_update().clone();
    let (orders, taken) = watch::channel(Orders { connector, doubts: 0 });
    let (signs, listened) = mpsc::channel(SIGNS);
    let rules = config.rules.clone();
    let watching = Watching::new(&config, orders, listened);
    tokio::select! {
        () = sentinel::run(config.sentinel, taken, signs) => {}
        () = watching.run(connectors, rules, doubts, observed) => {}
    }
}

/// The watches of one cluster, and what is done about what they tell.
struct Watching {
    cluster: Cluster,
    patience: std::time::Duration,
    lease: (String, String),
    orders: watch::Sender<Orders>,
    signs: mpsc::Receiver<Sign>,
    client: Option<Client>,
    events: Events,
    questions: Questions,
    /// What lists are worth, while that is being found out.
    comparing: Option<BoxFuture<'static, Lists>>,
    trial: Option<Trial>,
    beats: usize,
}

/// New credentials on trial.
enum Trial {
    /// It is found out which cluster they lead to; a failure is told, and tried again.
    Asked(Connector, BoxStream<'static, Result<(Client, String), String>>),
    /// They show what is there.
    Shown(Box<Candidate>, Events),
}

/// What a trial brought.
enum Tried {
    Asked(Result<(Client, String), String>),
    Shown(Vec<(Kind, Event<Seen>)>),
}

// === impl Watching ===

impl Watching {
    fn new(config: &Config, orders: watch::Sender<Orders>, signs: mpsc::Receiver<Sign>) -> Self {
        let mut index = Index::new(Observed::default(), config.place.locality.clone());
        index.set_network(config.place.network.clone());
        index.set_vips(config.vips);
        index.set_root_namespace(&config.place.root_namespace);
        index.set_gateways(config.place.gateways.clone());
        index.set_trust_domain(config.place.trust_domain.clone());
        index.set_rules(config.rules.borrow().clone());
        Self {
            cluster: Cluster::new(index),
            patience: config.sentinel.found_within / 2,
            lease: (config.sentinel.namespace.clone(), config.sentinel.name.clone()),
            orders,
            signs,
            client: None,
            events: stream::pending().boxed(),
            questions: Questions::new(),
            comparing: None,
            trial: None,
            beats: 0,
        }
    }

    async fn run(
        mut self,
        mut connectors: watch::Receiver<Connector>,
        mut rules: watch::Receiver<ExportRules>,
        mut doubts: watch::Receiver<Arc<BTreeSet<ObjectName>>>,
        observed: watch::Sender<Observed>,
    ) {
        // What is doubted when it begins counts too.
        doubts.mark_changed();
        loop {
            tokio::select! {
                Some(burst) = self.events.next() => {
                    for (kind, event) in burst {
                        let todo = self.cluster.take(kind, event);
                        self.heed(todo);
                    }
                }
                Some(sign) = self.signs.recv() => self.heard(sign),
                (name, why, told) = self.questions.next(self.client.as_ref()) => {
                    let todo = self.cluster.told(&name, why, told, Instant::now() + self.patience);
                    self.heed(todo);
                }
                worth = compared(&mut self.comparing) => {
                    self.comparing = None;
                    self.weigh(worth);
                }
                Some(tried) = tried(&mut self.trial) => self.try_out(tried),
                Ok(()) = connectors.changed() => self.rotate(connectors.borrow_and_update().clone()),
                Ok(()) = rules.changed() => self.cluster.set_rules(rules.borrow_and_update().clone()),
                Ok(()) = doubts.changed() => {
                    let todo = self.cluster.doubt(doubts.borrow_and_update().clone());
                    self.heed(todo);
                }
                () = observed.closed() => return,
            }
            observed.send_replace(self.cluster.result());
        }
    }

    fn heed(&mut self, todo: Todo) {
        match todo {
            Todo::Nothing => {}
            Todo::Probe => self.orders.send_modify(|orders| orders.doubts += 1),
            Todo::WentBack => self.cluster.roll_back(None, Instant::now()),
            Todo::Ask => self.cluster.asking().for_each(|(name, why)| self.questions.ask(name, why)),
        }
    }

    fn heard(&mut self, sign: Sign) {
        let now = Instant::now();
        match sign {
            Sign::Reached(client, uid) => {
                if !self.is_same(&uid, now) {
                    return;
                }
                self.cluster.reached();
                self.client = Some(client);
                // A frozen cluster is opened when it thaws.
                if !self.cluster.is_frozen() {
                    self.open();
                }
            }
            Sign::Proved(client, uid) => {
                if self.is_same(&uid, now) {
                    self.cluster.reached();
                    // There is none after another cluster had answered. The watches begin when it thaws.
                    self.client.get_or_insert(client);
                }
            }
            Sign::Beat(renewed) => {
                if renewed.is_some() {
                    self.cluster.no_canary(&self.lease, None);
                }
                self.cluster.renewed(renewed);
                self.beat(now);
            }
            Sign::Unreachable(why) => self.cluster.unreachable(why, now),
            Sign::Refused(why) => self.cluster.freeze(Reason::CredentialsRefused, why, now),
            Sign::Deaf => self.deaf(now),
            Sign::RolledBack(floor) => self.cluster.roll_back(Some(floor), now),
            Sign::NoCanary(why) => self.cluster.no_canary(&self.lease, Some(why)),
        }
    }

    /// Whether this is the cluster that was known. Of another one nothing is believed.
    fn is_same(&mut self, uid: &str, now: Instant) -> bool {
        let known = &mut self.cluster.observed().meta.uid;
        if known.is_empty() {
            *known = uid.into();
        } else if **known != *uid {
            let why = format!("the API server is that of another cluster now: its uid is {uid}, and was {known}");
            self.cluster.freeze(Reason::AnotherCluster, why, now);
            (self.client, self.events) = (None, stream::pending().boxed());
            self.questions.clear();
            return false;
        }
        true
    }

    fn deaf(&mut self, now: Instant) {
        let why = format!("it tells of no changes: one that was made {:?} ago did not arrive", self.patience);
        self.cluster.freeze(Reason::Deaf, why, now);
    }

    fn beat(&mut self, now: Instant) {
        self.beats += 1;
        if self.cluster.is_late(now) && !self.cluster.is_frozen() {
            self.deaf(now);
        }
        let Some(client) = &self.client else { return };
        if self.cluster.is_frozen() {
            self.comparing
                .get_or_insert_with(|| compare(client.clone(), self.lease.clone(), self.cluster.telling()).boxed());
        } else if let Some(name) = self.cluster.sample() {
            self.questions.ask(name, Why::Sample);
        }
        for name in self.cluster.to_recheck(self.beats, RECHECKED) {
            self.questions.ask(name, Why::Remembered);
        }
        let todo = self.cluster.ask_again();
        self.heed(todo);
    }

    fn weigh(&mut self, worth: Lists) {
        match worth {
            Lists::Agree if self.cluster.is_frozen() => {
                self.cluster.thaw();
                self.open();
            }
            Lists::Lie if !self.cluster.is_rolled_back() => self.cluster.roll_back(None, Instant::now()),
            Lists::Agree | Lists::Lie | Lists::Unknown => {}
        }
    }

    /// Begins all watches anew, each from where it was.
    fn open(&mut self) {
        if let Some(client) = &self.client {
            self.events = follow_all(client, self.cluster.positions());
            self.cluster.begin_anew();
        }
    }

    /// Tries new credentials, while the old ones go on.
    fn rotate(&mut self, connector: Connector) {
        if self.client.is_none() {
            // There is nothing to be kept whole.
            self.orders.send_modify(|orders| orders.connector = connector);
            return;
        }
        let asked = sentinel::introductions(connector.clone());
        self.trial = Some(Trial::Asked(connector, asked));
    }

    fn try_out(&mut self, tried: Tried) {
        self.trial = match (self.trial.take(), tried) {
            (Some(Trial::Asked(connector, _)), Tried::Asked(Ok((client, uid)))) => {
                if *uid == *self.cluster.observed().meta.uid {
                    let events = follow_all(&client, &HashMap::new());
                    Some(Trial::Shown(Box::new(Candidate::new(connector)), events))
                } else {
                    let known = self.cluster.observed().meta.uid.clone();
                    let why = format!("the new kubeconfig leads to another cluster, {uid}; {known} is kept");
                    self.cluster.condition(Reason::AnotherCluster, Some(why));
                    None
                }
            }
            (trial, Tried::Asked(Err(why))) => {
                self.refused(&why);
                trial
            }
            (Some(Trial::Shown(mut candidate, events)), Tried::Shown(burst)) => {
                for (kind, event) in burst {
                    if let Err(why) = candidate.take(kind, event, self.cluster.held()) {
                        self.refused(&why);
                    }
                }
                if candidate.is_whole() {
                    self.adopt(*candidate, events);
                    None
                } else {
                    Some(Trial::Shown(candidate, events))
                }
            }
            (trial, _) => trial,
        };
    }

    fn refused(&mut self, why: &str) {
        let why = format!("the new credentials do not do, and the old ones are kept: {why}");
        self.cluster.condition(Reason::KubeconfigRefused, Some(why));
    }

    /// The new credentials have shown everything: the old ones are dropped.
    fn adopt(&mut self, candidate: Candidate, events: Events) {
        let whole = candidate.finish();
        self.orders.send_modify(|orders| orders.connector = whole.connector.clone());
        self.cluster.condition(Reason::KubeconfigRefused, None);
        if !self.cluster.is_frozen() {
            self.cluster.condition(Reason::AnotherCluster, None);
        }
        self.cluster.adopt(whole);
        tracing::info!(server = %self.orders.borrow().connector.server, "new credentials are in use");
        self.events = events;
        self.heed(Todo::Ask);
    }
}

/// Follows every kind, from where it was or from the beginning.
fn follow_all(client: &Client, positions: &HashMap<Kind, String>) -> Events {
    let streams = Kind::ALL.map(|kind| follow_kind(client, kind, positions.get(&kind).cloned()));
    stream::select_all(streams).ready_chunks(BURST).boxed()
}

async fn compared(comparing: &mut Option<BoxFuture<'static, Lists>>) -> Lists {
    match comparing {
        Some(comparing) => comparing.await,
        None => std::future::pending().await,
    }
}

async fn tried(trial: &mut Option<Trial>) -> Option<Tried> {
    match trial {
        Some(Trial::Asked(_, asked)) => asked.next().await.map(Tried::Asked),
        Some(Trial::Shown(_, events)) => events.next().await.map(Tried::Shown),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
