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
    /// What it must know of all members before there are any.
    initial: [String; 3],
}

/// The client port, everywhere.
pub(crate) const PORT: u16 = 2379;

impl Etcd {
    /// Describes an etcd of a single member, without TLS, with its data below `directory`.
    pub(crate) fn new(place: Place, binary: PathBuf, directory: &Path, logs: &Path) -> Self {
        let data = directory.join("etcd");
        let (clients, peers) = (format!("http://{}", place.port(PORT)), format!("http://{}", loopback(2380)));
        let initial = [
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            // All have the same address among peers, and their etcd cluster ids are made of that and of this.
            format!("--initial-cluster-token={}", place.name()),
        ];
        let flags = [
            format!("--listen-client-urls={clients},http://{}", loopback(PORT)),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            // A single member has nobody to wait for.
            "--heartbeat-interval=10".to_owned(),
            "--election-timeout=100".to_owned(),
        ];
        Self::with("etcd", place, binary, data, loopback(PORT), &initial, flags, logs)
    }

    /// Describes a member of any kind by its flags; `initial` are those that a restored one is given, too.
    #[expect(clippy::too_many_arguments, reason = "each is one word of a command line")]
    pub(crate) fn with(
        name: &str,
        place: Place,
        binary: PathBuf,
        data: PathBuf,
        health: SocketAddr,
        initial: &[String; 3],
        flags: impl IntoIterator<Item = String>,
        logs: &Path,
    ) -> Self {
        let common = [
            format!("--data-dir={}", data.display()),
            // The data lives in memory and dies with the sandbox.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let arguments = common.into_iter().chain(initial.clone()).chain(flags);
        Self {
            process: Process::new(name, place, binary, arguments, logs),
            place,
            data,
            health,
            initial: initial.clone(),
        }
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
    pub(crate) fn start_from(&self, etcdutl: &Path, snapshot: &Path) -> Result {
        self.start_as(etcdutl, snapshot, &[])
    }

    /// The same with more flags for what is restored: another `--initial-cluster-token` makes another etcd cluster id.
    pub(crate) fn start_as(&self, etcdutl: &Path, snapshot: &Path, flags: &[&str]) -> Result {
        fs::remove_dir_all(&self.data)?;
        let mut restore = Command::new(etcdutl);
        restore.args(["snapshot", "restore"]).arg(snapshot).arg("--data-dir").arg(&self.data).args(&self.initial);
        restore.args(flags);
        run(&mut restore).context("restore a snapshot")?;
        self.process.start()
    }

    /// Starts a killed member without its data. Its etcd cluster id stays, being made of the address.
    pub(crate) fn start_empty(&self) -> Result {
        fs::remove_dir_all(&self.data)?;
        self.process.start()
    }
}
