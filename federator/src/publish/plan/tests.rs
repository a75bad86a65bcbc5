//! Plans are carried out against a store until there is none left: what stands there then is what was observed,
//! whatever stood there before, and after every single transaction nobody who reads it is misled.

use super::*;
use crate::{
    publish::{
        brake::{Before, Stood},
        ledger::Surprise,
    },
    store::{Committed, Entry, Store as _, embedded::Embedded},
    testing::{export, head, id, key, now, observed, plain, slice},
};
use model::{
    cluster::{Hold, Meta},
    generation::Generation,
    vip::VipRanges,
};
use proptest::prelude::*;
use std::sync::Arc;
use tokio::sync::watch;

mod release;

/// What etcd takes in one transaction by default.
const ETCD_OPERATIONS: usize = 128;
const ETCD_BYTES: usize = 3 << 19;

/// An owner of `east` with its ledger, and the store.
struct Bed {
    config: Config,
    store: Embedded,
    ledger: Ledger,
    stood: Stood,
    held: Held,
    /// Services that are gone for long.
    rested: BTreeSet<ServiceKey>,
}

impl Bed {
    /// Takes over a store with these contents.
    fn over(contents: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let store = Embedded::new();
        let generation = Generation { id: "life".into(), base: 0, settled: true, ..Generation::default() };
        write(&store, [("generation".to_owned(), Some(generation.encode()))]);
        write(&store, contents.into_iter().map(|(key, value)| (key, Some(value))));
        let config = Config {
            cluster: id("east"),
            zone: "global".into(),
            // Small on purpose: a few hosts are enough for a collision.
            vips: VipRanges::new("240.64.0.0/24".parse().expect("a net"), "fd66::/112".parse().expect("a net"))
                .expect("good ranges"),
            clock: || UNIX_EPOCH,
            hold: std::time::Duration::from_secs(600),
            rest: std::time::Duration::from_secs(3600),
            seeds: watch::Sender::default().subscribe(),
            is_memory: false,
        };
        let epoch = write(&store, [("clusters/east/owner".to_owned(), Some(vec![]))]);
        let (ledger, stood) = now(Ledger::read(&store, &config.cluster, epoch)).expect("a ledger");
        Self { config, store, ledger, stood, held: Held::default(), rested: BTreeSet::new() }
    }

    /// Begins with what stands in the store.
    fn read(&mut self) {
        (self.ledger, self.stood) =
            now(Ledger::read(&self.store, &self.config.cluster, self.ledger.epoch())).expect("a ledger");
    }

    fn entries(&self) -> BTreeMap<String, Entry> {
        now(self.store.read("")).expect("it is there").entries
    }

    /// Everything that could differ.
    fn todo(&self, observed: &Observed) -> BTreeSet<ServiceKey> {
        let exported = observed.exports.iter().map(|(key, _)| key);
        exported.chain(self.ledger.services()).cloned().collect()
    }

    fn plan(&self, observed: &Observed, todo: &BTreeSet<ServiceKey>) -> Option<Batch> {
        batch(&self.config, &self.ledger, observed, &self.held, todo, &self.rested)
    }

    fn commit(&mut self, batch: &Batch) -> Option<Surprise> {
        match now(self.store.commit(&batch.txn)).expect("it is there") {
            Committed::Done(revision) => {
                self.ledger.apply(batch, revision);
                None
            }
            Committed::Refused(found) => Some(self.ledger.learn(batch, &found)),
        }
    }

    /// Plans and commits until nothing is left; how many transactions that took.
    fn settle(&mut self, observed: &Observed) -> usize {
        let mut todo = self.todo(observed);
        for transactions in 0.. {
            let Some(batch) = self.plan(observed, &todo) else {
                return transactions;
            };
            let before = self.entries();
            if self.commit(&batch).is_none() {
                todo.retain(|key| !batch.settles.contains(key));
                self.check_step(&batch, &before);
            }
            assert!(transactions < 100, "it never ends: {batch:?}");
        }
        unreachable!()
    }

