//! One run: clusters, a store and agents from a seed; faults for a time; then rest, and what must be true at rest.

use crate::{
    agent::{Agent, Surroundings},
    dice::Dice,
    eye,
    faults::Faults,
    invariants::Law,
    journal::Journal,
    link::Shore,
    source::Source,
    stages::ZONE,
    store::Etcd,
    tasks::{Tasks, WORLD},
    witness::{LONG, Scene},
};
use federator::gather::{Gathered, StoreHealth};
use model::{
    cluster::Tombstone,
    key::Key,
    name::{ClusterId, ServiceKey},
    record::{Order, Record as _},
    seat::Owner,
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};

/// Longest time from the last fault to rest.
const REST: Duration = Duration::from_secs(480);

/// So long nothing is written at rest.
const QUIET: Duration = Duration::from_secs(120);

/// The pause between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The first thing that must not have happened.
    pub(crate) failure: Option<String>,
    /// All that happened, if it was kept.
    pub(crate) lines: Vec<String>,
}

/// Runs a seed. The same seed gives the same run: there is one thread, time is simulated, and all chance is the seed's.
pub(crate) fn run(seed: u64, keep: bool) -> Outcome {
    START.set(None);
    // What the stages draw themselves (pauses between tries) is of this thread's generator.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let (failure, lines) = runtime.block_on(async {
        START.set(Some(Instant::now()));
        let journal = Journal::begin(keep);
        let world = World::new(seed, &journal);
        let tasks = world.around.tasks.clone();
        tasks.run_until(world.run()).await;
        journal.end()
    });
    Outcome { failure, lines }
}

thread_local! {
    /// When the run of this thread began.
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The wall clock of the run. Some day, in simulated time.
pub(crate) fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000) + START.get().map(|start| start.elapsed()).unwrap_or_default()
}

/// Everything there is in a run.
struct World {
    around: Surroundings,
    agents: Vec<Agent>,
}

// === impl World ===

impl World {
    fn new(seed: u64, journal: &Journal) -> Self {
        let dice = Dice::new(seed);
        let clusters = dice.number(2..=3);
        let sources: Vec<_> = (0..clusters).map(|number| Source::new(number as u8, &dice, journal)).collect();
        let ids: Vec<_> = sources.iter().map(|source| source.id.clone()).collect();
        let mut homes = ids.clone();
        // A second agent in one of them.
        homes.extend(dice.any_of(&ids).filter(|_| dice.once_in(2)).cloned());
        let agents = homes.iter().enumerate().map(|(n, home)| {
            let others = ids.iter().filter(|id| *id != home && dice.once_in(2)).cloned();
            Agent::new(&format!("{home}-{}", n / clusters + 1), home, others.collect::<Vec<_>>())
        });
        let agents = agents.collect();
        let lease_time = Duration::from_secs(dice.number(5..=15) as u64);
        let tasks = Tasks::new(&dice, journal);
        let scene = Scene::new(sources, &dice);
        let law = Law::new(journal.clone(), scene.rest);
        let shore = Shore::new(Etcd::new(law, journal.clone(), lease_time));
        let around = Surroundings { journal: journal.clone(), dice, tasks, shore, scene };
        Self { around, agents }
    }

    async fn run(mut self) {
        let Surroundings { journal, dice, tasks, shore, .. } = self.around.clone();
        tasks.spawn(WORLD, shore.clone().run_out());
        for agent in &mut self.agents {
            sleep(dice.millis(0..=3000)).await;
            agent.start(&self.around);
        }
        let mut faults = Faults::new(&self.around);
        let time = Duration::from_secs(dice.number(5..=60) as u64);
        faults.rage(&mut self.agents, time).await;
        if journal.has_failed() {
            return;
        }
        journal.note(format_args!("faults end"));
        faults.end(&mut self.agents).await;
        self.comes_to_rest().await;
        if !journal.has_failed() {
            self.is_quiet().await;
        }
    }

