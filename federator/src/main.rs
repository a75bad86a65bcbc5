//! Parse, run, exit code.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    federator::cli::Cli::parse().run()
}
