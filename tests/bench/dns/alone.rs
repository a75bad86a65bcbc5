//! Our name server without the agent around it, as a process of its own: a million records are a third of a million services,
//! and what an agent holds of these beside their names is for the benchmark of the store to say.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clap::Args;
use dns::{Bound, Limits, Metrics, Responder, Zones};
use harness::Result;
use tokio_util::sync::CancellationToken;

use super::zone;

/// What is served where.
#[derive(Args)]
pub(crate) struct Options {
    /// Where it answers
    #[arg(long)]
    address: SocketAddr,
    /// Services
    #[arg(long)]
    names: u32,
}

/// Answers until it is killed.
pub(crate) fn run(options: &Options) -> Result {
    let zones = Arc::new(ArcSwap::from_pointee(Zones::new([Arc::new(zone::ours(options.names)?)])));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let responder = Responder {
            zones,
            policy: Arc::default(),
            elsewhere: None,
            throw: || fastrand::u32(..),
            metrics: Metrics::default(),
            logs: false,
        };
        let bound = Bound::bind(&[options.address])?;
        Ok(bound.serve(responder, Limits::default(), CancellationToken::new()).await?)
    })
}
