//! A key held by a lease. While etcd cannot be reached the tenure is neither kept nor lost: every write is fenced by
//! the key, so believing in it harms nobody, and who comes back in time need not be elected again.

use super::{Etcd, sign};
use crate::store::{Committed, Guard, Store as _, StoreError, Tenure, Txn};
use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, EventType, LeaseKeepAliveStream, LeaseKeeper, PutOptions, TxnOp, WatchOptions};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};

pub(super) struct EtcdTenure {
    store: Etcd,
    lease: i64,
    epoch: u64,
    keeper: Option<(LeaseKeeper, LeaseKeepAliveStream)>,
}

// === impl EtcdTenure ===

impl EtcdTenure {
    /// Waits until the key is gone, then makes it ours.
    pub(super) async fn campaign(store: Etcd, key: &str, value: &[u8]) -> Result<Self, StoreError> {
        loop {
            if let Some(seen_at) = store.modified(key).await? {
                Self::wait_until_gone(&store, key, seen_at).await?;
                continue;
            }
            let mut leases = store.client().lease_client();
            let granted = leases.grant(store.lease_seconds, None).await.map_err(|error| store.failed(&error))?;
            let full = store.key(key);
            let put = TxnOp::put(full.clone(), value, Some(PutOptions::new().with_lease(granted.id())));
            let txn =
                etcd_client::Txn::new().when([Compare::create_revision(full, CompareOp::Equal, 0)]).and_then([put]);
            let answer = store.client().kv_client().txn(txn).await.map_err(|error| store.failed(&error))?;
            let revision = store.check(answer.header())?;
            if answer.succeeded() {
                return Ok(Self { store, lease: granted.id(), epoch: revision, keeper: None });
            }
            // Somebody was faster. The lease guards nothing; if revoking fails it runs out by itself.
            let _ = leases.revoke(granted.id()).await;
        }
    }

    /// Returns when the key that was there at `revision` is deleted.
    async fn wait_until_gone(store: &Etcd, key: &str, revision: u64) -> Result<(), StoreError> {
        let options = WatchOptions::new().with_start_revision(sign(revision + 1));
        let mut client = store.client().watch_client();
        let mut stream = client.watch(store.key(key), Some(options)).await.map_err(|error| store.failed(&error))?;
        loop {
            let message = stream.message().await.map_err(|error| store.failed(&error))?;
            let Some(message) = message.filter(|message| !message.canceled()) else {
                return Err(StoreError::Unavailable("etcd ended the watch of an owner key".to_owned()));
            };
            if message.events().iter().any(|event| event.event_type() == EventType::Delete) {
                return Ok(());
            }
        }
    }

    /// Renews the lease once. `Ok(false)`: etcd says that there is none any more.
    async fn renew(&mut self) -> Result<bool, StoreError> {
        if self.keeper.is_none() {
            let opened = self.store.client().lease_client().keep_alive(self.lease).await;
            match opened {
                Ok(keeper) => self.keeper = Some(keeper),
                Err(etcd_client::Error::LeaseKeepAliveError(_)) => return Ok(false),
                Err(error) => return Err(self.store.failed(&error)),
            }
        }
        let Some((keeper, answers)) = self.keeper.as_mut() else {
            return Ok(false);
        };
        keeper.keep_alive().await.map_err(|error| self.store.failed(&error))?;
        match answers.message().await.map_err(|error| self.store.failed(&error))? {
            Some(answer) => Ok(answer.ttl() > 0),
            None => Err(StoreError::Unavailable("etcd ended the keep-alive stream".to_owned())),
        }
    }
}

#[async_trait]
impl Tenure for EtcdTenure {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn lost(&mut self) -> String {
        let period = Duration::from_secs(u64::try_from(self.store.lease_seconds).unwrap_or(3)) / 3;
        // A try that hangs takes a whole period; the lease outlives one such, and the next is due at once.
        let mut turns = interval(period);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            match timeout(period, self.renew()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return "the lease ran out".to_owned(),
                // A new stream next time, to another member if there is one.
                Ok(Err(_)) => self.keeper = None,
                Err(_) => {
                    self.keeper = None;
                    self.store.turn_to_next();
                }
            }
        }
    }

    async fn resign(self: Box<Self>) {
        // If this fails the lease runs out by itself.
        let _ = timeout(Duration::from_secs(1), self.store.client().lease_client().revoke(self.lease)).await;
    }
}

impl Etcd {
    /// The revision at which `key` was last written, or `None` when it does not exist.
    async fn modified(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let txn = Txn { guards: vec![Guard::absent(key)], writes: vec![] };
        match self.commit(&txn).await? {
            Committed::Done(_) => Ok(None),
            Committed::Refused(found) => Ok(found.into_values().flatten().map(|entry| entry.modified).max()),
        }
    }
}
