//! Starting the stages: which there are, and which channel leads from which to which. Reads like the picture in
//! `lib.rs`.

use super::{
    AppError, Ended,
    clusters::{Clusters, Inlets, Outlets},
    listeners::Answers,
    projection::Projection,
    rules::Rules,
    staleness::Staleness,
};
use crate::{
    api::{self, Sources, metrics},
    config::{
        Config, EmitTarget, Store as StoreConfig,
        file::{EmitPorts, EmitScope},
        rules::ImportRules,
    },
    emit::{
        self, OfClusters,
        object::{Desired, ObjectKey},
    },
    gather::{self, Gathered, OwnClusters},
    kubernetes::{
        client::connector,
        kubeconfig::{self, Access},
    },
    lookup::{chase, names::Names as Resolvers},
    membership::{self, registrar::Names, roster::Roster},
    ownership::{self, caretaker},
    project::{
        dns::{self as zones, Zones},
        objects::{self, Objects},
    },
    publish::{
        self,
        seeds::{Seeds, Sown},
    },
    serial,
    snapshot::{self, Begun, Loaded, format::Identity},
    store::{Store, Upkeep, embedded::Embedded, etcd::Etcd},
};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use model::{export::AnswerMode, key::Key, reach::Place, seat::Role, tracked::Tracked};
use prometheus_client::registry::Registry;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// For how long agents that know a store by heart may say so, when one that does not finds it empty: more than it takes
/// to find out that a store is back, and not much for a fleet that is set up.
const FIRST_GRACE: Duration = Duration::from_secs(3);

/// Between two questions how the store is looked after. It becomes full in hours, not in minutes.
const UPKEEP: Duration = Duration::from_secs(30);

/// An embedded store that was restored leaves out more revisions than an earlier process can have given out without
/// writing them down: one number never stands for two states.
const UNWRITTEN: u64 = 1 << 20;

/// The tasks of an agent.
#[derive(Debug, Default)]
pub(super) struct Stages {
    /// These end by themselves when told to stop: they have something to finish or to give up.
    pub(super) draining: JoinSet<Ended>,
    /// These hold nothing that would be lost, and are dropped last.
    pub(super) others: JoinSet<Ended>,
}

/// Starts everything; hands out what is gathered.
pub(super) async fn start(
    config: Config,
    sockets: Vec<(dns::Bound, AnswerMode)>,
    admin: TcpListener,
    shutdown: &CancellationToken,
) -> Result<(Stages, watch::Receiver<Gathered>), AppError> {
    let mut stages = Stages::default();
    let mut registry = Registry::with_prefix("federator");
    let config = Arc::new(config);
    let own_admin = admin.local_addr().context("admin")?;
    let Begun { loaded, outdated, notes, keeper, kept } =
        snapshot::begin(config.snapshot.as_ref(), Identity::of(&config), own_admin, clock).await;
    stages.keep(keeper, shutdown);
    let (store, loaded) = store(&config.store, loaded, outdated).await?;
    let begin = gather::Begin { loaded, notes };

    let (rules, keeper) = Rules::new(&config);
    if let Some(keeper) = keeper {
        stages.others.spawn(keeper.run());
    }

    let (seen, own_clusters) = watch::channel(OwnClusters::default());
    let gathered = stages.gather(&config, store.clone(), begin, own_clusters);
    let upkeep = stages.look_after(store.clone());
    let (seeds, sown) = watch::channel(None);
    stages.take_care(&config, store.clone(), gathered.clone(), sown.clone());
    let outlets = Outlets { seen, own: watch::Sender::default() };
    let own = outlets.own.subscribe();
    let inlets = Inlets { gathered: gathered.clone(), seeds: sown };
    let mut clusters = Clusters::new(config.clone(), store, inlets, outlets, rules.export, clock, shutdown.clone());
    clusters.start_configured().await?;
    let roster = stages.follow_secrets(&config).await?;
    let rostered = roster.clone();
    stages.draining.spawn(clusters.run(rostered));

    let served: BTreeMap<_, _> =
        sockets.iter().map(|(_, mode)| (*mode, Arc::new(ArcSwap::from_pointee(dns::Zones::default())))).collect();
    let desired = watch::Sender::new(Tracked::new());
    // Nobody may want any: see the projection.
    let emits = !matches!(config.emit.target, EmitTarget::Nothing);
    let shown = emits.then(|| desired.subscribe());
    let (emitted, named) = stages.emit(&config, desired.subscribe(), seeds, shutdown).await?;
    let missing = watch::Sender::new(Tracked::new());
    let entry_conditions = missing.subscribe();
    let news = (gathered.clone(), rules.import.clone(), named);
    let complete = CancellationToken::new();
    let serial = stages.count(&config).await;
    let shows = (served.clone(), complete.clone());
    let (ready, unconfirmed) = stages.project(&config, serial, news, shows, (desired, missing))?;
    let answers = Answers::new(&config.dns, &mut registry)?;
    for (socket, mode) in sockets {
        let (answers, zones, shutdown) = (answers.clone(), served[&mode].clone(), shutdown.clone());
        let complete = complete.clone();
        stages.draining.spawn(async move { answers.give(socket, zones, complete, shutdown).await });
    }

    let agent = config.agent.clone();
    let sources = Sources {
        agent,
        place: place(&config),
        gathered: gathered.clone(),
        ready,
        unconfirmed,
        import: rules.import,
        upkeep,
        own,
        roster,
        desired: shown,
        emitted,
        entry_conditions,
        snapshot: kept,
    };
    registry.register_collector(Box::new(metrics::Stages(sources.clone())));
    let shutdown = shutdown.clone();
    stages.draining.spawn(async move {
        api::http::serve(admin, sources, registry, shutdown).await.context("admin")?;
        Ok("admin")
    });
    Ok((stages, gathered))
}

