//! Endpoints that are host names: which services have them, so that a new answer touches only those, and what each was last
//! said to have. Knows nothing of how that is found out.

use crate::lookup::chase::{Chased, Located, Wanted};
use model::{
    export::{Address, Health},
    merge::Service,
    name::ServiceKey,
    tracked::Since,
};
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    slice,
    sync::Arc,
};

/// The host names of all endpoints, and what is known of them.
#[derive(Debug, Default)]
pub struct Hosts {
    users: HashMap<Arc<str>, BTreeSet<ServiceKey>>,
    wanted: Wanted,
    chased: Chased,
}

// === impl Hosts ===

impl Hosts {
    /// Takes what is known now; says of which services the endpoints may have moved.
    pub fn learn(&mut self, chased: Chased) -> BTreeSet<ServiceKey> {
        let moved = match chased.since(self.chased.sequence()) {
            Since::Changes(changes) => {
                let users = changes.into_iter().filter_map(|(host, _)| self.users.get(host));
                users.flatten().cloned().collect()
            }
            Since::Everything => self.users.values().flatten().cloned().collect(),
        };
        self.chased = chased;
        moved
    }

    /// A service has these host names now, and had those before.
    pub fn set(&mut self, service: &ServiceKey, before: &BTreeSet<Arc<str>>, now: &BTreeSet<Arc<str>>) {
        for host in now.difference(before) {
            self.users.entry(host.clone()).or_default().insert(service.clone());
            self.wanted.set(host.clone(), Some(()));
        }
        for host in before.difference(now) {
            let Some(users) = self.users.get_mut(host) else { continue };
            users.remove(service);
            if users.is_empty() {
                self.users.remove(host);
                self.wanted.set(host.clone(), None);
            }
        }
    }

    /// What is to be looked up.
    #[must_use]
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Whether something is known of all that is wanted.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.wanted.iter().all(|(host, ())| !self.awaits(host))
    }

    /// The addresses of an endpoint; `None` where it is a host name of which nobody has said anything.
    #[must_use]
    pub fn addresses<'a>(&'a self, address: &'a Address) -> Option<&'a [IpAddr]> {
        match address {
            Address::Ip(ip) => Some(slice::from_ref(ip)),
            Address::Host(host) => self.chased.get(host).map(|located| &*located.addresses),
        }
    }

    /// Whether a name is looked up of which nobody has said anything yet.
    #[must_use]
    pub fn awaits(&self, host: &Arc<str>) -> bool {
        self.wanted.get(host).is_some() && self.chased.get(host).is_none()
    }

    /// The fewest seconds for which the addresses of a service's host names may be told.
    #[must_use]
    pub fn ttl(&self, service: &Service) -> Option<u32> {
        let located = hosts_of(service).filter_map(|host| self.chased.get(host));
        located.filter(|located| !located.addresses.is_empty()).map(|Located { ttl, .. }| *ttl).min()
    }
}

/// The host names of a service's endpoints, which may come several times.
pub fn hosts_of(service: &Service) -> impl Iterator<Item = &Arc<str>> {
    let endpoints = service.exports.iter().flat_map(|(_, export)| export.endpoints());
    endpoints.filter(|member| member.endpoint.health != Health::NotReady).filter_map(|member| {
        match &member.endpoint.address {
            Address::Host(host) => Some(host),
            Address::Ip(_) => None,
        }
    })
}