    /// What holds after every transaction.
    fn check_step(&self, batch: &Batch, before: &BTreeMap<String, Entry>) {
        let Txn { guards, writes, .. } = &batch.txn;
        assert!(guards.len().max(writes.len()) <= ETCD_OPERATIONS);
        let bytes: usize = writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        assert!(bytes <= ETCD_BYTES, "{bytes} bytes");
        let keys: BTreeSet<_> = writes.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), writes.len(), "a key may stand in a transaction once");

        let after = self.entries();
        let marker = Synced::decode(&after["clusters/east/synced"].value).expect("a marker");
        let records = after.iter().filter(|(key, _)| key.starts_with("records/east/"));
        let (mut count, mut hash) = (0, SetHash::default());
        for (key, entry) in records {
            count += 1;
            hash = hash.plus(SetHash::of(key, &entry.value));
        }
        assert_eq!((marker.records, marker.hash), (count, hash));

        let service_of = |key: &str| match Key::parse(key) {
            Ok(Key::Head(id, service) | Key::Slice(id, service, _)) if id == self.config.cluster => Some(service),
            _ => None,
        };
        for (key, value) in writes {
            let Some(service) = service_of(key).filter(|_| value.is_some()) else {
                continue;
            };
            let head = format!("records/east/{service}/head");
            assert!(after.contains_key(&head), "{key} without a head");
            if *key == head && !before.contains_key(&head) {
                let order = Order::decode(&after[&format!("order/{service}")].value).expect("an order");
                assert!(order.0.contains(&self.config.cluster), "{service} has no place in its order");
                let host = service.host(&self.config.zone);
                assert!(after.contains_key(&format!("vips/hosts/{host}")), "{host} has no address");
            }
        }
    }

    /// What holds when nothing is left to do.
    fn check_end(&self, observed: &Observed) {
        let after = self.entries();
        let mut wanted = BTreeMap::new();
        for (service, export) in observed.exports.iter() {
            wanted.insert(format!("records/east/{service}/head"), export.head.encode());
            for (name, slice) in &export.slices {
                wanted.insert(format!("records/east/{service}/slices/{name}"), slice.encode());
            }
        }
        let records = after.iter().filter(|(key, _)| key.starts_with("records/east/"));
        let records: BTreeMap<_, _> = records.map(|(key, entry)| (key.clone(), entry.value.clone())).collect();
        assert_eq!(records, wanted);
        let meta = Meta::decode(&after["clusters/east/meta"].value);
        assert_eq!(meta.as_ref(), Ok(&observed.meta));
        let marker = Synced::decode(&after["clusters/east/synced"].value).expect("a marker");
        assert_eq!(marker.epoch, self.ledger.epoch());

        let mut given = BTreeMap::new();
        for (service, _) in observed.exports.iter() {
            let host = service.host(&self.config.zone);
            let vip = Vip::decode(&after[&format!("vips/hosts/{host}")].value).expect("addresses");
            for address in [IpAddr::from(vip.v4), vip.v6.into()] {
                assert_eq!(given.insert(address, host.clone()), None, "{address} is given twice");
                let back = VipHost::decode(&after[&format!("vips/addresses/{address}")].value);
                assert_eq!(back, Ok(VipHost(host.clone())));
            }
        }
        assert_eq!(self.plan(observed, &self.todo(observed)), None);
    }
}

fn write(store: &Embedded, writes: impl IntoIterator<Item = (String, Option<Vec<u8>>)>) -> u64 {
    let txn = Txn { guards: vec![], writes: writes.into_iter().collect(), ..Txn::default() };
    match now(store.commit(&txn)) {
        Ok(Committed::Done(revision)) => revision,
        other => panic!("{other:?}"),
    }
}

/// The marker's own guards and writes left away, as `guard key` and `put key` or `delete key`.
fn shown(batch: &Batch) -> Vec<String> {
    let guards = batch.txn.guards.iter().map(|guard| format!("guard {}", guard.key));
    let writes = batch.txn.writes.iter().map(|(key, value)| {
        let verb = if value.is_some() { "put" } else { "delete" };
        format!("{verb} {key}")
    });
    guards.chain(writes).collect()
}

