//! Virtual addresses over a real etcd: whoever is many, or comes back to an older store, gives no address to two hosts, and
//! no host two addresses. What runs here are an agent's stages for one cluster each, which see what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use federator::gather::{self, Begin, Gathered, OwnCluster, OwnClusters, StoreHealth};
use federator::observe::Observed;
use federator::ownership::{self, rules::Timing};
use federator::publish::{self, status::Status};
use federator::store::{Store, etcd::Etcd, etcd::Settings};
use harness::{Fleet, Result, eventually};
use model::cluster::Meta;
use model::export::{Export, Head, Slices};
use model::key::Key;
use model::name::{ClusterId, ServiceKey};
use model::record::{Record as _, VipHost};
use model::seat::Role;
use model::vip::{Vip, VipRanges};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// So many start at once, each with so many services that all of them have.
const AGENTS: usize = 10;
const SERVICES: usize = 5000;

/// More than that takes on a busy machine; only a failure waits this long.
const LIMIT: Duration = Duration::from_secs(900);

/// How long an address rests, where that is waited for.
const REST: Duration = Duration::from_secs(2);

/// Longer than any test.
const LONG: Duration = Duration::from_secs(86_400);

/// An agent of one cluster, which has the services that it is told. It dies when it is dropped.
struct Agent {
    observed: watch::Sender<Observed>,
    gathered: watch::Receiver<Gathered>,
    _tasks: JoinSet<()>,
}

// === impl Agent ===

impl Agent {
    async fn start(settings: &Settings, id: &str, vips: VipRanges, rest: Duration) -> Result<Self> {
        let store: Arc<dyn Store> = Arc::new(Etcd::connect(settings).await?);
        let cluster = ClusterId::parse(id)?;
        let meta = Meta { uid: id.into(), ..Meta::default() };
        let observed = watch::Sender::new(Observed { meta, synced: true, ..Observed::default() });
        let (said, gathered) = watch::channel(Gathered::default());
        let status = watch::Sender::new(Status::default());
        let own = OwnCluster { observed: observed.subscribe(), published: status.subscribe(), awaited: true };
        let own = OwnClusters { complete: true, clusters: BTreeMap::from([(cluster.clone(), own)]) };
        let channels = ownership::Channels {
            observed: observed.subscribe(),
            gathered: gathered.clone(),
            look: watch::Sender::default(),
            doubts: watch::Sender::default(),
            status,
        };
        let second = Duration::from_secs(1);
        let config = ownership::Config {
            agent: id.to_owned(),
            role: Role::Home,
            timing: Timing { deputy_after: second, resign_after: second, hand_back_after: second },
            publish: publish::Config {
                cluster,
                zone: "global".into(),
                vips,
                clock: SystemTime::now,
                hold: LONG,
                rest,
                seeds: watch::Sender::new(Some(Arc::default())).subscribe(),
                is_memory: false,
            },
        };
        let gathering = gather::Config {
            zone: "global".into(),
            grace: 3 * second,
            first_grace: second,
            new_id: || format!("{:032x}", fastrand::u128(..)),
        };
        let mut tasks = JoinSet::new();
        let (_, own) = watch::channel(own);
        tasks.spawn(gather::run(gathering, store.clone(), Begin::default(), own, said));
        tasks.spawn(async move {
            let ended = ownership::run(config, store, channels, CancellationToken::new()).await;
            panic!("it publishes no more: {ended:?}");
        });
        Ok(Self { observed, gathered, _tasks: tasks })
    }

    /// From now on its cluster has a service, or has it no longer.
    fn set(&self, service: &ServiceKey, is_there: bool) {
        let export = || Arc::new(Export { head: Arc::new(Head::default()), slices: Slices::default() });
        self.observed.send_modify(|seen| {
            seen.exports.set(service.clone(), is_there.then(export));
        });
    }

    /// The addresses in its View. No two services ever share one there.
    fn vips(&self) -> Result<BTreeMap<ServiceKey, Vip>> {
        let gathered = self.gathered.borrow().clone();
        let mut given = BTreeSet::new();
        let mut vips = BTreeMap::new();
        for (service, merged) in gathered.view.services().iter() {
            let Some(vip) = merged.vip else { continue };
            for address in [IpAddr::from(vip.v4), vip.v6.into()] {
                ensure!(given.insert(address), "{address} is two services'");
            }
            vips.insert(service.clone(), vip);
        }
        Ok(vips)
    }
}

fn settings(fleet: &Fleet, name: &str) -> Settings {
    Settings {
        endpoints: vec![fleet.store().endpoint()],
        root: format!("{}/{name}", fleet.root()),
        lease_seconds: 60,
        tls: None,
        user: None,
    }
}

/// What the store says hosts have. The halves of every pair agree.
async fn given(store: &dyn Store) -> Result<BTreeMap<String, Vip>> {
    let entries = store.read(Key::VIPS).await?.entries;
    let (mut hosts, mut halves) = (BTreeMap::new(), BTreeMap::new());
    for (text, entry) in &entries {
        match Key::parse(text)? {
            Key::VipOfHost(host) => _ = hosts.insert(host.to_string(), Vip::decode(&entry.value)?),
            Key::HostOfVip(address) => _ = halves.insert(address, VipHost::decode(&entry.value)?.0),
            key => anyhow::bail!("{key} is no address"),
        }
    }
    let there_and_back = hosts
        .iter()
        .flat_map(|(host, vip)| [(IpAddr::from(vip.v4), host.clone()), (IpAddr::from(vip.v6), host.clone())]);
    let there_and_back: BTreeMap<_, _> = there_and_back.collect();
    ensure!(
        there_and_back == halves && halves.len() == 2 * hosts.len(),
        "{} hosts, {} halves",
        hosts.len(),
        halves.len()
    );
    Ok(hosts)
}

