//! Messages: decode, answer, fit, encode. The only importer of hickory-server.
//!
//! hickory-server reads and writes UDP and decodes everything; TCP connections are ours ([`crate::tcp`]). A query loads
//! the current snapshot without a lock, and its answer borrows from it until it is encoded. Fitting is done here because
//! hickory cuts records one by one and drops the OPT record with them: an answer over UDP either fits, or fits without
//! its additional data (RFC 2181, section 9), or is a truncated reply without any record but OPT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, ResponseCode};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};
use hickory_server::net::NetError;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{self as hickory, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder, Queries};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::answer::{Answer, Request, answer};
use crate::bind::{Bound, Pair};
use crate::metrics::{Metrics, Transport};
use crate::node::{MAX_WHY, RrSet};
use crate::tcp;
use crate::zones::Zones;

/// What goes through every path without fragments (DNS flag day 2020).
const MAX_PAYLOAD: u16 = 1232;

/// RFC 1035, section 4.2.1: what every client takes; RFC 6891, section 6.2.5: no client takes less.
const MIN_PAYLOAD: u16 = 512;

/// RFC 8914, section 2.
const EXTENDED_ERROR: u16 = 15;

/// The header, and OPT with the longest extended error.
const MAX_ENVELOPE: usize = 12 + 11 + 4 + 2 + MAX_WHY;

/// What a listener puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// TCP connections at once, on each address; more are closed as they come.
    ///
    /// 4096 by default: several CoreDNS replicas with a thousand queries in flight each.
    pub tcp_connections: usize,
    /// How long a TCP connection may be silent.
    ///
    /// 30 s by default: CoreDNS closes a connection 10 to 20 s after its last query, and the side that asks should be
    /// the one that closes, or a query may cross the end of its connection.
    pub tcp_idle: Duration,
}

/// Serving ended although nobody asked for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A bound socket could not be handed to the runtime.
    #[error("cannot watch {address}")]
    Watch {
        /// The socket's.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The UDP sockets are gone.
    #[error("udp service ended")]
    Udp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A task that accepts connections died.
    #[error("tcp service ended")]
    Tcp(#[source] tokio::task::JoinError),
}

/// Answers from whatever the current snapshot is.
#[derive(Clone)]
struct Responder {
    zones: Arc<ArcSwap<Zones>>,
    metrics: Metrics,
}

/// An answer on its way into a message.
struct Reply<'z> {
    metadata: Metadata,
    edns: Option<Edns>,
    answer: Answer<'z>,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { tcp_connections: 4096, tcp_idle: Duration::from_secs(30) }
    }
}

// === impl Bound ===

impl Bound {
    /// Answers from the current value of `zones` until `shutdown`.
    ///
    /// At shutdown TCP answers what has arrived, for a second at most, and UDP meanwhile; datagrams that wait in the
    /// kernel at the end of it are lost, so withdraw from the clients' configuration first.
    ///
    /// hickory-server writes two log lines a query at level info, which costs more than the answer does: let the log
    /// filter hold `hickory_server=warn`.
    ///
    /// # Errors
    ///
    /// [`ServeError`], when a socket fails for good.
    pub async fn serve(
        self,
        zones: Arc<ArcSwap<Zones>>,
        limits: Limits,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        if self.pairs.is_empty() {
            shutdown.cancelled().await;
            return Ok(());
        }
        let responder = Responder { zones, metrics };
        let mut datagrams = hickory::Server::new(responder.clone());
        let mut listeners = JoinSet::new();
        for Pair { address, udp, tcp } in self.pairs {
            let watch = |source| ServeError::Watch { address, source };
            datagrams.register_socket(tokio::net::UdpSocket::from_std(udp).map_err(watch)?);
            let listener = tcp::Listener {
                socket: tokio::net::TcpListener::from_std(tcp).map_err(watch)?,
                respond: responder.clone(),
                connections: limits.tcp_connections,
                idle: limits.tcp_idle,
                metrics: responder.metrics.clone(),
                shutdown: shutdown.clone(),
            };
            listeners.spawn(listener.serve());
        }
        let connections = async {
            while let Some(ended) = listeners.join_next().await {
                ended.map_err(ServeError::Tcp)?;
            }
            Ok(())
        };
        tokio::select! {
            // Connections end only when told to, and then datagrams are no longer wanted either.
            ended = connections => ended?,
            ended = datagrams.block_until_done() => return Err(ServeError::Udp(match ended {
                Ok(()) => "no socket left".into(),
                Err(error) => error.into(),
            })),
        }
        let udp = |error: NetError| ServeError::Udp(error.into());
        datagrams.shutdown_gracefully().await.map_err(udp)
    }
}

// === impl Responder ===

