//! The pages that map the tree match the tree: what they name exists, and what exists is named.

use crate::tree::{PRODUCT, Tree, Violation};

/// The page that names every module.
const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

/// Pages whose paths are followed.
const MAPS: [&str; 3] = [ARCHITECTURE, "README.md", "CONTRIBUTING.md"];

/// Every repository path in a code span, and every relative link, leads somewhere.
pub(crate) fn paths_exist(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for map in MAPS {
        let Some(text) = tree.text(map) else {
            found.push(Violation::new(map, "missing: write it"));
            continue;
        };
        let dir = map.rsplit_once('/').map_or("", |(dir, _)| dir);
        for (line, text) in prose(text) {
            let named = spans(text).flat_map(expand).filter(|path| is_path(tree, path));
            for path in named.filter(|path| !leads_somewhere(tree, path)) {
                found.push(Violation::at(map, line, format!("`{path}` does not exist: follow the move, or drop it")));
            }
            for target in links(text).filter(|target| !tree.exists(&resolve(dir, target))) {
                found.push(Violation::at(map, line, format!("the link to {target} leads nowhere")));
            }
        }
    }
    found
}

/// Every top-level module of the product is in the code map, by path or by name.
pub(crate) fn modules_are_named(tree: &Tree) -> Vec<Violation> {
    let Some(text) = tree.text(ARCHITECTURE) else {
        return vec![Violation::new(ARCHITECTURE, "missing: write it")];
    };
    let named: Vec<String> = prose(text).flat_map(|(_, line)| spans(line)).flat_map(expand).collect();
    let mut found = Vec::new();
    for (dir, crate_name) in PRODUCT {
        for module in modules(tree, dir) {
            let path = format!("{dir}/{module}");
            let spellings = [
                path.clone(),
                format!("{path}.rs"),
                format!("{crate_name}::{module}"),
                format!("{module}.rs"),
                module.to_owned(),
            ];
            if !named.iter().any(|span| spellings.iter().any(|spelling| spelling == span.trim_end_matches('/'))) {
                found.push(Violation::new(format!("{path}.rs"), format!("not in {ARCHITECTURE}: give it its line")));
            }
        }
    }
    found
}

fn modules<'a>(tree: &'a Tree, dir: &'static str) -> impl Iterator<Item = &'a str> {
    tree.product().filter_map(move |(path, _)| {
        let module = path.strip_prefix(dir)?.strip_prefix('/')?.strip_suffix(".rs")?;
        (!module.contains('/') && !["lib", "main", "tests"].contains(&module)).then_some(module)
    })
}

/// Lines outside fenced blocks, counted from one.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((number + 1, line))
    })
}

/// What stands between backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).map(str::trim)
}

/// Targets of links inside the repository, without their anchors.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?.trim();
        (!target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")).then_some(target)
    })
}

/// `a/{b,c}.rs` names two files.
fn expand(span: &str) -> Vec<String> {
    let Some((head, (inner, tail))) = span.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?)))
    else {
        return vec![span.to_owned()];
    };
    inner.split(',').map(|part| format!("{head}{}{tail}", part.trim())).collect()
}

/// A span is a path when it starts at an entry of the root, or ends like a source file.
fn is_path(tree: &Tree, span: &str) -> bool {
    if span.contains(|c: char| c.is_whitespace() || "<>$:=\"'(".contains(c)) || span.starts_with('/') {
        return false;
    }
    match span.split_once('/') {
        Some((first, _)) => tree.exists(first),
        None => span.ends_with(".rs"),
    }
}

/// A bare `zone.rs` may stand anywhere; a star stands for any rest.
fn leads_somewhere(tree: &Tree, path: &str) -> bool {
    if let Some((start, _)) = path.split_once('*') {
        return tree.files().any(|(file, _)| file.starts_with(start));
    }
    tree.exists(path) || (!path.contains('/') && tree.files().any(|(file, _)| file.ends_with(&format!("/{path}"))))
}

/// A path as seen from a directory.
pub(crate) fn resolve(dir: &str, target: &str) -> String {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(architecture: &str) -> Tree {
        Tree::of([
            (ARCHITECTURE, architecture),
            ("README.md", "See [the map](docs/ARCHITECTURE.md#top)."),
            ("CONTRIBUTING.md", "See `docs/`, [elsewhere](https://example.org/x) and [below](#below)."),
            ("dns/src/lib.rs", ""),
            ("dns/src/zone.rs", ""),
            ("dns/src/zone/apex.rs", ""),
            ("federator/model/src/view.rs", ""),
        ])
    }

    #[track_caller]
    fn breaks(rule: impl Fn(&Tree) -> Vec<Violation>, architecture: &str, expected: &[&str]) {
        let found: Vec<String> = rule(&tree(architecture)).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        assert!(found.iter().zip(expected).all(|(line, start)| line.starts_with(start)), "{found:#?}");
    }

    #[test]
    fn what_is_named_exists() {
        breaks(
            paths_exist,
            "`dns/src/zone.rs`, `dns/src/{lib,zone}.rs`, `zone/apex.rs`, `apex.rs`, `dns/src/*.rs`",
            &[],
        );
        breaks(paths_exist, "`cargo xtask dns/src/gone.rs`, `a/b`, `model::View`, `records/<id>/`, `/livez`", &[]);
        breaks(paths_exist, "```\n`dns/gone.rs`\n```\n[readme](../README.md)", &[]);
        breaks(
            paths_exist,
            "One.\n`dns/src/gone.rs` and `gone.rs` and `dns/{src,gone}/`",
            &[
                "docs/ARCHITECTURE.md:2: `dns/src/gone.rs` does not exist",
                "docs/ARCHITECTURE.md:2: `gone.rs` does not exist",
                "docs/ARCHITECTURE.md:2: `dns/gone/` does not exist",
            ],
        );
        breaks(paths_exist, "[gone](gone.md)", &["docs/ARCHITECTURE.md:1: the link to gone.md leads nowhere"]);
        assert_eq!(paths_exist(&Tree::of([])).len(), MAPS.len());
    }

    #[test]
    fn what_exists_is_named() {
        breaks(modules_are_named, "`dns/src/zone.rs` and `model::view`", &[]);
        breaks(modules_are_named, "`zone.rs` and `view`", &[]);
        breaks(modules_are_named, "zone, `view`", &["dns/src/zone.rs: not in docs/ARCHITECTURE.md"]);
        breaks(modules_are_named, "", &["federator/model/src/view.rs: not in", "dns/src/zone.rs: not in"]);
        assert_eq!(modules_are_named(&Tree::of([])).len(), 1);
    }
}
