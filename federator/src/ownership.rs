//! Ownership: of all agents that could publish a cluster, one does. Carries out what the [rules] say, by transactions on
//! the owner key and by a candidate key that tells the others; publishes while the cluster is this agent's. What is
//! known of the others comes from what is gathered. Knows nothing of what is observed, but whether it can be trusted.

pub mod caretaker;
pub mod rules;

use crate::{
    backoff::Backoff,
    condition::{Conditions, Reason},
    gather::{Gathered, StoreHealth, fold::Seats},
    observe::{Observed, object::ObjectName},
    publish::{self, Ended, PublishError, check_uid, status::Status},
    store::{Committed, Guard, Lease, LeaseId, Store, StoreError, Txn},
};
use model::{
    cluster::Synced,
    key::Key,
    name::ClusterId,
    record::Record as _,
    seat::{Candidate, Owner, Role},
};
use rules::{Act, Decision, Rules, Sight, Situation, Timing};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeSet, future::pending, pin::pin, sync::Arc};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Who owned the cluster for so many times what it takes to hand it back did not lose it soon.
const STEADY: u32 = 8;

/// What one agent's part in one cluster needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent's name, unique in the fleet.
    pub agent: String,
    /// What it is to the cluster.
    pub role: Role,
    /// How long things must last.
    pub timing: Timing,
    /// What publishing needs.
    pub publish: publish::Config,
}

/// What it hears, and what it says.
#[derive(Clone, Debug)]
pub struct Channels {
    /// What is seen of the cluster.
    pub observed: watch::Receiver<Observed>,
    /// What is gathered.
    pub gathered: watch::Receiver<Gathered>,
    /// Whether the cluster is to be looked at.
    pub look: watch::Sender<bool>,
    /// The objects that are to be asked for one by one.
    pub doubts: watch::Sender<Arc<BTreeSet<ObjectName>>>,
    /// How publishing stands.
    pub status: watch::Sender<Status>,
}

/// This agent's part in a cluster.
struct Part {
    config: Config,
    store: Arc<dyn Store>,
    channels: Channels,
    rules: Rules,
    /// What its keys are bound to, while it stands or owns.
    lease: Option<Box<dyn Lease>>,
    /// What its candidate key says.
    stands: Option<(Candidate, u64)>,
    /// The write of the owner key that made it the owner.
    epoch: Option<u64>,
    /// What was gathered of owners up to this revision is known to be past.
    past: u64,
    /// The life of the store that these revisions are of.
    life: Option<Arc<str>>,
    /// The owner that was gathered last, though it may be gone; its epoch, and since when it was known.
    last: Option<(Owner, u64, Instant)>,
    /// What went wrong last, until something goes right.
    trouble: Option<String>,
    backoff: Backoff,
}

/// Takes part in who publishes a cluster until `shutdown`, and publishes it meanwhile where that is this agent's to do;
/// the cluster is given up then, so that a successor need not wait.
///
/// # Errors
/// [`PublishError`], when going on would harm another cluster.
pub async fn run(
    config: Config,
    store: Arc<dyn Store>,
    channels: Channels,
    shutdown: CancellationToken,
) -> Result<(), PublishError> {
    // Anything that is the same everywhere for one agent and one cluster, and spread evenly.
    let share = Sha256::new().chain_update(&config.agent).chain_update(config.publish.cluster.as_str()).finalize()[0];
    let rules = Rules::new(config.timing, share);
    let mut part = Part {
        config,
        store,
        channels,
        rules,
        lease: None,
        stands: None,
        epoch: None,
        past: 0,
        life: None,
        last: None,
        trouble: None,
        backoff: Backoff::default(),
    };
    let ended = shutdown.run_until_cancelled(part.take_part()).await;
    part.give_up().await;
    ended.unwrap_or(Ok(()))
}

/// The uid that the store knows a cluster by. What this agent saw itself pins nothing.
pub fn pinned<'a>(gathered: &'a Gathered, cluster: &ClusterId) -> Option<&'a str> {
    let known = gathered.view.clusters().get(cluster)?;
    known.synced.as_ref().and(known.meta.as_ref()).map(|meta| &*meta.uid)
}

// === impl Part ===

impl Part {
    async fn take_part(&mut self) -> Result<(), PublishError> {
        loop {
            let gathered = self.latest();
            self.check(&gathered)?;
            let decision = self.decide(&gathered);
            let done = match &decision.act {
                Act::Keep | Act::HandTo(..) => self.keep().await?,
                Act::Take => self.take().await,
                Act::Wait => self.stand(&decision).await,
            };
            match done {
                Ok(()) if matches!(decision.act, Act::Wait) => {
                    self.backoff.reset();
                    self.trouble = None;
                    self.something_happens(&decision).await;
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(cluster = %self.cluster(), %error, "publishing interrupted");
                    self.trouble = Some(error.to_string());
                    self.pause().await;
                }
            }
        }
    }

