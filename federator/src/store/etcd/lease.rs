//! A lease. While etcd cannot be reached it is neither kept nor lost: every write is fenced by a key that it keeps, so
//! believing in it harms nobody, and who comes back in time need not be elected again.

use super::{Etcd, failure::Failure, members::Retry};
use crate::store::{Lease, LeaseId, StoreError};
use async_trait::async_trait;
use etcd_client::{Client, Error, LeaseKeepAliveStream, LeaseKeeper};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};

pub(super) struct EtcdLease {
    store: Etcd,
    id: i64,
    keeper: Option<Keeper>,
}

/// A stream of renewals to a member.
struct Keeper {
    member: usize,
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

// === impl EtcdLease ===

impl EtcdLease {
    pub(super) async fn grant(store: Etcd) -> Result<Self, StoreError> {
        let seconds = store.lease_seconds;
        // One that was granted and not heard of runs out by itself.
        let granted =
            store.members.call(Retry::Freely, |client| async move { client.lease_client().grant(seconds, None).await });
        let (_, granted) = granted.await?;
        Ok(Self { id: granted.id(), store, keeper: None })
    }

    /// Renews the lease once. `Ok(false)`: etcd says that there is none any more.
    async fn renew(&mut self) -> Result<bool, StoreError> {
        let members = &self.store.members;
        if self.keeper.is_none() {
            let member = members.current();
            let opened = match members.client(member).await {
                Ok(client) => client.lease_client().keep_alive(self.id).await,
                Err(error) => Err(error),
            };
            match opened {
                Ok((keeper, answers)) => self.keeper = Some(Keeper { member, keeper, answers }),
                Err(Error::LeaseKeepAliveError(_)) => return Ok(false),
                Err(error) => return Err(members.failed(member, Failure::of(&error)).await),
            }
        }
        let Some(Keeper { member, keeper, answers }) = self.keeper.as_mut() else {
            return Ok(false);
        };
        let answer = match keeper.keep_alive().await {
            Ok(()) => answers.message().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(Some(answer)) => {
                members.check(*member, answer.header()).await?;
                Ok(answer.ttl() > 0)
            }
            Ok(None) => Err(members.failed(*member, Failure::of_member("etcd ended the keep-alive stream")).await),
            Err(error) => Err(members.failed(*member, Failure::of(&error)).await),
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
            let member = self.keeper.as_ref().map_or_else(|| self.store.members.current(), |keeper| keeper.member);
            match timeout(period, self.renew()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return "the lease ran out".to_owned(),
                // A new stream next time, to another member if there is one.
                Ok(Err(_)) => self.keeper = None,
                Err(_) => {
                    self.keeper = None;
                    self.store.members.turn_from(member);
                }
            }
        }
    }

    async fn revoke(self: Box<Self>) {
        // If this fails the lease runs out by itself.
        let members = &self.store.members;
        let revoke = async |client: Client| client.lease_client().revoke(self.id).await;
        let _ = members.ask(members.current(), Duration::from_secs(1), revoke).await;
    }
}
