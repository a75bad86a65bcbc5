//! Where the real parts are: the binaries and files that `cargo xtask parts` puts into one directory.
//!
//! Nothing is looked up on the PATH, and nothing is skipped when it is missing: a test that cannot have its
//! part fails and says which one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::Result;

/// The directory with `bin/` and `share/`.
#[derive(Debug, Clone)]
pub struct Parts {
    root: PathBuf,
}

impl Parts {
    /// The directory that `FEDERATOR_PARTS` names.
    pub fn from_environment() -> Result<Self> {
        let root = environment("FEDERATOR_PARTS")?;
        Ok(Self { root })
    }

    /// An executable: `etcd`, `kube-apiserver`, …
    pub fn bin(&self, name: &str) -> Result<PathBuf> {
        self.find(&Path::new("bin").join(name))
    }

    /// A file or directory: `kwok-stages.yaml`, `istio-crds.yaml`, `mcs-crds`.
    pub(crate) fn share(&self, name: &str) -> Result<PathBuf> {
        self.find(&Path::new("share").join(name))
    }

    fn find(&self, path: &Path) -> Result<PathBuf> {
        let found = self.root.join(path);
        ensure!(found.exists(), "part {} is missing: `cargo xtask parts` gets it", path.display());
        Ok(found)
    }
}

/// The daemon under test: the executable that `FEDERATOR_BIN` names.
pub fn federator() -> Result<PathBuf> {
    let binary = environment("FEDERATOR_BIN")?;
    ensure!(binary.exists(), "FEDERATOR_BIN names {}, which does not exist", binary.display());
    Ok(binary)
}

/// Fails unless this process is in a fresh sandbox of its own, where it may make network namespaces: anywhere
/// else there are more network devices than the loopback.
pub fn require_sandbox() -> Result {
    let devices = fs::read_to_string("/proc/self/net/dev")?;
    let alone = devices.lines().skip(2).all(|line| line.trim_start().starts_with("lo:"));
    ensure!(alone && Path::new("/run/netns").is_dir(), "not in a sandbox: run me through `cargo xtask test`");
    Ok(())
}

fn environment(name: &str) -> Result<PathBuf> {
    let value = std::env::var_os(name);
    value.map(PathBuf::from).with_context(|| format!("{name} is not set: run me through `cargo xtask test`"))
}
