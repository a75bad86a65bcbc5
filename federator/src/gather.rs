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
use std::{collections::BTreeMap, sync::Arc};
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

/// Follows the store until nobody wants the result any more. `own` are the clusters that this agent observes.
pub async fn run(
    zone: Arc<str>,
    store: Arc<dyn Store>,
    own: Vec<(ClusterId, watch::Receiver<Observed>)>,
    gathered: watch::Sender<Gathered>,
) {
    let mut stage = Stage { fold: Fold::new(&zone, own.iter().map(|(id, _)| id.clone())), gathered };
    let mut own: StreamMap<_, _> = own.into_iter().map(|(id, seen)| (id, WatchStream::new(seen))).collect();
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
                Some((id, seen)) = own.next() => stage.observed(&id, seen),
            }
        }
        if stage.gathered.is_closed() {
            return;
        }
    }
}

/// Reads or resumes, then follows until there is trouble; `None` when nobody wants the result any more.
async fn follow(
    store: &dyn Store,
    stage: &mut Stage,
    own: &mut StreamMap<ClusterId, WatchStream<Observed>>,
    backoff: &mut Backoff,
) -> Option<StoreError> {
    let opened = {
        let mut opening = std::pin::pin!(open(store, stage.fold.position()));
        loop {
            tokio::select! {
                opened = &mut opening => break opened,
                // A store that hangs does not keep own clusters from being fresh.
                Some((id, seen)) = own.next() => stage.observed(&id, seen),
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
            Some((id, seen)) = own.next() => stage.observed(&id, seen),
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

/// The fold, and where its results go.
struct Stage {
    fold: Fold,
    gathered: watch::Sender<Gathered>,
}

// === impl Stage ===

impl Stage {
    fn observed(&mut self, id: &ClusterId, seen: Observed) {
        if self.fold.observed(id, seen) {
            self.hand_on();
        }
    }

    fn hand_on(&self) {
        self.gathered.send_replace(self.fold.result());
    }
}

#[cfg(test)]
mod tests;
