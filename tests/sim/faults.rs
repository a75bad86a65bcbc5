//! What goes wrong in a run, and when it is mended. A seed has its own mixture: some runs have many kinds of faults, some
//! one kind often. Knows nothing of what must hold meanwhile.

use crate::{
    agent::{Agent, Surroundings},
    invariants::ADMINISTRATOR,
    journal::locked,
    link::{Cut, Link, Weather, Who},
    store::Backup,
    tasks::WORLD,
};
use federator::{
    membership::removal::{How, RemovalError, readmit, remove},
    store::Store as _,
};
use model::{key::Key, name::ClusterId};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Change,
    Crash,
    Stop,
    Pause,
    Cut,
    Rough,
    Slow,
    Break,
    Silence,
    StoreStops,
    Compaction,
    ApiServer,
    Removal,
    Backup,
    Restore,
    Wipe,
}

/// All of them.
const FAULTS: [Fault; 16] = [
    Fault::Change,
    Fault::Crash,
    Fault::Stop,
    Fault::Pause,
    Fault::Cut,
    Fault::Rough,
    Fault::Slow,
    Fault::Break,
    Fault::Silence,
    Fault::StoreStops,
    Fault::Compaction,
    Fault::ApiServer,
    Fault::Removal,
    Fault::Backup,
    Fault::Restore,
    Fault::Wipe,
];

/// So often a store goes back in one run.
const MOST_LOSSES: usize = 2;

/// What ends a fault.
#[derive(Clone, Debug)]
enum Mend {
    Kill(usize),
    Start(usize),
    Wake(usize),
    Calm(usize),
    StoreStarts,
    /// With what it held at another time, or empty.
    StoreReturns(Option<Backup>),
    Reach(usize, ClusterId),
}

/// The faults of one run.
pub(crate) struct Faults {
    around: Surroundings,
    kinds: Vec<Fault>,
    /// What is to be mended when.
    mends: Vec<(Instant, Mend)>,
    /// How many administrators are at it.
    acts: watch::Sender<usize>,
    touched: Vec<ClusterId>,
    backups: Vec<Backup>,
    losses: usize,
}

// === impl Faults ===

impl Faults {
    pub(crate) fn new(around: &Surroundings) -> Self {
        let mut kinds: Vec<Fault> = FAULTS.into_iter().filter(|_| around.dice.once_in(2)).collect();
        // The world goes on in any case.
        kinds.extend([Fault::Change; 4]);
        around.journal.note(format_args!("faults of {kinds:?}"));
        Self {
            around: around.clone(),
            kinds,
            mends: Vec::new(),
            acts: watch::Sender::new(0),
            touched: Vec::new(),
            backups: Vec::new(),
            losses: 0,
        }
    }

    /// Lets things go wrong for a time.
    pub(crate) async fn rage(&mut self, agents: &mut [Agent], time: Duration) {
        let end = Instant::now() + time;
        let pace = self.around.dice.number(100..=4000) as u64;
        while Instant::now() < end && !self.around.journal.has_failed() {
            let next = Instant::now() + self.around.dice.millis(1..=pace);
            self.mend(agents, next.min(end)).await;
            let kind = *self.around.dice.any_of(&self.kinds).expect("there is one");
            self.happens(kind, agents);
        }
    }

    /// Mends everything.
    pub(crate) async fn end(&mut self, agents: &mut [Agent]) {
        self.mends.sort_by_key(|(when, _)| *when);
        for (_, mend) in std::mem::take(&mut self.mends) {
            self.mends_one(mend, agents);
        }
        for at in 0..agents.len() {
            self.mends_one(Mend::Wake(at), agents);
            self.mends_one(Mend::Calm(at), agents);
            if agents[at].life.is_none() {
                self.mends_one(Mend::Start(at), agents);
            }
        }
        let _ = self.acts.subscribe().wait_for(|acts| *acts == 0).await;
    }

