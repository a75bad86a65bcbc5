//! What a figure depends on beside the program: the machine, its load, the command, and the versions of all parts.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::Context;
use harness::{Parts, Result};

/// Prints the machine and the command.
pub(crate) fn describe() -> Result {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let kibibytes: u64 = value(&memory, "MemTotal")
        .and_then(|total| total.split_whitespace().next()?.parse().ok())
        .context("/proc/meminfo")?;
    println!(
        "machine: {} cores, {}, {} GiB, load {}",
        available_parallelism()?,
        value(&cpus, "model name").unwrap_or("unknown model"),
        kibibytes >> 20,
        load.split_whitespace().next().unwrap_or_default(),
    );
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    println!("command: cargo xtask bench {}", arguments.join(" "));
    Ok(())
}

/// Prints the version of the daemon, and of each part by the argument that makes it tell.
pub(crate) fn versions(parts: &[(&str, &str)]) -> Result {
    let directory = Parts::from_environment()?;
    let mut told = vec![version("federator", &harness::federator()?, "--version")?];
    for (name, argument) in parts {
        told.push(version(name, &directory.bin(name)?, argument)?);
    }
    println!("versions: {}", told.join(", "));
    Ok(())
}

/// A program's name and the first word of its output that looks like a version.
fn version(name: &str, program: &Path, argument: &str) -> Result<String> {
    let output = Command::new(program).arg(argument).output();
    let output = output.with_context(|| format!("{name} {argument}"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let number = |word: &&str| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '-' | ',' | '/'));
    let found = words.filter(|word| word.contains('.')).find(number);
    Ok(format!("{name} {}", found.unwrap_or("of unknown version").trim_start_matches('v')))
}

/// The first value of a `key : value` file of the kernel.
fn value<'a>(file: &'a str, key: &str) -> Option<&'a str> {
    let lines = file.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).next()
}
