//! Views in, objects out: the whole text of one entry, tables of ports, and what moves when something changes.

use super::*;
use crate::emit::{
    object::{API_VERSION, On},
    service_entry::{Endpoint, Port},
};
use crate::testing::{configured, export, head, headless, id, key, meta, plain, slice};
use model::{
    export::{self, Address, Export, Family},
    gateway::{Gateway as Entrance, Passed},
    locality::{Locality, Network},
    merge::{Parts, merge},
    reach::Mode,
    view::Cluster,
    vip::Vip,
};

mod hosts;
mod served;
mod settings;

/// A View to be changed, and what is projected from it in cluster `here`.
struct Bed {
    gathered: Gathered,
    objects: Objects,
}

impl Bed {
    /// Clusters by their networks; `here` is on `n1`.
    fn new(clusters: &[(&str, &str)]) -> Self {
        let place = Place { cluster: id("here"), network: meta("", "n1").network, mode: Mode::Auto };
        let mut bed = Self {
            gathered: Gathered::default(),
            objects: Objects::new(Config {
                place,
                zone: "global".into(),
                namespace: "istio-system".into(),
                rules: false,
                export_to: Arc::default(),
                remote_only: false,
                all_ports: false,
                families: [Family::V4].into_iter().collect(),
                gateway: BTreeMap::new(),
            }),
        };
        for (cluster, network) in clusters {
            bed.network(cluster, network);
        }
        bed
    }

    fn network(&mut self, cluster: &str, network: &str) {
        let known = Cluster { meta: Some(meta("", network)), ..Cluster::default() };
        self.gathered.view.set_cluster(&id(cluster), Some(known));
    }

    /// Sets a service at the next revision.
    fn set(&mut self, service: &str, exports: &[(&str, Arc<Export>)]) {
        let parts = Parts {
            exports: exports.iter().map(|(cluster, export)| (id(cluster), export.clone())).collect(),
            order: exports.iter().map(|(cluster, _)| id(cluster)).collect(),
            vip: Some(Vip {
                v4: "240.64.0.1".parse().expect("an address"),
                v6: "fd66::1".parse().expect("an address"),
            }),
        };
        let view = &mut self.gathered.view;
        view.raise_revision(view.revision() + 1);
        view.set_service(&key(service), merge(&key(service), &parts));
    }

    /// All entries as `namespace/name@revision address…`.
    fn shown(&mut self) -> Vec<String> {
        let entries = self.objects.update(&self.gathered);
        let entry = |(at, desired): (&ObjectKey, &Desired)| {
            let addresses = desired.entry().endpoints.into_iter().map(|e| format!(" {}", e.address));
            let (namespace, name, revision) = (&at.namespace, &at.name, desired.revision);
            format!("{namespace}/{name}@{revision}{}", addresses.collect::<String>())
        };
        entries.iter().map(entry).collect()
    }
}

#[test]
fn an_entry_says_what_istio_needs_to_know() {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1"), ("south", "n2")]);
    let east = export(
        head("http-web:80 grpc:9000 dns:53/UDP"),
        [slice("http-web:8080 grpc:9000 dns:53/UDP", "10.0.0.1@eu/eu-1 10.0.0.2- fd00::3@eu/eu-2")],
    );
    let south = export(head("http-web:80 grpc:9000"), [slice("http-web:8080 grpc:9000", "10.2.0.1")]);
    bed.set("demo/web", &[("east", east), ("south", south)]);
    let entries = bed.objects.update(&bed.gathered);
    let (at, desired) = entries.iter().next().expect("one");
    let text = serde_json::to_string_pretty(&desired.object(at, API_VERSION, On::Anything)).expect("JSON");
    let golden = r#"{
  "apiVersion": "networking.istio.io/v1",
  "kind": "ServiceEntry",
  "metadata": {
    "annotations": {
      "federator.io/revision": "1"
    },
    "labels": {
      "app.kubernetes.io/managed-by": "federator"
    },
    "name": "web.demo.global",
    "namespace": "istio-system"
  },
  "spec": {
    "addresses": [
      "240.64.0.1"
    ],
    "endpoints": [
      {
        "address": "10.0.0.1",
        "labels": {
          "federator.io/cluster": "east"
        },
        "locality": "eu/eu-1",
        "network": "n1",
        "ports": {
          "http-web": 8080
        }
      },
      {
        "address": "fd00::3",
        "labels": {
          "federator.io/cluster": "east"
        },
        "locality": "eu/eu-2",
        "network": "n1",
        "ports": {
          "http-web": 8080
        }
      }
    ],
    "hosts": [
      "web.demo.global"
    ],
    "location": "MESH_INTERNAL",
    "ports": [
      {
        "name": "http-web",
        "number": 80,
        "protocol": "HTTP"
      },
      {
        "name": "grpc",
        "number": 9000,
        "protocol": "GRPC"
      }
    ],
    "resolution": "STATIC"
  }
}"#;
    assert_eq!(text, golden);
}

