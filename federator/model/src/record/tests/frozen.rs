//! Agents of two versions share a store while a fleet is upgraded. `v1.txt` is a record of every kind as version 1 writes
//! it: it is read as what it says for ever, and what this version writes is what version 1 can read. It stands for
//! bytes in stores that nobody can rewrite, so nothing makes it anew, and no test has a switch for it; a later version
//! adds a file of its own beside it.

use super::*;
use crate::{key::Key, name::ServiceKey};

/// A key and the bytes behind it in hexadecimal, one record a line; `#` begins a comment.
const V1: &str = include_str!("v1.txt");

/// Decodes bytes and shows what they say, or why they are refused.
type Decode = fn(&[u8]) -> Result<String, RecordError>;

/// What stands behind a key of this kind.
fn decoder(key: &Key) -> Decode {
    fn decode<R: Record + std::fmt::Debug>(bytes: &[u8]) -> Result<String, RecordError> {
        R::decode(bytes).map(|record| format!("{record:?}"))
    }
    match key {
        Key::Generation => decode::<Generation>,
        Key::Meta(_) => decode::<Meta>,
        Key::Owner(_) => decode::<Owner>,
        Key::Candidate(..) => decode::<Candidate>,
        Key::State(_) => decode::<State>,
        Key::Hold(_) => decode::<Hold>,
        Key::Synced(_) => decode::<Synced>,
        Key::Head(..) => decode::<Head>,
        Key::Slice(..) => decode::<Slice>,
        Key::Order(_) => decode::<Order>,
        Key::VipOfHost(_) => decode::<Vip>,
        Key::HostOfVip(_) => decode::<VipHost>,
        Key::Tombstone(_) => decode::<Tombstone>,
    }
}

