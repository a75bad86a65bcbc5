//! A lease over a link: kept alive, and given up, as the one of etcd is.

use super::Link;
use async_trait::async_trait;
use federator::store::{Lease, LeaseId};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};

pub(super) struct LinkLease {
    link: Link,
    id: LeaseId,
}

// === impl LinkLease ===

impl LinkLease {
    pub(super) fn new(link: Link, id: LeaseId) -> Self {
        Self { link, id }
    }
}

#[async_trait]
impl Lease for LinkLease {
    fn id(&self) -> LeaseId {
        self.id
    }

    async fn lost(&mut self) -> String {
        let period = self.link.shore.with(|etcd| etcd.lease_time()) / 3;
        let mut turns = interval(period);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let id = self.id;
            let renewed = timeout(period, self.link.call("keep-alive", move |etcd, _| Ok(etcd.renew(id)))).await;
            if let Ok(Ok(false)) = renewed {
                return "the lease ran out".to_owned();
            }
        }
    }

    async fn revoke(self: Box<Self>) {
        let id = self.id;
        let revoke = self.link.call("revoke", move |etcd, _| {
            etcd.revoke(id, "gives up:");
            Ok(())
        });
        // If this fails the lease runs out by itself.
        let _ = timeout(Duration::from_secs(1), revoke).await;
    }
}
