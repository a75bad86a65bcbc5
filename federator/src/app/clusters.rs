//! The clusters of this agent: those of its configuration, and those that remote Secrets name, as they come, change
//! and go. Each has a task of its own ([`one`](super::one)); here they are started and stopped. The trouble of one is
//! not the others'.

use super::{
    AppError, Ended,
    one::{Claims, One, Reached},
};
use crate::{
    api::Own,
    config::{self, Place, Source, rules::ExportRules},
    gather::{Gathered, OwnCluster, OwnClusters},
    kubernetes::{client, client::Connector, kubeconfig::Access},
    membership::{
        removal,
        roster::{Member, Roster},
        secret::Digest,
    },
    observe::Observed,
    publish::{self, seeds::Sown},
    store::Store,
};
use anyhow::Context as _;
use model::{name::ClusterId, seat::Role};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// Starts and stops what observes and publishes each cluster.
pub(super) struct Clusters {
    config: Arc<config::Config>,
    store: Arc<dyn Store>,
    gathered: watch::Receiver<Gathered>,
    /// Which addresses hosts had before.
    seeds: Sown,
    /// For gathering.
    seen: watch::Sender<OwnClusters>,
    /// For people, and for whoever must know who owns a cluster.
    own: watch::Sender<BTreeMap<ClusterId, Own>>,
    /// Which cluster has which uid: one cluster under two ids would be there twice.
    claims: Claims,
    running: BTreeMap<ClusterId, Running>,
    tasks: JoinSet<(ClusterId, Result<(), publish::PublishError>)>,
    /// Clusters that left, and whose records go after a while.
    drains: JoinSet<()>,
    draining: HashMap<ClusterId, CancellationToken>,
    rules: watch::Receiver<ExportRules>,
    clock: fn() -> SystemTime,
    shutdown: CancellationToken,
}

/// A cluster whose task runs.
struct Running {
    stop: CancellationToken,
    /// How it is reached; nobody reaches a directory.
    connectors: Option<watch::Sender<Connector>>,
    /// Of the Secret's kubeconfig, where there is one.
    digest: Option<Digest>,
}

/// What the clusters are told.
pub(super) struct Inlets {
    pub(super) gathered: watch::Receiver<Gathered>,
    pub(super) seeds: Sown,
}

/// What the clusters hand on.
pub(super) struct Outlets {
    pub(super) seen: watch::Sender<OwnClusters>,
    pub(super) own: watch::Sender<BTreeMap<ClusterId, Own>>,
}

// === impl Clusters ===

impl Clusters {
    pub(super) fn new(
        config: Arc<config::Config>,
        store: Arc<dyn Store>,
        inlets: Inlets,
        outlets: Outlets,
        rules: watch::Receiver<ExportRules>,
        clock: fn() -> SystemTime,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            config,
            store,
            gathered: inlets.gathered,
            seeds: inlets.seeds,
            seen: outlets.seen,
            own: outlets.own,
            claims: watch::Sender::default(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            drains: JoinSet::new(),
            draining: HashMap::new(),
            rules,
            clock,
            shutdown,
        }
    }

    /// Starts the clusters of the configuration.
    pub(super) async fn start_configured(&mut self) -> Result<(), AppError> {
        for cluster in self.config.clone().clusters.iter() {
            let reached = match &cluster.source {
                Source::Directory(path) => Reached::Directory(path.clone()),
                Source::Kubernetes(typed) => {
                    let connector = client::connector(typed).await;
                    let (sender, connectors) =
                        watch::channel(connector.with_context(|| format!("cluster {}: kubernetes", cluster.id))?);
                    self.start(&cluster.id, Reached::ApiServer(connectors), Place::of(cluster));
                    self.note(&cluster.id, Some(sender), None);
                    continue;
                }
            };
            self.start(&cluster.id, reached, Place::of(cluster));
            self.note(&cluster.id, None, None);
        }
        self.seen.send_modify(|seen| seen.complete = self.config.membership.is_none());
        Ok(())
    }

