//! The rules in tables, one a property, with what every exporter is told; and that merging depends on what there is
//! and not on when it came.

mod properties;

use super::*;
use crate::export::{Affinity, Family, Head, Protocol, Slices, Texts};

fn id(name: &str) -> ClusterId {
    ClusterId::parse(name).expect("an id")
}

fn key() -> ServiceKey {
    ServiceKey::parse("demo", "web").expect("a key")
}

/// Ports as `name:number[/PROTOCOL][@appProtocol]`.
fn ports(text: &str) -> Arc<[Port]> {
    let port = |text: &str| {
        let (text, app) = text.split_once('@').unwrap_or((text, ""));
        let (name, number) = text.split_once(':').expect("name:number");
        let (number, protocol) = number.split_once('/').unwrap_or((number, "TCP"));
        let protocol = match protocol {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            other => panic!("no such protocol: {other}"),
        };
        Port { name: name.into(), number: number.parse().expect("a number"), protocol, app_protocol: app.into() }
    };
    text.split_whitespace().map(port).collect()
}

fn export(head: Head) -> Arc<Export> {
    Arc::new(Export { head: Arc::new(head), slices: Slices::default() })
}

/// Merges exports that were first seen in this order.
fn merged<'a>(exports: impl IntoIterator<Item = (&'a str, Head)>) -> Service {
    let mut parts = Parts::default();
    for (name, head) in exports {
        parts.order.push(id(name));
        parts.exports.insert(id(name), export(head));
    }
    merge(&key(), &parts).expect("somebody exports it")
}

/// Merges heads of `east`, `west`, `south` and on, in this order of age, and shows what they are told.
fn conflicts(heads: impl IntoIterator<Item = Head>) -> Vec<String> {
    let names = ["east", "west", "south", "north", "far", "away"];
    let service = merged(names.into_iter().zip(heads));
    service.conflicts().iter().map(ToString::to_string).collect()
}

/// The ports of heads with these ports, oldest first, and their conflicts.
fn of_ports(exports: &[&str]) -> (String, Vec<String>) {
    let head = |text: &&str| Head { ports: ports(text), ..Head::default() };
    let names = ["east", "west", "south"];
    let service = merged(names.into_iter().zip(exports.iter().map(head)));
    let shown: Vec<_> = service.ports.iter().map(ToString::to_string).collect();
    (shown.join(" "), service.conflicts().iter().map(ToString::to_string).collect())
}

const PORTS: &str =
    "PortConflict: all ports are used, of each name and number that of who exported the service first; ";

#[test]
fn nobody_exports_it() {
    assert_eq!(merge(&key(), &Parts::default()), None);
}

