//! What is given up of a service that is gone for long, and what becomes of it when somebody comes to have the service
//! at the same time.

use super::*;
use crate::publish::seeds::Seeds;

const HOST: &str = "vips/hosts/web.demo.global";

/// East had a service, which is gone from the store and has rested; in the order besides it: these.
fn rested(others: &[&str]) -> (Bed, Observed, Vip) {
    let mut bed = Bed::over([]);
    let mut seen = observed([("demo/web", plain("10.0.0.1")), ("demo/api", plain("10.0.0.2"))]);
    bed.settle(&seen);
    let order = Order([&["east"], others].concat().into_iter().map(id).collect());
    write(&bed.store, [("order/demo/web".to_owned(), Some(order.encode()))]);
    bed.read();
    seen.exports.set(key("demo/web"), None);
    bed.settle(&seen);
    let vip = Vip::decode(&bed.entries()[HOST].value).expect("addresses");
    bed.rested.insert(key("demo/web"));
    (bed, seen, vip)
}

fn addresses(vip: Vip) -> [String; 2] {
    [format!("vips/addresses/{}", vip.v4), format!("vips/addresses/{}", vip.v6)]
}

#[test]
fn with_the_last_place_the_addresses_go_too_and_all_of_it_is_guarded() {
    let (mut bed, seen, vip) = rested(&[]);
    let batch = bed.plan(&seen, &BTreeSet::new()).expect("there is work");
    let [v4, v6] = addresses(vip);
    let keys = ["order/demo/web", HOST, &v4, &v6];
    let fences = ["clusters/east/owner", "clusters/east/synced", "generation", "tombstones/east"];
    let guards = keys.iter().chain(&fences).map(|key| format!("guard {key}"));
    let writes = keys.iter().map(|key| format!("delete {key}")).chain(["put clusters/east/synced".to_owned()]);
    assert_eq!(shown(&batch), guards.chain(writes).collect::<Vec<_>>());
    assert_eq!(bed.commit(&batch), None);
    assert_eq!(bed.plan(&seen, &BTreeSet::new()), None, "it is given up once");
    bed.check_end(&seen);
    assert!(bed.ledger.has_place(&key("demo/api")) && !bed.ledger.has_place(&key("demo/web")));
}

#[test]
fn as_long_as_another_has_a_place_the_addresses_stay() {
    let (mut bed, seen, vip) = rested(&["west"]);
    let batch = bed.plan(&seen, &BTreeSet::new()).expect("there is work");
    assert_eq!(bed.commit(&batch), None);
    let entries = bed.entries();
    assert_eq!(Order::decode(&entries["order/demo/web"].value), Ok(Order(vec![id("west")])));
    assert!(addresses(vip).iter().all(|address| entries.contains_key(address)) && entries.contains_key(HOST));
    assert_eq!(bed.plan(&seen, &BTreeSet::new()), None);
}

#[test]
fn nothing_is_given_up_before_all_is_said_and_written() {
    let (mut bed, mut seen, _) = rested(&[]);
    let unsettled = Generation { id: "life".into(), base: 0, settled: false, ..Generation::default() };
    write(&bed.store, [("generation".to_owned(), Some(unsettled.encode()))]);
    bed.read();
    assert_eq!(bed.plan(&seen, &BTreeSet::new()), None);
    write(&bed.store, [("generation".to_owned(), Some(Generation { settled: true, ..unsettled }.encode()))]);
    bed.read();
    let large = (0..300).map(|_| slice("http:80", "10.0.0.1"));
    seen.exports.set(key("demo/api"), Some(export(head("http:80"), large)));
    let first = bed.plan(&seen, &bed.todo(&seen)).expect("there is work");
    assert!(first.txn.writes.iter().all(|(key, _)| !key.contains("web")), "{first:?}");
}

#[test]
fn a_service_that_comes_back_in_time_has_the_address_it_had() {
    let (mut bed, mut seen, vip) = rested(&[]);
    bed.rested.clear();
    seen.exports.set(key("demo/web"), Some(plain("10.0.0.9")));
    bed.settle(&seen);
    bed.check_end(&seen);
    assert_eq!(Vip::decode(&bed.entries()[HOST].value), Ok(vip));
}