// === impl Stages ===

impl Stages {
    /// Writes what is gathered for the next start.
    fn keep(&mut self, keeper: Option<snapshot::Keeper>, shutdown: &CancellationToken) {
        if let Some(keeper) = keeper {
            let shutdown = shutdown.clone();
            self.draining.spawn(async move {
                keeper.run(shutdown).await.context("snapshot")?;
                Ok("snapshot")
            });
        }
    }

    /// Follows the remote Secrets, where they are to be read.
    async fn follow_secrets(&mut self, config: &Config) -> Result<watch::Receiver<Roster<Access>>, AppError> {
        let (roster, said) = watch::channel(Roster::default());
        let Some(membership) = &config.membership else { return Ok(said) };
        let connector = connector(&membership.kubernetes).await.context("membership.kubernetes")?;
        let client = connector.connect().context("membership.kubernetes")?;
        let allowed = membership.allowed;
        let names = Names {
            home: config.cluster.clone(),
            configured: config.clusters.iter().map(|cluster| cluster.id.clone()).collect(),
            aliases: membership.aliases.clone(),
        };
        let following = membership::watch::Config {
            namespaces: membership.namespaces.clone(),
            names,
            parse: Arc::new(move |text| kubeconfig::parse(text, &allowed).map_err(|refused| refused.to_string())),
        };
        self.others.spawn(async move {
            membership::watch::run(following, client, roster).await;
            Ok("membership")
        });
        Ok(said)
    }

    fn gather(
        &mut self,
        config: &Config,
        store: Arc<dyn Store>,
        begin: gather::Begin,
        own: watch::Receiver<OwnClusters>,
    ) -> watch::Receiver<Gathered> {
        let gathered = watch::Sender::new(Gathered::default());
        let seen = gathered.subscribe();
        let (grace, first_grace) = match &config.store {
            // Nobody else can have used it.
            StoreConfig::Embedded => (Duration::ZERO, Duration::ZERO),
            StoreConfig::Etcd { grace, .. } => (*grace, FIRST_GRACE),
        };
        let gathering = gather::Config { zone: config.zone.clone(), grace, first_grace, new_id };
        self.others.spawn(async move {
            gather::run(gathering, store, begin, own, gathered).await;
            Ok("gather")
        });
        seen
    }

    /// Asks a shared store again and again how it is.
    fn look_after(&mut self, store: Arc<dyn Store>) -> watch::Receiver<Option<Upkeep>> {
        let (said, upkeep) = watch::channel(None);
        self.others.spawn(async move {
            loop {
                said.send_replace(store.upkeep().await);
                tokio::time::sleep(UPKEEP).await;
            }
        });
        upkeep
    }

    /// Takes care of clusters that nobody speaks for, in a store that others use too.
    fn take_care(&mut self, config: &Config, store: Arc<dyn Store>, gathered: watch::Receiver<Gathered>, seeds: Sown) {
        if config.is_embedded() {
            return;
        }
        let caring = ownership::Config {
            agent: config.agent.clone(),
            role: Role::Caretaker,
            timing: config.ownership,
            publish: publish::Config {
                cluster: config.cluster.clone(),
                zone: config.zone.clone(),
                vips: config.vips,
                hold: config.hold,
                rest: config.rest,
                seeds,
                is_memory: true,
                clock,
            },
        };
        self.others.spawn(async move {
            caretaker::run(caring, store, gathered).await;
            Ok("caretaker")
        });
    }

