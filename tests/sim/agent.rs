//! An agent: a name that lives, is killed, and lives again, each time without anything it knew before, but for what its
//! disk may hold.

use crate::{
    dice::Dice,
    journal::{Journal, locked},
    link::{Link, Shore, Weather, Who},
    stages::Stages,
    tasks::{Process, Tasks},
    witness::Scene,
};
use federator::{gather::Gathered, snapshot::Loaded};
use model::name::ClusterId;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// What outlives an agent: a snapshot, and when it was kept.
pub(crate) type Disk = Arc<Mutex<Option<(Loaded, Instant)>>>;

/// An agent, alive or not.
pub(crate) struct Agent {
    pub(crate) name: Arc<str>,
    /// The cluster it is in.
    pub(crate) home: ClusterId,
    /// The clusters that it can observe, and whether it reaches their API servers.
    pub(crate) reach: BTreeMap<ClusterId, watch::Sender<bool>>,
    pub(crate) weather: watch::Sender<Weather>,
    disk: Disk,
    pub(crate) lives: u32,
    pub(crate) life: Option<Life>,
}

/// A life of an agent.
pub(crate) struct Life {
    pub(crate) process: Process,
    pub(crate) gathered: watch::Receiver<Gathered>,
    shutdown: CancellationToken,
}

/// What all agents live in.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) journal: Journal,
    pub(crate) dice: Dice,
    pub(crate) tasks: Tasks,
    pub(crate) shore: Shore,
    pub(crate) scene: Scene,
}

// === impl Agent ===

impl Agent {
    pub(crate) fn new(name: &str, home: &ClusterId, others: impl IntoIterator<Item = ClusterId>) -> Self {
        let observes = others.into_iter().chain([home.clone()]);
        Self {
            name: name.into(),
            home: home.clone(),
            reach: observes.map(|id| (id, watch::Sender::new(true))).collect(),
            weather: watch::Sender::new(Weather::calm()),
            disk: Disk::default(),
            lives: 0,
            life: None,
        }
    }

    pub(crate) fn who(&self) -> Who {
        Who { agent: self.name.clone(), life: self.lives }
    }

    /// Starts it.
    pub(crate) fn start(&mut self, around: &Surroundings) {
        self.lives += 1;
        let who = self.who();
        around.journal.note(format_args!("{who} starts"));
        let process = around.tasks.process();
        let link = Link::new(who.clone(), around, self.weather.subscribe());
        let shutdown = CancellationToken::new();
        // The volume may be a new one.
        let loaded = around.dice.once_in(2).then(|| locked(&self.disk).clone()).flatten();
        if let Some((loaded, _)) = &loaded {
            around.journal.note(format_args!("{who} knows what was at {}", loaded.position));
        }
        let disk = self.disk.clone();
        let stages = Stages { who, process, around, store: Arc::new(link), loaded, disk, shutdown: shutdown.clone() };
        let gathered = stages.start(&self.home, &self.reach);
        self.life = Some(Life { process, gathered, shutdown });
    }

    /// Kills it.
    pub(crate) fn kill(&mut self, around: &Surroundings) {
        if let Some(life) = self.life.take() {
            around.journal.note(format_args!("{} is dead", self.who()));
            around.tasks.kill(life.process);
        }
    }
}

// === impl Life ===

impl Life {
    /// Tells it to come to an end.
    pub(crate) fn ask_to_stop(&self) {
        self.shutdown.cancel();
    }
}
