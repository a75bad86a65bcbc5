//! DNS: CPU time of one query over UDP and over TCP, ours beside NSD's and CoreDNS's, all with the same names on the loopback.
//!
//! Queries a second would tell little on a small machine, where the generator needs more CPU than a fast server. CPU
//! time a query does not depend on who waits for whom. Rounds are interleaved and ratios are taken within a round,
//! because the speed of a machine wanders.

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
use crate::machine;
use crate::report::{Table, figure, median};
use load::{Load, Measured};
use server::Server;

/// The sandbox has a `/run` of its own, in memory.
const ROOT: &str = "/run/bench";

/// All three read a thousand names in well under a second.
const START: Duration = Duration::from_secs(20);

/// Of a server before its first round that counts, in seconds: caches fill, processors wake.
const WARM_UP: u32 = 1;

/// How the benchmark runs.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; each asks every server once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    rounds: u16,
    /// Seconds of load on each server in a round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Names, one address each
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    names: u16,
}

/// Starts all servers, and asks them in turn.
pub(crate) fn run(options: &Options) -> Result {
    require_sandbox()?;
    machine::describe()?;
    machine::versions(&[("nsd", "-v"), ("coredns", "-version"), ("dnsperf", "-h")])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (root, parts) = (Path::new(ROOT), Parts::from_environment()?);
        fs::create_dir_all(root)?;
        zone::write_queries(&root.join("queries"), options.names)?;
        let servers = [
            server::federator(&root.join("federator"), options.names)?,
            server::nsd(&parts, &root.join("nsd"), options.names)?,
            server::coredns(&parts, &root.join("coredns"), options.names)?,
        ];
        for server in &servers {
            ready(server, options.names).await?;
        }
        let load = Load::new(&parts, &root.join("queries"))?;
        for transport in ["udp", "tcp"] {
            let measured = measure(options, &servers, &load, transport).await?;
            report(&servers, &measured, transport);
        }
        println!(
            "{} names, {} rounds of {} s on each server in turn after {WARM_UP} s of warm-up; dnsperf {}",
            options.names,
            options.rounds,
            options.seconds,
            load::ARGUMENTS.join(" "),
        );
        Ok(())
    })
}

/// Waits until the first, a middle and the last name have the right address.
async fn ready(server: &Server, names: u16) -> Result {
    let what = format!("{} answers (see {})", server.name, server.log.display());
    eventually(START, &what, async || {
        for number in [0, names / 2, names - 1] {
            let asker = Asker::new(server.address, &zone::name(number))?;
            ensure!(asker.has(zone::address(number))?, "not yet {}", zone::name(number));
        }
        Ok(())
    })
    .await
}

/// One row a round, in the order of the servers.
async fn measure(options: &Options, servers: &[Server; 3], load: &Load, transport: &str) -> Result<Vec<[Measured; 3]>> {
    for server in servers {
        load.put_on(server, transport, WARM_UP).await?;
    }
    let mut rounds = Vec::new();
    for round in 0..usize::from(options.rounds) {
        let mut row = [Measured::default(); 3];
        // Each server is the first, the second and the last equally often.
        for turn in 0..servers.len() {
            let number = (round + turn) % servers.len();
            row[number] = load.put_on(&servers[number], transport, options.seconds).await?;
        }
        rounds.push(row);
    }
    Ok(rounds)
}

fn report(servers: &[Server; 3], rounds: &[[Measured; 3]], transport: &str) {
    let ratio = |row: &[Measured; 3], other: usize| row[0].micros() / row[other].micros();
    let middle = |of: &dyn Fn(&[Measured; 3]) -> f64| median(rounds.iter().map(of));

    let names = servers.each_ref().map(|server| format!("{} us/query", server.name));
    let [ours, nsd, coredns] = names.each_ref().map(String::as_str);
    println!("over {transport}:\n");
    let mut table = Table::new(["round", ours, nsd, coredns, "over NSD", "over CoreDNS"]);
    let mut row = |name: String, figures: [f64; 5]| {
        table.row([name].into_iter().chain(figures.map(|figure| format!("{figure:.2}"))).collect::<Vec<_>>());
    };
    for (number, round) in rounds.iter().enumerate() {
        let [ours, nsd, coredns] = round.each_ref().map(Measured::micros);
        row((number + 1).to_string(), [ours, nsd, coredns, ratio(round, 1), ratio(round, 2)]);
    }
    let of_server = |number: usize| middle(&|row| row[number].micros());
    let (over_nsd, over_coredns) = (middle(&|row| ratio(row, 1)), middle(&|row| ratio(row, 2)));
    let medians = [of_server(0), of_server(1), of_server(2), over_nsd, over_coredns];
    row("median".to_owned(), medians);
    table.print();

    let mut table = Table::new(["server", "1000 queries/s, median", "queries lost"]);
    for (number, server) in servers.iter().enumerate() {
        let rate = middle(&|row| row[number].rate() / 1e3);
        let lost: u64 = rounds.iter().map(|row| row[number].lost).sum();
        table.row([server.name.to_owned(), format!("{rate:.0}"), lost.to_string()]);
    }
    table.print();
    for (number, server) in servers.iter().enumerate() {
        figure(&format!("{transport}_cpu_{}", server.name), of_server(number), "us/query");
    }
    figure(&format!("{transport}_cpu_over_nsd"), over_nsd, "ratio");
    figure(&format!("{transport}_cpu_over_coredns"), over_coredns, "ratio");
}