#[test]
fn a_new_service_comes_with_its_order_and_addresses_and_their_guards() {
    let mut bed = Bed::over([]);
    let observed = observed([("demo/web", plain("10.0.0.1"))]);
    let batch = bed.plan(&observed, &bed.todo(&observed)).expect("there is work");
    let vip = bed.config.vips.candidates("web.demo.global").next().expect("endless");
    let expected = [
        "guard order/demo/web".to_owned(),
        "guard vips/hosts/web.demo.global".to_owned(),
        format!("guard vips/addresses/{}", vip.v4),
        format!("guard vips/addresses/{}", vip.v6),
        "guard clusters/east/owner".to_owned(),
        "guard clusters/east/synced".to_owned(),
        "guard generation".to_owned(),
        "guard tombstones/east".to_owned(),
        "put order/demo/web".to_owned(),
        "put vips/hosts/web.demo.global".to_owned(),
        format!("put vips/addresses/{}", vip.v4),
        format!("put vips/addresses/{}", vip.v6),
        "put records/east/demo/web/head".to_owned(),
        "put records/east/demo/web/slices/s0".to_owned(),
        "put clusters/east/meta".to_owned(),
        "put clusters/east/state".to_owned(),
        "put clusters/east/synced".to_owned(),
    ];
    assert_eq!(shown(&batch), expected);
    assert_eq!(bed.commit(&batch), None);
    bed.check_end(&observed);
}

#[test]
fn a_change_costs_what_changed_and_the_marker() {
    let mut bed = Bed::over([]);
    let mut seen = observed([("demo/web", plain("10.0.0.1")), ("demo/api", plain("10.0.0.2"))]);
    bed.settle(&seen);
    let mut check = |service: &str, export: Option<Arc<Export>>, writes: &[&str]| {
        seen.exports.set(key(service), export);
        let batch = bed.plan(&seen, &bed.todo(&seen)).expect("there is work");
        let mut expected = vec![
            "guard clusters/east/owner",
            "guard clusters/east/synced",
            "guard generation",
            "guard tombstones/east",
        ];
        expected.extend(writes);
        expected.push("put clusters/east/synced");
        assert_eq!(shown(&batch), expected);
        bed.settle(&seen);
    };
    check("demo/web", Some(plain("10.0.0.9")), &["put records/east/demo/web/slices/s0"]);
    let two = [slice("http:80", "10.0.0.9"), slice("http:80", "10.0.0.8")];
    check(
        "demo/web",
        Some(export(head("http:80 admin:90"), two)),
        &["put records/east/demo/web/head", "put records/east/demo/web/slices/s1"],
    );
    check(
        "demo/web",
        None,
        &[
            "delete records/east/demo/web/head",
            "delete records/east/demo/web/slices/s0",
            "delete records/east/demo/web/slices/s1",
        ],
    );
    // Its place and its addresses were kept.
    check(
        "demo/web",
        Some(plain("10.0.0.1")),
        &["put records/east/demo/web/head", "put records/east/demo/web/slices/s0"],
    );
}

#[test]
fn what_does_not_fit_into_one_transaction_is_complete_at_its_end_only() {
    let long = "x".repeat(63);
    let endpoints: String = (0..1000_u32).map(|n| format!("{long}=10.1.{}.{} ", n / 250, n % 250)).collect();
    let by_count = (0..300).map(|_| slice("http:80", "10.0.0.1"));
    let by_bytes = (0..30).map(|_| slice("http:80", &endpoints));
    for (export, least) in [(export(head("http:80"), by_count), 3), (export(head("http:80"), by_bytes), 2)] {
        let mut bed = Bed::over([]);
        let observed = observed([("demo/web", export)]);
        let first = bed.plan(&observed, &bed.todo(&observed)).expect("there is work");
        assert!(!first.marker.is_complete() && first.settles.is_empty());
        assert!(bed.settle(&observed) >= least);
        bed.check_end(&observed);
    }
}

