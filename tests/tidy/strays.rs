//! Every entry of the root is known, and no editor or merge leaves its droppings anywhere.

use std::collections::BTreeSet;

use crate::tree::{Tree, Violation};

/// What the root may hold. The visible half is the layout in docs/ARCHITECTURE.md; tools look for the hidden half.
const ROOT: [&str; 24] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".config",
    ".deny.toml",
    ".dockerignore",
    ".editorconfig",
    ".gitattributes",
    ".github",
    ".gitignore",
    ".rustfmt.toml",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "dns",
    "docs",
    "federator",
    "kind-clusters",
    "manifests",
    "rust-toolchain.toml",
    "tests",
];

/// Without these the repository is not one.
const REQUIRED: [&str; 11] = [
    ".clippy.toml",
    ".deny.toml",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "docs/ARCHITECTURE.md",
    "docs/CHANGELOG.md",
    "docs/decisions/README.md",
    "rust-toolchain.toml",
];

const DROPPINGS: [&str; 10] =
    [".orig", ".rej", ".bak", ".backup", ".old", ".swp", ".tmp", "~", ".DS_Store", ".proptest-regressions"];

/// Checks names only.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let entries: BTreeSet<&str> = tree.files().map(|(path, _)| path.split('/').next().unwrap_or(path)).collect();
    let unknown = entries.into_iter().filter(|entry| !ROOT.contains(entry)).map(|entry| {
        Violation::new(entry, "not an entry of the root: move it where it belongs, or add it to this rule")
    });
    let missing = REQUIRED
        .into_iter()
        .filter(|path| tree.text(path).is_none_or(|text| text.trim().is_empty()))
        .map(|path| Violation::new(path, "missing or empty: write it"));
    let dropped = tree
        .files()
        .filter(|(path, _)| DROPPINGS.iter().any(|end| path.ends_with(end)))
        .map(|(path, _)| Violation::new(path, "left behind by a tool: delete it"));
    unknown.chain(missing).chain(dropped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(extra: &str) -> Vec<String> {
        let mut files = REQUIRED.map(|path| (path, "text"));
        files.iter_mut().filter(|(path, _)| *path == extra).for_each(|file| file.1 = "\n");
        let mut found: Vec<String> = check(&Tree::of(files)).iter().map(ToString::to_string).collect();
        found.extend(
            check(&Tree::of([(extra, "")])).iter().map(ToString::to_string).filter(|line| !line.contains("missing")),
        );
        found
    }

    #[test]
    fn the_known_entries_pass() {
        assert_eq!(complaints("dns/src/lib.rs"), [""; 0]);
        assert_eq!(complaints(".ci/run"), [""; 0]);
    }

    #[test]
    fn a_stray_is_named() {
        assert!(complaints("notes.txt")[0].starts_with("notes.txt: not an entry of the root"));
        assert!(complaints("scratch/a.rs")[0].starts_with("scratch: not an entry of the root"));
        assert_eq!(complaints("dns/src/zone.rs.orig"), ["dns/src/zone.rs.orig: left behind by a tool: delete it"]);
    }

    #[test]
    fn an_empty_page_is_a_missing_page() {
        assert_eq!(complaints("README.md"), ["README.md: missing or empty: write it"]);
        assert_eq!(check(&Tree::of([])).len(), REQUIRED.len());
    }
}
