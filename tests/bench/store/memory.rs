//! What an agent of a large fleet holds, how long it takes to start with and without its snapshot, and how large the
//! store is on disk.

use std::path::Path;
use std::time::Duration;

use harness::{Parts, Result};

use super::agent::{Agent, Memory};
use super::member::{Counts, Member};
use super::{ETCD, agent_ports};
use crate::records::Records;
use crate::shape::Shape;

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

/// A start with what an earlier process has kept, and without a store.
pub(super) struct Again {
    /// From the start of the process until it answered.
    pub(super) answers: Duration,
    /// CPU time until then.
    pub(super) cpu: Duration,
    /// Of what was kept.
    pub(super) bytes: f64,
}

/// All that is measured of one shape.
pub(super) struct Large {
    pub(super) measured: Measured,
    pub(super) counts: Counts,
    pub(super) again: Again,
}

/// Starts an agent with a store of this shape that nothing else uses.
pub(super) async fn measure(parts: &Parts, directory: &Path, shape: &Shape) -> Result<Large> {
    let root = "/large";
    let etcd = Member::start(parts, directory, ETCD).await?;
    Records::fill(&etcd.endpoint(), root, shape).await?;
    let agent = Agent::start(directory, &etcd.endpoint(), root, agent_ports(0))?;
    let measured = settled(&agent, shape).await?;
    let bytes = agent.kept().await?;
    let (counts, endpoint) = (etcd.counts()?, etcd.endpoint());
    drop((agent, etcd));
    // There is no store any more.
    let agent = Agent::start(directory, &endpoint, root, agent_ports(1))?;
    let (host, vip) = shape.last()?;
    let answers = agent.answers(&host, vip).await?;
    Ok(Large { measured, counts, again: Again { answers, cpu: agent.cpu()?, bytes } })
}

/// Waits until an agent has done all that a start is followed by.
pub(super) async fn settled(agent: &Agent, shape: &Shape) -> Result<Measured> {
    let (host, vip) = shape.last()?;
    let ready = agent.ready(&host, vip).await?;
    let emitted = agent.emitted(shape.names()).await?;
    Ok(Measured { ready, emitted, cpu: agent.cpu()?, memory: agent.memory().await? })
}
