//! The conflict table, and that merging depends on what there is and not on when it came.

use super::*;
use crate::export::{Head, Protocol, Slices};
use proptest::prelude::*;

fn id(name: &str) -> ClusterId {
    ClusterId::parse(name).expect("an id")
}

fn key() -> ServiceKey {
    ServiceKey::parse("demo", "web").expect("a key")
}

fn port(name: &str, number: u16) -> Port {
    Port { name: name.into(), number, protocol: Protocol::Tcp, app_protocol: "".into() }
}

fn export(head: Head) -> Arc<Export> {
    Arc::new(Export { head: Arc::new(head), slices: Slices::default() })
}

fn with_ports(created: i64, ports: &[Port]) -> Arc<Export> {
    export(Head { created, ports: ports.into(), ..Head::default() })
}

/// Merges exports in the given first-seen order and shows ports and conflicts as text.
fn check(exports: &[(&str, Arc<Export>)], order: &[&str]) -> (Vec<String>, Vec<String>) {
    let parts = Parts {
        exports: exports.iter().map(|(name, export)| (id(name), export.clone())).collect(),
        order: order.iter().map(|name| id(name)).collect(),
        vip: None,
    };
    let service = merge(&key(), &parts).expect("somebody exports it");
    let conflict = |c: &Conflict| format!("{} {}<{}", c.kind.reason(), c.loser, c.winner);
    (service.ports.iter().map(ToString::to_string).collect(), service.conflicts.iter().map(conflict).collect())
}

#[test]
fn nobody_exports_it() {
    assert_eq!(merge(&key(), &Parts::default()), None);
}

#[test]
fn ports_are_the_union_and_the_oldest_wins_a_collision() {
    let east = with_ports(1, &[port("http", 80), port("admin", 9000)]);
    let same = with_ports(2, &[port("admin", 9000), port("http", 80)]);
    let other_number = with_ports(2, &[port("http", 8080), port("grpc", 50)]);
    let other_name = with_ports(2, &[port("web", 80)]);
    let none: Vec<String> = vec![];
    let union = |extra: &[&str]| {
        ["80/TCP(http)", "9000/TCP(admin)"].iter().chain(extra).map(ToString::to_string).collect::<Vec<_>>()
    };
    let conflict = vec!["PortConflict west<east".to_owned()];
    assert_eq!(check(&[("east", east.clone()), ("west", same)], &[]), (union(&[]), none));
    assert_eq!(
        check(&[("east", east.clone()), ("west", other_number)], &[]),
        (union(&["50/TCP(grpc)"]), conflict.clone())
    );
    assert_eq!(check(&[("east", east), ("west", other_name)], &[]), (union(&[]), conflict));
}

#[test]
fn the_store_decides_who_is_oldest_and_clocks_only_where_it_is_silent() {
    let old = with_ports(1, &[port("http", 80)]);
    let new = with_ports(2, &[port("http", 81)]);
    let exports = [("east", old.clone()), ("west", new)];
    assert_eq!(check(&exports, &["west", "east"]).0, ["81/TCP(http)"]);
    assert_eq!(check(&exports, &["west"]).0, ["81/TCP(http)"]);
    assert_eq!(check(&exports, &[]).0, ["80/TCP(http)"]);
    let tie = with_ports(1, &[port("http", 82)]);
    assert_eq!(check(&[("b", old), ("a", tie)], &[]).0, ["82/TCP(http)"]);
}

#[test]
fn type_and_affinity_are_the_oldest_exports() {
    let east = export(Head { created: 1, ..Head::default() });
    let west = export(Head { created: 2, kind: Kind::Headless, client_ip_affinity: true, ..Head::default() });
    let (_, conflicts) = check(&[("west", west), ("east", east)], &[]);
    assert_eq!(conflicts, ["TypeConflict west<east", "SessionAffinityConflict west<east"]);
}

proptest! {
    /// The result is a function of the set: building the map in any order, or merging again, changes nothing.
    #[test]
    fn merging_is_independent_of_arrival(
        seeds in prop::collection::vec((0..6_u8, 0..3_i64, 80..84_u16, any::<bool>()), 1..6),
        order in prop::collection::vec(0..6_u8, 0..6),
        rotate in 0..6_usize,
    ) {
        let name = |n: u8| id(&format!("c{n}"));
        let made: Vec<(ClusterId, Arc<Export>)> = seeds
            .iter()
            .map(|(n, created, number, headless)| {
                let kind = if *headless { Kind::Headless } else { Kind::ClusterIp };
                (name(*n), export(Head { kind, created: *created, ports: [port("p", *number)].into(), ..Head::default() }))
            })
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect();
        let order: Vec<ClusterId> = order.into_iter().map(name).collect();
        let mut turned = made.clone();
        turned.rotate_left(rotate % made.len());
        let merged = |exports: Vec<(ClusterId, Arc<Export>)>| {
            merge(&key(), &Parts { exports: exports.into_iter().collect(), order: order.clone(), vip: None })
        };
        let first = merged(made.clone()).expect("not empty");
        prop_assert_eq!(merged(turned), Some(first.clone()));
        prop_assert_eq!(merged(first.exports.clone()), Some(first));
    }
}
