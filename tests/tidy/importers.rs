//! Who may name a crate, a function or a macro inside the product's crates.
//!
//! A dependency that changes often, or an effect that makes code hard to test, has one module that knows it. Unit
//! tests are free. Where clippy's disallowed lists say what is banned, this says where the exception stands.

use crate::source;
use crate::tree::{Tree, Violation};

struct Rule {
    /// Paths, with everything below them; a macro ends in `!`.
    what: &'static [&'static str],
    /// Modules, without the `.rs`; everything below them counts too.
    only_in: &'static [&'static str],
    why: &'static str,
}

const RULES: [Rule; 8] = [
    Rule {
        what: &["etcd_client"],
        only_in: &["federator/src/store/etcd"],
        why: "everybody else talks to the store's port",
    },
    Rule {
        what: &["hickory_resolver"],
        only_in: &["federator/src/forward", "federator/src/lookup/names"],
        why: "a stage is told answers, and does not know who gave them",
    },
    Rule {
        what: &["kube", "k8s_openapi"],
        only_in: &[
            "federator/src/observe",
            "federator/src/emit",
            "federator/src/kubernetes",
            "federator/src/membership",
        ],
        why: "Kubernetes types are translated at the edge, both ways",
    },
    Rule {
        what: &["tokio::spawn", "tokio::task::spawn", "tokio::task::spawn_local"],
        only_in: &["federator/src/app"],
        why: "a task that nobody joins dies unseen: return a future, or keep a JoinSet",
    },
    Rule { what: &["std::env"], only_in: &["federator/src/config"], why: "settings arrive as values" },
    Rule {
        what: &["std::time::SystemTime::now"],
        only_in: &["federator/src/app"],
        why: "the wall clock is an argument",
    },
    Rule {
        what: &["println!", "print!", "std::println!", "std::print!"],
        only_in: &["federator/src/cli"],
        why: "standard output belongs to the command line; log with tracing",
    },
    Rule {
        what: &["eprintln!", "eprint!", "std::eprintln!", "std::eprint!"],
        only_in: &["federator/src/cli", "federator/src/main"],
        why: "log with tracing, or return an error",
    },
];

/// Reads the product's sources.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, code) in tree.product_code() {
        for mention in source::mentions(&code) {
            for rule in &RULES {
                let Some(what) = rule.what.iter().find(|what| names(&mention.path, what)) else {
                    continue;
                };
                if !rule.only_in.iter().any(|module| is_module(path, module)) {
                    let places = rule.only_in.join(", ");
                    let remedy = format!("{what} is for {places} only: {}", rule.why);
                    found.push(Violation::at(path, mention.line, remedy));
                }
            }
        }
    }
    found.dedup();
    found
}

fn names(path: &str, what: &str) -> bool {
    path.strip_prefix(what).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn breaks(path: &str, code: &str, expected: &[&str]) {
        let found: Vec<String> = check(&Tree::of([(path, code)])).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (line, start) in found.iter().zip(expected) {
            assert!(line.starts_with(start), "{line} does not start with {start}");
        }
    }

    #[test]
    fn a_crate_with_one_importer() {
        let code = "//! etcd_client\nuse etcd_client::Client;\nfn f() { let kube = 1; kube.x() }";
        breaks("federator/src/store/etcd.rs", code, &[]);
        breaks("federator/src/store/etcd/watch.rs", code, &[]);
        breaks("federator/src/store/etcdctl.rs", code, &["federator/src/store/etcdctl.rs:2: etcd_client is for"]);
        breaks("federator/src/gather.rs", code, &["federator/src/gather.rs:2: etcd_client is for"]);
        breaks(
            "federator/src/gather.rs",
            "use {kube, k8s_openapi as api};",
            &["federator/src/gather.rs:1: kube", "federator/src/gather.rs:1: k8s_openapi"],
        );
        breaks("federator/src/gather.rs", "use crate::observe::kube::Thing;", &[]);
    }

    #[test]
    fn an_effect_with_one_place() {
        breaks(
            "federator/src/emit.rs",
            "use tokio::task;\nfn f() {\n    task::spawn(g());\n}",
            &["federator/src/emit.rs:3: tokio::task::spawn is for"],
        );
        breaks("federator/src/emit.rs", "fn f() { tokio::task::spawn_blocking(g); set.spawn(h()) }", &[]);
        breaks("federator/src/app.rs", "fn f() { tokio::spawn(g()) }", &[]);
        breaks("dns/src/zone.rs", "fn f() { std::env::var(\"A\") }", &["dns/src/zone.rs:1: std::env is for"]);
        breaks("dns/src/zone.rs", "const V: &str = env!(\"CARGO_PKG_VERSION\");", &[]);
        breaks(
            "federator/model/src/a.rs",
            "use std::time::SystemTime;\nfn f() { SystemTime::now() }",
            &["federator/model/src/a.rs:2: std::time::SystemTime::now"],
        );
        breaks("federator/src/emit.rs", "fn f() {\n println!(\"x\") }", &["federator/src/emit.rs:2: println! is for"]);
        breaks("federator/src/cli/get.rs", "fn f() { println!(\"x\") }", &[]);
        breaks(
            "federator/src/main.rs",
            "fn f() { eprintln!(\"x\"); print!(\"y\") }",
            &["federator/src/main.rs:1: print!"],
        );
    }

    #[test]
    fn unit_tests_and_other_packages_are_free() {
        breaks("federator/src/emit.rs", "#[cfg(test)]\nmod tests { fn f() { tokio::spawn(g()) } }", &[]);
        breaks("federator/src/emit/tests.rs", "fn f() { tokio::spawn(g()) }", &[]);
        breaks("tests/src/lib.rs", "fn f() { tokio::spawn(g()) }", &[]);
    }
}
