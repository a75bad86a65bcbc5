//! What each name answers in each mode, as one text a name; and which names move when something changes.

use super::*;
use crate::testing::{configured, export, head, headless, id, key, meta, plain, slice};
use model::{
    export::{Answers, Export, Head},
    merge::{Parts, merge},
    reach::Networks,
    view::{Cluster, View},
    vip::{Vip, VipRanges},
};

const ALL: [AnswerMode; 3] = AnswerMode::ALL;

fn place() -> Place {
    Place { cluster: id("here"), network: meta("", "n1").network, mode: Default::default() }
}

/// `here` and `east` are on `n1`, `south` is on `n2`.
fn view() -> View {
    let mut view = View::default();
    for (cluster, network) in [("here", "n1"), ("east", "n1"), ("south", "n2")] {
        set_network(&mut view, cluster, network);
    }
    view
}

fn set_network(view: &mut View, cluster: &str, network: &str) {
    let known = Cluster { meta: Some(meta("", network)), ..Cluster::default() };
    view.set_cluster(&id(cluster), Some(known));
}

fn parts(exports: &[(&str, Arc<Export>)]) -> Parts {
    let exports = exports.iter().map(|(cluster, export)| (id(cluster), export.clone()));
    Parts {
        exports: exports.collect(),
        vip: Some(Vip { v4: "240.64.0.1".parse().expect("an address"), v6: "fd66::1".parse().expect("an address") }),
        ..Parts::default()
    }
}

/// The names of `demo/web` as `name: address… number@target… (why)`, without `.demo.global.` at any end.
fn names(mode: AnswerMode, parts: &Parts) -> Vec<String> {
    let (min_answers, max_answers) = (2, NonZero::new(32).expect("some"));
    let namer =
        Namer { place: place(), zone: "global".into(), ttl: 5, longest_ttl: 3600, mode, min_answers, max_answers };
    let short = |name: &Name| name.to_string().replace(".demo.global.", "");
    let service = merge(&key("demo/web"), parts).expect("somebody exports it");
    let shown = |(name, node): (Name, Node)| {
        let mut text = format!("{}:", short(&name));
        node.a.iter().for_each(|a| text += &format!(" {a}"));
        node.aaaa.iter().for_each(|aaaa| text += &format!(" {aaaa}"));
        for srv in &node.srv {
            text += &format!(" {}@{}", srv.port, short(&srv.target));
        }
        if let Some(why) = &node.why_empty {
            text += &format!(" ({})", why.text());
        }
        text
    };
    namer.names(&Networks::new(&view()), &service).into_iter().map(shown).collect()
}

/// Whether a text is about what one cluster has, and not about an endpoint.
fn is_of_part(text: &str) -> bool {
    let name = text.split(['.', ':']).find(|label| !label.starts_with('_')).unwrap_or_default();
    ["here", "east", "south"].contains(&name)
}

fn check(modes: &[AnswerMode], exports: &[(&str, Arc<Export>)], expected: &[&str]) {
    for mode in modes {
        let mut names = names(*mode, &parts(exports));
        names.retain(|text| !is_of_part(text));
        assert_eq!(names, expected, "{mode:?}");
    }
}

/// The same of what each cluster has.
fn check_parts(modes: &[AnswerMode], exports: &[(&str, Arc<Export>)], expected: &[&str]) {
    for mode in modes {
        let mut names = names(*mode, &parts(exports));
        names.retain(|text| is_of_part(text));
        assert_eq!(names, expected, "{mode:?}");
    }
}

#[test]
fn endpoints_that_listen_where_clients_dial() {
    let modes = [AnswerMode::Endpoints];
    check(
        &modes,
        &[("east", plain("10.0.0.1 10.0.0.2-")), ("here", plain("10.0.0.3 fd00::3"))],
        &["web: 10.0.0.1 10.0.0.3 fd00::3", "_http._tcp.web: 80@web"],
    );
    // A port without a name has no SRV.
    let unnamed = export(head(":80"), [slice(":80", "10.0.0.1")]);
    check(&modes, &[("east", unnamed)], &["web: 10.0.0.1"]);
    // Draining ones are better than none.
    check(&modes, &[("east", plain("10.0.0.1~ 10.0.0.2-"))], &["web: 10.0.0.1", "_http._tcp.web: 80@web"]);
}

