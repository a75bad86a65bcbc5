//! Who watches one life of an agent, and compares every View with what was seen before and with what there really is.
//! Nothing that is up may go, nothing may go back, and what is given out stays.

use crate::{
    agent::{Disk, Surroundings},
    dice::Dice,
    journal::{Journal, locked},
    link::{Shore, Who},
    source::Source,
    stages::ZONE,
    world,
};
use federator::{
    gather::{Gathered, StoreHealth, fold::Fold},
    ownership::rules::Timing,
    snapshot::Loaded,
};
use model::{
    cluster::SetHash,
    export::Address,
    generation::Generation,
    merge::Service,
    name::{ClusterId, ServiceKey},
    record::Record as _,
    view::View,
    vip::Vip,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Longer than any run: nothing is given up in it.
pub(crate) const LONG: Duration = Duration::from_secs(86_400);

/// By generation and revision: who saw it first, and what.
type Seen = BTreeMap<(Arc<str>, u64), (Who, SetHash, String)>;

/// What there really is, and what all witnesses know together.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) sources: Arc<Vec<Source>>,
    /// What was seen at each revision.
    revisions: Arc<Mutex<Seen>>,
    /// When an administrator last did something to a cluster, and whether it was to take it back.
    pub(crate) acts: Arc<Mutex<BTreeMap<ClusterId, (Instant, bool)>>>,
    /// The generations in which the store went back, while nobody had noticed.
    spoiled: Arc<Mutex<BTreeSet<Arc<str>>>>,
    went_back: Arc<AtomicBool>,
    /// Whether somebody has begun without knowing anything after that.
    forgot: Arc<AtomicBool>,
    pub(crate) timing: Timing,
    pub(crate) grace: Duration,
    pub(crate) first_grace: Duration,
    /// How long a service that is gone keeps its addresses.
    pub(crate) rest: Duration,
}

/// A watcher of one life.
pub(crate) struct Witness {
    who: Who,
    scene: Scene,
    shore: Shore,
    journal: Journal,
    dice: Dice,
    disk: Disk,
    started: Instant,
    /// When that was kept which it began with, until it was seen.
    known_since: Option<Instant>,
    /// Whether it has followed the store.
    has_read: bool,
    view: View,
    /// When each was first seen, of what is there now.
    pods: BTreeMap<(ClusterId, ServiceKey, IpAddr), Instant>,
    names: BTreeMap<(ClusterId, ServiceKey), Instant>,
    vips: BTreeMap<ServiceKey, Vip>,
    /// Who was seen in front of whom, and in which generation.
    orders: BTreeMap<(ServiceKey, ClusterId, ClusterId), Arc<str>>,
    removed: BTreeSet<ClusterId>,
}

// === impl Scene ===

impl Scene {
    pub(crate) fn new(sources: Vec<Source>, dice: &Dice) -> Self {
        let seconds = |range| Duration::from_secs(dice.number(range) as u64);
        let timing =
            Timing { deputy_after: seconds(2..=10), resign_after: seconds(4..=15), hand_back_after: seconds(1..=10) };
        let (grace, first_grace) = (seconds(5..=20), seconds(1..=3));
        let rest = if dice.once_in(2) { seconds(10..=40) } else { LONG };
        Self {
            sources: Arc::new(sources),
            revisions: Arc::default(),
            acts: Arc::default(),
            spoiled: Arc::default(),
            went_back: Arc::default(),
            forgot: Arc::default(),
            timing,
            grace,
            first_grace,
            rest,
        }
    }

    pub(crate) fn source(&self, id: &ClusterId) -> &Source {
        self.sources.iter().find(|source| source.id == *id).expect("one of the sources")
    }

    /// The store goes back; what stands behind the key of the generation until then.
    pub(crate) fn lose(&self, generation: Option<Vec<u8>>) {
        self.went_back.store(true, Ordering::Relaxed);
        let generation = generation.and_then(|value| Generation::decode(&value).ok());
        locked(&self.spoiled).extend(generation.map(|generation| generation.id));
    }

    /// Whether the store ever went back.
    pub(crate) fn went_back(&self) -> bool {
        self.went_back.load(Ordering::Relaxed)
    }

    /// Whether an administrator did something to a cluster after something was seen there.
    fn was_touched(&self, id: &ClusterId, seen: Instant) -> bool {
        locked(&self.acts).get(id).is_some_and(|(act, _)| *act + crate::eye::SEEN * 3 >= seen)
    }
}

// === impl Witness ===

