//! Fuzzes the way from a DNS message to its reply. Whatever the octets are: nothing breaks, an answer is never answered, a
//! reply is a message that another reader can read, with the question as it came, and over UDP no larger than a client
//! without EDNS takes or than goes through every path with it.
#![no_main]
#![allow(unsafe_code, reason = "the fuzzer's entry points are symbols with fixed names")]

use std::{env, fs, path::Path, sync::Arc, sync::LazyLock};

use dns::{Admission, Apex, Asked, Name, Node, Srv, Transport, Zone, Zones, reply};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::RecordType,
};
use libfuzzer_sys::fuzz_target;

/// With everything in it that an answer can be made of.
static ZONES: LazyLock<Zones> = LazyLock::new(zones);

/// What there is in it, and around it.
const NAMES: [&str; 9] = [
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

fn name(text: &str) -> Name {
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

/// Writes questions where `cargo xtask fuzz` wants the first inputs.
fn seed() {
    let Some(directory) = env::var_os("FUZZ_SEEDS") else { return };
    let kinds = [RecordType::A, RecordType::SRV, RecordType::TXT, RecordType::ANY, RecordType::NS];
    for (at, text) in NAMES.iter().enumerate() {
        for kind in kinds {
            let mut message = Message::new(1, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(name(text), kind));
            for with_edns in [false, true] {
                if with_edns {
                    message.set_edns(Edns::new());
                }
                let octets = message.to_vec().expect("a message");
                let file = format!("seed-{at}-{kind}-{with_edns}");
                fs::write(Path::new(&directory).join(file), octets).expect("a directory to write to");
            }
        }
    }
}

fuzz_target!(init: seed(), |octets: &[u8]| {
    for (transport, limit, admission) in [
        (Transport::Udp, 1232, Admission::Answered),
        (Transport::Tcp, 65_535, Admission::Answered),
        (Transport::Udp, 1232, Admission::Slowed),
        (Transport::Tcp, 65_535, Admission::Prohibited),
    ] {
        let asked = Asked { transport, admission, throw: 7 };
        let mut out = Vec::new();
        let Some(replied) = reply(&ZONES, octets, asked, &mut out) else {
            assert!(out.is_empty() && (octets.len() < 12 || octets[2] & 0x80 != 0));
            continue;
        };
        let read = Message::from_vec(&out).expect("a message");
        let limit = if read.edns.is_some() || transport == Transport::Tcp { limit } else { 512 };
        assert!(out.len() <= limit && out[..2] == octets[..2]);
        assert_eq!((replied.truncated, u16::from(replied.rcode) & 0xf), (read.metadata.truncation, u16::from(out[3] & 0xf)));
        if let [question] = &read.queries[..] {
            let len = question.name().iter().map(|label| 1 + label.len()).sum::<usize>() + 5;
            assert_eq!(out[12..12 + len], octets[12..12 + len]);
        }
        assert!(reply(&ZONES, &out, asked, &mut Vec::new()).is_none());
    }
});
