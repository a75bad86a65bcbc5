//! Replies as messages: what a client's reader makes of them, and that the way they are written costs no memory.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Arc;

use hickory_proto::op::{Edns as TheirEdns, Message};
use hickory_proto::rr::{Name, RData};
use proptest::prelude::*;

use super::*;
use crate::node::{Node, Srv};
use crate::testing::{OVER_TCP, apex, ask, n, query};

/// A zone with services of many endpoints, whose names are as long as they get.
fn zones(endpoints: u16) -> Zones {
    let mut zone = Zone::new(apex("global.")).unwrap();
    let owner = n(&format!("{}.{}.global.", "s".repeat(63), "n".repeat(63)));
    let host = |at: u16| Name::from_ascii(format!("h{at}.{owner}")).unwrap();
    let srv = |at| Srv { priority: 0, weight: 1, port: 80, target: host(at) };
    let port = Name::from_ascii(format!("_http._tcp.{owner}")).unwrap();
    let mut nodes = vec![(port, Node { ttl: 5, srv: (0..endpoints).map(srv).collect(), ..Node::default() })];
    nodes.extend((0..endpoints).map(|at| {
        let [high, low] = at.to_be_bytes();
        (host(at), Node { ttl: 5, a: vec![[10, 0, high, low].into()], ..Node::default() })
    }));
    let (_, errors) = zone.set_all(&owner, nodes).unwrap();
    assert_eq!(errors, []);
    zone.set_complete(true);
    Zones::new([Arc::new(zone)])
}

/// Of all these targets the addresses stand behind them, each with its own name; beyond where pointers reach there are none.
#[test]
fn names_of_additional_addresses_are_those_of_the_targets() {
    for (endpoints, is_far) in [(1, false), (2, false), (70, false), (120, true)] {
        let zones = zones(endpoints);
        let port = n(&format!("_http._tcp.{}.{}.global.", "s".repeat(63), "n".repeat(63)));
        let message = ask(&zones, &query(&port, RecordType::SRV));
        let targets: Vec<&Name> = message
            .answers
            .iter()
            .map(|record| match &record.data {
                RData::SRV(srv) => &srv.target,
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(targets.len(), usize::from(endpoints));
        let names: Vec<&Name> = message.additionals.iter().map(|record| &record.name).collect();
        assert_eq!(names, if is_far { vec![] } else { targets });
    }
}

/// Of more records than an answer may have each is in as many answers as any other, and every answer is full.
#[test]
fn of_very_many_all_come_equally_often() {
    let mut zone = Zone::new(apex("global.")).unwrap();
    let a = (0..100_u32).map(Into::into).collect();
    zone.set(&n("web.global."), Node { a, at_most: NonZero::new(32), ..Node::default() }).unwrap();
    let zones = Zones::new([Arc::new(zone)]);
    let question = query(&n("web.global."), RecordType::A).to_vec().unwrap();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for throw in 0..1000 {
        let mut octets = Vec::new();
        reply(&zones, &question, Asked { throw, ..OVER_TCP }, &mut octets).unwrap();
        let answers = Message::from_vec(&octets).unwrap().answers;
        let distinct: BTreeSet<String> = answers.iter().map(|record| record.data.to_string()).collect();
        assert_eq!((answers.len(), distinct.len()), (32, 32));
        distinct.into_iter().for_each(|address| *seen.entry(address).or_default() += 1);
    }
    assert_eq!((seen.len(), seen.values().min(), seen.values().max()), (100, Some(&320), Some(&320)));
}

proptest! {
    /// Whatever is asked, in whatever state it arrives: an answer is one message that a client can read, as large as it may
    /// be, with the question as it came; and an answer is never answered.
    #[test]
    fn every_reply_is_a_message(
        name in prop_oneof!["[a-c.]{0,9}", Just("_http._tcp.web.demo.global".to_owned()), Just("web.demo.global".to_owned())],
        kind in prop_oneof![Just(1_u16), Just(28), Just(33), Just(16), Just(255), Just(6), Just(2), any::<u16>()],
        payload in prop::option::of(any::<u16>()),
        endpoints in 0..40_u16,
        at_most in 0..50_u16,
        throw in any::<u32>(),
        admission in prop::sample::select(vec![Admission::Answered, Admission::Slowed, Admission::Prohibited]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut zone = Zone::new(apex("global.")).unwrap();
        let srv = |at: u16| Srv { priority: at, weight: 1, port: 80, target: n("web.demo.global.") };
        let a = (0..endpoints).map(|at| u32::from(at).into()).collect();
        zone.set(&n("web.demo.global."), Node { a, at_most: NonZero::new(at_most), ..Node::default() }).unwrap();
        let srv = Node { srv: (0..endpoints).map(srv).collect(), at_most: NonZero::new(at_most), ..Node::default() };
        zone.set(&n("_http._tcp.web.demo.global."), srv).unwrap();
        let zones = Zones::new([Arc::new(zone)]);

        let Ok(name) = Name::from_ascii(&name) else { return Ok(()) };
        let mut message = query(&name, RecordType::from(kind));
        if let Some(payload) = payload {
            let mut edns = TheirEdns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        let mut octets = message.to_vec().unwrap();
        for (at, value) in flips {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65_535)] {
            let mut out = b"before".to_vec();
            let asked = Asked { transport, admission, keep: 300, throw };
            let replied = reply(&zones, &octets, asked, &mut out);
            prop_assert_eq!(replied.is_none(), octets[2] & 0x80 != 0);
            let reply = &out[6..];
            if replied.is_none() {
                prop_assert!(reply.is_empty());
                continue;
            }
            prop_assert!(reply.len() <= limit);
            if admission != Admission::Answered {
                prop_assert!(reply[6..10] == [0; 4] && reply.len() <= octets.len() + 64, "no more than was asked");
                prop_assert_eq!(reply[2] & 2 != 0, admission == Admission::Slowed);
                prop_assert_eq!(reply[3] & 0xf == 5, admission == Admission::Prohibited);
            }
            let read = Message::from_vec(reply).unwrap();
            prop_assert_eq!(u16::from(read.metadata.response_code) & 0xf, u16::from(reply[3] & 0xf));
            prop_assert_eq!(&reply[..2], &octets[..2]);
            if !read.queries.is_empty() {
                let question = read.queries[0].name().iter().map(|label| label.len() + 1).sum::<usize>() + 5;
                prop_assert_eq!(&reply[12..][..question], &octets[12..][..question]);
            }
            let mut again = Vec::new();
            prop_assert_eq!(self::reply(&zones, reply, asked, &mut again), None);
        }
    }
}
