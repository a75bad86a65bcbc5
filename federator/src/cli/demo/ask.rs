//! Asks the demo's own listener over UDP, as `dig` would, and renders what comes back for people.

use anyhow::Context as _;
use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{
        Name, Record,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr as _,
    time::Duration,
};
use tokio::net::UdpSocket;

pub(super) use hickory_proto::rr::RecordType;

/// What a stub resolver waits for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two questions for what must be there in a moment; it bounds how much too long a measured time can be.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// The UDP size that clients commonly offer since the DNS flag day of 2020.
const PAYLOAD: u16 = 1232;

/// The option code of an extended error (RFC 8914, section 2).
const EXTENDED_ERROR: u16 = 15;

/// One server, and a socket to it.
pub(super) struct Resolver {
    pub(super) server: SocketAddr,
    socket: UdpSocket,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    code: ResponseCode,
    /// Data in presentation form; addresses in their order, for an RRset has none.
    pub(super) data: Vec<String>,
    /// The text of an extended error.
    pub(super) why: Option<String>,
    truncated: bool,
}

// === impl Resolver ===

impl Resolver {
    pub(super) async fn new(server: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(server).await?;
        Ok(Self { server, socket })
    }

    /// Asks one question, once: on the loopback nothing gets lost.
    pub(super) async fn ask(&self, name: &str, kind: RecordType) -> anyhow::Result<Reply> {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        let mut query = Message::query();
        let owner = Name::from_str(&format!("{name}.")).with_context(|| format!("`{name}` is not a DNS name"))?;
        query.add_query(Query::query(owner, kind)).set_edns(edns);
        let exchange = async {
            self.socket.send(&query.to_vec()?).await?;
            let mut buffer = [0; PAYLOAD as usize];
            loop {
                let length = self.socket.recv(&mut buffer).await?;
                let reply = Message::from_vec(&buffer[..length])?;
                // An answer that came after its question was given up has another id.
                if reply.metadata.id == query.metadata.id {
                    return anyhow::Ok(reply);
                }
            }
        };
        let answered = tokio::time::timeout(PATIENCE, exchange).await;
        let reply = answered.with_context(|| format!("{} does not answer {name} {kind}", self.server))?;
        Ok(Reply::read(&reply.with_context(|| format!("asking {} for {name} {kind}", self.server))?))
    }

    /// All addresses, of the first family that has any.
    pub(super) async fn addresses(&self, name: &str) -> anyhow::Result<Reply> {
        let v4 = self.ask(name, RecordType::A).await?;
        if v4.code != ResponseCode::NoError || !v4.data.is_empty() {
            return Ok(v4);
        }
        let v6 = self.ask(name, RecordType::AAAA).await?;
        Ok(if v6.data.is_empty() { v4 } else { v6 })
    }

    /// The revision that answers are given from.
    pub(super) async fn revision(&self, zone: &str) -> anyhow::Result<String> {
        let reply = self.ask(&format!("_revision.{zone}"), RecordType::TXT).await?;
        Ok(reply.data.concat())
    }

    /// The zone follows what was gathered at once, but not in the same instant.
    pub(super) async fn wait_for_revision(&self, zone: &str, revision: u64) -> anyhow::Result<()> {
        loop {
            let served = self.revision(zone).await?;
            let number = served.split('+').next().and_then(|number| number.parse::<u64>().ok());
            if number.is_some_and(|served| served >= revision) {
                return Ok(());
            }
            // DNS tells nobody of a change: it can only be asked again.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

// === impl Reply ===

impl Reply {
    fn read(message: &Message) -> Self {
        let data = |record: &Record| record.data.to_string();
        let mut data: Vec<String> = message.answers.iter().map(data).collect();
        data.sort_by_cached_key(|text| (text.parse::<IpAddr>().ok(), text.clone()));
        let options = message.edns.as_ref().map(Edns::options);
        let why = options.and_then(|options| options.get(EdnsCode::Unknown(EXTENDED_ERROR)));
        Self {
            code: message.metadata.response_code,
            data,
            why: why.and_then(text_of),
            truncated: message.metadata.truncation,
        }
    }

    /// Whether the name is there, and has nothing of what was asked for.
    pub(super) fn is_nodata(&self) -> bool {
        self.code == ResponseCode::NoError && self.data.is_empty() && !self.truncated
    }

    /// Whether there is data, perhaps more than fits.
    pub(super) fn has_data(&self) -> bool {
        self.code == ResponseCode::NoError && (self.truncated || !self.data.is_empty())
    }
}

/// The EXTRA-TEXT behind the INFO-CODE (RFC 8914, section 2).
fn text_of(option: &EdnsOption) -> Option<String> {
    let EdnsOption::Unknown(_, bytes) = option else {
        return None;
    };
    let (_, text) = bytes.split_first_chunk::<2>()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            ResponseCode::NoError if self.truncated => f.write_str("more than fits into a datagram: ask over TCP"),
            ResponseCode::NoError if self.data.is_empty() => {
                write!(f, "nothing: {}", self.why.as_deref().unwrap_or("no data of this type"))
            }
            ResponseCode::NoError => f.write_str(&self.data.join(" ")),
            ResponseCode::NXDomain => f.write_str("NXDOMAIN"),
            ResponseCode::ServFail => f.write_str("SERVFAIL"),
            other => write!(f, "{other}"),
        }
    }
}