    fn cluster(&self) -> &ClusterId {
        &self.config.publish.cluster
    }

    /// Refuses to go on when the id is another cluster's.
    fn check(&self, gathered: &Gathered) -> Result<(), PublishError> {
        match pinned(gathered, self.cluster()) {
            Some(pinned) => check_uid(self.cluster(), pinned, &self.channels.observed.borrow().meta.uid),
            None => Ok(()),
        }
    }

    fn latest(&mut self) -> Gathered {
        self.channels.gathered.borrow_and_update().clone()
    }

    /// What the rules say of the moment.
    fn decide(&mut self, gathered: &Gathered) -> Decision {
        let id = self.cluster().clone();
        let unknown = Seats::default();
        let seats = gathered.seats.get(&id).unwrap_or(&unknown);
        let followed = gathered.store == StoreHealth::Followed && gathered.generation.is_some();
        self.notice_life(gathered);
        self.notice_owner(seats, gathered);
        self.notice_candidate(seats, gathered);
        let known = gathered.view.clusters().get(&id);
        let sight = self.sight(gathered);
        let decision = self.rules.decide(&Situation {
            now: Instant::now(),
            role: self.config.role,
            agent: &self.config.agent,
            owns: self.epoch.is_some(),
            seats: followed.then_some(seats),
            frozen: known.and_then(|cluster| cluster.state.as_ref()).is_some_and(|state| state.frozen),
            said: known.and_then(|cluster| cluster.synced.as_ref()).is_some_and(Synced::is_complete)
                && !gathered.aside.contains(&id)
                && !gathered.seen.contains(&id),
            removed: gathered.removed.contains(&id),
            sight,
        });
        self.channels.look.send_if_modified(|look| std::mem::replace(look, decision.look) != decision.look);
        self.say(seats, gathered);
        decision
    }

    /// Forgets revisions of an earlier life of the store: they cannot be compared with those of this one.
    fn notice_life(&mut self, gathered: &Gathered) {
        let life = gathered.generation.as_ref().map(|(generation, _)| &generation.id);
        if life.is_some() && life != self.life.as_ref() {
            (self.epoch, self.past, self.last, self.stands) = (None, 0, None, None);
            self.life = life.cloned();
        }
    }

    /// Whether the owner key is this agent's, as far as was gathered.
    fn notice_owner(&mut self, seats: &Seats, gathered: &Gathered) {
        if let Some((owner, epoch)) = &seats.owner
            && self.last.as_ref().is_none_or(|(_, known, _)| known != epoch)
        {
            self.last = Some((owner.clone(), *epoch, Instant::now()));
        }
        let lease = self.lease.as_ref().map(|lease| lease.id().0);
        match &seats.owner {
            Some((owner, epoch)) if lease == Some(owner.lease) && *epoch > self.past => self.epoch = Some(*epoch),
            // What was gathered may be of a time before this agent took the cluster.
            _ if self.epoch.is_some_and(|epoch| gathered.position >= epoch) => {
                tracing::warn!(cluster = %self.cluster(), "no longer owner");
                self.epoch = None;
            }
            _ => {}
        }
    }

    /// A candidate key that is not there, though it must have been gathered, is to be written again.
    fn notice_candidate(&mut self, seats: &Seats, gathered: &Gathered) {
        let there = seats.candidates.get(self.config.agent.as_str());
        let is_lost = |(stands, written): (Candidate, u64)| gathered.position >= written && there != Some(&stands);
        if self.stands.is_some_and(is_lost) {
            self.stands = None;
        }
    }

    /// What this agent sees of the cluster, and whether that is enough.
    fn sight(&self, gathered: &Gathered) -> Sight {
        let seen = self.channels.observed.borrow();
        if !seen.synced {
            return Sight::None;
        }
        // A caretaker writes what it holds, and sees nothing.
        if let Some(since) = seen.frozen_since.filter(|_| self.config.role != Role::Caretaker) {
            return Sight::Blind(since);
        }
        if self.epoch.is_some() || self.has_reached(&seen.source_version, gathered) {
            Sight::Clear
        } else {
            Sight::None
        }
    }

    /// Whether who has seen this much can say what is gone; an operator may say so too.
    fn has_reached(&self, source_version: &str, gathered: &Gathered) -> bool {
        let known = gathered.view.clusters().get(self.cluster());
        let accepted = known.and_then(|cluster| cluster.hold.as_ref()).is_some_and(|hold| hold.accepted);
        accepted
            || known
                .and_then(|cluster| cluster.synced.as_ref())
                .is_none_or(|marker| marker.is_reached_by(source_version))
    }

