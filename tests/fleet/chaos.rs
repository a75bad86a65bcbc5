//! Whatever dies, in any order: no endpoint that is up leaves an answer, none that is gone stays, no name vanishes, no
//! virtual address changes hands, nobody writes what it does not own, and afterwards all agents hold one View.
//!
//! An observer looks on in every scenario and judges all of that; a scenario says what it breaks, changes something
//! meanwhile, and waits until everybody knows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use etcd_client::Client;
use harness::{Agent, AgentSetup, Expected, Fleet, Namespace, Observer, Result, SOON, Trio, eventually};
use serde_json::Value;

use crate::federation::converged;
use crate::membership::{all_pods, told};

mod clock;
mod cuts;
mod home;
mod lost;
mod members;
mod owners;
mod store;

/// How long an answer may hold an endpoint that is gone, once its cluster can speak: many times what a quiet machine
/// needs for an election and a publication.
const BOUND: Duration = Duration::from_secs(20);

/// How long an owner that died silently keeps its cluster; the default would only make scenarios longer.
const LEASE_SECONDS: u64 = 3;

/// How long agents may tell a store again what it has forgotten; several times what they need for it here.
const GRACE_SECONDS: u64 = 5;

/// Fewer answers than these prove little; a quiet machine gives ten times as many in the shortest scenario.
const ENOUGH: usize = 300;

/// How often everybody is asked while something is broken: for longer than a lease lasts.
const OUTAGE: usize = 50;

/// Agents of three clusters, and a second one of west that stands by. In every cluster there is a service `still` that
/// never changes, and a service `web` that changes in west.
struct Scene<'a> {
    fleet: &'a Fleet,
    ns: Namespace,
    east: Agent,
    west: Agent,
    replica: Agent,
    south: Agent,
    observer: Observer,
}

// === impl Scene ===

impl<'a> Scene<'a> {
    async fn new(fleet: &'a Fleet, prefix: &str) -> Result<Self> {
        Self::with(fleet, prefix, |_, _, setup| setup).await
    }

    /// The same on an etcd of three members.
    async fn on(trio: &Trio, fleet: &'a Fleet, prefix: &str) -> Result<Self> {
        let mut members = Vec::new();
        for member in 0..3 {
            members.push(trio.client_of(member, "root").await?);
        }
        for user in ["east", "west", "south"] {
            trio.admit(user, &format!("{}/", fleet.root())).await?;
        }
        Self::make(fleet, prefix, members, |_, _, setup| setup.trio(trio)).await
    }

