//! The one tool of `cargo xtask check` that Rust does not bring: cargo-deny, built from its crate.

use std::path::Path;

use anyhow::{Context, Result};

use super::Recipe;
use crate::{step, workspace};

/// A released crate and its own lock file are immutable, so the version pins everything.
const VERSION: &str = "0.20.2";

/// cargo-deny.
pub(super) struct CargoDeny;

impl Recipe for CargoDeny {
    fn version(&self) -> Result<String> {
        Ok(VERSION.into())
    }

    fn pins(&self) -> Result<String> {
        Ok(format!("cargo-deny {VERSION}"))
    }

    fn build(&self, room: &Path) -> Result<()> {
        let mut install = workspace::cargo();
        install.args(["install", "--quiet", "--locked", "--version", VERSION, "--root"]).arg(room).arg("cargo-deny");
        // Optimising it would take longer than it will ever save.
        install.args(["--debug", "--target-dir"]).arg(room.join("work")).env("CARGO_PROFILE_DEV_DEBUG", "0");
        step::quietly(&mut install).context("building cargo-deny from its crate")?;
        std::fs::remove_dir_all(room.join("work")).context("clearing the build directory")
    }
}
