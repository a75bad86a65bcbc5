//! What must be true of every transaction, whoever asked for it and whatever happened before: checked by the simulated
//! store before it does one. Knows the store's records, and nothing of agents.

use crate::{journal::Journal, link::Who};
use federator::store::{Entry, Txn};
use model::{
    cluster::{SetHash, Synced, Tombstone},
    generation::Generation,
    key::Key,
    name::{ClusterId, ServiceKey},
    record::{Order, Record as _, VipHost},
    seat::Owner,
    vip::Vip,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// Whoever removes and readmits clusters.
pub(crate) const ADMINISTRATOR: &str = "administrator";

type Entries = BTreeMap<String, Entry>;

/// What must be true of transactions, and what is remembered to tell.
#[derive(Debug)]
pub(crate) struct Law {
    journal: Journal,
    /// The hash of every record.
    hashes: BTreeMap<String, SetHash>,
    /// Since when a service of a cluster has been in the store.
    published: BTreeMap<(ClusterId, ServiceKey), Instant>,
    /// The first virtual addresses of each host.
    vips: BTreeMap<Arc<str>, Vip>,
    /// How long what is gone keeps its place.
    rest: Duration,
    /// Since when a service of a cluster has been gone from the store.
    gone: BTreeMap<(ClusterId, ServiceKey), Instant>,
    /// Since when whatever never was in the store has not been in it.
    began: Instant,
    /// Services of which a place was ever given up.
    given_up: BTreeSet<ServiceKey>,
}

// === impl Law ===

impl Law {
    pub(crate) fn new(journal: Journal, rest: Duration) -> Self {
        Self {
            journal,
            hashes: BTreeMap::new(),
            published: BTreeMap::new(),
            vips: BTreeMap::new(),
            rest,
            gone: BTreeMap::new(),
            began: Instant::now(),
            given_up: BTreeSet::new(),
        }
    }

    /// Judges a transaction whose guards hold, by what stands there before it; `holder` says whose a lease is.
    pub(crate) fn transaction(&mut self, before: &Entries, who: &Who, txn: &Txn, holder: impl Fn(i64) -> Option<Who>) {
        let mut changed = BTreeSet::new();
        let generation = before.get(&Key::Generation.to_string());
        let generation = generation.and_then(|entry| Generation::decode(&entry.value).ok());
        // While everybody says again what a lost store held, what was held goes in front of what stands there.
        let is_settled = generation.is_some_and(|generation| generation.settled);
        for (text, value) in &txn.writes {
            let old = before.get(text).map(|entry| entry.value.as_slice());
            let Ok(key) = Key::parse(text) else {
                self.broken(who, format_args!("writes `{text}`, which is no key"));
                continue;
            };
            let is_shared = matches!(key, Key::Order(_) | Key::VipOfHost(_) | Key::HostOfVip(_));
            if is_shared && value.is_none() && !is_settled {
                self.broken(who, format_args!("takes {key} away before all is said"));
            }
            if is_settled || !matches!(key, Key::Order(_)) {
                self.write(who, txn, &key, old, value.as_deref());
            }
            if let Key::Head(id, _) | Key::Slice(id, _, _) = &key {
                changed.insert(id.clone());
                self.note_record(text, &key, value.as_deref());
            }
        }
        for id in changed {
            self.fence(before, who, txn, &id, &holder);
        }
    }

    /// The store holds something else now.
    pub(crate) fn restored(&mut self, entries: &Entries) {
        self.hashes.clear();
        let before = std::mem::take(&mut self.published);
        for (text, entry) in entries {
            if let Ok(key @ (Key::Head(..) | Key::Slice(..))) = Key::parse(text) {
                self.note_record(text, &key, Some(&entry.value));
            }
        }
        // What had gone before, and is not there now either, is gone for as long.
        for service in before.into_keys().filter(|service| !self.published.contains_key(service)) {
            self.gone.insert(service, Instant::now());
        }
    }

    /// Since when a service of a cluster has been in the store.
    pub(crate) fn published(&self) -> &BTreeMap<(ClusterId, ServiceKey), Instant> {
        &self.published
    }

    /// The first virtual addresses that each host was given.
    pub(crate) fn vips(&self) -> &BTreeMap<Arc<str>, Vip> {
        &self.vips
    }

    /// Whether a place in the order of a service was ever given up: another order, and another address, may follow.
    pub(crate) fn is_given_up(&self, service: &ServiceKey) -> bool {
        self.given_up.contains(service)
    }

    /// What one write of a transaction may do.
    fn write(&mut self, who: &Who, txn: &Txn, key: &Key, old: Option<&[u8]>, new: Option<&[u8]>) {
        let deletes = |key: Key| txn.writes.contains(&(key.to_string(), None));
        match key {
            Key::Order(service) => {
                let order =
                    |bytes: Option<&[u8]>| bytes.and_then(|bytes| Order::decode(bytes).ok()).unwrap_or_default();
                let (old, new) = (order(old).0, order(new).0);
                if !new.starts_with(&old) && !self.gives_up(txn, service, &old, &new) {
                    self.broken(who, format_args!("reorders {key}: {old:?} becomes {new:?}"));
                }
            }
            Key::VipOfHost(host) => {
                let vip = |bytes: Option<&[u8]>| bytes.and_then(|bytes| Vip::decode(bytes).ok());
                let (old, new) = (vip(old), vip(new));
                let service = ServiceKey::of_host(host).map(|(service, _)| service);
                let is_released = new.is_none() && service.is_some_and(|service| deletes(Key::Order(service)));
                if is_released {
                    self.vips.remove(host);
                } else if old.is_some() && new != old {
                    self.broken(who, format_args!("moves {host} from {old:?} to {new:?}"));
                }
                if let Some(vip) = new {
                    self.vips.entry(host.clone()).or_insert(vip);
                }
            }
            Key::HostOfVip(address) => {
                let host = |bytes: Option<&[u8]>| bytes.and_then(|bytes| VipHost::decode(bytes).ok());
                let (old, new) = (host(old), host(new));
                let with_host = |VipHost(host): &VipHost| deletes(Key::VipOfHost(host.as_str().into()));
                let is_released = new.is_none() && old.as_ref().is_some_and(with_host);
                if old.is_some() && new != old && !is_released {
                    self.broken(who, format_args!("gives {address} of {old:?} to {new:?}"));
                }
            }
            Key::Tombstone(id) => {
                let number =
                    |bytes: Option<&[u8]>| bytes.and_then(|bytes| Tombstone::decode(bytes).ok()).map(|t| t.number);
                if number(new) <= number(old) {
                    self.broken(who, format_args!("takes the tombstone of {id} back: {old:?} becomes {new:?}"));
                }
            }
            _ => {}
        }
    }

    /// Whether a change of an order is that a cluster gives up its place: its owner does that, and not before the
    /// service has been gone from the store for long enough.
    fn gives_up(&mut self, txn: &Txn, service: &ServiceKey, old: &[ClusterId], new: &[ClusterId]) -> bool {
        let missing: Vec<_> = old.iter().filter(|id| !new.contains(id)).collect();
        let [id] = missing[..] else { return false };
        let of = (id.clone(), service.clone());
        let has_rested = self.gone.get(&of).unwrap_or(&self.began).elapsed() >= self.rest;
        let is_owners = txn.writes.iter().any(|(key, _)| *key == Key::Synced(id.clone()).to_string());
        let are_others_kept = old.iter().filter(|other| *other != id).eq(new);
        self.given_up.insert(service.clone());
        has_rested && is_owners && are_others_kept && !self.published.contains_key(&of)
    }

    /// Records change under the marker's next sequence and by their owner alone, or are cleared away when removed.
    fn fence(&self, before: &Entries, who: &Who, txn: &Txn, id: &ClusterId, holder: &impl Fn(i64) -> Option<Who>) {
        let old = |key: Key| before.get(&key.to_string());
        let tombstone = old(Key::Tombstone(id.clone())).and_then(|entry| Tombstone::decode(&entry.value).ok());
        let removed = tombstone.is_some_and(|tombstone| tombstone.removed);
        if &*who.agent == ADMINISTRATOR {
            if !removed || txn.writes.iter().any(|(_, value)| value.is_some()) {
                self.broken(who, format_args!("touches records of {id}"));
            }
            return;
        }
        if removed {
            self.broken(who, format_args!("writes records of {id}, which is removed"));
        }
        let owner = old(Key::Owner(id.clone())).and_then(|entry| Owner::decode(&entry.value).ok());
        if owner.as_ref().and_then(|owner| holder(owner.lease)).as_ref() != Some(who) {
            self.broken(who, format_args!("writes records of {id}, whose owner is {owner:?}"));
        }
        let marker = Key::Synced(id.clone()).to_string();
        let decode = |bytes: &[u8]| Synced::decode(bytes).ok();
        let was = before.get(&marker).and_then(|entry| decode(&entry.value)).unwrap_or_default();
        let new = txn.writes.iter().find(|(key, _)| *key == marker).and_then(|(_, value)| decode(value.as_ref()?));
        let Some(new) = new else {
            return self.broken(who, format_args!("writes records of {id} and no marker"));
        };
        if new.sequence != was.sequence + 1 {
            self.broken(who, format_args!("writes sequence {} of {id} after {}", new.sequence, was.sequence));
        }
        // The records as they are after it.
        let records = Key::records_of(id);
        let hashes = self.hashes.range(records.clone()..).take_while(|(key, _)| key.starts_with(&records));
        let (mut count, mut hash) = (0, SetHash::default());
        for (_, record) in hashes {
            (count, hash) = (count + 1, hash.plus(*record));
        }
        if (new.records, new.hash) != (count, hash) {
            let said = new.records;
            self.broken(who, format_args!("says {said} records of {id} ({}), there are {count} ({hash})", new.hash));
        }
    }

    fn note_record(&mut self, text: &str, key: &Key, value: Option<&[u8]>) {
        match value {
            Some(value) => self.hashes.insert(text.to_owned(), SetHash::of(text, value)),
            None => self.hashes.remove(text),
        };
        if let Key::Head(id, service) = key {
            let service = (id.clone(), service.clone());
            match value {
                Some(_) => {
                    self.gone.remove(&service);
                    self.published.entry(service).or_insert_with(Instant::now);
                }
                None => {
                    self.gone.insert(service.clone(), Instant::now());
                    self.published.remove(&service);
                }
            }
        }
    }

    fn broken(&self, who: &Who, what: fmt::Arguments<'_>) {
        self.journal.fail(format_args!("{who} {what}"));
    }
}
