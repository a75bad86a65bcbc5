//! Observation: what one large cluster costs an agent in memory, in time until it is known, and in requests while
//! nothing changes.
//!
//! What an agent needs with an empty cluster is measured beside it, round by round in turn, and is taken off. Time is
//! compared with kubectl reading the lists that the agent reads, less what kubectl needs of the empty cluster. The objects are written
//! straight into the API server; no controller runs that could change them.

mod agent;
mod kubectl;
mod objects;

use std::time::Duration;

use clap::Args;
use harness::{Cluster, Fleet, Reader, Result, require_sandbox};

use crate::machine;
use crate::report::{Table, figure, median};
use agent::{Measured, Requests, measure};
use objects::Size;

/// Writing 25,000 objects takes a busy machine a minute or two, and there are three clusters.
const LIMIT: Duration = Duration::from_hours(1);

const MIB: f64 = (1 << 20) as f64;

/// How the benchmark runs.
#[derive(Args)]
pub(crate) struct Options {
    /// Services of a cluster, with ten pods behind each
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=5000))]
    services: u32,
    /// Nodes of a cluster
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5000))]
    nodes: u32,
    /// Rounds; each starts an agent for the empty cluster and one for the full one, and has kubectl read both
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    rounds: u16,
    /// Clusters that one agent observes in the end
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    clusters: u8,
    /// Seconds without a change in which requests are counted
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=1800))]
    idle: u32,
}

/// A cluster with the credential that agents and kubectl read it with.
struct Source<'a> {
    cluster: &'a Cluster,
    reader: Reader,
}

/// What one round has given.
struct Round {
    empty: Measured,
    full: Measured,
    kubectl_empty: Duration,
    kubectl_full: Duration,
}

/// Fills clusters, and starts agents beside kubectl.
pub(crate) fn run(options: &Options) -> Result {
    require_sandbox()?;
    Fleet::exclusive_within(LIMIT, async |fleet| {
        machine::describe()?;
        machine::versions(&[("kube-apiserver", "--version"), ("etcd", "--version"), ("kubectl", "version")])?;
        let size = Size { services: options.services, nodes: options.nodes };
        let namespaces = objects::namespaces(fleet, size).await?;
        let mut sources = Vec::new();
        for name in ["west", "south", "east"] {
            let cluster = fleet.cluster(name);
            sources.push(Source { cluster, reader: cluster.reader("bench").await? });
            cluster.component("kube-controller-manager")?.kill()?;
            cluster.component("kwok")?.kill()?;
        }
        let (full, empty) = (&sources[0], &sources[2]);

        objects::fill(full.cluster, &namespaces, size).await?;
        let mut requests = Requests::of(&full.reader)?;
        let (_, agent) = measure(fleet, &[full], options.services).await?;
        requests.end_sync()?;
        let api_server = full.cluster.place().port(6443);
        let connections = agent.connections()?.into_iter().filter(|peer| *peer == api_server).count();
        // What is measured is this time itself: the requests in it.
        tokio::time::sleep(Duration::from_secs(options.idle.into())).await;
        requests.end_idle()?;
        drop(agent);
        let lists = requests.listed();

        // Discovery is read once, and processors wake.
        for source in [empty, full] {
            kubectl::read(source, &lists)?;
        }
        let mut rounds = Vec::new();
        for _ in 0..options.rounds {
            rounds.push(Round {
                empty: measure(fleet, &[empty], 0).await?.0,
                kubectl_empty: kubectl::read(empty, &lists)?,
                full: measure(fleet, &[full], options.services).await?.0,
                kubectl_full: kubectl::read(full, &lists)?,
            });
        }
        let several = &sources[..usize::from(options.clusters)];
        for source in &several[1..] {
            objects::fill(source.cluster, &namespaces, size).await?;
        }
        let services = options.services * u32::from(options.clusters);
        let (several, _agent) = measure(fleet, &several.iter().collect::<Vec<_>>(), services).await?;

        report(options, &rounds, &several, &requests, connections);
        Ok(())
    })
}

fn report(options: &Options, rounds: &[Round], several: &Measured, requests: &Requests<'_>, connections: usize) {
    let middle = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of));
    let mib = |bytes: u64| bytes as f64 / MIB;
    let (idle_resident, idle_peak) =
        (middle(&|round| mib(round.empty.resident)), middle(&|round| mib(round.empty.peak)));
    let resident = middle(&|round| mib(round.full.resident)) - idle_resident;
    let peak = middle(&|round| mib(round.full.peak)) - idle_resident;
    let sync = |round: &Round| round.full.synced.as_secs_f64() - round.empty.synced.as_secs_f64();
    let kubectl = |round: &Round| round.kubectl_full.as_secs_f64() - round.kubectl_empty.as_secs_f64();
    let over_kubectl = middle(&|round| sync(round) / kubectl(round));

    let mut table = Table::new(["round", "empty s", "full s", "kubectl empty s", "kubectl full s", "over kubectl"]);
    let mut row = |name: String, figures: [f64; 5]| {
        table.row([name].into_iter().chain(figures.map(|figure| format!("{figure:.2}"))).collect::<Vec<_>>());
    };
    let times = |round: &Round| {
        [round.empty.synced, round.full.synced, round.kubectl_empty, round.kubectl_full].map(|time| time.as_secs_f64())
    };
    for (number, round) in rounds.iter().enumerate() {
        let [empty, full, kubectl_empty, kubectl_full] = times(round);
        let ratio = sync(round) / kubectl(round);
        row((number + 1).to_string(), [empty, full, kubectl_empty, kubectl_full, ratio]);
    }
    let [empty, full, kubectl_empty, kubectl_full] = [0, 1, 2, 3].map(|at| middle(&|round| times(round)[at]));
    row("median".to_owned(), [empty, full, kubectl_empty, kubectl_full, over_kubectl]);
    table.print();

    let clusters = options.clusters;
    let mut table = Table::new(["MiB of memory", "resident", "peak of the first sync"]);
    let mut row = |name: String, figures: [f64; 2]| {
        table.row([name].into_iter().chain(figures.map(|figure| format!("{figure:.1}"))).collect::<Vec<_>>());
    };
    row("an empty cluster".to_owned(), [idle_resident, idle_peak]);
    row("one full cluster, above that".to_owned(), [resident, peak]);
    let several_resident = mib(several.resident) - idle_resident;
    row(format!("{clusters} full clusters, above that"), [several_resident, mib(several.peak) - idle_resident]);
    table.print();

    requests.print();

    println!(
        "{} services with 10 endpoints and pods each, {} nodes; {} rounds; {} s without a change; {clusters} clusters; \
         kubectl reads {}\n",
        options.services,
        options.nodes,
        options.rounds,
        options.idle,
        requests.listed().join(", "),
    );
    figure("rss_idle_mb", idle_resident, "MiB");
    figure("rss_over_idle_mb", resident, "MiB");
    figure("peak_over_idle_mb", peak, "MiB");
    figure("sync", full - empty, "s");
    figure("sync_kubectl", kubectl_full - kubectl_empty, "s");
    figure("sync_over_kubectl", over_kubectl, "ratio");
    figure("requests_per_minute_idle", requests.idle() as f64 * 60.0 / f64::from(options.idle), "requests");
    figure("connections_per_cluster", connections as f64, "connections");
    figure("clusters", f64::from(clusters), "clusters");
    figure("sync_clusters", several.synced.as_secs_f64() - empty, "s");
    figure("rss_over_idle_mb_clusters", several_resident, "MiB");
    figure("rss_clusters_over_one", several_resident / resident, "ratio");
}
