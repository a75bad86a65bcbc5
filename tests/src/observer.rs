//! Somebody who looks at everything all along a scenario: asks every agent's DNS, reads every agent's status, and
//! follows every transaction in the shared store.
//!
//! What must never be, whatever dies, is judged in `answers`, `statuses` and `transactions`; a scenario only says what
//! it breaks and what is right. Everything is kept in one history, which goes to the test's logs as `observer.log`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use etcd_client::Client;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::dig::{Reply, Resolver};
use crate::site::TEST;
use crate::{Agent, Expected, Fleet, RecordType, Result, SOON, eventually, http};
use answers::{Answers, Asked};
use history::History;
use statuses::Statuses;
use transactions::{Transaction, Transactions};

mod answers;
mod history;
mod statuses;
mod transactions;
mod watch;

/// Between two questions for one name to one listener.
const PERIOD: Duration = Duration::from_millis(100);

/// Between two looks at one agent's status.
const LOOK: Duration = Duration::from_millis(300);

/// More than any number of rounds takes on a busy machine.
const ROUNDS: Duration = Duration::from_secs(60);

/// Looks until it is stopped; a scenario that fails drops it.
pub struct Observer {
    state: Arc<State>,
    agents: Vec<Watched>,
    /// Never read: they end when they are dropped.
    _looking: JoinSet<()>,
}

/// What came of it.
#[derive(Debug)]
pub struct Findings {
    answers: usize,
    statuses: usize,
    transactions: usize,
    wrong: usize,
    excerpt: String,
}

/// One agent as it is asked from the sandbox itself, which no cut separates from anybody.
#[derive(Debug, Clone)]
struct Watched {
    number: usize,
    label: String,
    network: &'static str,
    endpoints: Resolver,
    vip: Resolver,
    admin: SocketAddr,
}

struct State {
    seen: Mutex<Seen>,
    store: Vec<Client>,
    root: String,
    log: PathBuf,
}

/// Everything that was seen, and what is known to be right.
#[derive(Debug)]
struct Seen {
    history: History,
    answers: Answers,
    statuses: Statuses,
    transactions: Transactions,
    /// How often each agent was asked for everything.
    rounds: Vec<usize>,
    /// Replies that were looked at.
    replies: usize,
    /// Whether the store may know less at the next connection than was seen.
    forgets: bool,
}

// === impl Observer ===

impl Observer {
    /// Begins to look at these agents of a fleet, and at their store through clients of its members. What is no longer
    /// right may be answered for as long as `bound`.
    pub fn start(fleet: &Fleet, agents: &[&Agent], store: Vec<Client>, bound: Duration) -> Self {
        let seen = Seen {
            history: History::new(),
            answers: Answers::new(bound),
            statuses: Statuses::default(),
            transactions: Transactions::default(),
            rounds: vec![0; agents.len()],
            replies: 0,
            forgets: false,
        };
        let state = Arc::new(State {
            seen: Mutex::new(seen),
            store,
            root: format!("{}/", fleet.root()),
            log: fleet.logs().join("observer.log"),
        });
        let agents: Vec<_> =
            agents.iter().enumerate().map(|(number, agent)| Watched::new(fleet, number, agent)).collect();
        let mut looking = JoinSet::new();
        looking.spawn(watch::follow(Arc::clone(&state)));
        for agent in &agents {
            looking.spawn(ask(agent.clone(), Arc::clone(&state)));
            looking.spawn(look(agent.clone(), Arc::clone(&state)));
        }
        Self { state, agents, _looking: looking }
    }

    /// Changes what every agent on a network has to answer for a name from now on.
    pub fn expect(&self, name: &str, network: &'static str, expected: Expected) {
        let mut seen = self.state.seen();
        seen.history.note(&format!("test: {name} on {network}: {expected:?}"));
        seen.answers.expect(name, network, expected, Instant::now());
    }

    /// Writes what the scenario does into the history.
    pub fn note(&self, what: &str) {
        self.state.seen().history.note(&format!("test: {what}"));
    }

    /// From now on an agent may be silent, or know less than others; it must not say what is wrong.
    pub fn leave(&self, agent: &Agent) {
        let watched = self.watched(agent);
        let mut seen = self.state.seen();
        seen.history.note(&format!("test: {} leaves", watched.label));
        seen.answers.leave(watched.number, Instant::now());
    }

    /// From now on it has to answer again, after the bound with nothing that is not right any more.
    pub fn back(&self, agent: &Agent) {
        let watched = self.watched(agent);
        let mut seen = self.state.seen();
        seen.history.note(&format!("test: {} is back", watched.label));
        seen.answers.back(watched.number, Instant::now());
    }

    /// The store is about to be wiped, or to go back to a backup: the next connection may find it at any revision.
    /// To be said before, so that what it writes afterwards is not taken for what it wrote before.
    pub fn store_forgets(&self) {
        let mut seen = self.state.seen();
        seen.history.note("test: the store forgets");
        seen.forgets = true;
    }

