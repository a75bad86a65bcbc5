//! Records round-trip; what cannot be true is refused with its reason. What was written and what is newer: `frozen`.

mod frozen;

use super::*;
use crate::{
    cluster::{Hold, State},
    export::{
        Address, Affinity, AnswerMode, Answers, DEFAULT_AFFINITY_SECONDS, Endpoint, Exported, ExportedError, Families,
        Family, Head, Health, Host, HostError, Hosts, Kind, MAX_AFFINITY_SECONDS, MAX_TTL, Port, Slice, TargetPort,
        Texts, Traffic, Traits, Workload, can_be_an_endpoint,
    },
    generation::Generation,
    seat::{Candidate, Owner, Role},
};
use proptest::prelude::*;
use std::sync::Arc;

fn gateway(address: &str) -> Gateway {
    let address = Address::parse_ip(address).or_else(|| Address::parse_host(address)).expect("an address");
    Gateway { network: Network::new("n2"), address, port: 15443 }
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)]
}

fn head() -> impl Strategy<Value = Head> {
    let port = ("[a-z]{0,5}", 1..=u16::MAX, protocol(), "[a-z0-9/]{0,9}").prop_map(|(name, number, protocol, app)| {
        Port { name: name.into(), number, protocol, app_protocol: app.into() }
    });
    let kind = prop_oneof![Just(Kind::ClusterIp), Just(Kind::Headless)];
    let ips = prop::collection::vec(any::<IpAddr>(), 0..3);
    (kind, prop::collection::vec(port, 0..4), ips, families(), traffic(), exported(), hosts(), answers(), any::<i64>())
        .prop_map(|(kind, ports, cluster_ips, families, traffic, exported, hosts, answers, created)| {
            // Addresses say what families there are.
            let of_ips = cluster_ips.iter().map(|ip| Family::from(*ip)).collect();
            let families = if families.is_unknown() { of_ips } else { families };
            Head { kind, ports: ports.into(), cluster_ips, families, traffic, exported, hosts, answers, created }
        })
}

fn answers() -> impl Strategy<Value = Answers> {
    let mode = prop::option::of(prop::sample::select(&AnswerMode::ALL[..]));
    (mode, prop::option::of(0..=MAX_TTL)).prop_map(|(mode, ttl)| Answers { mode, ttl })
}

fn families() -> impl Strategy<Value = Families> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    prop::collection::vec(family, 0..3).prop_map(|families| families.into_iter().collect())
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let affinity = prop_oneof![
        Just(Affinity::None),
        Just(Affinity::ClientIp { seconds: DEFAULT_AFFINITY_SECONDS }),
        (1..=MAX_AFFINITY_SECONDS).prop_map(|seconds| Affinity::ClientIp { seconds }),
    ];
    let distribution = prop::option::of("[A-Z][a-z]{0,9}".prop_map(Into::into));
    (affinity, any::<bool>(), distribution).prop_map(|(affinity, node_local, distribution)| Traffic {
        affinity,
        node_local,
        distribution,
    })
}

fn exported() -> impl Strategy<Value = Arc<Exported>> {
    let into = |texts: std::collections::BTreeMap<String, String>| -> Texts {
        texts.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
    };
    let labels = prop::collection::btree_map("[a-z]{1,5}", "[a-z0-9]{0,3}", 0..3).prop_map(into);
    let annotations = prop::collection::btree_map("[a-z]{1,5}", ".{0,9}", 0..3).prop_map(into);
    (labels, annotations).prop_map(|(labels, annotations)| Arc::new(Exported { labels, annotations }))
}

fn hosts() -> impl Strategy<Value = Arc<Hosts>> {
    let host = "[a-z]{1,3}\\.example".prop_map(|text| Host::parse(&text).expect("a name"));
    let aliases = prop::collection::btree_set(host, 0..3);
    (aliases, any::<bool>()).prop_map(|(aliases, per_cluster)| Arc::new(Hosts { aliases, per_cluster }))
}

