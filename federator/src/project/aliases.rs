//! Aliases: which service has which, of those that ask for one and may have it. Pure. A service's own host is nobody's
//! alias, and of several services the one that was exported first has an alias, by the time at which the first that asks
//! for it was created, then by namespace and name. Every cluster sees the same exports, but each has rules of its own.

use crate::config::rules::ImportRules;
use model::{export::Host, merge::Service, name::ServiceKey, tracked::Tracked};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Who asks for which alias.
#[derive(Debug, Default)]
pub struct Aliases {
    /// Who may have it: the first in order has it.
    claims: BTreeMap<Host, BTreeSet<(i64, ServiceKey)>>,
    /// The same by service.
    of: HashMap<ServiceKey, BTreeMap<Host, i64>>,
}

/// What becomes of the aliases that one service asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Those that it has.
    pub held: Vec<Host>,
    /// Those that it has not.
    pub refused: Vec<(Host, Refusal)>,
}

/// Why a service has not an alias.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No rule allows it.
    #[error("no rule of import.aliases allows it")]
    NotAllowed,
    /// Another was first.
    #[error("it is {0}'s, which was exported first")]
    Taken(ServiceKey),
    /// It is the name of a service.
    #[error("it is the host of {0} itself")]
    Host(ServiceKey),
}

// === impl Aliases ===

impl Aliases {
    /// Takes note of what a service asks for, `None` of one that is not imported. Says which other services may have got or
    /// lost an alias by that.
    pub fn set(&mut self, rules: &ImportRules, key: &ServiceKey, service: Option<&Service>) -> BTreeSet<ServiceKey> {
        let asked = service.map(|service| allowed(rules, service)).unwrap_or_default();
        let mut touched = BTreeSet::new();
        // Others may ask for what is its own host.
        if !self.claims.is_empty()
            && let Ok(own) = Host::parse(&key.host(&rules.zone))
        {
            touched.extend(self.claimants(&own));
        }
        if self.of.get(key).unwrap_or(&BTreeMap::new()) != &asked {
            for (host, created) in self.of.remove(key).unwrap_or_default() {
                touched.extend(self.claimants(&host));
                if let Some(claims) = self.claims.get_mut(&host) {
                    claims.remove(&(created, key.clone()));
                    if claims.is_empty() {
                        self.claims.remove(&host);
                    }
                }
            }
            for (host, created) in &asked {
                self.claims.entry(host.clone()).or_default().insert((*created, key.clone()));
                touched.extend(self.claimants(host));
            }
            if !asked.is_empty() {
                self.of.insert(key.clone(), asked);
            }
        }
        touched.remove(key);
        touched
    }

    /// What becomes of what a service asks for; `services` are all that there are.
    #[must_use]
    pub fn named(&self, zone: &str, service: &Service, services: &Tracked<ServiceKey, Arc<Service>>) -> Named {
        let mut named = Named::default();
        let asked = service.exports.iter().flat_map(|(_, export)| &export.head.hosts.aliases);
        for host in asked.collect::<BTreeSet<_>>() {
            let host_of = ServiceKey::of_host(host.as_str()).filter(|(_, of)| *of == zone).map(|(key, _)| key);
            let holder = self.claims.get(host).and_then(|claims| claims.first());
            let is_allowed = self.of.get(&service.key).is_some_and(|claimed| claimed.contains_key(host));
            let refusal = match (host_of.filter(|key| services.get(key).is_some()), holder) {
                (Some(itself), _) if itself == service.key => continue,
                (Some(another), _) => Refusal::Host(another),
                _ if !is_allowed => Refusal::NotAllowed,
                (None, Some((_, first))) if *first != service.key => Refusal::Taken(first.clone()),
                (None, _) => {
                    named.held.push(host.clone());
                    continue;
                }
            };
            named.refused.push((host.clone(), refusal));
        }
        named
    }

    fn claimants(&self, host: &Host) -> impl Iterator<Item = ServiceKey> {
        self.claims.get(host).into_iter().flatten().map(|(_, key)| key.clone())
    }
}

/// What a service asks for and may have, each with when the first export that asks for it was created.
fn allowed(rules: &ImportRules, service: &Service) -> BTreeMap<Host, i64> {
    let mut allowed = BTreeMap::new();
    for (cluster, export) in &service.exports {
        for alias in &export.head.hosts.aliases {
            if rules.allows_alias(alias, &service.key, cluster) {
                let first = allowed.entry(alias.clone()).or_insert(export.head.created);
                *first = (*first).min(export.head.created);
            }
        }
    }
    allowed
}

#[cfg(test)]
mod tests;
