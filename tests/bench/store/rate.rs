//! Many changes a second through a real API server: an agent observes and publishes them, another one follows. How many
//! transactions they become, who falls behind, what it costs, and how large the store grows.
//!
//! The clusters' own controllers have no part in it: services have no selector, and slices are made by hand. Both agents
//! answer DNS and write ServiceEntries into a directory, so that no other API server has a share of the cores.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use harness::{Agent, Cluster, Fleet, Namespace, Parts, Result, eventually};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::member::{Counts, Member};
use crate::ask::Asker;
use crate::cpu;

/// Ten minutes of changes, and a roll-out.
const LIMIT: Duration = Duration::from_hours(1);

/// Services that are changed all the time, with ten endpoints each.
const STEADY: u32 = 200;

/// Services that are rolled out, their pods, and how many stand in a slice.
const ROLLED: u32 = 20;
const PODS: u32 = 500;
const IN_SLICE: u32 = 100;

/// Requests under way: fewer than there are services in a roll-out, so that no two are for one slice.
const IN_FLIGHT: usize = 16;

/// East's `endpoints` listener in a test that has the fleet for itself.
const LISTENER: u16 = 5353;

/// From the last change until everybody has it.
const CATCH_UP: Duration = Duration::from_mins(2);

/// What a phase has given.
pub(super) struct Phase {
    pub(super) name: String,
    pub(super) changes: u32,
    pub(super) took: Duration,
    /// From the last change until the other agent answered with it.
    pub(super) catch_up: Duration,
    /// Transactions that the other agent was behind, at most.
    pub(super) behind: f64,
    pub(super) before: Counts,
    pub(super) after: Counts,
    /// The largest size of etcd's file.
    pub(super) size: f64,
    /// User and system time of the agent that publishes, and of the one that follows.
    pub(super) cpu: [Duration; 2],
    /// Bytes that both have resident more than before, together.
    pub(super) grown: i64,
}

/// An endpoint that becomes another one.
struct Change {
    slice: String,
    /// The slice's endpoints then.
    endpoints: Value,
    address: Ipv4Addr,
    service: String,
}

/// Everything that takes part.
struct Bench<'a> {
    west: &'a Cluster,
    east: &'a Cluster,
    ns: Namespace,
    etcd: Member,
    agents: [Agent; 2],
}

/// Makes changes for so many seconds at so many a second, then a roll-out as fast as the API server takes it.
pub(super) fn measure(parts: &Parts, directory: &Path, seconds: u32, rate: u32) -> Result<Vec<Phase>> {
    let mut phases = Vec::new();
    Fleet::exclusive_within(LIMIT, async |fleet| {
        let ns = fleet.namespace("rate").await?;
        let [west, east] = ["west", "east"].map(|name| fleet.cluster(name));
        let test = fleet.store().endpoint().replace("10.0.0.99:2379", "10.0.0.100:5379");
        let address = test.trim_start_matches("http://").parse()?;
        let etcd = Member::start(parts, directory, address).await?;
        let mut made = Vec::new();
        for service in 0..STEADY {
            made.push(manifest(&format!("steady-{service}"), &[endpoints(service, 0..10, 0)]));
        }
        for service in 0..ROLLED {
            let slices = (0..PODS / IN_SLICE).map(|slice| endpoints(1000 + service, pods(slice), 0));
            made.push(manifest(&format!("rolled-{service}"), &slices.collect::<Vec<_>>()));
        }
        for some in made.chunks(20) {
            west.apply(&ns, &some.join("\n---\n")).await?;
        }
        let start = async |name: &str| {
            let emit = directory.join(format!("emit-{name}"));
            fs::create_dir_all(&emit)?;
            let setup = fleet.agent(name).config(|config| {
                config["store"]["etcd"]["endpoints"] = json!([etcd.endpoint()]);
                config["emit"] = json!({"directory": emit});
                config["log"] = json!({"filter": "warn"});
            });
            let agent = setup.start().await?;
            agent.ready().await?;
            Ok::<_, anyhow::Error>(agent)
        };
        let agents = [start("west").await?, start("east").await?];
        let bench = Bench { west, east, ns, etcd, agents };
        bench.settled().await?;

        let changes = (0..seconds * rate).map(|number| {
            let (service, turn) = (number % STEADY, number / STEADY + 1);
            Change {
                slice: format!("steady-{service}-0"),
                endpoints: endpoints(service, 0..10, turn),
                address: pod(service, 0, turn),
                service: format!("steady-{service}"),
            }
        });
        phases.push(bench.phase(format!("{rate} changes a second"), changes, Some(rate)).await?);
        let changes = (0..PODS * ROLLED).map(|number| {
            let (service, of_service) = (number % ROLLED, number / ROLLED);
            // The pods before it have been replaced.
            let one = |pod_number: u32| {
                json!({
                    "addresses": [pod(1000 + service, pod_number, u32::from(pod_number <= of_service))],
                    "conditions": {"ready": true},
                })
            };
            Change {
                slice: format!("rolled-{service}-{}", of_service / IN_SLICE),
                endpoints: pods(of_service / IN_SLICE).map(one).collect(),
                address: pod(1000 + service, of_service, 1),
                service: format!("rolled-{service}"),
            }
        });
        phases.push(bench.phase(format!("{PODS} pods of {ROLLED} services replaced"), changes, None).await?);
        Ok(())
    })?;
    Ok(phases)
}

