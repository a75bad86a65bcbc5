//! The command line: what was typed, which command it is, and the exit code. The only place that prints.

mod agent;
mod cluster;
mod demo;
mod diff;
mod etcd;
mod remote_secret;
mod render;
mod snapshot;

use crate::{app::AppError, config::ConfigError, publish::PublishError};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use std::{
    io::{self, Write as _},
    process::ExitCode,
};

/// Exit codes, as `--help` documents them.
const EXIT_CODES: &str = "\
Exit codes:
  0  done, or stopped as asked
  1  something failed while running
  2  the command line or the configuration is wrong
  3  an address to listen on cannot be had
  4  the cluster id belongs to another cluster";

/// One agent per cluster makes many Kubernetes clusters look like one.
#[derive(Debug, Parser)]
#[command(name = "federator", version, about, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of one cluster.
    Agent(agent::Args),
    /// Take a cluster out of the fleet, or back in.
    Cluster(cluster::Args),
    /// Show three clusters from directories that answer as one; needs nothing else.
    Demo(demo::Args),
    /// Show what an agent would write into its cluster now.
    ///
    /// Prints a unified diff of what each object says that would be created (from /dev/null), changed or deleted (to
    /// /dev/null), and nothing where the cluster is as it should be. Objects of the same name that somebody else made
    /// are named behind a #, and left alone. An agent that writes is done within moments: this is for one with
    /// emit.dryRun, for one that cannot write, and for making sure.
    Diff(diff::Args),
    /// Prepare an etcd that a fleet shares.
    Etcd(etcd::Args),
    /// Let agents elsewhere observe a cluster.
    RemoteSecret(remote_secret::Args),
    /// Print the objects that an agent means its cluster to have.
    ///
    /// Documents separated by `---`, in the order of kind, namespace and name. Agents of one cluster that have seen the
    /// same print the same, byte for byte; so the annotation federator.io/revision, which says since when an object is as
    /// it is, is left out. Objects are in networking.istio.io/v1; the agent writes the version that its cluster serves.
    /// The agent must emit (emit.kubernetes or emit.directory; emit.dryRun will do), and have seen all of the fleet.
    Render(render::Args),
    /// Look into the snapshot that an agent begins with after a restart.
    Snapshot(snapshot::Args),
}

// === impl Cli ===

impl Cli {
    /// Does what was typed.
    #[must_use]
    pub fn run(self) -> ExitCode {
        // Two providers of cryptography in one process would make rustls panic; there is one, and it is said so.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&AppError::Other(error.into()).into()),
        };
        let outcome = runtime.block_on(async {
            let done = match self.command {
                Command::Agent(args) => agent::run(args).await,
                Command::Cluster(args) => cluster::run(args).await,
                Command::Demo(args) => demo::run(args).await,
                Command::Diff(args) => return diff::run(args).await.map(|differs| ExitCode::from(u8::from(differs))),
                Command::Etcd(args) => etcd::run(args).await,
                Command::RemoteSecret(args) => remote_secret::run(args).await,
                Command::Render(args) => render::run(args).await,
                Command::Snapshot(args) => snapshot::run(args),
            };
            done.map(|()| ExitCode::SUCCESS)
        });
        // Blocking work, like name resolution, is not waited for.
        runtime.shutdown_background();
        outcome.unwrap_or_else(|error| fail(&error))
    }
}

/// Prints a text that may be longer than its reader wants.
///
/// # Errors
/// When standard output cannot be written.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("standard output"),
    }
}

/// What was typed cannot be done as it is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

/// Says in one line what went wrong, and turns it into an exit code.
#[expect(clippy::print_stderr, reason = "the command line talks to people")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("federator: {error:#}");
    let code = if error.is::<ConfigError>() || error.is::<Misuse>() {
        2
    } else {
        match error.downcast_ref::<AppError>() {
            Some(AppError::Bind(_)) => 3,
            Some(AppError::Publish(PublishError::IdTaken { .. })) => 4,
            Some(AppError::Publish(PublishError::VipsOverlap { .. })) => 2,
            _ => 1,
        }
    };
    ExitCode::from(code)
}
