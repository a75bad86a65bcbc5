//! The listeners of the configuration: who may ask, what is counted, and who is asked for names that are not ours.

use super::{AppError, Ended};
use crate::{config::Dns, forward::Forwarder, project::dns::GROUPS};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Half of the time in which CoreDNS wants an answer.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// How all listeners answer.
#[derive(Clone)]
pub(super) struct Answers {
    policy: Arc<dns::Policy>,
    limits: dns::Limits,
    elsewhere: Option<Arc<dyn dns::Elsewhere>>,
    metrics: dns::Metrics,
    logs: bool,
}

// === impl Answers ===

impl Answers {
    /// As the configuration says; what is counted goes to `registry`.
    ///
    /// # Errors
    /// [`AppError`], when nobody can be asked for names of others.
    pub(super) fn new(config: &Dns, registry: &mut Registry) -> Result<Self, AppError> {
        let limits = &config.limits;
        let rate = limits.client_queries.map(dns::Rate::new);
        let policy = dns::Policy { allow: config.allow.clone(), forwarders: limits.forwarders.clone(), rate };
        let elsewhere: Option<Arc<dyn dns::Elsewhere>> = match &*config.forward {
            [] => None,
            servers => Some(Arc::new(Forwarder::new(servers, limits.forwarded).context("dns.forward")?)),
        };
        Ok(Self {
            policy: Arc::new(policy),
            limits: dns::Limits {
                tcp_connections: limits.connections,
                tcp_per_client: limits.client_connections,
                tcp_idle: limits.idle,
            },
            elsewhere,
            metrics: dns::Metrics::register(registry.sub_registry_with_prefix("dns"), &GROUPS),
            logs: config.query_log,
        })
    }

    /// Answers from the current zones until shutdown. What is asked before they are `complete` waits for a moment: most often
    /// there is an answer soon, and a SERVFAIL would be handed on.
    pub(super) async fn give(
        self,
        socket: dns::Bound,
        zones: Arc<ArcSwap<dns::Zones>>,
        complete: CancellationToken,
        shutdown: CancellationToken,
    ) -> Ended {
        _ = timeout(FIRST_ANSWER, complete.cancelled()).await;
        let Self { policy, limits, elsewhere, metrics, logs } = self;
        let responder = dns::Responder { zones, policy, elsewhere, throw, metrics, logs };
        socket.serve(responder, limits, shutdown).await.context("dns")?;
        Ok("dns")
    }
}

/// A random number; whoever guesses it learns nothing.
fn throw() -> u32 {
    fastrand::u32(..)
}
