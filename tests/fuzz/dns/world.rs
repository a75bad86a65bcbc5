//! A zone with everything in it that an answer can be made of, and what must hold for the reply to any message about it.
//! Does not know how messages are made up.

use std::sync::{Arc, LazyLock};

use dns::{Admission, Apex, Asked, Name, Node, Srv, Transport, Zone, Zones, reply};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};

static ZONES: LazyLock<Zones> = LazyLock::new(zones);

/// What there is in it, and around it.
pub(crate) const NAMES: [&str; 9] = [
    "global.",
    "web.demo.global.",
    "_http._tcp.web.demo.global.",
    "h1.east.web.demo.global.",
    "web.demo.svc.global.",
    "many.demo.global.",
    "none.demo.global.",
    "demo.global.",
    "version.bind.",
];

pub(crate) fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn zones() -> Zones {
    let apex = Apex {
        name: name("global."),
        primary: name("ns.global."),
        mailbox: name("hostmaster.global."),
        servers: vec![name("ns.global.")],
        ttl: 5,
        refresh: 3600,
        retry: 600,
        expire: 86_400,
        negative_ttl: 5,
    };
    let mut zone = Zone::new(apex).expect("a zone");
    let srv = |at: u8| Srv { priority: 0, weight: 1, port: 80, target: name(&format!("h{at}.east.web.demo.global.")) };
    let a = |last| Node { ttl: 5, a: vec![[10, 0, 0, last].into()], ..Node::default() };
    let mut nodes = vec![(name(NAMES[1]), a(1))];
    nodes.push((
        name(NAMES[2]),
        Node { srv: (0..40).map(srv).collect(), txt: vec!["x".repeat(300)], ..Node::default() },
    ));
    nodes.extend((0..40).map(|at| (name(&format!("h{at}.east.web.demo.global.")), a(at))));
    zone.set_all(&name(NAMES[1]), nodes).expect("names below it");
    zone.set(&name(NAMES[5]), Node { a: (0..500_u32).map(Into::into).collect(), ..Node::default() }).expect("a name");
    zone.mirror("svc");
    zone.set_complete(true);
    let mut zones = Zones::new([Arc::new(zone)]);
    zones.set_version("federator");
    zones
}

/// What goes through every path without fragments, and what everybody takes without EDNS.
const PAYLOAD: usize = 1232;
const PLAIN: usize = 512;

/// Asks, and judges the reply, however the message came and whoever sent it.
pub(crate) fn judge(octets: &[u8]) {
    for (transport, admission) in [
        (Transport::Udp, Admission::Answered),
        (Transport::Tcp, Admission::Answered),
        (Transport::Udp, Admission::Slowed),
        (Transport::Tcp, Admission::Prohibited),
    ] {
        let asked = Asked { transport, admission, keep: 300, throw: 7 };
        let mut out = Vec::new();
        // How others read it, where they can.
        let theirs = Message::from_vec(octets).ok();
        let is_answer = |message: &Message| message.metadata.message_type == MessageType::Response;
        let Some(replied) = reply(&ZONES, octets, asked, &mut out) else {
            assert!(out.is_empty() && (octets.len() < 12 || octets[2] & 0x80 != 0));
            assert!(theirs.is_none_or(|message| is_answer(&message)), "a query without a reply");
            continue;
        };
        let read = Message::from_vec(&out).expect("a message");
        assert!(is_answer(&read) && out[..2] == octets[..2]);
        let offered = theirs.as_ref().and_then(|message| message.edns.as_ref()).map(|edns| edns.max_payload().into());
        let limit = match (transport, &read.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => PLAIN,
            (Transport::Udp, Some(_)) => offered.map_or(PAYLOAD, |octets: usize| octets.clamp(PLAIN, PAYLOAD)),
        };
        assert!(out.len() <= limit, "{} octets, and at most {limit}", out.len());
        assert_eq!(
            (replied.truncated, u16::from(replied.rcode) & 0xf),
            (read.metadata.truncation, u16::from(out[3] & 0xf))
        );
        if let [question] = &read.queries[..] {
            let len = question.name().iter().map(|label| 1 + label.len()).sum::<usize>() + 5;
            assert_eq!(out[12..12 + len], octets[12..12 + len]);
        }
        if let Some(theirs) = theirs {
            agree(&theirs, &read, admission);
        }
        assert!(reply(&ZONES, &out, asked, &mut Vec::new()).is_none(), "an answer to an answer");
    }
}

/// What another reader finds in a query is what the reply is about, unless that says that the query is broken: others do not
/// look into everything. Written anew by them, it is not.
fn agree(theirs: &Message, read: &Message, admission: Admission) {
    assert!(theirs.metadata.message_type == MessageType::Query, "a reply to an answer");
    assert_eq!(theirs.metadata.op_code, read.metadata.op_code);
    let is_broken = |reply: &Message| reply.metadata.response_code == ResponseCode::FormErr;
    let [_] = &theirs.queries[..] else {
        assert!(read.answers.is_empty());
        return;
    };
    if !is_broken(read) && !read.queries.is_empty() {
        assert_eq!((&read.queries, read.edns.is_some()), (&theirs.queries, theirs.edns.is_some()));
    }
    if let Ok(whole) = theirs.to_vec()
        && theirs.metadata.op_code == OpCode::Query
        && admission == Admission::Answered
    {
        let mut out = Vec::new();
        let asked = Asked { transport: Transport::Tcp, admission, keep: 300, throw: 7 };
        reply(&ZONES, &whole, asked, &mut out).expect("a reply");
        assert!(!is_broken(&Message::from_vec(&out).expect("a message")), "{theirs:?}");
    }
}
