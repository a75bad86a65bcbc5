//! Publish: keeps the records of one cluster in the store equal to what was observed there, as long as this agent owns
//! the cluster. One transaction in flight, every transaction fenced by the owner key, the marker, the tombstone and the
//! generation; what changes meanwhile coalesces, because a transaction is planned from the latest observation. Knows
//! nothing of Kubernetes, nor of how a cluster is owned.

pub mod batch;
pub mod brake;
pub mod hold;
pub mod ledger;
pub mod plan;
pub mod rest;
pub mod seeds;
pub mod status;

use crate::{
    backoff::Backoff,
    gather::Gathered,
    observe::{Observed, object::ObjectName},
    store::{Committed, Store, StoreError},
};
use batch::Batch;
use hold::Holding;
use ledger::{Ledger, Surprise};
use model::{
    name::{ClusterId, ServiceKey},
    tracked::Since,
    vip::VipRanges,
};
use rest::Resting;
use seeds::Sown;
use status::{Settled, Status};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// What one publisher needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster it publishes.
    pub cluster: ClusterId,
    /// The zone that the hosts of virtual addresses are in.
    pub zone: Arc<str>,
    /// Where virtual addresses come from.
    pub vips: VipRanges,
    /// What time it is, for what people read, and for how long endpoints were held by others before.
    pub clock: fn() -> SystemTime,
    /// How long endpoints are held at most that a comparison of everything would withdraw.
    pub hold: Duration,
    /// How long a service that is gone keeps its place in its order, and its virtual addresses.
    pub rest: Duration,
    /// Which addresses hosts had before.
    pub seeds: Sown,
    /// Whether what is observed is what was held of a store that is lost: then there is nothing to do where anybody has
    /// said since what there is.
    pub is_memory: bool,
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
    /// The cluster uses addresses that are to be virtual ones.
    #[error("cluster `{id}`: {why}")]
    VipsOverlap {
        /// The cluster.
        id: ClusterId,
        /// Which addresses, and what to do.
        why: String,
    },
}

/// Why publishing ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Going on would harm another cluster.
    Fatal(PublishError),
    /// The store does not do what it is asked to.
    Store(StoreError),
    /// The owner key is another's, or gone.
    Deposed,
    /// The store was restored or emptied, or somebody wrote past the owner, or too much was missed of what is observed:
    /// what stands there is to be read again.
    Reread,
    /// The tombstone is not what it was.
    Buried,
    /// Nobody observes any more.
    Done,
}

/// Refuses to publish under an id that is pinned to another cluster.
///
/// # Errors
/// [`PublishError::IdTaken`]; a source without a uid is never refused.
pub fn check_uid(cluster: &ClusterId, pinned: &str, ours: &str) -> Result<(), PublishError> {
    if pinned.is_empty() || ours.is_empty() || pinned == ours {
        return Ok(());
    }
    Err(PublishError::IdTaken { id: cluster.clone(), pinned: pinned.to_owned(), ours: ours.to_owned() })
}

/// Brings the store to the latest observation, again and again, in the tenure that began with the write of the owner
/// key at `epoch`. `doubts` says which objects the source is to be asked for one by one.
pub async fn run(
    config: &Config,
    store: &dyn Store,
    epoch: u64,
    mut observed: watch::Receiver<Observed>,
    mut gathered: watch::Receiver<Gathered>,
    doubts: &watch::Sender<Arc<BTreeSet<ObjectName>>>,
    status: &watch::Sender<Status>,
) -> Ended {
    let (mut ledger, stood) = match Ledger::read(store, &config.cluster, epoch).await {
        Ok(read) => read,
        Err(error) => return Ended::Store(error),
    };
    if ledger.is_removed() {
        return Ended::Buried;
    }
    if !ledger.is_owner() {
        return Ended::Deposed;
    }
    if config.is_memory && ledger.is_said() {
        return Ended::Done;
    }
    // Said soon, whatever comes of asking; and an address that is given out stays.
    _ = config.seeds.clone().wait_for(Option::is_some).await;
    if let (Some(meta), uid) = (ledger.meta(), &observed.borrow().meta.uid)
        && let Err(error) = check_uid(&config.cluster, &meta.uid, uid)
    {
        return Ended::Fatal(error);
    }
    let mut holding = Holding::new(stood);
    let mut resting = Resting::new(config.rest);
    let mut seen = 0;
    let mut swept = false;
    // What the store is to be told of. A transaction settles some of it; all of it is looked at once and not for each.
    let mut todo = BTreeSet::new();
    loop {
        if let Some(ended) = heed(&config.cluster, &mut ledger, &gathered.borrow_and_update()) {
            return ended;
        }
        let now = observed.borrow_and_update().clone();
        if ledger.is_said_since() {
            if let Err(error) = ledger.read_shared(store).await {
                return Ended::Store(error);
            }
            // Among it may be places that had been given up.
            resting.see(&ledger, &now, ledger.places());
        }
        let mut news: BTreeSet<ServiceKey> = match now.exports.since(seen) {
            Since::Changes(changes) => changes.into_iter().map(|(key, _)| key.clone()).collect(),
            // That would be a comparison of everything with what this owner wrote itself.
            Since::Everything => return Ended::Reread,
        };
        // Only a comparison with everything finds what an earlier owner left behind.
        if !swept && !now.partial {
            news.extend(ledger.services().cloned());
            resting.see(&ledger, &now, ledger.places());
            swept = true;
        }
        seen = now.exports.sequence();
        resting.see(&ledger, &now, &news);
        let released = holding.see(config, &mut ledger, &now, &news);
        todo.extend(news);
        todo.extend(released);
        holding.say(config, &now, doubts, status);
        let rested = resting.rested(&ledger, &now);
        match plan::batch(config, &ledger, &now, holding.held(), &todo, rested) {
            Some(batch) => match commit(config, store, &mut ledger, batch, status).await {
                Ok(settled) => {
                    // Only now is what went no longer in the store.
                    resting.see(&ledger, &now, &settled);
                    for key in &settled {
                        todo.remove(key);
                    }
                }
                Err(ended) => return ended,
            },
            None => {
                if ledger.is_settled() {
                    todo.clear();
                    let settled = Some(Settled { sequence: seen, revision: ledger.marker().modified });
                    status.send_if_modified(|status| std::mem::replace(&mut status.settled, settled) != settled);
                }
                tokio::select! {
                    biased;
                    changed = observed.changed() => if changed.is_err() {
                        return Ended::Done;
                    },
                    changed = gathered.changed() => if changed.is_err() {
                        return Ended::Done;
                    },
                    () = holding.over() => {}
                    () = resting.over() => {}
                }
            }
        }
    }
}

