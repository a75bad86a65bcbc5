//! Over real sockets on loopback, with hickory-proto alone as the client.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use arc_swap::ArcSwap;
use std::sync::Arc;

use super::*;
use crate::metrics::{Metrics, Transport};
use crate::node::{ExtendedError, Node, Why};
use crate::policy::{Policy, Rate};
use crate::responder::{Client, Elsewhere, Pending, Response};
use crate::testing::{apex, n};
use crate::zone::Zone;
use crate::zones::Zones;

const PATIENCE: Duration = Duration::from_secs(10);

fn zone() -> Zone {
    let mut zone = Zone::new(apex("global.")).unwrap();
    let many =
        |count: u8| Node { ttl: 5, a: (0..count).map(|last| [10, 0, 0, last].into()).collect(), ..Node::default() };
    zone.set(&n("web.demo.global."), many(2)).unwrap();
    zone.set(&n("many.demo.global."), many(200)).unwrap();
    let why = Why::new(ExtendedError::Blocked, "other network, no gateway known");
    let far = Node { why_empty: Some(why), ..Node::default() };
    zone.set(&n("far.demo.global."), far).unwrap();
    zone.set_serial(42);
    zone.set_complete(true);
    zone
}

fn responder(zones: Arc<ArcSwap<Zones>>, metrics: Metrics) -> Responder {
    Responder { zones, policy: Arc::default(), elsewhere: None, throw: || 0, metrics, logs: false }
}

/// A running server and what it is told.
struct Bed {
    address: SocketAddr,
    zones: Arc<ArcSwap<Zones>>,
    metrics: Metrics,
    registry: prometheus_client::registry::Registry,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Bed {
    fn start(limits: Limits) -> Self {
        Self::start_with(limits, |responder| responder)
    }

    fn start_with(limits: Limits, change: impl FnOnce(Responder) -> Responder) -> Self {
        let zones = Zones::new([Arc::new(zone())]);
        let zones = Arc::new(ArcSwap::from_pointee(zones));
        let mut registry = prometheus_client::registry::Registry::default();
        let metrics = Metrics::register(&mut registry, &["fleet"]);
        let bound = Bound::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let shutdown = CancellationToken::new();
        let address = bound.local_addr().unwrap();
        let responder = change(responder(zones.clone(), metrics.clone()));
        let serving = bound.serve(responder, limits, shutdown.clone());
        #[expect(clippy::disallowed_methods, reason = "a test joins it in `stop`")]
        let served = tokio::spawn(serving);
        Self { address, zones, metrics, registry, shutdown, served }
    }

    async fn udp(&self, query: &Message) -> (Message, usize) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&query.to_vec().unwrap(), self.address).await.unwrap();
        let mut buffer = [0; 65535];
        let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
        (Message::from_vec(&buffer[..length]).unwrap(), length)
    }

    async fn tcp(&self, query: &Message) -> Message {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        send(&mut stream, query).await;
        receive(&mut stream).await.unwrap()
    }

    async fn both(&self, query: &Message) -> [Message; 2] {
        [self.udp(query).await.0, self.tcp(query).await]
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.served).await.unwrap().unwrap().unwrap();
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

async fn send(stream: &mut TcpStream, query: &Message) {
    let message = query.to_vec().unwrap();
    stream.write_u16(message.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&message).await.unwrap();
}

/// `None` when the server closed the connection.
async fn receive(stream: &mut TcpStream) -> Option<Message> {
    let length = timeout(PATIENCE, stream.read_u16()).await.unwrap().ok()?;
    let mut message = vec![0; usize::from(length)];
    timeout(PATIENCE, stream.read_exact(&mut message)).await.unwrap().unwrap();
    Some(Message::from_vec(&message).unwrap())
}