// === impl Bench ===

impl Bench<'_> {
    /// Makes changes, in the order of their slices but several at a time.
    async fn phase(&self, name: String, changes: impl Iterator<Item = Change>, rate: Option<u32>) -> Result<Phase> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.west.client(), &self.ns);
        let (before, cpu, held) = (self.etcd.counts()?, self.cpu()?, self.resident()?);
        let start = Instant::now();
        let (mut under_way, mut made) = (FuturesUnordered::new(), 0);
        let (mut behind, mut size, mut looked) = (0.0_f64, before.size, Instant::now());
        let mut last = None;
        for change in changes {
            if let Some(rate) = rate {
                tokio::time::sleep_until((start + Duration::from_secs(1) * made / rate).into()).await;
            }
            let Change { slice, endpoints, address, service } = change;
            last = Some((service, address));
            while under_way.len() >= IN_FLIGHT {
                under_way.next().await.context("one is under way")??;
            }
            let slices = slices.clone();
            under_way.push(async move {
                let patch = Patch::Merge(json!({"endpoints": endpoints}));
                slices.patch_metadata(&slice, &PatchParams::default(), &patch).await.map(drop)
            });
            made += 1;
            if looked.elapsed() > Duration::from_secs(1) {
                let (counts, at) = (self.etcd.counts()?, revision(&self.agents[1]).await?);
                behind = behind.max(counts.revision - at);
                size = size.max(counts.size);
                looked = Instant::now();
            }
        }
        while let Some(done) = under_way.next().await {
            done?;
        }
        let took = start.elapsed();
        let (service, address) = last.context("no change at all")?;
        let asker = Asker::new(self.east.place().port(LISTENER), &format!("{service}.{}.global", &*self.ns))?;
        let ended = Instant::now();
        eventually(CATCH_UP, "the last change is answered", async || {
            // Those of a large service do not fit into a datagram.
            ensure!(rate.is_none() || asker.has(address)?, "{address} is not there yet");
            Ok(())
        })
        .await?;
        self.settled().await?;
        let (after, later) = (self.etcd.counts()?, self.cpu()?);
        Ok(Phase {
            name,
            changes: made,
            took,
            catch_up: ended.elapsed(),
            behind,
            before,
            after,
            size: size.max(after.size),
            cpu: [later[0] - cpu[0], later[1] - cpu[1]],
            grown: self.resident()? - held,
        })
    }

    /// Waits until both agents have what etcd has, and nothing follows.
    async fn settled(&self) -> Result {
        let mut last = 0.0;
        eventually(CATCH_UP, "the agents have come to rest", async || {
            let now = self.etcd.counts()?.revision;
            for agent in &self.agents {
                let at = revision(agent).await?;
                ensure!(at >= now, "an agent is at {at}, etcd at {now}");
            }
            ensure!(std::mem::replace(&mut last, now) == now, "etcd still moves");
            Ok(())
        })
        .await
    }

    fn cpu(&self) -> Result<[Duration; 2]> {
        Ok([cpu::of_tree(self.agents[0].pid()?)?, cpu::of_tree(self.agents[1].pid()?)?])
    }

    fn resident(&self) -> Result<i64> {
        let held = self.agents.iter().map(|agent| Ok(i64::try_from(agent.leaks()?.resident)?));
        held.sum::<Result<i64>>()
    }
}

async fn revision(agent: &Agent) -> Result<f64> {
    let metrics = agent.metrics().await?;
    let at = metrics.lines().find_map(|line| line.strip_prefix("federator_revision "));
    Ok(at.context("no revision")?.parse()?)
}

/// A Service and its slices.
fn manifest(name: &str, slices: &[Value]) -> String {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 8080, "targetPort": 8080}]},
    });
    let slices = slices.iter().enumerate().map(|(number, endpoints)| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{name}-{number}"), "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        })
    });
    let all: Vec<_> = [service].into_iter().chain(slices).map(|object| object.to_string()).collect();
    all.join("\n---\n")
}

/// The numbers of the pods of a slice.
fn pods(slice: u32) -> std::ops::Range<u32> {
    slice * IN_SLICE..(slice + 1) * IN_SLICE
}

/// Endpoints of which the first has been replaced so many times.
fn endpoints(service: u32, pods: std::ops::Range<u32>, turn: u32) -> Value {
    let first = pods.start;
    let endpoint = |number: u32| {
        let turn = if number == first { turn } else { 0 };
        json!({"addresses": [pod(service, number, turn)], "conditions": {"ready": true}})
    };
    pods.map(endpoint).collect()
}

/// A pod's address after so many lives.
fn pod(service: u32, number: u32, turn: u32) -> Ipv4Addr {
    let (network, host) = match turn {
        0 => (16, service * 512 + number),
        _ if service >= 1000 => (48, service * 512 + number),
        _ => (64, turn * 256 + service),
    };
    Ipv4Addr::from((network << 24) + host)
}
