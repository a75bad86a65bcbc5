//! What no file of this repository says: promises to do it later, tests that do not run, and anything that is true
//! on one machine only.
//!
//! The directory of these rules is skipped, because it has to name what it forbids.

use crate::source;
use crate::tree::{OURSELVES, Tree, Violation};

const PROMISES: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Files we write by hand; what others wrote and we carry along (schemas, charts of theirs) may promise what it likes.
const OURS: [&str; 8] = [".rs", ".toml", ".md", ".proto", ".sh", ".py", ".go", "Dockerfile"];

const MACHINE_PATHS: [&str; 3] = ["/root/", "/work/", "/home/"];

/// Signs of a package mirror: it serves one network, so a stranger's build would hang on it.
const MIRRORS: [&str; 10] = [
    "sparse+",
    "replace-with",
    "[source.",
    "[registries.",
    "index-url",
    "GOPROXY=http",
    "GOSUMDB=http",
    "npm_config_registry",
    "artifactory",
    "/nexus/",
];

/// No TODO, FIXME or XXX: a thing to do is an entry in the tracker, a limit is documented where the user looks.
pub(crate) fn promises(tree: &Tree) -> Vec<Violation> {
    search(
        tree,
        |path| OURS.iter().any(|end| path.ends_with(end)),
        |line| {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let word = words.into_iter().find(|word| PROMISES.contains(word))?;
            Some(format!("no {word}: do it now, or say what is missing where a user would look"))
        },
    )
}

/// No test that is written and not run.
pub(crate) fn skipped_tests(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| path.ends_with(".rs") && !path.starts_with(OURSELVES)) {
        let code = source::blank(text);
        for (number, (line, written)) in code.lines().zip(text.lines()).enumerate() {
            let squeezed: String = line.chars().filter(|c| !c.is_whitespace()).collect();
            let prose = written.trim_start();
            let fence = prose.strip_prefix("//!").or_else(|| prose.strip_prefix("///")).map(str::trim_start);
            let skipped = squeezed.contains("#[ignore") || squeezed.contains(",ignore)]");
            if skipped || fence.is_some_and(|fence| fence.starts_with("```ignore")) {
                found.push(Violation::at(path, number + 1, "run this test, or delete it; what it needs is a part"));
            }
        }
    }
    found
}

/// No absolute path of somebody's machine.
pub(crate) fn machine_paths(tree: &Tree) -> Vec<Violation> {
    search(
        tree,
        |_| true,
        |line| {
            let path = MACHINE_PATHS.into_iter().find(|path| has_absolute(line, path))?;
            Some(format!("{path} exists on one machine only: use a path relative to the repository"))
        },
    )
}

/// No address of a package mirror.
pub(crate) fn mirrors(tree: &Tree) -> Vec<Violation> {
    search(
        tree,
        |_| true,
        |line| {
            let sign = MIRRORS.into_iter().find(|sign| line.contains(sign))?;
            Some(format!(
                "`{sign}` points builds at one network's mirror: leave registries to each user's own settings"
            ))
        },
    )
}

fn search(tree: &Tree, covers: impl Fn(&str) -> bool, find: impl Fn(&str) -> Option<String>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| !path.starts_with(OURSELVES) && covers(path)) {
        for (number, line) in text.lines().enumerate() {
            if let Some(remedy) = find(line) {
                found.push(Violation::at(path, number + 1, remedy));
            }
        }
    }
    found
}

/// True where the path starts at its own slash: `"/work/x"`, but not `frame/work/x` or `$DIR/work/x`.
fn has_absolute(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~}/)*>".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn breaks(rule: impl Fn(&Tree) -> Vec<Violation>, path: &str, text: &str, expected: &[usize]) {
        let found: Vec<String> = rule(&Tree::of([(path, text)])).iter().map(ToString::to_string).collect();
        let places: Vec<String> = expected.iter().map(|line| format!("{path}:{line}: ")).collect();
        assert_eq!(found.len(), places.len(), "{found:#?}");
        assert!(found.iter().zip(&places).all(|(line, place)| line.starts_with(place)), "{found:#?}");
    }

    #[test]
    fn nothing_is_promised() {
        breaks(promises, "a.rs", "// TODO: x\nfn f() {}\n// FIXME y\n// XXX", &[1, 3, 4]);
        breaks(promises, "a.sh", "mktemp -d XXXXXX # todo\n", &[]);
        breaks(promises, "their.yaml", "# TODO theirs", &[]);
        breaks(promises, "tests/tidy/words.rs", "// TODO", &[]);
    }

    #[test]
    fn every_test_runs() {
        breaks(skipped_tests, "a.rs", "#[test]\n#[ignore]\nfn f() {}", &[2]);
        breaks(skipped_tests, "a.rs", "#[ignore = \"slow\"]\n#[cfg_attr(slow, ignore)]", &[1, 2]);
        breaks(
            skipped_tests,
            "a.rs",
            "/// ```ignore\n/// f()\n/// ```\n// #[ignore]\nconst A: &str = \"#[ignore]\";",
            &[1],
        );
    }

    #[test]
    fn no_path_of_one_machine() {
        breaks(machine_paths, "a.md", "in /root/x\n`/work/y`\nFROM=/home/z\n", &[1, 2, 3]);
        breaks(
            machine_paths,
            "a.md",
            "frame/work/x\n$DIR/work/x\n${DIR}/home/x\nhttps://a.example/root/\n~/work/",
            &[],
        );
    }

    #[test]
    fn no_mirror_of_one_network() {
        breaks(mirrors, ".cargo/config.toml", "[source.crates-io]\nreplace-with = \"mirror\"\n", &[1, 2]);
        breaks(mirrors, "x.sh", "pip install --index-url http://a b\nGOPROXY=http://c go build\n", &[1, 2]);
        breaks(mirrors, "Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"", &[]);
    }
}