fn query(name: &str, kind: RecordType) -> Message {
    crate::testing::query(&n(name), kind)
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

#[tokio::test]
async fn answers_with_the_questions_own_case() {
    let bed = Bed::start(Limits::default());
    for reply in bed.both(&query("wEb.DeMo.gLoBaL.", RecordType::A)).await {
        assert!(reply.queries[0].name().eq_case(&n("wEb.DeMo.gLoBaL.")));
        assert_eq!(reply.answers.len(), 2);
        let meta = reply.metadata;
        assert_eq!((meta.id, meta.message_type), (4711, MessageType::Response));
        assert!(meta.authoritative && meta.recursion_desired && !meta.recursion_available);
        assert!(reply.edns.is_none(), "OPT only for those who sent one");
    }
    bed.stop().await;
}

#[tokio::test]
async fn truncation_keeps_opt_and_tcp_has_it_all() {
    let bed = Bed::start(Limits::default());
    let many = query("many.demo.global.", RecordType::A);
    for (query, limit) in [
        (many.clone(), 512),
        (with_edns(many.clone(), 100), 512),
        (with_edns(many.clone(), 1232), 1232),
        (with_edns(many.clone(), 4096), 1232),
    ] {
        let (reply, length) = bed.udp(&query).await;
        assert!(reply.metadata.truncation && length <= limit, "{length} of {limit}");
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty());
        // RFC 6891, section 7.
        assert_eq!(reply.edns.is_some(), query.edns.is_some());
    }
    let reply = bed.tcp(&with_edns(many, 1232)).await;
    assert!(!reply.metadata.truncation);
    assert_eq!(reply.answers.len(), 200);
    assert_eq!(reply.edns.unwrap().max_payload(), 1232);
    bed.stop().await;
}

/// Whole or not at all, at every size; RFC 2181, section 9: additional data that does not fit is no truncation.
#[tokio::test]
async fn never_a_part_of_an_rrset() {
    let bed = Bed::start(Limits::default());
    let srv =
        |at: u16| crate::node::Srv { priority: 0, weight: 0, port: at, target: n(&format!("h{at}.demo.global.")) };
    for count in [1u16, 8, 9, 10, 11, 12, 24, 30, 60] {
        let mut zone = zone();
        let node = Node { srv: (0..count).map(srv).collect(), ..Node::default() };
        zone.set(&n("_p._tcp.demo.global."), node).unwrap();
        for at in 0..count {
            let host = Node { a: vec![[10, 0, 0, 1].into()], ..Node::default() };
            zone.set(&n(&format!("h{at}.demo.global.")), host).unwrap();
        }
        bed.zones.store(Arc::new(Zones::new([Arc::new(zone)])));
        let srv = query("_p._tcp.demo.global.", RecordType::SRV);
        for query in [srv.clone(), with_edns(srv, 1232)] {
            let (reply, length) = bed.udp(&query).await;
            assert!(length <= query.max_payload().into());
            assert_eq!(reply.edns.is_some(), query.edns.is_some());
            let whole = (usize::from(count), usize::from(count));
            let got = (reply.answers.len(), reply.additionals.len());
            if reply.metadata.truncation {
                assert_eq!(got, (0, 0));
            } else {
                assert!(got == whole || got == (whole.0, 0), "{got:?} of {whole:?}");
            }
            let reply = bed.tcp(&query).await;
            assert_eq!((reply.answers.len(), reply.additionals.len()), whole);
        }
    }
    bed.stop().await;
}

