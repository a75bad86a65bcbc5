//! The plan: which transaction brings the store closer to what was observed. Pure; may be discarded. A transaction
//! takes as many services as fit; what belongs together (a new head, its place in the order, its virtual addresses)
//! is never split.

use super::{Config, batch::Batch, brake::Held, ledger::Ledger};
use crate::{
    observe::Observed,
    store::{Guard, MAX_BYTES, MAX_WRITES, Txn},
};
use model::{
    cluster::{SetHash, State, Synced},
    export::Export,
    key::Key,
    name::ServiceKey,
    record::{Order, Record as _, VipHost},
    vip::Vip,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    time::UNIX_EPOCH,
};

/// Candidates tried for one host before giving up; with the default ranges one in a million hosts needs a second.
const MAX_CANDIDATES: usize = 64;

/// Writes that belong together, with what must be true for them.
#[derive(Default)]
struct Group {
    guards: Vec<Guard>,
    writes: Vec<(Key, Option<Vec<u8>>)>,
}

/// The next transaction, or `None` when the store holds what was observed, and what is held beside it, and a marker of
/// this tenure says so. `rested` are services that are gone for so long that their places are given up.
#[must_use]
pub fn batch(
    config: &Config,
    ledger: &Ledger,
    now: &Observed,
    held: &Held,
    todo: &BTreeSet<ServiceKey>,
    rested: &BTreeSet<ServiceKey>,
) -> Option<Batch> {
    let mut draft = Draft::new(config, ledger, now);
    let mut settles = BTreeSet::new();
    // Until everybody has said again what a lost store held, nothing is given out and nothing taken away.
    let is_settled = ledger.is_settled();
    'services: for key in todo {
        let export = held.amend(key, now.exports.get(key));
        if !is_settled && !is_harmless(config, ledger, key, export.as_deref()) {
            continue;
        }
        for group in groups(config, ledger, key, export.as_deref(), &draft.reserved) {
            if !draft.take(group) {
                break 'services;
            }
        }
        settles.insert(key.clone());
    }
    let all = settles.len() == todo.len();
    if is_settled && all {
        for key in rested {
            if !draft.take(release(config, ledger, key)) {
                break;
            }
        }
    }
    draft.finish(held, settles, all)
}

/// Whether bringing a service up to date neither takes a record away nor gives anything out.
fn is_harmless(config: &Config, ledger: &Ledger, key: &ServiceKey, export: Option<&Export>) -> bool {
    let Some(export) = export else { return ledger.records(key).next().is_none() };
    let stays = |record: &Key| match record {
        Key::Slice(_, _, name) => export.slices.get(name).is_some(),
        _ => true,
    };
    let is_known = ledger.order(key).is_some_and(|order| order.value.0.contains(&config.cluster))
        && ledger.vip(&key.host(&config.zone)).is_some_and(|vip| vip.value.is_some());
    is_known && ledger.records(key).all(stays)
}

/// What is to be done for one service, in an order in which any part is harmless without the rest: without a head
/// the slices of a service mean nothing.
fn groups(
    config: &Config,
    ledger: &Ledger,
    service: &ServiceKey,
    export: Option<&Export>,
    reserved: &HashSet<IpAddr>,
) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut wanted = BTreeMap::new();
    if let Some(export) = export {
        wanted.insert(Key::Head(config.cluster.clone(), service.clone()), export.head.encode());
        for (name, slice) in &export.slices {
            let key = Key::Slice(config.cluster.clone(), service.clone(), name.clone());
            wanted.insert(key, slice.encode());
        }
        let entry = entry_fees(config, ledger, service, reserved);
        if !entry.writes.is_empty() {
            groups.push(entry);
        }
    }
    // Keys sort a head before its slices.
    for (key, value) in &wanted {
        let hash = SetHash::of(&key.to_string(), value);
        if ledger.hash(service, key) == Some(hash) {
            continue;
        }
        let write = (key.clone(), Some(value.clone()));
        match groups.first_mut() {
            Some(first) if matches!(key, Key::Head(..)) => first.writes.push(write),
            _ => groups.push(Group { guards: vec![], writes: vec![write] }),
        }
    }
    for key in ledger.records(service).filter(|key| !wanted.contains_key(key)) {
        groups.push(Group { guards: vec![], writes: vec![(key.clone(), None)] });
    }
    groups
}

