//! What an observer demands of every transaction in the shared store. Pure: it is shown one after the other.
//!
//! - What changes of a cluster's records changes its marker too, in the same transaction: its sequence by one, its
//!   epoch never back and only to that of the owner who stands there, its count and hash to those of the records.
//! - Clusters join the order of a service at its end, and never leave or change places.
//! - A host and its virtual addresses point at each other, and never at anybody else.
//! - Of a cluster that is removed nothing is written.
//! - The store is in one generation, whose base stays.
//!
//! The store may forget (it is wiped, or goes back to a backup), and then revisions start anew; what was given out and
//! decided before holds all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use model::cluster::{Hold, SetHash, State, Synced, Tombstone};
use model::generation::Generation;
use model::key::Key;
use model::name::{ClusterId, ServiceKey};
use model::record::{Order, Record, VipHost};
use model::seat::{Candidate, Owner};
use model::vip::Vip;

/// What was written or deleted at one revision.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) revision: u64,
    /// Keys without the root, and what stands behind them now; nothing if they were deleted.
    pub(super) changes: Vec<(String, Option<Standing>)>,
}

/// A value with the revisions of its first and last write.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) value: Vec<u8>,
    pub(super) created: u64,
    pub(super) modified: u64,
}

/// What stands in the store, and what was ever decided there.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    standing: BTreeMap<String, Standing>,
    /// The largest epoch of each cluster's marker.
    epochs: BTreeMap<ClusterId, u64>,
    /// The longest order of each service.
    orders: BTreeMap<ServiceKey, Vec<ClusterId>>,
    vips: BTreeMap<String, Vip>,
    addresses: BTreeMap<IpAddr, String>,
    /// How often clusters were removed and readmitted.
    tombstones: BTreeMap<ClusterId, u64>,
    /// Removed clusters and the revision of their removal.
    pub(super) removed: BTreeMap<String, u64>,
    /// The last revision that was shown.
    pub(super) revision: u64,
    /// How many were shown.
    pub(super) shown: usize,
    /// Every life of the store.
    generations: BTreeSet<String>,
    /// How often the store has forgotten.
    losses: usize,
}

// === impl Transactions ===

impl Transactions {
    /// The store knows less than it did: its revisions start anew.
    pub(super) fn forget(&mut self) {
        self.standing.clear();
        self.epochs.clear();
        self.revision = 0;
        self.losses += 1;
    }

    /// Takes over what stands at a revision, without the history that led to it.
    pub(super) fn adopt(&mut self, found: &Transaction) -> Vec<String> {
        self.standing = found.changes.iter().filter_map(|(key, now)| Some((key.clone(), now.clone()?))).collect();
        self.revision = found.revision;
        self.decided(found)
    }

    /// What is wrong with a transaction.
    pub(super) fn judge(&mut self, txn: &Transaction) -> Vec<String> {
        let mut wrong = Vec::new();
        for id in txn.clusters() {
            wrong.extend(self.fence(&id, txn));
        }
        wrong.extend(self.shrinks(txn));
        for (key, now) in &txn.changes {
            match now {
                Some(now) => self.standing.insert(key.clone(), now.clone()),
                None => self.standing.remove(key),
            };
        }
        wrong.extend(txn.clusters().iter().filter_map(|id| self.count(id, txn)));
        wrong.extend(self.decided(txn));
        self.revision = txn.revision;
        self.shown += 1;
        wrong
    }