    /// Mends what is due, until a time.
    async fn mend(&mut self, agents: &mut [Agent], until: Instant) {
        loop {
            let due = self.mends.iter().enumerate().min_by_key(|(_, (when, _))| *when);
            let Some((at, when)) = due.map(|(at, (when, _))| (at, *when)).filter(|(_, when)| *when <= until) else {
                return sleep_until(until).await;
            };
            sleep_until(when).await;
            let (_, mend) = self.mends.remove(at);
            self.mends_one(mend, agents);
        }
    }

    fn later(&mut self, millis: std::ops::RangeInclusive<u64>, mend: Mend) {
        self.mends.push((Instant::now() + self.around.dice.millis(millis), mend));
    }

    fn happens(&mut self, fault: Fault, agents: &mut [Agent]) {
        let Surroundings { journal, dice, tasks, shore, scene } = self.around.clone();
        let at = dice.number(0..=agents.len() - 1);
        let agent = &mut agents[at];
        let name = agent.name.clone();
        let alive = agent.life.as_ref();
        match fault {
            Fault::Change => dice.any_of(&scene.sources).expect("there are clusters").change(&dice),
            Fault::Crash if alive.is_some() => {
                agent.kill(&self.around);
                self.later(1..=30_000, Mend::Start(at));
            }
            Fault::Stop => {
                if let Some(life) = alive {
                    journal.note(format_args!("{name} is told to stop"));
                    life.ask_to_stop();
                    self.later(1..=3000, Mend::Kill(at));
                }
            }
            Fault::Pause => {
                if let Some(life) = alive {
                    journal.note(format_args!("{name} is paused"));
                    tasks.pause(life.process);
                    self.later(10..=40_000, Mend::Wake(at));
                }
            }
            Fault::Cut => {
                let cut = *dice.any_of(&[Cut::Silent, Cut::Refused, Cut::Answers]).expect("there is one");
                journal.note(format_args!("{name} is cut off: {cut:?}"));
                agent.weather.send_modify(|weather| weather.cut = Some((cut, Instant::now())));
                self.later(10..=30_000, Mend::Calm(at));
            }
            Fault::Rough => {
                let rough = dice.number(1..=10) as u32;
                journal.note(format_args!("link of {name} is rough: {rough}"));
                agent.weather.send_modify(|weather| weather.rough = rough);
                self.later(10..=20_000, Mend::Calm(at));
            }
            Fault::Slow => {
                let (slow, lag) = (dice.number(10..=3000) as u64, dice.number(10..=8000) as u64);
                journal.note(format_args!("link of {name} is slow: {slow} ms, {lag} ms"));
                agent.weather.send_modify(|weather| (weather.slow, weather.lag) = (slow, lag));
                self.later(10..=20_000, Mend::Calm(at));
            }
            Fault::Break => {
                journal.note(format_args!("watches of {name} break"));
                agent.weather.send_modify(|weather| weather.breaks += 1);
            }
            Fault::Silence => {
                journal.note(format_args!("watches of {name} fall silent"));
                agent.weather.send_modify(|weather| weather.silent_since = Some(Instant::now()));
            }
            Fault::StoreStops => {
                journal.note(format_args!("store stops"));
                shore.stop();
                self.later(10..=30_000, Mend::StoreStarts);
            }
            Fault::Backup => {
                journal.note(format_args!("the store is backed up"));
                self.backups.push(shore.with(|etcd| etcd.backup()));
            }
            Fault::Restore | Fault::Wipe if self.losses < MOST_LOSSES => {
                let backup = dice.any_of(&self.backups).filter(|_| fault == Fault::Restore).cloned();
                if backup.is_some() || fault == Fault::Wipe {
                    self.losses += 1;
                    journal.note(format_args!("store stops, and is to go back"));
                    shore.stop();
                    self.later(10..=10_000, Mend::StoreReturns(backup));
                }
            }
            Fault::Restore | Fault::Wipe => {}
            Fault::Compaction => shore.with(|etcd| {
                let back = dice.number(0..=20) as u64;
                etcd.compact(etcd.revision.saturating_sub(back));
            }),
            Fault::ApiServer => {
                let ids: Vec<_> = agent.reach.keys().cloned().collect();
                let id = dice.any_of(&ids).expect("it observes something");
                journal.note(format_args!("{name} does not reach {id}"));
                agent.reach[id].send_replace(false);
                self.later(10..=40_000, Mend::Reach(at, id.clone()));
            }
            Fault::Removal => {
                let source = dice.any_of(&scene.sources).expect("there are clusters");
                if self.touched.is_empty() {
                    self.touched.push(source.id.clone());
                    let back = dice.once_in(2).then(|| dice.millis(1..=30_000));
                    let (done, act) = (self.acts.clone(), act(self.around.clone(), source.id.clone(), back));
                    done.send_modify(|acts| *acts += 1);
                    tasks.spawn(WORLD, async move {
                        act.await;
                        done.send_modify(|acts| *acts -= 1);
                    });
                }
            }
            Fault::Crash => {}
        }
    }

