//! What is said to which question, as a table.

use std::str::FromStr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Record};

use super::*;
use crate::node::{Node, Srv, Why};
use crate::testing::{apex, ask, n};

fn addresses(addresses: &[&str]) -> Node {
    Node {
        ttl: 5,
        a: addresses.iter().filter_map(|a| a.parse().ok()).collect(),
        aaaa: addresses.iter().filter_map(|a| a.parse().ok()).collect(),
        ..Node::default()
    }
}

fn zones(complete: bool) -> Zones {
    let srv = |port, target| Srv { priority: 0, weight: 10, port, target: n(target) };
    let nodes = [
        ("ns.global.", addresses(&["10.0.0.53"])),
        ("web.demo.global.", addresses(&["10.1.0.2", "10.1.0.1", "10.1.0.2"])),
        ("both.demo.global.", addresses(&["10.2.0.1", "fd00::1"])),
        (
            "_http._tcp.web.demo.global.",
            Node { ttl: 5, srv: vec![srv(80, "Web.demo.global."), srv(81, "web.demo.global.")], ..Node::default() },
        ),
        ("_http._tcp.far.demo.global.", Node { ttl: 5, srv: vec![srv(80, "elsewhere.example.")], ..Node::default() }),
        (
            "far.demo.global.",
            Node {
                why_empty: Some(Why::new(ExtendedError::Blocked, "other network, no gateway known")),
                ..Node::default()
            },
        ),
        (
            "unknown.demo.global.",
            Node {
                why_empty: Some(Why::new(ExtendedError::NetworkError, "nobody says where it is")),
                ..Node::default()
            },
        ),
        ("_revision.global.", Node { txt: vec!["revision=7".into()], ..Node::default() }),
    ];
    let mut global = Zone::new(apex("global.")).unwrap();
    for (owner, node) in nodes {
        assert_eq!(global.set(&n(owner), node), Ok(true));
    }
    global.set_serial(42);
    global.set_complete(complete);
    let mut nested = Zone::new(apex("nested.global.")).unwrap();
    nested.set(&n("a.nested.global."), addresses(&["10.3.0.1"])).unwrap();
    nested.set_complete(true);
    let mut zones = Zones::new([Arc::new(global), Arc::new(nested)]);
    zones.set_version("federator 1.2.3");
    zones
}

/// `name TYPE` or `name CLASS TYPE`, with EDNS.
fn question(text: &str) -> Message {
    let words: Vec<&str> = text.split(' ').collect();
    let (class, kind) = match words[1..] {
        [class, kind] => (DNSClass::from_str(class).unwrap(), kind),
        _ => (DNSClass::IN, words[1]),
    };
    let kind = match kind {
        // The one type that hickory reads from the wire and not from text.
        "IXFR" => RecordType::IXFR,
        _ => RecordType::from_str(kind).unwrap(),
    };
    let mut message = crate::testing::query(&n(words[0]), kind);
    message.queries[0].set_query_class(class);
    message.set_edns(Edns::new());
    message
}

/// The answer in one line: code, `aa`, the sections' records without what they share, the extended error.
fn text(answer: &Message) -> String {
    let mut text = format!("{:?}", answer.metadata.response_code);
    if answer.metadata.authoritative {
        text += " aa";
    }
    for (mark, records) in [("", &answer.answers), (" / ", &answer.authorities), (" + ", &answer.additionals)] {
        let same = |a: &Record, b: &Record| (&a.name, a.record_type()) == (&b.name, b.record_type());
        for set in records.chunk_by(same) {
            let data: Vec<String> = set.iter().map(|r| r.data.to_string()).collect();
            let first = &set[0];
            text += &format!("{mark} {} {} {} {}", first.name, first.ttl, first.record_type(), data.join(", "));
        }
    }
    let edns = answer.edns.as_ref().unwrap_or_else(|| panic!("no OPT in {answer}"));
    if let Some(EdnsOption::Unknown(_, why)) = edns.option(EdnsCode::Unknown(15)) {
        text += &format!(" ({} {})", why[1], String::from_utf8_lossy(&why[2..]));
    }
    text
}