/// Whichever listener is asked; the oldest export is heard.
#[test]
fn a_service_may_say_how_it_is_answered() {
    let asking = |mode, created| {
        let mut export = (*plain("10.0.0.1")).clone();
        let answers = Answers { mode: Some(mode), ttl: Some(30) };
        export.head = Arc::new(Head { answers, created, ..(*export.head).clone() });
        Arc::new(export)
    };
    let (east, here) = (asking(AnswerMode::Vip, 1), asking(AnswerMode::Endpoints, 2));
    check(
        &ALL,
        &[("east", east.clone()), ("here", here.clone())],
        &["web: 240.64.0.1 fd66::1", "_http._tcp.web: 80@web"],
    );
    let service = merge(&key("demo/web"), &parts(&[("east", east), ("here", here)])).expect("exported");
    let (min_answers, max_answers) = (2, NonZero::new(32).expect("some"));
    let namer = Namer {
        place: place(),
        zone: "global".into(),
        ttl: 5,
        longest_ttl: 3600,
        mode: AnswerMode::Endpoints,
        min_answers,
        max_answers,
    };
    let names = namer.names(&Networks::new(&view()), &service);
    assert!(names.iter().all(|(_, node)| node.ttl == 30), "{names:?}");
}

#[test]
fn endpoints_that_listen_elsewhere_are_found_by_srv_alone() {
    let mapped = |address| export(head("http:80"), [slice("http:8080", address)]);
    check(
        &[AnswerMode::Endpoints],
        &[("east", mapped("10.0.0.1 fd00::1"))],
        &[
            "web: (2 endpoints listen on other port numbers than the service's: ask for SRV)",
            "_http._tcp.web: 8080@10-0-0-1.east.web 8080@fd00-0-0-0-0-0-0-1.east.web",
            "10-0-0-1.east.web: 10.0.0.1",
            "fd00-0-0-0-0-0-0-1.east.web: fd00::1",
        ],
    );
    // With both kinds the name has those that can be dialled, and SRV has all.
    check(
        &[AnswerMode::Endpoints],
        &[("east", mapped("10.0.0.1")), ("here", plain("10.0.0.2"))],
        &[
            "web: 10.0.0.2",
            "_http._tcp.web: 8080@10-0-0-1.east.web 80@10-0-0-2.here.web",
            "10-0-0-1.east.web: 10.0.0.1",
            "10-0-0-2.here.web: 10.0.0.2",
        ],
    );
}

#[test]
fn srv_of_a_port_leads_to_endpoints_that_serve_it() {
    let two = export(head("http:80 admin:90"), [slice("http:80 admin:90", "10.0.0.1")]);
    check(
        &[AnswerMode::Endpoints],
        &[("east", two.clone()), ("here", plain("10.0.0.2"))],
        &[
            "web: 10.0.0.1 10.0.0.2",
            "_http._tcp.web: 80@web",
            "_admin._tcp.web: 90@10-0-0-1.east.web",
            "10-0-0-1.east.web: 10.0.0.1",
        ],
    );
    // Nobody in reach serves it.
    check(
        &[AnswerMode::Endpoints],
        &[("here", plain("10.0.0.2")), ("south", two)],
        &["web: 10.0.0.2", "_http._tcp.web: 80@web"],
    );
}

