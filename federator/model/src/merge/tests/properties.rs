//! What holds of merging whatever fleet there is: properties that differ and collide, ages that are equal, orders that
//! name some clusters, others, and some twice.

use super::*;
use proptest::prelude::*;

/// Clusters of a fleet.
const CLUSTERS: [&str; 6] = ["east", "west", "south", "north", "far", "away"];

/// What six clusters may export of a service, and in which order they were first seen.
fn parts() -> impl Strategy<Value = Parts> {
    let exports = prop::collection::btree_map(prop::sample::select(&CLUSTERS[..]), head(), 0..6);
    let order = prop::collection::vec(prop::sample::select(&CLUSTERS[..]), 0..8);
    (exports, order).prop_map(|(exports, order)| Parts {
        exports: exports.into_iter().map(|(name, head)| (id(name), export(head))).collect(),
        order: order.into_iter().map(id).collect(),
        vip: None,
    })
}

/// Few values of everything, so that some are equal and some are not.
fn head() -> impl Strategy<Value = Head> {
    let port = ("[ab]?", 1..4_u16, any::<bool>(), "(x)?").prop_map(|(name, number, udp, app)| Port {
        name: name.into(),
        number,
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        app_protocol: app.into(),
    });
    let families = prop::collection::vec(prop_oneof![Just(Family::V4), Just(Family::V6)], 0..3);
    let traffic = (0..3_u32, prop::bool::weighted(0.2), prop::option::weighted(0.2, Just("PreferSameZone".into())))
        .prop_map(|(seconds, node_local, distribution)| Traffic {
            affinity: if seconds == 0 { Affinity::None } else { Affinity::ClientIp { seconds } },
            node_local,
            distribution,
        });
    let texts = || prop::collection::btree_map("[a-c]".prop_map(Into::into), "[xy]".prop_map(Into::into), 0..2);
    let exported = (texts(), texts()).prop_map(|(labels, annotations)| Arc::new(Exported { labels, annotations }));
    let kind = prop_oneof![4 => Just(Kind::ClusterIp), 1 => Just(Kind::Headless)];
    (kind, prop::collection::vec(port, 0..4), families, traffic, exported, 0..3_i64).prop_map(
        |(kind, ports, families, traffic, exported, created)| Head {
            kind,
            ports: ports.into(),
            families: families.into_iter().collect(),
            traffic,
            exported,
            created,
            ..Head::default()
        },
    )
}

fn merged(parts: &Parts) -> Option<Service> {
    merge(&key(), parts)
}

/// Merges in whatever order exports come, one after the other.
fn arriving(exports: &[(ClusterId, Arc<Export>)], order: &[ClusterId]) -> Option<Service> {
    let mut parts = Parts { order: order.to_vec(), ..Parts::default() };
    let mut last = None;
    for (cluster, export) in exports {
        parts.exports.insert(cluster.clone(), export.clone());
        last = merged(&parts);
    }
    last
}

/// What a head and a service may differ in, each kind of conflict by itself and by a way of its own to compare.
fn differs(kind: ConflictKind, service: &Service, head: &Head) -> bool {
    let (ours, theirs) = (&service.traffic, &head.traffic);
    match kind {
        ConflictKind::Type => service.kind != head.kind,
        ConflictKind::Port => {
            let sorted = |ports: &[Port]| {
                let mut ports = ports.to_vec();
                ports.sort();
                ports.dedup();
                ports
            };
            sorted(&service.ports) != sorted(&head.ports)
        }
        ConflictKind::SessionAffinity => (ours.affinity == Affinity::None) != (theirs.affinity == Affinity::None),
        ConflictKind::SessionAffinityConfig => {
            ours.affinity != theirs.affinity && ![ours, theirs].iter().any(|of| of.affinity == Affinity::None)
        }
        ConflictKind::InternalTrafficPolicy => ours.node_local != theirs.node_local,
        ConflictKind::TrafficDistribution => ours.distribution != theirs.distribution,
        ConflictKind::Labels => service.exported.labels != head.exported.labels,
        ConflictKind::Annotations => service.exported.annotations != head.exported.annotations,
        ConflictKind::IpFamily => {
            let count = head.families.iter().count();
            count != 0 && count != service.families.iter().count()
        }
    }
}

