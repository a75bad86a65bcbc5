//! Taking care of clusters that nobody speaks for, after a store was restored or emptied: what is held of them is
//! written again by whoever holds it, as an owner that saw just that would, and the cluster is given up then. So agents
//! that come later know of it too. Nothing else is ever published of a cluster that is not seen.

use super::{Channels, Config};
use crate::{
    condition::Reason,
    gather::Gathered,
    observe::Observed,
    publish::{self, status::Status},
    store::Store,
};
use futures::{FutureExt as _, future::BoxFuture};
use model::{name::ClusterId, seat::Role};
use std::{collections::BTreeMap, future::poll_fn, sync::Arc, task::Poll};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Takes care until nobody gathers any more. Of `config`, the cluster is another each time.
pub async fn run(config: Config, store: Arc<dyn Store>, mut gathered: watch::Receiver<Gathered>) {
    // Polled in their order. (A `FuturesUnordered` goes by who was woken first, which is not the same in every run.)
    let mut cares: BTreeMap<ClusterId, BoxFuture<'static, ()>> = BTreeMap::new();
    loop {
        let now = gathered.borrow_and_update().clone();
        let settled = now.generation.as_ref().is_some_and(|(generation, _)| generation.settled);
        for id in now.aside.iter().filter(|id| settled && !now.removed.contains(*id)) {
            cares
                .entry(id.clone())
                .or_insert_with(|| care(of(&config, id), store.clone(), gathered.clone(), held(&now, id)).boxed());
        }
        let ended = poll_fn(|context| {
            let mut ended = cares.iter_mut().filter_map(|(id, care)| care.poll_unpin(context).is_ready().then_some(id));
            ended.next().cloned().map_or(Poll::Pending, Poll::Ready)
        });
        tokio::select! {
            biased;
            changed = gathered.changed() => if changed.is_err() {
                return;
            },
            id = ended => {
                cares.remove(&id);
            }
        }
    }
}

/// Owns one cluster for as long as it takes to write what is held of it; ends at once when somebody who sees it does.
async fn care(config: Config, store: Arc<dyn Store>, mut gathered: watch::Receiver<Gathered>, held: Observed) {
    let id = config.publish.cluster.clone();
    let (_observed, observed) = watch::channel(held);
    let status = watch::Sender::new(Status::default());
    let mut written = status.subscribe();
    let channels = Channels {
        observed,
        gathered: gathered.clone(),
        look: watch::Sender::new(false),
        doubts: watch::Sender::default(),
        status,
    };
    let stop = CancellationToken::new();
    let enough = async {
        tokio::select! {
            biased;
            _ = gathered.wait_for(|now| !now.aside.contains(&id)) => {}
            _ = written.wait_for(|status| status.settled.is_some()) => {}
        }
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(super::run(config, store, channels, stop.clone()), enough);
    if let Err(error) = ended {
        tracing::error!(cluster = %id, %error, "cannot write what is held of it");
    }
}

fn of(config: &Config, id: &ClusterId) -> Config {
    Config {
        agent: format!("{}/caretaker", config.agent),
        role: Role::Caretaker,
        publish: publish::Config { cluster: id.clone(), is_memory: true, ..config.publish.clone() },
        ..config.clone()
    }
}

/// What is held of a cluster, as if it were seen. Nothing of it is news.
fn held(gathered: &Gathered, id: &ClusterId) -> Observed {
    let known = gathered.view.clusters().get(id).cloned().unwrap_or_default();
    let mut held = Observed {
        meta: known.meta.unwrap_or_default(),
        source_version: known.synced.map(|synced| synced.source_version).unwrap_or_default(),
        synced: true,
        // What else stands there may be as true.
        partial: true,
        frozen_since: Some(Instant::now()),
        ..Observed::default()
    };
    let why = "nobody sees the cluster since the store was lost; what was known of it is kept";
    held.conditions.set(Reason::Unattended, Some(why.to_owned()));
    for (key, service) in gathered.view.services().iter() {
        if let Some((_, export)) = service.exports.iter().find(|(exporter, _)| exporter == id) {
            held.exports.set(key.clone(), Some(export.clone()));
        }
    }
    held
}
