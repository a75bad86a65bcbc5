//! Fuzzing: the executables of package federator-fuzz, built with coverage instrumentation by the ordinary
//! compiler, and run for a while. What they fuzz only they know. What was found interesting is kept under the target
//! directory and built upon by the next run.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{
    step,
    workspace::{self, Targets},
};

const PACKAGE: &str = "federator-fuzz";

/// What cargo-fuzz passes too, less the sanitizers, which need a compiler that is not stable: there is no unsafe code
/// for them to watch.
const INSTRUMENTATION: &str = "\
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// An input that takes longer is a finding, in seconds; so is one that takes more memory, in MiB.
const TIMEOUT: u32 = 5;
const MEMORY: u32 = 1024;

/// Longest input, in bytes: somewhat beyond what any target accepts, so that its limits are tried too.
const LONGEST: u32 = 300 << 10;

/// Builds a target and runs it for `seconds`; fails on a finding.
pub(crate) fn run(target: &str, seconds: u32) -> Result<ExitCode> {
    // Of their own, so that neither build undoes the other. Naming the machine keeps the instrumentation out of build
    // scripts, which have no fuzzer to report to.
    let directory = Targets::read()?.directory().join("fuzz");
    let machine = machine()?;
    eprintln!("building {target} (first time: about a minute)...");
    let mut build = workspace::cargo();
    build.args([
        "build",
        "--quiet",
        "--profile",
        "fuzz",
        "--package",
        PACKAGE,
        "--features",
        "fuzzer",
        "--bin",
        target,
    ]);
    build.args(["--target", &machine]).arg("--target-dir").arg(&directory).env("RUSTFLAGS", INSTRUMENTATION);
    step::aloud(&mut build)?;

    let [corpus, seeds, findings] = ["corpus", "seeds", "findings"].map(|what| made(&directory, what, target));
    let (corpus, seeds, findings) = (corpus?, seeds?, findings?);
    let mut fuzz = Command::new(directory.join(machine).join("fuzz").join(target));
    fuzz.arg(&corpus).arg(&seeds).env("FUZZ_SEEDS", &seeds).arg(format!("-max_total_time={seconds}"));
    fuzz.arg(format!("-timeout={TIMEOUT}")).arg(format!("-rss_limit_mb={MEMORY}")).arg(format!("-max_len={LONGEST}"));
    // With the separator at the end it is a directory to the fuzzer, else the beginning of a name.
    fuzz.arg(format!("-artifact_prefix={}/", findings.display())).args(["-print_final_stats=1", "-print_funcs=0"]);
    let status = fuzz.status().with_context(|| format!("starting {target}"))?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    let newest = newest(&findings)?;
    bail!("{target} ended with {status}; the input is {newest}");
}

fn made(directory: &Path, what: &str, target: &str) -> Result<std::path::PathBuf> {
    let path = directory.join(what).join(target);
    fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    Ok(path)
}

/// The name of this machine's kind, as the compiler says it.
fn machine() -> Result<String> {
    let said = step::quietly(Command::new("rustc").args(["--version", "--verbose"]))?;
    let line = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc does not say its host")?.to_owned())
}

/// The file that was written last.
fn newest(directory: &Path) -> Result<String> {
    let files =
        fs::read_dir(directory)?.flatten().filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file)));
    let newest = files.max_by_key(|(time, _)| *time);
    Ok(newest.map_or_else(|| "not known".to_owned(), |(_, file)| file.path().display().to_string()))
}
