//! Which services something is of: a node by the endpoints that run on it, a pod by those that lead to it. Knows
//! nothing of either.

use model::name::ServiceKey;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

/// Services by what their endpoints refer to, with the number of references. A list and no map, because there are as
/// many pods as endpoints, each with a service or two.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct References(HashMap<Arc<str>, Vec<(ServiceKey, u32)>>);

// === impl References ===

impl References {
    /// One reference more.
    pub(super) fn insert(&mut self, to: &Arc<str>, service: &ServiceKey) {
        // Most have one, and a list that grows by itself begins with room for four.
        let services = self.0.entry(to.clone()).or_insert_with(|| Vec::with_capacity(1));
        match services.binary_search_by(|(known, _)| known.cmp(service)) {
            Ok(at) => services[at].1 += 1,
            Err(at) => services.insert(at, (service.clone(), 1)),
        }
    }

    /// One reference less.
    pub(super) fn remove(&mut self, to: &Arc<str>, service: &ServiceKey) {
        let Entry::Occupied(mut services) = self.0.entry(to.clone()) else {
            return;
        };
        if let Ok(at) = services.get().binary_search_by(|(known, _)| known.cmp(service)) {
            services.get_mut()[at].1 -= 1;
            if services.get()[at].1 == 0 {
                services.get_mut().remove(at);
            }
        }
        if services.get().is_empty() {
            services.remove();
        }
    }

    /// The services that refer to it.
    pub(super) fn of(&self, to: &str) -> impl Iterator<Item = &ServiceKey> {
        self.0.get(to).into_iter().flatten().map(|(service, _)| service)
    }

    /// Whether anything refers to it.
    pub(super) fn has(&self, to: &str) -> bool {
        self.0.contains_key(to)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