#[test]
fn who_takes_a_place_while_it_is_given_up_gets_addresses_whoever_is_first() {
    let west = |store: &Embedded| {
        write(store, [("clusters/west/owner".to_owned(), Some(vec![]))]);
        let epoch = now(store.read("clusters/west/owner")).expect("it is there").revision;
        now(Ledger::read(store, &id("west"), epoch)).expect("a ledger").0
    };
    let theirs = observed([("demo/web", plain("10.1.0.1"))]);
    for gives_up_first in [true, false] {
        // West had the service before, and knows of the address; or it reads all of it now.
        for had_it in [true, false] {
            let (mut bed, seen, vip) = rested(if had_it { &["west"] } else { &[] });
            let mut other = Bed { config: Config { cluster: id("west"), ..bed.config.clone() }, ..Bed::over([]) };
            other.store = bed.store.clone();
            other.ledger = west(&bed.store);
            if had_it {
                other.rested.insert(key("demo/web"));
                let gives_up = other.plan(&observed([]), &BTreeSet::new()).expect("there is work");
                assert_eq!(other.commit(&gives_up), None);
                other.rested.clear();
                bed.read();
            }
            let joins = other.plan(&theirs, &other.todo(&theirs)).expect("there is work");
            let gives_up = bed.plan(&seen, &BTreeSet::new()).expect("there is work");
            if gives_up_first {
                assert_eq!(bed.commit(&gives_up), None);
                assert_eq!(other.commit(&joins), Some(Surprise::Learned), "{had_it}");
            } else if other.commit(&joins).is_some() {
                // It had not read whose the host is.
                let joins = other.plan(&theirs, &other.todo(&theirs)).expect("there is work");
                assert_eq!(other.commit(&joins), None);
                assert_eq!(bed.commit(&gives_up), Some(Surprise::Learned));
            } else {
                assert_eq!(bed.commit(&gives_up), Some(Surprise::Learned));
            }
            for _ in 0..4 {
                if let Some(batch) = bed.plan(&seen, &BTreeSet::new()) {
                    bed.commit(&batch);
                }
                if let Some(batch) = other.plan(&theirs, &other.todo(&theirs)) {
                    other.commit(&batch);
                }
            }
            assert_eq!(bed.plan(&seen, &BTreeSet::new()), None);
            let entries = bed.entries();
            assert_eq!(Order::decode(&entries["order/demo/web"].value), Ok(Order(vec![id("west")])));
            assert_eq!(Vip::decode(&entries[HOST].value), Ok(vip), "its first candidate is free again");
            for address in addresses(vip) {
                assert_eq!(VipHost::decode(&entries[&address].value), Ok(VipHost("web.demo.global".to_owned())));
            }
        }
    }
}

#[test]
fn an_address_that_was_given_up_can_be_anothers() {
    let (mut bed, _, vip) = rested(&[]);
    let collides = |name: &String| {
        let first = bed.config.vips.candidates(&format!("{name}.demo.global")).next().expect("endless");
        first.v4 == vip.v4 && *name != "web"
    };
    let other = (0..).map(|n| format!("x{n}")).find(collides).expect("a collision");
    let name = format!("demo/{other}");
    let seen = observed([(&*name, plain("10.0.0.3")), ("demo/api", plain("10.0.0.2"))]);
    // While it rests it is nobody's to take.
    let rested = std::mem::take(&mut bed.rested);
    let batch = bed.plan(&seen, &bed.todo(&seen)).expect("there is work");
    let [v4, _] = addresses(vip);
    assert!(batch.txn.writes.iter().all(|(key, _)| *key != v4), "{batch:?}");
    bed.rested = rested;
    let batch = bed.plan(&seen, &BTreeSet::new()).expect("there is work");
    assert_eq!(bed.commit(&batch), None);
    bed.settle(&seen);
    assert_eq!(VipHost::decode(&bed.entries()[&v4].value), Ok(VipHost(format!("{other}.demo.global"))));
}