#[test]
fn ports_are_those_that_every_endpoint_serves() {
    /// Exports with the ports that their endpoints serve; the entry's ports as `name:number/PROTOCOL`, and where
    /// each endpoint listens elsewhere.
    fn check(exports: &[(&str, &str)], ports: &[&str], mapped: &[&str]) {
        let mut bed = Bed::new(&[]);
        let names = ["a", "b", "c"];
        let exports = exports.iter().enumerate().map(|(n, (ports, targets))| {
            let served = slice(targets, &format!("10.0.0.{n}"));
            (names[n], export(head(ports), [served]))
        });
        bed.set("demo/web", &exports.collect::<Vec<_>>());
        let entries = bed.objects.update(&bed.gathered);
        let entry = entries.iter().next().map(|(_, desired)| desired.entry()).unwrap_or_default();
        let port = |port: &Port<'_>| format!("{}:{}/{}", port.name, port.number, port.protocol);
        assert_eq!(entry.ports.iter().map(port).collect::<Vec<_>>(), ports);
        let endpoint = |endpoint: &Endpoint<'_>| {
            let ports = endpoint.ports.iter().map(|(name, number)| format!("{name}={number}"));
            ports.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(entry.endpoints.iter().map(endpoint).collect::<Vec<_>>(), mapped);
    }
    check(&[("http:80", "http:80")], &["http:80/HTTP"], &[""]);
    check(&[(":80", ":8080")], &["tcp-80:80/TCP"], &["tcp-80=8080"]);
    // What only some serve is left out; where one listens is its own to say.
    check(&[("http:80 tcp:90", "http:1 tcp:90"), ("http:80", "http:2")], &["http:80/HTTP"], &["http=1", "http=2"]);
    check(&[("http:80", "http:80"), ("http:80 tcp:90", "http:80 tcp:90")], &["http:80/HTTP"], &["", ""]);
    // A number is dialled, which each endpoint serves where it does, by whatever name; a name is not dialled.
    check(&[("http:80", "http:80"), ("web:80", "web:81")], &["http:80/HTTP"], &["", "http=81"]);
    check(&[("http:80", "http:80"), ("http:81", "http:81")], &[], &[]);
    // Neither UDP nor SCTP; nothing left, no entry.
    check(&[("dns:53/UDP dns-tcp:53", "dns:53/UDP dns-tcp:53")], &["dns-tcp:53/TCP"], &[""]);
    check(&[("dns:53/UDP s:1/SCTP", "dns:53/UDP s:1/SCTP")], &[], &[]);
    check(&[("a:1", "a:1"), ("b:2", "b:2")], &[], &[]);
}

/// What is missing of the only entry, which is made of these.
fn missing(bed: &mut Bed, exports: &[(&str, Arc<Export>)]) -> Vec<String> {
    bed.set("demo/web", exports);
    bed.objects.update(&bed.gathered);
    let conditions = bed.objects.conditions().iter().flat_map(|(_, missing)| missing.iter());
    conditions.map(ToString::to_string).collect()
}

