//! The files of this repository, as the rules see them.
//!
//! A tree is held in memory, so a rule is a function from a tree to what is wrong with it, and a unit test of a
//! rule writes a small tree by hand. Files come from git where there is a `.git` (tracked ones, and new ones that
//! nobody ignores yet); an exported tree is walked instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, fs};

use anyhow::{Context, Result};

use crate::source;

/// Where product code lives: one directory a crate, with the name its users write.
pub(crate) const PRODUCT: [(&str, &str); 4] = [
    ("federator/src", "federator"),
    ("federator/model/src", "model"),
    ("federator/xds/src", "xds"),
    ("dns/src", "dns"),
];

/// The directory of the rules, which name what they forbid.
pub(crate) const OURSELVES: &str = "tests/tidy/";

/// One thing that is wrong: where it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    place: String,
    remedy: String,
}

/// Paths relative to the root, with `/` between the parts; a file that is not UTF-8 has an empty text.
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

// === impl Violation ===

impl Violation {
    pub(crate) fn new(place: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.into(), remedy: remedy.into() }
    }

    pub(crate) fn at(file: &str, line: usize, remedy: impl Into<String>) -> Self {
        Self::new(format!("{file}:{line}"), remedy)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.remedy)
    }
}

// === impl Tree ===

impl Tree {
    /// Reads the repository that this test was built from.
    pub(crate) fn of_repository() -> Result<Self> {
        Self::read(&root())
    }

    pub(crate) fn read(root: &Path) -> Result<Self> {
        let listed = if root.join(".git").exists() { git_files(root) } else { None };
        let paths = match listed {
            Some(paths) => paths,
            None => {
                let mut paths = Vec::new();
                walk(root, "", &mut paths)?;
                paths
            }
        };
        let mut files = BTreeMap::new();
        for path in paths {
            // A file that git tracks may be deleted in the work tree, and a link has no text of its own.
            let Ok(meta) = fs::symlink_metadata(root.join(&path)) else {
                continue;
            };
            let bytes = if meta.is_file() {
                fs::read(root.join(&path)).with_context(|| format!("cannot read {path}"))?
            } else {
                Vec::new()
            };
            files.insert(path, String::from_utf8(bytes).unwrap_or_default());
        }
        Ok(Self { files })
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The Rust files of the product's crates.
    pub(crate) fn product(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_product = |path: &str| PRODUCT.iter().any(|(dir, _)| is_under(path, dir));
        self.files().filter(move |(path, _)| is_product(path) && path.ends_with(".rs"))
    }

    /// The same without unit tests, comments and literals; files that hold only tests are left out.
    pub(crate) fn product_code(&self) -> BTreeMap<&str, String> {
        let mut blanked: BTreeMap<&str, String> =
            self.product().map(|(path, text)| (path, source::blank(text))).collect();
        let tests: Vec<String> = blanked
            .iter()
            .flat_map(|(path, code)| {
                let stem = path.trim_end_matches(".rs");
                let dir = stem.strip_suffix("/lib").or_else(|| stem.strip_suffix("/main")).unwrap_or(stem);
                source::test_modules(code).into_iter().map(move |module| format!("{dir}/{module}"))
            })
            .collect();
        blanked.retain(|path, _| {
            let stem = path.trim_end_matches(".rs");
            !source::is_unit_test_file(path) && !tests.iter().any(|test| stem == test || is_under(path, test))
        });
        blanked.into_iter().map(|(path, code)| (path, source::without_tests(&code))).collect()
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// True for a file, and for a directory that holds one.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty() || self.files.keys().any(|file| file == path || is_under(file, path))
    }
}

#[cfg(test)]
impl Tree {
    /// A tree for a unit test.
    pub(crate) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        Self { files: files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect() }
    }
}

/// The directory with the workspace's manifest: one above this package.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// True for a path inside a directory.
pub(crate) fn is_under(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

/// `None` without git, or where git refuses (a checkout of another user).
fn git_files(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    let listing = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = listing.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (output.status.success() && !paths.is_empty()).then_some(paths)
}

fn walk(root: &Path, dir: &str, paths: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join(dir)).with_context(|| format!("cannot list {}", root.join(dir).display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
        if entry.file_type()?.is_dir() {
            if name != ".git" && name != "target" {
                walk(root, &path, paths)?;
            }
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_exists_when_it_holds_a_file() {
        let tree = Tree::of([("dns/src/lib.rs", ""), ("README.md", "")]);
        for (path, exists) in [("dns", true), ("dns/", true), ("dns/src/lib.rs", true), ("dn", false), ("x.md", false)]
        {
            assert_eq!(tree.exists(path), exists, "{path}");
        }
    }

    #[test]
    fn files_for_tests_are_no_product() {
        let tree = Tree::of([
            ("dns/src/lib.rs", "mod a;\n#[cfg(test)]\nmod b;\n"),
            ("dns/src/a.rs", "// c\nfn d() {}\n#[cfg(test)]\nmod battery;"),
            ("dns/src/a/battery.rs", "fn e() {}"),
            ("dns/src/a/battery/f.rs", "fn e() {}"),
            ("dns/src/a/tests.rs", "fn e() {}"),
            ("dns/src/b.rs", "fn e() {}"),
            ("tests/src/lib.rs", "fn e() {}"),
        ]);
        let code = tree.product_code();
        assert_eq!(code.keys().copied().collect::<Vec<_>>(), ["dns/src/a.rs", "dns/src/lib.rs"]);
        assert_eq!(code["dns/src/a.rs"].trim(), "fn d() {}");
    }

    #[test]
    fn an_exported_tree_is_walked_without_build_output() -> Result<()> {
        let dir = env::temp_dir().join(format!("tidy-walk-{}", std::process::id()));
        for path in ["src/lib.rs", "target/debug/junk", ".hidden/file", "picture"] {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().context("a parent")?)?;
            fs::write(path, if cfg!(unix) { &b"\xff\xfe"[..] } else { b"" })?;
        }
        let read = Tree::read(&dir);
        fs::remove_dir_all(&dir)?;
        let paths: Vec<String> = read?.files.into_keys().collect();
        assert_eq!(paths, [".hidden/file", "picture", "src/lib.rs"]);
        Ok(())
    }

    #[test]
    fn a_violation_says_where_and_what_to_do() {
        assert_eq!(Violation::at("a.rs", 3, "split it").to_string(), "a.rs:3: split it");
    }
}
