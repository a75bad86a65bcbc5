//! An etcd of one member on an address of the sandbox, with what operators set: automatic compaction and a quota. Its
//! data is in memory, and it waits for no disk.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use etcd_client::{Client, Txn, TxnOp};
use futures::{StreamExt as _, TryStreamExt as _};
use harness::{Parts, Result, eventually};

use super::http;
use super::shape::{Shape, Write};
use crate::cpu;

/// Without data it starts in a tenth of a second.
const START: Duration = Duration::from_secs(20);

/// Most writes of a transaction (`--max-txn-ops` is 128).
const WRITES: usize = 120;

/// Transactions under way while it is filled.
const IN_FLIGHT: usize = 16;

/// It is killed when dropped.
pub(super) struct Member {
    address: SocketAddr,
    child: Child,
}

/// Everything below a root.
#[derive(Clone)]
pub(super) struct Store {
    client: Client,
    root: String,
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

    /// What is below a root, where agents put a slash behind it.
    pub(super) async fn store(&self, root: &str) -> Result<Store> {
        Ok(Store { client: Client::connect([self.endpoint()], None).await?, root: format!("{root}/") })
    }

    /// Writes all that the clusters of a shape export.
    pub(super) async fn fill(&self, root: &str, shape: &Shape) -> Result {
        let store = self.store(root).await?;
        store.put_all(shape.common()?).await?;
        for cluster in 0..shape.clusters {
            store.put_all(shape.records(cluster)?).await?;
        }
        Ok(())
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

// === impl Store ===

impl Store {
    pub(super) async fn get(&self, key: &str) -> Result<Vec<u8>> {
        let found = self.client.clone().get(format!("{}{key}", self.root), None).await?;
        let found = found.kvs().first().with_context(|| format!("nothing stands behind {key}"))?;
        Ok(found.value().to_vec())
    }

    /// Does the writes in one transaction; returns its revision.
    pub(super) async fn put(&self, writes: Vec<Write>) -> Result<u64> {
        let puts = writes.into_iter().map(|(key, value)| TxnOp::put(format!("{}{key}", self.root), value, None));
        let done = self.client.clone().txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await?;
        ensure!(done.succeeded(), "a transaction without guards was refused");
        Ok(done.header().map_or(0, etcd_client::ResponseHeader::revision).try_into()?)
    }

    async fn put_all(&self, writes: Vec<Write>) -> Result {
        let chunks: Vec<Vec<Write>> = writes.chunks(WRITES).map(<[Write]>::to_vec).collect();
        let puts = futures::stream::iter(chunks).map(|writes| self.put(writes)).buffer_unordered(IN_FLIGHT);
        puts.try_for_each(|_| async { Ok(()) }).await
    }
}
