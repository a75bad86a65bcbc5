//! Datagrams: one socket, in and out, in a thread of its own. Octets in, octets out; what they mean is the responder's.
//!
//! An answer costs a receive and a send and nothing else that waits: it is sent before the next query is looked at, from
//! one buffer that is used again. That the thread waits in the receive itself, and not for an event before it, is what
//! makes it cheap. What the kernel has no room for is dropped, as any network may; who asked asks again.

use std::io;
use std::net::{Shutdown, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, recvfrom, sendto};
use socket2::SockRef;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::metrics::Transport;
use crate::server::Responder;

/// The largest datagram: what is longer than any query that could be answered is still read whole.
const DATAGRAM: usize = 65_535;

/// Queries that are still answered when stopping, at most: more than a receive buffer holds, but where they never cease.
const LAST: usize = 16_384;

/// Answers until told to stop, and then what has arrived.
///
/// # Errors
/// What the system says when the socket cannot be read any more, or there can be no thread more.
pub(crate) async fn serve(socket: UdpSocket, responder: Responder, shutdown: CancellationToken) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    let shared = Shared(Arc::new(Inner { socket, stopping: AtomicBool::new(false) }));
    let (end, mut ended) = oneshot::channel();
    let inner = shared.0.clone();
    thread::Builder::new().name("dns-udp".to_owned()).spawn(move || _ = end.send(inner.serve(&responder)))?;
    let ended = tokio::select! {
        ended = &mut ended => ended,
        () = shutdown.cancelled() => {
            drop(shared);
            ended.await
        }
    };
    ended.unwrap_or_else(|_| Err(io::Error::other("the thread of a socket died")))
}

/// What a thread serves until this is dropped.
struct Shared(Arc<Inner>);

struct Inner {
    socket: UdpSocket,
    stopping: AtomicBool,
}

// === impl Shared ===

impl Drop for Shared {
    fn drop(&mut self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        // Linux says that the socket is not connected, and wakes up who waits for it nevertheless.
        _ = SockRef::from(&self.0.socket).shutdown(Shutdown::Read);
    }
}

// === impl Inner ===

impl Inner {
    fn serve(&self, responder: &Responder) -> io::Result<()> {
        let mut query = vec![0; DATAGRAM];
        let mut reply = Vec::with_capacity(DATAGRAM);
        let mut last = LAST;
        while last > 0 {
            let stopping = self.stopping.load(Ordering::Relaxed);
            last -= usize::from(stopping);
            match recvfrom(&self.socket, &mut *query, RecvFlags::empty()) {
                Ok((len, _, Some(peer))) => self.answer(responder, &query[..len], &peer, &mut reply),
                // From a socket that is shut down comes what had arrived, and then nothing from nobody.
                Ok((_, _, None)) => break,
                // What a peer that is gone has had to say of an earlier answer.
                Err(error) if is_of_a_peer(error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn answer(&self, responder: &Responder, query: &[u8], peer: &SocketAddrAny, reply: &mut Vec<u8>) {
        reply.clear();
        if responder.respond(query, Transport::Udp, reply)
            && let Err(error) = sendto(&self.socket, reply, SendFlags::empty(), peer)
        {
            debug!(?peer, %error, "dns reply not sent");
        }
    }
}

fn is_of_a_peer(error: Errno) -> bool {
    matches!(error, Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::CONNREFUSED | Errno::CONNRESET | Errno::INTR)
}
