//! However a history is cut into batches, and wherever an agent comes in: the same store makes the same View, byte
//! for byte. And what cannot be known is not taken for empty.

use super::*;
use crate::{
    condition::Reason,
    observe::Observed,
    publish::status::Settled,
    store::{Committed, Store as _, Txn, embedded::Embedded},
    testing::{as_owner, head, id, key, meta, now, observed, plain, slice},
};
use model::{
    cluster::{Hold, Synced},
    export::{Affinity, Exported, Family, Head, Kind, Texts, Traffic},
    record::{Record as _, VipHost},
};
use proptest::prelude::*;
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

const HEAD: &str = "records/east/demo/web/head";
/// An IPv6 virtual address.
const V6: Ipv6Addr = Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, 1);
const SLICE: &str = "records/east/demo/web/slices/s0";

fn fold(own: &[&str]) -> Fold {
    let mut fold = Fold::new(&"global".into());
    fold.own(&own.iter().map(|name| (id(name), true)).collect(), true);
    fold
}

/// Writes as owners do: with a marker that speaks of all records there are then, where there is one.
fn write(store: &Embedded, writes: &[(&str, Option<Vec<u8>>)]) -> u64 {
    let mut all: Vec<_> = writes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let touched = writes.iter().filter_map(|(key, _)| match Key::parse(key) {
        Ok(key @ (Key::Synced(_) | Key::Head(..) | Key::Slice(..))) => key.owned_by().cloned(),
        _ => None,
    });
    for id in touched.collect::<BTreeSet<_>>() {
        let key = Key::Synced(id.clone()).to_string();
        let given = writes.iter().find(|(written, _)| *written == key).map(|(_, value)| value.clone());
        let stands = snapshot(store).entries.remove(&key).map(|entry| entry.value);
        if let Some(marker) = given.unwrap_or(stands) {
            let epoch = Synced::decode(&marker).expect("a marker").epoch;
            all = as_owner(store, id.as_str(), epoch, &all);
        }
    }
    write_past(store, all)
}

/// Writes just this.
fn write_past(store: &Embedded, writes: Vec<(String, Option<Vec<u8>>)>) -> u64 {
    match now(store.commit(&Txn { writes, ..Txn::default() })) {
        Ok(Committed::Done(revision)) => revision,
        other => panic!("{other:?}"),
    }
}

fn snapshot(store: &Embedded) -> Snapshot {
    now(store.read("")).expect("it is there")
}

fn marker(epoch: u64) -> Vec<u8> {
    let synced = Synced { epoch, ..Synced::default() };
    synced.encode()
}

/// The addresses of `demo/web`, or `-` when there is no such service.
fn web(fold: &Fold) -> String {
    match fold.view().services().get(&key("demo/web")) {
        None => "-".to_owned(),
        Some(service) => {
            let endpoints = service.exports.iter().flat_map(|(_, export)| export.endpoints());
            let addresses: Vec<_> = endpoints.map(|member| member.endpoint.address.to_string()).collect();
            addresses.join(" ")
        }
    }
}

/// A transaction as publishers make them, and worse ones: any keys, whatever behind them, and the cluster's marker.
fn any_transaction() -> impl Strategy<Value = Vec<(String, Option<Vec<u8>>)>> {
    prop_oneof![Just("east"), Just("west")].prop_flat_map(transaction_of)
}

fn transaction_of(cluster: &'static str) -> impl Strategy<Value = Vec<(String, Option<Vec<u8>>)>> {
    let write = (0..3_u8, 0..13_u8, 0..6_u8).prop_map(move |(n, kind, value)| {
        let vip = Vip { v4: Ipv4Addr::new(240, 64, 0, value), v6: V6 };
        let (key, good) = match kind {
            0 => (format!("clusters/{cluster}/meta"), meta("uid", &format!("n{value}")).encode()),
            1 => (format!("clusters/{cluster}/owner"), vec![]),
            2 => (format!("records/{cluster}/demo/s{n}/head"), any_head(value).encode()),
            3..=5 => (
                format!("records/{cluster}/demo/s{n}/slices/s{kind}"),
                slice("http:80", &format!("10.0.0.{value}")).encode(),
            ),
            6 => (format!("order/demo/s{n}"), Order(vec![id(cluster), id("north")]).encode()),
            7 => (format!("vips/hosts/s{n}.demo.global"), vip.encode()),
            // Its number never goes back.
            8 => {
                let tombstone = Tombstone { uid: "".into(), number: 1, removed: value == 2 };
                return (format!("tombstones/{cluster}"), Some(tombstone.encode()));
            }
            9 => ("vips/addresses/fd66::1".to_owned(), VipHost(format!("s{n}.demo.global")).encode()),
            10 | 11 => {
                let host = VipHost(format!("s{}.demo.global", kind - 10));
                (format!("vips/addresses/240.64.0.{}", n + 1), host.encode())
            }
            _ => (format!("{cluster}/unknown/{n}"), vec![]),
        };
        let value = match value {
            0 => None,
            1 => Some(vec![0xff]),
            _ => Some(good),
        };
        (key, value)
    });
    (prop::collection::btree_map(0..12_u8, write, 0..7), 1..3_u64).prop_map(move |(writes, epoch)| {
        // A key may stand in a transaction once.
        let mut writes: BTreeMap<_, _> = writes.into_values().collect();
        writes.insert(format!("clusters/{cluster}/synced"), Some(marker(epoch)));
        writes.into_iter().collect()
    })
}