fn check_in(zones: &Zones, asked: &str, expected: &str) {
    assert_eq!(text(&ask(zones, &question(asked))), expected, "{asked}");
}

const SOA: &str = "global. 3 SOA ns.global. hostmaster.global. 42 7200 1800 86400 3";

fn nodata() -> String {
    format!("NoError aa /  {SOA}")
}

fn nxdomain() -> String {
    format!("NXDomain aa /  {SOA}")
}

#[test]
fn what_is_there() {
    let zones = zones(true);
    let check = |asked, expected| check_in(&zones, asked, expected);
    check("web.demo.global. A", "NoError aa web.demo.global. 5 A 10.1.0.1, 10.1.0.2");
    check("WEB.Demo.gloBAL. A", "NoError aa WEB.Demo.gloBAL. 5 A 10.1.0.1, 10.1.0.2");
    check("both.demo.global. A", "NoError aa both.demo.global. 5 A 10.2.0.1");
    check("both.demo.global. AAAA", "NoError aa both.demo.global. 5 AAAA fd00::1");
    check("_revision.global. TXT", "NoError aa _revision.global. 0 TXT revision=7");
    // RFC 2782: the target's addresses, once.
    check(
        "_http._tcp.web.demo.global. SRV",
        "NoError aa _http._tcp.web.demo.global. 5 SRV 0 10 80 web.demo.global., 0 10 81 web.demo.global. \
         +  web.demo.global. 5 A 10.1.0.1, 10.1.0.2",
    );
    check("_http._tcp.far.demo.global. SRV", "NoError aa _http._tcp.far.demo.global. 5 SRV 0 10 80 elsewhere.example.");
    // The longest apex answers.
    check("a.nested.global. A", "NoError aa a.nested.global. 5 A 10.3.0.1");
}

#[test]
fn the_apex() {
    let zones = zones(true);
    let check = |asked, expected: &str| check_in(&zones, asked, expected);
    check("global. SOA", &format!("NoError aa {}", SOA.replacen(" 3 ", " 60 ", 1)));
    check("global. NS", "NoError aa global. 60 NS ns.global. +  ns.global. 5 A 10.0.0.53");
    check("global. A", &nodata());
}

/// RFC 2308: NODATA and NXDOMAIN differ, and both carry the SOA with the smaller TTL.
#[test]
fn what_is_not_there() {
    let zones = zones(true);
    let check = |asked, expected: &str| check_in(&zones, asked, expected);
    check("web.demo.global. AAAA", &nodata());
    check("web.demo.global. MX", &nodata());
    check("web.demo.global. CNAME", &nodata());
    check("web.demo.global. SOA", &nodata());
    // RFC 8020: an empty non-terminal exists.
    check("demo.global. A", &nodata());
    check("_tcp.web.demo.global. SRV", &nodata());
    check("_tcp.far.demo.global. A", &nodata());
    check("absent.demo.global. A", &nxdomain());
    check("below.web.demo.global. A", &nxdomain());
    check("*.demo.global. A", &nxdomain());
    // RFC 8914: the absence explained.
    check("far.demo.global. A", &format!("{} (15 other network, no gateway known)", nodata()));
    // What is not known is not absent, and nobody is to remember it.
    check("unknown.demo.global. A", "ServFail (23 nobody says where it is)");
}

