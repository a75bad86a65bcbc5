//! Publish: keeps the records of one cluster in the store equal to what was observed there. One owner at a time,
//! one transaction in flight, every transaction fenced by the owner key and the marker; what changes meanwhile
//! coalesces, because a transaction is planned from the latest observation. Knows nothing of Kubernetes.

pub mod batch;
pub mod ledger;
pub mod plan;

use crate::{
    backoff::Backoff,
    condition::{Conditions, Reason},
    observe::Observed,
    store::{Committed, Guard, Lease, Store, StoreError, Txn},
};
use batch::Batch;
use ledger::{Known, Ledger, Surprise};
use model::{
    cluster::{Meta, Tombstone},
    key::Key,
    name::ClusterId,
    record::Record as _,
    seat::{Owner, Role},
    tracked::Since,
    vip::VipRanges,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

/// The pause between two looks at the tombstone of a cluster that has nothing to write: a removal is seen about this
/// late. Every write looks by itself.
const LOOK: Duration = Duration::from_secs(5);

/// What one publisher needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster it publishes.
    pub cluster: ClusterId,
    /// The agent's name, unique in the fleet.
    pub agent: String,
    /// The zone that the hosts of virtual addresses are in.
    pub zone: Arc<str>,
    /// Where virtual addresses come from.
    pub vips: VipRanges,
}

/// How publishing stands, for people and for whoever must know who owns the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether this agent is the owner.
    pub owner: bool,
    /// The agent that is the owner instead, when that is known.
    pub standing_by_for: Option<String>,
    /// What is wrong, for people.
    pub trouble: Option<String>,
    /// What is wrong, by name.
    pub conditions: Conditions,
}

/// Why publishing ended for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Another cluster has this id.
    #[error(
        "cluster id `{id}` is taken: the store knows another cluster by it, with uid {pinned}, and this one has uid \
         {ours}; give this one another id (`clusters[].id`)"
    )]
    IdTaken {
        /// The id both have.
        id: ClusterId,
        /// The uid in the store.
        pinned: String,
        /// The uid observed here.
        ours: String,
    },
}

/// Why a tenure ended.
enum Ended {
    Fatal(PublishError),
    Store(StoreError),
    /// The owner key or the marker is not what it should be.
    Deposed,
    /// The tombstone is not what it was.
    Buried,
    /// The cluster is removed from the fleet.
    Removed,
    /// It is time to stop, or nobody observes any more.
    Done,
}

/// Publishes until `shutdown`; the cluster is given up then, so that a successor need not wait.
///
/// # Errors
/// [`PublishError`], when going on would harm another cluster.
pub async fn run(
    config: Config,
    store: Arc<dyn Store>,
    mut observed: watch::Receiver<Observed>,
    status: watch::Sender<Status>,
    shutdown: CancellationToken,
) -> Result<(), PublishError> {
    // The first complete observation says what the cluster is; before it there is nothing to publish.
    let first = shutdown.run_until_cancelled(observed.wait_for(|seen| seen.synced));
    if !matches!(first.await, Some(Ok(_))) {
        return Ok(());
    }
    let mut backoff = Backoff::default();
    loop {
        let trouble = match tenure(&config, &*store, &mut observed, &status, &shutdown).await {
            Ended::Done => return Ok(()),
            Ended::Fatal(error) => return Err(error),
            Ended::Deposed => "another agent took over".to_owned(),
            Ended::Buried => "the cluster was removed from the fleet or readmitted".to_owned(),
            Ended::Removed => {
                removed(&config, &status);
                if shutdown.run_until_cancelled(sleep(LOOK)).await.is_none() {
                    return Ok(());
                }
                continue;
            }
            Ended::Store(error) => error.to_string(),
        };
        tracing::warn!(cluster = %config.cluster, trouble, "publishing interrupted");
        if status.borrow().owner {
            backoff.reset();
        }
        status.send_replace(Status { trouble: Some(trouble), ..Status::default() });
        if shutdown.run_until_cancelled(backoff.wait()).await.is_none() {
            return Ok(());
        }
    }
}

