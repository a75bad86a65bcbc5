//! The composition root: a checked configuration becomes bound sockets, then running stages. The only place that
//! spawns tasks and reads the clock. A stage that ends by itself is a fault: it stops everything, in order, and the
//! process says so with its exit code.

mod clients;

use crate::{
    api::{self, Own, Sources, metrics::Stages},
    config::{Config, EmitTarget, Source, Store as StoreConfig},
    emit,
    gather::{self, Gathered},
    observe::{self, Observed},
    project::{
        dns::{self as project_dns, Zones},
        service_entry::{self, ServiceEntries},
    },
    publish,
    store::{Store, embedded::Embedded, etcd::Etcd},
};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use model::{name::ClusterId, reach::Place, tracked::Tracked};
use prometheus_client::registry::Registry;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// How long a clean stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// An agent whose sockets are bound and that does not run yet.
pub struct Bound {
    config: Config,
    dns: Vec<(dns::Bound, crate::config::file::AnswerMode)>,
    admin: tokio::net::TcpListener,
}

/// Why an agent could not start or go on; each has an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// A socket cannot be bound.
    #[error("{0}")]
    Bind(String),
    /// Publishing would harm another cluster.
    #[error(transparent)]
    Publish(#[from] publish::PublishError),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// What a stage says when it ends.
type Ended = Result<&'static str, AppError>;

// === impl Bound ===

impl Bound {
    /// Binds every socket of a configuration.
    ///
    /// # Errors
    /// [`AppError::Bind`] names the address and why it cannot be had.
    pub async fn bind(config: Config) -> Result<Self, AppError> {
        let mut dns = Vec::new();
        for listener in &config.dns.listeners {
            let bound = dns::Bound::bind(&[listener.address]).map_err(|error| {
                AppError::Bind(format!(
                    "{error}: {}; choose another in `dns.listeners`",
                    error.source
                ))
            })?;
            dns.push((bound, listener.mode));
        }
        let admin = tokio::net::TcpListener::bind(config.admin)
            .await
            .map_err(|error| {
                AppError::Bind(format!(
                    "cannot listen on {}: {error}; choose another `admin.address`",
                    config.admin
                ))
            })?;
        Ok(Self { config, dns, admin })
    }

    /// The addresses that answer DNS, in the order of the configuration.
    pub fn dns(&self) -> Vec<SocketAddr> {
        self.dns
            .iter()
            .filter_map(|(bound, _)| bound.local_addr())
            .collect()
    }

    /// The admin address.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn admin(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Runs until `shutdown`, or until a stage ends by itself.
    ///
    /// # Errors
    /// [`AppError`] of the stage that ended first.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AppError> {
        let (stages, _) = self.start(&shutdown).await?;
        join(stages, shutdown).await
    }

    /// Starts all stages; for whoever wants to look at what is gathered while they run.
    ///
    /// # Errors
    /// [`AppError`], when a client cannot be made of the configuration.
    pub async fn start(
        self,
        shutdown: &CancellationToken,
    ) -> Result<(JoinSet<Ended>, watch::Receiver<Gathered>), AppError> {
        let Self {
            config,
            dns: sockets,
            admin,
        } = self;
        let mut stages = JoinSet::new();
        let store: Arc<dyn Store> = match &config.store {
            StoreConfig::Embedded => Arc::new(Embedded::new()),
            StoreConfig::Etcd(etcd) => Arc::new(
                Etcd::connect(&etcd.endpoints, &etcd.root, etcd.lease_seconds.into())
                    .await
                    .map_err(|error| anyhow::anyhow!("store.etcd: {error}"))?,
            ),
        };

        let own = start_own(&config, &store, &mut stages).await?;

        let gathered = watch::Sender::new(Gathered::default());
        let seen = gathered.subscribe();
        let seen_by_own = own
            .iter()
            .map(|(id, own)| (id.clone(), own.observed.clone()))
            .collect();
        stages.spawn({
            let (zone, store) = (config.zone.clone(), store.clone());
            async move {
                gather::run(zone, store, seen_by_own, gathered).await;
                Ok("gather")
            }
        });

        let place = place(&config);
        let mut registry = Registry::with_prefix("federator");
        let metrics = dns::Metrics::register(registry.sub_registry_with_prefix("dns"));
        let zones: BTreeMap<_, _> = sockets
            .iter()
            .map(|(_, mode)| (*mode, Arc::new(ArcSwap::from_pointee(dns::Zones::default()))))
            .collect();
        for (socket, mode) in sockets {
            let (zones, metrics, shutdown) = (zones[&mode].clone(), metrics.clone(), shutdown.clone());
            stages.spawn(async move {
                socket
                    .serve(zones, dns::Limits::default(), metrics, shutdown)
                    .await
                    .context("dns")?;
                Ok("dns")
            });
        }

        let desired = watch::Sender::new(Tracked::new());
        let emitted = watch::Sender::new(emit::Status::default());
        let sources = Sources {
            agent: config.agent.clone(),
            place: place.clone(),
            gathered: seen.clone(),
            own: own.clone(),
            emitted: emitted.subscribe(),
        };
        start_emit(&config, &own, desired.subscribe(), emitted, &mut stages).await?;

        let projection = Projection {
            zones: Zones::new(
                project_dns::Config {
                    place: place.clone(),
                    zone: config.zone.clone(),
                    ttl: config.dns.ttl,
                    negative_ttl: config.dns.negative_ttl,
                    serial: first_serial(),
                },
                zones.keys().copied(),
            )
            .context("zone")?,
            served: zones,
            entries: ServiceEntries::new(service_entry::Config {
                place,
                zone: config.zone.clone(),
                namespace: config.emit.namespace.clone(),
                families: service_entry::Families::default(),
            }),
            desired,
        };
        stages.spawn(projection.run(seen.clone()));

        registry.register_collector(Box::new(Stages(sources.clone())));
        stages.spawn({
            let shutdown = shutdown.clone();
            async move {
                api::http::serve(admin, sources, registry, shutdown)
                    .await
                    .context("admin")?;
                Ok("admin")
            }
        });
        Ok((stages, seen))
    }
}

