//! Which of the services are exported: by the rules, which may change at any time, by what a service and its namespace
//! ask for, and by ServiceExports. A service that is not is held all the same, and named with the reason.

use super::{Index, Kind, LeftOut, ObjectName, name_of};
use crate::{
    config::{file::ExportMode, rules::ExportRules},
    observe::convert::service::SourceService,
};
use model::name::ServiceKey;

impl Index {
    /// Sets what is exported. Services on whose export the rules decide otherwise than before are rebuilt.
    pub fn set_rules(&mut self, rules: ExportRules) {
        if self.rules != rules {
            self.rules = rules;
            self.judge_all(&self.services.keys().cloned().collect::<Vec<_>>());
        }
    }

    pub(super) fn judge_all(&mut self, keys: &[ServiceKey]) {
        keys.iter().for_each(|key| self.judge(key));
    }

    /// Decides anew whether a service is exported.
    pub(super) fn judge(&mut self, key: &ServiceKey) {
        let refusal = self.services.get(key).and_then(|service| self.refusal(key, service));
        if self.refused.get(key) == refusal.as_ref() {
            return;
        }
        match refusal {
            Some(refusal) => self.refused.insert(key.clone(), refusal),
            None => self.refused.remove(key),
        };
        self.dirty.insert(key.clone());
        self.say(&name_of(Kind::Service, key));
    }

    /// Why a service is not exported; `None` when it is.
    fn refusal(&self, key: &ServiceKey, service: &SourceService) -> Option<LeftOut> {
        let asked = service.annotated == Some(true) || self.service_exports.contains_key(key);
        let namespace = self.namespaces.get(key.namespace.as_str());
        if let Some(refusal) = self.rules.namespaces.refuse(key.namespace.as_str()) {
            Some(LeftOut::Namespace(refusal))
        } else if namespace.is_some_and(|namespace| namespace.denied) {
            Some(LeftOut::NamespaceLabel)
        } else if service.annotated == Some(false) {
            Some(LeftOut::Annotated)
        } else if service.head.traffic.node_local && !asked {
            Some(LeftOut::NodeLocal)
        } else if self.rules.mode == ExportMode::OptIn && !asked {
            Some(LeftOut::NotAsked)
        } else {
            None
        }
    }

    /// Shows why an object is left out: what is wrong with it comes before what the rules say.
    pub(super) fn say(&mut self, name: &ObjectName) {
        let refused = || {
            let key = ServiceKey::parse(&name.namespace, &name.name).ok().filter(|_| name.kind == Kind::Service);
            key.and_then(|key| self.refused.get(&key)).map(ToString::to_string)
        };
        let reason = self.complaints.get(name).cloned().or_else(refused);
        self.note(&name.to_string(), reason);
    }
}