fn slice() -> impl Strategy<Value = Slice> {
    let target = ("[a-z]{0,5}", 1..=u16::MAX, protocol()).prop_map(|(name, number, protocol)| TargetPort {
        name: name.into(),
        number,
        protocol,
    });
    let health = prop_oneof![Just(Health::Ready), Just(Health::Held), Just(Health::Draining), Just(Health::NotReady)];
    let ip = any::<IpAddr>().prop_filter("an endpoint's", |address| can_be_an_endpoint(*address)).prop_map(Address::Ip);
    let host = "[a-z]{1,4}\\.[a-z]{2,4}".prop_map(|text| Address::parse_host(&text).expect("a host"));
    let workload = (prop::collection::btree_map("[a-z]{1,5}", "[a-z0-9]{0,3}", 0..3), "[a-z]{0,3}").prop_map(
        |(labels, account)| {
            let labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            Arc::new(Workload { labels, service_account: account.into() })
        },
    );
    let network = prop::option::of("[a-z]{1,3}".prop_map(|name| Network::new(&name)));
    let place = ("[a-z]{0,4}", "[a-z]{0,4}").prop_map(|(region, zone)| Locality::new(&region, &zone, ""));
    let endpoint = (prop_oneof![ip, host], network, health, "[a-z]{0,4}", place, workload).prop_map(
        |(address, network, health, hostname, locality, workload)| Endpoint {
            address,
            health,
            traits: Traits { network, hostname: hostname.into(), locality, workload }.into(),
        },
    );
    (prop::collection::vec(target, 0..3), prop::collection::vec(endpoint, 0..6))
        .prop_map(|(ports, endpoints)| Slice { ports: ports.into(), endpoints })
}

proptest! {
    #[test]
    fn heads_round_trip(head in head()) {
        prop_assert_eq!(Head::decode(&head.encode()), Ok(head));
    }

    #[test]
    fn slices_round_trip(slice in slice()) {
        prop_assert_eq!(Slice::decode(&slice.encode()), Ok(slice));
    }

    #[test]
    fn vips_round_trip(v4 in any::<Ipv4Addr>(), v6 in any::<Ipv6Addr>()) {
        let wrong = [v4.into(), v6.into()].into_iter().find(|address| !can_be_an_endpoint(*address));
        let expected = wrong.map_or(Ok(Vip { v4, v6 }), |address| Err(RecordError::VirtualAddress(address)));
        prop_assert_eq!(Vip::decode(&Vip { v4, v6 }.encode()), expected);
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = (Head::decode(&bytes), Slice::decode(&bytes), Synced::decode(&bytes), Order::decode(&bytes));
        let _ = Tombstone::decode(&bytes);
        let _ = (Generation::decode(&bytes), Candidate::decode(&bytes), State::decode(&bytes), Hold::decode(&bytes));
        let _ = (Meta::decode(&bytes), Owner::decode(&bytes), Vip::decode(&bytes), VipHost::decode(&bytes));
    }
}

