//! Benchmarks: release builds and real parts in the sandbox, run by `cargo xtask bench NAME`.
//!
//! Each prints the machine, then tables for people, then lines `figure KEY VALUE UNIT` for programs. None of them
//! fails because a figure is bad: what is good enough is said by whoever reads the figures.

#![expect(clippy::print_stdout, reason = "printing figures is what a benchmark is for")]

mod ask;
mod cpu;
mod dns;
mod emit;
mod machine;
mod observe;
mod propagation;
mod records;
mod report;
mod shape;
mod store;

use clap::{CommandFactory as _, Parser, Subcommand};
use harness::Result;

/// Benchmarks of Federator.
#[derive(Parser)]
#[command(arg_required_else_help = true)]
struct Arguments {
    /// Lists the benchmarks
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    benchmark: Option<Benchmark>,
}

#[derive(Subcommand)]
enum Benchmark {
    /// From an EndpointSlice in one cluster to the answer and the ServiceEntry in another, beside the floor
    Propagation(propagation::Options),
    /// Memory, first sync and requests of an agent with a large cluster, beside kubectl reading the same
    Observe(observe::Options),
    /// Memory and start of an agent of a million endpoints, the cost of a change, and of many a second
    Store(store::Options),
    /// Writes, requests and memory of an agent that emits, what a sidecar holds of it, and the cost of a change
    Emit(emit::Options),
    /// CPU time of a query, latency, memory and the cost of a change, beside NSD, Knot and CoreDNS with the same records
    Dns(dns::Options),
    /// Our name server alone, which the benchmark of DNS asks
    #[command(hide = true)]
    ServeNames(dns::alone::Options),
}

fn main() -> Result {
    let arguments = Arguments::parse();
    if arguments.list {
        list();
    }
    match arguments.benchmark {
        None => Ok(()),
        Some(Benchmark::Propagation(options)) => propagation::run(&options),
        Some(Benchmark::Observe(options)) => observe::run(&options),
        Some(Benchmark::Store(options)) => store::run(&options),
        Some(Benchmark::Emit(options)) => emit::run(&options),
        Some(Benchmark::Dns(options)) => dns::run(&options),
        Some(Benchmark::ServeNames(options)) => dns::alone::run(&options),
    }
}

fn list() {
    let command = Arguments::command();
    for benchmark in command.get_subcommands().filter(|benchmark| !benchmark.is_hide_set()) {
        let about = benchmark.get_about().map(ToString::to_string);
        println!("{:<12} {}", benchmark.get_name(), about.unwrap_or_default());
    }
}