/// A head of its own for every value from two on: each differs from the others in everything that is merged.
fn any_head(value: u8) -> Head {
    let is_odd = value % 2 == 1;
    let (first, second) = if is_odd { (Family::V4, Family::V6) } else { (Family::V6, Family::V4) };
    let texts: Texts = [("team".into(), format!("t{value}").into())].into();
    Head {
        kind: if value == 3 { Kind::Headless } else { Kind::ClusterIp },
        families: [first, second].into_iter().take(usize::from(value) / 2).collect(),
        traffic: Traffic {
            affinity: if value == 2 { Affinity::None } else { Affinity::ClientIp { seconds: value.into() } },
            node_local: is_odd,
            distribution: (value > 3).then(|| format!("Prefer{value}").into()),
        },
        exported: Arc::new(Exported { labels: texts.clone(), annotations: texts }),
        created: value.into(),
        ..head(&format!("http:8{value} port-{value}:90 admin:9{value}/UDP"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn replaying_changes_equals_reading_anew(
        history in prop::collection::vec(any_transaction(), 1..20),
        cuts in prop::collection::vec(any::<bool>(), 20),
        start in 0..20_usize,
        gap in 0..20_usize,
    ) {
        let store = Embedded::new();
        let mut watch = now(store.watch(1)).expect("it is there");
        let (mut batches, mut snapshots) = (vec![], vec![snapshot(&store)]);
        for writes in &history {
            let writes: Vec<_> = writes.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
            write(&store, &writes);
            batches.push(now(watch.next()).expect("a change"));
            snapshots.push(snapshot(&store));
        }

        // Who was there all the time, transaction by transaction.
        let mut follower = fold(&[]);
        follower.replace(&snapshots[0]);
        for batch in &batches {
            prop_assert_eq!(follower.apply(batch), Applied::All);
        }
        // Who came later, and heard several transactions at once.
        let start = start % snapshots.len();
        let mut late = fold(&[]);
        late.replace(&snapshots[start]);
        let mut waiting: Option<Batch> = None;
        for (batch, cut) in batches[start..].iter().zip(&cuts) {
            let mut next = batch.clone();
            if let Some(before) = waiting.take() {
                next.changes = [before.changes, next.changes].concat();
            }
            if *cut {
                prop_assert_eq!(late.apply(&next), Applied::All);
            } else {
                waiting = Some(next);
            }
        }
        waiting.into_iter().for_each(|batch| _ = late.apply(&batch));
        // Who was there at the beginning and the end only.
        let gap = gap % snapshots.len();
        let mut absent = fold(&[]);
        absent.replace(&snapshots[gap]);
        absent.replace(&snapshots[history.len()]);

        let expected = follower.result();
        prop_assert_eq!(expected.view.revision(), history.len() as u64);
        for other in [late.result(), absent.result()] {
            prop_assert_eq!(other.view.canonical(), expected.view.canonical());
            prop_assert_eq!(other.view.digest(), expected.view.digest());
            prop_assert_eq!(&other.quarantined, &expected.quarantined);
            prop_assert_eq!(&other.seats, &expected.seats);
        }
        for other in [&late, &absent] {
            prop_assert_eq!(other.position(), follower.position());
        }
    }
}

#[test]
fn a_record_that_does_not_decode_is_set_aside_alone_and_heals() {
    let good = |number: u8| slice("http:80", &format!("10.0.0.{number}")).encode();
    let store = Embedded::new();
    let mut fold = fold(&[]);
    let mut check = |writes: &[(&str, Option<Vec<u8>>)], addresses: &str, aside: &[&str]| {
        let revision = write(&store, writes);
        let mut watch = now(store.watch(revision)).expect("it is there");
        fold.apply(&now(watch.next()).expect("a change"));
        assert_eq!(web(&fold), addresses);
        let result = fold.result();
        assert_eq!(result.quarantined.keys().collect::<Vec<_>>(), aside);
    };
    let other = "records/east/demo/web/slices/s1";
    check(
        &[(HEAD, Some(head("http:80").encode())), (SLICE, Some(good(1))), (other, Some(good(2)))],
        "10.0.0.1 10.0.0.2",
        &[],
    );
    check(&[(SLICE, Some(vec![0xff]))], "10.0.0.2", &[SLICE]);
    check(&[(SLICE, Some(good(3)))], "10.0.0.2 10.0.0.3", &[]);
    check(&[(SLICE, Some(slice("http:80", "127.0.0.1").encode()))], "10.0.0.2", &[SLICE]);
    check(&[(SLICE, None)], "10.0.0.2", &[]);
    check(&[(HEAD, Some(vec![0xff]))], "-", &[HEAD]);
    check(&[(HEAD, Some(head("http:80").encode()))], "10.0.0.2", &[]);
    check(&[("what/is/this", Some(vec![]))], "10.0.0.2", &["what/is/this"]);
    check(&[("what/is/this", None)], "10.0.0.2", &[]);
    // Slices without a head are nothing.
    check(&[(HEAD, None)], "-", &[]);
}

#[test]
fn whatever_stands_beside_records_is_set_aside_when_everything_is_read() {
    let store = Embedded::new();
    let strange =
        ["records/", "records/UP/demo/web/head", "records/east", "records/east/x", "records/west", "recordsx"];
    let all = strange.map(|key| (key, Some(vec![])));
    write(&store, &[&all[..], &[(HEAD, Some(head("http:80").encode()))]].concat());
    let fold = fold_of(&store);
    assert!(fold.view().services().get(&key("demo/web")).is_some());
    assert_eq!(fold.result().quarantined.keys().collect::<Vec<_>>(), strange);
}

#[test]
fn what_is_gone_when_everything_is_read_again_goes() {
    let store = Embedded::new();
    let mut fold = fold(&[]);
    let slice = slice("http:80", "10.0.0.1").encode();
    write(&store, &[(HEAD, Some(head("http:80").encode())), (SLICE, Some(slice))]);
    write(&store, &[("clusters/west/owner", Some(vec![])), ("a/b", Some(vec![]))]);
    write(&store, &[("clusters/east/synced", Some(marker(1)))]);
    fold.replace(&snapshot(&store));
    assert_eq!(web(&fold), "10.0.0.1");
    assert!(fold.result().seats.contains_key(&id("west")));
    write(&store, &[(HEAD, None), (SLICE, None), ("clusters/west/owner", None), ("a/b", None)]);
    fold.replace(&snapshot(&store));
    assert_eq!(web(&fold), "-");
    let result = fold.result();
    assert!(result.seats.is_empty() && result.quarantined.is_empty());
}

#[test]
fn of_a_cluster_that_has_lost_its_marker_nothing_goes() {
    let (store, emptied) = (Embedded::new(), Embedded::new());
    let mut fold = fold(&[]);
    write(&store, &[("clusters/east/synced", Some(marker(1))), (HEAD, Some(head("http:80").encode()))]);
    fold.replace(&snapshot(&store));
    for n in 0..3 {
        write(&emptied, &[("clusters/west/synced", Some(marker(n)))]);
    }
    fold.replace(&snapshot(&emptied));
    assert!(fold.view().services().get(&key("demo/web")).is_some(), "{}", fold.view().canonical());
}

#[test]
fn owners_and_foreign_keys_do_not_move_the_revision() {
    let store = Embedded::new();
    let mut fold = fold(&[]);
    let revision = write(&store, &[("clusters/east/synced", Some(marker(1)))]);
    write(&store, &[("clusters/east/owner", Some(vec![])), ("a/b", Some(vec![]))]);
    fold.replace(&snapshot(&store));
    assert_eq!(fold.view().revision(), revision);
    assert_eq!(fold.position(), Some(revision + 1));
}

/// A store with one service and all that belongs to it, in a life of this name.
fn living(life: &str, address: &str) -> Embedded {
    let store = Embedded::new();
    let generation = Generation { id: life.into(), base: 0, settled: true, ..Generation::default() };
    let vip = Vip { v4: Ipv4Addr::new(240, 64, 0, 1), v6: V6 };
    write_past(&store, vec![("generation".to_owned(), Some(generation.encode()))]);
    write(
        &store,
        &[
            ("clusters/east/meta", Some(meta("uid", "n1").encode())),
            ("clusters/east/synced", Some(marker(1))),
            (HEAD, Some(head("http:80").encode())),
            (SLICE, Some(slice("http:80", address).encode())),
            ("order/demo/web", Some(Order(vec![id("west"), id("east")]).encode())),
            ("vips/hosts/web.demo.global", Some(vip.encode())),
            ("vips/addresses/240.64.0.1", Some(VipHost("web.demo.global".to_owned()).encode())),
            ("vips/addresses/fd66::1", Some(VipHost("web.demo.global".to_owned()).encode())),
        ],
    );
    store
}

#[test]
fn a_restored_store_takes_nothing_away_until_its_markers_are_new() {
    let store = living("first", "10.0.0.1");
    let mut fold = fold(&[]);
    assert_eq!(fold.judge(&snapshot(&store), "x"), Judgement::Good);
    fold.replace(&snapshot(&store));
    let before = fold.view().canonical();
    let seen = fold.view().revision();

    // It is emptied: another life is proposed, whose revisions count on.
    let emptied = Embedded::new();
    let Judgement::Propose(next, None) = fold.judge(&snapshot(&emptied), "second") else { panic!("it is another one") };
    assert!(next.base > 0 && !next.settled);
    write_past(&emptied, vec![("generation".to_owned(), Some(next.encode()))]);
    assert_eq!(fold.judge(&snapshot(&emptied), "x"), Judgement::Good);
    fold.replace(&snapshot(&emptied));
    assert_eq!(fold.view().canonical(), before);
    assert!(fold.result().complete && fold.result().aside.contains(&id("east")));

    // What it held is said again: addresses and order, each with what belongs to it.
    let said: Vec<Vec<String>> =
        fold.assertions().iter().map(|all| all.iter().map(|(key, ..)| key.to_string()).collect()).collect();
    let vips = ["vips/hosts/web.demo.global", "vips/addresses/240.64.0.1", "vips/addresses/fd66::1"];
    assert_eq!(said, [vec!["order/demo/web"], vips.to_vec()]);

    // An owner writes what it sees, and until it says that this is all, what was known counts.
    let mut watch = now(emptied.watch(snapshot(&emptied).revision + 1)).expect("it is there");
    let mut goes_on = |fold: &mut Fold, writes: &[(&str, Option<Vec<u8>>)]| {
        write(&emptied, writes);
        assert_eq!(fold.apply(&now(watch.next()).expect("a change")), Applied::All);
        web(fold)
    };
    let slice_of = |address| (SLICE, Some(slice("http:80", address).encode()));
    let first = [("clusters/east/synced", Some(marker(0))), (HEAD, Some(head("http:80").encode()))];
    assert_eq!(goes_on(&mut fold, &first), "10.0.0.1");
    let all = [("clusters/east/synced", Some(marker(2))), slice_of("10.0.0.2")];
    assert_eq!(goes_on(&mut fold, &all), "10.0.0.2");
    assert!(fold.result().aside.is_empty());
    let addresses = |fold: &Fold| fold.view().services().get(&key("demo/web")).and_then(|web| web.vip);
    assert!(addresses(&fold).is_some(), "nothing shared goes before the generation is settled");
    let settled = Generation { settled: true, ..next };
    goes_on(&mut fold, &[("generation", Some(settled.encode()))]);
    assert!(addresses(&fold).is_none(), "nobody had said it again");
    assert!(fold.assertions().is_empty() && fold.view().revision() > seen);
}

#[test]
fn a_removal_that_a_restored_store_lacks_is_said_again() {
    let store = living("first", "10.0.0.1");
    let backup = snapshot(&store);
    let mut fold = fold(&[]);
    let tombstone = Tombstone { uid: "uid".into(), number: 1, removed: true }.encode();
    write_past(&store, vec![("tombstones/east".to_owned(), Some(tombstone.clone()))]);
    fold.replace(&snapshot(&store));
    assert_eq!(web(&fold), "-");

    let Judgement::Propose(next, over) = fold.judge(&backup, "second") else { panic!("it is another one") };
    assert_eq!(over.as_ref(), backup.entries.get("generation").map(|entry| &entry.value));
    let entry = Entry { value: next.encode(), created: 1, modified: backup.revision + 1 };
    let mut restored = Snapshot { revision: backup.revision + 1, ..backup };
    restored.entries.insert("generation".to_owned(), entry);
    let said = (Key::Tombstone(id("east")), tombstone.clone(), 0);
    // Also by who comes when everybody else has said what he held.
    let settled = Generation { settled: true, ..next.clone() };
    for generation in [next, settled] {
        restored.entries.get_mut("generation").expect("it is there").value = generation.encode();
        fold.replace(&restored);
        assert_eq!((web(&fold), fold.result().aside.len()), ("-".to_owned(), 1));
        assert!(fold.assertions().contains(&vec![said.clone()]), "{:?}", fold.assertions());
    }
    let revision = restored.revision + 1;
    let entry = Entry { value: tombstone, created: revision, modified: revision };
    fold.apply(&Batch { revision, changes: vec![("tombstones/east".to_owned(), Some(entry))] });
    assert!(fold.assertions().is_empty() && fold.result().aside.is_empty());
}

#[test]
fn a_store_that_was_rolled_back_is_another_life() {
    let store = living("first", "10.0.0.1");
    let old = snapshot(&store);
    let mut fold = fold(&[]);
    write(&store, &[(SLICE, Some(slice("http:80", "10.0.0.2").encode()))]);
    fold.replace(&snapshot(&store));
    assert!(matches!(fold.judge(&old, "next"), Judgement::Propose(..)), "its revision is smaller");
    // It may have come as far again before anybody looks; but not with the same markers.
    let later = Snapshot { revision: old.revision + 100, ..old.clone() };
    assert!(matches!(fold.judge(&later, "next"), Judgement::Propose(..)));
    assert!(!fold.is_same_life(old.entries.get("generation"), &later));
    assert!(fold.is_same_life(old.entries.get("generation"), &snapshot(&store)));
}

#[test]
fn what_an_earlier_process_knew_makes_nothing_absent() {
    let store = living("first", "10.0.0.1");
    write_past(&store, vec![marked_at(&store, "1")]);
    let all = snapshot(&store);
    let loaded = || Loaded {
        position: all.revision,
        written: std::time::UNIX_EPOCH,
        entries: all.entries.clone().into_iter().collect(),
    };
    let said = |fold: &Fold| (fold.result().complete, fold.result().is_ready());
    // Another life of the store, as the embedded one's is with every process: nothing in it speaks of the cluster yet.
    for (own, is_own) in [("east", true), ("west", false)] {
        let mut fold = fold(&[own]);
        fold.begin(loaded());
        assert_eq!(said(&fold), (false, true));
        let empty = Embedded::new();
        write(
            &empty,
            &[(
                "generation",
                Some(Generation { id: "second".into(), base: 100, settled: false, ..Generation::default() }.encode()),
            )],
        );
        fold.replace(&snapshot(&empty));
        fold.found(0);
        assert_eq!((web(&fold), said(&fold)), ("10.0.0.1".to_owned(), (false, true)));
        // A source that is behind what was known says nothing of what came since.
        fold.observed(&id(own), Observed { source_version: "0".into(), ..observed([]) });
        assert_eq!((web(&fold), said(&fold)), ("10.0.0.1".to_owned(), (false, true)));
        fold.observed(&id(own), observed([]));
        assert_eq!(said(&fold), (is_own, true));
        if !is_own {
            // Everybody's failure it does not become for long, where nobody else can speak for it.
            fold.give_up_on_the_unseen(false);
            assert_eq!(said(&fold), (false, true), "somebody else is to say what there is");
            fold.give_up_on_the_unseen(true);
            assert_eq!(said(&fold), (true, true));
        }
    }
    // The same life: what was missed comes first.
    let mut fold = fold(&[]);
    fold.begin(loaded());
    fold.found(all.revision + 1);
    assert_eq!(said(&fold), (false, true));
    write(&store, &[("records/east/demo/late/head", Some(head("http:80").encode()))]);
    let mut watch = now(store.watch(all.revision + 1)).expect("it is there");
    fold.apply(&now(watch.next()).expect("a change"));
    assert_eq!((said(&fold), fold.result().begun), ((true, true), false));
}

#[test]
fn an_earlier_life_is_none_that_follows_however_far_it_has_come() {
    let store = living("first", "10.0.0.1");
    let backup = snapshot(&store);
    let mut fold = fold(&[]);
    fold.replace(&backup);
    let Judgement::Propose(second, over) = fold.judge(&snapshot(&Embedded::new()), "second") else {
        panic!("it is an empty one")
    };
    assert_eq!((&second.past, over), (&vec!["first".into()], None));
    let empty = Embedded::new();
    write(&empty, &[("generation", Some(second.encode()))]);
    fold.replace(&snapshot(&empty));
    let later = Snapshot { revision: backup.revision + 1000, ..backup };
    assert!(matches!(fold.judge(&later, "third"), Judgement::Propose(third, _) if third.past.len() == 2));
}

#[test]
fn a_store_that_was_rolled_back_and_came_as_far_again_is_another_life() {
    let store = living("first", "10.0.0.1");
    let mut fold = fold(&[]);
    fold.replace(&snapshot(&store));
    // Written by others meanwhile: nothing that is known is older, and yet it was not there before.
    let now = snapshot(&store);
    let generation = now.entries.get("generation").cloned();
    let reached = fold.position().expect("it was read");
    for key in ["clusters/east/synced", "clusters/east/owner", "tombstones/east"] {
        let mut other = now.clone();
        let value = now.entries["clusters/east/synced"].value.clone();
        other.entries.insert(key.to_owned(), Entry { value, created: reached - 1, modified: reached - 1 });
        assert!(!fold.is_same_life(generation.as_ref(), &other), "{key}");
        assert!(matches!(fold.judge(&other, "next"), Judgement::Propose(..)), "{key}");
    }
    // Settled where it was not: what is known of it never comes again by itself.
    let entry = generation.clone().map(|entry| Entry { modified: reached, ..entry });
    assert!(fold.is_same_life(generation.as_ref(), &now) && !fold.is_same_life(entry.as_ref(), &now));
}

/// Nobody else knows what a lost store held, and an owner may be behind its API server.
#[test]
fn an_owner_in_another_life_that_has_seen_less_is_not_believed() {
    let at = |store: &Embedded, version: &str, writes: &[(String, Option<Vec<u8>>)]| {
        let mut all = as_owner(store, "east", 1, writes);
        for (_, value) in all.iter_mut().filter(|(key, _)| key == "clusters/east/synced") {
            let marker = Synced::decode(value.as_ref().expect("a marker")).expect("a marker");
            *value = Some(Synced { source_version: version.into(), ..marker }.encode());
        }
        write_past(store, all);
    };
    let hold = Hold { accepted: true, ..Hold::default() }.encode();
    for (version, hold, expected) in [
        ("19", None, "10.0.0.1"),
        ("20", None, "10.0.0.2"),
        ("look 1", None, "10.0.0.2"),
        ("19", Some(hold), "10.0.0.2"),
    ] {
        let store = living("first", "10.0.0.1");
        at(&store, "20", &[]);
        let mut fold = fold(&[]);
        fold.replace(&snapshot(&store));
        let emptied = Embedded::new();
        let Judgement::Propose(next, _) = fold.judge(&snapshot(&emptied), "second") else {
            panic!("it is another one")
        };
        write_past(&emptied, vec![("generation".to_owned(), Some(next.encode()))]);
        let records = [(HEAD, head("http:80").encode()), (SLICE, slice("http:80", "10.0.0.2").encode())];
        let records = records.map(|(key, value)| (key.to_owned(), Some(value)));
        let hold = hold.map(|hold| ("clusters/east/hold".to_owned(), Some(hold)));
        at(&emptied, version, &records.into_iter().chain(hold).collect::<Vec<_>>());
        fold.replace(&snapshot(&emptied));
        assert_eq!(web(&fold), expected, "{version}");
        assert_eq!(fold.result().aside.is_empty(), expected == "10.0.0.2");
        // As soon as it has seen as much; and what is the same is the same, whoever saw it when.
        for (version, address) in [("1", "10.0.0.1"), ("20", "10.0.0.3")] {
            let mut fold = self::fold(&[]);
            fold.replace(&snapshot(&store));
            fold.replace(&snapshot(&emptied));
            let mut watch = now(emptied.watch(snapshot(&emptied).revision + 1)).expect("it is there");
            at(&emptied, version, &[(SLICE.to_owned(), Some(slice("http:80", address).encode()))]);
            fold.apply(&now(watch.next()).expect("a change"));
            assert_eq!((web(&fold).as_str(), fold.result().aside.len()), (address, 0));
        }
    }
}

/// A store that went back by no more than an owner, and has come as far again, looks like the one that it was.
#[test]
fn who_owns_what_is_taken_as_it_stands_where_following_is_resumed() {
    let store = living("first", "10.0.0.1");
    let before = snapshot(&store);
    write(&store, &[("clusters/east/owner", Some(vec![])), ("clusters/east/candidates/a", Some(vec![]))]);
    let mut fold = fold(&[]);
    fold.replace(&snapshot(&store));
    let seats = |fold: &Fold| fold.result().seats.get(&id("east")).map(|seats| seats.owner.is_some());
    assert_eq!(seats(&fold), Some(true));
    fold.resume_seats(&before.entries);
    assert_eq!(seats(&fold), None);
    fold.resume_seats(&snapshot(&store).entries);
    assert_eq!(seats(&fold), Some(true));
    // What is newer is about to come.
    write(&store, &[("clusters/east/owner", Some(vec![]))]);
    fold.resume_seats(&snapshot(&store).entries);
    assert_eq!(seats(&fold), Some(false));
}

#[test]
fn who_writes_past_an_owner_takes_nothing_away() {
    let store = living("first", "10.0.0.1");
    let mut fold = fold(&[]);
    fold.replace(&snapshot(&store));
    let revision = write_past(&store, vec![(HEAD.to_owned(), None), (SLICE.to_owned(), None)]);
    let mut watch = now(store.watch(revision)).expect("it is there");
    assert_eq!(fold.apply(&now(watch.next()).expect("a change")), Applied::Doubt(id("east")));
    fold.replace(&snapshot(&store));
    assert_eq!(web(&fold), "10.0.0.1");
    let result = fold.result();
    assert!(result.complete && result.aside.contains(&id("east")));
    // The owner repairs it.
    let writes = [(HEAD, Some(head("http:80").encode())), (SLICE, Some(slice("http:80", "10.0.0.3").encode()))];
    write(&store, &writes);
    assert_eq!(fold.apply(&now(watch.next()).expect("a change")), Applied::All);
    assert_eq!(web(&fold), "10.0.0.3");
    assert!(fold.result().aside.is_empty());
}

#[test]
fn a_cluster_whose_marker_is_lost_keeps_names_from_being_absent() {
    let store = living("first", "10.0.0.1");
    let mut fold = fold(&[]);
    fold.replace(&snapshot(&store));
    assert!(fold.result().complete);
    write_past(&store, vec![("clusters/east/synced".to_owned(), None)]);
    fold.replace(&snapshot(&store));
    assert_eq!(web(&fold), "10.0.0.1");
    // Who comes later serves what is found, and does not know that there ever was a marker.
    assert_eq!(web(&fold_of(&store)), "10.0.0.1");
    assert!(fold_of(&store).result().complete);
}

#[test]
fn the_own_cluster_is_seen_directly_until_the_store_has_a_complete_word_on_it() {
    let store = Embedded::new();
    let mut fold = fold(&["east"]);
    let see = |fold: &mut Fold, address: &str| fold.observed(&id("east"), observed([("demo/web", plain(address))]));
    assert!(see(&mut fold, "10.0.0.1"));
    assert_eq!(web(&fold), "10.0.0.1");
    assert!(!fold.observed(&id("west"), observed([])), "it is no cluster of ours");

    // While the records are filled in for the first time they are not all there.
    let stored = slice("http:80", "10.0.0.9").encode();
    write(&store, &[("clusters/east/synced", Some(marker(0)))]);
    write(&store, &[(HEAD, Some(head("http:80").encode())), (SLICE, Some(stored))]);
    fold.replace(&snapshot(&store));
    assert_eq!(web(&fold), "10.0.0.1");
    assert!(fold.result().local > 0);

    let revision = write(&store, &[("clusters/east/synced", Some(marker(1)))]);
    let mut watch = now(store.watch(revision)).expect("it is there");
    fold.apply(&now(watch.next()).expect("a change"));
    assert_eq!(web(&fold), "10.0.0.9");
    assert_eq!(fold.result().local, 0);
    assert!(!see(&mut fold, "10.0.0.2"), "the store has a word on it");
    assert_eq!(web(&fold), "10.0.0.9");
}

#[test]
fn the_own_cluster_is_fresh_while_the_store_is_away() {
    let store = living("first", "10.0.0.1");
    let mut fold = fold(&["east"]);
    let mut seen = observed([]);
    let mut see = |fold: &mut Fold, services: &[(&str, Option<&str>)]| {
        for (service, address) in services {
            seen.exports.set(key(service), address.map(plain));
        }
        fold.observed(&id("east"), seen.clone())
    };
    fold.replace(&snapshot(&store));
    fold.published(&id("east"), true, None);
    assert!(see(&mut fold, &[("demo/web", Some("10.0.0.1"))]), "it is seen for the first time");
    assert_eq!((web(&fold), fold.result().local), ("10.0.0.1".to_owned(), 0));
    fold.lost("away".to_owned());
    assert!(see(&mut fold, &[("demo/web", Some("10.0.0.2")), ("demo/api", Some("10.0.0.3"))]));
    assert_eq!(web(&fold), "10.0.0.2");
    assert!(fold.view().services().get(&key("demo/api")).is_some() && fold.result().local > 0);

    // The store is back, and what was seen counts until it is in there.
    let mut watch = now(store.watch(snapshot(&store).revision + 1)).expect("it is there");
    fold.found(0);
    assert_eq!(web(&fold), "10.0.0.2");
    let revision = write(&store, &[(SLICE, Some(slice("http:80", "10.0.0.2").encode()))]);
    fold.apply(&now(watch.next()).expect("a change"));
    assert!(fold.view().services().get(&key("demo/api")).is_some(), "not all of it is");
    assert!(fold.published(&id("east"), true, Some(Settled { sequence: 9, revision })));
    assert!(fold.view().services().get(&key("demo/api")).is_none());
    assert_eq!((web(&fold), fold.result().local), ("10.0.0.2".to_owned(), 0));

    // What is not seen any more is gone meanwhile, and stays so when nothing is seen any more at all.
    fold.lost("away".to_owned());
    assert!(see(&mut fold, &[("demo/web", None)]));
    assert_eq!(web(&fold), "-");
    let blind = Observed { frozen_since: Some(tokio::time::Instant::now()), ..seen.clone() };
    assert!(!fold.observed(&id("east"), blind.clone()));
    assert_eq!(web(&fold), "-");
}

/// The marker that stands, of an owner that had read the source up to a version.
fn marked_at(store: &Embedded, version: &str) -> (String, Option<Vec<u8>>) {
    let entry = snapshot(store).entries.remove("clusters/east/synced").expect("a marker");
    let synced = Synced { source_version: version.into(), ..Synced::decode(&entry.value).expect("a marker") };
    ("clusters/east/synced".to_owned(), Some(synced.encode()))
}

#[test]
fn what_is_up_stays_where_the_owner_has_not_seen_it_yet() {
    let store = living("first", "10.0.0.1");
    write_past(&store, vec![marked_at(&store, "5")]);
    let seen = Observed { source_version: "9".into(), ..observed([("demo/web", plain("10.0.0.2"))]) };
    // It began without a store, and what it finds there is older than what it has shown.
    let mut fold = fold(&["east"]);
    fold.lost("away".to_owned());
    fold.observed(&id("east"), seen);
    fold.replace(&snapshot(&store));
    assert_eq!(web(&fold), "10.0.0.2");
    let write = |text: &str, version: &str| {
        let records = as_owner(&store, "east", 1, &[(SLICE.to_owned(), Some(slice("http:80", text).encode()))]);
        write_past(&store, records);
        write_past(&store, vec![marked_at(&store, version)]);
        snapshot(&store)
    };
    fold.replace(&write("10.0.0.7", "7"));
    assert_eq!((web(&fold), fold.result().seen.len()), ("10.0.0.2".to_owned(), 1));
    fold.replace(&write("10.0.0.2", "9"));
    assert_eq!((web(&fold), fold.result().seen.len()), ("10.0.0.2".to_owned(), 0));
    fold.replace(&write("10.0.0.3", "10"));
    assert_eq!(web(&fold), "10.0.0.3");
}

#[test]
fn the_stores_word_counts_as_soon_as_it_is_followed_again() {
    let store = living("first", "10.0.0.1");
    let mut fold = fold(&["east"]);
    fold.replace(&snapshot(&store));
    fold.lost("away".to_owned());
    fold.observed(&id("east"), observed([("demo/web", plain("10.0.0.1"))]));
    assert_eq!(fold.result().seen.len(), 1);
    fold.found(0);
    assert_eq!((fold.result().seen.len(), fold.result().local), (0, 0));
}

#[test]
fn a_cluster_without_services_is_seen_too() {
    let mut fold = fold(&["east"]);
    assert!(fold.observed(&id("east"), observed([])));
    assert!(fold.view().clusters().contains_key(&id("east")) && fold.result().local > 0);
}

#[test]
fn who_missed_a_removal_and_a_readmission_keeps_nothing() {
    let store = living("first", "10.0.0.1");
    let mut fold = fold(&[]);
    fold.replace(&snapshot(&store));
    write_past(
        &store,
        [HEAD, SLICE, "clusters/east/synced", "clusters/east/meta"].map(|key| (key.to_owned(), None)).into(),
    );
    let tombstone = Tombstone { uid: "".into(), number: 2, removed: false };
    write_past(&store, vec![("tombstones/east".to_owned(), Some(tombstone.encode()))]);
    fold.replace(&snapshot(&store));
    assert_eq!(fold.view().canonical(), fold_of(&store).view().canonical());
    assert_eq!(web(&fold), "-");
}

#[test]
fn what_was_held_of_a_lost_store_does_not_come_back_with_a_readmission() {
    let mut fold = fold(&[]);
    fold.replace(&snapshot(&living("first", "10.0.0.1")));
    let store = Embedded::new();
    let generation = Generation { id: "second".into(), base: 100, settled: false, ..Generation::default() };
    write_past(&store, vec![("generation".to_owned(), Some(generation.encode()))]);
    fold.replace(&snapshot(&store));
    assert_eq!(web(&fold), "10.0.0.1", "it is held");
    for (number, removed) in [(1, true), (2, false)] {
        let tombstone = Tombstone { uid: "uid".into(), number, removed };
        let revision = write_past(&store, vec![("tombstones/east".to_owned(), Some(tombstone.encode()))]);
        let mut watch = now(store.watch(revision)).expect("it is there");
        fold.apply(&now(watch.next()).expect("a change"));
        assert_eq!(web(&fold), "-");
    }
}

#[test]
fn clearing_a_removed_cluster_away_changes_no_view() {
    let store = living("first", "10.0.0.1");
    let mut fold = fold(&[]);
    fold.replace(&snapshot(&store));
    let tombstone = Tombstone { uid: "uid".into(), number: 1, removed: true };
    let revision = write_past(&store, vec![("tombstones/east".to_owned(), Some(tombstone.encode()))]);
    let mut watch = now(store.watch(revision)).expect("it is there");
    fold.apply(&now(watch.next()).expect("a change"));
    let before = (fold.view().canonical(), fold.view().digest());
    write_past(&store, [HEAD, SLICE, "clusters/east/synced"].map(|key| (key.to_owned(), None)).into());
    fold.apply(&now(watch.next()).expect("a change"));
    assert_eq!((fold.view().canonical(), fold.view().digest()), before);
    assert_eq!(fold_of(&store).view().digest(), before.1);
}

#[test]
fn what_left_the_own_cluster_leaves_even_when_nobody_remembers_it_left() {
    let mut fold = fold(&["east"]);
    let mut seen = observed([("demo/web", plain("10.0.0.1")), ("demo/api", plain("10.0.0.2"))]);
    fold.observed(&id("east"), seen.clone());
    seen.exports.set(key("demo/web"), None);
    for n in 0..3000 {
        let passing = key(&format!("demo/x{n}"));
        seen.exports.set(passing.clone(), Some(plain("10.0.0.3")));
        seen.exports.set(passing, None);
    }
    assert!(fold.observed(&id("east"), seen));
    assert_eq!(web(&fold), "-");
    assert_eq!(fold.view().services().len(), 1);
}

#[test]
fn a_name_is_absent_only_when_all_that_could_have_it_was_seen() {
    let read = |fold: &mut Fold| fold.replace(&snapshot(&Embedded::new()));
    let partial = || Observed { synced: false, ..observed([]) };
    let trouble = || {
        let mut seen = partial();
        seen.conditions.set(Reason::Unreachable, Some("no route".to_owned()));
        seen
    };
    let complete = |fold: &Fold| fold.result().complete;

    let mut fold = fold(&["east"]);
    assert!(!complete(&fold));
    fold.observed(&id("east"), observed([]));
    assert!(!complete(&fold), "the store was never read");
    fold.lost("away".to_owned());
    assert_eq!(fold.result().store, StoreHealth::NeverRead);
    read(&mut fold);
    assert!(complete(&fold));
    fold.lost("away".to_owned());
    assert!(complete(&fold), "what was read is held");

    for (seen, expected) in [(partial(), false), (trouble(), true), (observed([]), true)] {
        let mut fold = self::fold(&["east"]);
        read(&mut fold);
        assert!(!complete(&fold), "the own cluster was not seen");
        assert_eq!(fold.observed(&id("east"), seen), expected, "it matters");
        assert_eq!(complete(&fold), expected);
    }

    // Its records are complete in the store, whatever this agent sees.
    let store = Embedded::new();
    write(&store, &[("clusters/east/synced", Some(marker(1)))]);
    let mut fold = self::fold(&["east"]);
    fold.replace(&snapshot(&store));
    assert!(complete(&fold));

    // A file that was never readable may hold any name.
    let unreadable = || Observed { partial: true, ..observed([]) };
    fold.observed(&id("east"), unreadable());
    assert!(complete(&fold), "its publisher has read it");
    let partial = Synced { partial: true, ..Synced::decode(&marker(1)).expect("a marker") };
    write_past(&store, vec![("clusters/east/synced".to_owned(), Some(partial.encode()))]);
    fold.replace(&snapshot(&store));
    assert!(!complete(&fold));
    assert!(fold.observed(&id("east"), observed([])), "it matters");
    assert!(complete(&fold));
    fold.observed(&id("east"), unreadable());
    fold.give_up_on_the_unseen(false);
    assert!(complete(&fold), "it had its time");
}

#[test]
fn a_removed_cluster_is_not_there_at_all() {
    let store = Embedded::new();
    let tombstone = |number, removed| {
        let tombstone = Tombstone { uid: "uid".into(), number, removed };
        ("tombstones/east", Some(tombstone.encode()))
    };
    write(
        &store,
        &[
            ("clusters/east/meta", Some(meta("uid", "n1").encode())),
            ("clusters/east/synced", Some(marker(1))),
            (HEAD, Some(head("http:80").encode())),
            (SLICE, Some(slice("http:80", "10.0.0.1").encode())),
        ],
    );
    let mut late = fold(&[]);
    let mut fold = fold(&["east"]);
    fold.replace(&snapshot(&store));
    late.replace(&snapshot(&store));
    assert_eq!(web(&fold), "10.0.0.1");
    let mut watch = now(store.watch(snapshot(&store).revision + 1)).expect("it is there");
    let mut goes_on = |fold: &mut Fold, writes: &[(&str, Option<Vec<u8>>)]| {
        write(&store, writes);
        fold.apply(&now(watch.next()).expect("a change"));
        (web(fold), fold.view().clusters().len())
    };
    assert_eq!(goes_on(&mut fold, &[tombstone(1, true)]), ("-".to_owned(), 0));
    assert!(fold.result().removed.contains(&id("east")) && fold.result().complete);
    // What a publisher wrote that does not look is not used, nor what the agent sees itself.
    assert_eq!(goes_on(&mut fold, &[(SLICE, Some(slice("http:80", "10.0.0.2").encode()))]), ("-".to_owned(), 0));
    let gone = [(HEAD, None), (SLICE, None), ("clusters/east/synced", None), ("clusters/east/meta", None)];
    let mut half = fold_of(&store);
    assert_eq!((web(&half), half.view().clusters().len()), ("-".to_owned(), 0));
    assert_eq!(goes_on(&mut fold, &gone), ("-".to_owned(), 0));
    // Whoever has not heard of the sweep holds the same View, and says so.
    assert_eq!((half.view().revision(), half.view().digest()), (fold.view().revision(), fold.view().digest()));
    fold.observed(&id("east"), observed([("demo/web", plain("10.0.0.3"))]));
    assert_eq!((web(&fold), fold.view().clusters().len()), ("-".to_owned(), 0));
    assert_eq!(fold.result().local, 0, "the View is the store's alone");

    // Who read before and again after, takes none of it for what must be held.
    half.replace(&snapshot(&store));
    late.replace(&snapshot(&store));
    assert_eq!(goes_on(&mut fold, &[tombstone(2, false)]).0, "10.0.0.3");
    assert_ne!(fold.result().local, 0);
    for fold in [&mut half, &mut late] {
        fold.replace(&snapshot(&store));
        assert_eq!((web(fold), fold.view().clusters().len()), ("-".to_owned(), 0));
        assert_eq!(fold.view().canonical(), fold_of(&store).view().canonical());
    }
    let back = [
        ("clusters/east/synced", Some(marker(9))),
        (HEAD, Some(head("http:80").encode())),
        (SLICE, Some(slice("http:80", "10.0.0.4").encode())),
    ];
    assert_eq!(goes_on(&mut fold, &back), ("10.0.0.4".to_owned(), 1));
}

fn fold_of(store: &Embedded) -> Fold {
    let mut fold = fold(&[]);
    fold.replace(&snapshot(store));
    fold
}
