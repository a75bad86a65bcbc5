//! A watch on everything under the root. Any trouble ends it with an error; nothing is re-created behind the
//! caller's back, because only the caller knows from where.
//!
//! A watch on which nothing happens looks like one that is dead. Keep-alives find peers that are gone; a member that
//! answers those and nothing else is found by asking it how far it has come.

use super::{
    Etcd, MAX_ANSWER,
    failure::{Failure, TOO_MUCH},
    members::Retry,
    sign, unsign,
};
use crate::store::{Batch, StoreError, Watch};
use async_trait::async_trait;
use etcd_client::{Error, WatchOptions, WatchResponse, WatchStream};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// After so much silence the member is asked how far it has come.
const SILENCE: Duration = Duration::from_secs(5);

/// How long it may take to say so. It says nothing while it catches up without finding anything for us.
const PROGRESS: Duration = Duration::from_secs(10);

/// From how many revisions on in which nothing happened to our keys it is worth knowing that it did not: history that
/// nobody needs may be compacted.
const STEP: u64 = 1000;

pub(super) struct EtcdWatch {
    store: Etcd,
    member: usize,
    stream: WatchStream,
    /// Everything up to this revision was handed on.
    at: u64,
    /// Whether what a member says of its progress is true: etcd before 3.4.25 and 3.5.8 said so too early.
    truthful: bool,
    /// When something must have been heard.
    deadline: Instant,
    asked: bool,
}

// === impl EtcdWatch ===

impl EtcdWatch {
    /// Watches from `revision` on, itself included.
    pub(super) async fn start(store: Etcd, revision: u64) -> Result<Self, StoreError> {
        let begin = store.members.call(Retry::Freely, |mut client| {
            let options = WatchOptions::new().with_prefix().with_start_revision(sign(revision));
            let root = store.root.as_bytes().to_vec();
            async move {
                let truthful = truthful(client.status().await?.version());
                let mut watching = client.watch_client().max_decoding_message_size(MAX_ANSWER);
                let mut stream = watching.watch(root, Some(options)).await?;
                let created = stream.message().await?;
                let created = created.ok_or_else(|| Error::WatchError("etcd ended the watch".to_owned()))?;
                if created.canceled() && !created.cancel_reason().is_empty() {
                    return Err(Error::WatchError(created.cancel_reason().to_owned()));
                }
                Ok(((truthful, stream), created))
            }
        });
        let (member, ((truthful, stream), created)) = begin.await?;
        let now = created.header().map_or(0, |header| unsign(header.revision()));
        let deadline = Instant::now() + SILENCE;
        let at = revision.saturating_sub(1);
        let watch = Self { store, member, stream, at, truthful, deadline, asked: false };
        watch.goes_on(&created).await?;
        // etcd accepts a revision of the future and then says nothing until it is reached.
        if now + 1 < revision {
            let (seen, all) = (revision - 1, watch.store.revision().await?);
            if all < seen {
                return Err(StoreError::WentBack(format!("it is at revision {all}, and {seen} was seen")));
            }
            return Err(watch.failed(Failure::of_member(format!("it is at revision {now} of {all}"))).await);
        }
        Ok(watch)
    }

    async fn message(&mut self) -> Result<WatchResponse, StoreError> {
        loop {
            match timeout_at(self.deadline, self.stream.message()).await {
                Ok(Ok(Some(message))) => {
                    (self.deadline, self.asked) = (Instant::now() + SILENCE, false);
                    self.store.members.check(self.member, message.header()).await?;
                    self.goes_on(&message).await?;
                    return Ok(message);
                }
                Ok(Ok(None)) => return Err(self.failed(Failure::of_member("etcd ended the watch")).await),
                Ok(Err(error)) => return Err(self.broken(&error).await),
                Err(_) if self.asked => {
                    let silence = (SILENCE + PROGRESS).as_secs();
                    return Err(self.failed(Failure::of_member(format!("the watch was silent for {silence} s"))).await);
                }
                Err(_) => {
                    (self.deadline, self.asked) = (Instant::now() + PROGRESS, true);
                    if let Err(error) = self.stream.request_progress().await {
                        return Err(self.broken(&error).await);
                    }
                }
            }
        }
    }

    /// Whether etcd goes on with the watch after this message.
    async fn goes_on(&self, message: &WatchResponse) -> Result<(), StoreError> {
        if message.compact_revision() > 0 {
            return Err(StoreError::Compacted(unsign(message.compact_revision())));
        }
        if message.canceled() {
            let said = format!("etcd cancelled the watch: {}", message.cancel_reason());
            return Err(self.failed(Failure::said(&said)).await);
        }
        Ok(())
    }

    async fn broken(&self, error: &Error) -> StoreError {
        let failure = Failure::of(error);
        // More changes at once than one answer holds. What they have come to can be read in pages.
        if failure.error.to_string().contains(TOO_MUCH) {
            return StoreError::Compacted(self.at + 1);
        }
        self.failed(failure).await
    }

    async fn failed(&self, failure: Failure) -> StoreError {
        self.store.members.failed(self.member, failure).await
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
                // A key that was deleted has no revision at which it came to be.
                batch.changes.push((key, (entry.created > 0).then_some(entry)));
            }
            if batch.changes.is_empty() && self.truthful && message.events().is_empty() && !message.created() {
                batch.revision = message.header().map_or(0, |header| unsign(header.revision()));
            }
            if !batch.changes.is_empty() || batch.revision >= self.at + STEP {
                self.at = self.at.max(batch.revision);
                return Ok(batch);
            }
        }
    }
}

/// Whether an etcd of this version says how far a watch has come only when it has.
pub(super) fn truthful(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    let version: (u32, u32, u32) = (number(), number(), number());
    version >= (3, 5, 8) || ((3, 4, 25)..(3, 5, 0)).contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_believed_of_versions_that_tell_the_truth() {
        for (version, expected) in [
            ("3.7.3", true),
            ("3.5.8", true),
            ("3.5.7", false),
            ("3.5.0-rc.1", false),
            ("3.4.25", true),
            ("3.4.24", false),
            ("3.6.0-alpha.0", true),
            ("4.0.0", true),
            ("", false),
        ] {
            assert_eq!(truthful(version), expected, "{version}");
        }
    }
}