    /// Waits until it has asked every agent for everything that often again.
    pub async fn rounds(&self, rounds: usize) -> Result {
        let until: Vec<_> = self.state.seen().rounds.iter().map(|done| done + rounds).collect();
        eventually(ROUNDS, &format!("everybody is asked {rounds} times"), async || {
            let done = self.state.seen().rounds.clone();
            ensure!(done.iter().zip(&until).all(|(done, until)| done >= until), "{done:?} of {until:?}");
            Ok(())
        })
        .await
    }

    /// Ends it, once it has seen everything that stands in the store.
    pub async fn stop(self) -> Result<Findings> {
        eventually(SOON, "the observer has seen all of the store", async || {
            let latest = watch::latest(&self.state).await?;
            let at = self.state.seen().transactions.revision;
            ensure!(at >= latest, "it is at {at} of {latest}");
            Ok(())
        })
        .await?;
        let seen = self.state.seen();
        Ok(Findings {
            answers: seen.replies,
            statuses: seen.statuses.looked,
            transactions: seen.transactions.shown,
            wrong: seen.history.wrong(),
            excerpt: seen.history.excerpt(),
        })
    }

    fn watched(&self, agent: &Agent) -> &Watched {
        let found = self.agents.iter().find(|watched| watched.admin == agent.admin());
        found.unwrap_or_else(|| panic!("{} is not observed", agent.label()))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // What cannot be written is not worth hiding why the test failed.
        let _ = fs::write(&self.state.log, self.state.seen().history.to_string());
    }
}

/// Asks one agent for every name that is expected on its network, at both listeners.
async fn ask(agent: Watched, state: Arc<State>) {
    let mut questions = JoinSet::new();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            Some(_) = questions.join_next() => {}
            _ = ticks.tick() => {
                let names = {
                    let mut seen = state.seen();
                    seen.rounds[agent.number] += 1;
                    seen.answers.names(agent.network)
                };
                for name in names {
                    questions.spawn(ask_once(agent.clone(), name, Arc::clone(&state)));
                }
            }
        }
    }
}

async fn ask_once(agent: Watched, name: String, state: Arc<State>) {
    let asked = |at, reply| {
        let (agent, network, name) = (agent.number, agent.network, &*name);
        Asked { agent, network, name, at, answered: Instant::now(), reply }
    };
    let at = Instant::now();
    let (endpoints, vip): (Result<Reply>, Result<Reply>) =
        tokio::join!(agent.endpoints.udp(&name, RecordType::A), agent.vip.udp(&name, RecordType::A));
    let mut seen = state.seen();
    seen.replies += 2;
    let wrong = seen.answers.endpoints(&asked(at, &endpoints));
    seen.wrong(&agent.label, wrong);
    let wrong = seen.answers.vip(&asked(at, &vip));
    seen.wrong(&agent.label, wrong);
}

/// Reads one agent's status.
async fn look(agent: Watched, state: Arc<State>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Whether it answers at all is for its DNS to show.
        let Ok(status) = http::get(TEST, agent.admin, "/status").await else { continue };
        let mut seen = state.seen();
        let wrong = match serde_json::from_str(&status) {
            Ok(status) => {
                let Seen { statuses, transactions, .. } = &mut *seen;
                statuses.judge(agent.number, &agent.label, &status, &transactions.removed)
            }
            Err(error) => vec![format!("/status is not JSON: {error}")],
        };
        seen.wrong(&agent.label, wrong);
    }
}

// === impl Watched ===

impl Watched {
    fn new(fleet: &Fleet, number: usize, agent: &Agent) -> Self {
        Self {
            number,
            label: agent.label(),
            network: fleet.cluster(agent.place().name()).network(),
            endpoints: agent.dns().asked_from(TEST),
            vip: agent.vip_dns().asked_from(TEST),
            admin: agent.admin(),
        }
    }
}

// === impl State ===

impl State {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // What was seen was seen, whoever panicked.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Seen ===

impl Seen {
    fn wrong(&mut self, whose: &str, what: impl IntoIterator<Item = String>) {
        for what in what {
            self.history.violation(&format!("{whose}: {what}"));
        }
    }

    fn transaction(&mut self, txn: &Transaction) {
        self.history.note(&txn.describe());
        let wrong = self.transactions.judge(txn);
        self.wrong(&format!("store @{}", txn.revision), wrong);
    }

    /// The first revision that was not seen yet.
    fn resume(&mut self) -> u64 {
        if std::mem::take(&mut self.forgets) {
            self.forget("as the test said");
        }
        self.transactions.revision + 1
    }

    /// The store knows less than was seen.
    fn forget(&mut self, why: &str) {
        self.history.note(&format!("the store has forgotten: {why}"));
        self.transactions.forget();
    }
}

// === impl Findings ===

impl Findings {
    /// Fails unless everything was as it must be, and there was enough of it to prove something.
    pub fn flawless(&self, at_least: usize) -> Result {
        let Self { answers, statuses, transactions, wrong, excerpt } = self;
        ensure!(
            *wrong == 0,
            "{wrong} violations in {answers} answers, {statuses} statuses, {transactions} transactions\n{excerpt}"
        );
        ensure!(*answers >= at_least, "{answers} answers are too few to prove anything");
        ensure!(*statuses > 0 && *transactions > 0, "{statuses} statuses and {transactions} transactions were seen");
        Ok(())
    }
}
