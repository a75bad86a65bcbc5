//! Virtual addresses are pairs of keys, from host to addresses and back, written together. A host has its addresses only
//! where every key says so: otherwise two names could be told to share one, and a wrong service is worse than none. It
//! is a matter of what stands in the store, and not of which key came first; so it is judged when all of a change is in.

use super::{Fold, service_of, standing::Stamped};
use model::{cluster::SetHash, key::Key, name::ServiceKey, record::VipHost, vip::Vip};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// Which hosts addresses are said to be of.
#[derive(Debug, Default)]
pub(super) struct Vips {
    addresses: HashMap<IpAddr, Holder>,
    /// Keys of pairs that may agree no longer, or may agree now.
    unjudged: HashSet<Key>,
}

/// Whose an address is said to be.
#[derive(Debug)]
struct Holder {
    /// Of the key and its value.
    hash: SetHash,
    /// `None` is a host of another zone, or a value that cannot be used.
    service: Option<ServiceKey>,
}

// === impl Vips ===

impl Vips {
    /// All addresses that are somebody's.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().copied()
    }

    /// Whether both addresses are said to be a service's.
    pub(super) fn agree(&self, service: &ServiceKey, vip: Vip) -> bool {
        [vip.v4.into(), vip.v6.into()].iter().all(|address| self.is_of(address, service))
    }

    fn is_of(&self, address: &IpAddr, service: &ServiceKey) -> bool {
        self.addresses.get(address).is_some_and(|holder| holder.service.as_ref() == Some(service))
    }

    /// Another value stands behind a host than did: what it says of addresses is to be judged, before and now.
    pub(super) fn host_changed(&mut self, host: &Arc<str>, before: Option<Vip>, now: Option<Vip>) {
        self.unjudged.insert(Key::VipOfHost(host.clone()));
        for vip in [before, now].into_iter().flatten() {
            self.unjudged.extend([Key::HostOfVip(vip.v4.into()), Key::HostOfVip(vip.v6.into())]);
        }
    }
}

// === impl Fold ===

impl Fold {
    /// Takes note of whose an address is said to be; what was known of it is dropped where there is no key any more.
    pub(super) fn note_address(&mut self, address: IpAddr, host: Stamped<VipHost>, touched: &mut HashSet<ServiceKey>) {
        let service = host.value.and_then(|VipHost(host)| service_of(&host, &self.zone));
        // Its name is held once: most services are known by then.
        let service = service.map(|key| self.services.get_key_value(&key).map_or(key, |(known, _)| known.clone()));
        let now = host.stamp.exists().then_some(Holder { hash: host.stamp.hash, service });
        let hash = |holder: &Option<Holder>| holder.as_ref().map(|holder| holder.hash).unwrap_or_default();
        let after = hash(&now);
        let concerned: Vec<ServiceKey> = now.iter().filter_map(|holder| holder.service.clone()).collect();
        let before = match now {
            Some(now) => self.vips.addresses.insert(address, now),
            None => self.vips.addresses.remove(&address),
        };
        self.digest = self.digest.minus(hash(&before)).plus(after);
        self.vips.unjudged.insert(Key::HostOfVip(address));
        // Whoever else says that it has the address disagreed before, and does so now.
        for service in before.and_then(|holder| holder.service).into_iter().chain(concerned) {
            self.vips.unjudged.insert(Key::VipOfHost(service.host(&self.zone).into()));
            touched.insert(service);
        }
    }

    /// Sets aside every key whose counterpart does not say the same, and takes back those that do.
    pub(super) fn judge_vips(&mut self) {
        for key in std::mem::take(&mut self.vips.unjudged) {
            // Nearly all of them agree, and nothing was ever wrong with any.
            let outcome = self.judge_vip(&key).filter(|outcome| outcome.is_err() || !self.quarantined.is_empty());
            if let Some(outcome) = outcome {
                self.quarantine(&key.to_string(), outcome);
            }
        }
    }

    /// What is wrong with one key of a pair; `None` where its value alone has decided that, or there is none.
    fn judge_vip(&self, key: &Key) -> Option<Result<(), String>> {
        let vip = |service: &ServiceKey| self.services.get(service).and_then(|known| known.vip.value);
        let wrong = match key {
            Key::VipOfHost(host) => {
                let service = service_of(host, &self.zone)?;
                let vip = vip(&service)?;
                let lacks = [vip.v4.into(), vip.v6.into()].into_iter().find(|at| !self.vips.is_of(at, &service));
                lacks.map(|at| format!("{} does not say so: {host} has no virtual address", Key::HostOfVip(at)))
            }
            Key::HostOfVip(address) => {
                let service = self.vips.addresses.get(address)?.service.as_ref()?;
                let has = vip(service).is_some_and(|vip| IpAddr::from(vip.v4) == *address || vip.v6 == *address);
                let host = Key::VipOfHost(service.host(&self.zone).into());
                (!has).then(|| format!("{host} does not say so: the address is of nobody"))
            }
            _ => return None,
        };
        Some(wrong.map_or(Ok(()), Err))
    }
}

#[cfg(test)]
mod tests;
