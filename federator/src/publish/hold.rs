//! What one tenure holds: when that begins, what ends it, and what is said of it meanwhile. It begins with the one
//! comparison of everything that an owner makes, and ends endpoint by endpoint as the source confirms that they are
//! gone, or at once: by the operator, or at the grace. Knows nothing of what the store is told.

use super::{
    Config,
    brake::{Before, Held, Stood},
    ledger::Ledger,
    status::Status,
};
use crate::{
    condition::Reason,
    observe::{Observed, object::ObjectName},
};
use model::{cluster::Hold, name::ServiceKey};
use std::{
    collections::BTreeSet,
    future::pending,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// The endpoints that an owner holds.
#[derive(Debug)]
pub struct Holding {
    /// What stood in the store before, as long as it was not compared.
    stood: Option<Stood>,
    held: Held,
    /// When the grace is over; never where time ends nothing.
    until: Option<Instant>,
}

// === impl Holding ===

impl Holding {
    /// Nothing is held before what stood in the store was compared.
    #[must_use]
    pub fn new(stood: Stood) -> Self {
        Self { stood: Some(stood), held: Held::default(), until: None }
    }

    /// What is held.
    #[must_use]
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Takes in what is seen now: of services that changed, and of everything where that was not compared yet. The
    /// services of which something is held no longer.
    pub fn see<'a>(
        &mut self,
        config: &Config,
        ledger: &mut Ledger,
        now: &Observed,
        changed: impl IntoIterator<Item = &'a ServiceKey>,
    ) -> BTreeSet<ServiceKey> {
        for service in changed {
            self.held.see(service, now.exports.get(service).map(|export| &**export));
        }
        self.compare(config, ledger, now);
        let Some(hold) = self.held.hold() else {
            self.until = None;
            return BTreeSet::new();
        };
        let accepted = ledger.hold().value.as_ref().is_some_and(|known| known.accepted);
        if accepted || self.until.is_some_and(|until| Instant::now() >= until) {
            let why = if accepted { "accepted by an operator" } else { "held long enough" };
            tracing::warn!(cluster = %config.cluster, endpoints = hold.endpoints, why, "withdrawn");
            self.until = None;
            return self.held.release();
        }
        self.held.confirm(now)
    }

    /// Says what is held, and which objects are to be asked for.
    pub fn say(
        &self,
        config: &Config,
        now: &Observed,
        doubts: &watch::Sender<Arc<BTreeSet<ObjectName>>>,
        status: &watch::Sender<Status>,
    ) {
        let asked = self.held.doubts(now);
        doubts.send_if_modified(|known| {
            let differs = **known != asked;
            if differs {
                *known = Arc::new(asked);
            }
            differs
        });
        let held = self.held.hold().map(|hold| message(config, hold));
        status.send_if_modified(|status| status.conditions.set(Reason::WithdrawalHeld, held));
    }

    /// Returns when the grace is over.
    pub async fn over(&self) {
        match self.until {
            Some(until) => sleep_until(until).await,
            None => pending().await,
        }
    }

    fn compare(&mut self, config: &Config, ledger: &mut Ledger, now: &Observed) {
        let Some(stood) = &mut self.stood else { return };
        let clock = (config.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = Before {
            hold: ledger.hold().value.as_ref(),
            // What is remembered is older anyway, and says nothing of the source.
            went_back: !config.is_memory && !ledger.marker().synced.is_reached_by(&now.source_version),
            at: i64::try_from(clock.as_secs()).unwrap_or_default(),
            is_memory: config.is_memory,
        };
        let found = stood.compare(now, before);
        if !now.partial {
            self.stood = None;
        }
        let Some(hold) = found.hold().cloned() else { return };
        // What is accepted are others: these would not be held.
        if ledger.hold().value.as_ref().is_some_and(|known| known.accepted) {
            ledger.disregard_hold();
        }
        tracing::warn!(cluster = %config.cluster, endpoints = hold.endpoints, reason = %hold.reason, "held");
        let since = Duration::from_secs(u64::try_from(hold.since).unwrap_or_default());
        // Another owner's clock may be ahead of this one.
        let left = (since + config.hold).saturating_sub(clock).min(config.hold);
        self.until = (!hold.went_back).then(|| Instant::now() + left);
        self.held.join(found);
    }
}

fn message(config: &Config, hold: &Hold) -> String {
    let (id, Hold { since, endpoints, reason, .. }) = (&config.cluster, hold);
    let ends = if hold.went_back {
        "the API server shows an earlier state than it did, so time does not end it".to_owned()
    } else {
        format!("at the latest {} s after that", config.hold.as_secs())
    };
    format!(
        "{endpoints} endpoints are kept as a last resort since {since} (seconds since 1970): {reason}. They go as the \
         API server is asked for each; {ends}; `federator cluster accept-withdrawal {id}` withdraws them now"
    )
}
