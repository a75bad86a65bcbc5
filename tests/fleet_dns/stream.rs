//! Questions over one socket, many at once: for loads that must cost less than what they are put on. Answers are read where
//! they lie in the octets, and handed over in the order of their arrival.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use harness::{Place, RecordType, Result};

/// What an answer on the loopback never takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Above any answer.
const ANSWER: usize = 65_535;

/// What datagrams may hold.
const PAYLOAD: [u8; 2] = 1232_u16.to_be_bytes();

/// A question in octets; its id is that of whoever asks.
pub(crate) struct Question(Vec<u8>);

/// A socket, or a connection, in a place.
pub(crate) enum Stream {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// An answer in octets.
pub(crate) struct Heard<'a> {
    octets: &'a [u8],
    at: usize,
}

/// A record, with where its data begins.
pub(crate) struct Record {
    owner: usize,
    kind: u16,
    data: usize,
}

// === impl Question ===

impl Question {
    pub(crate) fn new(name: &str, kind: RecordType) -> Self {
        // One question, and one record beside it: OPT (RFC 6891), which says how much a datagram may hold.
        let mut octets = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.') {
            octets.push(label.len() as u8);
            octets.extend(label.bytes());
        }
        octets.push(0);
        octets.extend([u16::from(kind), 1].map(u16::to_be_bytes).as_flattened());
        octets.extend([0, 0, 41, PAYLOAD[0], PAYLOAD[1], 0, 0, 0, 0, 0, 0]);
        Self(octets)
    }
}

// === impl Stream ===

impl Stream {
    pub(crate) fn udp(place: Place, server: SocketAddr) -> Result<Self> {
        let socket = place.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        socket.connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::Udp(socket))
    }

    pub(crate) fn tcp(place: Place, server: SocketAddr) -> Result<Self> {
        let stream = place.enter(|| TcpStream::connect(server))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Asks all of these before the first answer is read, and says of each answer which question it is for.
    pub(crate) fn ask(
        &mut self,
        questions: &[&Question],
        mut heard: impl FnMut(usize, &mut Heard<'_>) -> Result,
    ) -> Result {
        let mut together = Vec::new();
        for (number, question) in questions.iter().enumerate() {
            let mut octets = question.0.clone();
            octets[..2].copy_from_slice(&u16::try_from(number)?.to_be_bytes());
            match self {
                Self::Udp(socket) => drop(socket.send(&octets)?),
                Self::Tcp(_) => {
                    together.extend(u16::try_from(octets.len())?.to_be_bytes());
                    together.extend(octets);
                }
            }
        }
        if let Self::Tcp(stream) = self {
            stream.write_all(&together)?;
        }
        let mut open = vec![true; questions.len()];
        let mut buffer = vec![0; ANSWER];
        for _ in questions {
            let length = match self {
                Self::Udp(socket) => socket.recv(&mut buffer).context("no answer")?,
                Self::Tcp(stream) => {
                    let mut length = [0; 2];
                    stream.read_exact(&mut length).context("no answer")?;
                    let length = usize::from(u16::from_be_bytes(length));
                    stream.read_exact(&mut buffer[..length]).context("half of an answer")?;
                    length
                }
            };
            let mut answer = Heard { octets: &buffer[..length], at: 0 };
            let number = usize::from(answer.u16());
            ensure!(open.get(number) == Some(&true), "an answer to no question");
            open[number] = false;
            heard(number, &mut answer)?;
        }
        Ok(())
    }
}

// === impl Heard ===

impl Heard<'_> {
    /// The records of all sections but OPT, of an answer that is whole and says NOERROR.
    pub(crate) fn records(&mut self) -> Result<Vec<Record>> {
        self.at = 2;
        let flags = self.u16();
        // QR and AA, without TC; the opcode is QUERY, the code NOERROR.
        ensure!(flags & 0xfe0f == 0x8400, "flags {flags:x}");
        let counts = [self.u16(), self.u16(), self.u16(), self.u16()];
        ensure!(counts[0] == 1, "{} questions", counts[0]);
        self.name();
        self.at += 4;
        let mut records = Vec::new();
        for _ in 0..counts[1..].iter().sum() {
            let owner = self.at;
            self.name();
            let kind = self.u16();
            self.at += 6;
            let length = usize::from(self.u16());
            records.push(Record { owner, kind, data: self.at });
            self.at += length;
        }
        ensure!(self.at == self.octets.len(), "{} octets, {} of them records", self.octets.len(), self.at);
        records.retain(|record| record.kind != u16::from(RecordType::OPT));
        Ok(records)
    }

    /// The data of an address record.
    pub(crate) fn address(&self, record: &Record) -> Option<[u8; 4]> {
        let data = self.octets.get(record.data..record.data + 4)?.try_into().ok();
        data.filter(|_| record.is(RecordType::A))
    }

    /// The port of an SRV record, and the first label of its target.
    pub(crate) fn service(&self, record: &Record) -> Option<(u16, &[u8])> {
        let port = self.octets.get(record.data + 4..record.data + 6)?;
        record.is(RecordType::SRV).then(|| (u16::from_be_bytes([port[0], port[1]]), self.label(record.data + 6)))
    }

    /// The serial of an SOA record.
    pub(crate) fn serial(&mut self, record: &Record) -> Option<u32> {
        self.at = record.data;
        self.name();
        self.name();
        record.is(RecordType::SOA).then(|| u32::from(self.u16()) << 16 | u32::from(self.u16()))
    }

    /// The first label of a record's owner.
    pub(crate) fn owner(&self, record: &Record) -> &[u8] {
        self.label(record.owner)
    }

    fn label(&self, at: usize) -> &[u8] {
        let mut at = at;
        // RFC 1035, section 4.1.4.
        while self.octets[at] >= 0xc0 {
            at = usize::from(u16::from_be_bytes([self.octets[at], self.octets[at + 1]]) & 0x3fff);
        }
        &self.octets[at + 1..at + 1 + usize::from(self.octets[at])]
    }

    fn u16(&mut self) -> u16 {
        self.at += 2;
        u16::from_be_bytes([self.octets[self.at - 2], self.octets[self.at - 1]])
    }

    fn name(&mut self) {
        loop {
            let length = self.octets[self.at];
            // A pointer is two octets, and the last that there is of a name.
            self.at += if length >= 0xc0 { 2 } else { 1 + usize::from(length) };
            if length == 0 || length >= 0xc0 {
                return;
            }
        }
    }
}

// === impl Record ===

impl Record {
    pub(crate) fn is(&self, kind: RecordType) -> bool {
        self.kind == u16::from(kind)
    }
}