/// Says that the cluster is removed, and when that is new, whose act it takes to change that.
fn removed(config: &Config, status: &watch::Sender<Status>) {
    let mut conditions = Conditions::default();
    let message = format!("removed from the fleet; `federator cluster readmit {}` takes it back", config.cluster);
    conditions.set(Reason::Removed, Some(message.clone()));
    let now = Status { trouble: Some(message), conditions, ..Status::default() };
    if *status.borrow() != now {
        tracing::warn!(cluster = %config.cluster, "the cluster is removed from the fleet; nothing of it is published");
        status.send_replace(now);
    }
}

/// Becomes the owner, and publishes until that ends.
async fn tenure(
    config: &Config,
    store: &dyn Store,
    observed: &mut watch::Receiver<Observed>,
    status: &watch::Sender<Status>,
    shutdown: &CancellationToken,
) -> Ended {
    let uid = observed.borrow().meta.uid.to_string();
    match look_before(config, store, &uid).await {
        Ok(Some(owner)) => {
            tracing::info!(cluster = %config.cluster, owner, "standing by");
            status.send_replace(Status { standing_by_for: Some(owner), ..Status::default() });
        }
        Ok(None) => {}
        Err(ended) => return ended,
    }
    let (mut tenure, epoch) = match shutdown.run_until_cancelled(campaign(config, store, &uid)).await {
        Some(Ok(tenure)) => tenure,
        Some(Err(error)) => return Ended::Store(error),
        None => return Ended::Done,
    };
    // Looked at again: while this agent stood by, the owner may have pinned another uid.
    if let Err(ended) = look_before(config, store, &uid).await {
        tenure.revoke().await;
        return ended;
    }
    tracing::info!(cluster = %config.cluster, epoch, "owner of the cluster");
    status.send_replace(Status { owner: true, ..Status::default() });
    let ended = tokio::select! {
        reason = tenure.lost() => {
            tracing::warn!(cluster = %config.cluster, epoch, reason, "no longer owner");
            Ended::Deposed
        }
        ended = publish(config, store, epoch, observed, status) => ended,
        () = shutdown.cancelled() => Ended::Done,
    };
    tenure.revoke().await;
    ended
}

/// Waits until nobody owns the cluster, and makes it ours; the revision of the owner key is the fence.
async fn campaign(config: &Config, store: &dyn Store, uid: &str) -> Result<(Box<dyn Lease>, u64), StoreError> {
    let key = Key::Owner(config.cluster.clone()).to_string();
    loop {
        let lease = store.lease().await?;
        let (agent, uid, role) = (config.agent.clone(), uid.to_owned(), Role::Home);
        let owner = Owner { agent, uid, lease: lease.id().0, role, flaps: 0 }.encode();
        let txn =
            Txn { guards: vec![Guard::absent(&key)], leased: vec![(key.clone(), owner, lease.id())], ..Txn::default() };
        if let Committed::Done(epoch) = store.commit(&txn).await? {
            return Ok((lease, epoch));
        }
        lease.revoke().await;
        let seen = store.read(&key).await?;
        if seen.entries.contains_key(&key) {
            let mut watch = store.watch(seen.revision + 1).await?;
            while !watch.next().await?.changes.contains(&(key.clone(), None)) {}
        }
    }
}

/// Refuses to publish a cluster that is removed, and under an id that is pinned to another cluster; says who the owner is now, if anybody is.
async fn look_before(config: &Config, store: &dyn Store, ours: &str) -> Result<Option<String>, Ended> {
    let tombstone = look(config, store).await.map_err(Ended::Store)?;
    if tombstone.value.is_some_and(|tombstone| tombstone.removed) {
        return Err(Ended::Removed);
    }
    let (meta, owner) = (Key::Meta(config.cluster.clone()), Key::Owner(config.cluster.clone()));
    let found = store.read(&format!("clusters/{}/", config.cluster)).await.map_err(Ended::Store)?;
    let value = |key: &Key| found.entries.get(&key.to_string()).map(|entry| entry.value.as_slice());
    let pinned = value(&meta).and_then(|bytes| Meta::decode(bytes).ok()).map(|meta| meta.uid.to_string());
    match pinned {
        Some(pinned) if !pinned.is_empty() && !ours.is_empty() && pinned != ours => {
            Err(Ended::Fatal(PublishError::IdTaken { id: config.cluster.clone(), pinned, ours: ours.to_owned() }))
        }
        _ => Ok(value(&owner).and_then(|bytes| Owner::decode(bytes).ok()).map(|owner| owner.agent)),
    }
}