#[async_trait::async_trait]
impl RequestHandler for Responder {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &hickory::Request,
        mut handle: R,
    ) -> ResponseInfo {
        let zones = self.zones.load();
        let mut reply = Reply::new(&zones, request);
        // Without EDNS hickory calls it 512.
        reply.fit(&request.queries, request.max_payload().clamp(MIN_PAYLOAD, MAX_PAYLOAD));
        self.count(Transport::Udp, &reply);
        match handle.send_response(reply.message(&request.queries)).await {
            Ok(sent) => sent,
            Err(error) => {
                debug!(%error, "dns reply not sent");
                ResponseInfo::from(header(reply.metadata))
            }
        }
    }
}

impl tcp::Respond for Responder {
    fn respond(&self, message: Vec<u8>, peer: SocketAddr) -> Option<Vec<u8>> {
        let request = Header::read(&mut BinDecoder::new(&message)).ok()?.metadata;
        if request.message_type == MessageType::Response {
            return None;
        }
        let Ok(decoded) = hickory::Request::from_bytes(message, peer, Protocol::Tcp) else {
            self.metrics.replied(Transport::Tcp, ResponseCode::FormErr);
            return malformed(&request);
        };
        let zones = self.zones.load();
        let mut reply = Reply::new(&zones, &decoded);
        reply.fit(&decoded.queries, u16::MAX);
        self.count(Transport::Tcp, &reply);
        let mut octets = Vec::with_capacity(usize::from(MIN_PAYLOAD));
        reply.encode(&decoded.queries, u16::MAX, &mut octets)?;
        Some(octets)
    }
}

impl Responder {
    fn count(&self, transport: Transport, reply: &Reply<'_>) {
        self.metrics.replied(transport, reply.answer.rcode);
        if reply.metadata.truncation {
            self.metrics.truncated.inc();
        }
    }
}

// === impl Reply ===

impl<'z> Reply<'z> {
    fn new(zones: &'z Zones, request: &hickory::Request) -> Self {
        let answer = answer(
            zones,
            &Request {
                op_code: request.metadata.op_code,
                questions: request.queries.queries(),
                edns: request.edns.as_ref(),
            },
        );
        // Copies id, opcode, RD and CD; RA stays 0, there is no recursion.
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = answer.authoritative;
        metadata.response_code = answer.rcode;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_PAYLOAD);
            // RFC 3225, section 3: the bit is copied.
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            if let Some(why) = &answer.why {
                let option = EdnsOption::Unknown(EXTENDED_ERROR, why.to_wire());
                edns.options_mut().insert(option);
            }
            edns
        });
        Self { metadata, edns, answer }
    }

    /// Leaves out what does not fit into `limit` octets, whole sections at a time.
    fn fit(&mut self, queries: &Queries, limit: u16) {
        if self.fits(queries, limit) {
            return;
        }
        self.answer.additionals.clear();
        if self.fits(queries, limit) {
            return;
        }
        self.answer.answers = None;
        self.answer.authorities = None;
        self.metadata.truncation = true;
    }

    fn fits(&self, queries: &Queries, limit: u16) -> bool {
        // Most answers are far from the limit; only the others are encoded to be measured.
        if MAX_ENVELOPE + queries.as_bytes().len() + self.answer.octets() <= usize::from(limit) {
            return true;
        }
        let mut measured = Vec::with_capacity(usize::from(limit));
        self.encode(queries, limit, &mut measured).is_some_and(|sent| !sent.truncation)
    }

    fn encode(&self, queries: &Queries, limit: u16, octets: &mut Vec<u8>) -> Option<ResponseInfo> {
        let mut encoder = BinEncoder::new(octets);
        encoder.set_max_size(limit);
        let encoded = self.message(queries).destructive_emit(&mut encoder);
        encoded.inspect_err(|error| debug!(%error, "dns reply not encoded")).ok()
    }

    /// The question is echoed octet by octet, so its case is kept.
    fn message<'q>(
        &'q self,
        queries: &'q Queries,
    ) -> MessageResponse<
        'q,
        'q,
        impl Iterator<Item = &'q Record> + Send + 'q,
        impl Iterator<Item = &'q Record> + Send + 'q,
        impl Iterator<Item = &'q Record> + Send + 'q,
        impl Iterator<Item = &'q Record> + Send + 'q,
    > {
        let answer = &self.answer;
        MessageResponseBuilder::new(queries, self.edns.as_ref()).build(
            self.metadata,
            answer.answers.iter().flat_map(|set| set.records()),
            answer.authorities.into_iter().flat_map(RrSet::records),
            [],
            answer.additionals.iter().flat_map(|set| set.records()),
        )
    }
}

/// FORMERR for a message of which only the header could be read.
fn malformed(request: &Metadata) -> Option<Vec<u8>> {
    let mut metadata = Metadata::response_from_request(request);
    metadata.response_code = ResponseCode::FormErr;
    header(metadata).to_bytes().ok()
}

fn header(metadata: Metadata) -> Header {
    Header { metadata, counts: HeaderCounts::default() }
}

#[cfg(test)]
mod tests;
