//! DNS: CPU time of one query over UDP and over TCP, and how long a client waits under load, ours beside NSD, Knot and CoreDNS,
//! all with the same records on the loopback; memory of a million records; and what one changed name costs.
//!
//! Queries a second would tell little on a small machine, where the generator needs more CPU than a fast server. CPU
//! time a query does not depend on who waits for whom. Rounds are interleaved and ratios are taken within a round,
//! because the speed of a machine wanders.

pub(crate) mod alone;
mod change;
mod load;
mod server;
mod zone;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use harness::{Parts, Result, eventually, require_sandbox};

use crate::ask::Asker;
use crate::report::{Table, figure, median};
use crate::{cpu, machine};
use load::{Load, Measured};
use server::Server;

/// The sandbox has a `/run` of its own, in memory.
const ROOT: &str = "/run/bench";

/// What a server may take for its records: a million are read in some ten seconds.
const START: Duration = Duration::from_secs(120);

/// Of a server before its first round that counts, in seconds: caches fill, processors wake.
const WARM_UP: u32 = 1;

/// Among the servers, the one that ours is compared with.
const NSD: usize = 1;

/// How the benchmark runs.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; each asks every server once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    rounds: u16,
    /// Seconds of load on each server in a round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Queries a second of the rounds in which all servers answer equally many
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    rate: u32,
    /// Records of the whole agent and those beside it
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(30..=100_000))]
    records: u32,
    /// Records of the name server alone and those beside it
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(30..=10_000_000))]
    many: u32,
}

/// Starts the servers, and asks them in turn.
pub(crate) fn run(options: &Options) -> Result {
    require_sandbox()?;
    machine::describe()?;
    machine::versions(&[("nsd", "-v"), ("knotd", "--version"), ("coredns", "-version"), ("dnsperf", "-h")])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let parts = Parts::from_environment()?;
        agent(options, &parts, &Path::new(ROOT).join("agent")).await?;
        many(options, &parts, &Path::new(ROOT).join("many")).await
    })?;
    let [small, large, ratio] = change::measure()?;
    println!(
        "One name changed and served: {small:.2} us of {}, {large:.2} us of {}.\n",
        change::NAMES[0],
        change::NAMES[1]
    );
    figure("change_cpu_ratio_1m_over_1k", ratio, "ratio");
    println!(
        "{} rounds of {} s on each server in turn after {WARM_UP} s of warm-up; dnsperf {}",
        options.rounds,
        options.seconds,
        load::ARGUMENTS.join(" "),
    );
    Ok(())
}

/// The whole agent.
async fn agent(options: &Options, parts: &Parts, root: &Path) -> Result {
    let names = options.records / zone::RECORDS;
    let servers = [
        server::federator(&root.join("federator"), names)?,
        server::nsd(parts, &root.join("nsd"), names)?,
        server::knot(parts, &root.join("knot"), names)?,
        server::coredns(parts, &root.join("coredns"), names)?,
    ];
    let load = load(&servers, parts, root, names).await?;
    for transport in ["udp", "tcp"] {
        let measured = measure(options, &servers, &load, transport, None).await?;
        println!("{} records over {transport}:\n", names * zone::RECORDS);
        report(&servers, &measured);
        for (number, server) in servers.iter().enumerate() {
            figure(
                &format!("{transport}_cpu_{}", server.name),
                middle(&measured, |row| row[number].micros()),
                "us/query",
            );
        }
        let over = |number: usize| middle(&measured, |row| row[0].micros() / row[number].micros());
        for (number, server) in servers.iter().enumerate().skip(1) {
            figure(&format!("{transport}_cpu_over_{}", server.name), over(number), "ratio");
        }
        if transport == "udp" {
            figure("p99_over_nsd", middle(&measured, |row| row[0].p99 / row[NSD].p99), "ratio");
        }
    }
    let measured = measure(options, &servers, &load, "udp", Some(options.rate)).await?;
    println!("{} records over udp, {} queries a second:\n", names * zone::RECORDS, options.rate);
    report(&servers, &measured);
    figure("udp_cpu_over_nsd_same_rate", middle(&measured, |row| row[0].micros() / row[NSD].micros()), "ratio");
    figure("p99_over_nsd_same_rate", middle(&measured, |row| row[0].p99 / row[NSD].p99), "ratio");
    Ok(())
}