#[test]
fn a_later_owner_keeps_the_old_marker_valid_until_it_has_compared_everything() {
    let slices = |number: u8| (0..200).map(move |_| slice("http:80", &format!("10.0.0.{number}")));
    let before = observed([("demo/web", export(head("http:80"), slices(1)))]);
    let mut bed = Bed::over([]);
    bed.settle(&before);
    let old = bed.ledger.epoch();
    let contents = bed.entries().into_iter().map(|(key, entry)| (key, entry.value));
    let mut bed = Bed::over(contents.filter(|(key, _)| !key.ends_with("/owner")));
    let after = observed([("demo/web", export(head("http:80"), slices(2)))]);
    let batch = bed.plan(&after, &bed.todo(&after)).expect("there is work");
    assert_eq!(batch.marker.epoch, old);
    bed.settle(&after);
    bed.check_end(&after);
}

#[test]
fn a_transaction_refused_because_others_were_faster_is_planned_again_with_what_they_wrote() {
    let mut bed = Bed::over([]);
    let seen = observed([("demo/web", plain("10.0.0.1")), ("demo/api", plain("10.0.0.2"))]);
    let mine = bed.plan(&seen, &bed.todo(&seen)).expect("there is work");

    // West exports `web` first, with an address that is not its first candidate; `api`'s first goes to a stranger.
    let vip = bed.config.vips.candidates("web.demo.global").nth(1).expect("endless");
    let taken = bed.config.vips.candidates("api.demo.global").next().expect("endless");
    write(
        &bed.store,
        [
            ("order/demo/web".to_owned(), Some(Order(vec![id("west")]).encode())),
            ("vips/hosts/web.demo.global".to_owned(), Some(vip.encode())),
            (format!("vips/addresses/{}", taken.v4), Some(VipHost("x.y.global".to_owned()).encode())),
        ],
    );
    assert_eq!(bed.commit(&mine), Some(Surprise::Learned));
    bed.settle(&seen);
    let entries = bed.entries();
    let order = Order::decode(&entries["order/demo/web"].value);
    assert_eq!(order, Ok(Order(vec![id("west"), id("east")])));
    assert_eq!(Vip::decode(&entries["vips/hosts/web.demo.global"].value), Ok(vip));
    assert_ne!(Vip::decode(&entries["vips/hosts/api.demo.global"].value), Ok(taken));
    assert_eq!(bed.plan(&seen, &bed.todo(&seen)), None);
}

#[test]
fn a_lost_answer_is_recognised_and_a_lost_cluster_too() {
    let seen = observed([("demo/web", plain("10.0.0.1"))]);
    let check = |happens: &[(&str, Option<&[u8]>)], first: bool, expected: Option<Surprise>| {
        let mut bed = Bed::over([]);
        let batch = bed.plan(&seen, &bed.todo(&seen)).expect("there is work");
        if first {
            now(bed.store.commit(&batch.txn)).expect("it is there");
        }
        for (key, value) in happens {
            write(&bed.store, [((*key).to_owned(), value.map(<[u8]>::to_vec))]);
        }
        assert_eq!(bed.commit(&batch), expected);
        if let Some(Surprise::DoneAlready(revision)) = expected {
            bed.ledger.apply(&batch, revision);
            bed.check_end(&seen);
        }
    };
    let owner = "clusters/east/owner";
    check(&[], false, None);
    check(&[], true, Some(Surprise::DoneAlready(3)));
    // Even where the order moved on since.
    let order = Order(vec![id("east"), id("west")]).encode();
    check(&[("order/demo/web", Some(&order))], true, Some(Surprise::DoneAlready(3)));
    check(&[(owner, None)], false, Some(Surprise::NotOwner));
    check(&[(owner, None), (owner, Some(b"west"))], false, Some(Surprise::NotOwner));
    check(&[("clusters/east/synced", Some(b""))], false, Some(Surprise::Overwritten));
    check(&[("generation", Some(b""))], false, Some(Surprise::AnotherLife));
}

