//! The records of a fleet in an etcd: written there by nobody but the benchmark, as the clusters' owners would, and changed
//! one at a time.

use anyhow::{Context, ensure};
use etcd_client::{Client, Txn, TxnOp};
use futures::{StreamExt as _, TryStreamExt as _};
use harness::Result;
use model::key::Key;
use model::record::Record as _;

use crate::shape::{Shape, Write, marker};

/// Most writes of a transaction (`--max-txn-ops` is 128).
const WRITES: usize = 120;

/// Transactions under way while it is filled.
const IN_FLIGHT: usize = 16;

/// Everything below a root, of clusters of one shape.
pub(crate) struct Records {
    client: Client,
    root: String,
    shape: Shape,
    /// Changes so far: each makes an address that was not there before.
    changes: u32,
}

// === impl Records ===

impl Records {
    /// Writes all that the clusters of a shape export below a root, behind which agents put a slash.
    pub(crate) async fn fill(endpoint: &str, root: &str, shape: &Shape) -> Result<Self> {
        let client = Client::connect([endpoint], None).await?;
        let records = Self { client, root: format!("{root}/"), shape: *shape, changes: 0 };
        records.put_all(shape.common()?).await?;
        for cluster in 0..shape.clusters {
            records.put_all(shape.records(cluster)?).await?;
        }
        Ok(records)
    }

    /// Replaces the first endpoint of a slice, and writes the cluster's marker with it, as its owner would; returns the
    /// revision of that.
    pub(crate) async fn change(&mut self) -> Result<u64> {
        let number = self.changes;
        self.changes += 1;
        let at = self.shape.place(number);
        let key = self.shape.key(at)?.to_string();
        let synced = Key::Synced(Shape::cluster(at.cluster)?).to_string();
        let (known, before) = (self.get(&synced).await?, self.get(&key).await?);
        let after = self.shape.slice(at, number + 1).encode();
        let marker = marker(&known, &key, &before, &after)?;
        self.put(vec![(key, after), (synced, marker)]).await
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>> {
        let found = self.client.clone().get(format!("{}{key}", self.root), None).await?;
        let found = found.kvs().first().with_context(|| format!("nothing stands behind {key}"))?;
        Ok(found.value().to_vec())
    }

    /// Does the writes in one transaction; returns its revision.
    async fn put(&self, writes: Vec<Write>) -> Result<u64> {
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
