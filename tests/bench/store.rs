//! The shared store: what a large fleet costs an agent in memory and at its start, what a change costs, and what many
//! changes a second make of the store.
//!
//! Stores are filled with the records that other clusters' agents would write, because nobody has a hundred API servers
//! on one machine. Only the changes that come many a second go through a real API server and the agent that observes it.

mod agent;
mod change;
mod http;
mod member;
mod memory;
mod rate;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use clap::Args;
use harness::{Parts, Result, require_sandbox};

use crate::machine;
use crate::report::{Table, figure, median};
use crate::shape::Shape;
use change::{Cost, Round};
use memory::Large;
use rate::Phase;

/// The sandbox has a `/run` of its own, in memory.
const ROOT: &str = "/run/bench";

/// Where etcd serves.
const ETCD: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5379);

const MIB: f64 = (1 << 20) as f64;

/// How the benchmark runs.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these parts of it
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Memory, Part::Change, Part::Rate])]
    only: Vec<Part>,
    /// Clusters of the large fleet
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    clusters: u32,
    /// Services of each of them, with ten endpoints each
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000))]
    services: u32,
    /// Rounds in which the cost of a change is measured
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=50))]
    rounds: u16,
    /// Changes in each fleet and round
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(10..=5000))]
    changes: u16,
    /// Milliseconds between two of these changes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=1000))]
    gap: u64,
    /// Seconds of many changes a second
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=3000))]
    seconds: u32,
    /// How many a second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
}

/// Parts of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Memory and start of an agent of the large fleet
    Memory,
    /// The cost of a change
    Change,
    /// Many changes a second, and a roll-out
    Rate,
}

/// One part after the other.
pub(crate) fn run(options: &Options) -> Result {
    require_sandbox()?;
    machine::describe()?;
    machine::versions(&[("etcd", "--version"), ("kube-apiserver", "--version")])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (root, parts) = (Path::new(ROOT), Parts::from_environment()?);
        if options.only.contains(&Part::Memory) {
            let mut starts = Vec::new();
            for (name, shared) in [("all names shared", true), ("no name shared", false)] {
                let (clusters, services) = (options.clusters, options.services);
                let shape = Shape { clusters, services, slices: 1, endpoints: 10, shared };
                let directory = root.join("large");
                starts.push((name, shape, memory::measure(&parts, &directory, &shape).await?));
                fs::remove_dir_all(&directory)?;
            }
            report_memory(&starts);
        }
        if options.only.contains(&Part::Change) {
            let directory = root.join("change");
            report_changes(options, &change::measure(options, &parts, &directory).await?);
            fs::remove_dir_all(&directory)?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    if options.only.contains(&Part::Rate) {
        let directory = Path::new(ROOT).join("rate");
        report_rate(&rate::measure(&Parts::from_environment()?, &directory, options.seconds, options.rate)?);
    }
    Ok(())
}

/// The first port of an agent, which has three.
const fn agent_ports(number: usize) -> u16 {
    5400 + 10 * number as u16
}

fn report_memory(starts: &[(&str, Shape, Large)]) {
    let mut table =
        Table::new(["", "services", "endpoints", "ready s", "all written s", "CPU s", "resident MiB", "peak MiB"]);
    for (name, shape, Large { measured, .. }) in starts {
        let seconds = [measured.ready, measured.emitted, measured.cpu].map(|time| format!("{:.1}", time.as_secs_f64()));
        let memory = [measured.memory.resident, measured.memory.peak].map(|bytes| format!("{:.0}", bytes as f64 / MIB));
        let size = [shape.names(), shape.all_endpoints()].map(|count| count.to_string());
        table.row([(*name).to_owned()].into_iter().chain(size).chain(seconds).chain(memory).collect::<Vec<_>>());
    }
    table.print();
    let mut table = Table::new(["etcd", "keys", "file MiB", "of it in use MiB"]);
    for (name, _, Large { counts, .. }) in starts {
        let figures = [counts.puts, counts.size / MIB, counts.in_use / MIB].map(|figure| format!("{figure:.0}"));
        table.row([(*name).to_owned()].into_iter().chain(figures).collect::<Vec<_>>());
    }
    table.print();
    let mut table = Table::new(["begun with a snapshot", "answers s", "CPU s", "file MiB"]);
    for (name, _, Large { again, .. }) in starts {
        let figures = [again.answers.as_secs_f64(), again.cpu.as_secs_f64()].map(|time| format!("{time:.2}"));
        let size = format!("{:.0}", again.bytes / MIB);
        table.row([(*name).to_owned()].into_iter().chain(figures).chain([size]).collect::<Vec<_>>());
    }
    table.print();
    let worst = |of: &dyn Fn(&Large) -> f64| starts.iter().map(|(_, _, large)| of(large)).fold(0.0, f64::max);
    figure("rss_million_endpoints_mb", worst(&|large| large.measured.memory.resident as f64 / MIB), "MiB");
    figure("peak_million_endpoints_mb", worst(&|large| large.measured.memory.peak as f64 / MIB), "MiB");
    figure("cold_start_s", worst(&|large| large.measured.ready.as_secs_f64()), "s");
    figure("snapshot_start_s", worst(&|large| large.again.answers.as_secs_f64()), "s");
    figure("etcd_million_endpoints_mb", worst(&|large| large.counts.size / MIB), "MiB");
}

fn report_changes(options: &Options, rounds: &[Round]) {
    let middle = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of));
    let mut table = Table::new(["one change", "CPU µs", "objects written"]);
    let mut row = |name: &str, of: &dyn Fn(&Round) -> Cost| {
        let figures = [middle(&|round| of(round).cpu), middle(&|round| of(round).writes)];
        table.row([name.to_owned(), format!("{:.0}", figures[0]), format!("{:.2}", figures[1])]);
    };
    row("1,000 services of 10 endpoints", &|round| round.small);
    row(&format!("{} such services", options.clusters * options.services), &|round| round.large);
    row("services of 1,000 endpoints in one cluster", &|round| round.deep);
    row("services of 1,000 endpoints in 100 clusters", &|round| round.wide);
    table.print();
    println!("{} rounds of {} changes in each, {} ms apart\n", rounds.len(), options.changes, options.gap);
    let ratio = |of: &dyn Fn(&Round) -> Cost| middle(&|round| of(round).cpu / round.small.cpu);
    figure("change_cpu_ratio_100k_over_1k", ratio(&|round| round.large), "ratio");
    let (deep, wide) = (ratio(&|round| round.deep), ratio(&|round| round.wide));
    figure("change_cpu_ratio_1000_over_10_endpoints", deep.max(wide), "ratio");
}