#[test]
fn a_contested_port_leads_to_clusters_that_have_it() {
    let of = |ports, targets, address| export(head(ports), [slice(targets, address)]);
    let modes = [AnswerMode::Endpoints];
    // `east` is the oldest, by its id. In `here` the name is that of another number, or the number has another name.
    let east = ("east", of("http:80", "http:80", "10.0.0.1"));
    check(
        &modes,
        &[east.clone(), ("here", of("http:81", "http:81", "10.0.0.2"))],
        &["web: 10.0.0.1", "_http._tcp.web: 80@10-0-0-1.east.web", "10-0-0-1.east.web: 10.0.0.1"],
    );
    check(
        &modes,
        &[east.clone(), ("here", of("web:80", "web:80", "10.0.0.2"))],
        &["web: 10.0.0.1 10.0.0.2", "_http._tcp.web: 80@web"],
    );
    check(
        &modes,
        &[("east", of("http:80", "http:80", "10.0.0.1-")), ("here", of("http:81", "http:81", "10.0.0.2"))],
        &["web: (1 endpoints of east: not ready; 1 endpoints serve none of the service's ports)"],
    );
    // The ClusterIP here has the ports of the Service here.
    let mut own = (*of("http:80 admin:91", "http:80 admin:91", "10.0.0.2")).clone();
    own.head = Arc::new(Head { cluster_ips: vec!["10.96.0.1".parse().expect("an address")], ..(*own.head).clone() });
    check(
        &[AnswerMode::Cluster],
        &[("east", of("web:80 admin:90 more:70", "web:80", "10.0.0.1")), ("here", Arc::new(own))],
        &["web: 10.96.0.1", "_web._tcp.web: 80@web"],
    );
}

#[test]
fn a_known_name_without_addresses_says_why() {
    let modes = [AnswerMode::Endpoints];
    check(&modes, &[("east", export(head("http:80"), []))], &["web: (no endpoints)"]);
    check(&modes, &[("east", plain("10.0.0.1-"))], &["web: (1 endpoints of east: not ready)"]);
    check(
        &modes,
        &[("south", plain("10.2.0.1 10.2.0.2"))],
        &["web: (2 endpoints of south: on network n2, and no gateway into it is known)"],
    );
    let without_vip = Parts { vip: None, ..parts(&[("east", plain("10.0.0.1"))]) };
    assert_eq!(names(AnswerMode::Vip, &without_vip)[0], "web: (no virtual address yet)");
}

#[test]
fn host_names_are_left_out_with_a_reason() {
    let modes = [AnswerMode::Endpoints];
    check(
        &modes,
        &[("east", plain("db.example"))],
        &["web: (1 endpoints of east: host names, which are not looked up here)"],
    );
    check(&modes, &[("east", plain("db.example 10.0.0.1"))], &["web: 10.0.0.1", "_http._tcp.web: 80@web"]);
}

#[test]
fn an_address_in_two_slices_is_one_record() {
    let moving = export(head("http:80"), [slice("http:80", "10.0.0.1~"), slice("http:80", "10.0.0.1 10.0.0.2-")]);
    check(&[AnswerMode::Endpoints], &[("east", moving)], &["web: 10.0.0.1", "_http._tcp.web: 80@web"]);
}

#[test]
fn fixed_addresses() {
    let with_ip = |endpoints: &str| {
        let mut own = (*plain(endpoints)).clone();
        let mut head = (*own.head).clone();
        head.cluster_ips = vec!["10.96.0.1".parse().expect("an address")];
        own.head = Arc::new(head);
        Arc::new(own)
    };
    let mapped = export(head("http:80"), [slice("http:8080", "10.0.0.1")]);
    let srv = "_http._tcp.web: 80@web";
    check(&[AnswerMode::Vip], &[("east", mapped)], &["web: 240.64.0.1 fd66::1", srv, "10-0-0-1.east.web: 10.0.0.1"]);
    let (modes, east) = ([AnswerMode::Cluster], ("east", plain("10.0.0.1")));
    check(&modes, &[("here", with_ip("10.0.0.9")), east.clone()], &["web: 10.96.0.1", srv]);
    // Nothing is ready here.
    check(&modes, &[("here", with_ip("10.0.0.9-")), east.clone()], &["web: 10.0.0.1", srv]);
    check(&modes, &[east], &["web: 10.0.0.1", srv]);
}

