//! A whole cluster of one test's own, to be destroyed: its etcd may lose what it knew, its authority may change.
//!
//! What is done here cannot be mended, since resource versions go back under the feet of whoever reads the cluster.
//! So it is made on demand, beside the three that all tests share, in a place of its own on the network `n1`; and
//! it is gone when it is dropped. It has all that a [`Cluster`] has.

use std::fs;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::sync::oneshot;

use crate::bed::Bed;
use crate::control_plane::ControlPlane;
use crate::furniture::{Crds, furnish};
use crate::network::Network;
use crate::place::{Place, run};
use crate::scheduler;
use crate::site::{Lane, Site, loopback, places};
use crate::{Cluster, Cut, Result, envoy, etcd};

/// A cluster that its test may destroy; it goes when it is dropped.
pub struct Spare {
    cluster: Cluster,
    ground: Ground,
}

/// What an etcd knew at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) file: PathBuf,
}

/// Whether the API server is started anew once its etcd has another content.
///
/// One that goes on lies: LIST and every watch stay in the old world, `/readyz` is green, and only GET tells the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartApiServer {
    /// Clean: everybody reads the new content.
    Yes,
    /// It goes on, and lies.
    No,
}

/// What has to be taken away again, however far the making of a cluster got.
struct Ground {
    bed: &'static Bed,
    site: &'static Site,
    plane: &'static ControlPlane,
    data: PathBuf,
    /// Ends the scheduler when it is dropped.
    scheduler: Option<oneshot::Sender<()>>,
}

// === impl Spare ===

impl Spare {
    /// Makes one in about six seconds.
    pub(crate) async fn make(bed: &'static Bed, lane: Lane, data: &Path, logs: &Path) -> Result<Self> {
        let site = bed.take_spare().context("every spare cluster is in use")?;
        let ground = Ground::take(bed, site, lane, data, logs)?;
        ground.plane.start()?;
        let cluster = Cluster::new(bed, ground.plane, lane, logs, true).await?;
        cluster.ready().await?;
        let spare = Self { cluster, ground };
        spare.furnish().await?;
        Ok(spare)
    }

    /// Puts nodes and CRDs into a cluster that has lost them; those that are there stay.
    pub async fn furnish(&self) -> Result {
        let crds = Crds::read(&self.ground.bed.parts)?;
        furnish(self.ground.site, &self.cluster.client(), &crds).await
    }

    /// Cuts it off from another place until the cut is healed or dropped. This disturbs nobody else.
    pub fn cut(&self, other: &str) -> Result<Cut> {
        let other = places().into_iter().find(|place| place.name() == other).context("there is no such place")?;
        Cut::make(self.network_of_bed(), self.place(), other)
    }

    /// Redirects what one of its pods sends into a range of addresses to the sidecar here, as Istio does in a pod. A pod
    /// is told by its address, which the sidecar does not send from: Istio tells the sidecar by its user, and an
    /// ordinary user's sandbox has no other.
    pub fn redirect(&self, pod: IpAddr, range: &str) -> Result {
        self.network_of_bed().redirect(self.place(), pod, range, envoy::OUTBOUND)
    }

    /// Keeps what its etcd knows now.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::save(self.ground.bed, self.place(), &self.ground.data)
    }

    /// Goes back to a snapshot; returns when every part serves again.
    pub async fn restore(&self, snapshot: &Snapshot, api_server: RestartApiServer) -> Result {
        let etcdutl = self.ground.bed.parts.bin("etcdutl")?;
        self.ground.plane.etcd().process().kill()?;
        self.ground.plane.etcd().start_from(&etcdutl, snapshot.file())?;
        self.serve_anew(api_server).await
    }

    /// Loses everything that its etcd knew; returns when every part serves again. [`Spare::furnish`] makes it usable.
    pub async fn wipe_etcd(&self, api_server: RestartApiServer) -> Result {
        self.ground.plane.etcd().process().kill()?;
        self.ground.plane.etcd().start_empty()?;
        self.serve_anew(api_server).await
    }

    /// Has the API server serve a certificate of another authority, without a restart, and returns that authority.
    ///
    /// Connections that are open stay so. Who trusts the old authority alone can open no new one; the administrator
    /// trusts both, and from now on so does [`Cluster::kubeconfig`]. Readers' kubeconfigs have the new authority from
    /// here on. The next rotation goes back to the first.
    pub async fn rotate_ca(&self) -> Result<String> {
        self.ground.plane.rotate_authority().await
    }

    async fn serve_anew(&self, api_server: RestartApiServer) -> Result {
        self.ground.plane.etcd().ready().await?;
        if api_server == RestartApiServer::Yes {
            self.ground.plane.restart_api_server()?;
        }
        self.ready().await
    }

    const fn network_of_bed(&self) -> &'static Network {
        &self.ground.bed.network
    }
}

impl Deref for Spare {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Keeps what the etcd of a place knows now, below a directory.
    pub(crate) fn save(bed: &Bed, place: Place, directory: &Path) -> Result<Self> {
        let file = directory.join(format!("snapshot-{}", bed.number()));
        let mut etcdctl = place.command(&bed.parts.bin("etcdctl")?);
        etcdctl.arg(format!("--endpoints=http://{}", loopback(etcd::PORT))).args(["snapshot", "save"]).arg(&file);
        run(&mut etcdctl).context("save a snapshot")?;
        Ok(Self { file })
    }

    /// The file that it is in.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

// === impl Ground ===

impl Ground {
    fn take(bed: &'static Bed, site: &'static Site, lane: Lane, data: &Path, logs: &Path) -> Result<Self> {
        // What describes its processes is a few kilobytes, and others hold it for as long as the bed stands.
        let plane =
            ControlPlane::prepare(site, lane, &bed.parts, data, logs).inspect_err(|_| bed.return_spare(site))?;
        let mut ground =
            Self { bed, site, plane: Box::leak(Box::new(plane)), data: data.join(site.name), scheduler: None };
        bed.network.add(site).with_context(|| format!("a place for {}", site.name))?;
        let (stop, stopped) = oneshot::channel();
        scheduler::run(ground.plane, async {
            // Stopped or forgotten: both is the end.
            let _ = stopped.await;
        })?;
        ground.scheduler = Some(stop);
        Ok(ground)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // What fails here ends with the sandbox; the site is returned only if the next one can have it.
        let ended = self.plane.end();
        let _ = fs::remove_dir_all(&self.data);
        if ended.and_then(|()| self.bed.network.remove(self.site)).is_ok() {
            self.bed.return_spare(self.site);
        }
    }
}