    /// Whether this agent was handed the cluster though it sees less than was there: what it said of itself was late.
    fn is_behind(&self, epoch: u64) -> bool {
        let gathered = self.channels.gathered.borrow();
        let marker = gathered.view.clusters().get(self.cluster()).and_then(|cluster| cluster.synced.as_ref());
        let is_ours =
            marker.is_some_and(|marker| marker.epoch == epoch && Some(&marker.generation) == self.life.as_ref());
        let seen = self.channels.observed.borrow();
        self.config.role != Role::Caretaker && !is_ours && !self.has_reached(&seen.source_version, &gathered)
    }

    /// Says who publishes, when it is not this agent, and why nobody can be.
    fn say(&self, seats: &Seats, gathered: &Gathered) {
        if self.epoch.is_some() {
            return;
        }
        self.channels.doubts.send_if_modified(|doubts| !std::mem::take(doubts).is_empty());
        let mut conditions = Conditions::default();
        let removed = gathered
            .removed
            .contains(self.cluster())
            .then(|| format!("removed from the fleet; `federator cluster readmit {}` takes it back", self.cluster()));
        conditions.set(Reason::Removed, removed);
        let seen = self.channels.observed.borrow();
        if seen.synced && seen.frozen_since.is_none() && self.sight(gathered) == Sight::None {
            let why = "its API server shows an earlier state than the store knows of; nothing is withdrawn by it";
            conditions.set(Reason::Behind, Some(why.to_owned()));
        }
        drop(seen);
        let standing_by_for = seats.owner.as_ref().map(|(owner, _)| owner.agent.clone());
        let trouble = self.trouble.clone().or_else(|| gathered.trouble.clone());
        let now = Status { standing_by_for, trouble, conditions, ..Status::default() };
        self.channels.status.send_if_modified(|status| {
            let differs = *status != now;
            *status = now;
            differs
        });
    }

    /// Waits for whatever may change a decision.
    async fn something_happens(&mut self, decision: &Decision) {
        let lost = async {
            match &mut self.lease {
                Some(lease) => lease.lost().await,
                None => pending().await,
            }
        };
        let again = async {
            match decision.again {
                Some(again) => sleep_until(again).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            why = lost => {
                tracing::warn!(cluster = %self.config.publish.cluster, why, "the lease is lost");
                self.forget_lease();
            }
            () = again => {}
            changed = self.channels.gathered.changed() => if changed.is_err() { pending().await },
            changed = self.channels.observed.changed() => if changed.is_err() { pending().await },
        }
    }

    fn forget_lease(&mut self) {
        (self.lease, self.stands, self.epoch) = (None, None, None);
    }

    /// Gives up the lease, and all keys with it.
    async fn give_up(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.forget_lease();
            lease.revoke().await;
        }
    }

    /// Makes the candidate key what it is to be.
    async fn stand(&mut self, decision: &Decision) -> Result<(), StoreError> {
        let Some(qualified) = decision.stand else {
            self.give_up().await;
            return Ok(());
        };
        let lease = self.lease().await?;
        let candidate = Candidate { role: self.config.role, qualified, lease: lease.0 };
        if self.stands.is_some_and(|(stands, _)| stands == candidate) {
            return Ok(());
        }
        let key = Key::Candidate(self.cluster().clone(), self.config.agent.as_str().into()).to_string();
        let leased = vec![(key, candidate.encode(), lease)];
        if let Committed::Done(written) = self.commit(Txn { leased, ..Txn::default() }).await? {
            self.stands = Some((candidate, written));
        }
        Ok(())
    }

    async fn lease(&mut self) -> Result<LeaseId, StoreError> {
        if let Some(lease) = &self.lease {
            return Ok(lease.id());
        }
        let lease = self.store.lease().await?;
        let id = lease.id();
        self.lease = Some(lease);
        Ok(id)
    }

    /// A lease that is refused has run out unnoticed.
    async fn commit(&mut self, txn: Txn) -> Result<Committed, StoreError> {
        let store = self.store.clone();
        let committed = self.keeping(store.commit(&txn)).await;
        if let Err(StoreError::Refused(_)) = &committed {
            self.forget_lease();
        }
        committed
    }

    async fn pause(&mut self) {
        let pause = self.backoff.pause();
        self.keeping(sleep(pause)).await;
    }

