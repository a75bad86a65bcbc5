//! Running other programs: aloud or quietly, with an error that names the command and ends with what it said.
//!
//! Knows nothing of what the programs do.

use std::{
    env,
    ffi::OsStr,
    path::PathBuf,
    process::{Command, ExitStatus},
};

use anyhow::{Context, Result, bail};

/// As much of a failed program's output as helps without burying the error.
const LAST_LINES: usize = 15;

/// In front of a command: the kernel kills it when the process that started it dies.
pub(crate) const TIE: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// As much of a command line as tells which one it was.
const LONGEST_COMMAND: usize = 200;

/// Runs a command that speaks for itself.
pub(crate) fn aloud(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` {}", shown(command), ending(status));
    }
    Ok(())
}

/// Runs a command whose output matters only when it fails; returns its standard output.
pub(crate) fn quietly(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting `{}`", shown(command)))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = format!("{out}\n{}", String::from_utf8_lossy(&output.stderr));
        bail!("`{}` {}{}", shown(command), ending(output.status), tail(&said));
    }
    Ok(out)
}

/// Finds a program, or says what to do about its absence.
pub(crate) fn require(program: &str, advice: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    found.with_context(|| format!("{program} is not on PATH: {advice}"))
}

/// A command that the kernel kills when we die, however we die.
pub(crate) fn tied(command: &Command) -> Command {
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
    tied.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    if let Some(dir) = command.get_current_dir() {
        tied.current_dir(dir);
    }
    tied
}

/// The command as one would type it, cut where it stops helping.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    // What ties a command to us is no part of what one would type.
    let words = words.skip(if command.get_program() == TIE[0] { TIE.len() } else { 0 });
    let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_COMMAND) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

fn ending(status: ExitStatus) -> String {
    status.code().map_or_else(|| format!("was killed: {status}"), |code| format!("failed with exit code {code}"))
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| format!("\n    {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_last_words() {
        let error = quietly(Command::new("sh").args(["-c", "seq 40; echo why >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`sh -c seq 40; echo why >&2; exit 3` failed with exit code 3\n"), "{text}");
        assert!(text.ends_with("\n    40\n    why"), "{text}");
        assert_eq!(text.lines().count(), 1 + LAST_LINES);
    }

    #[test]
    fn a_missing_program_comes_with_advice() {
        let error = require("no-such-program", "install it").unwrap_err();
        assert_eq!(error.to_string(), "no-such-program is not on PATH: install it");
    }

    #[test]
    fn a_tied_command_keeps_arguments_environment_and_place() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $WORD $PWD"]).env("WORD", "hello").current_dir("/");
        assert_eq!(quietly(&mut tied(&command)).expect("sh runs"), "hello /\n");
    }
}
