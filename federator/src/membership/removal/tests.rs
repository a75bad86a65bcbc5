//! Removing and readmitting against a store, whole and interrupted, beside a publisher that knows nothing of it.

use super::*;
use crate::{
    store::{Lease, embedded::Embedded},
    testing::{Fault, Faulty, head, id, meta, now},
};

const REMOVE: How = How { dry_run: false, force: false };

/// A store with so many records of `east`, one of `eastern`, and whatever is shared.
fn store(records: usize) -> Embedded {
    let store = Embedded::new();
    let mut writes = vec![
        ("clusters/east/meta".to_owned(), Some(meta("u1", "n1").encode())),
        ("clusters/east/synced".to_owned(), Some(vec![])),
        ("clusters/eastern/meta".to_owned(), Some(meta("u2", "n1").encode())),
        ("records/eastern/demo/web/head".to_owned(), Some(head("http:80").encode())),
        ("order/demo/web".to_owned(), Some(vec![])),
        ("vips/hosts/web.demo.global".to_owned(), Some(vec![])),
    ];
    let record = |n| (format!("records/east/demo/s{n}/head"), Some(head("http:80").encode()));
    writes.extend((0..records).map(record));
    now(store.commit(&Txn { guards: vec![], writes, ..Txn::default() })).expect("it is there");
    store
}

fn owner(store: &Embedded) -> Box<dyn Lease> {
    let lease = now(store.lease()).expect("there is one");
    let leased = vec![("clusters/east/owner".to_owned(), vec![], lease.id())];
    now(store.commit(&Txn { leased, ..Txn::default() })).expect("it is free");
    lease
}

fn keys(store: &Embedded) -> Vec<String> {
    now(store.read("")).expect("it is there").entries.into_keys().collect()
}

fn tombstone(store: &Embedded) -> Tombstone {
    let entries = now(store.read("tombstones/east")).expect("it is there").entries;
    Tombstone::decode(&entries["tombstones/east"].value).expect("a tombstone")
}

#[test]
fn what_a_cluster_left_behind_goes_and_nothing_else() {
    let store = store(300);
    let _lease = owner(&store);
    let dry = now(remove(&store, &id("east"), How { dry_run: true, ..REMOVE })).expect("it would");
    assert_eq!(keys(&store).len(), 307, "a dry run does nothing");
    let done = now(remove(&store, &id("east"), REMOVE)).expect("it does");
    assert_eq!(dry, done);
    let expected = Tombstone { uid: "u1".into(), number: 1, removed: true };
    assert_eq!(done, Done { tombstone: expected.clone(), already: false, records: 300 });
    assert_eq!(tombstone(&store), expected);
    let left = [
        "clusters/east/owner",
        "clusters/eastern/meta",
        "order/demo/web",
        "records/eastern/demo/web/head",
        "tombstones/east",
        "vips/hosts/web.demo.global",
    ];
    assert_eq!(keys(&store), left);
    // Once more, there is nothing left to do.
    let again = now(remove(&store, &id("east"), REMOVE)).expect("it does");
    assert_eq!(again, Done { tombstone: expected, already: true, records: 0 });
}

#[test]
fn an_interrupted_removal_bars_the_cluster_and_is_finished_by_the_next() {
    let store = store(300);
    let faulty = Faulty::new(&store);
    for tries in 0..4 {
        // One transaction more is done each time, and its answer lost.
        faulty.fail([Fault::LostAnswer]);
        let interrupted = now(remove(&faulty, &id("east"), REMOVE));
        assert!(
            matches!(interrupted, Err(RemovalError::Store(StoreError::Unavailable(_)))),
            "{tries}: {interrupted:?}"
        );
        assert_eq!((tombstone(&store).number, tombstone(&store).removed), (1, true));
        assert!(tries == 0 || !keys(&store).contains(&"clusters/east/synced".to_owned()), "the marker goes first");
    }
    let done = now(remove(&faulty, &id("east"), REMOVE)).expect("it does");
    assert!(done.already);
    assert!(!keys(&store).iter().any(|key| key.starts_with("records/east/")));
}

#[test]
fn a_readmitted_cluster_starts_with_nothing() {
    let store = store(3);
    assert_eq!(now(readmit(&store, &id("east"), REMOVE)), Err(RemovalError::NotRemoved(id("east"))));
    let faulty = Faulty::new(&store);
    faulty.fail([Fault::LostAnswer]);
    now(remove(&faulty, &id("east"), REMOVE)).expect_err("interrupted");
    let dry = now(readmit(&store, &id("east"), How { dry_run: true, ..REMOVE })).expect("it would");
    assert!(tombstone(&store).removed);
    let done = now(readmit(&store, &id("east"), REMOVE)).expect("it does");
    assert_eq!(dry, done);
    assert_eq!(tombstone(&store), Tombstone { uid: "".into(), number: 2, removed: false });
    assert!(!keys(&store).iter().any(|key| key.contains("/east/")), "{:?}", keys(&store));
    let removed = now(remove(&store, &id("east"), REMOVE)).expect("it does");
    assert_eq!((removed.tombstone.number, removed.already), (3, false));
}

#[test]
fn a_cluster_that_nobody_knows_is_a_mistake_unless_it_is_meant() {
    let store = store(1);
    let refused = now(remove(&store, &id("esat"), REMOVE)).expect_err("unknown");
    assert_eq!(
        refused.to_string(),
        "the store knows no cluster `esat`; it knows east, eastern; --force bars it before it comes"
    );
    let done = now(remove(&store, &id("esat"), How { force: true, ..REMOVE })).expect("it does");
    assert_eq!(done.tombstone, Tombstone { uid: "".into(), number: 1, removed: true });
}
