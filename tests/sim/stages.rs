//! How an agent is put together: the stages of the daemon, as its composition root starts them, over a link to the store
//! and eyes on its clusters. The only file that knows.

use crate::{
    agent::{Disk, Surroundings},
    eye::Eye,
    link::Who,
    tasks::{Process, WORLD},
    witness::Witness,
    world,
};
use federator::{
    gather::{self, Begin, Gathered, OwnCluster, OwnClusters},
    observe::Observed,
    ownership::{self, caretaker},
    publish::{self, status::Status},
    snapshot::Loaded,
    store::Store,
};
use model::{name::ClusterId, seat::Role, vip::VipRanges};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// The zone of all hosts.
pub(crate) const ZONE: &str = "global";

/// What an agent is put together from.
pub(crate) struct Stages<'a> {
    pub(crate) who: Who,
    pub(crate) process: Process,
    pub(crate) around: &'a Surroundings,
    pub(crate) store: Arc<dyn Store>,
    /// What an earlier life knew, and since when.
    pub(crate) loaded: Option<(Loaded, Instant)>,
    /// Where this one keeps what it knows.
    pub(crate) disk: Disk,
    pub(crate) shutdown: CancellationToken,
}

// === impl Stages ===

impl Stages<'_> {
    /// Starts all of them for an agent that is in `home` and reaches these clusters; hands out what is gathered.
    pub(crate) fn start(
        &self,
        home: &ClusterId,
        reach: &BTreeMap<ClusterId, watch::Sender<bool>>,
    ) -> watch::Receiver<Gathered> {
        let (gathered, seen) = watch::channel(Gathered::default());
        let mut clusters = BTreeMap::new();
        for (id, reach) in reach {
            let role = if id == home { Role::Home } else { Role::Deputy };
            let (look, looked) = watch::channel(false);
            let observed = self.observe(id, reach, looked);
            let channels = ownership::Channels {
                observed: observed.clone(),
                gathered: seen.clone(),
                look,
                doubts: watch::Sender::default(),
                status: watch::Sender::default(),
            };
            let published = channels.status.subscribe();
            self.tell(id, published.clone());
            self.own(id, role, channels);
            clusters.insert(id.clone(), OwnCluster { observed, published, awaited: role == Role::Home });
        }
        self.care(home, seen.clone());
        self.gather(OwnClusters { complete: true, clusters }, gathered);
        let known_since = self.loaded.as_ref().map(|(_, since)| *since);
        let witness = Witness::new(self.who.clone(), self.around, self.disk.clone(), known_since);
        self.around.tasks.spawn(WORLD, witness.watch(seen.clone()));
        seen
    }

    fn run(&self, stage: impl Future<Output = ()> + Send + 'static) {
        self.around.tasks.spawn(self.process, stage);
    }

    /// Looks at a cluster while that is wanted. Whoever does not look any more has seen nothing.
    fn observe(
        &self,
        id: &ClusterId,
        reach: &watch::Sender<bool>,
        mut look: watch::Receiver<bool>,
    ) -> watch::Receiver<Observed> {
        let (observed, seen) = watch::channel(Observed::default());
        let (source, dice, reach) = (self.around.scene.source(id).clone(), self.around.dice.clone(), reach.subscribe());
        let mut eye = Eye { source, reach, observed, dice };
        let (who, id, journal) = (self.who.clone(), id.clone(), self.around.journal.clone());
        self.run(async move {
            while look.wait_for(|look| *look).await.is_ok() {
                journal.note(format_args!("{who} looks at {id}"));
                tokio::select! {
                    biased;
                    ended = look.wait_for(|look| !look) => if ended.is_err() { return },
                    () = eye.run() => {}
                }
                journal.note(format_args!("{who} looks at {id} no more"));
                eye.observed.send_replace(Observed::default());
            }
        });
        seen
    }

    fn own(&self, id: &ClusterId, role: Role, channels: ownership::Channels) {
        let config = self.owning(id, role);
        let owning = ownership::run(config, self.store.clone(), channels, self.shutdown.clone());
        let (who, id, journal) = (self.who.clone(), id.clone(), self.around.journal.clone());
        self.run(async move {
            if let Err(error) = owning.await {
                journal.fail(format_args!("{who} does not publish {id}: {error}"));
            }
        });
    }

    /// Takes care of what nobody speaks for.
    fn care(&self, home: &ClusterId, gathered: watch::Receiver<Gathered>) {
        self.run(caretaker::run(self.owning(home, Role::Caretaker), self.store.clone(), gathered));
    }

    fn owning(&self, id: &ClusterId, role: Role) -> ownership::Config {
        let vips = VipRanges::new("240.64.0.0/24".parse().expect("a net"), "fd66::/112".parse().expect("a net"));
        let (cluster, zone) = (id.clone(), ZONE.into());
        let (vips, hold, rest) = (vips.expect("good ranges"), Duration::from_secs(60), self.around.scene.rest);
        let seeds = watch::Sender::new(Some(Arc::default())).subscribe();
        let publish = publish::Config { cluster, zone, vips, hold, rest, seeds, clock: world::clock, is_memory: false };
        ownership::Config { agent: self.who.agent.to_string(), role, timing: self.around.scene.timing, publish }
    }

    fn gather(&self, own: OwnClusters, gathered: watch::Sender<Gathered>) {
        let (grace, first_grace) = (self.around.scene.grace, self.around.scene.first_grace);
        // Of the thread's generator, as the daemon's are.
        let new_id = || format!("{:08x}", fastrand::u32(..));
        let (_, own) = watch::channel(own);
        let loaded = self.loaded.as_ref().map(|(loaded, _)| loaded.clone());
        let begin = Begin { loaded, ..Begin::default() };
        let config = gather::Config { zone: ZONE.into(), grace, first_grace, new_id };
        self.run(gather::run(config, self.store.clone(), begin, own, gathered));
    }

    /// Notes how publishing stands.
    fn tell(&self, id: &ClusterId, mut published: watch::Receiver<Status>) {
        let (who, id, journal) = (self.who.clone(), id.clone(), self.around.journal.clone());
        self.around.tasks.spawn(WORLD, async move {
            while published.changed().await.is_ok() {
                let Status { owner, standing_by_for, settled, trouble, conditions } = &*published.borrow_and_update();
                let other = standing_by_for.as_deref().unwrap_or("nobody");
                let what = if *owner { "this agent" } else { other };
                let trouble = trouble.as_deref().unwrap_or("no trouble");
                journal.note(format_args!("{who} on {id}: owned by {what}, {trouble}, {settled:?}, {conditions:?}"));
            }
        });
    }
}