#[tokio::test]
async fn negatives_refusals_and_versions() {
    let bed = Bed::start(Limits::default());
    let far = with_edns(query("far.demo.global.", RecordType::A), 1232);
    for reply in bed.both(&far).await {
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert_eq!(reply.authorities[0].record_type(), RecordType::SOA);
        let edns = reply.edns.unwrap();
        let EdnsOption::Unknown(15, data) = edns.option(EdnsCode::Unknown(15)).unwrap() else {
            panic!("an extended error, RFC 8914");
        };
        assert_eq!(data, b"\x00\x0fother network, no gateway known");
    }
    for reply in bed.both(&query(".", RecordType::NS)).await {
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    }
    for reply in bed.both(&query("absent.global.", RecordType::A)).await {
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }
    let mut version = with_edns(query("web.demo.global.", RecordType::A), 1232);
    version.edns.as_mut().unwrap().set_version(1).set_dnssec_ok(true);
    for reply in bed.both(&version).await {
        // BADVERS and BADSIG share the number 16; hickory's decoder prefers the latter.
        assert_eq!(u16::from(reply.metadata.response_code), 16);
        let edns = reply.edns.unwrap();
        assert_eq!((edns.version(), edns.flags().dnssec_ok), (0, true));
        assert!(reply.answers.is_empty());
    }
    let mut notify = query("global.", RecordType::SOA);
    notify.metadata.op_code = OpCode::Notify;
    for reply in bed.both(&notify).await {
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    }
    let text = bed.metrics();
    for (zone, kind, rcode, transport) in [
        ("none", "NS", "REFUSED", "udp"),
        ("fleet", "A", "NXDOMAIN", "tcp"),
        ("none", "A", "BADVERS", "tcp"),
        ("none", "SOA", "REFUSED", "udp"),
    ] {
        let labels = format!(r#"zone="{zone}",type="{kind}",rcode="{rcode}",transport="{transport}""#);
        assert!(text.contains(&format!("dns_replies_total{{{labels}}} 1\n")), "{labels} in {text}");
    }
    // Those whose number is a multiple of 64 are timed, and here all have the number 0.
    assert!(text.contains("dns_reply_duration_seconds_count 10\n"), "{text}");
    bed.stop().await;
}

#[tokio::test]
async fn a_new_snapshot_is_served_at_once() {
    let bed = Bed::start(Limits::default());
    let mut zone = zone();
    zone.set_complete(false);
    zone.set_serial(43);
    bed.zones.store(Arc::new(Zones::new([Arc::new(zone)])));
    for reply in bed.both(&query("absent.global.", RecordType::A)).await {
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        assert!(!reply.metadata.authoritative && reply.authorities.is_empty());
    }
    for reply in bed.both(&query("global.", RecordType::SOA)).await {
        assert!(reply.answers[0].data.to_string().contains(" 43 "));
    }
    bed.stop().await;
}

/// Two threads answer what waits at one socket.
#[test]
fn whoever_asks_much_at_once_is_never_told_of_an_older_state_after_a_newer_one() {
    const BURST: usize = 100;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bed = runtime.block_on(async { Bed::start(Limits::default()) });
    let asked = query("global.", RecordType::SOA).to_vec().unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(bed.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (ended, zones) = (CancellationToken::new(), bed.zones.clone());
    let changing = std::thread::spawn({
        let ended = ended.clone();
        move || {
            let mut zone = zone();
            for serial in 43.. {
                zone.set_serial(serial);
                zones.store(Arc::new(Zones::new([Arc::new(zone.clone())])));
                if ended.is_cancelled() {
                    return serial;
                }
            }
            0
        }
    });
    let (mut buffer, mut last, mut seen) = ([0; 512], 0, 0);
    for _ in 0..500 {
        (0..BURST).for_each(|_| _ = socket.send(&asked).unwrap());
        for _ in 0..BURST {
            let length = socket.recv(&mut buffer).unwrap();
            let reply = Message::from_vec(&buffer[..length]).unwrap();
            let RData::SOA(soa) = &reply.answers[0].data else { panic!("{reply}") };
            assert!(soa.serial >= last, "{} after {last}", soa.serial);
            seen += usize::from(soa.serial > last);
            last = soa.serial;
        }
    }
    ended.cancel();
    let stored = changing.join().unwrap();
    assert!(seen > 1, "{seen} of {stored} serials were seen");
    runtime.block_on(bed.stop());
}

#[tokio::test]
async fn a_connection_is_pipelined_and_survives_a_reply() {
    let bed = Bed::start(Limits::default());
    let mut stream = TcpStream::connect(bed.address).await.unwrap();
    let web = query("web.demo.global.", RecordType::A);
    for _ in 0..3 {
        send(&mut stream, &web).await;
    }
    for _ in 0..3 {
        assert_eq!(receive(&mut stream).await.unwrap().answers.len(), 2);
    }
    // A header and no more: what can be answered is.
    let mut broken = web.to_vec().unwrap();
    broken.truncate(14);
    stream.write_u16(14).await.unwrap();
    stream.write_all(&broken).await.unwrap();
    let reply = receive(&mut stream).await.unwrap();
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (4711, ResponseCode::FormErr));
    // A response is not answered (RFC 1035 loops), nor is less than a header.
    let mut response = web;
    response.metadata.message_type = MessageType::Response;
    send(&mut stream, &response).await;
    assert!(receive(&mut stream).await.is_none());
    bed.stop().await;
}

#[tokio::test]
async fn connections_are_bounded_and_end_when_idle() {
    let limits = Limits { tcp_connections: 1, tcp_idle: Duration::from_millis(20), ..Limits::default() };
    let patient = Limits { tcp_idle: PATIENCE, ..limits };
    let bed = Bed::start(patient);
    let web = query("web.demo.global.", RecordType::A);
    let mut first = TcpStream::connect(bed.address).await.unwrap();
    send(&mut first, &web).await;
    assert!(receive(&mut first).await.is_some());
    let mut second = TcpStream::connect(bed.address).await.unwrap();
    assert!(receive(&mut second).await.is_none());
    assert_eq!((bed.metrics.tcp_turned_away.get(), bed.metrics.tcp_connections.get()), (1, 1));
    bed.stop().await;

    let bed = Bed::start(limits);
    let mut idle = TcpStream::connect(bed.address).await.unwrap();
    assert!(receive(&mut idle).await.is_none());
    bed.stop().await;
}

#[tokio::test]
async fn what_arrived_before_the_stop_is_answered() {
    let bed = Bed::start(Limits::default());
    let web = query("web.demo.global.", RecordType::A);
    let mut known = TcpStream::connect(bed.address).await.unwrap();
    send(&mut known, &web).await;
    assert!(receive(&mut known).await.is_some());
    // One on a known connection, one on a connection that waits to be accepted; nobody ran in between.
    let mut waiting = TcpStream::connect(bed.address).await.unwrap();
    send(&mut known, &web).await;
    send(&mut waiting, &web).await;
    bed.shutdown.cancel();
    assert_eq!(receive(&mut known).await.unwrap().answers.len(), 2);
    assert_eq!(receive(&mut waiting).await.unwrap().answers.len(), 2);
    assert!(receive(&mut known).await.is_none());
    bed.stop().await;
}

/// Says of a name that is not ours what it was asked, once it is allowed to.
struct Other(tokio::sync::watch::Receiver<bool>);

impl Elsewhere for Other {
    fn ask(&self, message: Vec<u8>, _: Transport) -> Pending {
        let mut allowed = self.0.clone();
        Box::pin(async move {
            allowed.wait_for(|allowed| *allowed).await.ok()?;
            let mut message = Message::from_vec(&message).ok()?;
            message.metadata.message_type = MessageType::Response;
            message.to_vec().ok()
        })
    }
}

/// RFC 7766, section 6.2.1.1: what takes long keeps nothing else waiting.
#[tokio::test]
async fn names_of_others_are_answered_when_they_come() {
    let (allow, allowed) = tokio::sync::watch::channel(false);
    let bed = Bed::start_with(Limits::default(), |responder| Responder {
        elsewhere: Some(Arc::new(Other(allowed))),
        ..responder
    });
    let mut foreign = query("www.example.com.", RecordType::A);
    foreign.metadata.id = 1;
    let mut stream = TcpStream::connect(bed.address).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&foreign.to_vec().unwrap(), bed.address).await.unwrap();
    send(&mut stream, &foreign).await;
    send(&mut stream, &query("web.demo.global.", RecordType::A)).await;
    assert_eq!(receive(&mut stream).await.unwrap().metadata.id, 4711);
    // Who wants no recursion, and who probes, is answered here.
    let mut mine = foreign.clone();
    mine.metadata.recursion_desired = false;
    for query in [mine, query(".", RecordType::NS)] {
        send(&mut stream, &query).await;
        assert_eq!(receive(&mut stream).await.unwrap().metadata.response_code, ResponseCode::Refused);
    }
    let mut zone = zone();
    zone.set_shared(true);
    bed.zones.store(Arc::new(Zones::new([Arc::new(zone)])));
    let mut absent = query("absent.global.", RecordType::A);
    absent.metadata.id = 2;
    send(&mut stream, &absent).await;
    send(&mut stream, &query("demo.global.", RecordType::A)).await;
    assert_eq!(receive(&mut stream).await.unwrap().metadata.response_code, ResponseCode::NoError);
    // Whoever asks no more still waits, and a stop waits for it too.
    stream.shutdown().await.unwrap();
    bed.shutdown.cancel();
    allow.send_replace(true);
    let mut came = [receive(&mut stream).await.unwrap().metadata.id, receive(&mut stream).await.unwrap().metadata.id];
    came.sort_unstable();
    assert_eq!(came, [1, 2]);
    let mut buffer = [0; 512];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(Message::from_vec(&buffer[..length]).unwrap().metadata.id, 1);
    bed.stop().await;
}

