//! Project: one View into what each consumer holds. Pure but for the memory of what was projected before, so that a
//! change costs what it touches. The only place that names both a noun of the model and one of a protocol. What is
//! the agent's own (its place, what it imports, how its listeners answer) comes in here, after conflicts are decided.

pub mod dns;
pub mod import;
pub mod service_entry;

use crate::config::rules::ImportRules;
use model::{merge::Service, name::ServiceKey, reach::Networks, tracked::Since, view::View};
use std::sync::Arc;

/// Which services have to be projected again.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Sequence of the services last projected.
    seen: u64,
    /// The networks they were projected with: they decide what can be used of every service.
    networks: Arc<Networks>,
    rules: ImportRules,
    /// Whether the rules are new.
    anew: bool,
}

/// The services to project again, and whether everything else that was projected is to be dropped.
#[derive(Debug)]
pub struct Due<'a> {
    /// What is imported of a service, or `None` where it is gone or nothing of it is.
    pub services: Vec<(&'a ServiceKey, Option<Arc<Service>>)>,
    /// The networks to project them with.
    pub networks: Arc<Networks>,
    /// All services are there, so what is not among them is gone.
    pub everything: bool,
}

// === impl Cursor ===

impl Cursor {
    /// Sets what is imported. New rules make everything due.
    pub fn set_rules(&mut self, rules: ImportRules) {
        self.anew |= self.rules != rules;
        self.rules = rules;
    }

    /// What is due in `view`; it counts as done from now on.
    pub fn advance<'a>(&mut self, view: &'a View) -> Due<'a> {
        let mut moved = std::mem::take(&mut self.anew);
        if !self.networks.hold(view) {
            self.networks = Arc::new(Networks::new(view));
            moved = true;
        }
        let since = view.services().since(self.seen);
        self.seen = view.services().sequence();
        let imported = |service| import::imported(&self.rules, service);
        let (services, everything) = match since {
            Since::Changes(changed) if !moved => {
                (changed.into_iter().map(|(key, service)| (key, service.and_then(imported))).collect(), false)
            }
            _ => (view.services().iter().map(|(key, service)| (key, imported(service))).collect(), true),
        };
        Due { services, networks: self.networks.clone(), everything }
    }
}