#[test]
fn what_an_entry_does_not_hold_is_said() {
    let mut bed = Bed::new(&[]);
    let mut check = |exports: &[(&str, &str)], expected: &[&str]| {
        let exports = exports.iter().enumerate().map(|(n, (ports, targets))| {
            (["a", "b", "c"][n], export(head(ports), [slice(targets, &format!("10.0.0.{n} 10.0.1.{n}-"))]))
        });
        assert_eq!(missing(&mut bed, &exports.collect::<Vec<_>>()), expected);
    };
    check(&[("http:80", "http:80")], &[]);
    check(
        &[("http:80 tcp:90", "http:1 tcp:90"), ("http:80", "http:2")],
        &["PortPartial: 90/TCP(tcp) is served by 1 of 2 endpoints, and left out"],
    );
    check(
        &[("dns:53/UDP dns-tcp:53", "dns:53/UDP dns-tcp:53")],
        &["PortTransport: 53/UDP(dns) is left out: a ServiceEntry knows TCP only"],
    );
    check(
        &[("a:1", "a:1"), ("b:2", "b:2")],
        &[
            "PortPartial: 1/TCP(a) is served by 1 of 2 endpoints, and left out",
            "PortPartial: 2/TCP(b) is served by 1 of 2 endpoints, and left out",
            "NoPort: no port is left, so there is no entry",
        ],
    );
    check(&[("http:80", "http:80")], &[]);
    check(&[], &[]);
}

/// Whatever its endpoints are called.
#[test]
fn an_entry_that_is_full_has_what_is_here() {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1")]);
    let many: String = (0..4096).map(|n| format!("10.0.{}.{} ", n / 250, n % 250)).collect();
    bed.set("demo/web", &[("east", plain(&many)), ("here", plain("192.0.2.1 192.0.2.2"))]);
    let held = bed.shown().remove(0);
    assert!(held.ends_with(" 192.0.2.1 192.0.2.2") && held.split(' ').count() == 1 + 4096);
}

#[test]
fn an_entry_holds_what_its_limits_allow() {
    let mut bed = Bed::new(&[]);
    let addresses = |count: usize| (0..count).map(|n| format!("10.0.{}.{} ", n / 250, n % 250)).collect::<String>();
    let ports = |count: usize| (1..=count).map(|n| format!("p{n}:{n} ")).collect::<String>();
    let mut held = |targets: &str, ports: &str, addresses: &str| {
        let missing = missing(&mut bed, &[("east", export(head(ports), [slice(targets, addresses)]))]);
        let (_, desired) = bed.objects.desired.iter().next().expect("one");
        let entry = desired.entry();
        assert!(serde_json::to_vec(&entry).expect("JSON").len() < 3 << 19, "etcd takes no more");
        (entry.endpoints.len(), entry.ports.len(), missing.join("; "))
    };
    assert_eq!(held("p1:1", "p1:1", &addresses(4096)), (4096, 1, String::new()));
    let too_many = "TooManyEndpoints: 4096 of 4097 endpoints are held: an entry has room for no more";
    assert_eq!(held("p1:1", "p1:1", &addresses(4097)), (4096, 1, too_many.to_owned()));
    let too_many = "TooManyPorts: 256 of 500 ports are held: an entry has room for no more";
    assert_eq!(held(&ports(500), &ports(500), &addresses(1)), (1, 256, too_many.to_owned()));
    // Where each listens elsewhere, a thousand are too large.
    let elsewhere = (1..=256).map(|n| format!("p{n}:{} ", n + 10_000)).collect::<String>();
    let (endpoints, 256, missing) = held(&elsewhere, &ports(256), &addresses(1000)) else { panic!("all ports fit") };
    assert!((200..1000).contains(&endpoints) && missing.starts_with("TooManyEndpoints: "), "{endpoints}: {missing}");
    assert_eq!(held("p1:1", "p1:1", ""), (0, 1, String::new()));
}

/// The only object of a View in which `east` exports this slice.
fn only(made: export::Slice) -> Desired {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1")]);
    bed.set("demo/web", &[("east", export(head("http:80"), [made]))]);
    let entries = bed.objects.update(&bed.gathered);
    let (_, desired) = entries.iter().next().expect("one");
    desired.clone()
}

#[test]
fn host_names_are_looked_up_by_istio() {
    let desired = only(slice("http:80", "db.example 10.0.0.1 old.example-"));
    let entry = desired.entry();
    let addresses: Vec<_> = entry.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!((entry.resolution, addresses), ("DNS", vec!["10.0.0.1".to_owned(), "db.example".to_owned()]));
    assert_eq!(only(slice("http:80", "10.0.0.1 old.example-")).entry().resolution, "STATIC");
}