#[tokio::test]
async fn who_may_not_ask_is_refused_and_who_asks_too_much_is_slowed() {
    let policy = |text: &str| Policy { allow: vec![text.parse().unwrap()], ..Policy::default() };
    let web = query("web.demo.global.", RecordType::A);
    let bed = Bed::start_with(Limits::default(), |all| Responder { policy: Arc::new(policy("10.0.0.0/8")), ..all });
    for reply in bed.both(&web).await {
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::Refused, 0));
    }
    assert!(bed.metrics().contains("dns_limited_replies_total{by=\"allow\"} 2\n"));
    bed.stop().await;

    let rate = NonZero::new(1).map(Rate::new);
    let slow = Policy { rate, ..policy("127.0.0.0/8") };
    let bed = Bed::start_with(Limits::default(), |all| Responder { policy: Arc::new(slow), ..all });
    let [first, ..] = bed.both(&web).await;
    assert_eq!(first.answers.len(), 2);
    // Two come within one second, sooner or later.
    while !bed.udp(&web).await.0.metadata.truncation {}
    assert_eq!(bed.tcp(&web).await.answers.len(), 2);
    bed.stop().await;
}

#[test]
fn who_holds_the_address_is_named() {
    let held = Bound::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = held.local_addr().unwrap();
    let error = Bound::bind(&[address]).unwrap_err();
    assert_eq!((error.address, error.transport), (address, Transport::Tcp));
    assert_eq!(error.to_string(), format!("cannot listen on {address} over tcp"));
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = Bound::bind(&[udp.local_addr().unwrap()]).unwrap_err();
    assert_eq!(error.transport, Transport::Udp);
}

