//! An etcd of one member on an address of the sandbox, with what operators set: automatic compaction and a quota. Its
//! data is in memory, and it waits for no disk.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use harness::{Parts, Result, eventually};

use super::http;
use crate::cpu;

/// Without data it starts in a tenth of a second.
const START: Duration = Duration::from_secs(20);

/// It is killed when dropped.
pub(super) struct Member {
    address: SocketAddr,
    child: Child,
}

/// What etcd counts since its start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Transactions that changed something under any key.
    pub(super) revision: f64,
    /// Keys that were put.
    pub(super) puts: f64,
    /// Bytes of its file.
    pub(super) size: f64,
    /// Bytes of it that hold something.
    pub(super) in_use: f64,
    /// User and system time.
    pub(super) cpu: Duration,
}

// === impl Member ===

impl Member {
    pub(super) async fn start(parts: &Parts, directory: &Path, address: SocketAddr) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let log = File::create(directory.join("etcd.log"))?;
        let peers = SocketAddr::new(address.ip(), address.port() + 1);
        let (clients, peers) = (format!("http://{address}"), format!("http://{peers}"));
        let child = Command::new(parts.bin("etcd")?)
            .arg(format!("--data-dir={}", directory.join("etcd").display()))
            .args([format!("--listen-client-urls={clients}"), format!("--advertise-client-urls={clients}")])
            .args([format!("--listen-peer-urls={peers}"), format!("--initial-advertise-peer-urls={peers}")])
            .arg(format!("--initial-cluster=default={peers}"))
            .args(["--unsafe-no-fsync", "--heartbeat-interval=10", "--election-timeout=100", "--log-level=warn"])
            .args(["--auto-compaction-mode=periodic", "--auto-compaction-retention=1m"])
            .arg(format!("--quota-backend-bytes={}", 8_u64 << 30))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start etcd")?;
        let member = Self { address, child };
        eventually(START, "etcd serves", async || http::get(address, "/readyz").map(drop)).await?;
        Ok(member)
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn counts(&self) -> Result<Counts> {
        let metrics = http::get(self.address, "/metrics")?;
        let value = |name: &str| -> Result<f64> {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            Ok(line.with_context(|| format!("etcd has no metric {name}"))?.trim().parse()?)
        };
        Ok(Counts {
            revision: value("etcd_debugging_mvcc_current_revision")?,
            puts: value("etcd_mvcc_put_total")?,
            size: value("etcd_mvcc_db_total_size_in_bytes")?,
            in_use: value("etcd_mvcc_db_total_size_in_use_in_bytes")?,
            cpu: cpu::of_tree(self.child.id())?,
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
