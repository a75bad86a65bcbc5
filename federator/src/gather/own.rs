//! The clusters that this agent observes, as gathering hears of them: what is seen of each, and how far its publisher
//! has come. They come and go. Knows nothing of the store.

use crate::{
    observe::Observed,
    publish::status::{Settled, Status},
};
use futures::StreamExt as _;
use model::name::ClusterId;
use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Sleep, sleep},
};
use tokio_stream::wrappers::WatchStream;

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
    pub published: watch::Receiver<Status>,
    /// Whether names may be absent only once it was looked at. One that is another agent's to look at is not waited for.
    pub awaited: bool,
}

/// Streams of several clusters, asked in turn: whoever had news comes last. (A `StreamMap` begins at a random one, and
/// a run of it could not be repeated.)
type Turns<T> = VecDeque<(ClusterId, WatchStream<T>)>;

/// The same, as a stream of news.
pub(super) struct Own {
    clusters: watch::Receiver<OwnClusters>,
    seen: Turns<Observed>,
    published: Turns<Status>,
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
        Self { clusters, seen: Turns::new(), published: Turns::new(), first_look }
    }

    /// What is new; waits for it. May be dropped and called again without losing any.
    pub(super) async fn next(&mut self) -> News {
        tokio::select! {
            biased;
            Ok(()) = self.clusters.changed() => {
                let OwnClusters { complete, clusters } = self.clusters.borrow_and_update().clone();
                self.seen.retain(|(id, _)| clusters.contains_key(id));
                self.published.retain(|(id, _)| clusters.contains_key(id));
                let awaited = clusters.iter().map(|(id, cluster)| (id.clone(), cluster.awaited)).collect();
                for (id, cluster) in clusters {
                    if !self.seen.iter().any(|(known, _)| *known == id) {
                        self.seen.push_back((id.clone(), WatchStream::new(cluster.observed)));
                        self.published.retain(|(known, _)| *known != id);
                        self.published.push_back((id, WatchStream::new(cluster.published)));
                    }
                }
                News::Clusters(awaited, complete)
            }
            Some((id, seen)) = poll_fn(|context| poll_next(&mut self.seen, context)) => News::Seen(id, Box::new(seen)),
            () = async {
                match &mut self.first_look {
                    Some(first_look) => first_look.await,
                    None => std::future::pending().await,
                }
            } => {
                self.first_look = None;
                News::FirstLookOver
            }
            Some((id, status)) = poll_fn(|context| poll_next(&mut self.published, context)) => News::Published(id, status.owner, status.settled),
        }
    }
}

/// The next news of any of them, and whose they are; `None` when there is nobody left to have some.
fn poll_next<T: Clone + Send + Sync + 'static>(
    turns: &mut Turns<T>,
    context: &mut Context<'_>,
) -> Poll<Option<(ClusterId, T)>> {
    for _ in 0..turns.len() {
        let Some((id, mut stream)) = turns.pop_front() else { break };
        match stream.poll_next_unpin(context) {
            Poll::Ready(None) => {}
            Poll::Ready(Some(news)) => {
                turns.push_back((id.clone(), stream));
                return Poll::Ready(Some((id, news)));
            }
            Poll::Pending => turns.push_back((id, stream)),
        }
    }
    if turns.is_empty() { Poll::Ready(None) } else { Poll::Pending }
}