    /// The serial to begin with, raised by who projects.
    async fn count(&mut self, config: &Config) -> watch::Sender<u32> {
        let directory = config.snapshot.as_ref().map(|snapshot| &*snapshot.directory);
        let (first, reserve) = serial::begin(directory, seconds()).await;
        let serial = watch::Sender::new(first);
        if let Some(reserve) = reserve {
            let counted = serial.subscribe();
            self.others.spawn(async move {
                serial::keep(reserve, counted).await;
                Ok("serial")
            });
        }
        serial
    }

    /// Looks up host names of endpoints.
    fn chase(&mut self, config: &Config) -> (watch::Sender<chase::Wanted>, watch::Receiver<chase::Chased>) {
        let (wanted, names) = watch::channel(chase::Wanted::new());
        let (told, chased) = watch::channel(chase::Chased::new());
        let resolvers = Resolvers::new(&config.dns.nameservers);
        self.others.spawn(async move {
            chase::run(|host| resolvers.clone().look_up(host), names, told).await;
            Ok("lookup")
        });
        (wanted, chased)
    }

    fn project(
        &mut self,
        config: &Config,
        serial: watch::Sender<u32>,
        (gathered, rules, named): (
            watch::Receiver<Gathered>,
            watch::Receiver<ImportRules>,
            watch::Receiver<Option<OfClusters>>,
        ),
        (served, complete): (BTreeMap<AnswerMode, Arc<ArcSwap<dns::Zones>>>, CancellationToken),
        (desired, missing): (watch::Sender<Tracked<ObjectKey, Desired>>, watch::Sender<objects::Conditions>),
    ) -> Result<(watch::Receiver<bool>, watch::Receiver<Option<Instant>>), AppError> {
        let zones_config = zones::Config {
            place: place(config),
            zone: config.zone.clone(),
            ttl: config.dns.ttl,
            longest_ttl: config.dns.longest_ttl,
            servers: config.dns.addresses.clone(),
            shared: config.dns.forward_unknown,
            vips: config.vips,
            negative_ttl: config.dns.negative_ttl,
            min_answers: config.dns.min_answers,
            max_answers: config.dns.max_answers,
            serial: *serial.borrow(),
        };
        let objects_config = objects::Config {
            place: place(config),
            zone: config.zone.clone(),
            namespace: config.emit.namespace.as_str().into(),
            rules: config.emit.destination_rules,
            export_to: config.emit.export_to.as_slice().into(),
            remote_only: config.emit.scope == EmitScope::Remote,
            all_ports: config.emit.ports == EmitPorts::Union,
            families: config.emit.families,
            gateway: config.emit.gateway.clone(),
        };
        let zones = Zones::new(zones_config, served.keys().copied()).context("zone")?;
        // Nobody is refused what is in them.
        for (mode, zones) in zones.served() {
            served[&mode].store(Arc::new(zones));
        }
        let (ready, is_ready) = watch::channel(false);
        let objects = Objects::new(objects_config);
        let (wanted, chased) = self.chase(config);
        let (unconfirmed, since) = watch::channel(None);
        let projection = Projection {
            zones,
            served,
            objects,
            rules,
            named,
            wanted,
            chased,
            staleness: Staleness::new(config.dns.stale),
            unconfirmed,
            serial,
            desired,
            missing,
            ready,
            complete,
        };
        self.others.spawn(projection.run(gathered));
        Ok((is_ready, since))
    }

    async fn emit(
        &mut self,
        config: &Config,
        desired: watch::Receiver<Tracked<ObjectKey, Desired>>,
        seeds: watch::Sender<Option<Arc<Seeds>>>,
        shutdown: &CancellationToken,
    ) -> Result<(watch::Receiver<emit::Status>, watch::Receiver<Option<OfClusters>>), AppError> {
        let status = watch::Sender::new(emit::Status::default());
        let emitted = status.subscribe();
        // Where no objects of others are followed, nobody names any.
        let named = watch::Sender::new(Some(OfClusters::default()));
        let is_named = named.subscribe();
        match &config.emit.target {
            EmitTarget::Nothing => {
                seeds.send_replace(Some(Arc::default()));
            }
            EmitTarget::Directory(directory) => {
                let directory = directory.clone();
                seeds.send_replace(Some(Arc::default()));
                self.others.spawn(async move {
                    let shown = format!("emit.directory {}", directory.display());
                    emit::directory::run(directory, desired, status).await.context(shown)?;
                    Ok("emit")
                });
            }
            EmitTarget::Kubernetes { by, dry_run } => {
                let client = connector(by).await.and_then(|connector| connector.connect());
                let emitting = emit::kubernetes::Config {
                    client: client.context("emit.kubernetes")?,
                    agent: config.agent.clone(),
                    namespace: config.emit.namespace.as_str().into(),
                    lease_namespace: config.watch.namespace.clone(),
                    dry_run: *dry_run,
                    clock,
                };
                let shutdown = shutdown.clone();
                named.send_replace(None);
                let following = emit::kubernetes::named::run(emitting.client.clone(), named, status.clone());
                self.others.spawn(async move {
                    following.await;
                    Ok("emit")
                });
                self.draining.spawn(async move {
                    tokio::select! {
                        had = emit::seeds::read(&emitting.client) => seeds.send_replace(Some(Arc::new(had))),
                        () = shutdown.cancelled() => return Ok("emit"),
                    };
                    emit::kubernetes::run(emitting, desired, status, shutdown).await;
                    Ok("emit")
                });
            }
        }
        Ok((emitted, is_named))
    }
}

