//! Connections: accept, frame, bound, drain. Octets in, octets out; what they mean is the caller's.
//!
//! A bounded number of connections is accepted, and what they have sent is answered when the server stops.
//! Answers take no time, so a connection has them in order (RFC 7766 allows pipelining, and so do we), and all that arrived
//! together leave together; one that somebody else is asked for comes when it comes, after later ones too. CoreDNS sends one
//! query at a time on each of its connections and opens as many as it has queries in flight.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::metrics::Transport;
use crate::responder::{Client, Responder, Response};
use crate::seats::Seats;

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

/// Answers that leave together, in octets: more are not held for one client.
const LARGEST_WRITE: usize = 64 << 10;

/// What a connection keeps of each buffer between messages, in octets: one large answer is no reason to hold its size for as
/// long as the connection lasts, of which there may be thousands.
const KEPT: usize = 8 << 10;

/// One listening socket.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) responder: Responder,
    /// Who may have how many connections.
    pub(crate) seats: Arc<Seats>,
    /// How long one may be silent.
    pub(crate) idle: Duration,
    pub(crate) shutdown: CancellationToken,
}

struct Connection {
    stream: TcpStream,
    client: Client,
    responder: Responder,
    idle: Duration,
    shutdown: CancellationToken,
    /// What was read and is not answered yet.
    queries: Vec<u8>,
    /// What is to be written.
    replies: Vec<u8>,
    /// What somebody else is asked for.
    pending: JoinSet<Option<Vec<u8>>>,
}

/// What became of the messages that had arrived.
enum Answered {
    /// All that are whole.
    All,
    /// As many as may leave together.
    Some,
    /// One ends the connection, after the answers to those before it.
    Last,
}

// === impl Listener ===

impl Listener {
    /// Serves until shutdown, then what has arrived by then, for a second at most.
    pub(crate) async fn serve(self) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok(accepted) => self.admit(accepted, &mut tasks),
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
                    Ok(accepted) => self.admit(accepted, &mut tasks),
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

    /// What a client is told when it asks (RFC 7828, section 3.1), in tenths of a second.
    fn keep(&self) -> u16 {
        u16::try_from(self.idle.as_millis() / 100).unwrap_or(u16::MAX)
    }

    fn admit(&self, (stream, peer): (TcpStream, SocketAddr), tasks: &mut JoinSet<()>) {
        // A closed connection is tried elsewhere within milliseconds; one that waits costs its client a timeout.
        let Some(seat) = self.seats.take(peer.ip()) else {
            self.responder.metrics.tcp_turned_away.inc();
            return;
        };
        let open = self.responder.metrics.open();
        let connection = Connection {
            stream,
            client: Client { address: peer.ip(), transport: Transport::Tcp, keep: self.keep() },
            responder: self.responder.clone(),
            idle: self.idle,
            shutdown: self.shutdown.clone(),
            queries: Vec::with_capacity(FIRST_BUFFER),
            replies: Vec::with_capacity(FIRST_BUFFER),
            pending: JoinSet::new(),
        };
        tasks.spawn(async move {
            if let Err(error) = connection.serve().await {
                debug!(%peer, %error, "dns connection broke");
            }
            drop((seat, open));
        });
    }
}

// === impl Connection ===

impl Connection {
    async fn serve(mut self) -> io::Result<()> {
        // An answer is written at once and is all there is to send.
        self.stream.set_nodelay(true)?;
        let shutdown = self.shutdown.clone();
        loop {
            let stopping = shutdown.is_cancelled();
            let patience = if stopping { LAST_CALL } else { self.idle };
            let is_open = tokio::select! {
                biased;
                read = timeout(patience, self.stream.read_buf(&mut self.queries)) => match read {
                    Ok(read) => read? > 0,
                    Err(_idle) => return self.finish().await,
                },
                Some(Ok(reply)) = self.pending.join_next() => {
                    self.write_late(reply).await?;
                    continue;
                }
                // What was read so far stays; the patience is another one from here on.
                () = shutdown.cancelled(), if !stopping => continue,
            };
            if !is_open {
                return self.finish().await;
            }
            loop {
                let answered = self.answer();
                self.write().await?;
                match answered {
                    Answered::All => break,
                    Answered::Some => {}
                    Answered::Last => return self.finish().await,
                }
            }
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        timeout(WRITE_PATIENCE, self.stream.write_all(&self.replies)).await??;
        self.replies.clear();
        self.replies.shrink_to(KEPT);
        Ok(())
    }

    /// Nobody asks any more; what was asked is answered still.
    async fn finish(mut self) -> io::Result<()> {
        while let Some(replied) = self.pending.join_next().await {
            self.write_late(replied.unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// A reply that somebody else gave, if there is one.
    async fn write_late(&mut self, reply: Option<Vec<u8>>) -> io::Result<()> {
        let Some(reply) = reply else { return Ok(()) };
        if let Ok(length) = u16::try_from(reply.len()) {
            self.replies.extend_from_slice(&length.to_be_bytes());
            self.replies.extend_from_slice(&reply);
        }
        self.write().await
    }

    /// Answers what has arrived. RFC 7766, section 8: length and message in one write, or some clients see two messages.
    fn answer(&mut self) -> Answered {
        let (mut at, mut answered) = (0, Answered::All);
        let zones = self.responder.zones.load();
        while let Some((length, rest)) = self.queries[at..].split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let Some(message) = rest.get(..length) else { break };
            if self.replies.len() > LARGEST_WRITE {
                answered = Answered::Some;
                break;
            }
            at += 2 + length;
            let begin = self.replies.len();
            self.replies.extend_from_slice(&[0; 2]);
            match self.responder.respond(&zones, message, self.client, &mut self.replies) {
                Response::Replied => {}
                Response::Silent => {
                    self.replies.truncate(begin);
                    answered = Answered::Last;
                    break;
                }
                Response::Elsewhere(pending) => {
                    self.replies.truncate(begin);
                    self.pending.spawn(pending);
                    continue;
                }
            }
            // No reply is longer: what does not fit into a message is not in it.
            let length = u16::try_from(self.replies.len() - begin - 2).unwrap_or(u16::MAX);
            self.replies[begin..begin + 2].copy_from_slice(&length.to_be_bytes());
        }
        self.queries.drain(..at);
        self.queries.shrink_to(KEPT);
        answered
    }
}
