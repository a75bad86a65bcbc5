//! What takes part: namespaces where something is exported; clusters, namespaces and services where something is
//! imported. Lists of what is allowed and what is denied, checked. They may change while the agent runs, so whoever
//! applies them can be given new ones. Knows nothing of what they are applied to.

use super::{ConfigError, field, file};
use model::{
    export::Host,
    name::{ClusterId, ServiceKey},
};
use std::{fmt, sync::Arc};

/// What of the clusters that this agent observes is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRules {
    /// Whether a service has to ask for it.
    pub mode: file::ExportMode,
    /// The namespaces whose services are.
    pub namespaces: Lists,
}

/// What of the fleet this agent hands on to its own cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRules {
    /// The agent's own cluster: what it exports itself is not kept out by `clusters`.
    pub home: Option<ClusterId>,
    /// The clusters whose exports are.
    pub clusters: Lists,
    /// The namespaces whose services are.
    pub namespaces: Lists,
    /// The services that are, by `namespace/name`.
    pub services: Lists,
    /// The zone, in which the names of a namespace are its services' own.
    pub zone: Arc<str>,
    /// Who may have which other aliases.
    pub aliases: Vec<AliasRule>,
}

/// Who may have aliases under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasRule {
    suffix: Host,
    namespaces: Lists,
    clusters: Lists,
}

/// Names that are allowed and names that are denied. Default: all are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Those that take part; empty means all.
    pub allow: Vec<Pattern>,
    /// Those that do not, even where they are allowed.
    pub deny: Vec<Pattern>,
}

/// A name, in which `*` stands for any letters, also none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Arc<str>);

/// Why a name does not take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is denied, by this pattern.
    Denied(Pattern),
    /// There is a list of those that are allowed, and it is not in it.
    NotAllowed,
}

/// Why something of the fleet is not imported: the list that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotImported {
    /// The field of the configuration that has the lists.
    field: &'static str,
    refusal: Refusal,
}

/// What the names of a list are names of.
#[derive(Clone, Copy, Debug)]
enum Noun {
    Cluster,
    Namespace,
    Service,
}

// === impl ExportRules ===

impl ExportRules {
    pub(super) fn check(typed: &file::Export) -> Result<Self, ConfigError> {
        Ok(Self { mode: typed.mode, namespaces: Lists::of_namespaces("export.namespaces", &typed.namespaces)? })
    }
}

impl Default for ExportRules {
    fn default() -> Self {
        Self { mode: file::ExportMode::default(), namespaces: Lists::default_namespaces() }
    }
}

// === impl ImportRules ===

impl ImportRules {
    pub(super) fn check(typed: &file::Import, home: &ClusterId, zone: &Arc<str>) -> Result<Self, ConfigError> {
        let aliases = typed.aliases.allow.iter().enumerate();
        let aliases = aliases.map(|(n, rule)| AliasRule::check(&format!("import.aliases.allow[{n}]"), rule));
        Ok(Self {
            home: Some(home.clone()),
            zone: zone.clone(),
            aliases: aliases.collect::<Result<_, _>>()?,
            clusters: Lists::check("import.clusters", Noun::Cluster, &typed.clusters.allow, &typed.clusters.deny)?,
            namespaces: Lists::of_namespaces("import.namespaces", &typed.namespaces)?,
            services: Lists::check("import.services", Noun::Service, &typed.services.allow, &typed.services.deny)?,
        })
    }

    /// Why a service is not imported, whoever exports it; `None` when it is from some.
    #[must_use]
    pub fn refuse_service(&self, service: &ServiceKey) -> Option<NotImported> {
        let by_namespace = self.namespaces.refuse(service.namespace.as_str());
        by_namespace.map(|refusal| NotImported { field: "import.namespaces", refusal }).or_else(|| {
            // Most have no such lists, and a text is made for them.
            let refusal = (!self.services.is_empty()).then(|| self.services.refuse(&service.to_string()))??;
            Some(NotImported { field: "import.services", refusal })
        })
    }

    /// Why nothing that a cluster exports is imported; `None` when it is.
    #[must_use]
    pub fn refuse_cluster(&self, cluster: &ClusterId) -> Option<NotImported> {
        let refusal = self.clusters.refuse(cluster.as_str()).filter(|_| self.home.as_ref() != Some(cluster))?;
        Some(NotImported { field: "import.clusters", refusal })
    }
}

impl ImportRules {
    /// Whether a service has an alias because a cluster that exports it asks for it. In the zone that is a name like a
    /// service's own: of its own namespace, or one that is allowed.
    #[must_use]
    pub fn allows_alias(&self, alias: &Host, service: &ServiceKey, cluster: &ClusterId) -> bool {
        let by_rule = || self.aliases.iter().any(|rule| rule.allows(alias, service, cluster));
        if !alias.is_under(&self.zone) {
            return by_rule();
        }
        match ServiceKey::of_host(alias.as_str()) {
            Some((named, zone)) if *zone == *self.zone => named.namespace == service.namespace || by_rule(),
            _ => false,
        }
    }
}