#[test]
fn endpoints_say_their_own_network_and_what_runs_there() {
    let mut made = slice("http:80", "10.0.0.1 10.0.0.2%n1 10.0.0.3%n2");
    let labels = [("version", "v2"), ("security.istio.io/tlsMode", "istio")];
    let workload = export::Workload {
        labels: labels.map(|(key, value)| (key.into(), value.into())).into(),
        service_account: "web".into(),
    };
    made.endpoints[0].traits = export::Traits { workload: workload.into(), ..export::Traits::default() }.into();
    let shown = |endpoint: &Endpoint<'_>| {
        let labels = endpoint.labels.iter().map(|(key, value)| format!(" {key}={value}"));
        format!("{} {}{}", endpoint.address, endpoint.network, labels.collect::<String>())
    };
    assert_eq!(
        only(made).entry().endpoints.iter().map(shown).collect::<Vec<_>>(),
        [
            "10.0.0.1 n1 federator.io/cluster=east security.istio.io/tlsMode=istio version=v2",
            "10.0.0.2 n1 federator.io/cluster=east"
        ]
    );
}

#[test]
fn a_machine_that_several_clusters_know_is_there_once() {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1"), ("south", "n2")]);
    let known = |ports, endpoints| export(head("http:80"), [slice(ports, endpoints)]);
    bed.set(
        "demo/web",
        &[
            ("here", known("http:80", "10.0.0.1@eu/eu-1 10.0.0.2@eu/eu-1 db.example")),
            ("east", known("http:8080", "10.0.0.1@eu/eu-2 10.0.0.3@eu/eu-2 10.0.0.4%n2 db.example")),
            ("south", known("http:80", "10.0.0.2@us/us-1 10.0.0.5%n1")),
        ],
    );
    assert_eq!(bed.shown(), ["demo/web.demo.global@1 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.5 db.example"]);
}

#[test]
fn an_entry_is_where_the_service_is_and_moves_with_it() {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1")]);
    bed.set("demo/web", &[("east", plain("10.0.0.1"))]);
    assert_eq!(bed.shown(), ["istio-system/web.demo.global@1 10.0.0.1"]);
    bed.set("demo/web", &[("east", plain("10.0.0.1")), ("here", plain("10.0.0.2"))]);
    assert_eq!(bed.shown(), ["demo/web.demo.global@2 10.0.0.1 10.0.0.2"]);
    bed.set("demo/web", &[("east", plain("10.0.0.1"))]);
    assert_eq!(bed.shown(), ["istio-system/web.demo.global@3 10.0.0.1"]);
    bed.set("demo/web", &[]);
    assert!(bed.shown().is_empty());
}

#[test]
fn what_is_not_imported_has_no_entry() {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1")]);
    bed.set("demo/web", &[("east", plain("10.0.0.1"))]);
    bed.set("shop/api", &[("east", plain("10.0.0.2"))]);
    let (web, api) = ("istio-system/web.demo.global@2 10.0.0.1", "istio-system/api.shop.global@2 10.0.0.2");
    assert_eq!(bed.shown(), [api, web]);
    let rules = |rules| configured(serde_json::json!({ "import": { "namespaces": rules } })).import;
    bed.objects.set_rules(rules(serde_json::json!({ "deny": ["sh*"] })));
    assert_eq!(bed.shown(), [web]);
    bed.set("shop/api", &[("east", plain("10.0.0.3"))]);
    assert_eq!(bed.shown(), [web]);
    bed.objects.set_rules(rules(serde_json::json!({ "allow": ["shop"] })));
    assert_eq!(bed.shown(), ["istio-system/api.shop.global@3 10.0.0.3"]);
}

#[test]
fn what_is_not_imported_of_a_service_is_in_no_entry() {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1")]);
    bed.set("demo/web", &[("east", plain("10.0.0.1")), ("here", plain("10.0.0.2"))]);
    bed.set("demo/api", &[("east", plain("10.0.0.3"))]);
    let import = serde_json::json!({ "clusters": { "deny": ["east"] } });
    let here = serde_json::json!([{ "id": "here", "kubernetes": {} }]);
    let rules = configured(serde_json::json!({ "cluster": "here", "clusters": here, "import": import })).import;
    bed.objects.set_rules(rules);
    assert_eq!(bed.shown(), ["demo/web.demo.global@2 10.0.0.2"]);
    // What a refused cluster changes is no reason to write.
    bed.set("demo/web", &[("east", plain("10.0.0.9")), ("here", plain("10.0.0.2"))]);
    assert_eq!(bed.shown(), ["demo/web.demo.global@2 10.0.0.2"]);
    // Where only it is left, the entry goes.
    bed.set("demo/web", &[("east", plain("10.0.0.9"))]);
    assert!(bed.shown().is_empty());
}

