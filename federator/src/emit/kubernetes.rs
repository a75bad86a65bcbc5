//! Objects in the agent's own cluster, by server-side apply, of the one agent that is elected to write there. What is there
//! is watched, so that an object is compared without asking, and put right when somebody changes it. One write in flight an
//! object, at a pace; what changes meanwhile goes out as one. Istio need not be there yet, and may go.

mod claims;
mod election;
mod emitter;
pub mod named;
mod pace;
mod served;
mod waiting;
mod withheld;
mod write;

use super::{
    Status,
    object::{Desired, Kind, ObjectKey},
    plan::Actual,
};
use crate::{backoff::Backoff, kubernetes::follow::Selection};
use election::{Candidate, Term};
use emitter::Emitter;
use futures::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, FuturesUnordered, SelectAll},
};
use kube::Client;
use model::tracked::Tracked;
use serde_json::Value;
use served::Names;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use write::{Written, key_of, there};

/// How long writes may take that are on their way when the agent is stopped.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// What emitting needs.
pub struct Config {
    /// A client of the cluster's API server.
    pub client: Client,
    /// The agent's name in the fleet.
    pub agent: String,
    /// The root namespace of the mesh: what is written there is for all.
    pub namespace: Arc<str>,
    /// The namespace of the Lease by which it is settled who writes.
    pub lease_namespace: String,
    /// Whether nothing is written, and only said what would be.
    pub dry_run: bool,
    /// What time it is.
    pub clock: fn() -> SystemTime,
}

/// Keeps the cluster's objects equal to what is desired, until told to stop.
pub async fn run(
    config: Config,
    mut desired: watch::Receiver<Tracked<ObjectKey, Desired>>,
    status: watch::Sender<Status>,
    shutdown: CancellationToken,
) {
    let Config { client, agent, namespace, lease_namespace, dry_run, clock } = config;
    // Nothing is desired until the first projection; deleting before it would be believing in emptiness.
    tokio::select! {
        () = shutdown.cancelled() => return,
        changed = desired.changed() => if changed.is_err() {
            return;
        }
    }
    let mut emitter = Emitter::new(client.clone(), namespace, dry_run, status);
    emitter.want(desired.borrow_and_update().clone());
    let candidate = Candidate { client: client.clone(), namespace: lease_namespace, agent, clock };
    // What would be written may be said by any agent.
    let mut terms = if dry_run { stream::pending().boxed() } else { election::terms(candidate.clone()) };
    let mut term = Term::default();
    let news =
        |kind: Kind| served::news(&client, kind.into(), Selection::default()).map(move |news| (kind, news)).boxed();
    let mut news: SelectAll<_> = Kind::ALL.into_iter().map(news).collect();
    let mut writes: FuturesUnordered<BoxFuture<'static, Written>> = FuturesUnordered::new();
    let mut backoff = Backoff::default();
    let mut pause: BoxFuture<'static, ()> = Box::pin(std::future::pending());
    loop {
        let is_writer = dry_run || term.until.is_some_and(|until| Instant::now() < until);
        if is_writer {
            emitter.start(&mut writes);
        }
        emitter.report(&term, is_writer);
        let look = emitter.next_look().filter(|_| is_writer);
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = desired.changed() => {
                if changed.is_err() {
                    break;
                }
                emitter.want(desired.borrow_and_update().clone());
            }
            Some(now) = terms.next() => term = now,
            Some((kind, news)) = news.next() => emitter.hear(kind, news),
            Some(written) = writes.next() => match emitter.written(written) {
                None => backoff.reset(),
                // What failed is tried again together, after a pause: an API server does not say when it will take it.
                Some(asked) => if emitter.has_failed_once() {
                    pause = Box::pin(tokio::time::sleep(backoff.pause().max(asked)));
                }
            },
            () = &mut pause, if emitter.has_failed() => emitter.try_again(),
            () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {}
        }
    }
    // What is on its way is done before another one begins; what is not done soon will find itself outdated.
    let drained = async {
        while let Some(written) = writes.next().await {
            emitter.written(written);
        }
    };
    let _ = timeout(LAST_WRITES, drained).await;
    if !dry_run {
        candidate.release().await;
    }
}

/// All objects of the kinds that are emitted, as they are now, and what each says.
///
/// # Errors
/// Why that cannot be known, and what to do.
pub async fn found(client: &Client) -> Result<BTreeMap<ObjectKey, (Actual, Value)>, String> {
    let mut all = BTreeMap::new();
    for kind in Kind::ALL {
        for mut object in served::list(client, kind.into()).await? {
            all.insert(key_of(kind, &object), (there(&object).actual, object.data["spec"].take()));
        }
    }
    Ok(all)
}

impl From<Kind> for Names {
    fn from(kind: Kind) -> Self {
        Self { kind: kind.as_str(), plural: kind.plural() }
    }
}
