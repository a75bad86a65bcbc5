//! One member of an etcd. Each cluster has an etcd of a single one, Federator's agents share another; a
//! [`Trio`](crate::Trio) has three.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::place::{Place, run};
use crate::process::Process;
use crate::site::loopback;
use crate::{Result, eventually, http};

/// An etcd without history starts in a tenth of a second, three that must find a leader in two seconds.
const START: Duration = Duration::from_secs(30);

/// A member and the directory that holds everything it knows.
#[derive(Debug)]
pub(crate) struct Etcd {
    process: Process,
    place: Place,
    data: PathBuf,
    /// Where its place is told over plain HTTP whether it serves.
    health: SocketAddr,
}

/// The client port, everywhere.
pub(crate) const PORT: u16 = 2379;

impl Etcd {
    /// Describes an etcd of a single member, without TLS, with its data below `directory`.
    pub(crate) fn new(place: Place, binary: PathBuf, directory: &Path, logs: &Path) -> Self {
        let data = directory.join("etcd");
        let (clients, peers) = (format!("http://{}", place.port(PORT)), format!("http://{}", loopback(2380)));
        let arguments = [
            format!("--listen-client-urls={clients},http://{}", loopback(PORT)),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            // A single member has nobody to wait for.
            "--heartbeat-interval=10".to_owned(),
            "--election-timeout=100".to_owned(),
        ];
        Self::with("etcd", place, binary, data, loopback(PORT), arguments, logs)
    }

    /// Describes a member of any kind by its flags.
    pub(crate) fn with(
        name: &str,
        place: Place,
        binary: PathBuf,
        data: PathBuf,
        health: SocketAddr,
        flags: impl IntoIterator<Item = String>,
        logs: &Path,
    ) -> Self {
        let common = [
            format!("--data-dir={}", data.display()),
            // The data lives in memory and dies with the sandbox.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let process = Process::new(name, place, binary, common.into_iter().chain(flags), logs);
        Self { process, place, data, health }
    }

    pub(crate) const fn process(&self) -> &Process {
        &self.process
    }

    /// Whether it serves now.
    pub(crate) async fn check(&self) -> Result {
        http::get(self.place, self.health, "/readyz").await.with_context(|| self.process.name().to_owned())?;
        Ok(())
    }

    /// Waits until it serves.
    pub(crate) async fn ready(&self) -> Result {
        eventually(START, &format!("{} serves", self.process.name()), async || self.check().await)
            .await
            .with_context(|| self.process.tail())
    }

    /// Starts a killed member with the data of a snapshot.
    pub(crate) fn start_from(&self, etcdutl: &Path, snapshot: &Path, flags: &[String]) -> Result {
        fs::remove_dir_all(&self.data)?;
        let mut restore = Command::new(etcdutl);
        restore.args(["snapshot", "restore"]).arg(snapshot).arg("--data-dir").arg(&self.data).args(flags);
        run(&mut restore).context("restore a snapshot")?;
        self.process.start()
    }

    /// Starts a killed member without its data. Its etcd cluster id stays, being made of the address.
    pub(crate) fn start_empty(&self) -> Result {
        fs::remove_dir_all(&self.data)?;
        self.process.start()
    }
}
