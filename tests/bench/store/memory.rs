//! What an agent of a large fleet holds, how long it takes to start, and how large the store is on disk.

use std::path::Path;
use std::time::Duration;

use harness::{Parts, Result};

use super::agent::{Agent, Memory};
use super::member::{Counts, Member};
use super::shape::Shape;
use super::{ETCD, agent_ports};

/// What one start has given.
pub(super) struct Measured {
    /// From the start of the process until it was ready and answered.
    pub(super) ready: Duration,
    /// Until every object was written.
    pub(super) emitted: Duration,
    pub(super) memory: Memory,
    /// CPU time until then.
    pub(super) cpu: Duration,
}

/// Starts an agent with a store of this shape that nothing else uses.
pub(super) async fn measure(parts: &Parts, directory: &Path, shape: &Shape) -> Result<(Measured, Counts)> {
    let root = "/large";
    let etcd = Member::start(parts, directory, ETCD).await?;
    etcd.fill(root, shape).await?;
    let agent = Agent::start(directory, &etcd, root, agent_ports(0))?;
    let measured = settled(&agent, shape).await?;
    Ok((measured, etcd.counts()?))
}

/// Waits until an agent has done all that a start is followed by.
pub(super) async fn settled(agent: &Agent, shape: &Shape) -> Result<Measured> {
    // The names that are read last.
    let (cluster, service) = (if shape.shared { 0 } else { shape.clusters - 1 }, shape.services - 1);
    let host = shape.host(cluster, service)?;
    let ready = agent.ready(&host, shape.vip(cluster, service).v4).await?;
    let emitted = agent.emitted(shape.names()).await?;
    Ok(Measured { ready, emitted, cpu: agent.cpu()?, memory: agent.memory().await? })
}