/// What is gathered tells of what concerns a publisher that has nothing to write: every write finds it out by itself.
fn heed(cluster: &ClusterId, ledger: &mut Ledger, gathered: &Gathered) -> Option<Ended> {
    if gathered.removed.contains(cluster) {
        return Some(Ended::Buried);
    }
    let known = ledger.generation().map(|known| known.id.clone());
    if let Some((generation, _)) = &gathered.generation {
        // If it is what was gathered that is late, it is soon not so any more.
        if known.as_ref() != Some(&generation.id) {
            return Some(Ended::Reread);
        }
        if generation.settled {
            ledger.settle();
        }
    }
    let stands = gathered.view.clusters().get(cluster).and_then(|known| known.hold.as_ref());
    if let (Some(hold), Some(known)) = (stands.filter(|hold| hold.accepted), &ledger.hold().value)
        && hold.set == known.set
        && hold.endpoints == known.endpoints
    {
        ledger.accept_hold();
    }
    // Whoever follows the store finds other records there than this owner's marker speaks of.
    let marker = ledger.marker();
    let is_ours = marker.synced.epoch == ledger.epoch() && marker.fits;
    let is_aside = gathered.aside.contains(cluster);
    // Or another marker: a store that went back to just before it, and has come as far again, is not told otherwise.
    let known_there = gathered.view.clusters().get(cluster).and_then(|known| known.synced.as_ref());
    let is_other = is_aside || known_there != Some(&marker.synced);
    let is_lost = gathered.position >= marker.modified && is_other;
    // Of a marker that is older than the store's present life nobody expects otherwise: it is about to be written anew.
    let is_of_this_life = known.is_some_and(|known| known == marker.synced.generation);
    (is_ours && is_lost && is_of_this_life).then_some(Ended::Reread)
}

/// Commits a batch until it is known what became of it. The services it settles; none when the store held something
/// unexpected, which the ledger knows now, so that planning again takes it into account.
async fn commit(
    config: &Config,
    store: &dyn Store,
    ledger: &mut Ledger,
    batch: Batch,
    status: &watch::Sender<Status>,
) -> Result<BTreeSet<ServiceKey>, Ended> {
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
                Surprise::AnotherLife | Surprise::Overwritten => return Err(Ended::Reread),
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
mod tests {
    use super::*;
    use crate::{
        store::{Entry, Txn, embedded::Embedded},
        testing::{id, now},
    };
    use model::{generation::Generation, record::Record as _};

    #[test]
    fn another_life_of_the_store_is_another_whatever_its_revisions_are() {
        let store = Embedded::new();
        let generation = |id: &str| Generation { id: id.into(), base: 0, settled: true, ..Generation::default() };
        let writes = vec![("generation".to_owned(), Some(generation("first").encode()))];
        now(store.commit(&Txn { writes, ..Txn::default() })).expect("it is there");
        let (mut ledger, _) = now(Ledger::read(&store, &id("east"), 1)).expect("it is there");
        for (life, modified, expected) in [
            ("first", 2, None),
            ("first", 3, None),
            ("second", 1, Some(Ended::Reread)),
            ("second", 3, Some(Ended::Reread)),
        ] {
            let entry = Entry { value: generation(life).encode(), created: modified, modified };
            let gathered = Gathered { generation: Some((generation(life), entry.into())), ..Gathered::default() };
            assert_eq!(heed(&id("east"), &mut ledger, &gathered), expected, "{life} {modified}");
        }
    }
}