/// What a service needs beside its records: its cluster's place in the order, and virtual addresses.
fn entry_fees(config: &Config, ledger: &Ledger, service: &ServiceKey, reserved: &HashSet<IpAddr>) -> Group {
    let mut group = Group::default();
    let order = ledger.order(service).cloned().unwrap_or_default();
    let key = Key::Order(service.clone());
    // What only a later version can read, only that may write over.
    let joins = !order.value.0.contains(&config.cluster) && !ledger.is_later(&key);
    if joins {
        let mut clusters = order.value.0;
        clusters.push(config.cluster.clone());
        group.guards.push(Guard::modified(key.to_string(), order.modified));
        group.writes.push((key, Some(Order(clusters).encode())));
    }
    let host = service.host(&config.zone);
    let by_host = Key::VipOfHost(host.as_str().into());
    let vip = ledger.vip(&host).cloned().unwrap_or_default();
    if vip.value.is_none() && !ledger.is_later(&by_host) {
        let all = || config.vips.candidates(&host).take(MAX_CANDIDATES);
        let had = config.seeds.borrow().as_ref().and_then(|seeds| seeds.choose(&host, all()));
        match had
            .into_iter()
            .chain(all())
            .find_map(|candidate| allocate(ledger, reserved, &host, vip.modified, candidate))
        {
            Some(given) => group.join(given),
            None => tracing::error!(host, "no virtual address is free: enlarge `vips`"),
        }
    } else if joins {
        // Whoever had the last place may have given it up, and the addresses with it.
        group.guards.push(Guard::modified(by_host.to_string(), vip.modified));
    }
    group
}

/// Gives a host addresses, unless one of them is another's. Its key was last written at `modified`: one that does not
/// decode is written over.
fn allocate(ledger: &Ledger, reserved: &HashSet<IpAddr>, host: &str, modified: u64, vip: Vip) -> Option<Group> {
    let by_host = Key::VipOfHost(host.into()).to_string();
    let mut group = Group { guards: vec![Guard::modified(by_host, modified)], writes: vec![] };
    group.writes.push((Key::VipOfHost(host.into()), Some(vip.encode())));
    let half = VipHost(host.to_owned()).encode();
    for address in [IpAddr::from(vip.v4), IpAddr::from(vip.v6)] {
        group.guards.push(ledger.guard(address, &half).filter(|_| !reserved.contains(&address))?);
        group.writes.push((Key::HostOfVip(address), Some(half.clone())));
    }
    Some(group)
}

/// Gives up this cluster's place in the order of a service; and with the last one the service's virtual addresses. Who
/// takes a place at the same time changes the order, and so one of the two is refused.
fn release(config: &Config, ledger: &Ledger, service: &ServiceKey) -> Group {
    let (mut group, host) = (Group::default(), service.host(&config.zone));
    let by_host = Key::VipOfHost(host.as_str().into());
    let is_ours = ledger.has_place(service) && !ledger.is_later(&by_host);
    let Some(order) = ledger.order(service).filter(|_| is_ours) else { return group };
    let key = Key::Order(service.clone());
    group.guards.push(Guard::modified(key.to_string(), order.modified));
    let others: Vec<_> = order.value.0.iter().filter(|id| **id != config.cluster).cloned().collect();
    if !others.is_empty() {
        group.writes.push((key, Some(Order(others).encode())));
        return group;
    }
    group.writes.push((key, None));
    let vip = ledger.vip(&host).cloned().unwrap_or_default();
    group.guards.push(Guard::modified(by_host.to_string(), vip.modified));
    group.writes.push((by_host, None));
    let half = VipHost(host).encode();
    for address in vip.value.iter().flat_map(|vip| [IpAddr::from(vip.v4), vip.v6.into()]) {
        if let Some(guard) = ledger.guard(address, &half) {
            group.guards.push(guard);
            group.writes.push((Key::HostOfVip(address), None));
        }
    }
    group
}

// === impl Group ===

impl Group {
    fn join(&mut self, other: Self) {
        self.guards.extend(other.guards);
        self.writes.extend(other.writes);
    }
}

/// A transaction that grows until it is full.
struct Draft<'a> {
    ledger: &'a Ledger,
    config: &'a Config,
    now: &'a Observed,
    txn: Txn,
    bytes: usize,
    marker: Synced,
    /// Virtual addresses that this transaction gives out.
    reserved: HashSet<IpAddr>,
}

// === impl Draft ===

impl<'a> Draft<'a> {
    fn new(config: &'a Config, ledger: &'a Ledger, now: &'a Observed) -> Self {
        let marker = ledger.marker().synced.clone();
        Self { ledger, config, now, txn: Txn::default(), bytes: 0, marker, reserved: HashSet::new() }
    }

