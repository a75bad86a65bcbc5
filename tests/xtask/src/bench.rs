//! Benchmarks: the executable `bench` of package federator-tests, with release builds and real parts in the sandbox.
//!
//! Which benchmarks there are and what they measure only that executable knows.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::{Result, bail};

use crate::{
    parts, sandbox, step,
    workspace::{self, TESTS, Targets},
};

/// Runs the benchmark that the first argument names; without one, lists them.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let targets = Targets::read()?;
    let release = targets.directory().join("release");
    let (kind, bench) = if targets.has("bin", "bench") {
        ("--bin", release.join("bench"))
    } else if targets.has("example", "bench") {
        ("--example", release.join("examples/bench"))
    } else {
        bail!("package {TESTS} has no executable named bench");
    };
    eprintln!("building federator and its benchmarks for release...");
    let packages = ["--package", "federator", "--package", TESTS, "--bin", "federator", kind, "bench"];
    step::aloud(workspace::cargo().args(["build", "--quiet", "--release"]).args(packages))?;
    if args.is_empty() {
        step::aloud(Command::new(bench).arg("--list"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let command: Vec<_> = [bench.into_os_string()].into_iter().chain(args.iter().cloned()).collect();
    let environment = [("FEDERATOR_BIN", release.join("federator")), ("FEDERATOR_PARTS", parts::set()?)];
    sandbox::run(&command, &environment)
}
