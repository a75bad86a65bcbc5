//! Which namespaces take part, and what of them is exported: the rules of both sides, checked. They may change while
//! the agent runs, so whoever applies them can be given new ones. Knows nothing of what they are applied to.

use super::{ConfigError, field, file};
use model::name::Label;
use std::{fmt, sync::Arc};

/// What of the clusters that this agent observes is exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportRules {
    /// Whether a service has to ask for it.
    pub mode: file::ExportMode,
    /// The namespaces whose services are.
    pub namespaces: Namespaces,
}

/// What of the fleet this agent hands on to its own cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportRules {
    /// The namespaces whose services are.
    pub namespaces: Namespaces,
}

/// Namespaces by the names that are allowed and those that are denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// Those that take part; empty means all.
    pub allow: Vec<Pattern>,
    /// Those that do not, even where they are allowed.
    pub deny: Vec<Pattern>,
}

/// A namespace's name, in which `*` stands for any letters, also none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Arc<str>);

/// Why a namespace does not take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is denied, by this pattern.
    Denied(Pattern),
    /// There is a list of those that are allowed, and it is not in it.
    NotAllowed,
}

// === impl ExportRules ===

impl ExportRules {
    pub(super) fn check(typed: &file::Export) -> Result<Self, ConfigError> {
        Ok(Self { mode: typed.mode, namespaces: Namespaces::check("export.namespaces", &typed.namespaces)? })
    }
}

// === impl ImportRules ===

impl ImportRules {
    pub(super) fn check(typed: &file::Import) -> Result<Self, ConfigError> {
        Ok(Self { namespaces: Namespaces::check("import.namespaces", &typed.namespaces)? })
    }
}

// === impl Namespaces ===

impl Namespaces {
    /// Why a namespace does not take part; `None` when it does.
    #[must_use]
    pub fn refuse(&self, namespace: &Label) -> Option<Refusal> {
        if let Some(pattern) = self.deny.iter().find(|pattern| pattern.matches(namespace.as_str())) {
            return Some(Refusal::Denied(pattern.clone()));
        }
        let allowed = self.allow.is_empty() || self.allow.iter().any(|pattern| pattern.matches(namespace.as_str()));
        (!allowed).then_some(Refusal::NotAllowed)
    }

    fn check(at: &str, typed: &file::Namespaces) -> Result<Self, ConfigError> {
        let patterns = |list: &str, texts: &[String]| {
            let checked = texts.iter().enumerate().map(|(n, text)| Pattern::check(&format!("{at}.{list}[{n}]"), text));
            checked.collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { allow: patterns("allow", &typed.allow)?, deny: patterns("deny", &typed.deny)? })
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        let file::Namespaces { allow, deny } = file::Namespaces::default();
        let patterns = |texts: Vec<String>| texts.into_iter().map(|text| Pattern(text.into())).collect();
        Self { allow: patterns(allow), deny: patterns(deny) }
    }
}

// === impl Pattern ===

impl Pattern {
    fn check(at: &str, text: &str) -> Result<Self, ConfigError> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'*');
        if text.is_empty() || !text.bytes().all(good) {
            return Err(field(at, format!("`{text}` is no namespace: use a-z, 0-9 and `-`, and `*` for any of them")));
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
            let pattern = Pattern::check("x", pattern).expect("a pattern");
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
            let rules = Namespaces::check("x", &typed).expect("good ones");
            let refusal = rules.refuse(&Label::parse(namespace).expect("a label"));
            assert_eq!(refusal.map(|refusal| refusal.to_string()).unwrap_or_default(), said, "{namespace}");
        };
        check(&[], &[], "shop", "");
        check(&[], &["shop*"], "shop", "namespaces `shop*` are denied");
        check(&["shop"], &["shop*"], "shop", "namespaces `shop*` are denied");
        check(&["shop"], &[], "shop", "");
        check(&["shop"], &[], "bank", "its namespace is not among those that are allowed");
        let default = Namespaces::default();
        assert!(default.refuse(&Label::parse("kube-system").expect("a label")).is_some());
        assert!(default.refuse(&Label::parse("kube").expect("a label")).is_none());
    }
}