impl Default for ImportRules {
    fn default() -> Self {
        let (clusters, services) = (Lists::default(), Lists::default());
        let (zone, aliases) = ("".into(), Vec::new());
        Self { home: None, clusters, namespaces: Lists::default_namespaces(), services, zone, aliases }
    }
}

// === impl AliasRule ===

impl AliasRule {
    fn check(at: &str, typed: &file::AliasRule) -> Result<Self, ConfigError> {
        let suffix = Host::parse(&typed.suffix).map_err(|error| field(format!("{at}.suffix"), error.to_string()))?;
        let allow = |list: &str, noun, texts| Lists::patterns(&format!("{at}.{list}"), noun, texts);
        let allow = |list, noun, texts| Ok(Lists { allow: allow(list, noun, texts)?, deny: Vec::new() });
        Ok(Self {
            suffix,
            namespaces: allow("namespaces", Noun::Namespace, &typed.namespaces)?,
            clusters: allow("clusters", Noun::Cluster, &typed.clusters)?,
        })
    }

    fn allows(&self, alias: &Host, service: &ServiceKey, cluster: &ClusterId) -> bool {
        alias.is_under(self.suffix.as_str())
            && self.namespaces.refuse(service.namespace.as_str()).is_none()
            && self.clusters.refuse(cluster.as_str()).is_none()
    }
}

// === impl Lists ===

impl Lists {
    /// Why a name does not take part; `None` when it does.
    #[must_use]
    pub fn refuse(&self, name: &str) -> Option<Refusal> {
        if let Some(pattern) = self.deny.iter().find(|pattern| pattern.matches(name)) {
            return Some(Refusal::Denied(pattern.clone()));
        }
        let allowed = self.allow.is_empty() || self.allow.iter().any(|pattern| pattern.matches(name));
        (!allowed).then_some(Refusal::NotAllowed)
    }

    fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    fn default_namespaces() -> Self {
        let file::Namespaces { allow, deny } = file::Namespaces::default();
        let patterns = |texts: Vec<String>| texts.into_iter().map(|text| Pattern(text.into())).collect();
        Self { allow: patterns(allow), deny: patterns(deny) }
    }

    fn of_namespaces(at: &str, typed: &file::Namespaces) -> Result<Self, ConfigError> {
        Self::check(at, Noun::Namespace, &typed.allow, &typed.deny)
    }

    fn check(at: &str, noun: Noun, allow: &[String], deny: &[String]) -> Result<Self, ConfigError> {
        let patterns = |list: &str, texts| Self::patterns(&format!("{at}.{list}"), noun, texts);
        Ok(Self { allow: patterns("allow", allow)?, deny: patterns("deny", deny)? })
    }

    fn patterns(at: &str, noun: Noun, texts: &[String]) -> Result<Vec<Pattern>, ConfigError> {
        texts.iter().enumerate().map(|(n, text)| Pattern::check(&format!("{at}[{n}]"), noun, text)).collect()
    }
}

// === impl Pattern ===

impl Pattern {
    fn check(at: &str, noun: Noun, text: &str) -> Result<Self, ConfigError> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'*');
        let is_name = |text: &str| !text.is_empty() && text.bytes().all(good);
        let (is_good, form) = match noun {
            Noun::Cluster => (is_name(text), "cluster id: use a-z, 0-9 and `-`"),
            Noun::Namespace => (is_name(text), "namespace: use a-z, 0-9 and `-`"),
            Noun::Service => (
                text.split_once('/').is_some_and(|(namespace, name)| is_name(namespace) && is_name(name)),
                "service: use NAMESPACE/NAME, each of a-z, 0-9 and `-`",
            ),
        };
        if !is_good {
            return Err(field(at, format!("`{text}` is no {form}, and `*` for any of them")));
        }
        Ok(Self(text.into()))
    }

    fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        // Each part where it stands first leaves the most for those behind it.
        for part in parts {
            match rest.split_once(part) {
                Some((_, behind)) => rest = behind,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(pattern) => write!(f, "namespaces `{pattern}` are denied"),
            Self::NotAllowed => f.write_str("its namespace is not among those that are allowed"),
        }
    }
}