#[test]
fn only_what_changed_is_written_again() {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1")]);
    bed.set("demo/web", &[("east", plain("10.0.0.1"))]);
    bed.set("demo/api", &[("east", export(headless("http:80"), [slice("http:80", "10.0.0.2")]))]);
    let api = "istio-system/api.demo.global@2 10.0.0.2";
    assert_eq!(bed.shown(), [api, "istio-system/web.demo.global@2 10.0.0.1"]);
    bed.set("demo/web", &[("east", plain("10.0.0.3"))]);
    assert_eq!(bed.shown(), [api, "istio-system/web.demo.global@3 10.0.0.3"]);
    // Something of the service changed that the entry does not show.
    bed.set("demo/web", &[("east", plain("10.0.0.3 10.0.0.4-"))]);
    let web = "istio-system/web.demo.global@3 10.0.0.3";
    assert_eq!(bed.shown(), [api, web]);
    // A network decides over all services of its cluster.
    bed.network("east", "n2");
    bed.set("demo/x", &[]);
    assert_eq!(bed.shown(), ["istio-system/api.demo.global@5", "istio-system/web.demo.global@5"]);
    // What goes while everything is projected again goes too.
    bed.set("demo/api", &[]);
    bed.network("east", "n1");
    assert_eq!(bed.shown(), ["istio-system/web.demo.global@6 10.0.0.3"]);
}

/// Gateways into `n2`, and what they let through, as south says it.
fn with_gateways(bed: &mut Bed, addresses: &[&str], passed: &str) {
    let gateway = |address: &&str| Entrance {
        network: Network::new("n2"),
        address: Address::parse_ip(address).expect("an address"),
        port: 15443,
    };
    let known = model::cluster::Meta {
        locality: Locality::new("us", "", ""),
        gateways: addresses.iter().map(gateway).collect(),
        passed: vec![Passed::new(passed)],
        ..meta("", "n2")
    };
    bed.gathered.view.set_cluster(&id("south"), Some(Cluster { meta: Some(known), ..Cluster::default() }));
}

/// Endpoints that take mutual TLS, each of a version.
fn meshed(targets: &str, endpoints: &str, versions: &[&str]) -> export::Slice {
    let mut made = slice(targets, endpoints);
    for (endpoint, version) in made.endpoints.iter_mut().zip(versions.iter().cycle()) {
        let labels = [("security.istio.io/tlsMode", "istio"), ("version", version), ("app.kubernetes.io/version", "1")];
        let labels = labels.map(|(key, value)| (key.into(), value.into())).into();
        let workload = export::Workload { labels, service_account: "web".into() };
        endpoint.traits = export::Traits { workload: workload.into(), ..(*endpoint.traits).clone() }.into();
    }
    made
}

/// The endpoints of the only entry, as `address network locality weight labels ports`.
fn endpoints(bed: &mut Bed) -> Vec<String> {
    let entries = bed.objects.update(&bed.gathered);
    let (_, desired) = entries.iter().find(|(at, _)| at.kind == Kind::ServiceEntry).expect("one");
    let shown = |endpoint: Endpoint<'_>| {
        let weight = endpoint.weight.map(|weight| weight.to_string()).unwrap_or_default();
        let labels = endpoint.labels.iter().map(|(key, value)| {
            let key = key.rsplit('/').next().unwrap_or(key);
            format!("{key}={value} ")
        });
        let ports = endpoint.ports.iter().map(|(name, number)| format!("{name}={number} "));
        let (labels, ports) = (labels.collect::<String>(), ports.collect::<String>());
        let text = format!("{} {} {} {weight} {labels}{ports}", endpoint.address, endpoint.network, endpoint.locality);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    desired.entry().endpoints.into_iter().map(shown).collect()
}

