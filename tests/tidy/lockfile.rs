//! What the lock file may hold: one version of each crate that must agree with itself, one crypto provider, and
//! nothing that has been abandoned. `.deny.toml` says more, but needs a tool; this runs with the tests.

use std::collections::BTreeMap;

use crate::tree::{Tree, Violation};

/// Their types cross crate borders, or their state is one per process: two versions build, and then do not meet.
const ONE_VERSION: [&str; 11] =
    ["axum", "bytes", "http", "hyper", "prost", "rand", "rustls", "socket2", "tokio", "tonic", "tower"];

const BANNED: [(&str, &str); 10] = [
    ("aws-lc-rs", "ring is the only crypto provider: find who enables it with cargo tree -i aws-lc-rs"),
    ("aws-lc-sys", "ring is the only crypto provider: find who enables it with cargo tree -i aws-lc-sys"),
    ("aws-lc-fips-sys", "ring is the only crypto provider"),
    ("openssl-sys", "TLS is rustls: switch off the dependency's native TLS"),
    ("native-tls", "TLS is rustls: switch off the dependency's native TLS"),
    ("backoff", "unmaintained (RUSTSEC-2025-0012): backon"),
    ("instant", "unmaintained (RUSTSEC-2024-0384): std or tokio time"),
    ("serde_yaml", "deprecated: serde-saphyr"),
    ("serde_yml", "RUSTSEC-2025-0068: serde-saphyr"),
    ("rustls-pemfile", "unmaintained (RUSTSEC-2025-0134): rustls's own pki-types"),
];

const LOCK: &str = "Cargo.lock";

/// Reads the lock file, which covers every platform and every package of the workspace.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(text) = tree.text(LOCK) else {
        return vec![Violation::new(LOCK, "missing: commit it")];
    };
    let versions = versions(text);
    let mut found = Vec::new();
    for name in ONE_VERSION {
        if let Some(several) = versions.get(name).filter(|versions| versions.len() > 1) {
            let several = several.join(" and ");
            found.push(Violation::new(LOCK, format!("{name} {several}: find who asks for which with cargo tree -d")));
        }
    }
    for (name, remedy) in BANNED {
        if versions.contains_key(name) {
            found.push(Violation::new(LOCK, format!("{name}: {remedy}")));
        }
    }
    found
}

/// Versions by package name; cargo writes the version right below the name.
fn versions(lock: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = None;
    for line in lock.lines() {
        if let Some(value) = value(line, "name") {
            name = Some(value);
        } else if let (Some(value), Some(name)) = (value(line, "version"), name.take()) {
            versions.entry(name).or_default().push(value);
        }
    }
    versions
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(packages: &[(&str, &str)]) -> Vec<String> {
        let lock: String = packages
            .iter()
            .map(|(name, version)| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n"))
            .collect();
        let lock = format!("version = 4\n\n{lock}");
        check(&Tree::of([(LOCK, &lock)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_version_each() {
        assert_eq!(complaints(&[("tokio", "1.0.0"), ("syn", "2.0.0"), ("syn", "3.0.0")]), [""; 0]);
        let found = complaints(&[("hyper", "0.14.0"), ("hyper", "1.0.0")]);
        assert_eq!(found, ["Cargo.lock: hyper 0.14.0 and 1.0.0: find who asks for which with cargo tree -d"]);
    }

    #[test]
    fn ring_only_and_nothing_abandoned() {
        let found = complaints(&[("aws-lc-rs", "1.0.0"), ("backoff", "0.4.0"), ("ring", "0.17.0")]);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].starts_with("Cargo.lock: aws-lc-rs: ring is the only"), "{}", found[0]);
        assert!(found[1].starts_with("Cargo.lock: backoff: unmaintained"), "{}", found[1]);
        assert_eq!(check(&Tree::of([])).len(), 1);
    }
}
