//! Rest: a service that is gone keeps its cluster's place in its order, and its virtual addresses, until nobody can
//! still hold an answer with them. How long that lasts is seen by who publishes the cluster, by its own clock and
//! anew in every tenure: too long harms nobody. Knows nothing of what is written then.

use super::ledger::Ledger;
use crate::observe::Observed;
use model::name::ServiceKey;
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    future::pending,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// The services that are gone and have a place still.
#[derive(Debug)]
pub struct Resting {
    rest: Duration,
    since: HashMap<ServiceKey, Instant>,
    /// The same in the order of time, and what has come back meanwhile.
    queue: VecDeque<(Instant, ServiceKey)>,
    rested: BTreeSet<ServiceKey>,
}

// === impl Resting ===

impl Resting {
    /// Nothing is known to be gone.
    #[must_use]
    pub fn new(rest: Duration) -> Self {
        Self { rest, since: HashMap::new(), queue: VecDeque::new(), rested: BTreeSet::new() }
    }

    /// Takes note of services that may have come or gone: of what is seen, and of what the store holds.
    pub fn see<'a>(&mut self, ledger: &Ledger, now: &Observed, services: impl IntoIterator<Item = &'a ServiceKey>) {
        for service in services {
            if !is_gone(ledger, now, service) {
                self.since.remove(service);
            } else if !self.since.contains_key(service) {
                self.begin(service.clone());
            }
        }
    }

    /// The services that have rested long enough. What cannot be known to be gone when it is due rests once more.
    pub fn rested(&mut self, ledger: &Ledger, now: &Observed) -> &BTreeSet<ServiceKey> {
        let mut due = std::mem::take(&mut self.rested);
        while let Some((since, service)) = self.queue.pop_front_if(|(since, _)| since.elapsed() >= self.rest) {
            // It may have been there meanwhile.
            if self.since.get(&service) == Some(&since) {
                due.insert(service);
            }
        }
        let is_known = ledger.is_settled() && !now.partial && now.frozen_since.is_none();
        for service in due {
            if !is_gone(ledger, now, &service) {
                self.since.remove(&service);
            } else if is_known {
                self.rested.insert(service);
            } else {
                self.begin(service);
            }
        }
        &self.rested
    }

    /// Returns when something has rested long enough.
    pub async fn over(&self) {
        match self.queue.front() {
            Some((since, _)) => sleep_until(*since + self.rest).await,
            None => pending().await,
        }
    }

    fn begin(&mut self, service: ServiceKey) {
        let since = Instant::now();
        self.since.insert(service.clone(), since);
        self.queue.push_back((since, service));
    }
}

/// Whether a service is neither seen nor in the store any more, and has its cluster's place.
fn is_gone(ledger: &Ledger, now: &Observed, service: &ServiceKey) -> bool {
    now.exports.get(service).is_none() && ledger.records(service).next().is_none() && ledger.has_place(service)
}
