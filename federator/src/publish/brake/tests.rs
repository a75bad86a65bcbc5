//! What is held of what a comparison misses, as tables and as properties.

use super::*;
use crate::testing::{export, head, key, observed, plain, slice};
use model::{export::Endpoint, tracked::Tracked};
use proptest::prelude::*;
use std::ops::Range;

const BEFORE: Before<'static> = Before { hold: None, went_back: false, at: 7, is_memory: false };

/// The store's records of these exports.
fn stood(exports: &Observed) -> Stood {
    let mut stood = Stood::default();
    for (service, export) in exports.exports.iter() {
        stood.note(&format!("records/east/{service}/head"), export.head.encode());
        for (name, slice) in &export.slices {
            stood.note(&format!("records/east/{service}/slices/{name}"), slice.encode());
        }
    }
    stood
}

/// `10.0.0.N` for each number.
fn addresses(numbers: Range<u8>) -> String {
    numbers.map(|n| format!("10.0.0.{n} ")).collect()
}

/// What stands in the store once everything was amended.
fn amended(held: &Held, seen: &Observed, before: &Observed) -> Observed {
    let mut all = Observed { exports: Tracked::new(), ..seen.clone() };
    for service in before.exports.iter().chain(seen.exports.iter()).map(|(service, _)| service) {
        all.exports.set(service.clone(), held.amend(service, seen.exports.get(service)));
    }
    all
}

fn number(held: &Held) -> u64 {
    held.hold().map_or(0, |hold| hold.endpoints)
}

#[test]
fn many_at_once_are_held_and_few_are_not() {
    let check = |before: &[(&str, Range<u8>)], after: &[(&str, Range<u8>)], expected: u64| {
        let of = |services: &[(&str, Range<u8>)]| {
            observed(services.iter().map(|(name, numbers)| (*name, plain(&addresses(numbers.clone())))))
        };
        let held = stood(&of(before)).compare(&of(after), BEFORE);
        assert_eq!(number(&held), expected, "{before:?} -> {after:?}");
    };
    check(&[("demo/web", 0..60)], &[("demo/web", 0..60)], 0);
    check(&[("demo/web", 0..60)], &[("demo/web", 30..60)], 30);
    check(&[("demo/web", 0..60)], &[("demo/web", 20..60)], 20);
    // Too few, though they are all there are.
    check(&[("demo/web", 0..19)], &[], 0);
    check(&[("demo/web", 0..20)], &[], 20);
    // A share of exactly that much is not more.
    check(&[("demo/web", 0..100)], &[("demo/web", 30..100)], 0);
    check(&[("demo/web", 0..100)], &[("demo/web", 31..100)], 31);
    // Counted together, held one by one.
    check(&[("demo/web", 0..30), ("demo/api", 0..30)], &[("demo/web", 15..30)], 45);
    // What is new does not make up for what is missing.
    check(&[("demo/web", 0..60)], &[("demo/web", 30..90)], 30);
    check(&[], &[("demo/web", 0..60)], 0);
}

#[test]
fn only_what_could_be_used_is_held_and_any_health_is_a_name() {
    let draining: String = (0..60).map(|n| format!("10.0.0.{n}~ ")).collect();
    let unready = draining.replace('~', "-");
    for health in [&draining, &unready] {
        let held = stood(&observed([("demo/web", plain(health))])).compare(&observed([]), BEFORE);
        assert_eq!(number(&held), 0);
        let before = observed([("demo/web", plain(&addresses(0..60)))]);
        let held = stood(&before).compare(&observed([("demo/web", plain(health))]), BEFORE);
        assert_eq!(number(&held), 0);
    }
}

#[test]
fn what_is_held_stands_beside_what_is_seen_and_as_the_last_resort() {
    let before = observed([("demo/web", plain(&addresses(0..30))), ("demo/api", plain(&addresses(0..30)))]);
    let seen = observed([("demo/web", plain(&addresses(10..30)))]);
    let held = stood(&before).compare(&seen, BEFORE);
    let expected = Hold {
        since: 7,
        endpoints: 40,
        reason: "an owner that read everything anew misses 40 of 60 endpoints".into(),
        ..held.hold.clone()
    };
    assert_eq!(held.hold(), Some(&expected));
    let all = amended(&held, &seen, &before);
    let web = all.exports.get(&key("demo/web")).expect("it is seen");
    assert_eq!(web.slices.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["Held/s0", "s0"]);
    assert_eq!((web.ready(), web.endpoints().count()), (20, 30));
    let api = all.exports.get(&key("demo/api")).expect("it is held");
    assert_eq!(api.head, before.exports.get(&key("demo/api")).expect("it was there").head);
    assert!(api.endpoints().all(|member| member.endpoint.health == Health::Held));
}