/// RFC 8767: stale data is better than none, unless who serves it is told otherwise; and an absence is not data.
#[test]
fn what_stale_data_says() {
    let mut zones = zones(true);
    let web = "NoError aa web.demo.global. 5 A 10.1.0.1, 10.1.0.2";
    let absent = "ServFail (3 not in the last known state)";
    for (stale, name, nothing) in [
        (Stale::Answers, format!("{web} (3 the last known state)"), format!("{} (3 the last known state)", nodata())),
        (Stale::Fails, "ServFail (3 the last known state)".to_owned(), "ServFail (3 the last known state)".to_owned()),
    ] {
        zones.set_stale(Some(stale));
        check_in(&zones, "web.demo.global. A", &name);
        check_in(&zones, "web.demo.global. AAAA", &nothing);
        check_in(&zones, "demo.global. A", &nothing);
        check_in(&zones, "absent.demo.global. A", absent);
        check_in(&zones, "unknown.demo.global. A", "ServFail (23 nobody says where it is)");
        check_in(
            &zones,
            "global. SOA",
            &format!("NoError aa {} (3 the last known state)", SOA.replacen(" 3 ", " 60 ", 1)),
        );
        check_in(&zones, "example.com. A", "Refused (20 no zone of this server)");
        check_in(&zones, ". NS", "Refused (20 no zone of this server)");
    }
    zones.set_stale(None);
    check_in(&zones, "web.demo.global. A", web);
    check_in(&zones, "absent.demo.global. A", &nxdomain());
}

#[test]
fn what_is_refused() {
    let zones = zones(true);
    let check = |asked, expected| check_in(&zones, asked, expected);
    // CoreDNS' health probe.
    check(". NS", "Refused (20 no zone of this server)");
    check("example.com. A", "Refused (20 no zone of this server)");
    check("xglobal. A", "Refused (20 no zone of this server)");
    check("global. AXFR", "Refused (21 no zone transfer)");
    check("global. IXFR", "Refused (21 no zone transfer)");
    check("web.demo.global. HS A", "Refused (21 no such class)");
    check("web.demo.global. CH A", "Refused (20 no zone of this server)");
    check("id.server. CH TXT", "Refused (20 no zone of this server)");
}

#[test]
fn before_the_first_sync() {
    let zones = zones(false);
    let check = |asked, expected: &str| check_in(&zones, asked, expected);
    check("absent.demo.global. A", "ServFail (14 zone not complete yet)");
    check("web.demo.global. A", "NoError aa web.demo.global. 5 A 10.1.0.1, 10.1.0.2");
    check("web.demo.global. AAAA", &nodata());
    check("demo.global. A", &nodata());
    check("example.com. A", "Refused (20 no zone of this server)");
}

#[test]
fn any_and_version() {
    let zones = zones(true);
    let check = |asked, expected: &str| check_in(&zones, asked, expected);
    // RFC 8482: one RRset.
    check("both.demo.global. ANY", "NoError aa both.demo.global. 5 A 10.2.0.1");
    check("global. ANY", &format!("NoError aa {}", SOA.replacen(" 3 ", " 60 ", 1)));
    check("demo.global. ANY", &nodata());
    check("absent.global. ANY", &nxdomain());
    check("version.bind. CH TXT", "NoError aa version.bind. 0 TXT federator 1.2.3");
    check("VERSION.server. CH TXT", "NoError aa VERSION.server. 0 TXT federator 1.2.3");
    check_in(&Zones::default(), "version.bind. CH TXT", "Refused (20 no zone of this server)");
}

#[test]
fn messages_that_are_no_query() {
    let zones = zones(true);
    let web = Query::query(n("web.demo.global."), RecordType::A);
    let check = |op_code, questions: &[Query], version, expected| {
        let mut message = question("web.demo.global. A");
        message.metadata.op_code = op_code;
        message.queries = questions.to_vec();
        message.edns.as_mut().unwrap().set_version(version);
        assert_eq!(text(&ask(&zones, &message)), expected, "{op_code:?} {questions:?} {version}");
    };
    check(OpCode::Notify, std::slice::from_ref(&web), 0, "Refused (21 queries only)");
    check(OpCode::Update, &[], 0, "Refused (21 queries only)");
    check(OpCode::Unknown(15), &[], 0, "NotImp (21 queries only)");
    // RFC 9619.
    check(OpCode::Query, &[], 0, "FormErr");
    check(OpCode::Query, &[web.clone(), web.clone()], 0, "FormErr");
    // RFC 6891, section 6.1.3, before all else. BADVERS and BADSIG share a number, and hickory prefers the latter.
    check(OpCode::Query, std::slice::from_ref(&web), 1, "BADSIG");
    check(OpCode::Notify, &[], 255, "BADSIG");
}
