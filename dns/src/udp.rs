//! Datagrams: one socket from its start to its end, and those of its answers that somebody else is asked for. Reading and
//! answering is its threads'.

mod threads;

use std::io;
use std::net::{Shutdown, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::net::{SendFlags, SocketAddrAny, sendto};
use socket2::SockRef;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::responder::{Pending, Responder};

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
    let thread = move || _ = end.send(threads::serve(&socket, &responder, &hand_over));
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

/// A socket that its threads serve until this is dropped.
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

    fn send(&self, reply: &[u8], peer: &SocketAddrAny) {
        if let Err(error) = sendto(&self.socket, reply, SendFlags::empty(), peer) {
            debug!(?peer, %error, "dns reply not sent");
        }
    }
}
