//! One cluster of this agent, from its API server or directory to its records in the store: observing and publishing
//! live and end together, and begin anew where that makes sense.

use crate::{
    condition::Reason,
    config::{Config, Place, rules::ExportRules},
    gather::Gathered,
    kubernetes::client::Connector,
    observe::{self, Observed, kubernetes::sentinel},
    publish::{self, PublishError},
    store::Store,
};
use model::name::ClusterId;
use std::{collections::BTreeMap, future::Future, path::PathBuf, pin::Pin, sync::Arc};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// How a cluster is reached.
#[derive(Clone, Debug)]
pub(super) enum Reached {
    /// By its API server.
    ApiServer(watch::Receiver<Connector>),
    /// As a directory of manifests.
    Directory(PathBuf),
}

/// Which cluster has which uid.
pub(super) type Claims = watch::Sender<BTreeMap<Arc<str>, ClusterId>>;

/// What one cluster needs.
pub(super) struct One {
    pub(super) id: ClusterId,
    pub(super) config: Arc<Config>,
    pub(super) store: Arc<dyn Store>,
    pub(super) reached: Reached,
    pub(super) place: Place,
    pub(super) rules: watch::Receiver<ExportRules>,
    pub(super) observed: watch::Sender<Observed>,
    pub(super) status: watch::Sender<publish::Status>,
    pub(super) claims: Claims,
    /// Tells who owns the cluster, where this agent only steps in for others.
    pub(super) vacancy: Option<watch::Receiver<Gathered>>,
    pub(super) clock: fn() -> std::time::SystemTime,
    pub(super) stop: CancellationToken,
}

/// Why a life ended.
enum Ended {
    /// It was told to.
    Stopped,
    /// The cluster has an owner that is nearer to it.
    Owned,
    /// Another id has the same cluster.
    Same(Arc<str>, ClusterId),
    /// Another cluster has the id.
    Taken(PublishError),
}

// === impl One ===

impl One {
    /// Observes and publishes until told to stop.
    ///
    /// # Errors
    /// [`PublishError`], when a cluster of the configuration has an id that is another one's.
    pub(super) async fn run(mut self) -> Result<(), PublishError> {
        loop {
            let stop = self.stop.clone();
            if stop.run_until_cancelled(self.vacant()).await.is_none() {
                return Ok(());
            }
            let ended = self.live().await;
            let (reason, why) = match ended {
                Ended::Stopped => return Ok(()),
                Ended::Owned => {
                    // Whoever does not look any more has seen nothing.
                    self.observed.send_replace(Observed::default());
                    self.status.send_replace(publish::Status::default());
                    continue;
                }
                Ended::Taken(error) if self.is_configured() => return Err(error),
                Ended::Taken(ref error) => (Reason::AnotherCluster, error.to_string()),
                Ended::Same(_, ref other) => {
                    (Reason::SameCluster, format!("it is the same cluster as `{other}`, and is there once"))
                }
            };
            tracing::error!(cluster = %self.id, %reason, why, "not observed");
            let mut observed = Observed::default();
            observed.conditions.set(reason, Some(why));
            self.observed.send_replace(observed);
            self.status.send_replace(publish::Status::default());
            if stop.run_until_cancelled(self.another_chance(&ended)).await.is_none() {
                return Ok(());
            }
            self.observed.send_replace(Observed::default());
        }
    }

    fn is_configured(&self) -> bool {
        self.config.clusters.iter().any(|cluster| cluster.id == self.id)
    }

    /// Waits until nobody has owned the cluster for a while.
    async fn vacant(&mut self) {
        let Some(gathered) = &mut self.vacancy else { return };
        let after = self.config.membership.as_ref().map(|membership| membership.deputy_after).unwrap_or_default();
        let owned = |gathered: &Gathered, id: &ClusterId| !gathered.complete || gathered.owners.contains_key(id);
        loop {
            if gathered.wait_for(|gathered| !owned(gathered, &self.id)).await.is_err() {
                return std::future::pending().await;
            }
            if timeout(after, gathered.wait_for(|gathered| owned(gathered, &self.id))).await.is_err() {
                return;
            }
        }
    }

    /// Waits until things may be otherwise: the credentials, or who has the uid.
    async fn another_chance(&mut self, ended: &Ended) {
        let mut claims = self.claims.subscribe();
        let given_up = async {
            match ended {
                Ended::Same(uid, _) => _ = claims.wait_for(|claims| !claims.contains_key(uid)).await,
                _ => std::future::pending().await,
            }
        };
        let rotated = async {
            if let Reached::ApiServer(connectors) = &mut self.reached
                && connectors.changed().await.is_ok()
            {
                return;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = given_up => {}
            () = rotated => {}
        }
    }

    async fn live(&self) -> Ended {
        let publishing = publish::Config {
            cluster: self.id.clone(),
            agent: self.config.agent.clone(),
            zone: self.config.zone.clone(),
            vips: self.config.vips,
        };
        let publish = async {
            let mut seen = self.observed.subscribe();
            let uid = match seen.wait_for(|seen| seen.synced || !seen.meta.uid.is_empty()).await {
                Ok(seen) => seen.meta.uid.clone(),
                Err(_) => return Ended::Stopped,
            };
            if let Some(other) = self.claimed(&uid) {
                return Ended::Same(uid, other);
            }
            let (store, status, stop) = (self.store.clone(), self.status.clone(), self.stop.clone());
            match publish::run(publishing, store, seen, status, stop).await {
                Ok(()) => Ended::Stopped,
                Err(error) => Ended::Taken(error),
            }
        };
        let mut status = self.status.subscribe();
        tokio::select! {
            biased;
            ended = publish => ended,
            () = self.observe() => Ended::Stopped,
            Ok(_) = status.wait_for(|status| status.standing_by_for.is_some()), if self.vacancy.is_some() => Ended::Owned,
            () = self.stop.cancelled() => Ended::Stopped,
        }
    }

    /// Claims the uid; who else has it, if somebody does. A source without a uid claims nothing.
    fn claimed(&self, uid: &Arc<str>) -> Option<ClusterId> {
        let mut other = None;
        self.claims.send_if_modified(|claims| match claims.get(uid) {
            _ if uid.is_empty() => false,
            Some(id) => {
                other = (*id != self.id).then(|| id.clone());
                false
            }
            None => {
                claims.retain(|_, id| *id != self.id);
                claims.insert(uid.clone(), self.id.clone());
                true
            }
        });
        other
    }

    fn observe(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let Place { network, locality: default_locality, root_namespace } = self.place.clone();
        let rules = self.rules.clone();
        match &self.reached {
            Reached::Directory(path) => {
                let source =
                    observe::directory::Config { path: path.clone(), network, default_locality, root_namespace, rules };
                Box::pin(observe::directory::run(source, self.observed.clone()))
            }
            Reached::ApiServer(connectors) => {
                let watch = &self.config.watch;
                let sentinel = sentinel::Config {
                    namespace: watch.namespace.clone(),
                    name: format!("federator-{}", self.config.cluster),
                    holder: self.config.agent.clone(),
                    found_within: watch.found_within,
                    proof: watch.proof,
                    clock: self.clock,
                };
                let source = observe::kubernetes::Config { network, default_locality, root_namespace, rules, sentinel };
                Box::pin(observe::kubernetes::run(source, connectors.clone(), self.observed.clone()))
            }
        }
    }
}