/// A record as a later version writes it: with a field that this one does not know, and for readers from `reader` on.
fn newer(bytes: Vec<u8>, reader: u8) -> Vec<u8> {
    [bytes, vec![14 << 3, 7, 15 << 3, reader]].concat()
}

#[test]
fn what_a_later_version_wrote_is_kept_but_of_the_clusters_own() {
    let order = |clusters: &[&str]| Order(clusters.iter().map(|cluster| id(cluster)).collect()).encode();
    let (vip, host) =
        (Vip { v4: [240, 64, 0, 7].into(), v6: "fd66::7".parse().expect("an address") }, "web.demo.global");
    let by_address = || VipHost(host.to_owned()).encode();
    let others = [
        ("records/west/demo/web/head", newer(head("http:80").encode(), 1)),
        ("records/west/demo/web/slices/s0", newer(slice("http:80", "10.1.0.1").encode(), 1)),
        ("records/west/demo/web/slices/s1", newer(slice("http:80", "10.1.0.2").encode(), 2)),
        ("records/west/demo/web/what/is/this", vec![1, 2, 3]),
        ("order/demo/web", newer(order(&["west"]), 2)),
        ("vips/hosts/web.demo.global", newer(vip.encode(), 2)),
        ("vips/addresses/240.64.0.7", newer(by_address(), 1)),
        ("vips/addresses/fd66::7", newer(by_address(), 1)),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let own = [
        ("records/east/demo/web/head", newer(head("http:80").encode(), 1)),
        ("records/east/demo/web/slices/s0", newer(slice("http:80", "10.0.0.1").encode(), 2)),
        ("order/demo/api", newer(order(&["west"]), 1)),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let mut bed = Bed::over(others.clone().into_iter().chain(own));
    bed.settle(&observed([("demo/web", plain("10.0.0.1")), ("demo/api", plain("10.0.0.2"))]));
    let entries = bed.entries();
    for (key, value) in &others {
        assert_eq!(&entries[key].value, value, "{key}");
    }
    // What is its own it writes as it can, and says so to nobody else.
    assert_eq!(entries["records/east/demo/web/head"].value, head("http:80").encode());
    assert_eq!(entries["records/east/demo/web/slices/s0"].value, slice("http:80", "10.0.0.1").encode());
    assert_eq!(Order::decode(&entries["order/demo/api"].value), Ok(Order(vec![id("west"), id("east")])));

    // Who reads it leaves out what it cannot read, with a reason, and nothing else.
    let mut fold = crate::gather::fold::Fold::new(&bed.config.zone);
    fold.replace(&now(bed.store.read("")).expect("it is there"));
    let result = fold.result();
    let needs = "needs a reader of record version 2, and this agent is one of version 1: upgrade it";
    let unread: Vec<&str> = result.quarantined.iter().filter(|(_, why)| *why == needs).map(|(key, _)| &**key).collect();
    assert_eq!(unread, ["order/demo/web", "records/west/demo/web/slices/s1", "vips/hosts/web.demo.global"]);
    let web = result.view.services().get(&key("demo/web")).expect("it is read");
    let endpoints = web.exports.iter().flat_map(|(_, export)| export.endpoints());
    let addresses: Vec<String> = endpoints.map(|member| member.endpoint.address.to_string()).collect();
    assert_eq!((addresses.join(" "), web.vip), ("10.0.0.1 10.1.0.1".to_owned(), None));
}

#[test]
fn full_ranges_leave_a_service_without_addresses_and_nothing_else() {
    let taken = (0..=255_u32).map(|n| {
        let address = std::net::Ipv4Addr::from(0xf040_0000 + n);
        (format!("vips/addresses/{address}"), VipHost("x.y.global".to_owned()).encode())
    });
    let mut bed = Bed::over(taken);
    let seen = observed([("demo/web", plain("10.0.0.1"))]);
    let batch = bed.plan(&seen, &bed.todo(&seen)).expect("there is work");
    assert_eq!(bed.commit(&batch), None);
    assert!(!bed.entries().contains_key("vips/hosts/web.demo.global"));
    assert!(bed.entries().contains_key("records/east/demo/web/head"));
}

/// Few names, so that observations overlap.
fn any_observed() -> impl Strategy<Value = Observed> {
    let endpoints = prop::collection::vec(0..3_u8, 0..4);
    let service = (0..2_u8, endpoints);
    prop::collection::btree_map(0..40_u8, service, 0..40).prop_map(|services| {
        let mut seen = observed([]);
        for (number, (port, slices)) in services {
            let slices = slices.iter().map(|n| slice("http:80", &format!("10.0.0.{n}")));
            let head = head(&format!("http:8{port}"));
            seen.exports.set(key(&format!("demo/s{number}")), Some(export(head, slices)));
        }
        seen
    })
}

/// What may stand in a store: of any key, nothing that makes sense.
fn any_contents() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let key = (0..40_u8, 0..9_u8).prop_map(|(n, kind)| match kind {
        0 => "clusters/east/meta".to_owned(),
        1 => "clusters/east/synced".to_owned(),
        2 => format!("records/east/demo/s{n}/head"),
        3 => format!("records/east/demo/s{n}/slices/s0"),
        4 => format!("records/east/other/s{n}/slices/x"),
        5 => format!("records/west/demo/s{n}/head"),
        6 => format!("order/demo/s{n}"),
        7 => format!("vips/hosts/s{n}.demo.global"),
        _ => format!("vips/addresses/240.64.0.{n}"),
    });
    let west = Order(vec![id("west")]).encode();
    let value = prop_oneof![Just(vec![]), Just(vec![0xff]), Just(west), Just(plain("10.0.0.1").head.encode())];
    prop::collection::btree_map(key, value, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_store_comes_to_hold_what_was_observed(contents in any_contents(), steps in prop::collection::vec(any_observed(), 1..4)) {
        let mut bed = Bed::over(contents);
        for (version, mut observed) in steps.into_iter().enumerate() {
            observed.source_version = version.to_string().into();
            bed.settle(&observed);
            bed.check_end(&observed);
        }
    }
}

#[test]
fn until_a_generation_is_settled_nothing_is_given_out_or_taken_away() {
    let mut bed = Bed::over([]);
    let mut seen = observed([("demo/web", plain("10.0.0.1")), ("demo/api", plain("10.0.0.2"))]);
    assert!(!bed.ledger.is_said());
    bed.settle(&seen);
    assert!(bed.ledger.is_said());
    let unsettled = |settled| Generation { id: "life".into(), base: 0, settled, ..Generation::default() };
    write(&bed.store, [("generation".to_owned(), Some(unsettled(false).encode()))]);
    bed.read();

    seen.exports.set(key("demo/web"), Some(plain("10.0.0.9")));
    seen.exports.set(key("demo/api"), None);
    seen.exports.set(key("demo/new"), Some(plain("10.0.0.3")));
    let todo = bed.todo(&seen);
    let batch = bed.plan(&seen, &todo).expect("what is known goes on");
    assert_eq!(batch.settles, BTreeSet::from([key("demo/web")]));
    assert_eq!(bed.commit(&batch), None);
    assert_eq!(bed.plan(&seen, &(&todo - &batch.settles)), None);

    // It is heard before it is read, and what is said of it too early does no harm.
    bed.ledger.settle();
    let early = bed.plan(&seen, &todo).expect("there is work");
    assert_eq!(bed.commit(&early), Some(Surprise::AnotherLife));
    bed.read();
    write(&bed.store, [("generation".to_owned(), Some(unsettled(true).encode()))]);
    bed.ledger.settle();
    bed.settle(&seen);
    bed.check_end(&seen);
}

/// Whoever held more of a lost store compares that with what he held.
#[test]
fn a_marker_says_how_far_the_source_was_when_all_of_it_was_in() {
    let mut bed = Bed::over([]);
    let mut seen = Observed { source_version: "1".into(), ..observed([("demo/web", plain("10.0.0.1"))]) };
    bed.settle(&seen);
    let settled = |settled| Generation { id: "life".into(), settled, ..Generation::default() }.encode();
    write(&bed.store, [("generation".to_owned(), Some(settled(false)))]);
    bed.read();
    seen.exports.set(key("demo/web"), Some(plain("10.0.0.2")));
    seen.exports.set(key("demo/new"), Some(plain("10.0.0.3")));
    seen.source_version = "2".into();
    let todo = bed.todo(&seen);
    let partly = bed.plan(&seen, &todo).expect("there is work").marker;
    assert!(partly.behind && *partly.source_version == *"2", "not all of it is in");
    seen.exports.set(key("demo/new"), None);
    bed.settle(&seen);
    assert!(!bed.ledger.marker().synced.behind);

    // Once everybody has said what he held, it says so once more when there is something to say.
    write(&bed.store, [("generation".to_owned(), Some(settled(true)))]);
    bed.ledger.settle();
    let none = BTreeSet::new();
    assert_eq!(bed.plan(&seen, &none), None);
    seen.source_version = "3".into();
    let batch = bed.plan(&seen, &none).expect("the source has moved on");
    assert_eq!((batch.txn.writes.len(), &*batch.marker.source_version), (1, "3"));
    assert_eq!(bed.commit(&batch), None);
    seen.source_version = "4".into();
    assert_eq!(bed.plan(&seen, &none), None);
}

#[test]
fn a_place_without_records_is_known_and_services_of_others_are_not() {
    let seen = observed([("demo/web", plain("10.0.0.1"))]);
    let mut bed = Bed::over([]);
    bed.settle(&seen);
    let others = [("order/demo/api".to_owned(), Order(vec![id("west")]).encode())];
    let contents = bed.entries().into_iter().map(|(key, entry)| (key, entry.value));
    let left = contents.filter(|(key, _)| !key.starts_with("records/") && !key.ends_with("/owner"));
    let mut bed = Bed::over(left.chain(others));
    assert!(bed.ledger.order(&key("demo/web")).is_some() && bed.ledger.vip("web.demo.global").is_some());
    assert!(bed.ledger.order(&key("demo/api")).is_none());
    // So it is published also while nothing is given out.
    let unsettled = Generation { id: "life".into(), base: 0, settled: false, ..Generation::default() };
    write(&bed.store, [("generation".to_owned(), Some(unsettled.encode()))]);
    bed.read();
    let batch = bed.plan(&seen, &bed.todo(&seen)).expect("there is work");
    assert_eq!(batch.settles, BTreeSet::from([key("demo/web")]));
}

#[test]
fn records_that_somebody_wrote_past_the_owner_are_repaired_with_a_new_marker() {
    let mut bed = Bed::over([]);
    let seen = observed([("demo/web", plain("10.0.0.1"))]);
    bed.settle(&seen);
    write(&bed.store, [("records/east/demo/web/slices/s0".to_owned(), None)]);
    bed.read();
    bed.settle(&seen);
    bed.check_end(&seen);
    // Also where they are as they should be, and only the marker is not.
    let strange = Synced { epoch: bed.ledger.epoch(), generation: "life".into(), ..Synced::default() };
    write(&bed.store, [("clusters/east/synced".to_owned(), Some(strange.encode()))]);
    bed.read();
    assert_eq!(bed.settle(&seen), 1);
}

/// What an earlier owner wrote, which a later one takes over and finds half of it missing.
fn braked() -> (Bed, Observed) {
    let addresses = |numbers: std::ops::Range<u8>| numbers.map(|n| format!("10.0.0.{n} ")).collect::<String>();
    let mut bed = Bed::over([]);
    bed.settle(&observed([("demo/web", plain(&addresses(0..40))), ("demo/api", plain(&addresses(0..20)))]));
    let contents = bed.entries().into_iter().map(|(key, entry)| (key, entry.value));
    let mut bed = Bed::over(contents.filter(|(key, _)| !key.ends_with("/owner")));
    let seen = observed([("demo/web", plain(&addresses(20..40)))]);
    let hold = bed.ledger.hold().value.clone();
    bed.held = bed.stood.compare(&seen, Before { hold: hold.as_ref(), went_back: false, at: 7, is_memory: false });
    (bed, seen)
}

#[test]
fn what_is_held_is_demoted_with_the_key_that_says_so_and_goes_with_it() {
    let (mut bed, seen) = braked();
    let batch = bed.plan(&seen, &bed.todo(&seen)).expect("there is work");
    let expected = [
        "guard clusters/east/hold",
        "guard clusters/east/owner",
        "guard clusters/east/synced",
        "guard generation",
        "guard tombstones/east",
        "put records/east/demo/api/slices/Held/s0",
        "delete records/east/demo/api/slices/s0",
        "put records/east/demo/web/slices/Held/s0",
        "put records/east/demo/web/slices/s0",
        "put clusters/east/hold",
        "put clusters/east/synced",
    ];
    assert_eq!(shown(&batch), expected);
    assert_eq!(bed.commit(&batch), None);
    assert_eq!(bed.ledger.hold().value.as_ref(), bed.held.hold());
    assert_eq!(bed.plan(&seen, &bed.todo(&seen)), None);

    let todo = bed.held.release();
    let batch = bed.plan(&seen, &todo).expect("there is work");
    let expected = [
        "delete records/east/demo/api/head",
        "delete records/east/demo/api/slices/Held/s0",
        "delete records/east/demo/web/slices/Held/s0",
        "delete clusters/east/hold",
        "put clusters/east/synced",
    ];
    assert_eq!(shown(&batch)[5..], expected);
    bed.settle(&seen);
    bed.check_end(&seen);
    assert!(!bed.entries().contains_key("clusters/east/hold"));
}

#[test]
fn a_key_stays_until_everything_was_compared_and_written() {
    let (mut bed, mut seen) = braked();
    bed.settle(&seen);
    let todo = bed.held.release();
    seen.partial = true;
    let batch = bed.plan(&seen, &todo).expect("there is work");
    assert!(batch.txn.writes.iter().all(|(key, _)| !key.ends_with("/hold")), "{batch:?}");
    seen.partial = false;
    let unsettled = Generation { id: "life".into(), base: 0, settled: false, ..Generation::default() };
    write(&bed.store, [("generation".to_owned(), Some(unsettled.encode()))]);
    bed.read();
    assert_eq!(bed.plan(&seen, &todo), None);
}

#[test]
fn a_marker_says_whether_the_source_was_readable() {
    let mut bed = Bed::over([]);
    let mut seen = observed([("demo/web", plain("10.0.0.1"))]);
    for partial in [true, false, true] {
        seen.partial = partial;
        bed.settle(&seen);
        assert_eq!(bed.ledger.marker().synced.partial, partial);
        assert_eq!(bed.plan(&seen, &bed.todo(&seen)), None, "once is enough");
    }
}

#[test]
fn an_operator_who_was_faster_is_heard() {
    let (mut bed, seen) = braked();
    bed.settle(&seen);
    let accepted = Hold { accepted: true, ..bed.held.hold().cloned().expect("it holds") };
    write(&bed.store, [("clusters/east/hold".to_owned(), Some(accepted.encode()))]);
    let more = observed([("demo/web", plain("10.0.0.1 10.0.0.25"))]);
    bed.held.see(&key("demo/web"), more.exports.get(&key("demo/web")).map(|export| &**export));
    let batch = bed.plan(&more, &bed.todo(&more)).expect("there is work");
    assert_eq!(bed.commit(&batch), Some(Surprise::Learned));
    assert_eq!(bed.ledger.hold().value, Some(accepted));
}