/// What the records of `v1.txt` say, in its order: the key, what is behind it, and how this version writes that.
fn expected() -> Vec<(Key, String, Vec<u8>)> {
    fn is<R: Record + std::fmt::Debug>(key: Key, record: &R) -> (Key, String, Vec<u8>) {
        (key, format!("{record:?}"), record.encode())
    }
    let id = |text: &str| ClusterId::parse(text).expect("an id");
    let web = || ServiceKey::parse("demo", "web").expect("labels");
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (east, host) = (id("east"), "web.demo.global");
    let hash = |first: u8| SetHash::from_bytes(std::array::from_fn(|n| first + u8::try_from(n).unwrap_or_default()));
    let port = |name: &str, number, protocol, app: &str| Port {
        name: name.into(),
        number,
        protocol,
        app_protocol: app.into(),
    };
    let target = |name: &str, number, protocol| TargetPort { name: name.into(), number, protocol };
    let workload = Arc::new(Workload {
        labels: [("security.istio.io/tlsMode", "istio"), ("version", "v2")].map(|(k, v)| (k.into(), v.into())).into(),
        service_account: "web".into(),
    });
    let endpoint = |address: Address, health, workload: &Arc<Workload>| Endpoint {
        address,
        health,
        traits: Arc::new(Traits { workload: workload.clone(), ..Traits::default() }),
    };
    let head = Head {
        kind: Kind::ClusterIp,
        ports: [port("http", 80, Protocol::Tcp, "kubernetes.io/h2c"), port("dns", 53, Protocol::Udp, "")].into(),
        cluster_ips: vec![ip("10.96.0.7"), ip("fd00:96::7")],
        families: [Family::V4, Family::V6].into_iter().collect(),
        traffic: Traffic { affinity: Affinity::ClientIp { seconds: DEFAULT_AFFINITY_SECONDS }, ..Traffic::default() },
        created: 1_700_000_000,
        ..Head::default()
    };
    let headless =
        Head { kind: Kind::Headless, ports: [port("sctp", 3868, Protocol::Sctp, "")].into(), ..Head::default() };
    let traits = Traits {
        network: Some(Network::new("n2")),
        hostname: "web-0".into(),
        locality: Locality::new("eu", "eu-1", "rack-7"),
        workload: workload.clone(),
    };
    let full = Endpoint { address: Address::Ip(ip("10.0.0.1")), health: Health::Ready, traits: Arc::new(traits) };
    let slice = Slice {
        ports: [target("http", 8080, Protocol::Tcp), target("dns", 5353, Protocol::Udp)].into(),
        endpoints: vec![
            full,
            endpoint(Address::Ip(ip("fd00::2")), Health::NotReady, &workload),
            endpoint(Address::Ip(ip("10.0.0.3")), Health::Draining, &Workload::unknown()),
            endpoint(Address::Ip(ip("10.0.0.4")), Health::Held, &Workload::unknown()),
            endpoint(Address::parse_host("db.example.com").expect("a host"), Health::Ready, &Workload::unknown()),
        ],
    };
    let (v4, v6) = (Ipv4Addr::new(240, 64, 0, 9), "fdfe:d066::9".parse().expect("an address"));
    vec![
        is(Key::Generation, &Generation { id: "00c0ffee".into(), base: 1000, settled: true, ..Generation::default() }),
        is(Key::Meta(east.clone()), &Meta { uid: "uid-east".into(), network: Network::new("n1"), ..Meta::default() }),
        is(
            Key::Owner(east.clone()),
            &Owner { agent: "east-0".into(), uid: "uid-east".into(), lease: 77, role: Role::Deputy, flaps: 2 },
        ),
        is(
            Key::Candidate(east.clone(), "west-0".into()),
            &Candidate { role: Role::Caretaker, qualified: true, lease: 78 },
        ),
        is(Key::State(east.clone()), &State { frozen: true, since: 1_700_000_001, reason: "Unreachable".into() }),
        is(
            Key::Hold(east.clone()),
            &Hold {
                since: 1_700_000_002,
                set: hash(1),
                endpoints: 21,
                reason: "21 of 40".into(),
                accepted: true,
                went_back: true,
            },
        ),
        is(
            Key::Synced(east.clone()),
            &Synced {
                epoch: 12,
                generation: "00c0ffee".into(),
                sequence: 34,
                records: 2,
                hash: hash(101),
                source_version: "5678".into(),
                behind: false,
                partial: false,
            },
        ),
        is(Key::Head(east.clone(), web()), &head),
        is(Key::Slice(east.clone(), web(), "web-abcde".into()), &slice),
        is(Key::Head(id("west"), web()), &headless),
        is(Key::Order(web()), &Order(vec![id("west"), east.clone()])),
        is(Key::VipOfHost(host.into()), &Vip { v4, v6 }),
        is(Key::HostOfVip(v4.into()), &VipHost(host.to_owned())),
        is(Key::HostOfVip(v6.into()), &VipHost(host.to_owned())),
        is(Key::Tombstone(east), &Tombstone { uid: "uid-east".into(), number: 3, removed: true }),
    ]
}

fn frozen() -> Vec<(String, Vec<u8>)> {
    let byte = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(digits, 16).expect("hexadecimal digits")
    };
    let lines = V1.lines().filter(|line| !line.starts_with('#'));
    let record = |line: &str| {
        let (key, hex) = line.split_once(' ').expect("a key and bytes");
        (key.to_owned(), hex.as_bytes().chunks(2).map(byte).collect())
    };
    lines.map(record).collect()
}

/// A field with a number, as protobuf writes one.
fn field(number: u8, value: u8) -> [u8; 2] {
    assert!(number < 16 && value < 128, "one byte each");
    [number << 3, value]
}

#[test]
fn the_frozen_example_is_as_it_was() {
    assert_eq!(
        SetHash::of("v1.txt", V1.as_bytes()).to_string(),
        "518b4285005d939f387c5cd101bd7616",
        "v1.txt stands for stores that nobody can rewrite: restore it, and write what is new into a file beside it"
    );
}

#[test]
fn what_version_1_wrote_says_what_it_said() {
    let expected = expected();
    assert_eq!(frozen().len(), expected.len());
    for ((text, bytes), (key, record, _)) in frozen().iter().zip(&expected) {
        assert_eq!((Key::parse(text).as_ref(), &key.to_string()), (Ok(key), text));
        assert_eq!(decoder(key)(bytes).as_ref(), Ok(record), "{text}");
    }
}

