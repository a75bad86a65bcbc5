//! What this agent sees itself, in clusters of its own: used where the store has no word on a cluster yet, and while it
//! has none that is newer, because it cannot be reached or was restored. The store's word counts again once the
//! cluster's publisher says that all of what was seen is in it.

use super::{Fold, StoreHealth};
use crate::{observe::Observed, publish::status::Settled};
use model::{
    export::Slice,
    name::{ClusterId, ServiceKey},
    tracked::Since,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

/// A cluster that this agent observes itself.
#[derive(Debug, Default)]
pub(super) struct Own {
    seen: Observed,
    /// Sequence of `seen.exports` that is folded in; `None` while it does not count.
    folded: Option<u64>,
    /// Whether this agent publishes it.
    publishes: bool,
    /// How far it has come with that.
    settled: Option<Settled>,
    /// The marker that was written last before the store could be reached.
    marker: u64,
    /// The services of which the store says something else.
    differs: BTreeSet<ServiceKey>,
    /// Whether it was not among the first, or is not looked at unless its owner is gone.
    late: bool,
}

/// What is used of that which an agent sees of a cluster of its own.
enum Use {
    /// All of it, whatever the store says.
    All,
    /// Where the store does not say it yet.
    Differences,
    /// Nothing.
    None,
}

// === impl Own ===

impl Own {
    /// Whether it is used.
    pub(super) fn counts(&self) -> bool {
        self.folded.is_some()
    }

    /// Whether it was looked at.
    pub(super) fn is_seen(&self) -> bool {
        self.seen.settled()
    }

    /// Whether waiting for a first look at it makes sense no longer. `is_whole`: the store says that it holds all of it.
    pub(super) fn is_settled(&self, is_whole: bool) -> bool {
        self.late || self.is_seen() || is_whole
    }

    /// Whether it was not among the first, or is another agent's to look at.
    pub(super) fn is_late(&self) -> bool {
        self.late
    }

    pub(super) fn slice(&self, service: &ServiceKey, name: &str) -> Option<&Arc<Slice>> {
        self.seen.exports.get(service)?.slices.get(name)
    }
}

// === impl Fold ===

impl Fold {
    /// Takes note of which clusters this agent observes itself, with whether a first look at each is waited for, and
    /// whether these are all. Says whether it matters.
    pub fn own(&mut self, clusters: &BTreeMap<ClusterId, bool>, complete: bool) -> bool {
        let gone: Vec<_> = self.own.keys().filter(|id| !clusters.contains_key(*id)).cloned().collect();
        let mut touched = HashSet::new();
        for id in &gone {
            self.unsee(id, &mut touched);
            self.own.remove(id);
        }
        let known = self.own.len();
        for (id, awaited) in clusters {
            let late = self.own_complete || !awaited;
            self.own.entry(id.clone()).or_insert_with(|| Own { late, ..Own::default() });
        }
        if !touched.is_empty() {
            self.local += 1;
        }
        self.merge(touched);
        let matters = !gone.is_empty() || self.own.len() != known || complete != self.own_complete;
        self.own_complete |= complete;
        matters
    }

    /// Takes note of what this agent sees in a cluster of its own. Says whether it matters.
    pub fn observed(&mut self, id: &ClusterId, seen: Observed) -> bool {
        let Some(own) = self.own.get_mut(id) else {
            return false;
        };
        let was_settled = own.seen.settled();
        own.seen = seen;
        let newly_settled = own.seen.settled() != was_settled;
        self.see(id) || newly_settled
    }

    /// Takes note of whether this agent publishes a cluster of its own, and how far it has come with that. Says whether it
    /// matters.
    pub fn published(&mut self, id: &ClusterId, publishes: bool, settled: Option<Settled>) -> bool {
        match self.own.get_mut(id) {
            Some(own) => (own.publishes, own.settled) = (publishes, settled),
            None => return false,
        }
        self.see(id)
    }

    /// The store has news, or none any more: what this agent sees itself may count no longer, or may now.
    pub(super) fn see_for_itself(&mut self) {
        let ids: Vec<ClusterId> = self.own.keys().cloned().collect();
        ids.iter().for_each(|id| _ = self.see(id));
    }

    /// Uses what is seen of a cluster, or uses it no longer. Says whether that changed anything.
    fn see(&mut self, id: &ClusterId) -> bool {
        let Some(own) = self.own.get(id) else { return false };
        let counted = own.counts();
        let mut touched = HashSet::new();
        match self.use_of(id, own) {
            Use::All => self.fold_in(id, &mut touched),
            Use::Differences => self.give_way(id, &mut touched),
            Use::None => self.unsee(id, &mut touched),
        }
        let counts = self.own.get(id).is_some_and(Own::counts);
        self.local += u64::from(!touched.is_empty());
        let matters = !touched.is_empty() || counts != counted;
        self.merge(touched);
        matters
    }

    /// A store that was read anew says what was written before it could be reached: that is no news of a cluster.
    pub(super) fn note_old_markers(&mut self) {
        for (id, own) in self.own.iter_mut().filter(|(_, own)| own.counts()) {
            own.marker = self.clusters.get(id).map_or(0, |standing| standing.synced.stamp.modified);
        }
    }

    /// What of that which this agent sees of a cluster says more than the store does.
    fn use_of(&self, id: &ClusterId, own: &Own) -> Use {
        if !own.seen.synced {
            return Use::None;
        }
        let Some(standing) = self.clusters.get(id).filter(|known| known.is_synced()) else {
            return Use::All;
        };
        let is_blind = own.seen.frozen_since.is_some();
        let marker = standing.synced.value.as_ref();
        let is_behind = marker.is_some_and(|marker| !marker.is_reached_by(&own.seen.source_version));
        // What was seen before the source fell silent stays seen, until the store knows more, and all of that. A source that
        // is behind and lives will catch up.
        let is_outdone = is_behind && marker.is_some_and(|marker| !marker.behind);
        if (is_blind || is_behind) && !own.counts() || is_blind && is_outdone {
            return Use::None;
        }
        if self.store != StoreHealth::Followed || standing.aside.is_some() {
            return Use::All;
        }
        let Some(folded) = own.folded else { return Use::None };
        let all_is_in = own.settled.is_some_and(|settled| {
            // Its marker, and not just that revision: a store that lost it may have come as far again.
            settled.sequence >= folded && standing.synced.stamp.modified >= settled.revision
        });
        // Versions that cannot be compared say nothing of who has seen more: the later word is taken.
        let version = |text: &str| text.parse::<u64>().is_ok();
        let is_comparable =
            marker.is_some_and(|marker| version(&marker.source_version)) && version(&own.seen.source_version);
        match own.publishes {
            _ if all_is_in => Use::None,
            true => Use::All,
            false if !is_comparable && standing.synced.stamp.modified > own.marker => Use::None,
            false => Use::Differences,
        }
    }

    /// Somebody else publishes the cluster: the store's word counts for every service of which it says what was seen, and
    /// goes on to count for it.
    fn give_way(&mut self, id: &ClusterId, touched: &mut HashSet<ServiceKey>) {
        let Some(own) = self.own.get_mut(id) else { return };
        own.differs.retain(|key| {
            let Some(known) = self.services.get_mut(key) else { return false };
            let seen = own.seen.exports.get(key).cloned();
            let is_said = known.export(id) == seen;
            let changes = if is_said { known.unsee(id) } else { known.see(id, seen) };
            if changes {
                touched.insert(key.clone());
            }
            !is_said
        });
        own.folded = Some(own.seen.exports.sequence());
        if own.differs.is_empty() {
            self.unsee(id, touched);
        }
    }

    /// Folds in what is new in an own cluster's observation.
    fn fold_in(&mut self, id: &ClusterId, touched: &mut HashSet<ServiceKey>) {
        let standing = self.clusters.entry(id.clone()).or_default();
        let (is_synced, marker) = (standing.is_synced(), standing.synced.stamp.modified);
        let Some(own) = self.own.get_mut(id) else { return };
        let begins = own.folded.is_none();
        if begins {
            own.marker = marker;
            self.local += 1;
        }
        match own.seen.exports.since(own.folded.unwrap_or_default()) {
            Since::Changes(changes) if !begins => {
                for (key, export) in changes {
                    if self.services.entry(key.clone()).or_default().see(id, export.cloned()) {
                        touched.insert(key.clone());
                    }
                    own.differs.insert(key.clone());
                }
            }
            _ => {
                for (key, known) in &mut self.services {
                    // What was never marked as complete is not known to be gone.
                    let gone = own.seen.exports.get(key).is_none();
                    let was_there = known.is_seen(id) || (is_synced && !own.seen.partial && known.export(id).is_some());
                    if gone && was_there && known.see(id, None) {
                        touched.insert(key.clone());
                        own.differs.insert(key.clone());
                    }
                }
                for (key, export) in own.seen.exports.iter() {
                    let known = self.services.entry(key.clone()).or_default();
                    let same = !known.is_seen(id) && known.export(id).as_ref() == Some(export);
                    if !same && known.see(id, Some(export.clone())) {
                        touched.insert(key.clone());
                        own.differs.insert(key.clone());
                    }
                }
            }
        }
        own.folded = Some(own.seen.exports.sequence());
        // What it says of itself counts while the store says nothing.
        if self.view.clusters().get(id).is_none_or(|cluster| cluster.meta.is_none())
            && !self.clusters.get(id).is_some_and(super::Standing::is_removed)
        {
            let mut cluster = self.view.clusters().get(id).cloned().unwrap_or_default();
            cluster.meta = self.own.get(id).map(|own| own.seen.meta.clone());
            self.view.set_cluster(id, Some(cluster));
        }
    }

    /// The store's word on a cluster counts: what this agent saw itself is not used any more.
    fn unsee(&mut self, id: &ClusterId, touched: &mut HashSet<ServiceKey>) {
        let Some(own) = self.own.get_mut(id).filter(|own| own.counts()) else {
            return;
        };
        own.folded = None;
        own.differs.clear();
        for (key, known) in &mut self.services {
            if known.unsee(id) {
                touched.insert(key.clone());
            }
        }
        let cluster = self.clusters.get(id).and_then(super::Standing::in_view);
        self.view.set_cluster(id, cluster);
    }
}
