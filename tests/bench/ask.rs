//! One question over UDP, asked again and again, for as little CPU as possible: the cores are shared with what is
//! measured, so an answer is searched for an address and not parsed.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::Result;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

/// From an answer to the next question; the kernel, the exchange and busy cores add to it.
const PAUSE: Duration = Duration::from_micros(200);

/// A server on the same machine that takes longer has lost the question.
const PATIENCE: Duration = Duration::from_millis(100);

/// Above any answer here.
const ANSWER: usize = 4096;

/// A question for the IPv4 addresses of one name, and the server it goes to.
#[derive(Debug)]
pub(crate) struct Asker {
    socket: UdpSocket,
    question: Vec<u8>,
}

/// When an address was there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) at: Instant,
    /// From the question before to this one: how much earlier the address may have been there.
    pub(crate) resolution: Duration,
}

impl Asker {
    pub(crate) fn new(server: SocketAddr, name: &str) -> Result<Self> {
        let mut name = Name::from_str(name)?;
        name.set_fqdn(true);
        let mut message = Message::query();
        message.add_query(Query::query(name, RecordType::A));
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, question: message.to_vec()? })
    }

    /// Asks until the address is in the answer; blocks its thread.
    pub(crate) fn until(&self, address: Ipv4Addr, within: Duration) -> Result<Answered> {
        let start = Instant::now();
        let mut before = start;
        loop {
            let asked = Instant::now();
            // A lost datagram is asked again, like an answer that is not new.
            if self.has(address).unwrap_or(false) {
                return Ok(Answered { at: Instant::now(), resolution: asked - before });
            }
            ensure!(start.elapsed() < within, "{address} is not answered within {within:?}");
            before = asked;
            // DNS tells nobody of a change; without a pause the asking would take the processor from who answers.
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether the address is in the answer now.
    pub(crate) fn has(&self, address: Ipv4Addr) -> Result<bool> {
        self.socket.send(&self.question)?;
        let mut buffer = [0; ANSWER];
        let length = self.socket.recv(&mut buffer).context("no answer")?;
        // The data of an A record: its length, then the address.
        let [a, b, c, d] = address.octets();
        Ok(buffer[..length].windows(6).any(|bytes| bytes == [0, 4, a, b, c, d]))
    }
}
