//! The last stage before the consumers: every View that is gathered becomes the zones that are served and the
//! objects that are desired.

use super::{Ended, staleness::Staleness};
use crate::{
    config::rules::ImportRules,
    emit::{
        OfClusters,
        object::{Desired, ObjectKey},
    },
    gather::Gathered,
    lookup::{
        at,
        chase::{Chased, Wanted},
    },
    project::{
        dns::Zones,
        objects::{Conditions, Objects},
    },
};
use arc_swap::ArcSwap;
use model::{export::AnswerMode, tracked::Tracked};
use std::{collections::BTreeMap, sync::Arc};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Projections, and where their results go.
pub(super) struct Projection {
    pub(super) zones: Zones,
    pub(super) served: BTreeMap<AnswerMode, Arc<ArcSwap<dns::Zones>>>,
    pub(super) objects: Objects,
    pub(super) rules: watch::Receiver<ImportRules>,
    /// The hosts of clusters that somebody names here, once that is known.
    pub(super) named: watch::Receiver<Option<OfClusters>>,
    pub(super) desired: watch::Sender<Tracked<ObjectKey, Desired>>,
    /// What is missing of these.
    pub(super) missing: watch::Sender<Conditions>,
    /// Whether every listener answers what is known.
    pub(super) ready: watch::Sender<bool>,
    /// The host names that endpoints have, and what these were said to have.
    pub(super) wanted: watch::Sender<Wanted>,
    pub(super) chased: watch::Receiver<Chased>,
    pub(super) staleness: Staleness,
    /// Since when nobody has confirmed what is known.
    pub(super) unconfirmed: watch::Sender<Option<Instant>>,
    pub(super) serial: watch::Sender<u32>,
    /// Cancelled when everything was seen, and host names were looked up.
    pub(super) complete: CancellationToken,
}

// === impl Projection ===

impl Projection {
    pub(super) async fn run(mut self, mut gathered: watch::Receiver<Gathered>) -> Ended {
        loop {
            let now = gathered.borrow_and_update().clone();
            let rules = self.rules.borrow_and_update().clone();
            self.zones.set_rules(rules.clone());
            self.objects.set_rules(rules);
            self.zones.set_chased(self.chased.borrow_and_update().clone());
            self.staleness.see(&now.store, Instant::now());
            self.zones.set_stale(self.staleness.stale(Instant::now()));
            for (mode, zones) in self.zones.update(&now) {
                self.served[&mode].store(Arc::new(zones));
            }
            self.unconfirmed.send_replace(self.staleness.since());
            self.serial.send_replace(self.zones.serial());
            let wanted = self.zones.wanted();
            self.wanted.send_if_modified(|known| {
                let is_new = known.sequence() != wanted.sequence();
                *known = wanted.clone();
                is_new
            });
            if now.complete && !self.complete.is_cancelled() && self.zones.is_settled() {
                self.complete.cancel();
            }
            self.ready.send_if_modified(|ready| std::mem::replace(ready, now.is_ready()) != now.is_ready());
            // Before everything was seen, what is missing is not known to be gone. Nobody may want any: who emits
            // nothing need not hold every endpoint once more.
            let named = self.named.borrow_and_update().clone();
            if let Some(named) = named.filter(|_| now.complete && !self.desired.is_closed()) {
                self.objects.set_named(&named);
                self.desired.send_replace(self.objects.update(&now));
                self.missing.send_replace(self.objects.conditions().clone());
            }
            tracing::debug!(
                revision = now.view.revision(),
                local = now.local,
                services = now.view.services().len(),
                complete = now.complete,
                "projected"
            );
            tokio::select! {
                changed = gathered.changed() => if changed.is_err() {
                    return Ok("project");
                },
                Ok(()) = self.rules.changed() => {}
                Ok(()) = self.named.changed() => {}
                Ok(()) = self.chased.changed() => {}
                () = at(self.staleness.due(Instant::now())) => {}
            }
        }
    }
}