/// For what version 1 knows, byte for byte what it would write. Where a later version has to say more, this is where to
/// show that version 1 may ignore it, or cannot read it and is told so.
#[test]
fn what_is_written_is_what_version_1_reads() {
    for ((text, bytes), (_, _, written)) in frozen().iter().zip(expected()) {
        assert_eq!(&written, bytes, "{text}");
    }
}

/// What a head says beyond what it said at first comes behind that, and leaves it as it was.
#[test]
fn what_was_added_to_a_head_is_left_alone_by_who_does_not_know_it() {
    let (_, bytes) = frozen().into_iter().find(|(key, _)| key == "records/east/demo/web/head").expect("a head");
    let mut head = Head::decode(&bytes).expect("decodes");
    head.families = [Family::V6, Family::V4].into_iter().collect();
    head.traffic = Traffic {
        affinity: Affinity::ClientIp { seconds: 60 },
        node_local: true,
        distribution: Some("PreferSameZone".into()),
    };
    let texts: Texts = [("team".into(), "shop".into())].into();
    head.exported = Arc::new(Exported { labels: texts.clone(), annotations: texts });
    head.answers = Answers { mode: Some(AnswerMode::Vip), ttl: Some(0) };
    let written = head.encode();
    assert_eq!(Head::decode(&written), Ok(head));
    let (before, added) = written.split_at(bytes.len());
    assert_eq!(before, bytes);
    // These are in stores too by now: 6 to 11, 14 and 16, each as it was given out.
    let texts = [&[12, 10, 4][..], b"team", &[18, 4], b"shop"].concat();
    let distribution = [&[8 << 3 | 2, 14][..], b"PreferSameZone"].concat();
    let [labels, annotations] = [10 << 3 | 2, 11 << 3 | 2].map(|field| [&[field][..], &texts].concat());
    let families = vec![9 << 3 | 2, 2, 1, 0];
    assert_eq!(
        added,
        [
            [field(6, 60), field(7, 1)].concat(),
            distribution,
            families,
            labels,
            annotations,
            field(14, 2).to_vec(),
            vec![0x80, 0x01, 0]
        ]
        .concat()
    );
    // Nothing of it needs a later reader.
    assert_eq!(wire::Head::decode(&*written).expect("decodes").reader, 0);
}

/// Version 2 adds fields, to records and to what they hold. Whoever knows version 1 reads the rest.
#[test]
fn what_is_newer_is_ignored() {
    for (text, mut bytes) in frozen() {
        let decode = decoder(&Key::parse(&text).expect("a key"));
        let before = decode(&bytes);
        // Field 27 is a number, field 28 has bytes; field 15 says that version 1 gets the rest right.
        bytes.extend([&[0xd8, 0x01, 7][..], &field(15, 1)].concat());
        bytes.extend([0xe2, 0x01, 3, b'n', b'e', b'w']);
        assert_eq!(decode(&bytes), before, "{text}");
    }
    let mut endpoint =
        wire::Endpoint { address: vec![10, 0, 0, 1], health: 1, ..wire::Endpoint::default() }.encode_to_vec();
    endpoint.extend(field(14, 7));
    // Field 2 of a slice, with a length.
    let slice = [&[2 << 3 | 2, u8::try_from(endpoint.len()).expect("short")], &endpoint[..]].concat();
    assert_eq!(Slice::decode(&slice).expect("decodes").endpoints[0].health, Health::Ready);
}

/// What version 1 would get wrong is refused with a reason that says what to do; who owns a cluster, and whether it was
/// removed, is nothing that a version may fail to read.
#[test]
fn what_an_earlier_reader_would_get_wrong_is_refused() {
    for (text, bytes) in frozen() {
        let key = Key::parse(&text).expect("a key");
        let has_no_reader = matches!(key, Key::Owner(_) | Key::Candidate(..) | Key::Tombstone(_));
        let read = decoder(&key)(&[&bytes[..], &field(15, 2)].concat());
        match has_no_reader {
            true => assert_eq!(read, decoder(&key)(&bytes), "{text}"),
            false => assert_eq!(read, Err(RecordError::Reader(2)), "{text}"),
        }
    }
    let reason = RecordError::Reader(2).to_string();
    assert_eq!(reason, "needs a reader of record version 2, and this agent is one of version 1: upgrade it");
}
