//! One etcd of a single member: each cluster has its own, and Federator's agents share another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::place::{Place, run};
use crate::process::Process;
use crate::site::loopback;
use crate::{Result, eventually, http};

/// An etcd without history starts in a tenth of a second.
const START: Duration = Duration::from_secs(20);

/// A member and the directory that holds everything it knows.
#[derive(Debug)]
pub(crate) struct Etcd {
    process: Process,
    place: Place,
    data: PathBuf,
}

/// The client port, everywhere.
pub(crate) const PORT: u16 = 2379;

impl Etcd {
    /// Describes a member with its data below `directory`.
    pub(crate) fn new(place: Place, binary: PathBuf, directory: &Path, logs: &Path) -> Self {
        let data = directory.join("etcd");
        let (clients, peers) = (format!("http://{}", place.port(PORT)), format!("http://{}", loopback(2380)));
        let arguments = [
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={clients},http://{}", loopback(PORT)),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            // The data lives in memory and dies with the sandbox.
            "--unsafe-no-fsync".to_owned(),
            // A single member has nobody to wait for.
            "--heartbeat-interval=10".to_owned(),
            "--election-timeout=100".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        Self { process: Process::new("etcd", place, binary, arguments, logs), place, data }
    }

    pub(crate) const fn process(&self) -> &Process {
        &self.process
    }

    /// Whether it serves now.
    pub(crate) async fn check(&self) -> Result {
        http::get(self.place, loopback(PORT), "/readyz").await.context("etcd")?;
        Ok(())
    }

    /// Waits until it serves.
    pub(crate) async fn ready(&self) -> Result {
        eventually(START, "etcd serves", async || self.check().await).await.with_context(|| self.process.tail())
    }

    /// Starts a killed member with the data of a snapshot.
    pub(crate) fn start_from(&self, etcdutl: &Path, snapshot: &Path) -> Result {
        fs::remove_dir_all(&self.data)?;
        let mut restore = Command::new(etcdutl);
        restore.args(["snapshot", "restore"]).arg(snapshot).arg("--data-dir").arg(&self.data);
        run(&mut restore).context("restore a snapshot")?;
        self.process.start()
    }

    /// Starts a killed member without its data. Its etcd cluster id stays, being made of the address.
    pub(crate) fn start_empty(&self) -> Result {
        fs::remove_dir_all(&self.data)?;
        self.process.start()
    }
}
