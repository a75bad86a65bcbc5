//! An agent that reads a filled store, answers DNS and writes ServiceEntries into a directory in memory. Its own cluster
//! is a directory with one service. It logs warnings only: a line for each of 100,000 objects would be most of a start.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::{Result, eventually};
use serde_json::json;

use super::http;
use crate::ask::Asker;
use crate::cpu;
use crate::shape::NETWORK;

/// Much more than reading the largest store takes, and than writing all objects takes.
const START: Duration = Duration::from_mins(10);

/// From the last object until memory is looked at: buffers are given back, and whatever follows is done.
const SETTLE: Duration = Duration::from_secs(5);

/// The service of its own cluster.
const HOME: &str = r#"apiVersion: v1
kind: Service
metadata: {name: home, namespace: home}
spec: {clusterIP: 10.99.0.1, clusterIPs: [10.99.0.1], ports: [{name: http, port: 80}]}
"#;

/// It is killed when dropped.
pub(super) struct Agent {
    admin: SocketAddr,
    vip: SocketAddr,
    child: Child,
    log: PathBuf,
    started: Instant,
}

/// What it holds of the machine's memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) resident: u64,
    pub(super) peak: u64,
}

// === impl Agent ===

impl Agent {
    /// Starts it on ports of its own, with the etcd of this URL. What an earlier one has kept there it begins with.
    pub(super) fn start(directory: &Path, etcd: &str, root: &str, port: u16) -> Result<Self> {
        let (home, emit) = (directory.join("home"), directory.join("emit"));
        fs::create_dir_all(&home)?;
        fs::write(home.join("home.yaml"), HOME)?;
        let address = |offset: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port + offset));
        let config = json!({
            "cluster": "home",
            "clusters": [{"id": "home", "directory": home, "network": NETWORK}],
            "store": {"etcd": {"endpoints": [etcd], "root": root}},
            "dns": {"listeners": [
                {"address": address(0), "mode": "endpoints"},
                {"address": address(1), "mode": "vip"},
            ]},
            "emit": {"directory": emit},
            "snapshot": {"directory": directory.join("snapshot")},
            "admin": {"address": address(2)},
            "log": {"filter": "warn"},
        });
        let file = directory.join("agent.yaml");
        fs::write(&file, config.to_string())?;
        let path = directory.join("agent.log");
        let log = File::create(&path)?;
        let started = Instant::now();
        let child = Command::new(harness::federator()?)
            .args(["agent", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the agent")?;
        Ok(Self { admin: address(2), vip: address(1), child, log: path, started })
    }

    /// Waits until it is ready and answers a host with its virtual address; says how long that was since its start.
    pub(super) async fn ready(&self, host: &str, vip: Ipv4Addr) -> Result<Duration> {
        let asker = Asker::new(self.vip, host)?;
        eventually(START, "the agent is ready", async || {
            http::get(self.admin, "/readyz")?;
            ensure!(asker.has(vip)?, "{host} is not answered with {vip}");
            Ok(())
        })
        .await
        .with_context(|| fs::read_to_string(&self.log).unwrap_or_default())?;
        Ok(self.started.elapsed())
    }

    /// Waits until so many objects are written; says how long that was since its start.
    pub(super) async fn emitted(&self, objects: u32) -> Result<Duration> {
        eventually(START, "every object is written", async || {
            let written = self.metric("federator_emitted_objects")?;
            ensure!(written >= f64::from(objects), "{written} of {objects}");
            Ok(())
        })
        .await?;
        Ok(self.started.elapsed())
    }

    /// Waits until it answers a host with its virtual address, whatever else it does not know; says how long that was
    /// since its start.
    pub(super) async fn answers(&self, host: &str, vip: Ipv4Addr) -> Result<Duration> {
        let asker = Asker::new(self.vip, host)?;
        Ok(asker.until(vip, START)?.at - self.started)
    }

    /// Waits until it has kept what it knows for its next start; returns the size of that.
    pub(super) async fn kept(&self) -> Result<f64> {
        let bytes = async || {
            let bytes = self.metric("federator_snapshot_bytes")?;
            ensure!(bytes > 0.0, "nothing is kept yet");
            Ok(bytes)
        };
        eventually(START, "the snapshot is written", bytes).await
    }

    /// Waits until it has seen a revision.
    pub(super) async fn wait_for(&self, revision: u64) -> Result {
        eventually(START, "the agent catches up", async || {
            let at = self.metric("federator_revision")?;
            ensure!(at >= revision as f64, "it is at {at}, and {revision} was written");
            Ok(())
        })
        .await
    }

    /// One of its metrics without labels.
    pub(super) fn metric(&self, name: &str) -> Result<f64> {
        let metrics = http::get(self.admin, "/metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("the agent has no metric {name}"))?.trim().parse()?)
    }

    /// What it holds once it has come to rest.
    pub(super) async fn memory(&self) -> Result<Memory> {
        // Memory is given back without a sign; the time is part of what is measured.
        tokio::time::sleep(SETTLE).await;
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Result<u64> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)).context("a field of /proc/PID/status")?;
            Ok(line.split_whitespace().next().context("a number")?.parse::<u64>()? << 10)
        };
        Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// User and system time since its start.
    pub(super) fn cpu(&self) -> Result<Duration> {
        cpu::of_tree(self.child.id())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
