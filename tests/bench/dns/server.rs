//! The servers under load: ours, NSD and CoreDNS, with as many workers as there are cores, without a log, and with
//! answers of the same records.
//!
//! What differs by default and would compare apples with pears is set: NSD's rate limit is off, and neither NSD nor
//! CoreDNS adds the authority section that our answers do not have.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::available_parallelism;

use anyhow::Context;
use harness::{Parts, Result};
use serde_json::json;

use super::zone;

/// A process that answers on the loopback; it is killed when dropped.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) address: (Ipv4Addr, u16),
    pub(super) log: PathBuf,
    child: Child,
}

// === impl Server ===

impl Server {
    fn start(name: &'static str, port: u16, command: &mut Command, directory: &Path) -> Result<Self> {
        let log = directory.join("log");
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Self {
            name,
            address: (Ipv4Addr::LOCALHOST, port),
            log,
            child: command.spawn().with_context(|| format!("cannot start {name}"))?,
        })
    }

    /// The process whose descendants are the server.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it has forked ends with the sandbox.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon with a directory of manifests and the store in its own memory.
pub(super) fn federator(directory: &Path, names: u16) -> Result<Server> {
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

/// NSD in the foreground.
pub(super) fn nsd(parts: &Parts, directory: &Path, names: u16) -> Result<Server> {
    let port = 5302;
    fs::create_dir_all(directory)?;
    zone::write_zone(&directory.join("global.zone"), names)?;
    let (at, cores) = (directory.display(), available_parallelism()?);
    let config = format!(
        r#"server:
  ip-address: 127.0.0.1@{port}
  server-count: {cores}
  reuseport: yes
  minimal-responses: yes
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
  username: ""
  database: ""
  zonesdir: "{at}"
  pidfile: "{at}/nsd.pid"
  xfrdfile: "{at}/xfrd.state"
  xfrdir: "{at}"
  zonelistfile: "{at}/zone.list"
  verbosity: 0
remote-control:
  control-enable: no
zone:
  name: global
  zonefile: global.zone
"#
    );
    let file = directory.join("nsd.conf");
    fs::write(&file, config)?;
    let mut command = Command::new(parts.bin("nsd")?);
    command.arg("-d").arg("-c").arg(file);
    Server::start("nsd", port, &mut command, directory)
}

/// CoreDNS with its `file` plugin and as little else as it can have.
pub(super) fn coredns(parts: &Parts, directory: &Path, names: u16) -> Result<Server> {
    let port = 5303;
    fs::create_dir_all(directory)?;
    let zone = directory.join("global.zone");
    zone::write_zone(&zone, names)?;
    let zone = zone.display();
    let file = directory.join("Corefile");
    fs::write(&file, format!("global:{port} {{\n  bind 127.0.0.1\n  minimal\n  file {zone}\n}}\n"))?;
    let mut command = Command::new(parts.bin("coredns")?);
    command.arg("-conf").arg(file);
    Server::start("coredns", port, &mut command, directory)
}