#[test]
fn a_headless_service_answers_its_endpoints_in_every_mode() {
    let pods =
        export(headless("db:5432"), [slice("db:5432", "db-0=10.0.0.1 10.0.0.2"), slice("db:5432", "db-0=fd00::1")]);
    check(
        &ALL,
        &[("east", pods)],
        &[
            "web: 10.0.0.1 10.0.0.2 fd00::1",
            "_db._tcp.web: 5432@db-0.east.web 5432@10-0-0-2.east.web 5432@db-0.east.web",
            "10-0-0-2.east.web: 10.0.0.2",
            "db-0.east.web: 10.0.0.1 fd00::1",
        ],
    );
}

#[test]
fn what_one_cluster_has_of_a_service_has_a_name() {
    let with_ip = |endpoints: &str| {
        let mut own = (*plain(endpoints)).clone();
        own.head =
            Arc::new(Head { cluster_ips: vec!["10.96.0.1".parse().expect("an address")], ..(*own.head).clone() });
        Arc::new(own)
    };
    let exports = [("here", with_ip("10.0.0.1")), ("east", plain("10.1.0.1")), ("south", plain("10.2.0.1"))];
    let far = "south.web: (1 endpoints of south: on network n2, and no gateway into it is known)";
    let east = ["east.web: 10.1.0.1", "_http._tcp.east.web: 80@east.web"];
    let here = |ip| [format!("here.web: {ip}"), "_http._tcp.here.web: 80@here.web".to_owned()];
    let expected = |ip| here(ip).into_iter().chain(east.map(str::to_owned)).chain([far.to_owned()]).collect::<Vec<_>>();
    let check = |modes: &[AnswerMode], ip| {
        let mut all = expected(ip);
        all.sort_by_key(|text| ["east", "here", "south"].map(|cluster| text.contains(cluster)).map(|is| !is));
        check_parts(modes, &exports, &all.iter().map(String::as_str).collect::<Vec<_>>());
    };
    check(&[AnswerMode::Endpoints], "10.0.0.1");
    // Nothing of one cluster has a virtual address.
    check(&[AnswerMode::Vip, AnswerMode::Cluster], "10.96.0.1");
    // By its own word, whatever the service is to all.
    let pods = export(headless(""), [slice("", "db-0=10.1.0.1 10.1.0.2-")]);
    check_parts(&ALL, &[("east", pods)], &["east.web: 10.1.0.1"]);
    let pods = export(headless(""), [slice("", "db-0=10.1.0.1")]);
    assert_eq!(
        names(AnswerMode::Vip, &parts(&[("east", pods)])),
        ["web: 10.1.0.1", "east.web: 10.1.0.1", "db-0.east.web: 10.1.0.1"]
    );
}

#[test]
fn the_nearest_answer_while_there_are_enough() {
    let place = |region: &str| model::cluster::Meta {
        locality: model::locality::Locality::new(region, "", ""),
        ..meta("", "n1")
    };
    let mut view = view();
    for (cluster, region) in [("here", "eu"), ("east", "eu"), ("west", "us")] {
        view.set_cluster(&id(cluster), Some(Cluster { meta: Some(place(region)), ..Cluster::default() }));
    }
    let networks = Networks::new(&view);
    let answered = |exports: &[(&str, &str)]| {
        let all: Vec<_> = exports.iter().map(|(cluster, endpoints)| (*cluster, plain(endpoints))).collect();
        let service = merge(&key("demo/web"), &parts(&all)).expect("somebody exports it");
        let namer = Namer {
            place: self::place(),
            zone: "global".into(),
            ttl: 5,
            longest_ttl: 3600,
            mode: AnswerMode::Endpoints,
            min_answers: 2,
            max_answers: NonZero::new(32).expect("some"),
        };
        let (_, node) = namer.names(&networks, &service).swap_remove(0);
        assert_eq!(node.at_most, NonZero::new(32));
        let v4 = node.a.iter().map(ToString::to_string);
        v4.chain(node.aaaa.iter().map(ToString::to_string)).collect::<Vec<_>>().join(" ")
    };
    let (east, west) = (("east", "10.1.0.1 10.1.0.2"), ("west", "10.2.0.1 10.2.0.2"));
    assert_eq!(answered(&[("here", "10.0.0.1 10.0.0.2"), east, west]), "10.0.0.1 10.0.0.2");
    assert_eq!(answered(&[("here", "10.0.0.1 10.0.0.2-"), east, west]), "10.1.0.1 10.1.0.2 10.0.0.1");
    assert_eq!(answered(&[east, west]), "10.1.0.1 10.1.0.2");
    assert_eq!(answered(&[("here", "10.0.0.1"), west]), "10.0.0.1 10.2.0.1 10.2.0.2");
    assert_eq!(answered(&[west]), "10.2.0.1 10.2.0.2");
    // One with an address of each family is one.
    assert_eq!(answered(&[("here", "10.0.0.1 fd00::1"), east]), "10.1.0.1 10.1.0.2 10.0.0.1 fd00::1");
    assert_eq!(answered(&[("here", "10.0.0.1 10.0.0.2 fd00::1 fd00::2"), east]), "10.0.0.1 10.0.0.2 fd00::1 fd00::2");
}