    /// Whether the writer of a cluster's records was its owner, as far as that shows.
    fn fence(&mut self, id: &ClusterId, txn: &Transaction) -> Vec<String> {
        let mut wrong = Vec::new();
        let marker = txn.changes.iter().find(|(key, _)| *key == Key::Synced(id.clone()).to_string());
        let records: Vec<_> = txn.changes.iter().filter(|(key, _)| is_record_of(id, key)).collect();
        if self.get::<Tombstone>(&Key::Tombstone(id.clone())).is_some_and(|tombstone| tombstone.removed) {
            if records.iter().copied().chain(marker).any(|(_, now)| now.is_some()) {
                wrong.push(format!("{id} is removed, and was written"));
            }
            return wrong;
        }
        let Some((_, Some(marker))) = marker else {
            match marker {
                Some(_) => wrong.push(format!("the marker of {id} was deleted")),
                None if records.is_empty() => {}
                None => wrong.push(format!("records of {id} changed without its marker")),
            }
            return wrong;
        };
        let now = match Synced::decode(&marker.value) {
            Ok(now) => now,
            Err(error) => return vec![format!("the marker of {id}: {error}")],
        };
        let before = self.get::<Synced>(&Key::Synced(id.clone()));
        if let Some(before) = &before
            && now.sequence != before.sequence + 1
        {
            wrong.push(format!("the sequence of {id} was {} and is {}", before.sequence, now.sequence));
        }
        let highest = self.epochs.entry(id.clone()).or_default();
        if now.epoch < *highest {
            wrong.push(format!("the epoch of {id} was {highest} and is {}: a deposed owner wrote", now.epoch));
        }
        *highest = now.epoch.max(*highest);
        match self.standing.get(&Key::Owner(id.clone()).to_string()) {
            None => wrong.push(format!("{id} was written while nobody owned it")),
            Some(owner) => {
                let known = before.map_or(0, |before| before.epoch);
                if ![known, owner.created, owner.modified].contains(&now.epoch) {
                    let (created, modified) = (owner.created, owner.modified);
                    let text = "and its owner's key was created at";
                    wrong.push(format!("the epoch of {id} is {}, {text} {created}, written at {modified}", now.epoch));
                }
            }
        }
        wrong
    }

    /// Whether the marker says what the records are.
    fn count(&self, id: &ClusterId, txn: &Transaction) -> Option<String> {
        let key = Key::Synced(id.clone());
        if !txn.changes.iter().any(|(changed, now)| *changed == key.to_string() && now.is_some()) {
            return None;
        }
        let marker = self.get::<Synced>(&key)?;
        let records = || self.standing.iter().filter(|(key, _)| is_record_of(id, key));
        let count = records().count() as u64;
        let hash = records().fold(SetHash::default(), |sum, (key, now)| sum.plus(SetHash::of(key, &now.value)));
        let text =
            format!("the marker of {id} says {} records, {}; there are {count}, {hash}", marker.records, marker.hash);
        (marker.records != count || marker.hash != hash).then_some(text)
    }

    /// What was given out or decided is not taken back.
    fn shrinks(&self, txn: &Transaction) -> Vec<String> {
        let mut wrong = Vec::new();
        for (text, now) in &txn.changes {
            match (Key::parse(text), now) {
                (
                    Ok(Key::Generation | Key::Order(_) | Key::VipOfHost(_) | Key::HostOfVip(_) | Key::Tombstone(_)),
                    None,
                ) => {
                    wrong.push(format!("{text} was deleted"));
                }
                (Ok(Key::Generation), Some(now)) => {
                    let now = Generation::decode(&now.value).unwrap_or_default();
                    if let Some(before) = self.get::<Generation>(&Key::Generation)
                        && before.id == now.id
                        && (before.base != now.base || before.settled && !now.settled)
                    {
                        wrong.push(format!("{text} was {before:?} and is {now:?}"));
                    }
                }
                (Ok(Key::Order(service)), Some(now)) => {
                    let before = self.get::<Order>(&Key::Order(service)).unwrap_or_default().0;
                    let after = Order::decode(&now.value).unwrap_or_default().0;
                    if !after.starts_with(&before) {
                        wrong.push(format!("{text} was {before:?} and is {after:?}"));
                    }
                }
                _ => {}
            }
        }
        wrong
    }