#[test]
fn a_host_gets_the_candidate_that_it_had_if_that_is_free() {
    let seen = observed([("demo/web", plain("10.0.0.1"))]);
    let check = |had: &[&str], taken: &[String], expected: usize| {
        let mut bed = Bed::over(taken.iter().map(|key| (key.clone(), VipHost("x.y.global".to_owned()).encode())));
        let mut seeds = Seeds::default();
        seeds.sow("web.demo.global", had.iter().map(|address| address.parse().expect("an address")).collect());
        bed.config.seeds = watch::Sender::new(Some(Arc::new(seeds))).subscribe();
        bed.settle(&seen);
        bed.check_end(&seen);
        let given = Vip::decode(&bed.entries()[HOST].value).expect("addresses");
        assert_eq!(bed.config.vips.candidates("web.demo.global").position(|vip| vip == given), Some(expected));
    };
    let vips = VipRanges::new("240.64.0.0/24".parse().expect("a net"), "fd66::/112".parse().expect("a net"));
    let third = vips.expect("good ranges").candidates("web.demo.global").nth(2).expect("endless");
    let [v4, v6] = [third.v4.to_string(), third.v6.to_string()];
    check(&[&v4, &v6], &[], 2);
    check(&[&v4], &[], 2);
    check(&[&v6], &[], 2);
    check(&[&v4, &v6], &addresses(third), 0);
    // What is none of its own candidates, as a whole, chooses nothing.
    check(&["10.0.0.1"], &[], 0);
    check(&[&v4, "fd66::1"], &[], 0);
    check(&[], &[], 0);
}

#[test]
fn halves_that_are_anothers_are_left_to_it_and_lost_ones_are_no_obstacle() {
    let (mut bed, seen, vip) = rested(&[]);
    let [v4, v6] = addresses(vip);
    let other = VipHost("other.demo.global".to_owned()).encode();
    write(&bed.store, [(v4.clone(), Some(other.clone())), (v6.clone(), None)]);
    let tries = (0..5).take_while(|_| {
        bed.plan(&seen, &BTreeSet::new()).is_some_and(|batch| {
            bed.commit(&batch);
            true
        })
    });
    assert_eq!(tries.count(), 2, "the first teaches what stands there");
    let entries = bed.entries();
    assert!(!entries.contains_key(HOST) && !entries.contains_key("order/demo/web") && !entries.contains_key(&v6));
    assert_eq!(entries[&v4].value, other);
}

#[test]
fn a_place_that_others_say_again_is_known_once_all_is_said() {
    let (mut bed, seen, vip) = rested(&[]);
    let unsettled = Generation { id: "life".into(), base: 0, settled: false, ..Generation::default() };
    let lost = [addresses(vip).as_slice(), &["order/demo/web".to_owned(), HOST.to_owned()]].concat();
    let before = bed.entries();
    write(&bed.store, lost.iter().map(|key| (key.clone(), None)));
    write(&bed.store, [("generation".to_owned(), Some(unsettled.encode()))]);
    bed.read();
    // Whoever knew of it says it again, when the owner has read already.
    write(&bed.store, lost.iter().map(|key| (key.clone(), Some(before[key].value.clone()))));
    assert!(!bed.ledger.is_said_since() && !bed.ledger.has_place(&key("demo/web")));
    write(&bed.store, [("generation".to_owned(), Some(Generation { settled: true, ..unsettled }.encode()))]);
    bed.ledger.settle();
    assert!(bed.ledger.is_said_since());
    now(bed.ledger.read_shared(&bed.store)).expect("it is there");
    assert!(!bed.ledger.is_said_since() && bed.ledger.has_place(&key("demo/web")));
    let batch = bed.plan(&seen, &BTreeSet::new()).expect("there is work");
    assert_eq!(bed.commit(&batch), None);
    assert!(lost.iter().all(|key| !bed.entries().contains_key(key)));
}