#[test]
fn another_network_is_one_endpoint_a_gateway() {
    let mut bed = Bed::new(&[("here", "n1")]);
    with_gateways(&mut bed, &["192.0.2.7"], "*.global");
    let ports = head("http:80 grpc:9000");
    let south = meshed("http:8080 grpc:9000", "10.2.0.1@us/a 10.2.0.2@us/b 10.2.0.3@us/b 10.2.0.4-", &["v1", "v2"]);
    let here = slice("http:8080 grpc:9000", "10.0.0.1@eu/a");
    bed.set("demo/web", &[("here", export(ports.clone(), [here.clone()])), ("south", export(ports.clone(), [south]))]);
    assert_eq!(
        endpoints(&mut bed),
        [
            "10.0.0.1 n1 eu/a cluster=here http=8080",
            // Of the labels only what all have: a subset of one version does not choose it.
            "192.0.2.7 n2 us 3 version=1 cluster=south tlsMode=istio grpc=15443 http=15443",
        ]
    );
    // Two gateways divide evenly what is behind them.
    with_gateways(&mut bed, &["192.0.2.7", "192.0.2.8"], "*.global");
    let weighed: Vec<String> = endpoints(&mut bed);
    let weights: Vec<_> = weighed.iter().map(|text| text.split(' ').nth(3).unwrap_or_default()).collect();
    assert_eq!(weights, ["2", "3", "3"], "{weighed:?}");
}

#[test]
fn what_is_behind_a_gateway_and_cannot_be_had_is_said() {
    let mut bed = Bed::new(&[("here", "n1"), ("south", "n2")]);
    let ports = head("http:80 tcp:90");
    let here = ("here", export(ports.clone(), [slice("http:80 tcp:90", "10.0.0.1")]));
    let mut south = meshed("http:80", "10.2.0.1 10.2.0.2", &["v1"]);
    south.endpoints.extend(slice("http:80", "10.2.0.3").endpoints);
    let exports = [here, ("south", export(ports, [south]))];
    let partial = "PortPartial: 90/TCP(tcp) is served by 1 of 3 endpoints, and left out";
    let none = "NoGateway: 3 endpoints of south: on network n2, and no gateway into it is known";
    assert_eq!(missing(&mut bed, &exports), [none]);
    with_gateways(&mut bed, &["192.0.2.7"], "*.local");
    let closed = "GatewayDoesNotServeHost: 3 endpoints of south: on network n2, whose gateways do not serve the host: no \
                  Gateway there passes it through";
    assert_eq!(missing(&mut bed, &exports), [closed]);
    with_gateways(&mut bed, &["192.0.2.7"], "*.global");
    let plain =
        "NoMutualTls: 1 endpoints of south: on network n2, whose gateways pass mutual TLS only, and without a sidecar";
    assert_eq!(missing(&mut bed, &exports), [plain, partial]);
}

#[test]
fn a_rule_goes_with_every_entry_and_a_gateway_with_gateways() {
    let mut bed = Bed::new(&[("here", "n2")]);
    bed.objects.config.rules = true;
    bed.objects.config.gateway = BTreeMap::from([("istio".to_owned(), "eastwest".to_owned())]);
    bed.set("demo/web", &[("here", plain("10.0.0.1"))]);
    bed.set("demo/api", &[("east", plain("10.0.0.1"))]);
    let shown = |bed: &mut Bed| -> Vec<String> {
        let objects = bed.objects.update(&bed.gathered);
        objects.iter().map(|(at, desired)| format!("{at}@{}", desired.revision)).collect()
    };
    let both = [
        "ServiceEntry demo/web.demo.global@2",
        "ServiceEntry istio-system/api.demo.global@2",
        "DestinationRule demo/web.demo.global@2",
        "DestinationRule istio-system/api.demo.global@2",
    ];
    assert_eq!(shown(&mut bed), both);
    let known = bed.gathered.view.clusters()[&id("here")].clone();
    let gateway =
        Entrance { network: Network::new("n2"), address: Address::parse_ip("192.0.2.7").expect("one"), port: 1 };
    let meta = known.meta.clone().map(|meta| model::cluster::Meta { gateways: vec![gateway], ..meta });
    bed.gathered.view.set_cluster(&id("here"), Some(Cluster { meta, ..known.clone() }));
    bed.set("demo/web", &[("here", plain("10.0.0.2"))]);
    let objects = bed.objects.update(&bed.gathered);
    let spec = |kind: Kind| {
        let (_, desired) = objects.iter().find(|(at, _)| at.kind == kind).expect("one");
        desired.json().to_string()
    };
    let gateway = r#"{"selector":{"istio":"eastwest"},"servers":[{"hosts":["*.global"],"port":{"name":"tls","number":15443,"protocol":"TLS"},"tls":{"mode":"AUTO_PASSTHROUGH"}}]}"#;
    assert_eq!(spec(Kind::Gateway), gateway);
    let rule = r#"{"host":"web.demo.global","trafficPolicy":{"loadBalancer":{"localityLbSetting":{"failoverPriority":["topology.istio.io/network","topology.kubernetes.io/region","topology.kubernetes.io/zone"]}},"outlierDetection":{"baseEjectionTime":"30s","consecutive5xxErrors":0,"consecutiveGatewayErrors":5,"maxEjectionPercent":100}}}"#;
    assert_eq!(spec(Kind::DestinationRule), rule);
    // A rule does not change because an endpoint does.
    assert_eq!(shown(&mut bed)[..4], ["ServiceEntry demo/web.demo.global@3", both[1], both[2], both[3]]);
    bed.gathered.view.set_cluster(&id("here"), Some(known));
    bed.set("demo/web", &[]);
    assert_eq!(shown(&mut bed), [both[1], both[3]]);
}

