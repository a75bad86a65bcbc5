//! An agent that writes into a real API server: what a start and a change cost, in writes, requests, CPU time and memory.
//! What it does there is counted by the API server's audit log, not by the agent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::{Agent, Cluster, Fleet, Reader, Result, Rule, eventually};
use serde_json::json;

use super::Options;
use crate::cpu;
use crate::records::Records;
use crate::report::Table;
use crate::shape::Shape;

/// Much more than writing ten thousand objects takes.
const START: Duration = Duration::from_mins(10);

/// From the last write until memory and requests are looked at: buffers are given back, and whatever follows is done.
const SETTLE: Duration = Duration::from_secs(5);

/// What is emitted, and what can be done to it.
const KINDS: [&str; 3] = ["serviceentries", "destinationrules", "gateways"];
const WRITES: [&str; 4] = ["create", "update", "patch", "delete"];

/// Requests by what they did.
type Requests = BTreeMap<String, usize>;

/// A start where everything is there already, and one without emission.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// From the start of the process until everything is known to be in place.
    pub(super) settled: Duration,
    /// Objects written until some time after that.
    pub(super) writes: usize,
    /// CPU time until then.
    pub(super) cpu: Duration,
    /// Resident bytes, and those of an agent that emits nothing.
    pub(super) resident: u64,
    pub(super) resident_without: u64,
}

/// All that is measured.
pub(super) struct Measured {
    /// From the start of the process until every object was written for the first time.
    pub(super) first: Duration,
    /// Objects that were written then.
    pub(super) first_writes: usize,
    pub(super) starts: Vec<Start>,
    /// CPU time of the agent for a change, in microseconds.
    pub(super) change_cpu: f64,
    /// Objects written for a change.
    pub(super) change_writes: f64,
    /// What was asked of the API server while changes came.
    requests: Requests,
    /// For how long.
    took: Duration,
}

/// A cluster into which agents write one after the other, each with the rights that it needs and no more.
struct Target<'a> {
    fleet: &'a Fleet,
    cluster: &'a Cluster,
    reader: Reader,
    /// Objects that are to be there.
    objects: f64,
}

/// Fills the fleet's store, and starts one agent after the other in the cluster.
pub(super) async fn measure(fleet: &Fleet, cluster: &Cluster, shape: &Shape, options: &Options) -> Result<Measured> {
    let mut records = Records::fill(&fleet.store().endpoint(), fleet.root(), shape).await?;
    let mut rules = Rule::of_an_agent();
    let verbs = ["list", "watch", "create", "patch", "delete"];
    rules.extend(KINDS.map(|kind| Rule::everywhere("networking.istio.io", kind, &verbs)));
    rules.push(Rule::everywhere("networking.istio.io", "virtualservices", &verbs[..2]));
    let reader = cluster.reader_with("bench", rules).await?;
    let target = Target { fleet, cluster, reader, objects: f64::from(2 * shape.names()) };

    let before = target.reader.requests()?.len();
    let start = Instant::now();
    let agent = target.agent(true).await?;
    target.in_place(&agent).await?;
    let first = start.elapsed();
    let first_writes = written(&target.since(before)?);
    end(agent).await?;

    let mut starts = Vec::new();
    for _ in 0..options.rounds {
        starts.push(target.start_again(shape).await?);
    }
    let agent = target.agent(true).await?;
    target.in_place(&agent).await?;
    tokio::time::sleep(SETTLE).await;
    let (before, cpu_before, start) = (target.reader.requests()?.len(), cpu::of_tree(agent.pid()?)?, Instant::now());
    let mut revision = 0;
    for _ in 0..options.changes {
        revision = records.change().await?;
        // Changes come one at a time, as far apart as was asked for: the pace is part of the measurement.
        tokio::time::sleep(Duration::from_millis(options.gap)).await;
    }
    let cpu = cpu::of_tree(agent.pid()?)? - cpu_before;
    let took = start.elapsed();
    agent.wait_for(revision).await?;
    // What would be written once more would be so by then.
    tokio::time::sleep(SETTLE).await;
    target.in_place(&agent).await?;
    let requests = target.since(before)?;
    end(agent).await?;
    let changes = f64::from(options.changes);
    Ok(Measured {
        first,
        first_writes,
        starts,
        change_cpu: cpu.as_secs_f64() * 1e6 / changes,
        change_writes: written(&requests) as f64 / changes,
        requests,
        took,
    })
}