impl Witness {
    pub(crate) fn new(who: Who, around: &Surroundings, disk: Disk, known_since: Option<Instant>) -> Self {
        let Surroundings { journal, shore, scene, dice, .. } = around.clone();
        Self {
            who,
            scene,
            shore,
            journal,
            dice,
            disk,
            started: Instant::now(),
            known_since,
            has_read: false,
            view: View::default(),
            pods: BTreeMap::new(),
            names: BTreeMap::new(),
            vips: BTreeMap::new(),
            orders: BTreeMap::new(),
            removed: BTreeSet::new(),
        }
    }

    /// Watches until the agent is dead.
    pub(crate) async fn watch(mut self, mut gathered: watch::Receiver<Gathered>) {
        while gathered.changed().await.is_ok() {
            let now = gathered.borrow_and_update().clone();
            self.sees(&now);
        }
    }

    fn sees(&mut self, now: &Gathered) {
        let Gathered { view, local, complete, store, .. } = now;
        let (revision, services) = (view.revision(), view.services().len());
        let who = self.who.clone();
        self.journal.note(format_args!("{who} sees {revision}+{local}: {services} services, {complete}, {store:?}"));
        if revision < self.view.revision() {
            self.broken(format_args!("goes back from {} to {revision}", self.view.revision()));
        }
        if *store == StoreHealth::Followed && !self.has_read {
            self.has_read = true;
            self.scene.forgot.fetch_or(self.scene.went_back(), Ordering::Relaxed);
        }
        // What it began with may be gone since, and there again.
        let since = self.known_since.take().unwrap_or_else(Instant::now);
        self.compare(now, since);
        if *complete {
            self.misses_nothing(now);
        }
        self.brings_nothing_back(now);
        if *local == 0 && now.aside.is_empty() {
            self.agrees(now);
        }
        self.keep(now);
        self.view = view.clone();
    }

    /// Goes through what changed; what is new was there `since`.
    fn compare(&mut self, now: &Gathered, since: Instant) {
        let before = self.view.clone();
        for (key, service) in now.view.services().iter() {
            let old = before.services().get(key);
            if old.is_none_or(|old| !Arc::ptr_eq(old, service)) {
                self.changed(key, old.map(|old| &**old), Some(service), now, since);
            }
        }
        for (key, old) in before.services().iter().filter(|(key, _)| now.view.services().get(key).is_none()) {
            self.changed(key, Some(old), None, now, since);
        }
    }

    fn changed(
        &mut self,
        key: &ServiceKey,
        old: Option<&Service>,
        new: Option<&Service>,
        now: &Gathered,
        since: Instant,
    ) {
        let (was, is) = (pods(old), pods(new));
        for (id, pod) in was.difference(&is) {
            let seen = self.pods.remove(&(id.clone(), key.clone(), *pod)).unwrap_or(self.started);
            let up = self.scene.source(id).look().borrow().pod_since(key, *pod);
            if up.is_some_and(|since| since <= seen) && !self.may_go(id, seen, now) {
                self.broken(format_args!("loses {pod} of {key} in {id}, which is up"));
            }
        }
        for (id, pod) in is.difference(&was) {
            self.pods.insert((id.clone(), key.clone(), *pod), since);
        }
        let (was, is) = (exporters(old), exporters(new));
        for id in was.difference(&is) {
            let seen = self.names.remove(&(id.clone(), key.clone())).unwrap_or(self.started);
            if self.scene.source(id).look().borrow().is_older(key, seen) && !self.may_go(id, seen, now) {
                self.broken(format_args!("loses {key} of {id}, which exists"));
            }
        }
        for id in is.difference(&was) {
            self.names.insert((id.clone(), key.clone()), since);
        }
        let Some(new) = new else { return };
        let is_given_up = self.shore.with(|etcd| etcd.law.is_given_up(key));
        if let Some(vip) = new.vip {
            let first = *self.vips.entry(key.clone()).or_insert(vip);
            if first != vip && !is_given_up {
                self.broken(format_args!("moves {key} from {first:?} to {vip:?}"));
            }
        }
        if is_given_up {
            return;
        }
        if let (0, Some((generation, _))) = (now.local, &now.generation) {
            self.keeps_order(key, new, generation, &now.aside);
        }
    }

    /// Whether what was seen of a cluster may go, because somebody took the cluster away.
    fn may_go(&self, id: &ClusterId, seen: Instant, now: &Gathered) -> bool {
        now.removed.contains(id) || self.scene.was_touched(id, seen)
    }

