//! Gather: follows the whole store and keeps the View. One read, then one watch from the next revision on; after
//! trouble it goes on from where it was, and reads everything again (mark and sweep) only where the store has
//! forgotten, or where a marker does not vouch for what is held. What cannot be known is never taken for empty. Knows
//! nothing of what a View is used for.

pub mod fold;
mod life;
mod own;

use crate::{
    backoff::Backoff,
    snapshot::{Loaded, Notes},
    store::{Batch, Entry, Snapshot, Store, StoreError, Watch},
};
use fold::{Applied, Fold, Judgement, Seats};
use life::{Restored, Seen};
use model::{generation::Generation, key::Key, name::ClusterId, view::View};
use own::{News, Own};
pub use own::{OwnCluster, OwnClusters};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// What gathering needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The zone that the hosts of virtual addresses are in.
    pub zone: Arc<str>,
    /// For how long every agent may say again what it holds, after the store was restored or emptied.
    pub grace: Duration,
    /// The same for a store that nobody is known to have used. Zero where nobody else can have.
    pub first_grace: Duration,
    /// Gives ids of generations: random ones.
    pub new_id: fn() -> String,
}

/// What gathering has come to.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// The merged state.
    pub view: View,
    /// Counts what this agent took from its own observation; zero while the store has a word on everything.
    pub local: u64,
    /// Whether a name that is not in the View can be said not to exist.
    pub complete: bool,
    /// Whether some of it is what an earlier process knew, and nothing has confirmed it to this one.
    pub begun: bool,
    /// How the store is.
    pub store: StoreHealth,
    /// Why it cannot be followed at the moment, for people.
    pub trouble: Option<String>,
    /// Keys whose values cannot be used, with the reason.
    pub quarantined: Arc<BTreeMap<String, String>>,
    /// The life of the store that is followed, and the key that says so.
    pub generation: Option<(Generation, Arc<Entry>)>,
    /// The store's own revision up to which it was followed.
    pub position: u64,
    /// Who publishes each cluster, and who could.
    pub seats: Arc<BTreeMap<ClusterId, Seats>>,
    /// Clusters that are removed from the fleet: they are not in the View.
    pub removed: Arc<BTreeSet<ClusterId>>,
    /// Clusters of which the store's word is kept aside, because no marker vouches for it.
    pub aside: Arc<BTreeSet<ClusterId>>,
    /// Clusters of which this agent uses what it sees itself.
    pub seen: Arc<BTreeSet<ClusterId>>,
}

// === impl Gathered ===

impl Gathered {
    /// Whether whoever asks gets what is known. What an earlier process knew is that too: there may be nothing else for
    /// long.
    pub fn is_ready(&self) -> bool {
        self.complete || self.begun
    }
}

/// How the store is, as far as following it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreHealth {
    /// Nothing was read yet.
    #[default]
    NeverRead,
    /// Nothing was read yet, and what an earlier process knew is used.
    Snapshot,
    /// It is followed.
    Followed,
    /// It was followed and now cannot be; the reason is for people.
    Lost(String),
}

/// What gathering begins with, and where it notes what it applies.
#[derive(Debug, Default)]
pub struct Begin {
    /// What an earlier process knew.
    pub loaded: Option<Loaded>,
    /// For a later one.
    pub notes: Notes,
}

/// Follows the store until nobody wants the result any more. `own` are the clusters that this agent observes; they
/// come and go.
pub async fn run(
    config: Config,
    store: Arc<dyn Store>,
    begin: Begin,
    own: watch::Receiver<OwnClusters>,
    gathered: watch::Sender<Gathered>,
) {
    let alone = config.first_grace.is_zero();
    let mut stage = Stage { fold: Fold::new(&config.zone), alone, seen: Seen::default(), notes: begin.notes, gathered };
    if let Some(loaded) = begin.loaded {
        stage.fold.begin(loaded);
        stage.hand_on();
    }
    let mut own = Own::new(own);
    let mut backoff = Backoff::default();
    while let Some(error) = follow(&config, &store, &mut stage, &mut own, &mut backoff).await {
        // The history ran out under a slow reader, or what was read is to be judged. What is known stays, and everything
        // is read again at once.
        if matches!(error, StoreError::Compacted(_)) {
            stage.fold.forget_position();
            continue;
        }
        if matches!(error, StoreError::WentBack(_)) {
            store.adopt();
            stage.fold.end_life();
        }
        tracing::warn!(store = ?store, %error, revision = stage.fold.view().revision(), "store lost; holding what is known");
        stage.fold.lost(error.to_string());
        stage.hand_on();
        // Own clusters stay fresh while waiting: the store may be away for long.
        let mut pause = std::pin::pin!(backoff.wait());
        loop {
            tokio::select! {
                biased;
                () = &mut pause => break,
                news = own.next() => stage.observed(news),
            }
        }
        if stage.gathered.is_closed() {
            return;
        }
    }
}

