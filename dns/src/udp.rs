//! Datagrams: one socket, in and out. Octets in, octets out; what they mean is the responder's.
//!
//! An answer costs a receive and a send and nothing else that waits: it is sent before the next query is looked at, from
//! one buffer that is used again. What the kernel has no room for is dropped, as any network may; who asked asks again.

use std::io::{self, ErrorKind};
use std::pin::pin;

use tokio::net::UdpSocket;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::metrics::Transport;
use crate::server::Responder;

/// The largest datagram: what is longer than any query that could be answered is still read whole.
const DATAGRAM: usize = 65_535;

/// After so many answers others may run, who share the thread.
const BURST: usize = 256;

/// Answers until told to stop, and then what has arrived.
///
/// # Errors
/// What the system says when the socket cannot be read any more.
pub(crate) async fn serve(socket: UdpSocket, responder: Responder, shutdown: CancellationToken) -> io::Result<()> {
    let mut buffers = Buffers { query: vec![0; DATAGRAM], reply: Vec::with_capacity(DATAGRAM) };
    let mut shutdown = pin!(shutdown.cancelled());
    loop {
        tokio::select! {
            biased;
            // First, or a stop would wait for a moment without queries.
            () = &mut shutdown => break,
            readable = socket.readable() => readable?,
        }
        if !burst(&socket, &responder, &mut buffers)? {
            yield_now().await;
        }
    }
    while !burst(&socket, &responder, &mut buffers)? {}
    Ok(())
}

struct Buffers {
    query: Vec<u8>,
    reply: Vec<u8>,
}

/// Answers what is there, but not too much at once; says whether nothing is left.
fn burst(socket: &UdpSocket, responder: &Responder, buffers: &mut Buffers) -> io::Result<bool> {
    for _ in 0..BURST {
        let (len, peer) = match socket.try_recv_from(&mut buffers.query) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            // What a peer that is gone has had to say of an earlier answer.
            Err(error) if is_of_a_peer(&error) => continue,
            Err(error) => return Err(error),
        };
        buffers.reply.clear();
        if responder.respond(&buffers.query[..len], Transport::Udp, &mut buffers.reply)
            && let Err(error) = socket.try_send_to(&buffers.reply, peer)
        {
            debug!(%peer, %error, "dns reply not sent");
        }
    }
    Ok(false)
}

fn is_of_a_peer(error: &io::Error) -> bool {
    let unreachable = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable, ErrorKind::ConnectionRefused];
    unreachable.contains(&error.kind()) || matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}
