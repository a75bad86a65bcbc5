//! What must hold of every commit apart from its tests passing: form, lints, documentation, dependencies, rules.
//!
//! The repository rules themselves are the test target `tidy` of package federator-tests.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{parts, report::Report, step, workspace};

/// Runs every check, also after one has failed.
pub(crate) fn run() -> Result<ExitCode> {
    let mut report = Report::default();
    let cargo = |args: &[&str]| step::aloud(workspace::cargo().args(args));
    report.step("formatting", || cargo(&["fmt", "--all", "--check"]));
    report.step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    report.step("documentation", || {
        let mut doc = workspace::cargo();
        doc.args(["doc", "--workspace", "--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings");
        step::aloud(&mut doc)
    });
    report.step("repository rules", || cargo(&["test", "--workspace", "--test", "tidy"]));
    report.step("dependencies: bans, licenses, sources", || deny(&[], &["bans", "licenses", "sources"]));
    if has_advisories() {
        report.step("dependencies: advisories", || deny(&["--offline"], &["advisories"]));
    } else {
        report.left("dependencies: advisories", "no advisory database here; `cargo deny fetch` gets one");
    }
    Ok(report.finish())
}

fn deny(options: &[&str], checks: &[&str]) -> Result<()> {
    let program = parts::one("cargo-deny")?.join("bin/cargo-deny");
    let mut deny = Command::new(program);
    deny.args(["--config", ".deny.toml"]).args(options).arg("check").args(checks);
    step::aloud(deny.current_dir(workspace::root()))
}

/// Whether cargo-deny has fetched advisories on this machine before: a run without network leaves empty directories.
fn has_advisories() -> bool {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let databases = home.and_then(|home| fs::read_dir(home.join("advisory-dbs")).ok());
    databases.is_some_and(|found| found.flatten().any(|database| database.path().join("crates").is_dir()))
}