fn ranges(v4: &str) -> Result<VipRanges> {
    Ok(VipRanges::new(v4.parse()?, "fd66::/112".parse()?)?)
}

fn key(name: &str) -> Result<ServiceKey> {
    Ok(ServiceKey::parse("demo", name)?)
}

#[test]
fn ten_agents_that_start_at_once_agree_on_five_thousand_hosts() -> Result {
    Fleet::shared_within(LIMIT, async |fleet| {
        let settings = settings(fleet, "ten");
        // Hardly more addresses than hosts: a third of the hosts must look further than their first candidate.
        let vips = ranges("240.64.0.0/19")?;
        let mut agents = Vec::new();
        for n in 0..AGENTS {
            agents.push(Agent::start(&settings, &format!("c{n}"), vips, LONG).await?);
        }
        for n in 0..SERVICES {
            let service = key(&format!("s{n}"))?;
            agents.iter().for_each(|agent| agent.set(&service, true));
        }
        let store = Etcd::connect(&settings).await?;
        eventually(LIMIT, "all is given out and known", async || {
            let digests: BTreeSet<_> =
                agents.iter().map(|agent| agent.gathered.borrow().view.digest().to_string()).collect();
            for agent in &agents {
                let known = agent.vips()?.len();
                ensure!(known == SERVICES, "{known} of {SERVICES} hosts");
                let gathered = agent.gathered.borrow().clone();
                ensure!(gathered.local == 0, "it has not published all of its cluster");
                let services = gathered.view.services();
                ensure!(services.iter().all(|(_, service)| service.exports.len() == AGENTS), "somebody lacks one");
            }
            ensure!(digests.len() == 1, "{digests:?}");
            Ok(())
        })
        .await?;
        let hosts = given(&store).await?;
        ensure!(hosts.len() == SERVICES, "{} hosts have addresses", hosts.len());
        for (service, vip) in agents[0].vips()? {
            ensure!(hosts.get(&service.host("global")) == Some(&vip), "{service} has another address in the store");
        }
        let moved = hosts.iter().filter(|(host, vip)| vips.candidates(host).next() != Some(**vip)).count();
        ensure!(moved > SERVICES / 10, "only {moved} hosts had to look further");
        Ok(())
    })
}

#[test]
fn an_older_store_gives_no_address_to_a_second_host() -> Result {
    Fleet::exclusive(async |fleet| {
        let settings = settings(fleet, "older");
        let vips = ranges("240.64.0.0/24")?;
        let first = |service: &ServiceKey| vips.candidates(&service.host("global")).next().context("endless");
        let (web, still) = (key("web")?, key("still")?);
        let had = first(&web)?;
        // Wants the address that `web` has.
        let heir = (0..)
            .map(|n| key(&format!("heir-{n}")))
            .find(|heir| heir.as_ref().is_ok_and(|heir| first(heir).is_ok_and(|vip| vip.v4 == had.v4)));
        let heir = heir.context("a collision")??;
        let agent = Agent::start(&settings, "east", vips, REST).await?;
        let store = Etcd::connect(&settings).await?;
        let known = async |services: &[&ServiceKey]| {
            let wanted: BTreeSet<_> = services.iter().map(|service| (*service).clone()).collect();
            eventually(LIMIT, "all have addresses", async || {
                let known: BTreeSet<_> = agent.vips()?.into_keys().collect();
                let gathered = agent.gathered.borrow().clone();
                let is_followed = gathered.store == StoreHealth::Followed && gathered.aside.is_empty();
                ensure!(known == wanted && is_followed && gathered.local == 0, "{known:?}, {:?}", gathered.store);
                agent.vips()
            })
            .await
        };
        agent.set(&web, true);
        agent.set(&still, true);
        let before = known(&[&web, &still]).await?;
        ensure!(before[&web] == had, "{before:?}");

        // As long as it rests it is `web`'s, and then it is anybody's.
        agent.set(&web, false);
        agent.set(&heir, true);
        let resting = known(&[&heir, &still]).await?;
        ensure!(resting[&heir].v4 != had.v4, "{resting:?}");
        let backup = fleet.store().snapshot()?;
        agent.set(&heir, false);
        let released = async || {
            eventually(LIMIT, "only `still` has an address", async || {
                let hosts = given(&store).await?;
                ensure!(hosts.len() == 1, "{hosts:?}");
                Ok(())
            })
            .await
        };
        released().await?;
        agent.set(&heir, true);
        let after = known(&[&heir, &still]).await?;
        ensure!(after[&heir].v4 == had.v4 && after[&still] == before[&still], "{after:?}");

        fleet.store().restore(&backup).await?;
        store.adopt();
        let back = eventually(LIMIT, "all is said again", async || {
            let hosts = given(&store).await?;
            let now = known(&[&heir, &still]).await?;
            ensure!(now.iter().all(|(service, vip)| hosts.get(&service.host("global")) == Some(vip)), "{now:?}");
            let generation = agent.gathered.borrow().generation.clone().context("a generation")?.0;
            ensure!(generation.settled && !generation.past.is_empty(), "{generation:?}");
            Ok(now)
        })
        .await?;
        ensure!(back[&still] == before[&still], "{back:?}");
        agent.set(&heir, false);
        released().await
    })
}