/// From the octets of a query to those of its answer, counted and all.
#[test]
fn a_query_allocates_nothing() {
    let mut zone = zone();
    let target = n("h1.web.demo.global.");
    let srv = vec![crate::node::Srv { priority: 0, weight: 1, port: 80, target: target.clone() }];
    let of_web = [
        (
            n("_http._tcp.web.demo.global."),
            Node { srv, txt: vec!["x".repeat(300)], ptr: vec![target.clone()], ..Node::default() },
        ),
        (target, Node { aaaa: vec!["fd00::1".parse().unwrap()], ..Node::default() }),
    ];
    zone.remove(&n("web.demo.global."));
    zone.set_all(&n("web.demo.global."), of_web).unwrap();
    zone.mirror("svc");
    let zones = Arc::new(ArcSwap::from_pointee(Zones::new([Arc::new(zone)])));
    let responder = Responder { throw: || 7, ..responder(zones, Metrics::default()) };
    let mut out = Vec::with_capacity(65_535);
    let address = "127.0.0.1".parse().unwrap();
    for (name, kind, answers) in [
        ("h1.web.demo.global.", RecordType::AAAA, 1),
        ("H1.Web.Demo.svc.global.", RecordType::AAAA, 1),
        ("many.demo.global.", RecordType::A, 200),
        ("_http._tcp.web.demo.global.", RecordType::SRV, 1),
        ("_http._tcp.web.demo.global.", RecordType::TXT, 1),
        ("_http._tcp.web.demo.global.", RecordType::PTR, 1),
        ("_http._tcp.web.demo.global.", RecordType::ANY, 1),
        ("far.demo.global.", RecordType::A, 0),
        ("absent.demo.global.", RecordType::A, 0),
        ("global.", RecordType::SOA, 1),
        ("global.", RecordType::NS, 1),
        (".", RecordType::NS, 0),
    ] {
        let query = with_edns(query(name, kind), 1232).to_vec().unwrap();
        for transport in [Transport::Udp, Transport::Tcp] {
            // The first load on a thread sets something up, and so does what is counted for the first time.
            let mut respond = || {
                out.clear();
                let client = Client { address, transport, keep: 300 };
                let response = responder.respond(&responder.zones.load(), &query, client, &mut out);
                assert!(matches!(response, Response::Replied));
            };
            respond();
            let counted = allocation_counter::measure(&mut respond);
            assert_eq!(counted.count_total, 0, "{name} {kind} over {transport}");
            let reply = Message::from_vec(&out).unwrap();
            assert!(reply.metadata.truncation || reply.answers.len() == answers, "{reply}");
            out.clear();
        }
    }
}
