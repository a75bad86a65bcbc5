//! Datagrams: one socket, in and out, in a thread of its own. Octets in, octets out; what they mean is the responder's.
//!
//! An answer costs a receive and a send and nothing else that waits: it is sent before the next query is looked at, from
//! one buffer that is used again. That the thread waits in the receive itself, and not for an event before it, is what
//! makes it cheap. What the kernel has no room for is dropped, as any network may; who asked asks again.

use std::io;
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, recvfrom, sendto};
use socket2::SockRef;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::metrics::Transport;
use crate::responder::{Client, Pending, Responder, Response};

/// The largest datagram: what is longer than any query that could be answered is still read whole.
const DATAGRAM: usize = 65_535;

/// Queries that are still answered when stopping, at most: more than a receive buffer holds, but where they never cease.
const LAST: usize = 16_384;

/// Answers that somebody else is asked for, at most, between the thread and those who wait for them.
const HANDED_OVER: usize = 1024;

/// Answers until told to stop, and then what has arrived.
///
/// # Errors
/// What the system says when the socket cannot be read any more, or there can be no thread more.
pub(crate) async fn serve(socket: UdpSocket, responder: Responder, shutdown: CancellationToken) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    let serving = Serving(Arc::new(Socket { socket, stopping: AtomicBool::new(false) }));
    let (end, mut ended) = oneshot::channel();
    let (hand_over, mut handed_over) = mpsc::channel(HANDED_OVER);
    let socket = serving.0.clone();
    let thread = move || _ = end.send(socket.serve(&responder, &hand_over));
    thread::Builder::new().name("dns-udp".to_owned()).spawn(thread)?;
    let mut waiting = JoinSet::new();
    let ended = loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled(), if !serving.0.is_stopping() => serving.stop(),
            Some((pending, peer)) = handed_over.recv() => {
                let socket = serving.0.clone();
                waiting.spawn(async move {
                    if let Some(reply) = pending.await {
                        socket.send(&reply, &peer);
                    }
                });
            }
            Some(_) = waiting.join_next() => {}
            // Last: whatever the thread has handed over by then is waited for.
            ended = &mut ended => break ended,
        }
    };
    while waiting.join_next().await.is_some() {}
    ended.unwrap_or_else(|_| Err(io::Error::other("the thread of a socket died")))
}

/// A socket that a thread serves until this is dropped.
struct Serving(Arc<Socket>);

struct Socket {
    socket: UdpSocket,
    stopping: AtomicBool,
}

/// An answer that somebody else is asked for, and whose it is.
type HandedOver = (Pending, SocketAddrAny);

// === impl Serving ===

impl Serving {
    fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        // Linux says that the socket is not connected, and wakes up who waits for it nevertheless.
        _ = SockRef::from(&self.0.socket).shutdown(Shutdown::Read);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Socket ===

impl Socket {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn serve(&self, responder: &Responder, later: &mpsc::Sender<HandedOver>) -> io::Result<()> {
        let mut query = vec![0; DATAGRAM];
        let mut reply = Vec::with_capacity(DATAGRAM);
        let mut last = LAST;
        while last > 0 {
            last -= usize::from(self.is_stopping());
            match recvfrom(&self.socket, &mut *query, RecvFlags::empty()) {
                Ok((len, _, Some(peer))) => {
                    if let Some(pending) = self.answer(responder, &query[..len], &peer, &mut reply) {
                        // Where there are too many, who asked asks again.
                        _ = later.try_send((pending, peer));
                    }
                }
                // From a socket that is shut down comes what had arrived, and then nothing from nobody.
                Ok((_, _, None)) => break,
                // What a peer that is gone has had to say of an earlier answer.
                Err(error) if is_of_a_peer(error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        responder: &Responder,
        query: &[u8],
        peer: &SocketAddrAny,
        reply: &mut Vec<u8>,
    ) -> Option<Pending> {
        let address = SocketAddr::try_from(peer.clone()).ok()?.ip();
        let client = Client { address, transport: Transport::Udp, keep: 0 };
        reply.clear();
        match responder.respond(query, client, reply) {
            Response::Replied => self.send(reply, peer),
            Response::Silent => {}
            Response::Elsewhere(pending) => return Some(pending),
        }
        None
    }

    fn send(&self, reply: &[u8], peer: &SocketAddrAny) {
        if let Err(error) = sendto(&self.socket, reply, SendFlags::empty(), peer) {
            debug!(?peer, %error, "dns reply not sent");
        }
    }
}

fn is_of_a_peer(error: Errno) -> bool {
    matches!(error, Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::CONNREFUSED | Errno::CONNRESET | Errno::INTR)
}