    /// Waits until everything is as it should be and nothing is written any more, and no longer than that may take.
    async fn comes_to_rest(&self) {
        let end = Instant::now() + REST;
        let (mut before, mut since) = (None, Instant::now());
        while !self.around.journal.has_failed() {
            let (wrong, writes) = (self.wrong(), self.around.shore.with(|etcd| etcd.writes));
            if wrong.is_some() || before != Some(writes) {
                (before, since) = (Some(writes), Instant::now());
            }
            match wrong {
                // Whoever has not looked yet may have something to write.
                None if since.elapsed() > eye::SEEN => return self.around.journal.note(format_args!("at rest")),
                Some(wrong) if Instant::now() > end => {
                    self.around.journal.fail(format_args!("{REST:?} after the last fault {wrong}"));
                }
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Checks that nothing is written when nothing happens.
    async fn is_quiet(&self) {
        let before = self.around.shore.with(|etcd| etcd.writes);
        sleep(QUIET).await;
        let after = self.around.shore.with(|etcd| etcd.writes);
        if before != after {
            self.around.journal.fail(format_args!("{} transactions in {QUIET:?} of quiet", after - before));
        }
        if let Some(wrong) = self.wrong() {
            self.around.journal.fail(format_args!("in quiet {wrong}"));
        }
    }

    /// What is not as it should be at rest.
    fn wrong(&self) -> Option<String> {
        let removed = self.removed();
        let views = self.agents.iter().map(|agent| {
            let gathered = agent.life.as_ref().map(|life| life.gathered.borrow().clone());
            (agent.name.clone(), gathered.unwrap_or_default())
        });
        let views: Vec<_> = views.collect();
        let (first, expected) = views.first()?;
        for (name, gathered) in &views {
            if !gathered.complete || gathered.local != 0 || gathered.store != StoreHealth::Followed {
                let Gathered { store, complete, local, aside, .. } = gathered;
                return Some(format!("{name} has not caught up: {store:?}, {complete}, {local}, {aside:?}"));
            }
            // The last thing that is written by nobody's doing.
            if !gathered.generation.as_ref().is_some_and(|(generation, _)| generation.settled) {
                return Some(format!("{name} knows of no settled generation"));
            }
            let (theirs, ours) = (expected.view.canonical(), gathered.view.canonical());
            if theirs != ours {
                return Some(format!("{first} and {name} differ:\n{theirs}\nand\n{ours}"));
            }
        }
        self.untrue(expected, &removed).or_else(|| self.unowned(&removed)).or_else(|| self.kept(&removed))
    }

    /// The clusters that are removed from the fleet, as the store has it.
    fn removed(&self) -> BTreeSet<ClusterId> {
        let is_removed = |id: &&ClusterId| {
            let tombstone = self.around.shore.value(&Key::Tombstone((*id).clone()).to_string());
            let tombstone = tombstone.and_then(|value| Tombstone::decode(&value).ok());
            tombstone.is_some_and(|tombstone| tombstone.removed)
        };
        self.around.scene.sources.iter().map(|source| &source.id).filter(is_removed).cloned().collect()
    }

    /// What is not in the View as it is in the clusters.
    fn untrue(&self, gathered: &Gathered, removed: &BTreeSet<ClusterId>) -> Option<String> {
        let mut there = BTreeMap::new();
        for source in self.around.scene.sources.iter().filter(|source| !removed.contains(&source.id)) {
            for (key, service) in &source.look().borrow().services {
                there.insert((key.clone(), source.id.clone()), service.export.clone());
            }
        }
        let mut seen = BTreeMap::new();
        for (key, service) in gathered.view.services().iter() {
            seen.extend(service.exports.iter().map(|(id, export)| ((key.clone(), id.clone()), export.clone())));
        }
        if let Some((key, id)) = first_difference(&there, &seen) {
            let (there, seen) = (there.get(&(key.clone(), id.clone())), seen.get(&(key.clone(), id.clone())));
            return Some(format!("{key} of {id} is {there:?} and seen as {seen:?}"));
        }
        let vips = self.around.shore.with(|etcd| etcd.law.vips().clone());
        let moved = |key: &ServiceKey| {
            let now = gathered.view.services().get(key).and_then(|service| service.vip);
            // Whoever remembers the first may have died with a store that went back.
            now.is_none() || (!self.around.scene.went_back() && vips.get(&*key.host(ZONE)).copied() != now)
        };
        if let Some((key, _)) = gathered.view.services().iter().find(|(key, _)| moved(key)) {
            return Some(format!("{key} has not the virtual address that it had first"));
        }
        let clusters: BTreeSet<_> = gathered.view.clusters().keys().cloned().collect();
        let all = self.around.scene.sources.iter().map(|source| source.id.clone());
        let all: BTreeSet<_> = all.filter(|id| !removed.contains(id)).collect();
        (clusters != all).then(|| format!("clusters are {all:?} and seen are {clusters:?}"))
    }

    /// A cluster that is not owned by a living agent of its own.
    fn unowned(&self, removed: &BTreeSet<ClusterId>) -> Option<String> {
        let ids = self.around.scene.sources.iter().map(|source| &source.id).filter(|id| !removed.contains(*id));
        for id in ids {
            let owner = self.around.shore.with(|etcd| {
                let entry = etcd.entries.get(&Key::Owner(id.clone()).to_string())?;
                let owner = Owner::decode(&entry.value).ok()?;
                etcd.holder(federator::store::LeaseId(owner.lease)).cloned()
            });
            let Some(owner) = owner else { return Some(format!("{id} has no owner")) };
            if !self.agents.iter().any(|agent| agent.who() == owner && agent.home == *id) {
                return Some(format!("{id} is owned by {owner}, which is not at home there"));
            }
        }
        None
    }

    /// A place in an order that is to be given up by now.
    fn kept(&self, removed: &BTreeSet<ClusterId>) -> Option<String> {
        if self.around.scene.rest == LONG {
            return None;
        }
        self.around.shore.with(|etcd| {
            let orders = etcd.read(Key::ORDERS).entries;
            let places = orders.iter().filter_map(|(text, entry)| {
                let Ok(Key::Order(service)) = Key::parse(text) else { return None };
                let mut order = Order::decode(&entry.value).ok()?.0;
                order.retain(|id| {
                    !removed.contains(id) && !etcd.law.published().contains_key(&(id.clone(), service.clone()))
                });
                (!order.is_empty()).then(|| format!("{service} is gone and has places of {order:?}"))
            });
            places.into_iter().next()
        })
    }
}

/// The first key under which two maps have not the same.
fn first_difference<K: Ord + Clone, V: PartialEq>(a: &BTreeMap<K, V>, b: &BTreeMap<K, V>) -> Option<K> {
    a.keys().chain(b.keys()).find(|key| a.get(key) != b.get(key)).cloned()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        match &self.failure {
            Some(failure) => write!(f, "failed: {failure}"),
            None => f.write_str("passed"),
        }
    }
}