/// Zones of one View that changes.
struct Bed {
    gathered: Gathered,
    zones: Zones,
}

impl Bed {
    fn new(serial: u32) -> Self {
        let config = Config {
            place: place(),
            zone: "global".into(),
            ttl: 5,
            longest_ttl: 3600,
            servers: vec!["192.0.2.53".parse().expect("an address")],
            vips: VipRanges::new("240.64.0.0/16".parse().expect("v4"), "fd66::/64".parse().expect("v6")).expect("good"),
            shared: false,
            negative_ttl: 1,
            min_answers: 2,
            max_answers: NonZero::new(32).expect("some"),
            serial,
        };
        let gathered = Gathered { view: view(), complete: true, ..Gathered::default() };
        let zones = Zones::new(config, ALL).expect("a good zone");
        Self { gathered, zones }
    }

    fn set(&mut self, service: &str, exports: &[(&str, Arc<Export>)]) {
        let view = &mut self.gathered.view;
        view.raise_revision(view.revision() + 1);
        view.set_service(&key(service), merge(&key(service), &parts(exports)));
    }

    fn zone(&mut self) -> Zone {
        self.zones.update(&self.gathered);
        self.zones.modes[&AnswerMode::Endpoints].zone.clone()
    }

    /// The lines of the zone that are not about the zone itself.
    fn lines(&mut self) -> Vec<String> {
        let text = self.zone().to_string();
        let of_zone = ["global.", "ns.global.", "_revision.", "dns-version."];
        let own = |line: &&str| !of_zone.iter().any(|own| line.starts_with(own)) && !is_of_part(line);
        text.lines().filter(own).map(ToOwned::to_owned).collect()
    }
}

#[test]
fn a_zone_is_this_text() {
    let mut bed = Bed::new(6);
    bed.set("demo/web", &[("east", plain("10.0.0.1 fd00::1"))]);
    bed.set("demo/db", &[("here", export(headless("db:5432"), [slice("db:5432", "db-0=10.0.0.2")]))]);
    let golden = "\
global. 5 IN SOA ns.global. hostmaster.ns.global. 7 14400 3600 604800 1
global. 5 IN NS ns.global.
_revision.global. 0 IN TXT 2
db.demo.global. 5 IN A 10.0.0.2
_db._tcp.db.demo.global. 5 IN SRV 0 1 5432 db-0.here.db.demo.global.
here.db.demo.global. 5 IN A 10.0.0.2
_db._tcp.here.db.demo.global. 5 IN SRV 0 1 5432 db-0.here.db.demo.global.
db-0.here.db.demo.global. 5 IN A 10.0.0.2
web.demo.global. 5 IN A 10.0.0.1
web.demo.global. 5 IN AAAA fd00::1
_http._tcp.web.demo.global. 5 IN SRV 0 1 80 web.demo.global.
east.web.demo.global. 5 IN A 10.0.0.1
east.web.demo.global. 5 IN AAAA fd00::1
_http._tcp.east.web.demo.global. 5 IN SRV 0 1 80 east.web.demo.global.
dns-version.global. 28800 IN TXT 1.0.0
ns.global. 5 IN A 192.0.2.53
";
    assert_eq!(bed.zone().to_string(), golden);
}

