//! Gather: follows the whole store and keeps the View. One read, then one watch from the next revision on; after
//! trouble it goes on from where it was, and reads everything again (mark and sweep) only where the store has
//! forgotten. What cannot be known is never taken for empty. Knows nothing of what a View is used for.

pub mod fold;

use crate::{
    backoff::Backoff,
    observe::Observed,
    store::{Snapshot, Store, StoreError, Watch},
};
use fold::Fold;
use model::{name::ClusterId, view::View};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;
use tokio_stream::{StreamExt as _, StreamMap, wrappers::WatchStream};

/// What gathering has come to.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// The merged state.
    pub view: View,
    /// Counts what this agent took from its own observation; zero while the store has a word on everything.
    pub local: u64,
    /// Whether a name that is not in the View can be said not to exist.
    pub complete: bool,
    /// How the store is.
    pub store: StoreHealth,
    /// Keys whose values cannot be used, with the reason.
    pub quarantined: Arc<BTreeMap<String, String>>,
    /// Who owns each cluster.
    pub owners: Arc<BTreeMap<ClusterId, String>>,
    /// Clusters that are removed from the fleet: they are not in the View.
    pub removed: Arc<BTreeSet<ClusterId>>,
}

/// How the store is, as far as following it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreHealth {
    /// Nothing was read yet.
    #[default]
    NeverRead,
    /// It is followed.
    Followed,
    /// It was followed and now cannot be; the reason is for people.
    Lost(String),
}

/// The clusters that this agent observes.
#[derive(Clone, Debug, Default)]
pub struct OwnClusters {
    /// Whether these are all: remote Secrets may not be read yet.
    pub complete: bool,
    /// What is seen of each.
    pub clusters: BTreeMap<ClusterId, watch::Receiver<Observed>>,
}

/// Follows the store until nobody wants the result any more. `own` are the clusters that this agent observes; they
/// come and go.
pub async fn run(
    zone: Arc<str>,
    store: Arc<dyn Store>,
    own: watch::Receiver<OwnClusters>,
    gathered: watch::Sender<Gathered>,
) {
    let mut stage = Stage { fold: Fold::new(&zone), gathered };
    let mut own = Own { clusters: own, seen: StreamMap::new() };
    own.clusters.mark_changed();
    let mut backoff = Backoff::default();
    loop {
        let error = {
            let follow = follow(&*store, &mut stage, &mut own, &mut backoff);
            match follow.await {
                Some(error) => error,
                None => return,
            }
        };
        // The history ran out under a slow reader. What is known stays, and everything is read again at once.
        if matches!(error, StoreError::Compacted(_)) {
            stage.fold.forget_position();
            continue;
        }
        // A store that went back may catch up with our position by other writes: only reading all of it shows those.
        if matches!(error, StoreError::WentBack(_)) {
            stage.fold.forget_position();
        }
        tracing::warn!(store = ?store, %error, revision = stage.fold.view().revision(), "store lost; holding what is known");
        stage.fold.lost(error.to_string());
        stage.hand_on();
        // Own clusters stay fresh while waiting: the store may be away for long.
        let mut pause = std::pin::pin!(backoff.wait());
        loop {
            tokio::select! {
                () = &mut pause => break,
                Some(news) = own.next() => stage.observed(news),
            }
        }
        if stage.gathered.is_closed() {
            return;
        }
    }
}

/// Reads or resumes, then follows until there is trouble; `None` when nobody wants the result any more.
async fn follow(store: &dyn Store, stage: &mut Stage, own: &mut Own, backoff: &mut Backoff) -> Option<StoreError> {
    let opened = {
        let mut opening = std::pin::pin!(open(store, stage.fold.position()));
        loop {
            tokio::select! {
                opened = &mut opening => break opened,
                // A store that hangs does not keep own clusters from being fresh.
                Some(news) = own.next() => stage.observed(news),
                () = stage.gathered.closed() => return None,
            }
        }
    };
    let (snapshot, mut watch) = match opened {
        Ok(opened) => opened,
        Err(error) => return Some(error),
    };
    if let Some(snapshot) = snapshot
        && let Err(error) = stage.fold.replace(&snapshot)
    {
        return Some(error);
    }
    stage.fold.found();
    tracing::info!(store = ?store, revision = stage.fold.view().revision(), "following the store");
    stage.hand_on();
    backoff.reset();
    loop {
        tokio::select! {
            batch = watch.next() => match batch {
                Ok(batch) => {
                    stage.fold.apply(&batch);
                    stage.hand_on();
                }
                Err(error) => return Some(error),
            },
            Some(news) = own.next() => stage.observed(news),
            () = stage.gathered.closed() => return None,
        }
    }
}

/// A watch on what comes after `position`; where the store no longer knows that, everything as it stands and a watch
/// from there.
async fn open(store: &dyn Store, position: Option<u64>) -> Result<(Option<Snapshot>, Box<dyn Watch>), StoreError> {
    if let Some(position) = position {
        match store.watch(position + 1).await {
            Err(StoreError::Compacted(_)) => {}
            watch => return Ok((None, watch?)),
        }
    }
    let snapshot = store.read("").await?;
    let watch = store.watch(snapshot.revision + 1).await?;
    Ok((Some(snapshot), watch))
}

/// The clusters that this agent observes.
struct Own {
    clusters: watch::Receiver<OwnClusters>,
    seen: StreamMap<ClusterId, WatchStream<Observed>>,
}

/// What is new of the clusters that this agent observes.
enum News {
    /// There are these now, and whether these are all.
    Clusters(BTreeSet<ClusterId>, bool),
    /// This was seen of one.
    Seen(ClusterId, Box<Observed>),
}

/// The fold, and where its results go.
struct Stage {
    fold: Fold,
    gathered: watch::Sender<Gathered>,
}

// === impl Own ===

impl Own {
    /// What is new; `None` when nothing will be any more. May be dropped and called again without losing any.
    async fn next(&mut self) -> Option<News> {
        tokio::select! {
            biased;
            Ok(()) = self.clusters.changed() => {
                let OwnClusters { complete, clusters } = self.clusters.borrow_and_update().clone();
                let gone: Vec<_> = self.seen.keys().filter(|id| !clusters.contains_key(*id)).cloned().collect();
                for id in gone {
                    self.seen.remove(&id);
                }
                let ids = clusters.keys().cloned().collect();
                for (id, seen) in clusters {
                    if !self.seen.contains_key(&id) {
                        self.seen.insert(id, WatchStream::new(seen));
                    }
                }
                Some(News::Clusters(ids, complete))
            }
            Some((id, seen)) = self.seen.next() => Some(News::Seen(id, Box::new(seen))),
            else => None,
        }
    }
}

// === impl Stage ===

impl Stage {
    fn observed(&mut self, news: News) {
        let matters = match news {
            News::Clusters(clusters, complete) => self.fold.own(&clusters, complete),
            News::Seen(id, seen) => self.fold.observed(&id, *seen),
        };
        if matters {
            self.hand_on();
        }
    }

    fn hand_on(&self) {
        self.gathered.send_replace(self.fold.result());
    }
}

#[cfg(test)]
mod tests;