/// The tombstone as it stands in the store.
async fn look(config: &Config, store: &dyn Store) -> Result<Known<Option<Tombstone>>, StoreError> {
    let key = Key::Tombstone(config.cluster.clone()).to_string();
    let mut found = store.read(&key).await?;
    Ok(match found.entries.remove(&key) {
        Some(entry) => Known { value: Tombstone::decode(&entry.value).ok(), modified: entry.modified },
        None => Known::default(),
    })
}

/// Brings the store to the latest observation, again and again.
async fn publish(
    config: &Config,
    store: &dyn Store,
    epoch: u64,
    observed: &mut watch::Receiver<Observed>,
    status: &watch::Sender<Status>,
) -> Ended {
    let mut ledger = match Ledger::read(store, &config.cluster, epoch).await {
        Ok(ledger) => ledger,
        Err(error) => return Ended::Store(error),
    };
    if ledger.is_removed() {
        return Ended::Removed;
    }
    // Whatever else happens meanwhile: a cluster that is observed is never quiet for long.
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    let mut seen = 0;
    let mut swept = false;
    let mut todo = BTreeSet::new();
    loop {
        let now = observed.borrow_and_update().clone();
        match now.exports.since(seen) {
            Since::Changes(changes) => todo.extend(changes.into_iter().map(|(key, _)| key.clone())),
            Since::Everything => {
                todo.extend(now.exports.iter().map(|(key, _)| key.clone()));
                swept = false;
            }
        }
        // Only a comparison with everything finds what an earlier owner left behind.
        if !swept && !now.partial {
            todo.extend(ledger.services().cloned());
            swept = true;
        }
        seen = now.exports.sequence();
        match plan::batch(config, &ledger, &now, &todo) {
            Some(batch) => match commit(config, store, &mut ledger, batch, status).await {
                Ok(settled) => todo.retain(|key| !settled.contains(key)),
                Err(ended) => return ended,
            },
            None => {
                todo.clear();
                tokio::select! {
                    changed = observed.changed() => if changed.is_err() {
                        return Ended::Done;
                    },
                    _ = looks.tick() => match look(config, store).await {
                        Ok(found) if found.modified != ledger.tombstone().modified => return Ended::Buried,
                        // A store that does not answer is noticed by the next write.
                        _ => {}
                    },
                }
            }
        }
    }
}

/// Commits a batch until it is known what became of it. The services it settles; none when the store held something
/// unexpected, which the ledger knows now, so that planning again takes it into account.
async fn commit(
    config: &Config,
    store: &dyn Store,
    ledger: &mut Ledger,
    batch: Batch,
    status: &watch::Sender<Status>,
) -> Result<BTreeSet<model::name::ServiceKey>, Ended> {
    let mut backoff = Backoff::default();
    loop {
        match store.commit(&batch.txn).await {
            Ok(Committed::Done(revision)) => {
                tracing::debug!(cluster = %config.cluster, revision, writes = batch.txn.writes.len(), "published");
                status.send_if_modified(|status| status.trouble.take().is_some());
                ledger.apply(&batch, revision);
                return Ok(batch.settles);
            }
            Ok(Committed::Refused(found)) => match ledger.learn(&batch, &found) {
                // The answer to an earlier try was lost, but the try was not.
                Surprise::DoneAlready(revision) => {
                    status.send_if_modified(|status| status.trouble.take().is_some());
                    ledger.apply(&batch, revision);
                    return Ok(batch.settles);
                }
                Surprise::NotOwner => return Err(Ended::Deposed),
                Surprise::Buried => return Err(Ended::Buried),
                Surprise::Learned => return Ok(BTreeSet::new()),
            },
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(cluster = %config.cluster, %error, "store does not answer; trying again");
                status.send_modify(|status| status.trouble = Some(error.to_string()));
                backoff.wait().await;
            }
            Err(error) => return Err(Ended::Store(error)),
        }
    }
}

#[cfg(test)]
mod tests;
