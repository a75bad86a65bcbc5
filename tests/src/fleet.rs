//! What a test holds: the fleet for itself or beside other tests, with namespaces, cuts and agents of its own.
//!
//! The bed is made once in a test binary; each test has its own runtime, clients, ports, root in the shared
//! store and names, so nothing of one test is seen by another that does not look for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::try_join_all;

use crate::agent::AgentSetup;
use crate::bed::Bed;
use crate::site::{Lane, places};
use crate::{Agent, Cluster, Cut, Namespace, Place, Result, Spare, Store, TrioSetup, failure};

/// No test takes this long; one that hangs fails instead.
const LIMIT: Duration = Duration::from_secs(180);

/// Tests beside each other hold it for reading, a test that is alone for writing.
static ALONE: RwLock<()> = RwLock::new(());

/// Three clusters and a store, as one test sees them.
pub struct Fleet {
    bed: &'static Bed,
    clusters: Vec<Cluster>,
    lane: Lane,
    exclusive: bool,
    /// The root of this test's agents in the shared store.
    root: String,
    /// The namespaces that this test has made.
    namespaces: Mutex<Vec<String>>,
    logs: PathBuf,
}

impl Fleet {
    /// Runs a test beside others: it may do what it likes in namespaces and with agents of its own.
    pub fn shared(test: impl AsyncFnOnce(&Self) -> Result) -> Result {
        Self::shared_within(LIMIT, test)
    }

    /// The same for what is known to take longer than a test may.
    pub fn shared_within(limit: Duration, test: impl AsyncFnOnce(&Self) -> Result) -> Result {
        let _beside = ALONE.read().unwrap_or_else(PoisonError::into_inner);
        Self::run(false, limit, test)
    }

    /// Runs a test that has the fleet for itself: it may cut the network, and kill and pause every part.
    /// Whatever it leaves broken is mended after it. Its agents have the ports of the manual.
    pub fn exclusive(test: impl AsyncFnOnce(&Self) -> Result) -> Result {
        Self::exclusive_within(LIMIT, test)
    }

    /// The same for what is known to take longer than a test may.
    pub fn exclusive_within(limit: Duration, test: impl AsyncFnOnce(&Self) -> Result) -> Result {
        let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
        Self::run(true, limit, test)
    }

    /// `east`, `west` or `south`.
    pub fn cluster(&self, name: &str) -> &Cluster {
        let found = self.clusters.iter().find(|cluster| cluster.name() == name);
        found.unwrap_or_else(|| panic!("there is no cluster {name:?}: only east, west and south"))
    }

    /// All three.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.iter()
    }

    /// A cluster of this test's own, on the network of east and west, that it may destroy: `north`, or `north-2` and
    /// so on where tests run side by side. Namespaces are added to it by [`Namespace::add_to`].
    pub async fn spare(&self) -> Result<Spare> {
        Spare::make(self.bed, self.lane, &self.bed.data(), &self.logs).await
    }

    /// The etcd that agents share.
    pub fn store(&self) -> Store {
        Store::new(self.bed, self.exclusive)
    }

    /// An etcd of this test's own with three members, TLS and users, not yet started: everything in it may be broken.
    pub fn trio(&self) -> TrioSetup {
        TrioSetup::new(self.bed, &self.logs)
    }

    /// Before every key that this test's agents have in the shared store, without the slash.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// A namespace that no other test has, in every cluster: `prefix` and a number.
    ///
    /// It stays until the sandbox ends. Deleting one takes the cluster five seconds, and would disturb whoever
    /// comes next.
    pub async fn namespace(&self, prefix: &str) -> Result<Namespace> {
        let name = format!("{prefix}-{}", self.bed.number());
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        Namespace::make(name, &self.clusters).await
    }

    /// Cuts two places off from each other until the cut is healed or dropped: `east`, `west`, `south`,
    /// `store`, and `test` for the test itself. Needs [`Fleet::exclusive`].
    pub fn cut(&self, a: &str, b: &str) -> Result<Cut> {
        assert!(self.exclusive, "a cut disturbs other tests: use Fleet::exclusive");
        Cut::make(&self.bed.network, place(a)?, place(b)?)
    }

    /// An agent for a cluster, in that cluster's place and not yet started. All agents of one test share one
    /// root in the store, and import the namespaces that the test has made until now: the agents of two tests are two
    /// fleets, which would write one ServiceEntry with two virtual addresses, in turn and without end.
    pub fn agent(&self, cluster: &str) -> AgentSetup<'_> {
        self.agent_of(self.cluster(cluster))
    }

    /// The same for any cluster, a [`Spare`] for example.
    pub fn agent_of<'a>(&self, cluster: &'a Cluster) -> AgentSetup<'a> {
        let namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        AgentSetup::new(cluster, &self.store().endpoint(), &self.root, &namespaces)
    }

    /// An agent for every cluster with its configuration as it is by default, started and ready:
    /// `let [east, west, south] = fleet.agents().await?`.
    pub async fn agents(&self) -> Result<[Agent; 3]> {
        let start = async |cluster| {
            let agent = self.agent(cluster).start().await?;
            agent.ready().await?;
            Ok::<_, anyhow::Error>(agent)
        };
        Ok(futures::try_join!(start("east"), start("west"), start("south"))?.into())
    }

    /// Where this test's logs are.
    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    fn run(exclusive: bool, limit: Duration, test: impl AsyncFnOnce(&Self) -> Result) -> Result {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let bed = Bed::get(&runtime)?;
        let fleet = runtime.block_on(Self::new(bed, exclusive))?;
        let within_limit = async {
            let limited = tokio::time::timeout(limit, test(&fleet)).await;
            limited.unwrap_or_else(|_| bail!("the test did not end within {limit:?}"))
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(within_limit)));
        if !matches!(outcome, Ok(Ok(()))) {
            failure::report(bed, &fleet.logs);
        }
        drop(fleet);
        let mended = if exclusive { runtime.block_on(bed.mend()) } else { Ok(()) };
        outcome.unwrap_or_else(|panic: Box<dyn Any + Send>| resume_unwind(panic))?;
        mended.context("the test has broken something that cannot be mended")
    }

    async fn new(bed: &'static Bed, exclusive: bool) -> Result<Self> {
        let number = bed.number();
        let logs = bed.logs().join(format!("test-{number}"));
        let lane = if exclusive { Lane(0) } else { bed.take_lane() };
        let clusters = bed.planes.iter().map(|plane| Cluster::new(bed, plane, lane, &logs, exclusive));
        let clusters = try_join_all(clusters).await?;
        Ok(Self {
            bed,
            clusters,
            lane,
            exclusive,
            root: format!("/federator-{number}"),
            namespaces: Mutex::default(),
            logs,
        })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // With the clusters goes the CoreDNS that has the lane's ports.
        self.clusters.clear();
        self.bed.return_lane(self.lane);
    }
}

fn place(name: &str) -> Result<Place> {
    let found = places().into_iter().find(|place| place.name() == name);
    found.with_context(|| format!("there is no place {name:?}"))
}