#[test]
fn virtual_addresses_have_names_in_reverse() {
    let mut bed = Bed::new(6);
    let reverse = |bed: &mut Bed, service: Option<&Service>| {
        let view = &mut bed.gathered.view;
        view.raise_revision(view.revision() + 1);
        view.set_service(&key("demo/web"), service.cloned());
        bed.zones.update(&bed.gathered);
        let of_mode = &bed.zones.modes[&AnswerMode::Vip].reverse;
        let lines =
            of_mode.values().flat_map(|zone| zone.to_string().lines().map(ToOwned::to_owned).collect::<Vec<_>>());
        lines.filter(|line| line.contains(" PTR ")).collect::<Vec<_>>()
    };
    let mut service = merge(&key("demo/web"), &parts(&[("east", plain("10.0.0.1"))])).expect("exported");
    let v6 = format!("1.{}6.6.d.f.ip6.arpa.", "0.".repeat(27));
    let ptr = |name: &str| format!("{name} 5 IN PTR web.demo.global.");
    assert_eq!(reverse(&mut bed, Some(&service)), [ptr(&v6), ptr("1.0.64.240.in-addr.arpa.")]);
    service.vip = service.vip.map(|vip| Vip { v4: "240.64.0.2".parse().expect("an address"), ..vip });
    assert_eq!(reverse(&mut bed, Some(&service)), [ptr(&v6), ptr("2.0.64.240.in-addr.arpa.")]);
    // What has none, and what is not there any more, has no name.
    service.kind = Kind::Headless;
    assert_eq!(reverse(&mut bed, Some(&service)), Vec::<String>::new());
    service.kind = Kind::ClusterIp;
    assert_eq!(reverse(&mut bed, Some(&service)).len(), 2);
    assert_eq!(reverse(&mut bed, None), Vec::<String>::new());
}

#[test]
fn a_change_moves_its_own_names_the_serial_and_the_revision() {
    let mut bed = Bed::new(u32::MAX);
    bed.set("demo/web", &[("east", plain("10.0.0.1"))]);
    bed.set("demo/api", &[("east", plain("10.0.0.2"))]);
    let zone = bed.zone();
    // RFC 1982: the serial after the largest is zero.
    assert_eq!(zone.serial(), 0);
    let before = bed.lines();
    bed.set("demo/web", &[("east", plain("10.0.0.3"))]);
    let zone = bed.zone();
    assert_eq!(zone.serial(), 2);
    assert!(zone.to_string().contains("_revision.global. 0 IN TXT 3\n"), "{zone}");
    let after = bed.lines();
    let moved: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert_eq!(moved, ["web.demo.global. 5 IN A 10.0.0.3"]);

    bed.gathered.local = 4;
    assert!(bed.zone().to_string().contains("TXT 3+4\n"));
    bed.set("demo/web", &[]);
    assert!(bed.lines().iter().all(|line| line.contains("api.demo.global.")));
    bed.set("demo/api", &[]);
    assert!(bed.lines().is_empty());
}

#[test]
fn a_network_decides_over_all_names_of_its_cluster() {
    let mut bed = Bed::new(0);
    bed.set("demo/web", &[("east", plain("10.0.0.1"))]);
    bed.set("demo/api", &[("east", plain("10.0.0.2"))]);
    assert_eq!(bed.lines().len(), 4);
    set_network(&mut bed.gathered.view, "east", "n2");
    assert!(bed.lines().is_empty(), "they exist, and have nothing to give");
    set_network(&mut bed.gathered.view, "east", "n1");
    bed.set("demo/api", &[]);
    assert_eq!(bed.lines().len(), 2);
}

