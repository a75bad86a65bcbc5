//! A lease. While etcd cannot be reached it is neither kept nor lost: every write is fenced by a key that it keeps, so
//! believing in it harms nobody, and who comes back in time need not be elected again.

use super::Etcd;
use crate::store::{Lease, LeaseId, StoreError};
use async_trait::async_trait;
use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};

pub(super) struct EtcdLease {
    store: Etcd,
    id: i64,
    keeper: Option<(LeaseKeeper, LeaseKeepAliveStream)>,
}

// === impl EtcdLease ===

impl EtcdLease {
    pub(super) async fn grant(store: Etcd) -> Result<Self, StoreError> {
        let granted = store.client().lease_client().grant(store.lease_seconds, None).await;
        let id = granted.map_err(|error| store.failed(&error))?.id();
        Ok(Self { store, id, keeper: None })
    }

    /// Renews the lease once. `Ok(false)`: etcd says that there is none any more.
    async fn renew(&mut self) -> Result<bool, StoreError> {
        if self.keeper.is_none() {
            let opened = self.store.client().lease_client().keep_alive(self.id).await;
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
impl Lease for EtcdLease {
    fn id(&self) -> LeaseId {
        LeaseId(self.id)
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

    async fn revoke(self: Box<Self>) {
        // If this fails the lease runs out by itself.
        let _ = timeout(Duration::from_secs(1), self.store.client().lease_client().revoke(self.id)).await;
    }
}