    /// Whether what was decided is what was ever decided, and both halves of a virtual address agree.
    fn decided(&mut self, txn: &Transaction) -> Vec<String> {
        let mut wrong = Vec::new();
        // Revisions are shown as they count on over a restored store.
        let base = self.get::<Generation>(&Key::Generation).map_or(0, |generation| generation.base);
        for (text, now) in txn.changes.iter().filter_map(|(text, now)| Some((text, now.as_ref()?))) {
            match Key::parse(text) {
                Ok(Key::Order(service)) => {
                    let after = Order::decode(&now.value).unwrap_or_default().0;
                    let known = self.orders.entry(service).or_default();
                    if !after.starts_with(known) && !known.starts_with(&after) {
                        wrong.push(format!("{text} was {known:?} once and is {after:?}"));
                    }
                    if after.len() > known.len() {
                        *known = after;
                    }
                }
                Ok(Key::VipOfHost(host)) => {
                    let Ok(vip) = Vip::decode(&now.value) else {
                        wrong.push(format!("{text} does not decode"));
                        continue;
                    };
                    for address in [IpAddr::from(vip.v4), IpAddr::from(vip.v6)] {
                        let back = self.get::<VipHost>(&Key::HostOfVip(address));
                        if back.as_ref().is_none_or(|back| *back.0 != *host) {
                            wrong.push(format!("{text} has {address}, which is of {back:?}"));
                        }
                    }
                    let known = *self.vips.entry(host.to_string()).or_insert(vip);
                    if known != vip {
                        wrong.push(format!("{text} was {known:?} once and is {vip:?}"));
                    }
                }
                Ok(Key::HostOfVip(address)) => {
                    let Ok(VipHost(host)) = VipHost::decode(&now.value) else {
                        wrong.push(format!("{text} does not decode"));
                        continue;
                    };
                    let vip = self.get::<Vip>(&Key::VipOfHost(host.as_str().into()));
                    if vip.is_none_or(|vip| address != IpAddr::from(vip.v4) && address != IpAddr::from(vip.v6)) {
                        wrong.push(format!("{text} is of {host}, which has {vip:?}"));
                    }
                    let known = self.addresses.entry(address).or_insert_with(|| host.clone());
                    if *known != host {
                        wrong.push(format!("{text} was of {known} once and is of {host}"));
                    }
                }
                Ok(Key::Generation) => {
                    let id = Generation::decode(&now.value).unwrap_or_default().id;
                    self.generations.insert(id.to_string());
                    if self.generations.len() > 1 + self.losses {
                        wrong.push(format!("the store has forgotten {} times: {:?}", self.losses, self.generations));
                    }
                }
                Ok(Key::Tombstone(id)) => {
                    let tombstone = Tombstone::decode(&now.value).unwrap_or_default();
                    let known = self.tombstones.entry(id.clone()).or_default();
                    // A backup has what was true then; what is written after it must not be older.
                    if tombstone.number < *known && self.losses == 0 {
                        wrong.push(format!("{text} was number {known} and is {}", tombstone.number));
                    }
                    if tombstone.number >= *known {
                        *known = tombstone.number;
                        if tombstone.removed {
                            self.removed.insert(id.to_string(), base + now.modified);
                        } else {
                            self.removed.remove(id.as_str());
                        }
                    }
                }
                _ => {}
            }
        }
        wrong
    }

    fn get<R: Record>(&self, key: &Key) -> Option<R> {
        R::decode(&self.standing.get(&key.to_string())?.value).ok()
    }
}

// === impl Transaction ===

impl Transaction {
    /// The clusters whose records or marker it touches.
    fn clusters(&self) -> BTreeSet<ClusterId> {
        let cluster = |(key, _): &(String, _)| match Key::parse(key).ok()? {
            Key::Head(id, _) | Key::Slice(id, _, _) | Key::Synced(id) => Some(id),
            _ => None,
        };
        self.changes.iter().filter_map(cluster).collect()
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        let change = |(key, now): &(String, Option<Standing>)| {
            let Some(now) = now else { return format!("{key} deleted") };
            let value = match Key::parse(key) {
                Ok(Key::Synced(_)) => Synced::decode(&now.value).ok().map(|synced| {
                    format!("epoch {} sequence {} records {}", synced.epoch, synced.sequence, synced.records)
                }),
                Ok(Key::Generation) => shown::<Generation>(now),
                Ok(Key::Owner(_)) => shown::<Owner>(now),
                Ok(Key::Candidate(..)) => shown::<Candidate>(now),
                Ok(Key::State(_)) => shown::<State>(now),
                Ok(Key::Hold(_)) => shown::<Hold>(now),
                Ok(Key::Order(_)) => shown::<Order>(now),
                Ok(Key::Tombstone(_)) => shown::<Tombstone>(now),
                _ => None,
            };
            value.map_or_else(|| key.clone(), |value| format!("{key} = {value}"))
        };
        let changes: Vec<_> = self.changes.iter().map(change).collect();
        format!("store @{}: {}", self.revision, changes.join("; "))
    }
}

fn shown<R: Record + fmt::Debug>(now: &Standing) -> Option<String> {
    Some(format!("{:?}", R::decode(&now.value).ok()?))
}

fn is_record_of(id: &ClusterId, key: &str) -> bool {
    matches!(Key::parse(key), Ok(Key::Head(of, _) | Key::Slice(of, _, _)) if of == *id)
}

#[cfg(test)]
mod tests;