#[test]
fn the_small_ones_round_trip() {
    let meta = Meta {
        uid: "u".into(),
        network: Network::new("n1"),
        locality: Locality::new("r", "z", ""),
        gateways: ["192.0.2.1", "2001:db8::1", "gateway.example"].map(gateway).into(),
        passed: vec![Passed::new("*.global")],
        trust_domain: TrustDomain::parse("east.example").expect("it can be"),
    };
    assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
    let owner = Owner { agent: "east-0".into(), uid: "u".into(), lease: 7, role: Role::Deputy, flaps: 2 };
    assert_eq!(Owner::decode(&owner.encode()), Ok(owner));
    let candidate = Candidate { role: Role::Caretaker, qualified: true, lease: 8 };
    assert_eq!(Candidate::decode(&candidate.encode()), Ok(candidate));
    let generation = Generation { id: "g".into(), base: 9, settled: true, past: vec!["f".into(), "e".into()] };
    assert_eq!(Generation::decode(&generation.encode()), Ok(generation));
    let state = State { frozen: true, since: 10, reason: "r".into() };
    assert_eq!(State::decode(&state.encode()), Ok(state));
    let hold = Hold {
        since: 11,
        set: SetHash::of("a", b"b"),
        endpoints: 12,
        reason: "r".into(),
        accepted: true,
        went_back: true,
    };
    assert_eq!(Hold::decode(&hold.encode()), Ok(hold));
    let synced = Synced {
        epoch: 1,
        generation: "g".into(),
        sequence: 2,
        records: 3,
        hash: SetHash::of("a", b"b"),
        source_version: "4".into(),
        behind: true,
        partial: true,
    };
    assert_eq!(Synced::decode(&synced.encode()), Ok(synced));
    let order = Order(vec![ClusterId::parse("west").expect("an id"), ClusterId::parse("east").expect("an id")]);
    assert_eq!(Order::decode(&order.encode()), Ok(order));
    let tombstone = Tombstone { uid: "u".into(), number: 3, removed: true };
    assert_eq!(Tombstone::decode(&tombstone.encode()), Ok(tombstone));
    let host = VipHost("web.demo.global".into());
    assert_eq!(VipHost::decode(&host.encode()), Ok(host));
}

#[test]
fn what_cannot_be_true_is_refused() {
    let port = wire::Port { number: 70_000, ..wire::Port::default() };
    let head = wire::Head { ports: vec![port], ..wire::Head::default() };
    assert_eq!(Head::decode(&head.encode_to_vec()), Err(RecordError::Port(70_000)));
    let head = wire::Head { client_ip_affinity: true, affinity_seconds: 86_401, ..wire::Head::default() };
    assert_eq!(Head::decode(&head.encode_to_vec()), Err(RecordError::Affinity(86_401)));
    let head = wire::Head { traffic_distribution: "a b".to_owned(), ..wire::Head::default() };
    assert_eq!(Head::decode(&head.encode_to_vec()), Err(RecordError::Distribution("a b".to_owned())));
    let head = wire::Head { answer_ttl: Some(86_401), ..wire::Head::default() };
    assert_eq!(Head::decode(&head.encode_to_vec()), Err(RecordError::Ttl(86_401)));
    let label = wire::Label { key: "team".to_owned(), value: "a b".to_owned() };
    let head = wire::Head { exported_labels: vec![label.clone()], ..wire::Head::default() };
    let refused = ExportedError::Label("team".to_owned(), "a b".to_owned());
    assert_eq!(Head::decode(&head.encode_to_vec()), Err(RecordError::Exported(refused)));
    let head = wire::Head { exported_annotations: vec![label], ..wire::Head::default() };
    assert_eq!(&*Head::decode(&head.encode_to_vec()).expect("decodes").exported.annotations["team"], "a b");
    let head = wire::Head { aliases: vec!["web".to_owned()], ..wire::Head::default() };
    assert_eq!(Head::decode(&head.encode_to_vec()), Err(RecordError::Alias(HostError::NoName("web".to_owned()))));

    for bad in ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1"]
    {
        let address: IpAddr = bad.parse().expect("an address");
        let endpoint = wire::Endpoint { address: address_to_wire(address), ..wire::Endpoint::default() };
        let slice = wire::Slice { endpoints: vec![endpoint], ..wire::Slice::default() };
        assert_eq!(Slice::decode(&slice.encode_to_vec()), Err(RecordError::Address(address)), "{bad}");
    }

    for (v4, v6, bad) in [
        ("127.0.0.1", "fd66::1", "127.0.0.1"),
        ("169.254.169.254", "fd66::1", "169.254.169.254"),
        ("240.64.0.1", "::1", "::1"),
        ("240.64.0.1", "::", "::"),
    ] {
        let vip = Vip { v4: v4.parse().expect("an address"), v6: v6.parse().expect("an address") };
        let refused = RecordError::VirtualAddress(bad.parse().expect("an address"));
        assert_eq!(Vip::decode(&vip.encode()), Err(refused));
    }

    let endpoint = wire::Endpoint { address: vec![1, 2, 3], ..wire::Endpoint::default() };
    let slice = wire::Slice { endpoints: vec![endpoint], ..wire::Slice::default() };
    assert_eq!(Slice::decode(&slice.encode_to_vec()), Err(RecordError::AddressLength(3)));

    for bad in ["localhost", "A.example", "a.example.", "10.0.0.1"] {
        let endpoint = wire::Endpoint { host: bad.to_owned(), ..wire::Endpoint::default() };
        let slice = wire::Slice { endpoints: vec![endpoint], ..wire::Slice::default() };
        assert_eq!(Slice::decode(&slice.encode_to_vec()), Err(RecordError::Host(bad.to_owned())), "{bad}");
    }

    let label = wire::Label { key: "version".to_owned(), value: "a b".to_owned() };
    let workload = wire::Workload { labels: vec![label], ..wire::Workload::default() };
    let slice = wire::Slice { workloads: vec![workload], ..wire::Slice::default() };
    let refused = RecordError::Label("version".to_owned(), "a b".to_owned());
    assert_eq!(Slice::decode(&slice.encode_to_vec()), Err(refused));

    let endpoint = wire::Endpoint { address: vec![10, 0, 0, 1], workload: 1, ..wire::Endpoint::default() };
    let slice = wire::Slice { endpoints: vec![endpoint], ..wire::Slice::default() };
    assert_eq!(Slice::decode(&slice.encode_to_vec()), Err(RecordError::Workload(1)));
}

