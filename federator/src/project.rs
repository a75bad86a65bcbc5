//! Project: one View into what each consumer holds. Pure but for the memory of what was projected before, so that a
//! change costs what it touches. The only place that names both a noun of the model and one of a protocol. What is
//! the agent's own (its place, what it imports, how its listeners answer) comes in here, after conflicts are decided.

pub mod aliases;
pub mod dns;
pub mod import;
pub mod objects;
pub mod service_entry;

use crate::config::rules::ImportRules;
use aliases::{Aliases, Named};
use model::{
    merge::Service,
    name::ServiceKey,
    reach::Networks,
    tracked::{Since, Tracked},
    view::View,
};
use std::{collections::BTreeSet, sync::Arc};

/// Which services have to be projected again.
#[derive(Debug, Default)]
pub struct Cursor {
    /// The services last projected. It is a part of the View that they were in, and costs nothing of its own.
    last: Tracked<ServiceKey, Arc<Service>>,
    /// The networks they were projected with: they decide what can be used of every service.
    networks: Arc<Networks>,
    rules: ImportRules,
    aliases: Aliases,
    /// Whether the rules are new.
    anew: bool,
    /// What else is due.
    touched: BTreeSet<ServiceKey>,
}

/// What is to be projected again.
#[derive(Debug)]
pub struct Due {
    /// What is imported of a service, or `None` where it is gone or nothing of it is.
    pub services: Vec<(ServiceKey, Option<Arc<Service>>)>,
    /// The networks to project them with.
    pub networks: Arc<Networks>,
}

// === impl Cursor ===

impl Cursor {
    /// Makes services due, whatever has become of them.
    pub fn touch(&mut self, services: impl IntoIterator<Item = ServiceKey>) {
        self.touched.extend(services);
    }

    /// Sets what is imported. New rules make everything due.
    pub fn set_rules(&mut self, rules: ImportRules) {
        self.anew |= self.rules != rules;
        self.rules = rules;
    }

    /// What is due in `view`; it counts as done from now on.
    pub fn advance(&mut self, view: &View) -> Due {
        let mut moved = std::mem::take(&mut self.anew);
        if !self.networks.hold(view) {
            self.networks = Arc::new(Networks::new(view));
            moved = true;
        }
        let now = view.services();
        let imported = |service| import::imported(&self.rules, service);
        let mut services: Vec<_> = match now.since(self.last.sequence()) {
            Since::Changes(changed) if !moved => {
                changed.into_iter().map(|(key, service)| (key.clone(), service.and_then(imported))).collect()
            }
            _ => {
                let gone = self.last.iter().map(|(key, _)| key).filter(|key| now.get(key).is_none());
                let there = now.iter().map(|(key, service)| (key.clone(), imported(service)));
                gone.map(|key| (key.clone(), None)).chain(there).collect()
            }
        };
        let mut more = std::mem::take(&mut self.touched);
        for (key, service) in &services {
            more.extend(self.aliases.set(&self.rules, key, service.as_deref()));
        }
        if !more.is_empty() {
            services.iter().for_each(|(key, _)| _ = more.remove(key));
            services.extend(more.into_iter().map(|key| {
                let service = now.get(&key).and_then(imported);
                (key, service)
            }));
        }
        self.last = now.clone();
        Due { services, networks: self.networks.clone() }
    }

    /// What becomes of the aliases that a service of the View asks for that was advanced to.
    #[must_use]
    pub fn named(&self, service: &Service) -> Named {
        self.aliases.named(&self.rules.zone, service, &self.last)
    }
}
