//! Emission: how much is written and asked for when one endpoint changes or an agent starts, what it costs the agent, what
//! one sidecar holds in the end, and how all of it grows with the fleet.
//!
//! The records of the fleet's other clusters are written straight into its store, because nobody has them on one machine;
//! the API server into which is written, istiod and Envoy are real.

mod agent;
mod pure;
mod sidecar;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use harness::{Fleet, Result, require_sandbox};

use crate::machine;
use crate::report::{Table, figure, median};
use crate::shape::Shape;
use agent::{Measured, Start};
use pure::{Cost, Round, Scratch};
use sidecar::Sidecar;

/// Ten thousand objects are written and read by several agents, and as many Services by the API server.
const LIMIT: Duration = Duration::from_hours(1);

const MIB: f64 = (1 << 20) as f64;

/// How the benchmark runs.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these parts of it
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Pure, Part::Agent, Part::Sidecar])]
    only: Vec<Part>,
    /// Services of the fleet, with ten endpoints each: this many hundreds
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    hundreds: u32,
    /// Rounds of what is measured in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    rounds: u16,
    /// Changes of one endpoint that an agent writes into the API server
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=5000))]
    changes: u16,
    /// Milliseconds between two of these changes
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=1000))]
    gap: u64,
    /// Changes in each fleet and round in the pure core
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pure_changes: u32,
}

/// Parts of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The pure core: a million endpoints from scratch, and the cost of a change
    Pure,
    /// An agent that writes into an API server
    Agent,
    /// What istiod makes of what was written, for one sidecar
    Sidecar,
}

/// One part after the other.
pub(crate) fn run(options: &Options) -> Result {
    require_sandbox()?;
    machine::describe()?;
    // pilot-discovery does not tell its own.
    machine::versions(&[("kube-apiserver", "--version"), ("etcd", "--version"), ("envoy", "--version")])?;
    if options.only.contains(&Part::Pure) {
        report_scratch(&pure::from_scratch()?);
        report_changes(options, &pure::change(options.rounds, options.pure_changes)?);
    }
    let (emits, asks) = (options.only.contains(&Part::Agent), options.only.contains(&Part::Sidecar));
    if !emits && !asks {
        return Ok(());
    }
    let shape = Shape { clusters: 10, services: 10 * options.hundreds, slices: 1, endpoints: 10, shared: false };
    Fleet::exclusive_within(LIMIT, async |fleet| {
        let north = fleet.spare().await?;
        // What a sidecar holds of a mesh without services.
        let empty = if asks { Some(sidecar::measure(&north).await?) } else { None };
        let measured = agent::measure(fleet, &north, &shape, options).await?;
        if emits {
            report_agent(options, &measured);
        }
        if let Some(empty) = empty {
            let ours = sidecar::measure(&north).await?;
            drop(north);
            let native = fleet.spare().await?;
            sidecar::fill(&native, &shape).await?;
            report_sidecar(&shape, &empty, &ours, &sidecar::measure(&native).await?);
        }
        Ok(())
    })
}

fn report_scratch(scratch: &[Scratch]) {
    let mut table =
        Table::new(["from scratch", "endpoints", "records to View s", "exports to View s", "View to objects s"]);
    for Scratch { shape, read, merged, projected } in scratch {
        let name = format!("{} services", shape.names());
        let times = [read, merged, projected].map(|time| format!("{:.2}", time.as_secs_f64()));
        table.row([name, shape.all_endpoints().to_string()].into_iter().chain(times).collect::<Vec<_>>());
    }
    table.print();
    let worst = |of: &dyn Fn(&Scratch) -> Duration| scratch.iter().map(|it| of(it).as_secs_f64()).fold(0.0, f64::max);
    figure("merge_million_s", worst(&|it| it.merged + it.projected), "s");
    figure("read_million_s", worst(&|it| it.read + it.projected), "s");
}

