//! Propagation: a PATCH of an EndpointSlice in west until east answers with the new address, and until the
//! ServiceEntry in east has it. Beside it the floor: the same steps by the shortest program there is.
//!
//! Both are measured in one run, change by change in turn, because the speed of a machine wanders; what counts is
//! their ratio, percentile against percentile. Slices are made by hand for Services without selectors, so that no
//! controller has a part in it.

mod federated;
mod floor;
mod seen;
mod stages;

use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;
use harness::{Agent, Cluster, Fleet, Namespace, Result, require_sandbox};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use crate::machine;
use crate::report::{Durations, Table, figure, median};
use federated::{Federated, Times};
use floor::{Floor, Steps};

/// A healthy fleet needs milliseconds; a change that takes longer ends the benchmark.
const WITHIN: Duration = Duration::from_secs(5);

/// How the benchmark runs. The fleet of the harness lives three minutes, which is enough for the most changes.
#[derive(Args)]
pub(crate) struct Options {
    /// Changes that count, of ours and as many of the floor
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=800))]
    changes: u16,
    /// Changes before, which do not count
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=100))]
    warm_up: u16,
    /// Milliseconds between the end of a change and the next one
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=100))]
    gap: u64,
    /// Have the agents log at debug, and show when each stage was done; this costs time itself
    #[arg(long)]
    stages: bool,
}

/// Everything that was measured.
#[derive(Default)]
struct Samples {
    federated: Vec<Times>,
    floor: Vec<Steps>,
}

/// Runs it in a fleet of its own.
pub(crate) fn run(options: &Options) -> Result {
    require_sandbox()?;
    Fleet::exclusive(async |fleet| {
        machine::describe()?;
        machine::versions(&[("kube-apiserver", "--version"), ("etcd", "--version")])?;
        let [west, east] = ["west", "east"].map(|name| fleet.cluster(name));
        let ns = fleet.namespace("bench").await?;
        west.apply(&ns, &manifests()).await?;
        let agents = start(fleet, &ns, options.stages).await?;
        let mut federated = Federated::start(west, east, &ns).await?;
        let mut floor = Floor::start(fleet, &ns, federated.entry()).await?;

        let samples = measure(options, &agents, &mut federated, &mut floor).await?;
        report(options, &samples);
        if options.stages {
            let [east, west, _] = &agents;
            stages::report(&samples.federated, &west.logs(), &east.logs())?;
        }
        Ok(())
    })
}

async fn start(fleet: &Fleet, ns: &Namespace, debug: bool) -> Result<[Agent; 3]> {
    let start = async |cluster| {
        let setup = fleet.agent(cluster).config(|config| {
            // East does not have the service, nor Istio's own namespace.
            config["emit"]["namespace"] = json!(**ns);
            if debug {
                config["log"] = json!({"filter": "info,federator=debug"});
            }
        });
        let agent = setup.start().await?;
        agent.ready().await?;
        Ok::<_, anyhow::Error>(agent)
    };
    Ok(futures::try_join!(start("east"), start("west"), start("south"))?.into())
}

/// One change of ours and one of the floor in turn. The agents are paused during the floor, so that it is alone.
async fn measure(options: &Options, agents: &[Agent], federated: &mut Federated, floor: &mut Floor) -> Result<Samples> {
    let gap = Duration::from_millis(options.gap);
    let mut samples = Samples::default();
    for number in 0..options.warm_up + options.changes {
        let address = address(number);
        let times = federated.change(address).await?;
        // Changes come one at a time, as far apart as was asked for: the pace is part of the measurement.
        tokio::time::sleep(gap).await;

        agents.iter().try_for_each(Agent::pause)?;
        let steps = floor.change(address).await;
        agents.iter().try_for_each(Agent::resume)?;
        let steps = steps?;
        tokio::time::sleep(gap).await;

        if number >= options.warm_up {
            samples.federated.push(times);
            samples.floor.push(steps);
        }
    }
    Ok(samples)
}

