//! An agent that observes clusters from its start on: how long it takes, and what it holds and asks for then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::{Agent, Fleet, Reader, Result, eventually};
use serde_json::json;

use super::Source;
use crate::report::Table;

/// Much more than the first sync of three full clusters takes.
const SYNC: Duration = Duration::from_mins(5);

/// From the first sync until memory is looked at: buffers are given back, and whatever follows is done.
const SETTLE: Duration = Duration::from_secs(5);

/// Everything that there is much of.
const LISTS: [&str; 4] = ["services", "endpointslices", "pods", "nodes"];

/// What an agent needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// From the start of its process until it knew all services.
    pub(super) synced: Duration,
    /// Resident bytes when it had settled.
    pub(super) resident: u64,
    /// The most there ever were.
    pub(super) peak: u64,
}

/// Starts an agent for these clusters, in the place of the first, and waits until it knows that many services.
/// It answers DNS, has its store in memory, and emits nothing.
pub(super) async fn measure(fleet: &Fleet, sources: &[&Source<'_>], services: u32) -> Result<(Measured, Agent)> {
    let mut clusters = Vec::new();
    for source in sources {
        let kubeconfig = source.reader.kubeconfig_file()?;
        clusters.push(json!({"id": source.cluster.name(), "kubernetes": {"kubeconfig": kubeconfig}}));
    }
    let setup = fleet.agent_of(sources[0].cluster).embedded().config(|config| {
        config["clusters"] = json!(clusters);
        if let Some(config) = config.as_object_mut() {
            config.remove("emit");
        }
    });
    let start = Instant::now();
    let agent = setup.launch().await?;
    eventually(SYNC, "the agent knows every service", async || {
        // Metrics cost the agent less than its status, which names every service.
        let metrics = agent.metrics().await?;
        let observed = metrics.lines().filter(|line| line.starts_with("federator_observed{") && line.ends_with(" 1"));
        ensure!(observed.count() == sources.len(), "not every cluster was seen whole");
        let known = metrics.lines().find_map(|line| line.strip_prefix("federator_services "));
        ensure!(known.context("no number of services")?.parse::<u32>()? >= services, "it has {known:?}");
        Ok(())
    })
    .await?;
    let synced = start.elapsed();
    // Memory is given back without a sign; the time is part of what is measured.
    tokio::time::sleep(SETTLE).await;
    let leaks = agent.leaks()?;
    Ok((Measured { synced, resident: leaks.resident, peak: leaks.peak }, agent))
}

/// What is asked for with a credential: until the first sync has settled, and while nothing changes then.
pub(super) struct Requests<'a> {
    reader: &'a Reader,
    /// Those of others, before.
    earlier: usize,
    /// By verb and resource.
    counts: BTreeMap<String, [usize; 2]>,
}

impl<'a> Requests<'a> {
    /// Begins before the agent that uses it is started.
    pub(super) fn of(reader: &'a Reader) -> Result<Self> {
        Ok(Self { reader, earlier: reader.requests()?.len(), counts: BTreeMap::new() })
    }

    pub(super) fn end_sync(&mut self) -> Result {
        self.count(0)
    }

    pub(super) fn end_idle(&mut self) -> Result {
        self.count(1)
    }

    /// The large lists that were read in the first sync.
    pub(super) fn listed(&self) -> Vec<&'static str> {
        LISTS.into_iter().filter(|list| self.counts.contains_key(&format!("list {list}"))).collect()
    }

    /// Requests while nothing changed.
    pub(super) fn idle(&self) -> usize {
        self.counts.values().map(|[_, idle]| idle).sum()
    }

    pub(super) fn print(&self) {
        let mut table = Table::new(["requests", "first sync", "nothing changes"]);
        for (what, counts) in &self.counts {
            table.row([what.clone()].into_iter().chain(counts.map(|count| count.to_string())).collect::<Vec<_>>());
        }
        table.print();
    }

    fn count(&mut self, column: usize) -> Result {
        let requests = self.reader.requests()?;
        for request in &requests[self.earlier..] {
            let what = if request.resource.is_empty() { &request.uri } else { &request.resource };
            self.counts.entry(format!("{} {what}", request.verb)).or_default()[column] += 1;
        }
        self.earlier = requests.len();
        Ok(())
    }
}