/// What many endpoints have in common is written once and held once.
#[test]
fn endpoints_share_what_they_have_in_common() {
    let endpoint = |n: u8| {
        let labels = [("version".into(), "v1".into())].into();
        Endpoint {
            address: Address::Ip([10, 0, 0, n].into()),
            health: Health::Ready,
            traits: Arc::new(Traits {
                network: Some(Network::new("network-with-a-name")),
                hostname: "".into(),
                locality: Locality::new("region-with-a-name", "zone", ""),
                workload: Arc::new(Workload { labels, service_account: "account-with-a-long-name".into() }),
            }),
        }
    };
    let one = Slice { ports: [].into(), endpoints: vec![endpoint(1)] };
    let many = Slice { ports: [].into(), endpoints: (1..=100).map(endpoint).collect() };
    let account = b"account-with-a-long-name";
    assert_eq!(many.encode().windows(account.len()).filter(|window| window == account).count(), 1);
    assert_eq!(Slice::decode(&one.encode()), Ok(one.clone()));
    let read = Slice::decode(&many.encode()).expect("decodes");
    let (first, last) = (&read.endpoints[0], &read.endpoints[99]);
    assert!(Arc::ptr_eq(&first.traits, &last.traits));
    let mut shared = Shared::default();
    let [a, b] = [(); 2].map(|()| Slice::decode_sharing(&one.encode(), &mut shared).expect("decodes"));
    assert!(Arc::ptr_eq(&a.endpoints[0].traits, &b.endpoints[0].traits));
    assert!(Arc::ptr_eq(&a.ports, &b.ports));
}

/// What no slice holds any more is not held for ever.
#[test]
fn what_was_shared_is_forgotten() {
    let mut shared = Shared::default();
    for n in 0..10_000 {
        let endpoint = Endpoint {
            address: Address::Ip([10, 0, 0, 1].into()),
            health: Health::Ready,
            traits: Traits { locality: Locality::new("region", &format!("zone-{n}"), ""), ..Traits::default() }.into(),
        };
        let slice = Slice { ports: [].into(), endpoints: vec![endpoint] };
        assert_eq!(Slice::decode_sharing(&slice.encode(), &mut shared), Ok(slice));
    }
    assert!(format!("{shared:?}").matches("zone-").count() < 5_000);
}
