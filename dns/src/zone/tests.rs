//! Zones against a naive model, and what they do not accept.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::node::{Srv, Why};
use crate::testing::{apex, ask, n, query};
use crate::{ExtendedError, Zones};

fn zone() -> Zone {
    Zone::new(apex("Global.")).unwrap()
}

fn a(last: u8) -> Node {
    Node { ttl: 5, a: vec![[10, 0, 0, last].into()], ..Node::default() }
}

/// Owners with few labels to choose from, so that they often lie above, below and beside each other.
fn owner() -> impl Strategy<Value = Name> {
    let label = prop_oneof![Just("a"), Just("b"), Just("C"), Just("c")];
    vec(label, 0..5).prop_map(|labels| n(&[labels.as_slice(), &["global."]].concat().join(".")))
}

fn steps() -> impl Strategy<Value = Vec<(Name, Option<u8>)>> {
    vec((owner(), proptest::option::weighted(0.6, 0..3u8)), 0..60)
}

fn replay(steps: &[(Name, Option<u8>)]) -> (Zone, BTreeMap<LowerName, u8>) {
    let mut zone = zone();
    let mut model = BTreeMap::new();
    for (owner, node) in steps {
        let key = canonical(owner);
        match node {
            Some(last) => {
                let changed = model.insert(key, *last) != Some(*last);
                assert_eq!(zone.set(owner, a(*last)), Ok(changed));
            }
            None => assert_eq!(zone.remove(owner), model.remove(&key).is_some()),
        }
    }
    (zone, model)
}

proptest! {
    #[test]
    fn a_name_exists_while_it_or_a_descendant_is_set(steps in steps(), asked in owner()) {
        let (zone, model) = replay(&steps);
        for name in model.keys().cloned().chain([canonical(&asked), canonical(&n("x.global."))]) {
            let path = Path::new(&name, 0);
            let found = zone.find(&path);
            let set = found.and_then(|found| found.data).and_then(|data| data.a().first());
            let expected = model.get(&name).map(|last| [10, 0, 0, *last]);
            prop_assert_eq!(set, expected.as_ref());
            let exists = name == canonical(&n("global.")) || model.keys().any(|owner| name.zone_of(owner));
            prop_assert_eq!(found.is_some(), exists, "{}", name);
        }
    }

    #[test]
    fn the_same_owners_make_the_same_zone_however_they_came(steps in steps()) {
        let (zone, model) = replay(&steps);
        let mut fresh = self::zone();
        for (owner, last) in model.iter().rev() {
            fresh.set(owner, a(*last)).unwrap();
        }
        prop_assert_eq!(&zone, &fresh);
        prop_assert_eq!(zone.to_string(), fresh.to_string());
        let mut emptied = zone.clone();
        for owner in model.keys() {
            prop_assert!(emptied.remove(owner));
        }
        prop_assert_eq!(emptied, self::zone());
        prop_assert_eq!(zone, fresh);
    }

    #[test]
    fn data_has_no_order_and_no_duplicates(mut octets in vec(any::<u8>(), 1..20)) {
        let node = |octets: &[u8]| Node {
            a: octets.iter().map(|last| [10, 0, 0, *last].into()).collect(),
            ..Node::default()
        };
        let mut zone = zone();
        zone.set(&n("a.global."), node(&octets)).unwrap();
        octets.reverse();
        octets.push(octets[0]);
        prop_assert_eq!(zone.set(&n("A.global"), node(&octets)), Ok(false));
        octets.sort_unstable();
        octets.dedup();
        let path = Path::new(&n("a.global."), 0);
        let data = zone.find(&path).and_then(|found| found.data).unwrap();
        prop_assert_eq!(data.a().len(), octets.len());
    }
}