fn report_rate(phases: &[Phase]) {
    let header = ["", "changes", "a second", "transactions", "behind at most", "catch-up s"];
    let mut table = Table::new(header);
    let transactions = |phase: &Phase| phase.after.revision - phase.before.revision;
    for phase in phases {
        let rate = f64::from(phase.changes) / phase.took.as_secs_f64();
        let figures = [f64::from(phase.changes), rate, transactions(phase), phase.behind].map(|n| format!("{n:.0}"));
        let catch_up = format!("{:.1}", phase.catch_up.as_secs_f64());
        table.row([phase.name.clone()].into_iter().chain(figures).chain([catch_up]).collect::<Vec<_>>());
    }
    table.print();
    let mut table =
        Table::new(["% of a core, MiB", "publisher", "follower", "etcd", "etcd's file at most", "both agents grew by"]);
    for phase in phases {
        let share = |cpu: std::time::Duration| 100.0 * cpu.as_secs_f64() / (phase.took + phase.catch_up).as_secs_f64();
        let [publisher, follower] = phase.cpu.map(share);
        let etcd = share(phase.after.cpu - phase.before.cpu);
        let figures = [publisher, follower, etcd, phase.size / MIB, phase.grown as f64 / MIB];
        let figures = figures.map(|figure| format!("{figure:.0}"));
        table.row([phase.name.clone()].into_iter().chain(figures).collect::<Vec<_>>());
    }
    table.print();
    let worst = |of: &dyn Fn(&Phase) -> f64| phases.iter().map(of).fold(0.0, f64::max);
    figure("writes_per_change", worst(&|phase| transactions(phase) / f64::from(phase.changes)), "transactions");
    figure("rate_behind_at_most", worst(&|phase| phase.behind), "transactions");
    figure("rate_catch_up_s", worst(&|phase| phase.catch_up.as_secs_f64()), "s");
    figure("rate_etcd_mb", worst(&|phase| phase.size / MIB), "MiB");
}