proptest! {
    /// Commutative: exports that come in another order, some of them twice or after an older state of themselves, make
    /// the same service, and tell the same.
    #[test]
    fn it_does_not_matter_when_what_came(
        parts in parts(),
        before in parts(),
        shuffle in prop::collection::vec(any::<prop::sample::Index>(), 12),
    ) {
        let all: Vec<_> = parts.exports.clone().into_iter().collect();
        let mut turned = all.clone();
        for (n, other) in shuffle.iter().enumerate().filter(|_| !all.is_empty()) {
            turned.swap(n % all.len(), other.index(all.len()));
        }
        let older = before.exports.into_iter().filter(|(cluster, _)| parts.exports.contains_key(cluster));
        let history: Vec<_> = older.chain(turned.clone()).chain(turned.into_iter().take(2)).collect();
        let expected = merged(&parts);
        let other = arriving(&history, &parts.order);
        prop_assert_eq!(&other, &expected);
        prop_assert_eq!(other.map(|service| service.conflicts()), expected.map(|service| service.conflicts()));
    }

    /// Idempotent: what was merged has nothing to be merged any more, and a second export that says the same as the
    /// oldest, whatever its age, changes nothing.
    #[test]
    fn merging_again_changes_nothing(parts in parts(), twin in 0..CLUSTERS.len()) {
        let Some(first) = merged(&parts) else { return Ok(()) };
        let exports: BTreeMap<_, _> = first.exports.iter().cloned().collect();
        prop_assert_eq!(merged(&Parts { exports, ..parts.clone() }), Some(first.clone()));
        // The order in which a service shows its exports is the order that made it.
        let order: Vec<_> = first.exports.iter().map(|(cluster, _)| cluster.clone()).collect();
        prop_assert_eq!(merged(&Parts { order, ..parts.clone() }), Some(first.clone()));
        let twin = id(CLUSTERS[twin]);
        if !parts.exports.contains_key(&twin) {
            let mut parts = parts;
            parts.exports.insert(twin.clone(), first.exports[0].1.clone());
            parts.order = first.exports.iter().map(|(cluster, _)| cluster.clone()).chain([twin]).collect();
            let second = merged(&parts).expect("exported");
            prop_assert_eq!(Service { exports: first.exports.clone(), ..second }, first);
        }
    }

    /// Associative from the oldest on: whoever merges the older ones first and has the younger ones join what came of
    /// it, merges all. (Not from the youngest on: what loses to an older one then has already won over a younger one.)
    #[test]
    fn the_older_ones_can_be_merged_first(parts in parts(), cut in 0..6_usize) {
        let Some(all) = merged(&parts) else { return Ok(()) };
        let (older, younger) = all.exports.split_at(cut.min(all.exports.len()));
        let Some((cluster, _)) = older.first() else { return Ok(()) };
        let order: Vec<_> = all.exports.iter().map(|(cluster, _)| cluster.clone()).collect();
        let part = merged(&Parts { exports: older.iter().cloned().collect(), order: order.clone(), vip: None });
        let Service { kind, ports, families, traffic, exported, .. } = part.expect("exported");
        let one = export(Head { kind, ports, families, traffic, exported, ..Head::default() });
        let exports = younger.iter().cloned().chain([(cluster.clone(), one)]).collect();
        let joined = merged(&Parts { exports, order, vip: None }).expect("exported");
        prop_assert_eq!(Service { exports: all.exports.clone(), ..joined }, all);
    }

    /// Total: every pair of exports has one order, and it is the store's, where the store has one.
    #[test]
    fn the_order_is_the_stores(parts in parts()) {
        let Some(service) = merged(&parts) else { return Ok(()) };
        prop_assert_eq!(service.exports.len(), parts.exports.len());
        let age = |(cluster, export): &(ClusterId, Arc<Export>)| {
            let rank = parts.order.iter().position(|known| known == cluster);
            // Where the store knows both, neither clocks nor names are looked at: no two have one rank.
            (rank.is_none(), rank, export.head.created, cluster.clone())
        };
        prop_assert!(service.exports.iter().zip(&service.exports[1..]).all(|(a, b)| age(a) < age(b)));
    }

    /// A port's name, and a protocol's number, is there once, and nothing is there that nobody exports.
    #[test]
    fn no_port_is_there_twice(parts in parts()) {
        let Some(service) = merged(&parts) else { return Ok(()) };
        let names: BTreeMap<_, _> = service.ports.iter().map(|port| (&port.name, ())).collect();
        let numbers: BTreeMap<_, _> = service.ports.iter().map(|port| ((port.protocol, port.number), ())).collect();
        prop_assert_eq!((names.len(), numbers.len()), (service.ports.len(), service.ports.len()));
        for port in &*service.ports {
            prop_assert!(service.exports.iter().any(|(_, export)| export.head.ports.contains(port)));
        }
        // And nothing is left out that collides with nothing.
        for port in service.exports.iter().flat_map(|(_, export)| &*export.head.ports) {
            let number = |port: &Port| (port.protocol, port.number);
            let taken = |used: &Port| used.name == port.name || number(used) == number(port);
            prop_assert!(service.ports.iter().any(taken));
        }
    }

    /// What is decided by age is the oldest's, whoever else there is.
    #[test]
    fn the_oldest_decides(parts in parts()) {
        let Some(service) = merged(&parts) else { return Ok(()) };
        let head = &service.exports[0].1.head;
        prop_assert_eq!(service.kind, head.kind);
        prop_assert_eq!(&service.traffic, &head.traffic);
        prop_assert_eq!(&service.exported, &head.exported);
    }

    /// Whoever differs from its service is told, in what, and of whose it is; whoever does not is told of those who do;
    /// and nobody is told of anything else.
    #[test]
    fn every_exporter_that_differs_is_told(parts in parts()) {
        let Some(service) = merged(&parts) else { return Ok(()) };
        let conflicts = service.conflicts();
        for kind in ConflictKind::ALL {
            let differing: Vec<_> = service
                .exports
                .iter()
                .filter(|(_, export)| differs(kind, &service, &export.head))
                .map(|(cluster, _)| cluster)
                .collect();
            let conflict = conflicts.iter().find(|conflict| conflict.kind == kind);
            let told = conflict.map(|conflict| conflict.differences.iter().map(|d| &d.cluster).collect::<Vec<_>>());
            prop_assert_eq!(told.unwrap_or_default(), differing.clone(), "{:?}", kind);
            for (conflict, (cluster, _)) in conflict.iter().flat_map(|conflict| service.exports.iter().map(|e| (*conflict, e))) {
                let told = conflict.told(cluster);
                let of_itself = told.contains(&format!("; {cluster} "));
                prop_assert!(told.starts_with(kind.reason()));
                prop_assert!(of_itself == differing.contains(&cluster), "{}", told);
            }
        }
        prop_assert!(conflicts.iter().all(|conflict| !conflict.differences.is_empty()));
    }
}