#[test]
fn the_next_owner_holds_on_what_is_left_of_it_and_forgets_no_time() {
    let before = observed([("demo/web", plain(&addresses(0..60)))]);
    let seen = observed([("demo/web", plain(&addresses(30..60)))]);
    let first = stood(&before).compare(&seen, BEFORE);
    let hold = first.hold().cloned().expect("it holds");
    let left = amended(&first, &seen, &before);
    let compare = |seen: &Observed, hold: Option<&Hold>| {
        stood(&left).compare(seen, Before { hold, went_back: true, at: 99, is_memory: false })
    };
    // The same: nothing begins anew.
    assert_eq!(compare(&seen, Some(&hold)).hold(), Some(&hold));
    // Before the first owner came to write it all, too.
    let again = stood(&before).compare(&seen, Before { hold: Some(&hold), went_back: true, at: 99, is_memory: false });
    assert_eq!(again.hold(), Some(&hold));
    // Most are seen again: the rest is held, few as they are.
    let most = observed([("demo/web", plain(&addresses(5..60)))]);
    let rest = compare(&most, Some(&hold));
    assert_eq!((number(&rest), rest.hold.since, rest.hold.went_back), (5, 7, false));
    // More are missing: that is another matter, and it begins now.
    let less = observed([("demo/web", plain(&addresses(40..60)))]);
    let more = compare(&less, Some(&hold));
    assert_eq!((number(&more), more.hold.since, more.hold.went_back), (40, 99, true));
    // An operator has accepted it, and that is not about what is missing besides.
    let accepted = Hold { accepted: true, ..hold };
    assert_eq!(compare(&seen, Some(&accepted)).hold(), None);
    assert_eq!(compare(&most, Some(&accepted)).hold(), None);
    assert_eq!(number(&compare(&less, Some(&accepted))), 40);
    assert!(!compare(&less, Some(&accepted)).hold.accepted);
    // Nobody holds them any more.
    assert_eq!(number(&compare(&most, None)), 0);
}

#[test]
fn what_is_only_remembered_takes_nothing_away() {
    let mut slice = slice("http:80", "10.0.0.1 10.0.0.2 10.0.0.3");
    slice.endpoints[1].health = Health::NotReady;
    let before = observed([("demo/web", export(head("http:80"), [slice]))]);
    let seen = observed([("demo/web", plain("10.0.0.3"))]);
    assert_eq!(number(&stood(&before).compare(&seen, BEFORE)), 0);
    let held = stood(&before).compare(&seen, Before { is_memory: true, ..BEFORE });
    assert_eq!(number(&held), 2);
    let all = amended(&held, &seen, &before);
    let web = all.exports.get(&key("demo/web")).expect("it is there");
    let health = web.endpoints().map(|member| member.endpoint.health).collect::<BTreeSet<_>>();
    assert_eq!(health, BTreeSet::from([Health::Ready, Health::Held, Health::NotReady]));
}

#[test]
fn what_a_partial_look_does_not_show_is_compared_later() {
    let before = observed([("demo/web", plain(&addresses(0..30))), ("demo/api", plain(&addresses(0..30)))]);
    let mut seen = observed([("demo/web", plain(&addresses(25..30)))]);
    let mut stood = stood(&before);
    seen.partial = true;
    let mut held = stood.compare(&seen, BEFORE);
    assert_eq!(number(&held), 25);
    held.join(stood.compare(&seen, Before { at: 8, ..BEFORE }));
    assert_eq!(number(&held), 25);
    seen.partial = false;
    held.join(stood.compare(&seen, Before { at: 9, ..BEFORE }));
    assert_eq!((number(&held), held.hold.since), (55, 7));
    assert_eq!(stood.compare(&seen, BEFORE), Held::default());
}

/// `Kind namespace/name` of each.
fn named(objects: &BTreeSet<ObjectName>) -> Vec<String> {
    objects.iter().map(ToString::to_string).collect()
}

#[test]
fn every_object_is_doubted_and_goes_as_it_is_confirmed() {
    let mut web = Export::clone(&plain(&addresses(0..30)));
    web.slices.insert("s0/1".into(), Arc::new(slice("http:80", &addresses(30..40))));
    web.slices.insert("WorkloadEntry/vm".into(), Arc::new(slice("http:80", "10.1.0.1")));
    let before = observed([("demo/web", Arc::new(web)), ("other/api", plain(&addresses(0..30)))]);
    let mut seen = observed([("demo/web", export(head("http:80"), []))]);
    let mut held = stood(&before).compare(&seen, BEFORE);
    assert_eq!(named(&held.doubts(&seen)), ["Service other/api", "EndpointSlice demo/s0", "WorkloadEntry demo/vm"]);
    let mut confirm = |seen: &mut Observed, kind, name: &str| {
        let (namespace, name) = name.split_once('/').expect("namespace/name");
        let name = ObjectName { kind, namespace: namespace.into(), name: name.into() };
        Arc::make_mut(&mut seen.confirmed).insert(name);
        let released: Vec<String> = held.confirm(seen).iter().map(ToString::to_string).collect();
        (released, number(&held))
    };
    assert_eq!(confirm(&mut seen, Kind::WorkloadEntry, "demo/vm"), (vec!["demo/web".to_owned()], 70));
    assert_eq!(confirm(&mut seen, Kind::WorkloadEntry, "demo/s0"), (vec![], 70));
    assert_eq!(confirm(&mut seen, Kind::EndpointSlice, "demo/s0"), (vec!["demo/web".to_owned()], 30));
    // The service is there after all: what it has is asked for now.
    seen.exports.set(key("other/api"), Some(export(head("http:80"), [])));
    assert_eq!(confirm(&mut seen, Kind::Service, "other/api"), (vec![], 30));
    seen.exports.set(key("other/api"), None);
    assert_eq!(confirm(&mut seen, Kind::Service, "demo/other"), (vec!["other/api".to_owned()], 0));
    assert_eq!((held.hold(), held.doubts(&seen)), (None, BTreeSet::new()));
}

