//! Parse, run, exit code.

use clap::Parser as _;
use std::process::ExitCode;

/// It gives back what only a start needs, which glibc's keeps among what stays.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    federator::cli::Cli::parse().run()
}