/// The store, and what gathering is to begin with: what was kept of an embedded store is read from there.
async fn store(
    config: &StoreConfig,
    loaded: Option<Loaded>,
    outdated: Option<Loaded>,
) -> Result<(Arc<dyn Store>, Option<Loaded>), AppError> {
    match config {
        StoreConfig::Embedded => Ok((Arc::new(embedded(loaded, outdated)), None)),
        StoreConfig::Etcd { settings, .. } => {
            Ok((Arc::new(Etcd::connect(settings).await.context("store.etcd")?), loaded))
        }
    }
}

/// An embedded store with what was kept of it. Who owned a cluster, or could have, did so in a process that is gone. Of
/// what is too old, that stays which nobody else knows and which is no less true: who has which virtual address, who
/// exported first, and which clusters were removed.
fn embedded(loaded: Option<Loaded>, outdated: Option<Loaded>) -> Embedded {
    let (kept, stays): (_, fn(&str) -> bool) = match (loaded, outdated) {
        (Some(loaded), _) => (loaded, |text| !matches!(Key::parse(text), Ok(Key::Owner(_) | Key::Candidate(..)))),
        (None, Some(old)) => (old, |text| {
            Key::parse(text).is_ok_and(|key| key.is_shared() || matches!(key, Key::Generation | Key::Tombstone(_)))
        }),
        (None, None) => return Embedded::new(),
    };
    let entries = kept.entries.into_iter().filter(|(key, _)| stays(key)).collect();
    Embedded::restore(entries, kept.position + UNWRITTEN)
}

fn place(config: &Config) -> Place {
    let home = config.clusters.iter().find(|cluster| cluster.id == config.cluster);
    let network = home.map(|cluster| cluster.network.clone()).unwrap_or_default();
    Place { cluster: config.cluster.clone(), network, mode: config.gateways.mode }
}

/// What time it is.
#[expect(clippy::disallowed_methods, reason = "the composition root may read the clock")]
pub(crate) fn clock() -> SystemTime {
    SystemTime::now()
}

/// An id that nobody else has.
fn new_id() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// Seconds since 1970, as far as they go into a serial.
fn seconds() -> u32 {
    let now = clock().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs() & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{store::Entry, testing::now};

    #[test]
    fn what_is_too_old_keeps_what_does_not_age() {
        let keys = [
            "clusters/east/candidates/a",
            "clusters/east/meta",
            "clusters/east/owner",
            "clusters/east/synced",
            "generation",
            "order/demo/web",
            "records/east/demo/web/head",
            "tombstones/west",
            "vips/addresses/240.64.0.1",
            "vips/hosts/web.demo.global",
            "what/is/this",
        ];
        let entry = || Entry { value: vec![], created: 1, modified: 2 };
        let entries = keys.map(|key| (key.to_owned(), entry()));
        let kept = || Some(Loaded { position: 7, written: UNIX_EPOCH, entries: entries.to_vec() });
        let check = |loaded, outdated, expected: &[&str], revision: u64| {
            let all = now(embedded(loaded, outdated).read("")).expect("it is there");
            assert_eq!(all.entries.keys().collect::<Vec<_>>(), expected);
            assert_eq!(all.revision, revision);
        };
        check(None, None, &[], 0);
        let lives: Vec<_> =
            keys.into_iter().filter(|key| !key.contains("owner") && !key.contains("candidates")).collect();
        check(kept(), None, &lives, 7 + UNWRITTEN);
        check(kept(), kept(), &lives, 7 + UNWRITTEN);
        let ageless =
            |key: &&str| ["generation", "order", "tombstones", "vips"].iter().any(|kind| key.starts_with(kind));
        check(None, kept(), &keys.into_iter().filter(ageless).collect::<Vec<_>>(), 7 + UNWRITTEN);
    }
}