    /// The same with agents that are set up otherwise; the change is told the cluster of each, and whether it is the
    /// one that stands by.
    async fn with(
        fleet: &'a Fleet,
        prefix: &str,
        change: impl Fn(&str, bool, AgentSetup<'a>) -> AgentSetup<'a>,
    ) -> Result<Self> {
        let store = vec![fleet.store().client().await?];
        Self::make(fleet, prefix, store, |name, replica, setup| Ok(change(name, replica, setup))).await
    }

    async fn make(
        fleet: &'a Fleet,
        prefix: &str,
        store: Vec<Client>,
        change: impl Fn(&str, bool, AgentSetup<'a>) -> Result<AgentSetup<'a>>,
    ) -> Result<Self> {
        let ns = fleet.namespace(prefix).await?;
        let deploy = async |name| {
            let cluster = fleet.cluster(name);
            futures::try_join!(cluster.deploy(&ns, "web", 2, 8080), cluster.deploy(&ns, "still", 1, 8080))
        };
        futures::try_join!(deploy("east"), deploy("west"), deploy("south"))?;
        let begin = async |setup: AgentSetup<'a>| {
            let setup = setup.config(|config| {
                config["store"]["etcd"]["leaseSeconds"] = LEASE_SECONDS.into();
                config["store"]["etcd"]["graceSeconds"] = GRACE_SECONDS.into();
            });
            let agent = setup.start().await?;
            agent.ready().await?;
            Ok::<_, anyhow::Error>(agent)
        };
        let first = async |name| {
            let agent = begin(change(name, false, fleet.agent(name))?).await?;
            owns(&agent, name).await?;
            Ok::<_, anyhow::Error>(agent)
        };
        let (east, west, south) = futures::try_join!(first("east"), first("west"), first("south"))?;
        let replica = begin(change("west", true, fleet.agent("west").replica())?).await?;
        let observer = Observer::start(fleet, &[&east, &west, &replica, &south], store, BOUND);
        let scene = Self { fleet, ns, east, west, replica, south, observer };
        scene.everywhere("still").await?;
        scene.everywhere("web").await?;
        scene.expect("still").await?;
        scene.expect("web").await?;
        Ok(scene)
    }

    fn agents(&self) -> [&Agent; 4] {
        [&self.east, &self.west, &self.replica, &self.south]
    }

    fn name(&self, service: &str) -> String {
        format!("{service}.{}.global", self.ns)
    }

    /// What a service is on the networks of east and west, and of south.
    async fn pods(&self, service: &str) -> Result<[BTreeSet<IpAddr>; 2]> {
        let [east, west, south] = ["east", "west", "south"].map(|name| self.fleet.cluster(name));
        Ok([all_pods(&[east, west], &self.ns, service).await?, all_pods(&[south], &self.ns, service).await?])
    }

    /// From now on what there is is right, and nothing else.
    async fn expect(&self, service: &str) -> Result {
        let [n1, n2] = self.pods(service).await?;
        self.observer.expect(&self.name(service), "n1", Expected::exactly(&n1));
        self.observer.expect(&self.name(service), "n2", Expected::exactly(&n2));
        Ok(())
    }

    /// Gives `web` in a cluster that many pods. The others stay; until [`Self::expect`] any other may be answered,
    /// because nobody need know.
    async fn scale(&self, cluster: &str, replicas: u32) -> Result {
        self.observer.note(&format!("web in {cluster} is scaled to {replicas}"));
        let cluster = self.fleet.cluster(cluster);
        let neighbours = self.fleet.clusters().filter(|other| other.network() == cluster.network());
        let neighbours: Vec<_> = neighbours.filter(|other| other.name() != cluster.name()).collect();
        let stay = all_pods(&neighbours, &self.ns, "web").await?;
        let right = Expected::at_least(&stay);
        self.observer.expect(&self.name("web"), cluster.network(), right);
        cluster.scale(&self.ns, "web", replicas).await
    }

    /// Waits until all agents answer what there is.
    async fn everywhere(&self, service: &str) -> Result {
        self.known_to(&self.agents(), service).await
    }

    /// Waits until these agents answer what there is.
    async fn known_to(&self, agents: &[&Agent], service: &str) -> Result {
        let [n1, n2] = self.pods(service).await?;
        for &agent in agents {
            let right = if std::ptr::eq(agent, &raw const self.south) { &n2 } else { &n1 };
            told(agent, &self.name(service), right).await?;
        }
        Ok(())
    }

    /// A change in a cluster that everybody has to hear of.
    async fn change(&self, cluster: &str, replicas: u32) -> Result {
        self.change_for(&self.agents(), cluster, replicas).await
    }

    /// The same where only these agents can hear of it.
    async fn change_for(&self, agents: &[&Agent], cluster: &str, replicas: u32) -> Result {
        self.scale(cluster, replicas).await?;
        self.expect("web").await?;
        self.known_to(agents, "web").await
    }

    /// Waits until every agent says that about the store: `lost`, `followed`.
    async fn store_is(&self, state: &str) -> Result {
        for agent in self.agents() {
            agent.wait_until(&format!("says that the store is {state}"), |status| store_is(status, state)).await?;
        }
        Ok(())
    }

    /// Leaves things as they are for longer than a lease lasts.
    async fn endure(&self) -> Result {
        self.observer.rounds(OUTAGE).await
    }

    /// Everybody agrees, one agent owns each cluster, and nothing was wrong at any time.
    async fn end(self) -> Result {
        self.everywhere("still").await?;
        self.everywhere("web").await?;
        for cluster in ["east", "west", "south"] {
            eventually(SOON, &format!("{cluster} has one owner"), async || {
                let mut owners = 0;
                for agent in self.agents() {
                    owners += usize::from(is_owner(&agent.status().await?, cluster));
                }
                ensure!(owners == 1, "it has {owners}");
                Ok(())
            })
            .await?;
        }
        converged(&self.agents()).await?;
        self.observer.rounds(5).await?;
        self.observer.stop().await?.flawless(ENOUGH)
    }
}

/// Whether an agent says that it publishes a cluster.
fn is_owner(status: &Value, cluster: &str) -> bool {
    status["clusters"][cluster]["observed"]["owner"] == true
}

/// Waits until an agent publishes a cluster, and has compared everything.
async fn owns(agent: &Agent, cluster: &str) -> Result<Value> {
    let owns = |status: &Value| is_owner(status, cluster) && status["clusters"][cluster]["synced"] == true;
    agent.wait_until(&format!("owns {cluster}"), owns).await
}

/// What an agent says of the store.
fn store_is(status: &Value, state: &str) -> bool {
    status["store"]["state"] == state
}

/// The revision that stands behind everything an agent shows.
fn revision(status: &Value) -> Result<u64> {
    status["revision"].as_u64().context("a revision")
}