    fn mends_one(&mut self, mend: Mend, agents: &mut [Agent]) {
        let journal = &self.around.journal;
        match mend {
            Mend::Kill(at) => {
                agents[at].kill(&self.around);
                self.later(1..=10_000, Mend::Start(at));
            }
            Mend::Start(at) if agents[at].life.is_none() => agents[at].start(&self.around),
            Mend::Start(_) => {}
            Mend::Wake(at) => {
                if let Some(life) = &agents[at].life {
                    journal.note(format_args!("{} is awake", agents[at].name));
                    self.around.tasks.go_on(life.process);
                }
            }
            Mend::Calm(at) => {
                journal.note(format_args!("link of {} is calm", agents[at].name));
                agents[at].weather.send_modify(|now| *now = Weather { breaks: now.breaks, ..Weather::calm() });
            }
            Mend::StoreStarts => {
                journal.note(format_args!("store starts"));
                self.around.shore.with(|etcd| {
                    if !etcd.up {
                        etcd.start();
                    }
                });
            }
            Mend::StoreReturns(backup) => {
                let Surroundings { shore, dice, scene, .. } = &self.around;
                scene.lose(shore.value(&Key::Generation.to_string()));
                // A restored cluster has an id of its own, a disk that is put back has not.
                let another = dice.once_in(2);
                shore.stop();
                shore.with(|etcd| etcd.restore(backup, etcd.cluster + u64::from(another)));
                scene.lose(shore.value(&Key::Generation.to_string()));
            }
            Mend::Reach(at, id) => {
                journal.note(format_args!("{} reaches {id}", agents[at].name));
                agents[at].reach[&id].send_replace(true);
            }
        }
    }
}

/// Takes a cluster out of the fleet, and back after a while. An administrator tries until it is done.
async fn act(around: Surroundings, id: ClusterId, back: Option<Duration>) {
    let (_, weather) = watch::channel(Weather::calm());
    let link = Link::new(Who { agent: ADMINISTRATOR.into(), life: 1 }, &around, weather);
    let Surroundings { journal, scene, .. } = around;
    let how = How { force: true, ..How::default() };
    journal.note(format_args!("{id} is to be removed"));
    locked(&scene.acts).insert(id.clone(), (Instant::now(), false));
    while let Err(RemovalError::Store(_) | RemovalError::Contended(_)) = remove(&link, &id, how).await {
        link.adopt();
        sleep(Duration::from_secs(1)).await;
    }
    journal.note(format_args!("{id} is removed"));
    if let Some(pause) = back {
        sleep(pause).await;
        locked(&scene.acts).insert(id.clone(), (Instant::now(), true));
        while let Err(RemovalError::Store(_) | RemovalError::Contended(_)) = readmit(&link, &id, how).await {
            link.adopt();
            sleep(Duration::from_secs(1)).await;
        }
        journal.note(format_args!("{id} is readmitted"));
        locked(&scene.acts).insert(id, (Instant::now(), true));
    }
}
