//! What others have written about hosts that we write about: a ServiceEntry that has the host, a DestinationRule that is for
//! it. Istio merges two of one host by their age, or takes one and says nothing, so ours gives way. Pure.

use crate::emit::object::{Kind, ObjectKey};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The claims of objects that are not ours.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claims: BTreeMap<ObjectKey, Claim>,
    /// Who claims a host, by kind and host, or by a pattern that begins with `*`.
    by_host: BTreeMap<(Kind, String), BTreeSet<ObjectKey>>,
}

/// What one object claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Claim {
    hosts: BTreeSet<String>,
    /// The namespaces that see it; empty for all.
    export_to: BTreeSet<String>,
}

// === impl Claims ===

impl Claims {
    /// Takes note of an object that is not ours, or that there is none; says whether that matters.
    pub(super) fn set(&mut self, key: &ObjectKey, spec: Option<&Value>) -> bool {
        let new = spec.map(|spec| Claim::read(key.kind, spec)).filter(|claim| !claim.hosts.is_empty());
        if self.claims.get(key) == new.as_ref() {
            return false;
        }
        for host in self.claims.remove(key).unwrap_or_default().hosts {
            let of_host = (key.kind, host);
            if let Some(keys) = self.by_host.get_mut(&of_host) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_host.remove(&of_host);
                }
            }
        }
        if let Some(claim) = new {
            for host in &claim.hosts {
                self.by_host.entry((key.kind, host.clone())).or_default().insert(key.clone());
            }
            self.claims.insert(key.clone(), claim);
        }
        true
    }

    /// Whose object counts instead of ours, which is called like its host. `root` is the namespace whose rules are for all.
    pub(super) fn of(&self, ours: &ObjectKey, root: &str) -> Option<&ObjectKey> {
        let exact = self.by_host.get(&(ours.kind, ours.name.to_string())).into_iter().flatten();
        // Of entries the more exact host wins; a rule for many hosts is a user's word on each of them.
        let patterns = (ours.kind == Kind::DestinationRule).then(|| {
            let patterns = self.by_host.range((ours.kind, "*".to_owned())..(ours.kind, "+".to_owned()));
            patterns.filter(|((_, pattern), _)| ours.name.ends_with(&pattern[1..])).flat_map(|(_, keys)| keys)
        });
        exact.chain(patterns.into_iter().flatten()).find(|theirs| {
            let is_looked_up =
                ours.kind == Kind::ServiceEntry || theirs.namespace == ours.namespace || *theirs.namespace == *root;
            is_looked_up && self.claims.get(*theirs).is_some_and(|claim| claim.is_seen(theirs, &ours.namespace))
        })
    }
}

// === impl Claim ===

impl Claim {
    fn read(kind: Kind, spec: &Value) -> Self {
        let texts = |field: &str| {
            let texts = spec[field].as_array().into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let hosts = match kind {
            Kind::ServiceEntry => texts("hosts"),
            Kind::DestinationRule => spec["host"].as_str().map(str::to_owned).into_iter().collect(),
            Kind::Gateway => BTreeSet::new(),
        };
        Self { hosts, export_to: texts("exportTo") }
    }

    /// Whether a namespace sees it (`exportTo`).
    fn is_seen(&self, at: &ObjectKey, namespace: &str) -> bool {
        let seen = |to: &String| match to.as_str() {
            "*" => true,
            "." => *at.namespace == *namespace,
            to => to == namespace,
        };
        self.export_to.is_empty() || self.export_to.iter().any(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(kind: Kind, text: &str) -> ObjectKey {
        let (namespace, name) = text.split_once('/').expect("two parts");
        ObjectKey { kind, namespace: namespace.into(), name: name.into() }
    }

    /// Who claims what is written as `shop/web.shop.global`, of these `kind namespace/name` with their specs.
    fn claimed(kind: Kind, others: &[(&str, Value)]) -> Option<String> {
        let mut claims = Claims::default();
        for (name, spec) in others {
            assert!(claims.set(&at(kind, name), Some(spec)));
            assert!(!claims.set(&at(kind, name), Some(spec)), "once is enough");
        }
        let ours = at(kind, "shop/web.shop.global");
        let found = claims.of(&ours, "istio-system").map(ToString::to_string);
        for (name, _) in others {
            assert!(claims.set(&at(kind, name), None));
        }
        assert!(claims.of(&ours, "istio-system").is_none() && claims.by_host.is_empty());
        found
    }

    #[test]
    fn an_entry_of_the_host_counts_where_it_is_seen() {
        let entry = |to: Value| json!({"hosts": ["other.example", "web.shop.global"], "exportTo": to});
        for (at, spec, is_claimed) in [
            ("a/b", entry(json!([])), true),
            ("a/b", entry(json!(["*"])), true),
            ("a/b", entry(json!(["."])), false),
            ("shop/b", entry(json!(["."])), true),
            ("a/b", entry(json!(["shop"])), true),
            ("a/b", entry(json!(["~"])), false),
            ("a/b", json!({"hosts": ["*.global"]}), false),
            ("a/b", json!({"hosts": ["cart.shop.global"]}), false),
            ("a/b", json!({}), false),
        ] {
            let expected = is_claimed.then(|| format!("ServiceEntry {at}"));
            let mut claims = Claims::default();
            claims.set(&self::at(Kind::ServiceEntry, at), Some(&spec));
            let ours = self::at(Kind::ServiceEntry, "shop/web.shop.global");
            assert_eq!(claims.of(&ours, "istio-system").map(ToString::to_string), expected, "{at} {spec}");
        }
    }

    #[test]
    fn a_rule_counts_where_it_is_looked_up() {
        let rule = |host: &str| json!({"host": host});
        let theirs = "DestinationRule istio-system/b".to_owned();
        assert_eq!(claimed(Kind::DestinationRule, &[("a/b", rule("web.shop.global"))]), None, "for clients there only");
        let both = [("istio-system/b", rule("*.global")), ("a/b", rule("*"))];
        assert_eq!(claimed(Kind::DestinationRule, &both), Some(theirs.clone()));
        assert_eq!(claimed(Kind::DestinationRule, &[("istio-system/b", rule("web.shop.global"))]), Some(theirs));
        let near = claimed(Kind::DestinationRule, &[("shop/b", rule("*.shop.global"))]);
        assert_eq!(near.as_deref(), Some("DestinationRule shop/b"));
        assert_eq!(claimed(Kind::DestinationRule, &[("shop/b", rule("*.local")), ("shop/c", rule("web"))]), None);
    }
}
