//! A DNS client that shows what a test asserts on, from any place, over UDP or TCP.
//!
//! It asks one server one question and returns the answer as it came: no retry, no fall-back to TCP, no cache.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::Result;
use crate::place::Place;
use crate::site::TEST;

/// What a stub resolver waits for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The UDP size that clients commonly offer since the DNS flag day of 2020.
const PAYLOAD: u16 = 1232;

/// The option code of an extended DNS error (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

/// One server as seen from one place.
#[derive(Debug, Clone, Copy)]
pub struct Resolver {
    from: Place,
    server: SocketAddr,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The response code, with its extended part.
    pub code: ResponseCode,
    /// The AA bit.
    pub authoritative: bool,
    /// The TC bit.
    pub truncated: bool,
    /// The answer section, in the order received.
    pub answers: Vec<Answer>,
    /// The SOA of a negative answer.
    pub soa: Option<Answer>,
    /// Extended DNS error: its code and its text.
    pub extended_error: Option<(u16, String)>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its owner name, with the final dot.
    pub name: String,
    /// Its type.
    pub kind: RecordType,
    /// Seconds it may be kept.
    pub ttl: u32,
    /// Its data in presentation form.
    pub data: String,
}

impl Resolver {
    /// A server on this machine, for tests that need no fleet.
    pub const fn local(server: SocketAddr) -> Self {
        Self::new(TEST, server)
    }

    pub(crate) const fn new(from: Place, server: SocketAddr) -> Self {
        Self { from, server }
    }

    /// The same server, asked from somewhere else.
    pub(crate) const fn asked_from(self, place: Place) -> Self {
        Self::new(place, self.server)
    }

    /// Asks over UDP.
    pub async fn udp(&self, name: &str, kind: RecordType) -> Result<Reply> {
        let query = query(name, kind)?;
        let socket = self.from.datagrams(self.server)?;
        let exchange = async {
            socket.send(&query.to_vec()?).await?;
            let mut buffer = vec![0; usize::from(PAYLOAD)];
            let length = socket.recv(&mut buffer).await?;
            buffer.truncate(length);
            Ok(buffer)
        };
        self.read(name, &query, exchange).await
    }

    /// Asks over TCP, on a connection of its own.
    pub async fn tcp(&self, name: &str, kind: RecordType) -> Result<Reply> {
        let query = query(name, kind)?;
        let exchange = async {
            let mut stream = self.from.connect(self.server).await?;
            let bytes = query.to_vec()?;
            stream.write_all(&[&u16::try_from(bytes.len())?.to_be_bytes(), &bytes[..]].concat()).await?;
            let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut buffer).await?;
            Ok(buffer)
        };
        self.read(name, &query, exchange).await
    }

    async fn read(
        &self,
        name: &str,
        query: &Message,
        exchange: impl Future<Output = Result<Vec<u8>>>,
    ) -> Result<Reply> {
        let asked = || format!("{} asks {} for {name}", self.from.name(), self.server);
        let Ok(answer) = timeout(PATIENCE, exchange).await else { bail!("{}: no answer", asked()) };
        let message = Message::from_vec(&answer.with_context(asked)?).with_context(asked)?;
        ensure!(message.metadata.id == query.metadata.id, "{}: an answer to another question", asked());
        Ok(Reply::read(&message))
    }
}

fn query(name: &str, kind: RecordType) -> Result<Message> {
    let mut name = Name::from_str(name)?;
    name.set_fqdn(true);
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, kind)).set_edns(edns);
    Ok(query)
}

impl Reply {
    /// Every address among the answers. An RRset has no order, so they come sorted.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.answers.iter().filter_map(|answer| answer.data.parse().ok()).collect()
    }

    fn read(message: &Message) -> Self {
        let soa = message.authorities.iter().find(|record| record.record_type() == RecordType::SOA);
        let options = message.edns.as_ref().map(Edns::options);
        Self {
            code: message.metadata.response_code,
            authoritative: message.metadata.authoritative,
            truncated: message.metadata.truncation,
            answers: message.answers.iter().map(Answer::read).collect(),
            soa: soa.map(Answer::read),
            extended_error: options
                .and_then(|options| options.get(EdnsCode::Unknown(EXTENDED_ERROR)))
                .and_then(extended_error),
        }
    }
}

impl Answer {
    fn read(record: &Record) -> Self {
        Self {
            name: record.name.to_string(),
            kind: record.record_type(),
            ttl: record.ttl,
            data: record.data.to_string(),
        }
    }
}

fn extended_error(option: &EdnsOption) -> Option<(u16, String)> {
    let EdnsOption::Unknown(_, bytes) = option else {
        return None;
    };
    let (code, text) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*code), String::from_utf8_lossy(text).into_owned()))
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.code)?;
        for answer in &self.answers {
            write!(f, "; {} {} {} {}", answer.name, answer.ttl, answer.kind, answer.data)?;
        }
        if let Some((code, text)) = &self.extended_error {
            write!(f, "; extended error {code} {text:?}")?;
        }
        Ok(())
    }
}
