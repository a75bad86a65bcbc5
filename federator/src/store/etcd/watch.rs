//! A watch on everything under the root. Any trouble ends it with an error; nothing is re-created behind the
//! caller's back, because only the caller knows from where.

use super::{Etcd, MAX_ANSWER, sign, unsign};
use crate::store::{Batch, StoreError, Watch};
use async_trait::async_trait;
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};

pub(super) struct EtcdWatch {
    store: Etcd,
    stream: WatchStream,
}

// === impl EtcdWatch ===

impl EtcdWatch {
    /// Watches from `revision` on, itself included.
    pub(super) async fn start(store: Etcd, revision: u64) -> Result<Self, StoreError> {
        let mut client = store.client().watch_client().max_decoding_message_size(MAX_ANSWER);
        let options = WatchOptions::new().with_prefix().with_start_revision(sign(revision));
        let stream = client.watch(store.root.as_bytes(), Some(options)).await.map_err(|error| store.failed(&error))?;
        let mut watch = Self { store, stream };
        let created = watch.message().await?;
        let now = unsign(created.header().map_or(0, etcd_client::ResponseHeader::revision));
        // etcd accepts a revision of the future and then says nothing until it is reached.
        if now + 1 < revision {
            return Err(StoreError::WentBack(format!("it is at revision {now}, and {} was seen", revision - 1)));
        }
        Ok(watch)
    }

    async fn message(&mut self) -> Result<WatchResponse, StoreError> {
        let message = self.stream.message().await.map_err(|error| self.store.failed(&error))?;
        let message = message.ok_or_else(|| StoreError::Unavailable("etcd ended the watch".to_owned()))?;
        self.store.check(message.header())?;
        if message.compact_revision() > 0 {
            return Err(StoreError::Compacted(unsign(message.compact_revision())));
        }
        if message.canceled() {
            return Err(StoreError::Unavailable(format!("etcd cancelled the watch: {}", message.cancel_reason())));
        }
        Ok(message)
    }
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            // One message holds whole revisions: etcd splits a transaction only when fragments are asked for.
            let message = self.message().await?;
            let mut batch = Batch { revision: 0, changes: Vec::new() };
            for event in message.events() {
                let Some((key, entry)) = event.kv().and_then(|kv| self.store.entry(kv)) else {
                    continue;
                };
                batch.revision = batch.revision.max(entry.modified);
                let entry = (event.event_type() == EventType::Put).then_some(entry);
                batch.changes.push((key, entry));
            }
            if !batch.changes.is_empty() {
                return Ok(batch);
            }
        }
    }
}
