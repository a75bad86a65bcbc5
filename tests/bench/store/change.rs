//! What one change costs an agent: in a small fleet and in a large one, in a service of ten endpoints and in one of a
//! thousand. Changes are written straight into the store, each in a transaction of its own and long enough after the
//! last one to be an event of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use harness::{Parts, Result};

use super::agent::Agent;
use super::member::Member;
use super::{ETCD, Options, agent_ports};
use crate::records::Records;
use crate::shape::Shape;

/// A thousand services of ten endpoints, as in every cluster of the large fleet.
const SMALL: Shape = Shape { clusters: 10, services: 100, slices: 1, endpoints: 10, shared: false };

/// Services of a thousand endpoints of one cluster each.
const DEEP: Shape = Shape { clusters: 1, services: 10, slices: 10, endpoints: 100, shared: false };

/// Services of a thousand endpoints, ten in each cluster.
const WIDE: Shape = Shape { clusters: 100, services: 10, slices: 1, endpoints: 10, shared: true };

/// What an agent needed for a change, in microseconds, and how many objects it wrote for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) cpu: f64,
    pub(super) writes: f64,
}

/// One round, all within seconds.
pub(super) struct Round {
    pub(super) small: Cost,
    pub(super) large: Cost,
    pub(super) deep: Cost,
    pub(super) wide: Cost,
}

/// A store and the agent that follows it.
struct Fleet {
    records: Records,
    agent: Agent,
}

/// Measures in turn, round by round.
pub(super) async fn measure(options: &Options, parts: &Parts, directory: &Path) -> Result<Vec<Round>> {
    let etcd = Member::start(parts, directory, ETCD).await?;
    let large = Shape { clusters: options.clusters, services: options.services, ..SMALL };
    let mut fleets = Vec::new();
    for (number, shape) in [SMALL, large, DEEP, WIDE].into_iter().enumerate() {
        let root = format!("/fleet-{number}");
        let records = Records::fill(&etcd.endpoint(), &root, &shape).await?;
        let agent =
            Agent::start(&directory.join(root.trim_matches('/')), &etcd.endpoint(), &root, agent_ports(number))?;
        super::memory::settled(&agent, &shape).await?;
        fleets.push(Fleet { records, agent });
    }
    let mut rounds = Vec::new();
    // The first one is not counted: memory is touched for the first time, and processors wake.
    for _ in 0..=options.rounds {
        let mut costs = Vec::new();
        for fleet in &mut fleets {
            costs.push(fleet.round(options).await?);
        }
        let [small, large, deep, wide] = costs.try_into().ok().context("four fleets")?;
        rounds.push(Round { small, large, deep, wide });
    }
    rounds.remove(0);
    Ok(rounds)
}

// === impl Fleet ===

impl Fleet {
    async fn round(&mut self, options: &Options) -> Result<Cost> {
        let gap = Duration::from_millis(options.gap);
        let writes = self.agent.metric("federator_emit_writes_total")?;
        let before = self.agent.cpu()?;
        let mut revision = 0;
        for _ in 0..options.changes {
            revision = self.records.change().await?;
            // Changes come one at a time, as far apart as was asked for: the pace is part of the measurement.
            tokio::time::sleep(gap).await;
        }
        let cpu = self.agent.cpu()? - before;
        self.agent.wait_for(revision).await?;
        let writes = self.agent.metric("federator_emit_writes_total")? - writes;
        let changes = f64::from(options.changes);
        Ok(Cost { cpu: cpu.as_secs_f64() * 1e6 / changes, writes: writes / changes })
    }
}
