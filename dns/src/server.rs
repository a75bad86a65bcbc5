//! Serving: every socket of a listener, until told to stop. What a message is answered is for a [`Responder`] to say; how it
//! comes and goes is for [`crate::udp`] and [`crate::tcp`].

use std::net::SocketAddr;
use std::num::NonZero;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::bind::{Bound, Pair};
use crate::responder::Responder;
use crate::seats::Seats;
use crate::{tcp, udp};

/// What a listener puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// TCP connections at once, on all addresses together; more are closed as they come.
    ///
    /// 4096 by default: several CoreDNS replicas with a thousand queries in flight each.
    pub tcp_connections: usize,
    /// Those of one client that is no [forwarder](crate::Policy::forwarders); none by default, which sets no limit.
    pub tcp_per_client: Option<NonZero<usize>>,
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

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { tcp_connections: 4096, tcp_per_client: None, tcp_idle: Duration::from_secs(30) }
    }
}

// === impl Bound ===

impl Bound {
    /// Answers until `shutdown`.
    ///
    /// At shutdown TCP answers what has arrived, for a second at most, and UDP meanwhile and until nothing more waits.
    ///
    /// # Errors
    ///
    /// [`ServeError`], when a socket fails for good.
    pub async fn serve(
        self,
        responder: Responder,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        if self.pairs.is_empty() {
            shutdown.cancelled().await;
            return Ok(());
        }
        let seats = Seats::new(limits, responder.policy.clone());
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
                responder: responder.clone(),
                seats: seats.clone(),
                idle: limits.tcp_idle,
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

#[cfg(test)]
mod tests;
