//! Questions to an API server about single objects: a get tells the truth where a list may not. They wait in one queue
//! and go out at a bounded rate, so that a thousand of them are no storm.

use super::kinds::{self, Seen};
use crate::{
    kubernetes::explain::{Cause, cause, explain},
    observe::index::ObjectName,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(20);

/// Questions that wait for an answer at a time.
const AT_ONCE: usize = 8;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Why an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Why {
    /// A list did not name it.
    Missing,
    /// To see whether the watch tells of all that happens.
    Sample,
    /// The storage went back, and it may have changed since.
    Remembered,
    /// The store has endpoints of it that are not seen.
    Doubted,
}

/// What stands in storage: an object, nothing, or why that is not known.
pub(super) type Told = Result<Option<Seen>, Untold>;

/// Why something is not known.
#[derive(Debug)]
pub(super) enum Untold {
    /// The API server refuses to say; this is why.
    Forbidden(String),
    /// There was no answer, or none that says anything.
    Nothing,
}

/// The queue.
pub(super) struct Questions {
    waiting: VecDeque<(ObjectName, Why)>,
    queued: HashSet<(ObjectName, Why)>,
    asked: FuturesUnordered<BoxFuture<'static, (ObjectName, Why, Told)>>,
    pace: Interval,
}

// === impl Questions ===

impl Questions {
    pub(super) fn new() -> Self {
        let mut pace = interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { waiting: VecDeque::new(), queued: HashSet::new(), asked: FuturesUnordered::new(), pace }
    }

    /// Asks for an object, unless that is being done already.
    pub(super) fn ask(&mut self, name: ObjectName, why: Why) {
        if self.queued.insert((name.clone(), why)) {
            self.waiting.push_back((name, why));
        }
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.queued.clear();
        self.asked.clear();
    }

    /// The next answer. May be dropped and called again without losing any; waits for ever when nothing is asked.
    pub(super) async fn next(&mut self, client: Option<&Client>) -> (ObjectName, Why, Told) {
        loop {
            let may_ask = client.is_some() && !self.waiting.is_empty() && self.asked.len() < AT_ONCE;
            tokio::select! {
                Some((name, why, told)) = self.asked.next() => {
                    self.queued.remove(&(name.clone(), why));
                    return (name, why, told);
                }
                _ = self.pace.tick(), if may_ask => {
                    if let (Some(client), Some((name, why))) = (client.cloned(), self.waiting.pop_front()) {
                        self.asked.push(async move {
                            let told = ask(&client, &name).await;
                            (name, why, told)
                        }.boxed());
                    }
                }
                else => std::future::pending().await,
            }
        }
    }
}

async fn ask(client: &Client, name: &ObjectName) -> Told {
    match timeout(ANSWER, kinds::get(client, name)).await {
        Ok(Err(error)) if cause(&error) == Cause::Forbidden => Err(Untold::Forbidden(explain(&error))),
        Ok(Ok(found)) => Ok(found),
        _ => Err(Untold::Nothing),
    }
}

/// What lists are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// They say what gets say.
    Agree,
    /// They have what gets do not have any more: they are of an old world, to which the storage does not belong.
    Lie,
    /// They are behind, or cannot be had.
    Unknown,
}

/// What lists are worth, by the canary and some objects.
pub(super) async fn compare(client: Client, lease: (String, String), names: Vec<ObjectName>) -> Lists {
    let compared = async {
        let mut worth = canary_worth(&client, &lease).await?;
        for name in names {
            let version = |seen: Option<Seen>| seen.map_or(0, |seen| seen.version);
            let before = version(kinds::get(&client, &name).await?);
            let listed = version(kinds::list(&client, &name).await?);
            let after = version(kinds::get(&client, &name).await?);
            worth = worth.and(Lists::by_versions(before, listed, after));
        }
        Ok::<_, kube::Error>(worth)
    };
    match timeout(ANSWER * 4, compared).await {
        Ok(Ok(worth)) => worth,
        _ => Lists::Unknown,
    }
}

/// One that may not be read says nothing.
async fn canary_worth(client: &Client, lease: &(String, String)) -> kube::Result<Lists> {
    match compare_canary(client, lease).await {
        Err(error) if cause(&error) == Cause::Forbidden => Ok(Lists::Agree),
        worth => worth,
    }
}

async fn compare_canary(client: &Client, (namespace, name): &(String, String)) -> kube::Result<Lists> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let version = |lease: Option<Lease>| lease.and_then(|lease| lease.resource_version()?.parse().ok()).unwrap_or(0);
    let before = version(leases.get_opt(name).await?);
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    let listed = version(leases.list(&params).await?.items.into_iter().next());
    Ok(Lists::by_versions(before, listed, version(leases.get_opt(name).await?)))
}

// === impl Lists ===

impl Lists {
    /// By one object's version in a list, between two gets; zero where there was none.
    fn by_versions(before: u64, listed: u64, after: u64) -> Self {
        match listed {
            // It may have changed, or gone, between the two gets.
            listed if (before..=after).contains(&listed) || (after == 0 && listed == before) => Self::Agree,
            listed if listed > before.max(after) => Self::Lie,
            _ => Self::Unknown,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Lie, _) | (_, Self::Lie) => Self::Lie,
            (Self::Agree, Self::Agree) => Self::Agree,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_between_two_gets_is_as_they_are() {
        for (before, listed, after, worth) in [
            (5, 5, 5, Lists::Agree),
            (5, 6, 7, Lists::Agree),
            (0, 0, 0, Lists::Agree),
            (0, 0, 7, Lists::Agree),
            (5, 5, 0, Lists::Agree),
            (5, 9, 5, Lists::Lie),
            (0, 9, 0, Lists::Lie),
            (5, 4, 5, Lists::Unknown),
            (5, 0, 5, Lists::Unknown),
        ] {
            assert_eq!(Lists::by_versions(before, listed, after), worth, "{before} {listed} {after}");
        }
        assert_eq!(Lists::Agree.and(Lists::Unknown).and(Lists::Lie).and(Lists::Agree), Lists::Lie);
    }
}