#[test]
fn names_are_not_ordered_by_label() {
    let mut bed = Bed::new(&[("here", "n1")]);
    bed.objects.config.rules = true;
    let ordered = |bed: &mut Bed| {
        let objects = bed.objects.update(&bed.gathered);
        let (_, rule) = objects.iter().find(|(at, _)| at.kind == Kind::DestinationRule).expect("one");
        let policy = rule.json()["trafficPolicy"].clone();
        assert!(policy["outlierDetection"].is_object());
        policy["loadBalancer"].is_object()
    };
    bed.set("demo/web", &[("here", export(head("http:80"), [slice("http:80", "10.0.0.1 db.example")]))]);
    assert!(!ordered(&mut bed), "istiod would not live through it");
    with_gateways(&mut bed, &["192.0.2.7"], "*.global");
    let mut here = slice("http:80", "10.0.0.1@eu/a db.example@eu/b");
    let south = meshed("http:80", "10.2.0.1", &["v1"]);
    let exports =
        |here| [("here", export(head("http:80"), [here])), ("south", export(head("http:80"), [south.clone()]))];
    let left_out =
        "HostNames: 1 endpoints behind gateways are left out: an entry with host names cannot tell networks apart";
    assert_eq!(missing(&mut bed, &exports(here.clone())), [left_out]);
    // Nor by a rule of the user's.
    assert_eq!(endpoints(&mut bed), ["10.0.0.1 cluster=here", "db.example cluster=here"]);
    here.endpoints.pop();
    assert!(missing(&mut bed, &exports(here)).is_empty());
    assert_eq!(endpoints(&mut bed).len(), 2);
    bed.set("demo/web", &[("here", plain("10.0.0.1"))]);
    assert!(ordered(&mut bed));
}

#[test]
fn others_find_behind_our_gateways_what_we_do_not_import() {
    let mut bed = Bed::new(&[("here", "n2"), ("east", "n2")]);
    bed.set("demo/web", &[("here", plain("10.0.0.1")), ("east", plain("10.0.0.2"))]);
    bed.set("demo/api", &[("east", plain("10.0.0.3"))]);
    let import = serde_json::json!({ "import": { "namespaces": { "deny": ["demo"] } } });
    bed.objects.set_rules(configured(import).import);
    assert!(bed.shown().is_empty());
    let gateway =
        Entrance { network: Network::new("n2"), address: Address::parse_ip("192.0.2.7").expect("one"), port: 1 };
    let known = model::cluster::Meta { gateways: vec![gateway], ..meta("", "n2") };
    bed.gathered.view.set_cluster(&id("here"), Some(Cluster { meta: Some(known), ..Cluster::default() }));
    assert_eq!(bed.shown(), ["demo/web.demo.global@2 10.0.0.1"], "and no more than is our own");
    bed.network("here", "n2");
    assert!(bed.shown().is_empty());
}
