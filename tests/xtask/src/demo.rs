//! The shortest way from a fresh checkout to a running Federator.
//!
//! Builds without optimising, which is quickest on a machine that has built nothing yet, and touches no parts: the
//! demo needs only what the daemon brings.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::{step, workspace};

/// Builds the daemon and becomes its demo.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let daemon = workspace::Targets::read()?.directory().join("debug/federator");
    let mut build = workspace::cargo();
    build.args(["build", "--package", "federator", "--bin", "federator"]);
    if daemon.exists() {
        build.arg("--quiet");
    } else {
        eprintln!("building federator (first time: about 3 minutes)...");
    }
    step::aloud(&mut build)?;
    Err(Command::new(&daemon).arg("demo").args(args).exec()).with_context(|| format!("starting {}", daemon.display()))
}
