//! A store in a few lines, and what must not be written into it.

use super::*;

/// Writes by key, with values as records or not at all.
struct Bench {
    judge: Transactions,
    revision: u64,
    created: BTreeMap<String, u64>,
    epoch: u64,
    sequence: u64,
    records: BTreeMap<String, Vec<u8>>,
}

impl Bench {
    /// East is owned and has one record, written in its second transaction.
    fn new() -> Self {
        let mut bench = Self {
            judge: Transactions::default(),
            revision: 0,
            created: BTreeMap::new(),
            epoch: 0,
            sequence: 0,
            records: BTreeMap::new(),
        };
        bench.own();
        let record = bench.record("records/east/ns/web/head", "1");
        let marker = bench.marker();
        assert_eq!(bench.write(vec![record, marker]), Vec::<String>::new());
        bench
    }

    fn write(&mut self, changes: Vec<(String, Option<Vec<u8>>)>) -> Vec<String> {
        self.revision += 1;
        let revision = self.revision;
        let standing = |(key, value): (String, Option<Vec<u8>>)| {
            let now = value.map(|value| {
                let created = *self.created.entry(key.clone()).or_insert(revision);
                Standing { value, created, modified: revision }
            });
            if now.is_none() {
                self.created.remove(&key);
            }
            (key, now)
        };
        let changes = changes.into_iter().map(standing).collect();
        self.judge.judge(&Transaction { revision, changes })
    }

    /// A new owner of east, whose epoch this is.
    fn own(&mut self) {
        let owner = Owner::default().encode();
        let key = "clusters/east/owner".to_owned();
        assert_eq!(self.write(vec![(key.clone(), None)]), Vec::<String>::new());
        assert_eq!(self.write(vec![(key, Some(owner))]), Vec::<String>::new());
        self.epoch = self.revision;
    }

    fn record(&mut self, key: &str, value: &str) -> (String, Option<Vec<u8>>) {
        self.records.insert(key.to_owned(), value.into());
        (key.to_owned(), Some(value.into()))
    }

    /// The marker that belongs to the records.
    fn marker(&mut self) -> (String, Option<Vec<u8>>) {
        self.sequence += 1;
        let hash = self.records.iter().fold(SetHash::default(), |sum, (key, value)| sum.plus(SetHash::of(key, value)));
        let synced = Synced {
            epoch: self.epoch,
            sequence: self.sequence,
            records: self.records.len() as u64,
            hash,
            ..Synced::default()
        };
        ("clusters/east/synced".to_owned(), Some(synced.encode()))
    }

    /// Fails unless exactly this is found wrong.
    fn refuses(&mut self, changes: Vec<(String, Option<Vec<u8>>)>, why: &str) {
        let wrong = self.write(changes);
        assert!(wrong.len() == 1 && wrong[0].contains(why), "{wrong:?} is not: {why}");
    }

    fn accepts(&mut self, changes: Vec<(String, Option<Vec<u8>>)>) {
        assert_eq!(self.write(changes), Vec::<String>::new());
    }
}

fn order(clusters: &[&str]) -> (String, Option<Vec<u8>>) {
    let clusters = clusters.iter().map(|id| ClusterId::parse(id).unwrap()).collect();
    ("order/ns/web".to_owned(), Some(Order(clusters).encode()))
}

/// Both halves of the virtual address of a host.
fn vip(host: &str, last: u8) -> Vec<(String, Option<Vec<u8>>)> {
    let vip = Vip { v4: [240, 64, 0, last].into(), v6: [0xfdfe, 0, 0, 0, 0, 0, 0, last.into()].into() };
    let half = |address: IpAddr| (format!("vips/addresses/{address}"), Some(VipHost(host.to_owned()).encode()));
    vec![(format!("vips/hosts/{host}"), Some(vip.encode())), half(vip.v4.into()), half(vip.v6.into())]
}

fn tombstone(number: u64, removed: bool) -> (String, Option<Vec<u8>>) {
    ("tombstones/east".to_owned(), Some(Tombstone { uid: "".into(), number, removed }.encode()))
}

#[test]
fn a_record_changes_with_its_marker() {
    let mut bench = Bench::new();
    let record = bench.record("records/east/ns/web/head", "2");
    bench.refuses(vec![record], "without its marker");
    let marker = bench.marker();
    bench.accepts(vec![marker]);
    let (key, _) = bench.record("records/east/ns/web/head", "2");
    bench.refuses(vec![(key, None)], "without its marker");
}

#[test]
fn a_marker_says_what_the_records_are() {
    let mut bench = Bench::new();
    let (key, _) = bench.record("records/east/ns/web/head", "2");
    let marker = bench.marker();
    bench.refuses(vec![(key, Some("3".into())), marker], "the marker of east says 1 records");
}

