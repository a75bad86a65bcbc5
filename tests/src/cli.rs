//! Command lines, run to their end as an administrator would.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::{Cluster, Result, parts};

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it complained about.
    pub err: String,
}

impl Cluster {
    /// Runs `federator` with these arguments in the cluster's place.
    pub fn federator<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Said> {
        self.run(&parts::federator()?, arguments)
    }

    /// Runs `istioctl` with these arguments in the cluster's place.
    pub fn istioctl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Said> {
        self.run(&self.part("istioctl")?, arguments)
    }

    fn run<A: AsRef<OsStr>>(&self, program: &Path, arguments: impl IntoIterator<Item = A>) -> Result<Said> {
        let output = self.place().command(program).args(arguments).output();
        let output = output.with_context(|| format!("run {}", program.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) })
    }
}

impl Said {
    /// What it printed, of a command that did what it was to do.
    pub fn done(self) -> Result<String> {
        ensure!(self.code == 0, "exit code {}: {}", self.code, self.err);
        Ok(self.out)
    }
}