fn report_changes(options: &Options, rounds: &[Round]) {
    let middle = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of));
    let mut table = Table::new(["one change in the pure core", "CPU us", "objects that are others"]);
    let mut row = |name: &str, of: &dyn Fn(&Round) -> Cost| {
        let figures = [middle(&|round| of(round).cpu), middle(&|round| of(round).objects)];
        table.row([name.to_owned(), format!("{:.1}", figures[0]), format!("{:.2}", figures[1])]);
    };
    row("1,000 services of 10 clusters", &|round| round.few);
    row("1,000 services of 100 clusters", &|round| round.many);
    row("100,000 services of 100 clusters", &|round| round.large);
    table.print();
    println!("{} rounds of {} changes in each\n", rounds.len(), options.pure_changes);
    figure("change_cpu_ratio_100k_over_1k", middle(&|round| round.large.cpu / round.many.cpu), "ratio");
    figure("change_cpu_ratio_100_clusters_over_10", middle(&|round| round.many.cpu / round.few.cpu), "ratio");
}

fn report_agent(options: &Options, measured: &Measured) {
    let Measured { first, first_writes, starts, change_cpu, change_writes, .. } = measured;
    let middle = |of: &dyn Fn(&Start) -> f64| median(starts.iter().map(of));
    let mib = |bytes: u64| bytes as f64 / MIB;
    let (settled, cpu) = (middle(&|start| start.settled.as_secs_f64()), middle(&|start| start.cpu.as_secs_f64()));
    let writes = starts.iter().map(|start| start.writes).max().unwrap_or_default();
    let resident = middle(&|start| mib(start.resident));
    let emitting = middle(&|start| mib(start.resident) - mib(start.resident_without));

    let mut table = Table::new(["start of an agent", "objects written", "settled s", "CPU s"]);
    table.row([
        "nothing is there".to_owned(),
        first_writes.to_string(),
        format!("{:.1}", first.as_secs_f64()),
        "-".into(),
    ]);
    table.row(["everything is there".to_owned(), writes.to_string(), format!("{settled:.2}"), format!("{cpu:.2}")]);
    table.print();
    let mut table = Table::new(["MiB of memory, everything in place", "resident"]);
    table.row(["an agent that emits".to_owned(), format!("{resident:.1}")]);
    table.row(["more than one that does not".to_owned(), format!("{emitting:.1}")]);
    table.print();
    let mut table = Table::new(["one change", "objects written", "CPU us of the agent"]);
    table.row(["one endpoint of one service".to_owned(), format!("{change_writes:.2}"), format!("{change_cpu:.0}")]);
    table.print();
    measured.print_requests(options.changes);
    figure("writes_per_change", *change_writes, "writes");
    figure("requests_per_change", measured.requests_per_change(options.changes), "requests");
    figure("change_cpu_us", *change_cpu, "us");
    figure("writes_at_unchanged_start", writes as f64, "writes");
    figure("unchanged_start_s", settled, "s");
    figure("first_start_s", first.as_secs_f64(), "s");
    figure("rss_emission_mb", emitting, "MiB");
}

fn report_sidecar(shape: &Shape, empty: &Sidecar, ours: &Sidecar, native: &Sidecar) {
    let mib = |bytes: u64| bytes as f64 / MIB;
    let all = [empty, ours, native];
    let mut table = Table::new(["one sidecar", "without", "as ServiceEntries", "as Services of the cluster"]);
    let mut row = |name: String, figures: [f64; 3]| {
        table.row([name].into_iter().chain(figures.map(|figure| format!("{figure:.2}"))).collect::<Vec<_>>());
    };
    let kinds: BTreeSet<&String> = all.iter().flat_map(|sidecar| sidecar.told.keys()).collect();
    for kind in kinds {
        let told = all.map(|sidecar| mib(sidecar.told.get(kind).copied().unwrap_or_default()));
        row(format!("{kind}, MiB"), told);
    }
    row("received, MiB".to_owned(), all.map(|sidecar| mib(sidecar.received)));
    row("Envoy resident, MiB".to_owned(), all.map(|sidecar| mib(sidecar.resident)));
    table.print();
    println!("{} services with 10 endpoints each\n", shape.names());
    let over = |sidecar: &Sidecar, of: fn(&Sidecar) -> u64| mib(of(sidecar)) - mib(of(empty));
    let (received, resident) = (|it: &Sidecar| it.received, |it: &Sidecar| it.resident);
    figure("sidecar_config_mb", over(ours, received), "MiB");
    figure("sidecar_config_over_services", over(ours, received) / over(native, received), "ratio");
    figure("sidecar_rss_mb", over(ours, resident), "MiB");
    figure("sidecar_rss_over_services", over(ours, resident) / over(native, resident), "ratio");
}
