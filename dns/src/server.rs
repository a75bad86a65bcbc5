//! Serving: every socket of a listener, until told to stop. A message is answered from the current snapshot, which is
//! loaded without a lock, by [`reply`](crate::reply::reply()); how it comes and goes is for [`crate::udp`] and [`crate::tcp`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::bind::{Bound, Pair};
use crate::metrics::{Metrics, Transport};
use crate::reply::reply;
use crate::zones::Zones;
use crate::{tcp, udp};

/// What a listener puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// TCP connections at once, on each address; more are closed as they come.
    ///
    /// 4096 by default: several CoreDNS replicas with a thousand queries in flight each.
    pub tcp_connections: usize,
    /// How long a TCP connection may be silent.
    ///
    /// 30 s by default: CoreDNS closes a connection 10 to 20 s after its last query, and the side that asks should be
    /// the one that closes, or a query may cross the end of its connection.
    pub tcp_idle: Duration,
}

/// Serving ended although nobody asked for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A bound socket could not be handed to the runtime.
    #[error("cannot watch {address}")]
    Watch {
        /// The socket's.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A datagram socket failed for good.
    #[error("udp service ended")]
    Udp(#[source] std::io::Error),
    /// A task died.
    #[error("a task of the dns service died")]
    Died(#[source] JoinError),
}

/// Answers from whatever the current snapshot is.
#[derive(Clone)]
pub(crate) struct Responder {
    zones: Arc<ArcSwap<Zones>>,
    throw: fn() -> u32,
    metrics: Metrics,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { tcp_connections: 4096, tcp_idle: Duration::from_secs(30) }
    }
}

// === impl Bound ===

impl Bound {
    /// Answers from the current value of `zones` until `shutdown`. `throw` gives a random number, by which some of very many
    /// records are chosen.
    ///
    /// At shutdown TCP answers what has arrived, for a second at most, and UDP meanwhile and until nothing more waits.
    ///
    /// # Errors
    ///
    /// [`ServeError`], when a socket fails for good.
    pub async fn serve(
        self,
        zones: Arc<ArcSwap<Zones>>,
        limits: Limits,
        throw: fn() -> u32,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        if self.pairs.is_empty() {
            shutdown.cancelled().await;
            return Ok(());
        }
        let responder = Responder { zones, throw, metrics };
        // Datagrams are answered for as long as connections are.
        let last = CancellationToken::new();
        let (mut datagrams, mut connections) = (JoinSet::new(), JoinSet::new());
        for Pair { address, udp, tcp } in self.pairs {
            let watch = |source| ServeError::Watch { address, source };
            for socket in udp {
                datagrams.spawn(udp::serve(socket, responder.clone(), last.clone()));
            }
            let listener = tcp::Listener {
                socket: tokio::net::TcpListener::from_std(tcp).map_err(watch)?,
                respond: responder.clone(),
                connections: limits.tcp_connections,
                idle: limits.tcp_idle,
                metrics: responder.metrics.clone(),
                shutdown: shutdown.clone(),
            };
            connections.spawn(listener.serve());
        }
        while !connections.is_empty() {
            tokio::select! {
                Some(ended) = connections.join_next() => ended.map_err(ServeError::Died)?,
                Some(ended) = datagrams.join_next() => ended.map_err(ServeError::Died)?.map_err(ServeError::Udp)?,
            }
        }
        last.cancel();
        while let Some(ended) = datagrams.join_next().await {
            ended.map_err(ServeError::Died)?.map_err(ServeError::Udp)?;
        }
        Ok(())
    }
}

// === impl Responder ===

impl Responder {
    /// Adds the answer to a message to `out`; says whether there is one.
    pub(crate) fn respond(&self, message: &[u8], transport: Transport, out: &mut Vec<u8>) -> bool {
        let replied = reply(&self.zones.load(), message, transport, (self.throw)(), out);
        if let Some(replied) = replied {
            self.metrics.replied(transport, replied);
        }
        replied.is_some()
    }
}

impl tcp::Respond for Responder {
    fn respond(&self, message: &[u8], out: &mut Vec<u8>) -> bool {
        Self::respond(self, message, Transport::Tcp, out)
    }
}

#[cfg(test)]
mod tests;
