//! Which names move when something changes, and what zones say of themselves.

use super::*;
use crate::{
    lookup::chase::Located,
    testing::{configured, export, headless, id, key, meta, plain, slice},
};
use model::{
    export::{Export, Head},
    merge::{Parts, merge},
    view::{Cluster, View},
    vip::{Vip, VipRanges},
};

pub(super) const ALL: [AnswerMode; 3] = AnswerMode::ALL;

pub(super) fn place() -> Place {
    Place { cluster: id("here"), network: meta("", "n1").network, mode: Default::default() }
}

/// `here` and `east` are on `n1`, `south` is on `n2`.
pub(super) fn view() -> View {
    let mut view = View::default();
    for (cluster, network) in [("here", "n1"), ("east", "n1"), ("south", "n2")] {
        set_network(&mut view, cluster, network);
    }
    view
}

pub(super) fn set_network(view: &mut View, cluster: &str, network: &str) {
    let known = Cluster { meta: Some(meta("", network)), ..Cluster::default() };
    view.set_cluster(&id(cluster), Some(known));
}

pub(super) fn parts(exports: &[(&str, Arc<Export>)]) -> Parts {
    let exports = exports.iter().map(|(cluster, export)| (id(cluster), export.clone()));
    Parts {
        exports: exports.collect(),
        vip: Some(Vip { v4: "240.64.0.1".parse().expect("an address"), v6: "fd66::1".parse().expect("an address") }),
        ..Parts::default()
    }
}

/// Whether a text is about what one cluster has, and not about an endpoint.
pub(super) fn is_of_part(text: &str) -> bool {
    let name = text.split(['.', ':']).find(|label| !label.starts_with('_')).unwrap_or_default();
    ["here", "east", "south"].contains(&name)
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

/// A new answer moves the services whose endpoints have that name, and no others.
#[test]
fn an_endpoint_follows_its_host_name() {
    let mut bed = Bed::new(1);
    let of_east = |bed: &mut Bed, endpoints: &str| bed.set("demo/web", &[("east", plain(endpoints))]);
    of_east(&mut bed, "db.example");
    bed.set("demo/api", &[("east", plain("10.0.0.9 web.demo.global"))]);
    let mut chased = Chased::new();
    let told = |last| Located { addresses: Arc::new([IpAddr::from([192, 0, 2, last])]), ttl: 60 };
    let lines = |bed: &mut Bed| bed.lines().into_iter().filter(|line| line.contains(" A ")).collect::<Vec<_>>();
    let api = "api.demo.global. 5 IN A 10.0.0.9";
    assert_eq!(lines(&mut bed), [api]);
    // What is in the zone itself could lead to itself.
    let wanted = |bed: &Bed| bed.zones.wanted().iter().map(|(host, ())| host.to_string()).collect::<Vec<_>>();
    assert_eq!((wanted(&bed), bed.zones.is_settled()), (vec!["db.example".to_owned()], false));
    for last in [7, 8] {
        chased.set("db.example".into(), Some(told(last)));
        bed.zones.set_chased(chased.clone());
        assert_eq!(lines(&mut bed), [api, &format!("web.demo.global. 5 IN A 192.0.2.{last}")]);
        assert!(bed.zones.is_settled());
    }
    of_east(&mut bed, "10.0.0.1");
    assert_eq!(lines(&mut bed), [api, "web.demo.global. 5 IN A 10.0.0.1"]);
    assert_eq!(wanted(&bed), Vec::<String>::new());
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