/// A few services of a few endpoints, enough of them for the brake.
fn any_exports() -> impl Strategy<Value = Observed> {
    let endpoints = prop::collection::btree_map(0..40_u8, 0..4_u8, 0..40);
    prop::collection::btree_map(0..4_u8, (endpoints, 1..4_u8), 0..4).prop_map(|services| {
        let mut seen = observed([]);
        for (number, (endpoints, spread)) in services {
            let texts = |nth: u8| -> String {
                let part = endpoints.iter().filter(move |(n, _)| **n % spread == nth);
                part.map(|(n, health)| format!("10.0.0.{n}{} ", ["", "", "~", "-"][usize::from(*health)])).collect()
            };
            let slices = (0..spread).map(|nth| slice("http:80", &texts(nth)));
            seen.exports.set(key(&format!("demo/s{number}")), Some(export(head("http:80"), slices)));
        }
        seen
    })
}

fn held_endpoints(of: &Observed) -> BTreeSet<(ServiceKey, Place)> {
    let slices = of.exports.iter().flat_map(|(key, export)| export.slices.values().map(move |slice| (key, slice)));
    let all = slices.flat_map(|(key, slice)| slice.endpoints.iter().map(move |endpoint: &Endpoint| (key, endpoint)));
    all.filter(|(_, endpoint)| endpoint.health == Health::Held).map(|(key, at)| (key.clone(), place(at))).collect()
}

proptest! {
    #[test]
    fn what_is_held_is_what_is_missing_and_nothing_that_is_seen(before in any_exports(), seen in any_exports()) {
        let held = stood(&before).compare(&seen, BEFORE);
        let all = amended(&held, &seen, &before);
        let useful = |of: &Observed| -> BTreeSet<(ServiceKey, Place)> {
            let at = |(key, export): (&ServiceKey, &Arc<Export>)| {
                places(export, is_useful).into_iter().map(|place| (key.clone(), place)).collect::<Vec<_>>()
            };
            of.exports.iter().flat_map(at).collect()
        };
        let named = |(key, place): &(ServiceKey, Place)| {
            seen.exports.get(key).is_some_and(|export| places(export, |_| true).contains(place))
        };
        let missing: BTreeSet<_> = useful(&before).into_iter().filter(|at| !named(at)).collect();
        let expected = if missing.len() >= 20 && missing.len() * 10 > useful(&before).len() * 3 {
            missing
        } else {
            BTreeSet::new()
        };
        prop_assert_eq!(&held_endpoints(&all), &expected);
        prop_assert_eq!(number(&held), expected.len() as u64);
        // What is seen stands there as it is seen.
        for (key, export) in seen.exports.iter() {
            let stands = all.exports.get(key).expect("it is seen");
            prop_assert!(export.slices.iter().all(|(name, slice)| stands.slices.get(name) == Some(slice)));
        }
        // Amended once more it is the same; and the next owner, who reads it, holds the same.
        prop_assert_eq!(held_endpoints(&amended(&held, &all, &before)), expected);
        let next = stood(&all).compare(&seen, Before { hold: held.hold(), ..BEFORE });
        prop_assert_eq!(&next, &held);
    }

    #[test]
    fn what_is_seen_again_is_never_held_again(before in any_exports(), steps in prop::collection::vec(any_exports(), 1..5)) {
        let mut held: Option<Held> = None;
        let mut known = BTreeSet::new();
        for seen in steps {
            let first = held.is_none();
            let held = held.get_or_insert_with(|| stood(&before).compare(&seen, BEFORE));
            for (service, export) in seen.exports.iter() {
                held.see(service, Some(export));
            }
            let now = held_endpoints(&amended(held, &seen, &before));
            prop_assert!(first || now.is_subset(&known), "single deletes are not held");
            let mut sum_of_all = SetHash::default();
            for (service, export) in &held.services {
                sum_of_all = sum_of_all.plus(sum(service, export).0);
            }
            prop_assert_eq!((held.hold.set, number(held)), (sum_of_all, now.len() as u64));
            known = now;
        }
    }
}