#[test]
fn ports_are_the_union_and_the_oldest_wins_a_collision() {
    let check = |exports: &[&str], union: &str, told: &str| {
        let expected = if told.is_empty() { vec![] } else { vec![format!("{PORTS}{told}")] };
        assert_eq!(of_ports(exports), (union.to_owned(), expected), "{exports:?}");
    };
    check(&["http:80 admin:9000", "admin:9000 http:80"], "80/TCP(http) 9000/TCP(admin)", "");
    check(&["http:80", "http:80 grpc:50"], "80/TCP(http) 50/TCP(grpc)", "east lacks 50/TCP(grpc) of west");
    check(&["http:80 grpc:50", "http:80"], "80/TCP(http) 50/TCP(grpc)", "west lacks 50/TCP(grpc) of east");
    // By name, by protocol and number, and by both, each with another.
    check(&["http:80", "http:81"], "80/TCP(http)", "west has 81/TCP(http) where 80/TCP(http) of east is used");
    check(&["http:80", "web:80"], "80/TCP(http)", "west has 80/TCP(web) where 80/TCP(http) of east is used");
    check(
        &["http:80 web:81", "http:81"],
        "80/TCP(http) 81/TCP(web)",
        "west has 81/TCP(http) where 80/TCP(http) of east is used",
    );
    check(
        &["dns:53/UDP", "dns-tcp:53"],
        "53/UDP(dns) 53/TCP(dns-tcp)",
        "east lacks 53/TCP(dns-tcp) of west; west lacks 53/UDP(dns) of east",
    );
    check(&["dns:53/UDP", "dns:53"], "53/UDP(dns)", "west has 53/TCP(dns) where 53/UDP(dns) of east is used");
    // The only port of a service has no name, and there is one such name.
    check(&[":80", ":81"], "80/TCP", "west has 81/TCP where 80/TCP of east is used");
    check(&[":80", "http:80"], "80/TCP", "west has 80/TCP(http) where 80/TCP of east is used");
    // Between two that are not the oldest, the older one.
    check(
        &["http:80", "http:80 grpc:50", "http:80 grpc:51"],
        "80/TCP(http) 50/TCP(grpc)",
        "east lacks 50/TCP(grpc) of west; south has 51/TCP(grpc) where 50/TCP(grpc) of west is used",
    );
    // What lost takes nothing from others.
    check(
        &["http:80", "http:81", "web:81"],
        "80/TCP(http) 81/TCP(web)",
        "east lacks 81/TCP(web) of south; west has 81/TCP(http) where 80/TCP(http) of east is used; \
         south lacks 80/TCP(http) of east",
    );
    // The same port, on which something else is spoken.
    check(
        &["http:80", "http:80@h2c"],
        "80/TCP(http)",
        "west has 80/TCP(http) with h2c where 80/TCP(http) with no appProtocol of east is used",
    );
    // No API server lets this in, and whatever else does, it does not come out.
    check(
        &["http:80 http:81 web:80"],
        "80/TCP(http)",
        "east has 81/TCP(http) where 80/TCP(http) of east is used, has 80/TCP(web) where 80/TCP(http) of east is used",
    );
    check(
        &["a:1 b:2 c:3 d:4 e:5", ""],
        "1/TCP(a) 2/TCP(b) 3/TCP(c) 4/TCP(d) 5/TCP(e)",
        "west lacks 1/TCP(a) of east, lacks 2/TCP(b) of east, lacks 3/TCP(c) of east, and 2 more",
    );
}

#[test]
fn the_store_decides_who_is_oldest_and_clocks_only_where_it_is_silent() {
    let with =
        |number: &str, created| export(Head { created, ports: ports(&format!("http:{number}")), ..Head::default() });
    let check = |exports: &[(&str, &Arc<Export>)], order: &[&str], oldest: u16| {
        let exports = exports.iter().map(|(name, export)| (id(name), (*export).clone())).collect();
        let parts = Parts { exports, order: order.iter().map(|name| id(name)).collect(), vip: None };
        let service = merge(&key(), &parts).expect("somebody exports it");
        assert_eq!(service.ports.iter().map(|port| port.number).collect::<Vec<_>>(), [oldest]);
    };
    let (old, new, tie) = (with("80", 1), with("81", 2), with("82", 1));
    let exports = [("east", &old), ("west", &new)];
    check(&exports, &["west", "east"], 81);
    check(&exports, &["west"], 81);
    check(&exports, &["gone", "west", "west", "east"], 81);
    check(&exports, &[], 80);
    check(&[("b", &old), ("a", &tie)], &[], 82);
}

#[test]
fn type_is_the_oldest_exports() {
    let headless = || Head { kind: Kind::Headless, ..Head::default() };
    assert_eq!(merged([("east", Head::default()), ("west", headless())]).kind, Kind::ClusterIp);
    assert_eq!(merged([("west", headless()), ("east", Head::default())]).kind, Kind::Headless);
    assert_eq!(
        conflicts([Head::default(), headless(), Head::default(), headless()]),
        ["TypeConflict: type ClusterSetIP of east is used, which exported the service first; west has Headless; \
          north has Headless"]
    );
}

#[test]
fn session_affinity_is_the_oldest_exports_with_its_time() {
    let with = |seconds: u32| {
        let affinity = if seconds == 0 { Affinity::None } else { Affinity::ClientIp { seconds } };
        Head { traffic: Traffic { affinity, ..Traffic::default() }, ..Head::default() }
    };
    assert_eq!(merged([("west", with(60)), ("east", with(0))]).traffic, with(60).traffic);
    let check = |all: &[u32], told: &[&str]| assert_eq!(conflicts(all.iter().copied().map(with)), told, "{all:?}");
    check(&[60, 60], &[]);
    check(
        &[0, 60, 70],
        &["SessionAffinityConflict: sessionAffinity None of east is used, which exported the service first; \
           west has ClientIP; south has ClientIP"],
    );
    check(
        &[60, 0, 70],
        &[
            "SessionAffinityConflict: sessionAffinity ClientIP of east is used, which exported the service first; \
             west has None",
            "SessionAffinityConfigConflict: sessionAffinityConfig 60 s of east is used, which exported the \
             service first; south has 70 s",
        ],
    );
}

