//! How one agent sees one cluster: late, at times not at all, and never less than before without a newer version. It
//! stands for the observing stage, which has real API servers to be tried against, and keeps its promises.

use crate::{
    dice::Dice,
    source::{Source, State},
};
use federator::{condition::Reason, observe::Observed};
use model::name::ServiceKey;
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// One agent's eye on one cluster.
pub(crate) struct Eye {
    pub(crate) source: Source,
    /// Whether the API server can be reached from there.
    pub(crate) reach: watch::Receiver<bool>,
    pub(crate) observed: watch::Sender<Observed>,
    pub(crate) dice: Dice,
}

// === impl Eye ===

impl Eye {
    /// Looks, for ever. May be dropped, and begun anew.
    pub(crate) async fn run(&mut self) {
        let mut now = self.source.look();
        loop {
            // A list.
            sleep(self.dice.millis(20..=2000)).await;
            if *self.reach.borrow_and_update() {
                self.see(&now.borrow_and_update());
                self.follow(&mut now).await;
            }
            // A connection that hangs is noticed after a while.
            sleep(self.dice.millis(500..=8000)).await;
            if !*self.reach.borrow() {
                self.lose();
                if self.reach.wait_for(|reach| *reach).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Sees every change, until the API server is out of reach.
    async fn follow(&mut self, now: &mut watch::Receiver<State>) {
        while *self.reach.borrow_and_update() {
            tokio::select! {
                biased;
                Ok(()) = self.reach.changed() => {}
                Ok(()) = now.changed() => {
                    sleep(self.dice.millis(1..=500)).await;
                    if *self.reach.borrow() {
                        self.see(&now.borrow_and_update());
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    fn see(&self, state: &State) {
        self.observed.send_modify(|seen| {
            seen.meta = self.source.meta.clone();
            let gone = seen.exports.iter().map(|(key, _)| key).filter(|key| !state.services.contains_key(key));
            for key in gone.cloned().collect::<Vec<ServiceKey>>() {
                seen.exports.set(key, None);
            }
            for (key, service) in &state.services {
                seen.exports.set(key.clone(), Some(service.export.clone()));
            }
            seen.source_version = state.version.to_string().into();
            seen.synced = true;
            seen.frozen_since = None;
            seen.conditions.set(Reason::Unreachable, None);
        });
    }

    fn lose(&self) {
        self.observed.send_modify(|seen| {
            seen.frozen_since.get_or_insert_with(Instant::now);
            seen.conditions.set(Reason::Unreachable, Some("simulated".to_owned()));
        });
    }
}

/// Longest time until an eye that can see has seen everything.
pub(crate) const SEEN: Duration = Duration::from_secs(12);
