//! What is known of one service: the records of every cluster, its place in the order, its virtual addresses, and what
//! this agent sees itself. Lists and no maps, because most services have one or two of everything and a map has room
//! for eleven. Knows nothing of clusters beyond their ids.

use super::standing::{Stamp, Stamped};
use model::{
    export::{Export, Head, Slice},
    merge::Parts,
    name::ClusterId,
    record::Order,
    vip::Vip,
};
use std::{collections::BTreeMap, sync::Arc};

/// One service.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By cluster, in the order of ids.
    records: Vec<(ClusterId, Records)>,
    pub(super) order: Stamped<Order>,
    pub(super) vip: Stamped<Vip>,
    /// What this agent sees in a cluster of its own, where that counts and the store does not; `None` is a service that
    /// it sees there no longer. By cluster, in the order of ids.
    local: Vec<(ClusterId, Option<Arc<Export>>)>,
}

/// The records of one service in one cluster.
#[derive(Debug, Default)]
struct Records {
    head: Stamped<Arc<Head>>,
    /// By name, in the order of names.
    slices: Vec<(Arc<str>, Stamped<Arc<Slice>>)>,
    /// What these say together; made when it is asked for, because a transaction changes several of them.
    export: Option<Arc<Export>>,
    is_stale: bool,
}

// === impl Known ===

impl Known {
    /// Sets or removes the head of a cluster; the stamp it had.
    pub(super) fn set_head(&mut self, id: &ClusterId, head: Stamped<Arc<Head>>) -> Stamp {
        let records = self.of(id);
        records.is_stale = true;
        let before = std::mem::replace(&mut records.head, head).stamp;
        self.tidy(id);
        before
    }

    /// Sets or removes a slice of a cluster; the stamp it had.
    pub(super) fn set_slice(&mut self, id: &ClusterId, name: Arc<str>, slice: Stamped<Arc<Slice>>) -> Stamp {
        let records = self.of(id);
        records.is_stale = true;
        let slices = &mut records.slices;
        let before = match slices.binary_search_by(|(known, _)| known.cmp(&name)) {
            Ok(at) if slice.stamp.exists() => std::mem::replace(&mut slices[at].1, slice).stamp,
            Ok(at) => slices.remove(at).1.stamp,
            Err(at) => {
                if slice.stamp.exists() {
                    slices.reserve_exact(1);
                    slices.insert(at, (name, slice));
                }
                Stamp::default()
            }
        };
        self.tidy(id);
        before
    }

    /// The stamp of a cluster's head.
    pub(super) fn head_stamp(&self, id: &ClusterId) -> Stamp {
        self.records(id).map(|records| records.head.stamp).unwrap_or_default()
    }

    /// The stamp of a cluster's slice.
    pub(super) fn slice_stamp(&self, id: &ClusterId, name: &str) -> Stamp {
        let records = self.records(id);
        let slice = records.and_then(|records| records.slices.iter().find(|(known, _)| **known == *name));
        slice.map(|(_, slice)| slice.stamp).unwrap_or_default()
    }

    /// The names of a cluster's slices, with their stamps; and the stamp of its head.
    pub(super) fn stamps(&self, id: &ClusterId) -> Option<(Stamp, impl Iterator<Item = (&Arc<str>, Stamp)>)> {
        let records = self.records(id)?;
        Some((records.head.stamp, records.slices.iter().map(|(name, slice)| (name, slice.stamp))))
    }

    /// The clusters that have records of it.
    pub(super) fn clusters(&self) -> impl Iterator<Item = &ClusterId> {
        self.records.iter().map(|(id, _)| id)
    }

    /// What a cluster's records say. Without a head it exports nothing, whatever slices it has.
    pub(super) fn export(&mut self, id: &ClusterId) -> Option<Arc<Export>> {
        let at = self.records.binary_search_by(|(known, _)| known.cmp(id)).ok()?;
        self.records[at].1.export()
    }

    /// Sets what this agent sees in a cluster of its own; says whether that changed anything.
    pub(super) fn see(&mut self, id: &ClusterId, export: Option<Arc<Export>>) -> bool {
        match self.local.binary_search_by(|(known, _)| known.cmp(id)) {
            Ok(at) if self.local[at].1 == export => return false,
            Ok(at) => self.local[at].1 = export,
            Err(at) => self.local.insert(at, (id.clone(), export)),
        }
        true
    }

    /// The store's word counts again; says whether that changed anything.
    pub(super) fn unsee(&mut self, id: &ClusterId) -> bool {
        let before = self.local.len();
        self.local.retain(|(known, _)| known != id);
        if self.local.is_empty() {
            self.local = Vec::new();
        }
        self.local.len() != before
    }

    /// Whether this agent's own sight of a cluster counts here.
    pub(super) fn is_seen(&self, id: &ClusterId) -> bool {
        self.local.iter().any(|(known, _)| known == id)
    }

    /// Whether there is nothing left to know.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.local.is_empty() && !self.order.stamp.exists() && !self.vip.stamp.exists()
    }

    /// What is to be merged, of the clusters that are in the fleet.
    pub(super) fn parts(&mut self, in_fleet: impl Fn(&ClusterId) -> bool) -> Parts {
        let mut exports: BTreeMap<ClusterId, Arc<Export>> = BTreeMap::new();
        for (id, records) in self.records.iter_mut().filter(|(id, _)| in_fleet(id)) {
            if let Some(export) = records.export() {
                exports.insert(id.clone(), export);
            }
        }
        for (id, export) in self.local.iter().filter(|(id, _)| in_fleet(id)) {
            match export {
                Some(export) => _ = exports.insert(id.clone(), export.clone()),
                None => _ = exports.remove(id),
            }
        }
        let order = self.order.value.clone().unwrap_or_default().0;
        Parts { exports, order, vip: self.vip.value }
    }

    fn records(&self, id: &ClusterId) -> Option<&Records> {
        let at = self.records.binary_search_by(|(known, _)| known.cmp(id)).ok()?;
        Some(&self.records[at].1)
    }

    fn of(&mut self, id: &ClusterId) -> &mut Records {
        let at = match self.records.binary_search_by(|(known, _)| known.cmp(id)) {
            Ok(at) => at,
            Err(at) => {
                self.records.reserve_exact(1);
                self.records.insert(at, (id.clone(), Records::default()));
                at
            }
        };
        &mut self.records[at].1
    }

    /// Drops what says nothing.
    fn tidy(&mut self, id: &ClusterId) {
        if self.records(id).is_some_and(|records| records.slices.is_empty() && !records.head.stamp.exists()) {
            self.records.retain(|(known, _)| known != id);
        }
    }
}

// === impl Records ===

impl Records {
    fn export(&mut self) -> Option<Arc<Export>> {
        if std::mem::take(&mut self.is_stale) {
            let slices = self.slices.iter().filter_map(|(name, slice)| Some((name.clone(), slice.value.clone()?)));
            let head = self.head.value.clone();
            self.export = head.map(|head| Arc::new(Export { head, slices: slices.collect() }));
        }
        self.export.clone()
    }
}