#[test]
fn a_sequence_has_no_gaps() {
    let mut bench = Bench::new();
    bench.sequence += 1;
    let marker = bench.marker();
    bench.refuses(vec![marker], "the sequence of east was 1 and is 3");
    bench.refuses(vec![("clusters/east/synced".to_owned(), None)], "the marker of east was deleted");
}

#[test]
fn a_deposed_owner_is_found_out() {
    let mut bench = Bench::new();
    let deposed = bench.epoch;
    bench.own();
    let marker = bench.marker();
    bench.accepts(vec![marker]);
    bench.epoch = deposed;
    let marker = bench.marker();
    let wrong = bench.write(vec![marker]);
    assert!(wrong.iter().any(|wrong| wrong.contains("a deposed owner wrote")), "{wrong:?}");
}

#[test]
fn who_compares_keeps_the_epoch_and_nobody_invents_one() {
    let mut bench = Bench::new();
    let before = bench.epoch;
    bench.own();
    let now = std::mem::replace(&mut bench.epoch, before);
    let marker = bench.marker();
    bench.accepts(vec![marker]);
    bench.epoch = now + 100;
    let marker = bench.marker();
    bench.refuses(vec![marker], "its owner's key was created at");
}

#[test]
fn nobody_writes_what_nobody_owns() {
    let mut bench = Bench::new();
    bench.accepts(vec![("clusters/east/owner".to_owned(), None)]);
    let marker = bench.marker();
    bench.refuses(vec![marker], "while nobody owned it");
}

#[test]
fn an_order_grows_at_its_end() {
    let mut bench = Bench::new();
    bench.accepts(vec![order(&["east"])]);
    bench.accepts(vec![order(&["east", "west"])]);
    for (wrong, found) in [(&["west", "east"][..], 2), (&["east"], 1)] {
        let before = bench.judge.standing.clone();
        assert_eq!(bench.write(vec![order(wrong)]).len(), found, "{wrong:?}");
        bench.judge.standing = before;
    }
    bench.refuses(vec![("order/ns/web".to_owned(), None)], "was deleted");
}

#[test]
fn a_virtual_address_has_two_halves_and_one_host() {
    let mut bench = Bench::new();
    bench.accepts(vip("web.ns.global", 1));
    let mut halves = vip("api.ns.global", 2);
    halves.truncate(2);
    bench.refuses(halves, "vips/hosts/api.ns.global has fdfe::2");
    let wrong = bench.write(vip("web.ns.global", 3));
    assert!(wrong.iter().any(|wrong| wrong.contains("once and is")), "{wrong:?}");
    let wrong = bench.write(vip("other.ns.global", 1));
    assert!(wrong.iter().any(|wrong| wrong.contains("was of web.ns.global once")), "{wrong:?}");
}

#[test]
fn what_was_decided_outlives_the_store() {
    let mut bench = Bench::new();
    bench.accepts(vip("web.ns.global", 1));
    bench.accepts(vec![order(&["east", "west"])]);
    bench.judge.forget();
    bench.created.clear();
    bench.revision = 0;
    bench.accepts(vec![order(&["east"])]);
    let wrong = bench.write(vec![order(&["west", "east"])]);
    assert!(wrong.iter().any(|wrong| wrong.contains("once")), "{wrong:?}");
    let wrong = bench.write(vip("web.ns.global", 2));
    assert!(wrong.iter().any(|wrong| wrong.contains("once")), "{wrong:?}");
}

#[test]
fn a_store_lives_as_often_as_it_has_forgotten() {
    let generation = |id: &str, base, settled| {
        ("generation".to_owned(), Some(Generation { id: id.into(), base, settled, ..Generation::default() }.encode()))
    };
    let mut bench = Bench::new();
    bench.accepts(vec![generation("a", 0, false)]);
    bench.accepts(vec![generation("a", 0, true)]);
    bench.refuses(vec![generation("a", 5, true)], "generation was");
    bench.refuses(vec![generation("b", 0, false)], "has forgotten 0 times");
    bench.refuses(vec![("generation".to_owned(), None)], "was deleted");
    bench.judge.forget();
    bench.accepts(vec![generation("b", 9, false)]);
    bench.refuses(vec![generation("c", 9, false)], "has forgotten 1 times");
}

#[test]
fn a_removed_cluster_is_not_written() {
    let mut bench = Bench::new();
    bench.accepts(vec![tombstone(1, true)]);
    assert_eq!(bench.judge.removed.get("east"), Some(&bench.revision));
    let marker = bench.marker();
    bench.refuses(vec![marker], "east is removed, and was written");
    bench.accepts(vec![("records/east/ns/web/head".to_owned(), None), ("clusters/east/synced".to_owned(), None)]);
    bench.accepts(vec![tombstone(2, false)]);
    assert!(bench.judge.removed.is_empty());
    bench.refuses(vec![tombstone(1, true)], "was number 2 and is 1");
}