    /// Follows the roster of remote Secrets, until it is time to stop.
    pub(super) async fn run(mut self, mut roster: watch::Receiver<Roster<Access>>) -> Ended {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(ended) = self.tasks.join_next() => {
                    let (id, outcome) = ended.map_err(|panic| anyhow::anyhow!("the task of a cluster died: {panic}"))?;
                    self.ended(&id, outcome)?;
                }
                Some(_) = self.drains.join_next() => {}
                Ok(()) = roster.changed() => {
                    let now = roster.borrow_and_update().clone();
                    self.reconcile(now);
                }
            }
        }
        // Every publisher has something to give up.
        self.running.values().for_each(|running| running.stop.cancel());
        while self.tasks.join_next().await.is_some() {}
        Ok("clusters")
    }

    fn reconcile(&mut self, roster: Roster<Access>) {
        let configured = |id: &ClusterId| self.config.clusters.iter().any(|cluster| cluster.id == *id);
        let gone = self.running.keys().filter(|id| !configured(id) && !roster.members.contains_key(*id));
        for id in gone.cloned().collect::<Vec<_>>() {
            self.leave(&id);
        }
        for (id, member) in roster.members {
            self.member(&id, member);
        }
        if roster.complete {
            self.seen.send_if_modified(|seen| !std::mem::replace(&mut seen.complete, true));
        }
    }

    /// A Secret names the cluster, anew or as before.
    fn member(&mut self, id: &ClusterId, member: Member<Access>) {
        if let Some(running) = self.running.get_mut(id) {
            if running.digest != Some(member.digest)
                && let Some(connectors) = &running.connectors
            {
                running.digest = Some(member.digest);
                connectors.send_replace(member.access.into());
            }
            return;
        }
        if let Some(drain) = self.draining.remove(id) {
            drain.cancel();
        }
        let place = self.config.membership.as_ref().map(|membership| membership.place(id)).unwrap_or_default();
        let (sender, connectors) = watch::channel(member.access.into());
        self.start(id, Reached::ApiServer(connectors), place);
        self.note(id, Some(sender), Some(member.digest));
    }

    /// No Secret names the cluster any more: it is not ours to observe. In a shared store its records are its own
    /// agent's; embedded, they go after a while.
    fn leave(&mut self, id: &ClusterId) {
        let Some(running) = self.running.remove(id) else { return };
        running.stop.cancel();
        self.seen.send_modify(|seen| _ = seen.clusters.remove(id));
        self.own.send_modify(|own| _ = own.remove(id));
        self.claims.send_if_modified(|claims| {
            let before = claims.len();
            claims.retain(|_, holder| holder != id);
            claims.len() != before
        });
        let grace = self.config.membership.as_ref().map(|membership| membership.grace).unwrap_or_default();
        if self.config.is_embedded() {
            let (store, id, cancelled) = (self.store.clone(), id.clone(), CancellationToken::new());
            self.draining.insert(id.clone(), cancelled.clone());
            self.drains.spawn(async move {
                let drained = async {
                    // A Secret that is made anew within the grace, by hand or by a tool, is to cost no answer.
                    tokio::time::sleep(grace).await;
                    removal::erase(&*store, &id).await
                };
                match cancelled.run_until_cancelled(drained).await {
                    Some(Ok(records)) => tracing::info!(cluster = %id, records, "drained: it left the fleet"),
                    Some(Err(error)) => tracing::error!(cluster = %id, %error, "cannot drain its records"),
                    None => {}
                }
            });
        }
    }

    fn start(&mut self, id: &ClusterId, reached: Reached, place: Place) {
        let (observed, seen) = watch::channel(Observed::default());
        let (status, published) = watch::channel(publish::status::Status::default());
        let home = *id == self.config.cluster;
        let role = if home || self.config.is_embedded() { Role::Home } else { Role::Deputy };
        let cluster = OwnCluster { observed: seen.clone(), published: published.clone(), awaited: role == Role::Home };
        self.seen.send_modify(|all| _ = all.clusters.insert(id.clone(), cluster));
        self.own.send_modify(|own| {
            own.insert(id.clone(), Own { observed: seen, published });
        });
        let stop = CancellationToken::new();
        let one = One {
            id: id.clone(),
            config: self.config.clone(),
            store: self.store.clone(),
            reached,
            place,
            rules: self.rules.clone(),
            observed,
            status,
            claims: self.claims.clone(),
            role,
            gathered: self.gathered.clone(),
            seeds: self.seeds.clone(),
            clock: self.clock,
            stop: stop.clone(),
        };
        self.running.insert(id.clone(), Running { stop, connectors: None, digest: None });
        let (id, span) = (id.clone(), tracing::error_span!("cluster", %id));
        self.tasks.spawn(async move { (id, one.run().await) }.instrument(span));
    }

    fn note(&mut self, id: &ClusterId, connectors: Option<watch::Sender<Connector>>, digest: Option<Digest>) {
        if let Some(running) = self.running.get_mut(id) {
            (running.connectors, running.digest) = (connectors, digest);
        }
    }

    /// A cluster's task ended: because it was told to, or because going on would harm another cluster. What an operator
    /// typed himself is worth an end of the process; what a Secret says is not.
    fn ended(&mut self, id: &ClusterId, outcome: Result<(), publish::PublishError>) -> Result<(), AppError> {
        match outcome {
            Err(error) if self.config.clusters.iter().any(|cluster| cluster.id == *id) => Err(error.into()),
            _ => Ok(()),
        }
    }
}