    fn keeps_order(&mut self, key: &ServiceKey, service: &Service, life: &Generation, aside: &BTreeSet<ClusterId>) {
        // Until a generation is settled everybody has its own, beside what others say.
        if !life.settled {
            return;
        }
        // What is only held has no place among those that this life of the store knows of.
        let said: Vec<_> = service.exports.iter().map(|(id, _)| id).filter(|id| !aside.contains(*id)).collect();
        for (n, front) in said.iter().enumerate() {
            for back in &said[n + 1..] {
                let reverse = (key.clone(), (*back).clone(), (*front).clone());
                if let Some(of) = self.orders.remove(&reverse) {
                    // Who remembers a lost store may come when others have begun anew: that is another generation.
                    if of == life.id || !self.scene.forgot.load(Ordering::Relaxed) {
                        self.broken(format_args!("puts {front} in front of {back} for {key}"));
                    }
                }
                self.orders.insert((key.clone(), (*front).clone(), (*back).clone()), life.id.clone());
            }
        }
    }

    /// What was in the store before this life began must be known to who says that it knows everything.
    fn misses_nothing(&self, now: &Gathered) {
        let published = self.shore.with(|etcd| etcd.law.published().clone());
        for ((id, key), since) in published {
            let exists = since < self.started && self.scene.source(&id).look().borrow().is_older(&key, since);
            let known = now.view.services().get(&key).is_some_and(|service| exports(service, &id));
            if exists && !known && !self.may_go(&id, since, now) {
                self.broken(format_args!("does not know {key} of {id}, and says that it knows everything"));
            }
        }
    }

    fn brings_nothing_back(&mut self, now: &Gathered) {
        for id in &self.removed {
            let readmitted = locked(&self.scene.acts).get(id).is_some_and(|(_, back)| *back);
            if !now.removed.contains(id) && !readmitted {
                self.broken(format_args!("brings {id} back, which is removed"));
            }
        }
        self.removed.extend(now.removed.iter().cloned());
    }

    /// Whoever is at one revision holds the same.
    fn agrees(&self, now: &Gathered) {
        let (Gathered { view, .. }, Some((generation, _))) = (now, &now.generation) else { return };
        // Until a loss is noticed one number is that of two states, and then everybody holds what it has until all is said.
        if !generation.settled || locked(&self.scene.spoiled).contains(&generation.id) {
            return;
        }
        let digest = view.digest();
        let mut revisions = locked(&self.scene.revisions);
        let text = || if self.journal.is_kept() { view.canonical() } else { String::new() };
        let (who, first, before) = revisions
            .entry((generation.id.clone(), view.revision()))
            .or_insert_with(|| (self.who.clone(), digest, text()));
        if *first != digest {
            let now = text();
            self.broken(format_args!("holds not what {who} held at {}:\n{before}\nbut\n{now}", view.revision()));
        }
    }

    /// Keeps what is known, at times, where that is what stands in the store now: a snapshot is a little late at any time.
    fn keep(&self, now: &Gathered) {
        if now.store != StoreHealth::Followed || !now.aside.is_empty() || now.local != 0 || !self.dice.once_in(4) {
            return;
        }
        let all = self.shore.with(|etcd| (etcd.revision == now.position).then(|| etcd.read("")));
        let Some(all) = all else { return };
        // One number may be that of two states.
        let mut fold = Fold::new(&ZONE.into());
        fold.replace(&all);
        if fold.view().digest() == now.view.digest() {
            let (position, entries) = (all.revision, all.entries.into_iter().collect());
            *locked(&self.disk) = Some((Loaded { position, written: world::clock(), entries }, Instant::now()));
        }
    }

    fn broken(&self, what: std::fmt::Arguments<'_>) {
        self.journal.fail(format_args!("{} {what}", self.who));
    }
}

fn pods(service: Option<&Service>) -> BTreeSet<(ClusterId, IpAddr)> {
    let exports = service.into_iter().flat_map(|service| &service.exports);
    let pods = exports.flat_map(|(id, export)| {
        export.endpoints().filter_map(|member| match member.endpoint.address {
            Address::Ip(pod) => Some((id.clone(), pod)),
            _ => None,
        })
    });
    pods.collect()
}

fn exporters(service: Option<&Service>) -> BTreeSet<ClusterId> {
    service.into_iter().flat_map(|service| &service.exports).map(|(id, _)| id.clone()).collect()
}

fn exports(service: &Service, id: &ClusterId) -> bool {
    service.exports.iter().any(|(known, _)| known == id)
}