#[test]
fn what_is_not_imported_has_no_name() {
    let mut bed = Bed::new(0);
    bed.set("demo/web", &[("east", plain("10.0.0.1"))]);
    bed.set("shop/api", &[("east", plain("10.0.0.2"))]);
    bed.set("kube-system/dns", &[("east", plain("10.0.0.3"))]);
    let mut check = |rules: serde_json::Value, hosts: &[&str]| {
        let rules = configured(serde_json::json!({ "import": { "namespaces": rules } })).import;
        bed.zones.set_rules(rules);
        let lines = bed.lines();
        let names = lines.iter().filter(|line| line.contains(" A ")).filter_map(|line| line.split(' ').next());
        assert_eq!(names.collect::<Vec<_>>(), hosts);
    };
    check(serde_json::json!({}), &["web.demo.global.", "api.shop.global."]);
    check(serde_json::json!({ "allow": ["shop"] }), &["api.shop.global."]);
    check(serde_json::json!({ "deny": ["shop"] }), &["web.demo.global.", "dns.kube-system.global."]);
    check(serde_json::json!({ "allow": ["demo"] }), &["web.demo.global."]);
    // What changes meanwhile does not come in by that.
    bed.set("shop/api", &[("east", plain("10.0.0.9"))]);
    assert!(bed.lines().iter().all(|line| line.contains("web.demo.global.")));
}

#[test]
fn what_is_not_imported_of_a_service_is_in_no_answer() {
    let mut bed = Bed::new(0);
    bed.set("demo/web", &[("east", plain("10.0.0.1")), ("here", plain("10.0.0.2"))]);
    bed.set("demo/api", &[("east", plain("10.0.0.3"))]);
    let mut check = |deny: serde_json::Value, expected: &[&str]| {
        let here = serde_json::json!([{ "id": "here", "kubernetes": {} }]);
        let import = serde_json::json!({ "clusters": { "deny": deny } });
        let rules = configured(serde_json::json!({ "cluster": "here", "clusters": here, "import": import })).import;
        bed.zones.set_rules(rules);
        let lines = bed.lines();
        let addresses = lines.iter().filter(|line| line.contains(" A ")).filter_map(|line| line.split(' ').next_back());
        assert_eq!(addresses.collect::<Vec<_>>(), expected, "{deny}");
    };
    check(serde_json::json!(["east"]), &["10.0.0.2"]);
    check(serde_json::json!([]), &["10.0.0.3", "10.0.0.1", "10.0.0.2"]);
    check(serde_json::json!(["here"]), &["10.0.0.3", "10.0.0.1", "10.0.0.2"]);
    check(serde_json::json!(["*"]), &["10.0.0.2"]);
    // What a refused cluster changes is not seen, and what it leaves does not come back.
    bed.set("demo/web", &[("east", plain("10.0.0.9")), ("here", plain("10.0.0.2"))]);
    bed.set("demo/api", &[("east", plain("10.0.0.9"))]);
    assert!(!bed.lines().iter().any(|line| line.contains("10.0.0.9") || line.contains("api.demo")));
}

#[test]
fn a_zone_knows_whether_it_is_complete() {
    let mut bed = Bed::new(0);
    assert!(bed.zone().is_complete());
    bed.gathered.complete = false;
    assert!(!bed.zone().is_complete());
    let config = Config { zone: "no name".into(), ..bed.zones.config.clone() };
    assert!(matches!(Zones::new(config, ALL), Err(ZonesError::Name(_))));
}

/// All names of the zones, by zone.
fn zones_of(bed: &mut Bed) -> Vec<String> {
    bed.zones.update(&bed.gathered);
    let mode = &bed.zones.modes[&AnswerMode::Endpoints];
    let zones = mode.clusters.values().chain(mode.aliases.values());
    let lines = |zone: &Zone| {
        let apex = zone.apex().name.to_string();
        let text = zone.to_string();
        let own: Vec<String> = text
            .lines()
            .filter(|line| !line.contains(" SOA ") && !line.contains(" NS "))
            .map(ToOwned::to_owned)
            .collect();
        let own = own.into_iter().map(|line| line.replace(" 5 IN", ""));
        [vec![format!("[{apex}]")], own.collect()].concat()
    };
    zones.flat_map(lines).collect()
}