#[test]
fn traffic_policy_and_distribution_are_the_oldest_exports() {
    let with = |node_local, distribution: &str| {
        let distribution = (!distribution.is_empty()).then(|| distribution.into());
        Head { traffic: Traffic { node_local, distribution, ..Traffic::default() }, ..Head::default() }
    };
    assert_eq!(
        merged([("west", with(true, "PreferSameNode")), ("east", with(false, ""))]).traffic,
        with(true, "PreferSameNode").traffic
    );
    assert_eq!(
        conflicts([with(false, ""), with(true, "PreferSameNode")]),
        [
            "InternalTrafficPolicyConflict: internalTrafficPolicy Cluster of east is used, which exported the service \
             first; west has Local",
            "TrafficDistributionConflict: trafficDistribution none of east is used, which exported the service first; \
             west has PreferSameNode",
        ]
    );
}

#[test]
fn exported_labels_and_annotations_are_the_oldest_exports_whole() {
    let texts = |texts: &[(&str, &str)]| -> Texts { texts.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect() };
    let with = |labels: &[(&str, &str)], annotations: &[(&str, &str)]| {
        let exported = Exported { labels: texts(labels), annotations: texts(annotations) };
        Head { exported: Arc::new(exported), ..Head::default() }
    };
    let east = || with(&[("team", "shop"), ("tier", "1")], &[]);
    let west = || with(&[("team", "bank"), ("cost", "9")], &[("note", "n")]);
    // Nothing of what only the younger one has is added.
    assert_eq!(merged([("east", east()), ("west", west())]).exported, east().exported);
    assert_eq!(conflicts([east(), east()]), [""; 0]);
    assert_eq!(
        conflicts([east(), west()]),
        [
            "LabelsConflict: exportedLabels of east are used, which exported the service first; \
             west differs in cost, team, tier",
            "AnnotationsConflict: exportedAnnotations of east are used, which exported the service first; \
             west differs in note",
        ]
    );
}

#[test]
fn families_are_those_of_all_exports_and_who_lacks_one_is_told() {
    let with = |families: &[Family]| Head { families: families.iter().copied().collect(), ..Head::default() };
    let check = |all: &[&[Family]], families: &str, told: &[&str]| {
        let heads = || all.iter().map(|families| with(families));
        let service = merged(["east", "west", "south"].into_iter().zip(heads()));
        assert_eq!(service.families.to_string(), families);
        assert_eq!(conflicts(heads()), told);
    };
    let (v4, v6) = (Family::V4, Family::V6);
    check(&[&[]], "", &[]);
    check(&[&[v6, v4], &[v4, v6]], "IPv6,IPv4", &[]);
    check(
        &[&[v4], &[v6, v4]],
        "IPv4,IPv6",
        &["IPFamilyConflict: IPv4,IPv6 are used, which is what all exports have together; \
           east has no IPv6, and none of that traffic"],
    );
    check(
        &[&[v6], &[v4], &[]],
        "IPv6,IPv4",
        &["IPFamilyConflict: IPv6,IPv4 are used, which is what all exports have together; \
           east has no IPv4, and none of that traffic; west has no IPv6, and none of that traffic"],
    );
    // Who does not say what it has is not told that it lacks it.
    check(&[&[], &[v4]], "IPv4", &[]);
}

/// Whoever differs is told of itself, everybody else of who does, and of no more than a few.
#[test]
fn every_exporter_is_told() {
    let headless = || Head { kind: Kind::Headless, ..Head::default() };
    let heads = [Head::default(), headless(), headless(), headless(), headless(), Head::default()];
    let names = ["east", "west", "south", "north", "far", "away"];
    let service = merged(names.into_iter().zip(heads));
    let [conflict] = &service.conflicts()[..] else { panic!("one conflict") };
    let used = "TypeConflict: type ClusterSetIP of east is used, which exported the service first; ";
    let others = "west has Headless; south has Headless; north has Headless; and 1 more";
    assert_eq!(conflict.told(&id("far")), format!("{used}far has Headless"));
    for other in ["east", "away"] {
        assert_eq!(conflict.told(&id(other)), format!("{used}{others}"));
    }
}