/// The name server alone, with more records than manifests could be written for.
async fn many(options: &Options, parts: &Parts, root: &Path) -> Result {
    let names = options.many / zone::RECORDS;
    let servers = [
        server::alone(&root.join("federator"), names)?,
        server::nsd(parts, &root.join("nsd"), names)?,
        server::knot(parts, &root.join("knot"), names)?,
    ];
    let load = load(&servers, parts, root, names).await?;
    let measured = measure(options, &servers, &load, "udp", None).await?;
    println!("{} records over udp, federator's name server alone:\n", names * zone::RECORDS);
    report(&servers, &measured);
    figure("udp_cpu_over_nsd_many", middle(&measured, |row| row[0].micros() / row[NSD].micros()), "ratio");
    let mut table = Table::new(["server", "MiB"]);
    let mut memory = Vec::new();
    for server in &servers {
        #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
        let mib = cpu::memory_of_tree(server.pid())? as f64 / f64::from(1 << 20);
        table.row([server.name.to_owned(), format!("{mib:.0}")]);
        memory.push(mib);
    }
    table.print();
    figure("rss_million_over_nsd", memory[0] / memory[NSD], "ratio");
    Ok(())
}

/// The questions, once all servers have answers to them.
async fn load(servers: &[Server], parts: &Parts, root: &Path, names: u32) -> Result<Load> {
    let queries = root.join("queries");
    zone::write_queries(&queries, names)?;
    for server in servers {
        ready(server, names).await?;
    }
    Load::new(parts, &queries)
}

/// Waits until the first, a middle and the last name have the right address.
async fn ready(server: &Server, names: u32) -> Result {
    let what = format!("{} answers (see {})", server.name, server.log.display());
    let ready = eventually(START, &what, async || {
        for number in [0, names / 2, names - 1] {
            let asker = Asker::new(server.address, &zone::name(number))?;
            ensure!(asker.has(zone::v4(number))?, "not yet {}", zone::name(number));
        }
        Ok(())
    });
    ready.await.map_err(|error| error.context(fs::read_to_string(&server.log).unwrap_or_default()))
}

/// One row a round, in the order of the servers.
async fn measure(
    options: &Options,
    servers: &[Server],
    load: &Load,
    transport: &str,
    rate: Option<u32>,
) -> Result<Vec<Vec<Measured>>> {
    for server in servers {
        load.put_on(server, transport, rate, WARM_UP).await?;
    }
    let mut rounds = Vec::new();
    for round in 0..usize::from(options.rounds) {
        let mut row = vec![Measured::default(); servers.len()];
        // Each server is at every place equally often.
        for turn in 0..servers.len() {
            let number = (round + turn) % servers.len();
            row[number] = load.put_on(&servers[number], transport, rate, options.seconds).await?;
        }
        rounds.push(row);
    }
    Ok(rounds)
}

fn middle(rounds: &[Vec<Measured>], of: impl Fn(&[Measured]) -> f64) -> f64 {
    median(rounds.iter().map(|row| of(row)))
}

fn report(servers: &[Server], rounds: &[Vec<Measured>]) {
    let mut table =
        Table::new(["server", "us/query", "of each round", "ours over it", "p99 ms", "1000 queries/s", "lost"]);
    for (number, server) in servers.iter().enumerate() {
        let each: Vec<String> = rounds.iter().map(|row| format!("{:.2}", row[number].micros())).collect();
        table.row([
            server.name.to_owned(),
            format!("{:.2}", middle(rounds, |row| row[number].micros())),
            each.join(" "),
            format!("{:.2}", middle(rounds, |row| row[0].micros() / row[number].micros())),
            format!("{:.2}", middle(rounds, |row| row[number].p99)),
            format!("{:.0}", middle(rounds, |row| row[number].rate() / 1e3)),
            rounds.iter().map(|row| row[number].lost).sum::<u64>().to_string(),
        ]);
    }
    table.print();
}