proptest! {
    /// Names that were set together answer like names that were set one by one, and go together.
    #[test]
    fn names_below_an_owner_come_and_go_with_it(
        below in proptest::collection::btree_map(vec(prop_oneof![Just("a"), Just("ab"), Just("B")], 0..4), 0..3u8, 0..8),
        beside in owner(),
        asked in owner(),
    ) {
        let at = |labels: &[&str]| n(&[labels, &["web.demo.global."]].concat().join("."));
        let srv = |last: u8| vec![Srv { priority: 1, weight: last.into(), port: 3, target: at(&["a", "ab"]) }];
        let node = |last: u8| Node { srv: srv(last), ..a(last) };
        let (mut together, mut single) = (zone(), zone());
        for zone in [&mut together, &mut single] {
            zone.set(&beside, a(9)).unwrap();
        }
        let without = together.clone();
        for (labels, last) in &below {
            single.set(&at(labels), node(*last)).unwrap();
        }
        let nodes: Vec<_> = below.iter().map(|(labels, last)| (at(labels), node(*last))).collect();
        let (changed, left_out) = together.set_all(&at(&[]), nodes.clone()).unwrap();
        prop_assert_eq!((changed, left_out), (!below.is_empty(), vec![]));
        prop_assert_eq!(together.set_all(&at(&[]), nodes.into_iter().rev()).unwrap().0, false);
        prop_assert_eq!(together.to_string(), single.to_string());
        let names = below.keys().map(|labels| at(labels)).chain([asked, at(&[]), at(&["x"]), at(&["a"]), n("demo.global.")]);
        for name in names.map(|name| canonical(&name)) {
            let shown = |zone: &Zone| {
                let zones = Zones::new([Arc::new(zone.clone())]);
                [RecordType::A, RecordType::SRV, RecordType::TXT].map(|kind| ask(&zones, &query(&name, kind)))
            };
            prop_assert_eq!(shown(&together), shown(&single), "{}", name);
        }
        prop_assert_eq!(together.remove(&at(&[])), !below.is_empty());
        prop_assert_eq!(together, without);
    }
}

#[test]
fn only_owners_that_can_be_answered() {
    let mut zone = zone();
    let outside = ZoneError::Outside { owner: n("web.local.") };
    assert_eq!(zone.set(&n("web.local."), a(1)), Err(outside));
    for owner in ["*.global.", "a.*.global."] {
        assert_eq!(zone.set(&n(owner), a(1)), Err(ZoneError::Wildcard { owner: n(owner) }));
    }
    let many = Node { a: (0..10_000u32).map(Into::into).collect(), ..Node::default() };
    let error = zone.set(&n("many.global."), many).unwrap_err();
    assert!(matches!(error, ZoneError::TooLarge { kind: RecordType::A, octets: 270_000, .. }), "{error}");
    let nodes = [
        (n("b.many.global."), a(1)),
        (n("many.global."), Node { a: (0..10_000u32).map(Into::into).collect(), ..a(1) }),
    ];
    let mut large = zone.clone();
    assert!(matches!(large.set_all(&n("many.global."), nodes), Ok((true, errors)) if errors == [error]));
    assert_eq!(large.to_string().lines().last(), Some("b.many.global. 5 IN A 10.0.0.1"));
    let many = Path::new(&n("many.global."), 0);
    assert!(large.find(&many).and_then(|found| found.data).is_some_and(|data| data.why.is_some()));
    let outside = ZoneError::Outside { owner: n("b.global.") };
    assert_eq!(zone.set_all(&n("a.global."), [(n("b.global."), a(1))]), Err(outside));
    assert_eq!(zone, self::zone());
}

#[test]
fn a_changed_ttl_is_a_change_and_so_is_a_reason() {
    let mut zone = zone();
    let ttl = |ttl| Node { ttl, ..a(1) };
    let why = |why| Node { why_empty: Some(Why::new(ExtendedError::Other, why)), ..a(1) };
    let changes: Vec<bool> = [ttl(5), ttl(6), ttl(6), why("x"), why("y"), why("y"), Node::default()]
        .map(|node| zone.set(&n("a.global."), node).unwrap())
        .into();
    assert_eq!(changes, [true, true, false, true, true, false, true]);
}

#[test]
fn in_master_file_form() {
    let mut zone = zone();
    zone.set_serial(7);
    let node = Node {
        ttl: u32::MAX,
        aaaa: vec!["fd00::1".parse().unwrap()],
        srv: vec![Srv { priority: 1, weight: 2, port: 3, target: n("A.global") }],
        txt: vec!["x".repeat(300), String::new()],
        ..a(1)
    };
    zone.set(&n("b.global."), a(2)).unwrap();
    zone.set(&n("x.a.global."), node).unwrap();
    let (long, rest) = ("x".repeat(255), "x".repeat(45));
    let expected = format!(
        "global. 60 IN SOA ns.global. hostmaster.global. 7 7200 1800 86400 3\n\
         global. 60 IN NS ns.global.\n\
         x.a.global. 2147483647 IN A 10.0.0.1\n\
         x.a.global. 2147483647 IN AAAA fd00::1\n\
         x.a.global. 2147483647 IN SRV 1 2 3 a.global.\n\
         x.a.global. 2147483647 IN TXT \n\
         x.a.global. 2147483647 IN TXT {long}{rest}\n\
         b.global. 5 IN A 10.0.0.2\n"
    );
    assert_eq!(zone.to_string(), expected);
}

