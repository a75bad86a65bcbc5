//! One cluster of this agent, from its API server or directory to its records in the store: observing and publishing
//! live and end together, and begin anew where that makes sense.

use crate::{
    condition::Reason,
    config::{Config, Place, rules::ExportRules},
    gather::Gathered,
    kubernetes::client::Connector,
    lookup::names::Names,
    observe::{self, Observed, kubernetes::sentinel, object::ObjectName, resolve},
    ownership,
    publish::{self, PublishError, seeds::Sown},
    store::Store,
};
use model::{name::ClusterId, seat::Role};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
};
use tokio::sync::watch;
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

/// The objects that are to be asked for one by one.
type Doubts = watch::Receiver<Arc<BTreeSet<ObjectName>>>;

/// What one cluster needs.
pub(super) struct One {
    pub(super) id: ClusterId,
    pub(super) config: Arc<Config>,
    pub(super) store: Arc<dyn Store>,
    pub(super) reached: Reached,
    pub(super) place: Place,
    pub(super) rules: watch::Receiver<ExportRules>,
    pub(super) observed: watch::Sender<Observed>,
    pub(super) status: watch::Sender<publish::status::Status>,
    pub(super) claims: Claims,
    /// What this agent is to the cluster.
    pub(super) role: Role,
    pub(super) gathered: watch::Receiver<Gathered>,
    pub(super) seeds: Sown,
    pub(super) clock: fn() -> std::time::SystemTime,
    pub(super) stop: CancellationToken,
}

/// Why a life ended.
enum Ended {
    /// It was told to.
    Stopped,
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
            let ended = self.live().await;
            let (reason, why) = match ended {
                Ended::Stopped => return Ok(()),
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
            self.status.send_replace(publish::status::Status::default());
            if stop.run_until_cancelled(self.another_chance(&ended)).await.is_none() {
                return Ok(());
            }
            self.observed.send_replace(Observed::default());
        }
    }

    fn is_configured(&self) -> bool {
        self.config.clusters.iter().any(|cluster| cluster.id == self.id)
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
        let look = watch::Sender::new(false);
        let config = ownership::Config {
            agent: self.config.agent.clone(),
            role: self.role,
            timing: self.config.ownership,
            publish: publish::Config {
                cluster: self.id.clone(),
                zone: self.config.zone.clone(),
                vips: self.config.vips,
                clock: self.clock,
                hold: self.config.hold,
                rest: self.config.rest,
                seeds: self.seeds.clone(),
                is_memory: false,
            },
        };
        let (doubts, doubted) = watch::channel(Arc::default());
        let looked = look.subscribe();
        let channels = ownership::Channels {
            observed: self.observed.subscribe(),
            gathered: self.gathered.clone(),
            look,
            doubts,
            status: self.status.clone(),
        };
        tokio::select! {
            biased;
            ended = ownership::run(config, self.store.clone(), channels, self.stop.clone()) => match ended {
                Ok(()) => Ended::Stopped,
                Err(error) => Ended::Taken(error),
            },
            error = self.is_anothers() => Ended::Taken(error),
            (uid, other) = self.is_another_one() => Ended::Same(uid, other),
            error = self.overlaps() => Ended::Taken(error),
            () = self.observe_when(looked, &doubted) => Ended::Stopped,
        }
    }

    /// Looks at the cluster while that is wanted. Whoever does not look any more has seen nothing.
    async fn observe_when(&self, mut look: watch::Receiver<bool>, doubts: &Doubts) {
        while look.wait_for(|look| *look).await.is_ok() {
            tokio::select! {
                () = self.observe(doubts.clone()) => return,
                _ = look.wait_for(|look| !look) => {}
            }
            self.observed.send_replace(Observed::default());
        }
    }

    /// Returns when the cluster that is seen is there under another id already, which is the second one.
    async fn is_another_one(&self) -> (Arc<str>, ClusterId) {
        let mut seen = self.observed.subscribe();
        let mut known: Arc<str> = "".into();
        loop {
            let changed = seen.wait_for(|seen| !seen.meta.uid.is_empty() && seen.meta.uid != known).await;
            let Some(uid) = changed.ok().map(|seen| seen.meta.uid.clone()) else { return std::future::pending().await };
            known = uid;
            if let Some(other) = self.claimed(&known) {
                return (known, other);
            }
        }
    }

    /// Returns when the store knows another cluster by the id of the one that this agent is in. Who stands by does not look
    /// at the cluster, and would never find out.
    async fn is_anothers(&self) -> PublishError {
        let (Reached::ApiServer(connectors), Role::Home) = (&self.reached, self.role) else {
            return std::future::pending().await;
        };
        let connector = connectors.borrow().clone();
        let uid = sentinel::uid_of(connector).await;
        let is_other = |gathered: &Gathered| {
            ownership::pinned(gathered, &self.id).and_then(|pinned| publish::check_uid(&self.id, pinned, &uid).err())
        };
        let mut known = self.gathered.clone();
        let known = known.wait_for(|gathered| is_other(gathered).is_some()).await;
        match known.ok().and_then(|gathered| is_other(&gathered)) {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Returns when the first complete look at the agent's own cluster shows that it uses addresses that are to be virtual
    /// ones. What is seen later, and of other clusters, is a condition of theirs.
    async fn overlaps(&self) -> PublishError {
        let mut seen = self.observed.subscribe();
        let why = match seen.wait_for(|seen| seen.synced && !seen.partial).await {
            Ok(seen) if self.id == self.config.cluster => {
                seen.conditions.get(Reason::VipsOverlap).map(ToOwned::to_owned)
            }
            _ => None,
        };
        match why {
            Some(why) => PublishError::VipsOverlap { id: self.id.clone(), why },
            None => std::future::pending().await,
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

    /// Observes, and looks up what gateways are named by.
    async fn observe(&self, doubts: Doubts) {
        let (observed, seen) = watch::channel(Observed::default());
        let names = Names::new(&self.config.gateways.nameservers);
        let ask = |host| names.clone().look_up(host);
        let before = |gathered: &Gathered| {
            let meta = gathered.view.clusters().get(&self.id).and_then(|cluster| cluster.meta.as_ref());
            meta.map(|meta| meta.gateways.clone()).unwrap_or_default()
        };
        tokio::select! {
            () = self.observe_source(doubts, observed) => {}
            () = resolve::run(ask, self.gathered.clone(), before, seen, self.observed.clone()) => {}
        }
    }

    fn observe_source(
        &self,
        doubts: Doubts,
        observed: watch::Sender<Observed>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let (place, vips, rules) = (self.place.clone(), self.config.vips, self.rules.clone());
        match &self.reached {
            Reached::Directory(path) => {
                let source = observe::directory::Config { path: path.clone(), place, vips, rules, clock: self.clock };
                Box::pin(observe::directory::run(source, observed))
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
                let source = observe::kubernetes::Config { place, vips, rules, sentinel };
                Box::pin(observe::kubernetes::run(source, connectors.clone(), doubts, observed))
            }
        }
    }
}
