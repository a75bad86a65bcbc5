//! The bed: what is made once in a test binary and stands until the sandbox dies.
//!
//! It holds nothing that belongs to an async runtime, because every test has a runtime of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, anyhow};
use futures::future::try_join_all;

use crate::Result;
use crate::control_plane::ControlPlane;
use crate::etcd::Etcd;
use crate::furniture::{Crds, furnish};
use crate::network::Network;
use crate::parts::{Parts, require_sandbox};
use crate::place::Place;
use crate::process::Process;
use crate::scheduler;
use crate::site::{Lane, SITES, SPARES, STORE, Site, TRIOS};

/// Everything that the bed writes. The sandbox has a `/run` of its own, in memory.
const ROOT: &str = "/run/fleet";

/// Three clusters, the wire between them, and the shared store.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) parts: Parts,
    pub(crate) network: Network,
    pub(crate) planes: Vec<ControlPlane>,
    pub(crate) store: Etcd,
    logs: PathBuf,
    numbers: AtomicU32,
    lanes: Mutex<BTreeSet<Lane>>,
    /// Names of the spare clusters that some test has.
    spares: Mutex<BTreeSet<&'static str>>,
    /// Names of the first members of the etcds that some test has.
    trios: Mutex<BTreeSet<&'static str>>,
}

impl Bed {
    /// The bed of this test binary, made by the first test that asks. If that fails, it fails for all.
    pub(crate) fn get(runtime: &tokio::runtime::Runtime) -> Result<&'static Self> {
        static BED: OnceLock<std::result::Result<&Bed, String>> = OnceLock::new();
        let made = BED.get_or_init(|| runtime.block_on(Self::make()).map_err(|error| format!("{error:#}")));
        made.as_ref().copied().map_err(|error| anyhow!("{error}"))
    }

    async fn make() -> Result<&'static Self> {
        require_sandbox()?;
        let parts = Parts::from_environment()?;
        let (data, logs) = (Path::new(ROOT).join("data"), Path::new(ROOT).join("logs"));
        let store_data = data.join(STORE.name());
        let store_logs = logs.join(STORE.name());
        fs::create_dir_all(&store_data)?;
        fs::create_dir_all(&store_logs)?;

        let planes = SITES.iter().map(|site| ControlPlane::prepare(site, Lane(0), &parts, &data, &logs));
        let bed = Self {
            planes: planes.collect::<Result<_>>()?,
            store: Etcd::new(STORE, parts.bin("etcd")?, &store_data, &store_logs),
            network: Network::lay(parts.bin("nft")?).context("lay the network")?,
            parts,
            logs,
            numbers: AtomicU32::new(0),
            lanes: Mutex::default(),
            spares: Mutex::default(),
            trios: Mutex::default(),
        };
        // The processes live as long as the sandbox; so may what describes them.
        let bed: &'static Self = Box::leak(Box::new(bed));
        bed.start().await?;
        Ok(bed)
    }

    async fn start(&'static self) -> Result {
        let crds = Crds::read(&self.parts)?;
        self.store.process().start()?;
        for plane in &self.planes {
            plane.start()?;
            scheduler::run(plane, std::future::pending())?;
        }
        try_join_all(self.planes.iter().map(async |plane| {
            let client = plane.client().await?;
            plane.ready(&client).await?;
            furnish(plane.site, &client, &crds).await.with_context(|| format!("furnish {}", plane.site.name))
        }))
        .await?;
        self.store.ready().await
    }

    /// Undoes what an exclusive test has broken: every paused or ended process runs and serves again.
    pub(crate) async fn mend(&self) -> Result {
        let store = self.store.process();
        if store.is_running() {
            store.resume()?;
        } else {
            store.start()?;
        }
        try_join_all(self.planes.iter().map(ControlPlane::mend)).await?;
        self.store.ready().await
    }

    /// A number that nothing in this bed has had before.
    pub(crate) fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A lane for a test that runs beside others; lane 0 is not given out.
    pub(crate) fn take_lane(&self) -> Lane {
        let mut taken = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (1..).map(Lane).find(|lane| !taken.contains(lane)).unwrap_or(Lane(1));
        taken.insert(free);
        free
    }

    pub(crate) fn return_lane(&self, lane: Lane) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).remove(&lane);
    }

    /// The plan of a cluster that no other test has now.
    pub(crate) fn take_spare(&self) -> Option<&'static Site> {
        let mut taken = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        let free = SPARES.iter().find(|site| !taken.contains(site.name))?;
        taken.insert(free.name);
        Some(free)
    }

    pub(crate) fn return_spare(&self, site: &Site) {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).remove(site.name);
    }

    /// The plan of an etcd that no other test has now.
    pub(crate) fn take_trio(&self) -> Option<[Place; 3]> {
        let mut taken = self.trios.lock().unwrap_or_else(PoisonError::into_inner);
        let free = TRIOS.iter().find(|[first, ..]| !taken.contains(first.name()))?;
        taken.insert(free[0].name());
        Some(*free)
    }

    pub(crate) fn return_trio(&self, [first, ..]: &[Place; 3]) {
        self.trios.lock().unwrap_or_else(PoisonError::into_inner).remove(first.name());
    }

    /// Where clusters keep their data, one directory each.
    pub(crate) fn data(&self) -> PathBuf {
        Path::new(ROOT).join("data")
    }

    /// Where logs are, one directory a place, and one a test.
    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Processes that should run and do not: the first suspects of any failure.
    pub(crate) fn fallen(&self) -> Vec<&Process> {
        let all = self.planes.iter().flat_map(ControlPlane::processes).chain([self.store.process()]);
        all.filter(|process| !process.is_running()).collect()
    }
}
