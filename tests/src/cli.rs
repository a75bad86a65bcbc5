//! Command lines, run to their end as an administrator would.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Context, ensure};

use crate::{Cluster, Place, Result, parts};

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

    /// Runs `kubectl` with these arguments in the cluster's place, with all rights in the cluster.
    pub fn kubectl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Said> {
        let kubeconfig = self.kubeconfig();
        // What it learns of a cluster is true of that one only, and clusters here have each other's addresses.
        let cache = kubeconfig.with_file_name("kubectl-cache");
        let own = [OsStr::new("--kubeconfig"), kubeconfig.as_os_str(), OsStr::new("--cache-dir"), cache.as_os_str()];
        let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        self.run(&self.part("kubectl")?, own.into_iter().chain(arguments.iter().map(OsString::as_os_str)))
    }

    fn run<A: AsRef<OsStr>>(&self, program: &Path, arguments: impl IntoIterator<Item = A>) -> Result<Said> {
        self.place().run(program, arguments)
    }
}

impl Place {
    /// Runs a program with these arguments here.
    pub fn run<A: AsRef<OsStr>>(&self, program: &Path, arguments: impl IntoIterator<Item = A>) -> Result<Said> {
        let output = self.command(program).args(arguments).output();
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