/// Waits for the end, and for every stage to end with it.
///
/// # Errors
/// [`AppError`] of the stage that ended first.
pub async fn join(mut stages: JoinSet<Ended>, shutdown: CancellationToken) -> Result<(), AppError> {
    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = stages.join_next() => match ended {
            Ok(Ok(stage)) => Err(anyhow::anyhow!("stage {stage} ended by itself").into()),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(anyhow::anyhow!("a stage died: {panic}").into()),
        },
    };
    shutdown.cancel();
    // The servers drain; the other stages hold nothing that would be lost, and end when dropped.
    let drained = tokio::time::timeout(STOP_WITHIN, async {
        while stages.len() > 0 {
            tokio::select! {
                ended = stages.join_next() => drop(ended),
                () = tokio::time::sleep(Duration::from_secs(2)) => stages.abort_all(),
            }
        }
    });
    if drained.await.is_err() {
        tracing::warn!("stopping took too long");
    }
    outcome
}

/// Starts observing and publishing of every cluster that is ours to observe.
async fn start_own(
    config: &Config,
    store: &Arc<dyn Store>,
    stages: &mut JoinSet<Ended>,
) -> Result<BTreeMap<ClusterId, Own>, AppError> {
    let mut own = BTreeMap::new();
    for cluster in &config.clusters {
        let observed = watch::Sender::new(Observed::default());
        let published = watch::Sender::new(publish::Status::default());
        let receivers = Own {
            observed: observed.subscribe(),
            published: published.subscribe(),
        };
        match &cluster.source {
            Source::Directory(path) => {
                let source = observe::directory::Config {
                    path: path.clone(),
                    network: cluster.network.clone(),
                    default_locality: cluster.locality.clone(),
                };
                stages.spawn(async move {
                    observe::directory::run(source, observed).await;
                    Ok("observe")
                });
            }
            Source::Kubernetes(kubernetes) => {
                let (client, server) = clients::client(kubernetes)
                    .await
                    .with_context(|| format!("clusters: {}: kubernetes", cluster.id))?;
                let source = observe::kubernetes::Config {
                    client,
                    server,
                    network: cluster.network.clone(),
                    default_locality: cluster.locality.clone(),
                };
                stages.spawn(async move {
                    observe::kubernetes::run(source, observed).await;
                    Ok("observe")
                });
            }
        }
        let publishing = publish::Config {
            cluster: cluster.id.clone(),
            agent: config.agent.clone(),
            zone: config.zone.clone(),
            vips: config.vips,
        };
        let (store, seen) = (store.clone(), receivers.observed.clone());
        stages.spawn(async move {
            publish::run(publishing, store, seen, published).await?;
            Ok("publish")
        });
        own.insert(cluster.id.clone(), receivers);
    }
    Ok(own)
}