    /// Adds a group, unless the transaction is full. A group that is too large for any transaction goes alone: etcd
    /// says what it thinks of it.
    fn take(&mut self, group: Group) -> bool {
        let size = |(key, value): &(Key, Option<Vec<u8>>)| key.to_string().len() + value.as_ref().map_or(0, Vec::len);
        let bytes: usize = group.writes.iter().map(size).sum();
        let full = self.txn.writes.len() + group.writes.len() > MAX_WRITES || self.bytes + bytes > MAX_BYTES;
        if full && !self.txn.writes.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.txn.guards.extend(group.guards);
        for (key, value) in group.writes {
            self.count(&key, value.as_deref());
            if let Key::HostOfVip(address) = key {
                self.reserved.insert(address);
            }
            self.txn.writes.push((key.to_string(), value));
        }
        true
    }

    /// Keeps the marker's count and hash equal to the set of records.
    fn count(&mut self, key: &Key, value: Option<&[u8]>) {
        let (Key::Head(_, service) | Key::Slice(_, service, _)) = key else {
            return;
        };
        if let Some(old) = self.ledger.hash(service, key) {
            self.marker.records -= 1;
            self.marker.hash = self.marker.hash.minus(old);
        }
        if let Some(value) = value {
            self.marker.records += 1;
            self.marker.hash = self.marker.hash.plus(SetHash::of(&key.to_string(), value));
        }
    }

    /// Adds what every transaction carries. While an owner is still comparing, the marker keeps the epoch of the last
    /// owner that had compared everything, or zero.
    fn finish(mut self, held: &Held, settles: BTreeSet<ServiceKey>, all: bool) -> Option<Batch> {
        let (known, epoch) = (self.ledger.marker(), self.ledger.epoch());
        let cluster = &self.config.cluster;
        let generation = self.ledger.generation().map(|life| life.id.clone()).unwrap_or_default();
        if self.ledger.meta() != Some(&self.now.meta) {
            self.txn.writes.push((Key::Meta(cluster.clone()).to_string(), Some(self.now.meta.encode())));
        }
        let state = self.state();
        let says_the_same = |known: &State| known.frozen == state.frozen && known.reason == state.reason;
        if !self.ledger.state().is_some_and(says_the_same) {
            self.txn.writes.push((Key::State(cluster.clone()).to_string(), Some(state.encode())));
        }
        self.hold(held, all);
        let is_late = !self.ledger.is_early() || known.synced.source_version == self.now.source_version;
        let is_of_tenure = known.synced.epoch == epoch && known.synced.generation == generation;
        let is_as_whole = !known.synced.behind && known.synced.partial == self.now.partial;
        let is_marked = is_of_tenure && known.fits && is_as_whole && is_late;
        if self.txn.writes.is_empty() && (is_marked || !all) {
            return None;
        }
        if all {
            (self.marker.epoch, self.marker.generation) = (epoch, generation);
        }
        (self.marker.behind, self.marker.partial) = (!all, self.now.partial);
        self.marker.sequence += 1;
        self.marker.source_version = self.now.source_version.clone();
        let marker = Key::Synced(cluster.clone()).to_string();
        self.txn.guards.extend(self.ledger.fences());
        self.txn.writes.push((marker, Some(self.marker.encode())));
        Some(Batch { txn: self.txn, marker: self.marker, settles })
    }

    /// Says what is held, as soon as anything is; and that nothing is any more, once everything was compared. Guarded,
    /// because an operator writes there too.
    fn hold(&mut self, held: &Held, all: bool) {
        let known = self.ledger.hold();
        let over = known.modified != 0 && all && !self.now.partial;
        let write = match held.hold() {
            Some(hold) if known.value.as_ref() != Some(hold) => Some(hold.encode()),
            None if over => None,
            _ => return,
        };
        let key = Key::Hold(self.config.cluster.clone()).to_string();
        self.txn.guards.push(Guard::modified(&key, known.modified));
        self.txn.writes.push((key, write));
    }

    /// What is to be said of the news about the cluster.
    fn state(&self) -> State {
        if self.now.frozen_since.is_none() {
            return State::default();
        }
        // Names without messages: those change as often as what fails fails otherwise, and are shown by the owner.
        let reasons: Vec<&str> = self.now.conditions.iter().map(|(reason, _)| reason.as_str()).collect();
        let since = (self.config.clock)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let since = since.saturating_sub(self.now.frozen_since.map_or(0, |since| since.elapsed().as_secs()));
        State { frozen: true, since: i64::try_from(since).unwrap_or_default(), reason: reasons.join(", ").into() }
    }
}

#[cfg(test)]
mod tests;
