//! The threads of a socket: one that answers, and one that helps it while more waits than it gets through. Octets in, octets
//! out; what they mean is the responder's.
//!
//! An answer costs a receive and a send and nothing else that waits: it is sent before the next query is looked at, from
//! one buffer that is used again. That the thread waits in the receive itself, and not for an event before it, is what
//! makes it cheap. What the kernel has no room for is dropped, as any network may; who asked asks again.
//!
//! Whoever asks several questions at once must not be told of an older state after a newer one. So both threads answer from
//! one snapshot while one helps, and the next is not looked at before all that was answered from it is sent.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, SocketAddrAny, recvfrom};
use tokio::sync::mpsc;

use super::{HandedOver, Socket};
use crate::metrics::Transport;
use crate::responder::{Client, Responder, Response};
use crate::zones::Zones;

/// The largest datagram: what is longer than any query that could be answered is still read whole.
const DATAGRAM: usize = 65_535;

/// Queries that are still answered when stopping, at most: more than a receive buffer holds, but where they never cease.
const LAST: usize = 16_384;

/// After so many queries the thread looks whether more wait. Being woken costs as much as an answer, so who helps should
/// find several to answer.
const LOOK: u32 = 32;

/// Queries that are answered by who helps, at most, until a newer snapshot is looked for.
const HELPED: usize = 128;

/// Answers until the socket is stopped, and then what has arrived.
///
/// # Errors
/// What the system says when the socket cannot be read any more, or there can be no thread more.
pub(super) fn serve(socket: &Socket, responder: &Responder, later: &mpsc::Sender<HandedOver>) -> io::Result<()> {
    let is_helped = &AtomicBool::new(false);
    let (ask, asked) = sync_channel(1);
    let (own, other) = (Hand::new(socket, responder, later), Hand::new(socket, responder, later));
    thread::scope(move |scope| {
        let name = "dns-udp-help".to_owned();
        thread::Builder::new().name(name).spawn_scoped(scope, move || help(other, &asked, is_helped))?;
        // Who helps ends when nobody can ask it to any more.
        answer(own, &ask, is_helped)
    })
}

fn answer(mut hand: Hand<'_>, ask: &SyncSender<Arc<Zones>>, is_helped: &AtomicBool) -> io::Result<()> {
    let zones = &hand.responder.zones;
    // What both answer from.
    let mut shared: Option<Arc<Zones>> = None;
    let (mut answered, mut last) = (0_u32, LAST);
    while last > 0 {
        last -= usize::from(hand.socket.is_stopping());
        let Some(query) = hand.receive(RecvFlags::empty())? else { break };
        if shared.is_some() && !is_helped.load(Ordering::Acquire) {
            shared = None;
        }
        match &shared {
            Some(shared) => hand.answer(shared, query),
            None => hand.answer(&zones.load(), query),
        }
        answered = answered.wrapping_add(1);
        let looks = answered.is_multiple_of(LOOK) && shared.is_none();
        if looks && ioctl_fionread(&hand.socket.socket).is_ok_and(|octets| octets > 0) {
            let snapshot = zones.load_full();
            is_helped.store(true, Ordering::Relaxed);
            ask.send(snapshot.clone()).map_err(|_| io::Error::other("the thread that helps died"))?;
            shared = Some(snapshot);
        }
    }
    Ok(())
}

fn help(mut hand: Hand<'_>, asked: &Receiver<Arc<Zones>>, is_helped: &AtomicBool) {
    for zones in asked {
        let _helping = Helping(is_helped);
        for _ in 0..HELPED {
            // What is wrong with the socket, whoever waits for it finds out.
            let Ok(Some(query)) = hand.receive(RecvFlags::DONTWAIT) else { break };
            hand.answer(&zones, query);
        }
    }
}

/// As long as it lives somebody helps.
struct Helping<'a>(&'a AtomicBool);

/// Whoever answers queries, with what it needs to.
struct Hand<'a> {
    socket: &'a Socket,
    responder: &'a Responder,
    later: &'a mpsc::Sender<HandedOver>,
    query: Vec<u8>,
    reply: Vec<u8>,
}

/// How much of the buffer is a query, and whose it is.
type Received = (usize, SocketAddrAny);

// === impl Helping ===

impl Drop for Helping<'_> {
    fn drop(&mut self) {
        // Whoever sees this may answer from what is newer: all of ours is sent.
        self.0.store(false, Ordering::Release);
    }
}

// === impl Hand ===

impl<'a> Hand<'a> {
    fn new(socket: &'a Socket, responder: &'a Responder, later: &'a mpsc::Sender<HandedOver>) -> Self {
        Self { socket, responder, later, query: vec![0; DATAGRAM], reply: Vec::with_capacity(DATAGRAM) }
    }

    /// The next query; none from a socket that is shut down, once it has given what had arrived.
    fn receive(&mut self, flags: RecvFlags) -> Result<Option<Received>, Errno> {
        loop {
            match recvfrom(&self.socket.socket, &mut *self.query, flags) {
                Ok((len, _, Some(peer))) => return Ok(Some((len, peer))),
                // Linux gives nothing, from nobody.
                Ok((_, _, None)) => return Ok(None),
                // What a peer that is gone has had to say of an earlier answer.
                Err(error) if is_of_a_peer(error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&mut self, zones: &Zones, (len, peer): Received) {
        let Ok(address) = SocketAddr::try_from(peer.clone()) else { return };
        let client = Client { address: address.ip(), transport: Transport::Udp, keep: 0 };
        self.reply.clear();
        match self.responder.respond(zones, &self.query[..len], client, &mut self.reply) {
            Response::Replied => self.socket.send(&self.reply, &peer),
            Response::Silent => {}
            // Where there are too many, who asked asks again.
            Response::Elsewhere(pending) => _ = self.later.try_send((pending, peer)),
        }
    }
}

fn is_of_a_peer(error: Errno) -> bool {
    matches!(error, Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::CONNREFUSED | Errno::CONNRESET | Errno::INTR)
}
