//! What a failed test leaves behind: the ends of the logs that matter on its output, and all logs in a directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::Result;
use crate::bed::Bed;
use crate::process::tail;

/// Keeps all logs, which would vanish with the sandbox, and shows the ends of those of the test itself and of
/// whatever does not run.
#[expect(clippy::print_stderr, reason = "the test runner shows what a failed test has printed")]
pub(crate) fn report(bed: &Bed, of_test: &Path) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test").replace("::", ".");
    match keep(bed.logs(), &test) {
        Ok(kept) => eprintln!("all logs are kept in {}", kept.display()),
        Err(error) => eprintln!("the logs could not be kept: {error:#}"),
    }
    for process in bed.fallen() {
        eprintln!("{} does not run\n{}", process.name(), process.tail());
    }
    let is_log = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "log");
    for log in logs_below(of_test).iter().filter(is_log) {
        eprintln!("{}", tail(log));
    }
}

/// Copies `logs` to `fleet-logs/TEST` in cargo's target directory.
fn keep(logs: &Path, test: &str) -> Result<PathBuf> {
    let binary = std::env::current_exe()?;
    let profile = binary.ancestors().find(|above| above.ends_with("debug") || above.ends_with("release"));
    let target = profile.and_then(Path::parent).context("the test binary is not in a target directory")?;
    let kept = target.join("fleet-logs").join(test);
    if kept.exists() {
        fs::remove_dir_all(&kept)?;
    }
    for log in logs_below(logs) {
        let copy = kept.join(log.strip_prefix(logs)?);
        fs::create_dir_all(copy.parent().context("a log without a directory")?)?;
        fs::copy(&log, &copy)?;
    }
    Ok(kept)
}

/// Every file below a directory, in no order: logs, and the configurations that were written beside them.
fn logs_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let list = if path.is_dir() { &mut open } else { &mut found };
            list.push(path);
        }
    }
    found
}