async fn start_emit(
    config: &Config,
    own: &BTreeMap<ClusterId, Own>,
    desired: watch::Receiver<Tracked<emit::object::ObjectKey, emit::object::Desired>>,
    status: watch::Sender<emit::Status>,
    stages: &mut JoinSet<Ended>,
) -> Result<(), AppError> {
    match &config.emit.target {
        EmitTarget::Nothing => {}
        EmitTarget::Directory(directory) => {
            let directory = directory.clone();
            stages.spawn(async move {
                let shown = directory.display().to_string();
                emit::directory::run(directory, desired, status)
                    .await
                    .context(shown)
                    .context("emit.directory")?;
                Ok("emit")
            });
        }
        EmitTarget::Kubernetes(kubernetes) => {
            let (client, _) = clients::client(kubernetes).await.context("emit.kubernetes")?;
            let Some(home) = own.get(&config.cluster) else {
                return Ok(());
            };
            let emitting = emit::kubernetes::Config {
                client,
                published: home.published.clone(),
            };
            stages.spawn(async move {
                emit::kubernetes::run(emitting, desired, status).await;
                Ok("emit")
            });
        }
    }
    Ok(())
}

/// The last stage before the consumers.
struct Projection {
    zones: Zones,
    served: BTreeMap<crate::config::file::AnswerMode, Arc<ArcSwap<dns::Zones>>>,
    entries: ServiceEntries,
    desired: watch::Sender<Tracked<emit::object::ObjectKey, emit::object::Desired>>,
}

// === impl Projection ===

impl Projection {
    async fn run(mut self, mut gathered: watch::Receiver<Gathered>) -> Ended {
        loop {
            let now = gathered.borrow_and_update().clone();
            for (mode, zone) in self.zones.update(&now) {
                let mut zones = dns::Zones::new([zone]);
                zones.set_version(concat!("federator ", env!("CARGO_PKG_VERSION")));
                self.served[&mode].store(Arc::new(zones));
            }
            // Before everything was seen, what is missing is not known to be gone.
            if now.complete {
                self.desired.send_replace(self.entries.update(&now));
            }
            tracing::debug!(
                revision = now.view.revision(),
                local = now.local,
                services = now.view.services().len(),
                complete = now.complete,
                "projected"
            );
            if gathered.changed().await.is_err() {
                return Ok("project");
            }
        }
    }
}

fn place(config: &Config) -> Place {
    let home = config
        .clusters
        .iter()
        .find(|cluster| cluster.id == config.cluster);
    let network = home.map(|cluster| cluster.network.clone()).unwrap_or_default();
    Place {
        cluster: config.cluster.clone(),
        network,
    }
}

/// Seconds since 1970: larger than any serial of an earlier process that changed less than once a second on average.
fn first_serial() -> u32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the composition root may read the clock"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs() & u64::from(u32::MAX)).unwrap_or_default()
}
