//! The repository as cargo sees it: where it is, its test targets, and the protoc its build scripts call.
//!
//! Knows paths and names, and runs no chore. `.cargo/config.toml` points PROTOC at `target/protoc` of the repository,
//! whatever CARGO_TARGET_DIR says, because a relative path there can only be relative to the repository.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::step;

/// The package that holds the fleet tests, the repository rules and the benchmarks.
pub(crate) const TESTS: &str = "federator-tests";

/// The top of the checkout this program was compiled in.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or_else(|| Path::new("."))
}

/// The cargo that runs us, at the top of the repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Puts protoc and its includes where PROTOC points, unless the same release is there already.
pub(crate) fn provide_protoc() -> Result<()> {
    let program =
        protoc_bin_vendored::protoc_bin_path().context("no protoc is packaged for this machine: set PROTOC")?;
    let include = protoc_bin_vendored::include_path().context("no protoc includes are packaged: set PROTOC_INCLUDE")?;
    let target = root().join("target");
    let there = target.join("protoc");
    if same_size(&program, &there.join("bin/protoc")) {
        return Ok(());
    }
    // Built beside and renamed, so that a cargo running at the same time never meets half of it.
    let fresh = target.join(format!(".protoc-{}", std::process::id()));
    copy(&program, &fresh.join("bin/protoc"))?;
    copy(&include, &fresh.join("include"))?;
    if fs::rename(&fresh, &there).is_err() {
        let old = target.join(format!(".protoc-old-{}", std::process::id()));
        // Another run may have moved it first; what counts is that a complete one is there in the end.
        let _ = fs::rename(&there, &old).and_then(|()| fs::rename(&fresh, &there));
        let _ = fs::remove_dir_all(&old);
        let _ = fs::remove_dir_all(&fresh);
    }
    fs::metadata(there.join("bin/protoc")).with_context(|| format!("putting protoc at {}", there.display()))?;
    Ok(())
}

/// What `cargo metadata` says of this workspace's own packages.
pub(crate) struct Targets(Value);

// === impl Targets ===

impl Targets {
    /// Asks cargo.
    pub(crate) fn read() -> Result<Self> {
        let json = step::quietly(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
        Ok(Self(serde_json::from_str(&json).context("reading the output of cargo metadata")?))
    }

    /// Where cargo puts what it builds.
    pub(crate) fn directory(&self) -> PathBuf {
        self.0["target_directory"].as_str().map_or_else(|| root().join("target"), PathBuf::from)
    }

    /// Every integration test target as (package, name).
    pub(crate) fn tests(&self) -> Vec<(&str, &str)> {
        self.of_kind("test").collect()
    }

    /// Whether package federator-tests has an executable of this kind (`bin`, `example`) and name.
    pub(crate) fn has(&self, kind: &str, name: &str) -> bool {
        self.of_kind(kind).any(|target| target == (TESTS, name))
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        array(&self.0["packages"]).iter().flat_map(move |package| {
            let owner = package["name"].as_str().unwrap_or_default();
            let targets = array(&package["targets"]).iter();
            targets
                .filter(move |target| array(&target["kind"]).iter().any(|k| k == kind))
                .map(move |target| (owner, target["name"].as_str().unwrap_or_default()))
        })
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn same_size(a: &Path, b: &Path) -> bool {
    matches!((fs::metadata(a), fs::metadata(b)), (Ok(a), Ok(b)) if a.len() == b.len())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let said = || format!("copying {} to {}", from.display(), to.display());
    if from.is_dir() {
        fs::create_dir_all(to).with_context(said)?;
        for entry in fs::read_dir(from).with_context(said)? {
            let entry = entry.with_context(said)?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().unwrap_or(to)).with_context(said)?;
    fs::copy(from, to).map(drop).with_context(said)
}