impl fmt::Display for NotImported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            Refusal::Denied(pattern) => write!(f, "{}.deny: {pattern}", self.field),
            Refusal::NotAllowed => write!(f, "{}.allow: not in it", self.field),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, good, bad) in [
            ("shop", &["shop"][..], &["shop-1", "a-shop", ""][..]),
            ("kube-*", &["kube-", "kube-system"], &["kube", "a-kube-b"]),
            ("*-system", &["istio-system", "-system"], &["system", "istio-systems"]),
            ("*", &["", "a"], &[]),
            ("a*b*c", &["abc", "a-b-c", "abbcc", "abcbc"], &["ac", "ab", "acb", "xabc"]),
            ("a*a", &["aa", "aba"], &["a", "ab"]),
            ("**", &["", "a"], &[]),
        ] {
            let pattern = Pattern::check("x", Noun::Namespace, pattern).expect("a pattern");
            for name in good {
                assert!(pattern.matches(name), "{pattern} {name}");
            }
            for name in bad {
                assert!(!pattern.matches(name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn denied_is_denied_and_a_list_of_allowed_ones_is_a_list() {
        let check = |allow: &[&str], deny: &[&str], namespace: &str, said: &str| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let typed = file::Namespaces { allow: texts(allow), deny: texts(deny) };
            let refusal = Lists::of_namespaces("x", &typed).expect("good ones").refuse(namespace);
            assert_eq!(refusal.map(|refusal| refusal.to_string()).unwrap_or_default(), said, "{namespace}");
        };
        check(&[], &[], "shop", "");
        check(&[], &["shop*"], "shop", "namespaces `shop*` are denied");
        check(&["shop"], &["shop*"], "shop", "namespaces `shop*` are denied");
        check(&["shop"], &[], "shop", "");
        check(&["shop"], &[], "bank", "its namespace is not among those that are allowed");
        let default = ImportRules::default().namespaces;
        assert!(default.refuse("kube-system").is_some());
        assert!(default.refuse("kube").is_none());
    }

    /// In the zone a namespace has its own names; elsewhere there are none but those that are allowed.
    #[test]
    fn who_may_have_which_alias() {
        let typed = serde_json::from_value(serde_json::json!({ "aliases": { "allow": [
            { "suffix": "api.example.com", "namespaces": ["shop", "bank-*"], "clusters": ["prod-*"] },
            { "suffix": "everybodys.example.com." },
            { "suffix": "bank.global", "namespaces": ["shop"] },
        ] } }));
        let home = ClusterId::parse("home").expect("an id");
        let rules = ImportRules::check(&typed.expect("known fields"), &home, &"global".into()).expect("good ones");
        for (alias, namespace, cluster, allowed) in [
            ("users.api.example.com", "shop", "prod-eu", true),
            ("api.example.com", "bank-1", "prod-eu", true),
            ("users.api.example.com", "bank", "prod-eu", false),
            ("users.api.example.com", "shop", "home", false),
            ("usersapi.example.com", "shop", "prod-eu", false),
            ("a.everybodys.example.com", "any", "any", true),
            ("www.shop.global", "shop", "any", true),
            ("www.bank.global", "shop", "any", true),
            ("www.bank.global", "any", "any", false),
            // No service is called so, and others' names may be above it.
            ("a.www.shop.global", "shop", "any", false),
            ("shop.global", "shop", "any", false),
        ] {
            let (alias, cluster) = (Host::parse(alias).expect("a name"), ClusterId::parse(cluster).expect("an id"));
            let service = ServiceKey::parse(namespace, "web").expect("labels");
            assert_eq!(rules.allows_alias(&alias, &service, &cluster), allowed, "{alias} of {service} in {cluster}");
        }
    }

    /// Every list is asked, what is denied first; the agent's own cluster is not the clusters' list's to refuse.
    #[test]
    fn what_is_imported() {
        let typed = serde_json::from_value(serde_json::json!({
            "clusters": { "allow": ["prod-*", "lab"], "deny": ["prod-x"] },
            "namespaces": { "allow": ["shop", "b*"], "deny": ["bad"] },
            "services": { "deny": ["shop/pay-*", "*/debug"] },
        }));
        let home = ClusterId::parse("home").expect("an id");
        let rules = ImportRules::check(&typed.expect("known fields"), &home, &"global".into()).expect("good ones");
        let said = |refusal: Option<NotImported>| refusal.map(|refusal| refusal.to_string()).unwrap_or_default();
        for (cluster, why) in [
            ("prod-eu", ""),
            ("lab", ""),
            ("home", ""),
            ("prod-x", "import.clusters.deny: prod-x"),
            ("labs", "import.clusters.allow: not in it"),
        ] {
            assert_eq!(said(rules.refuse_cluster(&ClusterId::parse(cluster).expect("an id"))), why, "{cluster}");
        }
        for (namespace, name, why) in [
            ("shop", "web", ""),
            ("bank", "pay-in", ""),
            ("shop", "pay-in", "import.services.deny: shop/pay-*"),
            ("bank", "debug", "import.services.deny: */debug"),
            ("bad", "debug", "import.namespaces.deny: bad"),
            ("other", "web", "import.namespaces.allow: not in it"),
        ] {
            let service = ServiceKey::parse(namespace, name).expect("labels");
            assert_eq!(said(rules.refuse_service(&service)), why, "{service}");
        }
    }
}