// === impl Measured ===

impl Measured {
    /// What was asked of the API server while changes came, and how much of it a change.
    pub(super) fn print_requests(&self, changes: u16) {
        let mut table = Table::new(["requests while changes came", "all", "a change"]);
        for (what, count) in &self.requests {
            table.row([what.clone(), count.to_string(), format!("{:.2}", *count as f64 / f64::from(changes))]);
        }
        table.print();
        println!("{changes} changes of one endpoint each in {:.1} s\n", self.took.as_secs_f64());
    }

    /// Requests of any kind for a change.
    pub(super) fn requests_per_change(&self, changes: u16) -> f64 {
        self.requests.values().sum::<usize>() as f64 / f64::from(changes)
    }
}

// === impl Target ===

impl Target<'_> {
    /// Starts an agent of the cluster.
    async fn agent(&self, emits: bool) -> Result<Agent> {
        let kubeconfig = self.reader.kubeconfig_file()?;
        let setup = self.fleet.agent_of(self.cluster).config(|config| {
            config["clusters"][0]["kubernetes"]["kubeconfig"] = json!(kubeconfig);
            // A line for each of ten thousand objects would be part of a start.
            config["log"] = json!({"filter": "warn"});
        });
        if emits { setup.emitting().launch().await } else { setup.launch().await }
    }

    /// Waits until every object is known to be as it should be.
    async fn in_place(&self, agent: &Agent) -> Result {
        eventually(START, "every object is in place", async || {
            let metrics = agent.metrics().await?;
            let (known, failures) = (metric(&metrics, "emitted_objects")?, metric(&metrics, "emit_failures_total")?);
            ensure!(known >= self.objects, "{known} of {} objects are, and {failures} writes failed", self.objects);
            Ok(())
        })
        .await
    }

    async fn start_again(&self, shape: &Shape) -> Result<Start> {
        let agent = self.agent(false).await?;
        eventually(START, "the agent is ready", async || {
            let metrics = agent.metrics().await?;
            let services = metric(&metrics, "services")?;
            ensure!(metric(&metrics, "ready")? > 0.0 && services >= f64::from(shape.names()), "{services} services");
            Ok(())
        })
        .await?;
        // Memory is given back without a sign; the time is part of what is measured.
        tokio::time::sleep(SETTLE).await;
        let resident_without = agent.leaks()?.resident;
        end(agent).await?;

        let before = self.reader.requests()?.len();
        let start = Instant::now();
        let agent = self.agent(true).await?;
        self.in_place(&agent).await?;
        let settled = start.elapsed();
        let cpu = cpu::of_tree(agent.pid()?)?;
        tokio::time::sleep(SETTLE).await;
        let resident = agent.leaks()?.resident;
        let writes = written(&self.since(before)?);
        end(agent).await?;
        Ok(Start { settled, writes, cpu, resident, resident_without })
    }

    /// What was asked for after so many requests.
    fn since(&self, before: usize) -> Result<Requests> {
        let mut counts = Requests::new();
        for request in &self.reader.requests()?[before..] {
            let what = if request.resource.is_empty() { &request.uri } else { &request.resource };
            *counts.entry(format!("{} {what}", request.verb)).or_default() += 1;
        }
        Ok(counts)
    }
}

/// How many of these wrote an object that is emitted.
fn written(requests: &Requests) -> usize {
    let writes = WRITES.iter().flat_map(|verb| KINDS.iter().map(move |kind| format!("{verb} {kind}")));
    writes.filter_map(|what| requests.get(&what)).sum()
}

/// As an operator ends it.
async fn end(agent: Agent) -> Result {
    agent.terminate().await?;
    Ok(())
}

/// One of the agent's metrics without labels.
fn metric(metrics: &str, name: &str) -> Result<f64> {
    let value = |line: &str| line.strip_prefix("federator_")?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    let value = metrics.lines().find_map(value);
    Ok(value.with_context(|| format!("the agent has no metric {name}"))?.trim().parse()?)
}
