//! kubectl reading the lists that an agent reads, one after the other: a client that everybody knows.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::{Parts, Result};

use super::Source;

/// What kubectl keeps of discovery; in memory, as the sandbox's `/run` is.
const CACHE: &str = "/run/bench/kubectl";

/// How long it takes kubectl to print all of them as JSON to nobody.
pub(super) fn read(source: &Source<'_>, lists: &[&str]) -> Result<Duration> {
    let (kubectl, kubeconfig) = (Parts::from_environment()?.bin("kubectl")?, source.reader.kubeconfig_file()?);
    let get = |list: &str| -> Result {
        let mut get = Command::new(&kubectl);
        get.arg("--kubeconfig").arg(&kubeconfig).args(["--cache-dir", CACHE, "get", list, "-A", "-o", "json"]);
        let output = get.stdin(Stdio::null()).stdout(Stdio::null()).output().context("cannot run kubectl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl get {list}: {}", said.trim());
        Ok(())
    };
    let start = Instant::now();
    lists.iter().copied().try_for_each(get)?;
    Ok(start.elapsed())
}
