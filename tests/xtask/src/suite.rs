//! All tests: the plain ones as cargo runs them anywhere, the fleet ones in the sandbox with real parts.
//!
//! A test target of package federator-tests whose name begins with `fleet` needs the sandbox; no other does. All
//! builds name the whole workspace, so that cargo sees one set of features and compiles everything once.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::{
    parts,
    report::Report,
    step,
    workspace::{self, TESTS, Targets},
};

/// A kind of tests.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Unit, property and golden tests, repository rules, documentation examples: need neither parts nor sandbox.
    Plain,
    /// Tests against real clusters.
    Fleet,
}

/// What tests find in their environment: the daemon all of them, the parts only fleet tests.
struct Bed {
    daemon: PathBuf,
    parts: Option<PathBuf>,
}

/// Runs the tests of one kind or all.
pub(crate) fn run(only: Option<Kind>, args: &[OsString]) -> Result<ExitCode> {
    // Asked before anything is built: once cargo has put a newer file in its place, this one has no path any more.
    let runner = env::current_exe().context("finding this program")?;
    let targets = Targets::read()?;
    let (fleet, plain): (Vec<_>, Vec<_>) =
        targets.tests().into_iter().partition(|&(owner, name)| is_fleet(owner, name));
    let (fleet, plain) = (names(&fleet), names(&plain));
    let wanted = |kind| only.is_none_or(|only| only == kind);
    let mut report = Report::default();
    let mut bed = Bed { daemon: targets.directory().join("debug/federator"), parts: None };

    let parted = !wanted(Kind::Fleet)
        || report.step("real parts", || {
            bed.parts = Some(parts::set()?);
            Ok(())
        });
    let built = report.step("compile the daemon and all tests", || {
        step::aloud(workspace::cargo().args(["build", "--workspace", "--bin", "federator", "--tests"]))
    });
    if wanted(Kind::Plain) {
        if built {
            report.step("plain tests", || {
                step::aloud(bed.cargo_test(None, &["--lib", "--bins"], &plain).arg("--").args(args))
            });
            // Documentation examples take no options of test binaries; without a filter they all run.
            report.step("documentation examples", || step::aloud(&mut bed.cargo_test(None, &["--doc"], &[])));
        } else {
            report.left("plain tests", "they do not compile");
        }
    }
    if wanted(Kind::Fleet) {
        for name in &fleet {
            let step = format!("{name} in the sandbox");
            if !built {
                report.left(step, "it does not compile");
            } else if !parted {
                report.left(step, "parts are missing");
            } else {
                report.step(step, || step::aloud(bed.cargo_test(Some(&runner), &[], &[name]).arg("--").args(args)));
            }
        }
    }
    Ok(report.finish())
}

// === impl Bed ===

impl Bed {
    /// `cargo test` of these targets, tied to our life; binaries are run by `runner`'s sandbox if there is one.
    fn cargo_test(&self, runner: Option<&Path>, kinds: &[&str], targets: &[&str]) -> Command {
        let mut cargo = workspace::cargo();
        cargo.args(["test", "--workspace", "--no-fail-fast"]).args(kinds);
        for target in targets {
            cargo.args(["--test", target]);
        }
        cargo.env("FEDERATOR_BIN", &self.daemon);
        if let (Some(runner), Some(parts)) = (runner, &self.parts) {
            cargo.env("FEDERATOR_PARTS", parts).arg("--config").arg(runner_config(runner));
        }
        step::tied(&cargo)
    }
}

/// Cargo's setting that starts test binaries in the sandbox. It is given on the command line, for in a configuration
/// file it would also wrap `cargo run`, and nobody could reach a demo that runs in there.
fn runner_config(runner: &Path) -> String {
    let runner = runner.to_string_lossy();
    let words = step::TIE.into_iter().chain([&*runner, "sandbox", "--"]).map(|word| format!("{word:?}"));
    let words: Vec<_> = words.collect();
    format!("target.'cfg(all())'.runner=[{}]", words.join(","))
}

fn is_fleet(owner: &str, name: &str) -> bool {
    owner == TESTS && name.starts_with("fleet")
}

fn names<'a>(targets: &[(&'a str, &'a str)]) -> Vec<&'a str> {
    targets.iter().map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleet_targets_are_known_by_package_and_name() {
        assert!(is_fleet("federator-tests", "fleet_dns") && is_fleet("federator-tests", "fleet"));
        assert!(!is_fleet("federator-tests", "tidy") && !is_fleet("federator", "fleet"));
    }

    #[test]
    fn a_runner_with_spaces_stays_one_word() {
        let config = runner_config(Path::new("/a b/xtask"));
        assert_eq!(
            config,
            r#"target.'cfg(all())'.runner=["setpriv","--pdeathsig","KILL","/a b/xtask","sandbox","--"]"#
        );
    }
}