fn report(options: &Options, samples: &Samples) {
    let ours = |of: fn(&Times) -> Duration| samples.federated.iter().map(of).collect::<Durations>();
    let floor = |of: fn(&Steps) -> Duration| samples.floor.iter().map(of).collect::<Durations>();
    let (answer, entry) = (ours(Times::answer), ours(Times::entry));
    let (put_seen, entry_seen) = (floor(|steps| steps.put_seen), floor(|steps| steps.entry_seen));

    let mut table = Table::new(["ms after the PATCH was sent", "p50", "p90", "p99", "max"]);
    table.row(answer.row("new DNS answer in east"));
    table.row(put_seen.row("floor: put seen by an etcd watch"));
    table.row(entry.row("ServiceEntry in east"));
    table.row(entry_seen.row("floor: applied object seen by a watch"));
    table.print();

    let mut table = Table::new(["ms of one step of the floor", "p50", "p90", "p99", "max"]);
    table.row(floor(|steps| steps.slice_seen).row("PATCH -> watch of slices"));
    table.row(floor(|steps| steps.put_seen - steps.slice_seen).row("etcd put -> etcd watch"));
    table.row(floor(|steps| steps.entry_seen - steps.put_seen).row("apply -> watch of ServiceEntries"));
    table.print();

    let resolutions = samples.federated.iter().map(|times| times.resolution.as_secs_f64() * 1e3);
    println!(
        "{} changes each after {} of warm-up, {} ms apart, ours and the floor in turn; \
         an answer is asked for every {:.2} ms\n",
        options.changes,
        options.warm_up,
        options.gap,
        median(resolutions),
    );
    for (name, ours, floor) in [("dns", &answer, &put_seen), ("serviceentry", &entry, &entry_seen)] {
        for percent in [50, 99] {
            let (ours, floor) = (ours.percentile(percent), floor.percentile(percent));
            figure(&format!("{name}_p{percent}"), ours, "ms");
            figure(&format!("{name}_p{percent}_floor"), floor, "ms");
            figure(&format!("{name}_p{percent}_over_floor"), ours / floor, "ratio");
        }
    }
}

/// The slice of a Service that is exported, and one of equal size for a Service that does not exist: agents leave
/// it alone.
fn manifests() -> String {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": federated::SERVICE},
        "spec": {"ports": [{"name": "http", "port": 8080, "targetPort": 8080, "appProtocol": "http"}]},
    });
    let slice = |service: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": slice_name(service),
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
            "endpoints": endpoints(Ipv4Addr::new(10, 20, 1, 254)),
        })
    };
    let [ours, floor] = [federated::SERVICE, floor::SERVICE].map(slice);
    format!("{service}\n---\n{ours}\n---\n{floor}\n")
}

fn slice_name(service: &str) -> String {
    format!("{service}-byhand")
}

/// Three endpoints, of which one changes.
fn endpoints(changing: Ipv4Addr) -> serde_json::Value {
    let endpoint =
        |address: Ipv4Addr, zone: &str| json!({"addresses": [address], "conditions": {"ready": true}, "zone": zone});
    json!([
        endpoint(changing, "west-1"),
        endpoint(Ipv4Addr::new(10, 20, 2, 1), "west-2"),
        endpoint(Ipv4Addr::new(10, 20, 3, 1), "west-3"),
    ])
}

/// An address that no other change has.
fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 20, 100 + high, low)
}

/// Patches the slice of a service in west.
async fn patch(slices: &Api<EndpointSlice>, service: &str, address: Ipv4Addr) -> Result {
    let change = Patch::Merge(json!({"endpoints": endpoints(address)}));
    slices.patch(&slice_name(service), &PatchParams::default(), &change).await?;
    Ok(())
}

/// A client with connections of its own, as another program would have.
async fn client(cluster: &Cluster) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let options = KubeConfigOptions::default();
    Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &options).await?)?)
}

async fn slices(cluster: &Cluster, ns: &Namespace) -> Result<Api<EndpointSlice>> {
    Ok(Api::namespaced(client(cluster).await?, ns))
}
