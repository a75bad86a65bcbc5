//! Who may depend on whom, read from `cargo metadata`.
//!
//! `model`, `dns` and `xds` are leaves without edges among them; `federator` alone knows Kubernetes, etcd and all
//! three; tests may see everything and nobody may see tests. Development dependencies bind nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::tree::Violation;

/// What `model` may name in its manifest: data structures, a hash, a codec, an error derive. No serde: a type that
/// leaves the process is a record of its own, not a noun.
const MODEL_MAY_USE: [&str; 6] = ["ipnet", "prost", "rpds", "sha2", "smol_str", "thiserror"];

/// What a package must not reach, directly or through others. A trailing `*` stands for any ending.
const UNREACHABLE: [(&str, &[&str], &str); 5] = [
    (
        "federator-model",
        &[
            "tokio*",
            "mio",
            "socket2",
            "kube*",
            "k8s-openapi",
            "etcd-client",
            "tonic*",
            "hickory*",
            "hyper*",
            "axum*",
            "rustls",
            "tracing*",
            "log",
            "rand",
            "getrandom",
        ],
        "the model does no I/O, has no clock and no dice: move that to federator and pass the value in",
    ),
    (
        "federator-dns",
        &["kube*", "k8s-openapi", "etcd-client", "tonic*", "prost*"],
        "dns knows neither Kubernetes nor etcd: let federator's projection translate",
    ),
    (
        "federator-xds",
        &["kube*", "k8s-openapi", "etcd-client", "hickory*"],
        "xds knows neither Kubernetes nor etcd nor DNS: let federator's projection translate",
    ),
    (
        "federator",
        &["protoc-bin-vendored*", "cargo_metadata", "rcgen", "insta"],
        "the daemon carries no tool of the build or of the tests",
    ),
    (
        "xtask",
        &["tokio*", "kube*", "k8s-openapi", "etcd-client", "tonic*", "prost-build", "hickory*", "hyper*"],
        "xtask builds before everything else, in seconds and without protoc: do it in the tests package",
    ),
];

/// Which members may name a package of ours, or a crate that only one place may know. Tests may name all of them.
const ONLY_NAMED_BY: [(&str, &[&str]); 7] = [
    ("federator-model", &["federator"]),
    ("federator-dns", &["federator", "federator-fuzz"]),
    ("federator-xds", &["federator"]),
    ("federator", &[]),
    ("kube", &["federator"]),
    ("k8s-openapi", &["federator"]),
    ("etcd-client", &["federator"]),
];

/// Packages that nobody names, not even the tests of another package.
const NAMED_BY_NOBODY: [&str; 2] = ["federator-tests", "xtask"];

/// The packages that may name everything.
const TESTS: &str = "federator-tests";

/// Packages and what they need to run and to build, by name; development dependencies are left out.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    members: BTreeSet<String>,
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

/// Checks the workspace whose root this is.
pub(crate) fn check_repository(root: &Path) -> Result<Vec<Violation>> {
    Ok(check(&Graph::of_workspace(root)?))
}

/// Checks a graph; what is not in it breaks no rule.
pub(crate) fn check(graph: &Graph) -> Vec<Violation> {
    let mut found = Vec::new();
    for name in graph.needs("federator-model") {
        if !MODEL_MAY_USE.contains(&name) {
            let allowed = MODEL_MAY_USE.join(", ");
            found.push(violation("federator-model", name, &format!("the model may name {allowed} only")));
        }
    }
    for (package, forbidden, remedy) in UNREACHABLE {
        for path in graph.reaches(package, forbidden) {
            found.push(violation(package, &path, remedy));
        }
    }
    for (crate_name, allowed) in ONLY_NAMED_BY {
        for member in graph.members.iter().filter(|member| *member != TESTS && !allowed.contains(&member.as_str())) {
            if graph.needs(member).any(|name| name == crate_name) {
                let who = if allowed.is_empty() { "tests".to_owned() } else { allowed.join(", ") };
                found.push(violation(member, crate_name, &format!("only {who} may name it")));
            }
        }
    }
    for crate_name in NAMED_BY_NOBODY {
        for member in &graph.members {
            if graph.needs(member).any(|name| name == crate_name) {
                found.push(violation(member, crate_name, "nobody depends on tests or chores"));
            }
        }
    }
    found
}

fn violation(package: &str, path: &str, remedy: &str) -> Violation {
    Violation::new(format!("package {package} -> {path}"), remedy)
}