/// Reads or resumes, then follows until there is trouble; `None` when nobody wants the result any more.
async fn follow(
    config: &Config,
    store: &Arc<dyn Store>,
    stage: &mut Stage,
    own: &mut Own,
    backoff: &mut Backoff,
) -> Option<StoreError> {
    let opened = {
        let mut opening = std::pin::pin!(open(&**store, stage.fold.position()));
        loop {
            tokio::select! {
                biased;
                opened = &mut opening => break opened,
                // A store that hangs does not keep own clusters from being fresh.
                news = own.next() => stage.observed(news),
                () = stage.gathered.closed() => return None,
            }
        }
    };
    let (mut watch, missed) = match opened {
        Ok(Opened::Resumed { generation, clusters, watch }) => {
            // A store that was rolled back and has come as far again: only what it holds shows that.
            if !stage.fold.is_same_life(generation.as_ref(), &clusters) {
                return Some(StoreError::Compacted(0));
            }
            stage.fold.resume_seats(&clusters.entries);
            // Whatever concerns a View is written together with something of a cluster.
            let missed = clusters.entries.values().map(|entry| entry.modified).max();
            (watch, missed.unwrap_or_default())
        }
        Ok(Opened::Anew { all, watch }) => match stage.fold.judge(&all, &(config.new_id)()) {
            Judgement::Good => {
                stage.fold.replace(&all);
                stage.note(Note::Replaced(all));
                (watch, 0)
            }
            Judgement::Propose(generation, over) => {
                let proposed = life::propose(&**store, &generation, over.as_deref()).await;
                // Whoever was first: it is read, and judged, at once.
                return Some(proposed.err().unwrap_or(StoreError::Compacted(0)));
            }
        },
        Err(error) => return Some(error),
    };
    stage.fold.found(missed);
    tracing::info!(store = ?store, revision = stage.fold.view().revision(), "following the store");
    stage.hand_on();
    backoff.reset();
    let mut restored = Restored::new(config, store, &stage.fold, &mut stage.seen);
    loop {
        tokio::select! {
            biased;
            batch = watch.next() => match batch {
                Ok(batch) => {
                    let applied = stage.fold.apply(&batch);
                    stage.hand_on();
                    match applied {
                        Applied::All => stage.note(Note::Changed(batch)),
                        Applied::AnotherLife => return Some(StoreError::Compacted(0)),
                        Applied::Doubt(cluster) => {
                            tracing::warn!(%cluster, "records are not those that the marker speaks of; reading all again");
                            return Some(StoreError::Compacted(0));
                        }
                    }
                }
                Err(error) => return Some(error),
            },
            news = own.next() => stage.observed(news),
            outcome = restored.settle() => if let Err(error) = outcome {
                return Some(error);
            },
            // What is kept has a gap, and only reading everything closes it.
            () = stage.notes.wanted(), if !stage.fold.sets_aside() => return Some(StoreError::Compacted(0)),
            () = stage.gathered.closed() => return None,
        }
    }
}

/// How the store was opened.
enum Opened {
    /// A watch on what comes after what is known, and what it takes to tell whether it is still the same store.
    Resumed { generation: Option<Entry>, clusters: Snapshot, watch: Box<dyn Watch> },
    /// Everything as it stands, and a watch from there.
    Anew { all: Snapshot, watch: Box<dyn Watch> },
}

/// Goes on after `position`, or anew where the store no longer knows what came after it.
async fn open(store: &dyn Store, position: Option<u64>) -> Result<Opened, StoreError> {
    if let Some(position) = position {
        match store.watch(position + 1).await {
            Err(StoreError::Compacted(_)) => {}
            watch => {
                let (watch, key) = (watch?, Key::Generation.to_string());
                let generation = store.read(&key).await?.entries.remove(&key);
                let mut clusters = store.read(Key::CLUSTERS).await?;
                clusters.entries.extend(store.read(Key::TOMBSTONES).await?.entries);
                return Ok(Opened::Resumed { generation, clusters, watch });
            }
        }
    }
    let clusters = store.read(Key::CLUSTERS).await?;
    let ids = clusters.entries.keys().filter_map(|key| Key::parse(key).ok()?.owned_by().cloned());
    let all = store.read_all(&Key::borders(ids.collect::<BTreeSet<_>>().iter())).await?;
    let watch = store.watch(all.revision + 1).await?;
    Ok(Opened::Anew { all, watch })
}

/// The fold, and where its results go.
struct Stage {
    fold: Fold,
    /// Whether nobody else can have used the store.
    alone: bool,
    seen: Seen,
    notes: Notes,
    gathered: watch::Sender<Gathered>,
}

/// What was applied.
enum Note {
    Replaced(Snapshot),
    Changed(Batch),
}

// === impl Stage ===

impl Stage {
    /// Notes what was applied for a later process. While the store's word is kept aside, it is not what is used; what
    /// was used before is what a later process is to begin with.
    fn note(&self, note: Note) {
        match note {
            _ if self.fold.sets_aside() => self.notes.interrupted(),
            Note::Replaced(all) => self.notes.replaced(all),
            Note::Changed(batch) => self.notes.changed(batch),
        }
    }

    fn observed(&mut self, news: News) {
        let matters = match news {
            News::FirstLookOver => {
                self.fold.give_up_on_the_unseen(self.alone);
                true
            }
            News::Clusters(clusters, complete) => self.fold.own(&clusters, complete),
            News::Seen(id, seen) => self.fold.observed(&id, *seen),
            News::Published(id, publishes, settled) => self.fold.published(&id, publishes, settled),
        };
        if matters {
            self.hand_on();
        }
    }

    fn hand_on(&self) {
        let result = self.fold.result();
        self.notes.followed(result.store == StoreHealth::Followed);
        self.gathered.send_replace(result);
    }
}

#[cfg(test)]
mod tests;