    /// Does something, and keeps the lease meanwhile: what takes long must not cost it.
    async fn keeping<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        while let Some(lease) = &mut self.lease {
            tokio::select! {
                biased;
                done = &mut work => return done,
                why = lease.lost() => {
                    tracing::warn!(cluster = %self.config.publish.cluster, why, "the lease is lost");
                    self.forget_lease();
                }
            }
        }
        work.await
    }

    /// Takes the cluster, if it is still vacant.
    async fn take(&mut self) -> Result<(), StoreError> {
        let lease = self.lease().await?;
        let generation = self.channels.gathered.borrow().generation.as_ref().map(|(_, entry)| entry.value.clone());
        let key = Key::Owner(self.cluster().clone()).to_string();
        let owner = self.owner(self.config.agent.clone(), self.config.role, lease);
        let txn = Txn {
            guards: vec![
                Guard::absent(&key),
                Guard::holds(Key::Generation.to_string(), generation.unwrap_or_default()),
            ],
            leased: vec![(key, owner.encode(), lease)],
            ..Txn::default()
        };
        match self.commit(txn).await? {
            Committed::Done(epoch) => {
                tracing::info!(cluster = %self.cluster(), epoch, role = %self.config.role, "owner of the cluster");
                self.epoch = Some(epoch);
            }
            // Somebody was faster, which is about to be gathered.
            Committed::Refused(_) => self.pause().await,
        }
        Ok(())
    }

    /// What the owner key says of this agent, or of whom it hands the cluster to.
    fn owner(&self, agent: String, role: Role, lease: LeaseId) -> Owner {
        let flaps = self.last.as_ref().map_or(0, |(last, _, since)| match (last.role, role) {
            (Role::Home, Role::Home) => last.flaps,
            // It is handed back once more.
            (_, Role::Home) => last.flaps + 1,
            (Role::Home, _) if since.elapsed() >= self.config.timing.hand_back_after * STEADY => 0,
            _ => last.flaps,
        });
        let uid = self.channels.observed.borrow().meta.uid.to_string();
        Owner { agent, uid, lease: lease.0, role, flaps }
    }

    /// Publishes until this agent is no longer the owner, or hands the cluster on.
    async fn keep(&mut self) -> Result<Result<(), StoreError>, PublishError> {
        let Some(epoch) = self.epoch else { return Ok(Ok(())) };
        if self.is_behind(epoch) {
            tracing::warn!(cluster = %self.cluster(), "handed a cluster of which the store knows more than is seen; giving it up");
            self.give_up().await;
            self.past = epoch;
            self.pause().await;
            return Ok(Ok(()));
        }
        let life = self.life.clone();
        let Channels { observed, gathered, doubts, status, .. } = self.channels.clone();
        status.send_replace(Status { owner: true, ..Status::default() });
        let (store, config) = (self.store.clone(), self.config.publish.clone());
        let mut publishing = pin!(publish::run(&config, &*store, epoch, observed, gathered, &doubts, &status));
        let ended = loop {
            let gathered = self.latest();
            let decision = self.decide(&gathered);
            if self.epoch != Some(epoch) {
                break Ended::Deposed;
            }
            if let Act::HandTo(agent, candidate) = decision.act {
                return Ok(self.hand_to(&agent, candidate, epoch).await);
            }
            tokio::select! {
                biased;
                ended = &mut publishing => break ended,
                () = self.something_happens(&decision) => {}
            }
        };
        match ended {
            Ended::Fatal(error) => Err(error),
            Ended::Store(error) => Ok(Err(error)),
            Ended::Deposed | Ended::Buried | Ended::Reread | Ended::Done => {
                if ended == Ended::Deposed && self.life == life {
                    (self.epoch, self.past) = (None, epoch);
                }
                self.channels.status.send_replace(Status::default());
                // What made it end is about to be gathered.
                self.pause().await;
                Ok(Ok(()))
            }
        }
    }

    /// Hands the cluster on in one transaction: nobody finds it vacant.
    async fn hand_to(&mut self, agent: &str, candidate: Candidate, epoch: u64) -> Result<(), StoreError> {
        let key = Key::Owner(self.cluster().clone()).to_string();
        let owner = self.owner(agent.to_owned(), candidate.role, LeaseId(candidate.lease));
        let txn = Txn {
            guards: vec![Guard::modified(&key, epoch)],
            leased: vec![(key, owner.encode(), LeaseId(candidate.lease))],
            ..Txn::default()
        };
        let store = self.store.clone();
        if let Committed::Done(_) = self.keeping(store.commit(&txn)).await? {
            tracing::info!(cluster = %self.cluster(), successor = agent, "handed the cluster on");
        }
        (self.epoch, self.past) = (None, epoch);
        self.channels.status.send_replace(Status::default());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
