//! The clusters that this agent observes, as gathering hears of them: what is seen of each, and how far its publisher
//! has come. They come and go. Knows nothing of the store.

use crate::{
    observe::Observed,
    publish::{self, Settled},
};
use model::name::ClusterId;
use std::{collections::BTreeMap, pin::Pin, time::Duration};
use tokio::{
    sync::watch,
    time::{Sleep, sleep},
};
use tokio_stream::{StreamExt as _, StreamMap, wrappers::WatchStream};

/// How long a cluster that was never seen keeps names from being absent, from the start on. Longer, and one dead
/// cluster is everybody's SERVFAIL.
const FIRST_LOOK: Duration = Duration::from_secs(30);

/// The clusters that this agent observes.
#[derive(Clone, Debug, Default)]
pub struct OwnClusters {
    /// Whether these are all: remote Secrets may not be read yet.
    pub complete: bool,
    /// Each of them.
    pub clusters: BTreeMap<ClusterId, OwnCluster>,
}

/// A cluster that this agent observes.
#[derive(Clone, Debug)]
pub struct OwnCluster {
    /// What is seen of it.
    pub observed: watch::Receiver<Observed>,
    /// How publishing it stands.
    pub published: watch::Receiver<publish::Status>,
    /// Whether names may be absent only once it was looked at. One that is another agent's to look at is not waited for.
    pub awaited: bool,
}

/// The same, as a stream of news.
pub(super) struct Own {
    clusters: watch::Receiver<OwnClusters>,
    seen: StreamMap<ClusterId, WatchStream<Observed>>,
    published: StreamMap<ClusterId, WatchStream<publish::Status>>,
    /// Ends when clusters that were never seen have had the time to be.
    first_look: Option<Pin<Box<Sleep>>>,
}

/// What is new of the clusters that this agent observes.
pub(super) enum News {
    /// There are these now, with whether each is waited for; and whether these are all.
    Clusters(BTreeMap<ClusterId, bool>, bool),
    /// This was seen of one.
    Seen(ClusterId, Box<Observed>),
    /// Whether this agent publishes one, and how far it has come with that.
    Published(ClusterId, bool, Option<Settled>),
    /// Clusters that were never seen have had the time to be.
    FirstLookOver,
}

// === impl Own ===

impl Own {
    pub(super) fn new(mut clusters: watch::Receiver<OwnClusters>) -> Self {
        clusters.mark_changed();
        let first_look = Some(Box::pin(sleep(FIRST_LOOK)));
        Self { clusters, seen: StreamMap::new(), published: StreamMap::new(), first_look }
    }

    /// What is new; waits for it. May be dropped and called again without losing any.
    pub(super) async fn next(&mut self) -> News {
        tokio::select! {
            biased;
            Ok(()) = self.clusters.changed() => {
                let OwnClusters { complete, clusters } = self.clusters.borrow_and_update().clone();
                let gone: Vec<_> = self.seen.keys().filter(|id| !clusters.contains_key(*id)).cloned().collect();
                for id in gone {
                    self.seen.remove(&id);
                    self.published.remove(&id);
                }
                let awaited = clusters.iter().map(|(id, cluster)| (id.clone(), cluster.awaited)).collect();
                for (id, cluster) in clusters {
                    if !self.seen.contains_key(&id) {
                        self.seen.insert(id.clone(), WatchStream::new(cluster.observed));
                        self.published.insert(id, WatchStream::new(cluster.published));
                    }
                }
                News::Clusters(awaited, complete)
            }
            Some((id, seen)) = self.seen.next() => News::Seen(id, Box::new(seen)),
            () = async {
                match &mut self.first_look {
                    Some(first_look) => first_look.await,
                    None => std::future::pending().await,
                }
            } => {
                self.first_look = None;
                News::FirstLookOver
            }
            Some((id, status)) = self.published.next() => News::Published(id, status.owner, status.settled),
        }
    }
}