fn fits(name: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

// === impl Graph ===

impl Graph {
    fn of_workspace(root: &Path) -> Result<Self> {
        // Only this platform, so that nothing is asked for that the build itself did not need.
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), platform])
            .exec()
            .context("cargo metadata --locked failed; is Cargo.lock current?")?;
        let mut graph = Self::default();
        for package in &metadata.packages {
            graph.names.insert(package.id.repr.clone(), package.name.to_string());
            if metadata.workspace_members.contains(&package.id) {
                graph.members.insert(package.id.repr.clone());
            }
        }
        let resolve = metadata.resolve.context("cargo metadata resolved nothing")?;
        for node in resolve.nodes {
            let needed = node.deps.into_iter().filter(|dep| {
                dep.dep_kinds.is_empty() || dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
            });
            graph.edges.insert(node.id.repr, needed.map(|dep| dep.pkg.repr).collect());
        }
        // Members are looked up by name: there is one package of each.
        graph.members = graph.members.iter().map(|id| graph.names[id].clone()).collect();
        Ok(graph)
    }

    fn ids<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.names.iter().filter(move |(_, n)| *n == name).map(|(id, _)| id.as_str())
    }

    /// The names of what a package needs itself.
    fn needs<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.ids(name).filter_map(|id| self.edges.get(id)).flatten().map(|id| self.names[id].as_str())
    }

    /// For each forbidden package that can be reached, a way there.
    fn reaches(&self, from: &str, forbidden: &[&str]) -> Vec<String> {
        let mut ways = Vec::new();
        let mut seen: BTreeSet<&str> = self.ids(from).collect();
        let mut queue: Vec<(&str, String)> = seen.iter().map(|id| (*id, String::new())).collect();
        while let Some((id, way)) = queue.pop() {
            for next in self.edges.get(id).into_iter().flatten() {
                if !seen.insert(next) {
                    continue;
                }
                let name = &self.names[next];
                let way = if way.is_empty() { name.clone() } else { format!("{way} -> {name}") };
                if forbidden.iter().any(|pattern| fits(name, pattern)) {
                    ways.push(way);
                } else {
                    queue.push((next, way));
                }
            }
        }
        ways.sort();
        ways
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in edges {
            for name in to.iter().chain([from]) {
                graph.names.insert((*name).to_owned(), (*name).to_owned());
            }
            if from.starts_with("federator") || *from == "xtask" {
                graph.members.insert((*from).to_owned());
            }
            graph.edges.insert((*from).to_owned(), to.iter().map(|&name| name.to_owned()).collect());
        }
        graph
    }

    #[track_caller]
    fn breaks(edges: &[(&str, &[&str])], expected: &[&str]) {
        let found: Vec<String> = check(&graph(edges)).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for part in expected {
            assert!(found.iter().any(|line| line.starts_with(part)), "{part} in {found:#?}");
        }
    }

    #[test]
    fn the_intended_shape_passes() {
        breaks(
            &[
                ("federator", &["federator-model", "federator-dns", "kube", "etcd-client", "tokio"]),
                ("federator-model", &["rpds", "prost"]),
                ("federator-dns", &["hickory-proto", "tokio"]),
                ("federator-tests", &["federator", "kube", "etcd-client", "federator-model"]),
                ("xtask", &["clap"]),
                ("rpds", &["archery"]),
            ],
            &[],
        );
    }

    #[test]
    fn the_model_reaches_no_input_or_output() {
        breaks(&[("federator-model", &["serde"])], &["package federator-model -> serde: the model may name"]);
        breaks(
            &[("federator-model", &["rpds"]), ("rpds", &["a", "b"]), ("a", &["tokio-util"]), ("b", &["mio"])],
            &["package federator-model -> rpds -> a -> tokio-util", "package federator-model -> rpds -> b -> mio"],
        );
    }

    #[test]
    fn leaves_have_no_edges_among_them() {
        breaks(&[("federator-dns", &["federator-model"])], &["package federator-dns -> federator-model"]);
        breaks(&[("federator-xds", &["federator-dns"])], &["package federator-xds -> federator-dns"]);
        breaks(
            &[("federator-model", &["federator-dns"])],
            &["package federator-model -> federator-dns: the model", "package federator-model -> federator-dns: only"],
        );
    }

    #[test]
    fn only_the_daemon_knows_kubernetes_and_etcd() {
        breaks(
            &[("federator-dns", &["etcd-client"])],
            &["package federator-dns -> etcd-client: dns", "package federator-dns -> etcd-client: only federator"],
        );
    }

    #[test]
    fn nobody_depends_on_tests_or_chores() {
        breaks(&[("federator", &["federator-tests"])], &["package federator -> federator-tests"]);
        breaks(&[("federator-tests", &["xtask"])], &["package federator-tests -> xtask"]);
        breaks(&[("federator-dns", &["federator"])], &["package federator-dns -> federator: only tests"]);
    }

    #[test]
    fn chores_stay_light() {
        breaks(&[("xtask", &["a"]), ("a", &["prost-build"])], &["package xtask -> a -> prost-build"]);
    }
}
