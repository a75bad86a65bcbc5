//! `cargo xtask`: every chore of this repository behind one command that needs nothing installed but Rust.
//!
//! Here is only the command line; each chore is a module of its own. This package knows how Federator is built and
//! tested, and nothing of what Federator does: it must compile in seconds on a fresh machine, so it depends on
//! neither the daemon nor its libraries, and reaches them as a user would, through cargo and their executables.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks to its user by printing")]

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod cache;
mod check;
mod demo;
mod fuzz;
mod parts;
mod report;
mod sandbox;
mod step;
mod suite;
mod workspace;

/// Every chore of this repository.
///
/// Real parts (API servers, etcd, Envoy, DNS tools...) are built once and kept under
/// ${FEDERATOR_CACHE:-${XDG_CACHE_HOME:-~/.cache}/federator}, shared by all checkouts of one user.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build the daemon and run its demo: needs only Rust and a C compiler.
    Demo {
        /// Passed to `federator demo`; `-- --help` shows what it takes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run all tests: plain ones as they are, fleet tests against real clusters in a private sandbox.
    ///
    /// Fleet tests are the test targets of package federator-tests whose name begins with `fleet`; they
    /// find the real parts at FEDERATOR_PARTS. All tests find the daemon at FEDERATOR_BIN.
    Test {
        /// Run only one kind of tests.
        #[arg(long, value_enum)]
        only: Option<suite::Kind>,
        /// Passed to every test binary: a part of a test's name, --nocapture...
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Run one benchmark on release builds in a private sandbox; without a name, list them.
    Bench {
        /// The benchmark, followed by its own options.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Feed a parser of untrusted input with what a fuzzer makes up, until the time is over or it breaks.
    Fuzz {
        /// What to fuzz: an executable of package federator-fuzz, like `kubeconfig`.
        target: String,
        /// For how long.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Formatting, lints, documentation, dependencies and repository rules.
    Check,
    /// Get and build the real parts that tests use; prints the directory that holds them all.
    ///
    /// With names, only those parts, and the directory of each. The first run takes about a quarter of an hour on
    /// two cores and needs go, python3 with pip, and Debian 12's apt-get and dpkg-deb; nothing needs root.
    Parts {
        /// Only these parts.
        names: Vec<String>,
        /// List every part with its version and state, and build nothing.
        #[arg(long)]
        list: bool,
    },
    /// Run a command in private network, mount and process namespaces; as any user.
    ///
    /// Inside, the command is root, sees no network but lo and no process but its own, and may use `ip netns`, veth,
    /// nft, port 53 and tmpfs. When it ends, or this process dies by whatever cause, nothing of it is left.
    Sandbox {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<ExitCode> {
    // The sandbox builds nothing, and its user may not even be able to write here.
    if !matches!(chore, Chore::Sandbox { .. }) {
        workspace::provide_protoc()?;
    }
    match chore {
        Chore::Demo { args } => demo::run(&args),
        Chore::Test { only, args } => suite::run(only, &args),
        Chore::Bench { args } => bench::run(&args),
        Chore::Fuzz { target, seconds } => fuzz::run(&target, seconds),
        Chore::Check => check::run(),
        Chore::Parts { list: true, .. } => parts::list(),
        Chore::Parts { names, .. } => parts::run(&names),
        Chore::Sandbox { command } => sandbox::run(&command, &[]),
    }
}