#[test]
fn no_zone_without_a_server() {
    let apex = Apex { servers: vec![], ..zone().apex().clone() };
    assert_eq!(Zone::new(apex), Err(ZoneError::NoServer));
}

#[test]
fn one_zone_an_apex_the_longest_first() {
    let named = |name| {
        let apex = Apex { name: n(name), ..zone().apex().clone() };
        Arc::new(Zone::new(apex).unwrap())
    };
    let mut again = (*named("a.global.")).clone();
    again.set_serial(9);
    let zones = Zones::new([named("global."), named("a.global."), named("b.a.global."), Arc::new(again)]);
    for (name, apex) in [
        ("global.", Some(("global.", 0))),
        ("x.global.", Some(("global.", 0))),
        ("a.global.", Some(("a.global.", 9))),
        ("x.y.a.global.", Some(("a.global.", 9))),
        ("x.b.a.global.", Some(("b.a.global.", 0))),
        ("xa.global.", Some(("global.", 0))),
        ("global.example.", None),
        (".", None),
    ] {
        let path = Path::new(&n(name), 0);
        let found = zones.find(&path).map(|zone| (zone.apex().name.to_string(), zone.serial()));
        assert_eq!(found, apex.map(|(apex, serial)| (apex.to_owned(), serial)), "{name}");
    }
}

#[test]
fn a_zone_that_is_gone_leaves_its_names_to_the_one_above() {
    let named = |name| Arc::new(Zone::new(Apex { name: n(name), ..zone().apex().clone() }).unwrap());
    let mut zones = Zones::new([named("global."), named("a.global."), named("b.global.")]);
    let path = Path::new(&n("x.a.global."), 0);
    let apex = |zones: &Zones| zones.find(&path).map(|zone| zone.apex().name.to_string());
    for (gone, left) in [
        ("B.global.", Some("a.global.")),
        ("b.global.", Some("a.global.")),
        ("A.global.", Some("global.")),
        ("global.", None),
    ] {
        zones.remove(&n(gone));
        assert_eq!(apex(&zones).as_deref(), left, "{gone}");
    }
}

#[test]
fn below_a_mirror_are_the_names_that_are_two_labels_below_the_apex() {
    let mut zone = zone();
    let at = |labels: &str| n(&format!("{labels}global."));
    let target = |labels| vec![Srv { priority: 0, weight: 1, port: 80, target: at(labels) }];
    for (owner, node) in [
        (at("ns."), a(1)),
        (at("web.demo."), a(2)),
        (at("_p._tcp.web.demo."), Node { ttl: 5, srv: target("web.demo."), ..Node::default() }),
        (at("api.svc."), a(3)),
    ] {
        zone.set(&owner, node).unwrap();
    }
    let pods =
        [(at("h.east.db.demo."), a(4)), (at("_p._tcp.db.demo."), Node { srv: target("h.east.db.demo."), ..a(5) })];
    zone.set_all(&at("db.demo."), pods).unwrap();
    zone.set_complete(true);
    zone.mirror("SVC");
    let zones = Zones::new([Arc::new(zone)]);
    let shown = |name: &str, kind| {
        let answer = ask(&zones, &query(&at(name), kind));
        let data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        format!("{:?} {}", answer.metadata.response_code, data.join(" "))
    };
    for (name, expected) in [
        ("", "NoError "),
        ("ns.", "NoError 10.0.0.1"),
        ("web.demo.", "NoError 10.0.0.2"),
        ("web.demo.svc.", "NoError 10.0.0.2"),
        ("h.east.db.demo.svc.", "NoError 10.0.0.4"),
        ("svc.", "NoError "),
        ("demo.svc.", "NoError "),
        ("east.db.demo.svc.", "NoError "),
        ("ns.svc.", "NXDomain "),
        ("x.ns.svc.", "NXDomain "),
        ("x.demo.svc.", "NXDomain "),
        // A namespace that is called like the mirror.
        ("api.svc.", "NXDomain "),
        ("api.svc.svc.", "NoError 10.0.0.3"),
    ] {
        assert_eq!(shown(name, RecordType::A), expected, "{name}");
    }
    // Targets that were set together stay where one asks; others are where they were said to be.
    assert_eq!(shown("_p._tcp.db.demo.svc.", RecordType::SRV), "NoError 0 1 80 h.east.db.demo.svc.global.");
    assert_eq!(shown("_p._tcp.db.demo.", RecordType::SRV), "NoError 0 1 80 h.east.db.demo.global.");
}
