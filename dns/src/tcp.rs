//! Connections: accept, frame, bound, drain. Octets in, octets out; what they mean is the caller's.
//!
//! hickory-server has a TCP loop of its own, but it accepts without bound and loses what it holds when it stops.
//! One connection is served in order, one message at a time (RFC 7766 allows pipelining, and so do we); CoreDNS sends
//! one query at a time on each of its connections and opens as many as it has queries in flight.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::metrics::Metrics;

/// A client that does not take its answer for so long is gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// When stopping, a connection that is quiet for so long has nothing under way.
const LAST_CALL: Duration = Duration::from_millis(100);

/// When stopping, even a busy connection ends after this.
const DRAIN: Duration = Duration::from_secs(1);

/// Accepting fails when descriptors run out; they come back when connections end, not sooner for asking.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Most queries fit at once, length included.
const FIRST_BUFFER: usize = 512;

/// Turns one message into its answer; `None` ends the connection.
pub(crate) trait Respond: Clone + Send + Sync + 'static {
    fn respond(&self, message: Vec<u8>, peer: SocketAddr) -> Option<Vec<u8>>;
}

/// One listening socket.
pub(crate) struct Listener<R> {
    pub(crate) socket: TcpListener,
    pub(crate) respond: R,
    /// How many connections at once.
    pub(crate) connections: usize,
    /// How long one may be silent.
    pub(crate) idle: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
}

struct Connection<R> {
    stream: TcpStream,
    peer: SocketAddr,
    respond: R,
    idle: Duration,
    shutdown: CancellationToken,
    /// What was read and is not yet a whole message.
    buffer: Vec<u8>,
}

// === impl Listener ===

impl<R: Respond> Listener<R> {
    /// Serves until shutdown, then what has arrived by then, for a second at most.
    pub(crate) async fn serve(self) {
        let permits = Arc::new(Semaphore::new(self.connections));
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok(accepted) => self.admit(accepted, &permits, &mut tasks),
                    Err(error) => {
                        debug!(%error, "dns connection not accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        warn!(%error, "dns connection failed");
                    }
                }
                () = self.shutdown.cancelled() => break,
            }
        }
        // Who was let into the backlog before the stop has been promised an answer by the kernel's handshake.
        loop {
            tokio::select! {
                biased;
                accepted = self.socket.accept() => match accepted {
                    Ok(accepted) => self.admit(accepted, &permits, &mut tasks),
                    Err(_) => break,
                },
                () = ready(()) => break,
            }
        }
        drop(self.socket);
        let drained = timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            debug!(connections = tasks.len(), "dns connections cut at shutdown");
        }
    }

    fn admit(&self, (stream, peer): (TcpStream, SocketAddr), permits: &Arc<Semaphore>, tasks: &mut JoinSet<()>) {
        // A closed connection is tried elsewhere within milliseconds; one that waits costs its client a timeout.
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            self.metrics.tcp_turned_away.inc();
            return;
        };
        let open = self.metrics.open();
        let connection = Connection {
            stream,
            peer,
            respond: self.respond.clone(),
            idle: self.idle,
            shutdown: self.shutdown.clone(),
            buffer: Vec::with_capacity(FIRST_BUFFER),
        };
        tasks.spawn(async move {
            if let Err(error) = connection.serve().await {
                debug!(%peer, %error, "dns connection broke");
            }
            drop((permit, open));
        });
    }
}

// === impl Connection ===

impl<R: Respond> Connection<R> {
    async fn serve(mut self) -> io::Result<()> {
        // An answer is written at once and is all there is to send.
        self.stream.set_nodelay(true)?;
        let shutdown = self.shutdown.clone();
        loop {
            let stopping = shutdown.is_cancelled();
            let patience = if stopping { LAST_CALL } else { self.idle };
            let message = tokio::select! {
                biased;
                read = timeout(patience, self.read()) => match read {
                    Ok(message) => message?,
                    Err(_idle) => return Ok(()),
                },
                // What was read so far stays in the buffer; the patience is another one from here on.
                () = shutdown.cancelled(), if !stopping => continue,
            };
            let Some(message) = message else { return Ok(()) };
            let Some(reply) = self.respond.respond(message, self.peer) else {
                return Ok(());
            };
            timeout(WRITE_PATIENCE, self.write(&reply)).await??;
        }
    }

    /// The next message; `None` at the end of the stream. May be dropped at any time without loss.
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some((length, rest)) = self.buffer.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*length));
                if let Some(message) = rest.get(..length) {
                    let message = message.to_vec();
                    self.buffer.drain(..2 + length);
                    return Ok(Some(message));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// RFC 7766, section 8: length and message in one write, or some clients see two messages.
    async fn write(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u16::try_from(message.len()).map_err(io::Error::other)?;
        let framed = [length.to_be_bytes().as_slice(), message].concat();
        self.stream.write_all(&framed).await
    }
}
