//! The servers under load, with as many workers as there are cores, without a log, and with answers of the same records.
//!
//! What differs by default and would compare apples with pears is set: neither NSD nor CoreDNS adds the authority section
//! that our answers do not have.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::available_parallelism;

use anyhow::Context;
use harness::{Nsd, Parts, Result};
use serde_json::json;

use super::zone;

/// A process that answers on the loopback; it is killed when dropped.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) log: PathBuf,
    process: Process,
}

/// Whose it is to end it.
enum Process {
    Ours(Child),
    Nsd(Nsd),
}

// === impl Server ===

impl Server {
    fn start(name: &'static str, port: u16, command: &mut Command, directory: &Path) -> Result<Self> {
        let log = directory.join("log");
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, address: (Ipv4Addr::LOCALHOST, port).into(), log, process: Process::Ours(child) })
    }

    /// The process whose descendants are the server.
    pub(super) fn pid(&self) -> u32 {
        match &self.process {
            Process::Ours(child) => child.id(),
            Process::Nsd(nsd) => nsd.pid(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Ours(child) = self {
            // What it has forked ends with the sandbox.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The daemon with a directory of manifests and the store in its own memory.
pub(super) fn federator(directory: &Path, names: u32) -> Result<Server> {
    let (port, manifests) = (5301, directory.join("manifests"));
    zone::write_manifests(&manifests, names)?;
    let config = json!({
        "cluster": "one",
        "clusters": [{"id": "one", "directory": manifests}],
        "dns": {
            "ttl": zone::TTL,
            "listeners": [{"address": format!("127.0.0.1:{port}"), "mode": "endpoints"}],
        },
        "admin": {"address": "127.0.0.1:5391"},
        "log": {"filter": "warn"},
    });
    let file = directory.join("agent.yaml");
    fs::write(&file, config.to_string())?;
    let mut command = Command::new(harness::federator()?);
    command.args(["agent", "--config"]).arg(file);
    Server::start("federator", port, &mut command, directory)
}

/// The daemon's name server alone.
pub(super) fn alone(directory: &Path, names: u32) -> Result<Server> {
    let port = 5301;
    fs::create_dir_all(directory)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve-names", "--address", &format!("127.0.0.1:{port}"), "--names", &names.to_string()]);
    Server::start("federator", port, &mut command, directory)
}

/// NSD with a worker a core.
pub(super) fn nsd(parts: &Parts, directory: &Path, names: u32) -> Result<Server> {
    let nsd = Nsd::start(parts, directory, 5302, available_parallelism()?.get(), "global", &zone::text(names))?;
    Ok(Server { name: "nsd", address: nsd.address(), log: nsd.log().to_owned(), process: Process::Nsd(nsd) })
}

/// Knot with a worker a core.
pub(super) fn knot(parts: &Parts, directory: &Path, names: u32) -> Result<Server> {
    let (port, workers) = (5304, available_parallelism()?);
    fs::create_dir_all(directory)?;
    fs::write(directory.join("global.zone"), zone::text(names))?;
    let at = directory.display();
    let config = format!(
        r#"server:
  listen: 127.0.0.1@{port}
  rundir: "{at}"
  udp-workers: {workers}
  tcp-workers: {workers}
  background-workers: 1
database:
  storage: "{at}"
log:
  - target: stderr
    any: warning
zone:
  - domain: global
    storage: "{at}"
    file: global.zone
    zonefile-sync: -1
    journal-content: none
    semantic-checks: off
"#
    );
    let file = directory.join("knot.conf");
    fs::write(&file, config)?;
    let mut command = Command::new(parts.bin("knotd")?);
    command.arg("-c").arg(file);
    Server::start("knot", port, &mut command, directory)
}

/// CoreDNS with its `file` plugin and as little else as it can have.
pub(super) fn coredns(parts: &Parts, directory: &Path, names: u32) -> Result<Server> {
    let port = 5303;
    fs::create_dir_all(directory)?;
    let zone = directory.join("global.zone");
    fs::write(&zone, zone::text(names))?;
    let zone = zone.display();
    let file = directory.join("Corefile");
    fs::write(&file, format!("global:{port} {{\n  bind 127.0.0.1\n  minimal\n  file {zone}\n}}\n"))?;
    let mut command = Command::new(parts.bin("coredns")?);
    command.arg("-conf").arg(file);
    Server::start("coredns", port, &mut command, directory)
}
