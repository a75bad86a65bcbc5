//! Messages against hickory's reader, and what is stepped over.

use hickory_proto::op::{Edns as TheirEdns, Message, MessageType};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{RData, Record as TheirRecord, RecordType, rdata};
use proptest::prelude::*;

use super::*;
use crate::testing::{n, query};

fn body<'m>(message: &'m [u8], path: &'m mut Path) -> Option<Body<'m>> {
    Query::read(message, path).expect("a query").body
}

fn edns(message: &Message) -> Option<Edns> {
    body(&message.to_vec().unwrap(), &mut Path::root()).expect("it can be read").edns
}

proptest! {
    /// What both read they read alike. Where hickory reads less it looks into data that is stepped over here.
    #[test]
    fn a_query_is_read_as_hickory_reads_it(
        labels in prop::collection::vec("[a-zA-Z0-9_]{1,20}", 0..6),
        kind in any::<u16>(),
        payload in any::<u16>(),
        with_edns in any::<bool>(),
        dnssec_ok in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let name = n(&format!("{}.", labels.join(".")));
        let mut message = query(&name, RecordType::from(kind));
        if with_edns {
            let mut edns = TheirEdns::new();
            edns.set_max_payload(payload).set_dnssec_ok(dnssec_ok);
            edns.options_mut().insert(EdnsOption::Unknown(65001, vec![1, 2, 3]));
            message.set_edns(edns);
        }
        let mut octets = message.to_vec().unwrap();
        for (at, value) in flips {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        let mut path = Path::root();
        let ours = Query::read(&octets, &mut path);
        let Ok(theirs) = Message::from_vec(&octets) else { return Ok(()) };
        if theirs.metadata.message_type == MessageType::Response {
            prop_assert!(ours.is_none());
            return Ok(());
        }
        let ours = ours.expect("a query");
        prop_assert_eq!(u16::from_be_bytes(ours.id), theirs.metadata.id);
        prop_assert_eq!(ours.op_code, u8::from(theirs.metadata.op_code));
        prop_assert_eq!(ours.recursion_desired, theirs.metadata.recursion_desired);
        prop_assert_eq!(ours.checking_disabled, theirs.metadata.checking_disabled);
        // A pointer in a question is one that hickory follows.
        let Some(body) = ours.body else {
            let plain = octets[12..].iter().all(|octet| *octet < 0xc0);
            prop_assert!(!plain, "{:?}", theirs);
            return Ok(());
        };
        if let [asked] = &theirs.queries[..] {
            let question = body.question.expect("one");
            let expected = Path::new(asked.name(), 0);
            prop_assert_eq!(question.path.octets(), expected.octets());
            prop_assert_eq!((question.kind, question.class), (asked.query_type(), asked.query_class()));
        } else {
            prop_assert!(body.question.is_none());
        }
        let said = theirs.edns.map(|edns| (edns.max_payload(), edns.version(), edns.flags().dnssec_ok));
        // Hickory raises a payload below 512 when it reads.
        let ours = body.edns.map(|edns| (edns.payload.max(512), edns.version, edns.dnssec_ok));
        prop_assert_eq!(ours, said);
    }

    /// Whatever comes: no panic, and nothing is read beyond its end.
    #[test]
    fn any_octets_are_read_or_not(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut path = Path::root();
        if let Some(Query { body: Some(Body { question: Some(question), .. }), .. }) = Query::read(&octets, &mut path) {
            prop_assert!(question.octets.len() <= octets.len() - HEADER);
        }
    }
}

#[test]
fn what_is_never_answered() {
    let mut message = query(&n("web.global."), RecordType::A);
    let whole = message.to_vec().unwrap();
    assert!(
        Query::read(&whole[..HEADER - 1], &mut Path::root()).is_none() && Query::read(&[], &mut Path::root()).is_none()
    );
    message.metadata.message_type = MessageType::Response;
    assert!(Query::read(&message.to_vec().unwrap(), &mut Path::root()).is_none());
}

#[test]
fn what_cannot_be_read_is_known_by_its_header() {
    let message = query(&n("web.global."), RecordType::A);
    let whole = message.to_vec().unwrap();
    for len in HEADER..whole.len() {
        assert!(body(&whole[..len], &mut Path::root()).is_none(), "{len}");
    }
    assert!(body(&whole, &mut Path::root()).is_some_and(|body| body.question.is_some()));
    // What comes behind it is nobody's.
    assert!(body(&[&whole, &[0; 7][..]].concat(), &mut Path::root()).is_some_and(|body| body.question.is_some()));
    // A name that points at itself, one that is no name, and one that is too long.
    let header = &whole[..HEADER];
    let long = [[63].as_slice(), &[b'a'; 63]].concat().repeat(4);
    for name in [&[0xc0, 12][..], &[0x40, 0], &[0x80, 0], &[&long[..], &[0]].concat()] {
        assert!(body(&[header, name, &[0, 1, 0, 1]].concat(), &mut Path::root()).is_none(), "{name:?}");
    }
}

#[test]
fn of_further_records_only_opt_counts() {
    let mut message = query(&n("web.global."), RecordType::A);
    assert_eq!(edns(&message), None);
    let soa = TheirRecord::from_rdata(n("web.global."), 5, RData::A(rdata::A::new(10, 0, 0, 1)));
    message.add_answer(soa.clone()).add_authority(soa.clone()).add_additional(soa);
    assert_eq!(edns(&message), None);
    let mut opt = TheirEdns::new();
    opt.set_max_payload(1400).set_dnssec_ok(true).set_version(3);
    // A client's subnet, RFC 7871.
    opt.options_mut().insert(EdnsOption::Unknown(8, vec![0, 1, 24, 0, 192, 0, 2]));
    message.set_edns(opt);
    assert_eq!(edns(&message), Some(Edns { payload: 1400, version: 3, dnssec_ok: true, keepalive: false }));
}

#[test]
fn one_opt_record_at_the_root_and_with_whole_options() {
    let mut whole = query(&n("web.global."), RecordType::A).to_vec().unwrap();
    let opt = |name: &[u8], data: &[u8]| {
        let len = u8::try_from(data.len()).unwrap();
        [name, &[0, 41, 4, 208, 0, 0, 0, 0, 0, len], data].concat()
    };
    let root = opt(&[0], &[]);
    for (records, is_read) in [
        (vec![root.clone()], true),
        (vec![root.clone(), root], false),
        (vec![opt(&[1, b'a', 0], &[])], false),
        (vec![opt(&[0], &[0, 3, 0, 0])], true),
        (vec![opt(&[0], &[0, 3, 0, 1])], false),
        (vec![opt(&[0], &[0, 3, 0])], false),
    ] {
        whole[11] = u8::try_from(records.len()).unwrap();
        let message = [whole.clone(), records.concat()].concat();
        assert_eq!(body(&message, &mut Path::root()).is_some(), is_read, "{records:?}");
    }
}