#[test]
fn every_cluster_has_a_zone_of_what_it_has() {
    let mut bed = Bed::new(0);
    bed.set("demo/web", &[("here", plain("10.0.0.1 10.0.0.2")), ("east", plain("10.1.0.1"))]);
    bed.set("demo/db", &[("east", export(headless("db:5432"), [slice("db:5432", "db-0=10.1.0.2")]))]);
    let of_db = [
        "db.demo.svc.cluster.east. A 10.1.0.2",
        "_db._tcp.db.demo.svc.cluster.east. SRV 0 1 5432 db-0.db.demo.svc.cluster.east.",
        "db-0.db.demo.svc.cluster.east. A 10.1.0.2",
    ];
    let east = [
        "web.demo.svc.cluster.east. A 10.1.0.1",
        "_http._tcp.web.demo.svc.cluster.east. SRV 0 1 80 web.demo.svc.cluster.east.",
    ];
    let here = [
        "[svc.cluster.here.]",
        "web.demo.svc.cluster.here. A 10.0.0.1",
        "web.demo.svc.cluster.here. A 10.0.0.2",
        "_http._tcp.web.demo.svc.cluster.here. SRV 0 1 80 web.demo.svc.cluster.here.",
    ];
    let all = [&["[svc.cluster.east.]"][..], &of_db, &east, &here, &["[svc.cluster.south.]"]].concat();
    assert_eq!(zones_of(&mut bed), all);
    bed.set("demo/db", &[]);
    bed.set("demo/web", &[("here", plain("10.0.0.1 10.0.0.2"))]);
    assert_eq!(zones_of(&mut bed), [&["[svc.cluster.east.]"][..], &here, &["[svc.cluster.south.]"]].concat());
    bed.gathered.view.set_cluster(&id("south"), None);
    assert_eq!(zones_of(&mut bed), [&["[svc.cluster.east.]"][..], &here].concat());
}

#[test]
fn an_alias_is_an_apex_of_its_own_or_a_name_in_the_zone() {
    let mut bed = Bed::new(0);
    bed.gathered.view = View::default();
    let import = serde_json::json!({ "aliases": { "allow": [{ "suffix": "example.com" }] } });
    bed.zones.set_rules(configured(serde_json::json!({ "import": import })).import);
    let asks = |endpoints: &str, aliases: &[&str]| {
        let mut own = (*plain(endpoints)).clone();
        let aliases = aliases.iter().map(|alias| Host::parse(alias).expect("a name")).collect();
        let hosts = Arc::new(model::export::Hosts { aliases, per_cluster: false });
        own.head = Arc::new(Head { hosts, ..(*own.head).clone() });
        Arc::new(own)
    };
    bed.set("demo/web", &[("east", asks("10.1.0.1", &["users.example.com", "www.demo.global", "users.example.org"]))]);
    let apex = |address: &str| {
        [
            "[users.example.com.]".to_owned(),
            format!("users.example.com. A {address}"),
            "_http._tcp.users.example.com. SRV 0 1 80 users.example.com.".to_owned(),
            format!("east.users.example.com. A {address}"),
            "_http._tcp.east.users.example.com. SRV 0 1 80 east.users.example.com.".to_owned(),
        ]
    };
    assert_eq!(zones_of(&mut bed), apex("10.1.0.1"));
    let in_zone = |bed: &Bed| {
        bed.zones.modes[&AnswerMode::Endpoints].zone.to_string().contains("\nwww.demo.global. 5 IN A 10.1.0.1\n")
    };
    assert!(in_zone(&bed));
    // The first that asks has it, and it goes over when that is gone, whichever comes first among what is due.
    bed.set("demo/zoo", &[("east", asks("10.1.0.2", &["users.example.com"]))]);
    assert_eq!(zones_of(&mut bed), apex("10.1.0.1"));
    bed.set("demo/web", &[]);
    assert_eq!(zones_of(&mut bed), apex("10.1.0.2"));
    assert!(!in_zone(&bed));
    bed.set("demo/zoo", &[]);
    assert!(zones_of(&mut bed).is_empty());
}
