//! What each name answers in each mode, as one text a name.

use super::*;
use crate::{
    lookup::chase::{self, Chased},
    project::dns::tests::{ALL, is_of_part, parts, place, view},
    testing::{export, head, headless, id, key, meta, plain, slice},
};
use model::{
    export::{Answers, Export},
    view::Cluster,
};

const fn around<'a>(networks: &'a Networks, located: &'a Located) -> Around<'a> {
    Around { networks, located }
}

/// The names of `demo/web` as `name: address… number@target… (why)`, without `.demo.global.` at any end.
fn names(mode: AnswerMode, parts: &Parts) -> Vec<String> {
    let service = merge(&key("demo/web"), parts).expect("somebody exports it");
    let (networks, located) = (Networks::new(&view()), Located::default());
    names_of(&namer(mode), around(&networks, &located), &service).into_iter().map(shown).collect()
}

fn names_of(namer: &Namer, around: Around<'_>, service: &Service) -> Vec<(Name, Node)> {
    let owner = namer.owner(&service.key).expect("its name fits");
    namer.names_at(around, service, &owner)
}

fn namer(mode: AnswerMode) -> Namer {
    let (min_answers, max_answers) = (2, NonZero::new(32).expect("some"));
    Namer { place: place(), zone: "global".into(), ttl: 5, longest_ttl: 3600, mode, min_answers, max_answers }
}

fn shown((name, node): (Name, Node)) -> String {
    let short = |name: &Name| name.to_string().replace(".demo.global.", "");
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
    let (networks, located) = (Networks::new(&view()), Located::default());
    let names = names_of(&namer(AnswerMode::Endpoints), around(&networks, &located), &service);
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
        &[
            "web: 10.0.0.2",
            "_http._tcp.web: 80@web",
            "_admin._tcp.web: (1 endpoints of south: on network n2, and no gateway into it is known; 1 endpoints do not \
             serve this port)",
        ],
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
        &[
            "web: (1 endpoints of east: not ready; 1 endpoints serve none of the service's ports)",
            "_http._tcp.web: (1 endpoints of east: not ready; 1 endpoints do not serve this port)",
        ],
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

/// A port that nobody serves has its name all the same.
#[test]
fn a_known_name_without_addresses_says_why() {
    let check = |exports: &[(&str, Arc<Export>)], why: &str| {
        let expected = ["web", "_http._tcp.web"].map(|name| format!("{name}: ({why})"));
        check(&[AnswerMode::Endpoints], exports, &expected.each_ref().map(String::as_str));
    };
    check(&[("east", export(head("http:80"), []))], "no endpoints");
    check(&[("east", plain("10.0.0.1-"))], "1 endpoints of east: not ready");
    check(
        &[("south", plain("10.2.0.1 10.2.0.2"))],
        "2 endpoints of south: on network n2, and no gateway into it is known",
    );
    let without_vip = Parts { vip: None, ..parts(&[("east", plain("10.0.0.1"))]) };
    assert_eq!(names(AnswerMode::Vip, &without_vip)[0], "web: (no virtual address yet)");
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
    let far = ["", "_http._tcp."]
        .map(|port| format!("{port}south.web: (1 endpoints of south: on network n2, and no gateway into it is known)"));
    let east = ["east.web: 10.1.0.1", "_http._tcp.east.web: 80@east.web"];
    let here = |ip| [format!("here.web: {ip}"), "_http._tcp.here.web: 80@here.web".to_owned()];
    let expected = |ip| here(ip).into_iter().chain(east.map(str::to_owned)).chain(far.clone()).collect::<Vec<_>>();
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
        let (_, node) = names_of(&namer, around(&networks, &Located::default()), &service).swap_remove(0);
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

/// What is known of host names: `east` has those of `db.example` for so many seconds, and its own address.
fn located(known: &[(&str, &str, u32)]) -> (Service, Located) {
    let exports = [("east", plain("db.example")), ("here", plain("10.0.0.1-"))];
    let service = merge(&key("demo/web"), &parts(&exports)).expect("somebody exports it");
    let mut located = Located::default();
    located.set(&service.key, &BTreeSet::new(), &hosts_of(&service).cloned().collect());
    let mut chased = Chased::new();
    for (host, addresses, ttl) in known {
        let addresses = addresses.split_whitespace().map(|text| text.parse().expect("an address")).collect();
        chased.set((*host).into(), Some(chase::Located { addresses, ttl: *ttl }));
    }
    located.learn(chased);
    (service, located)
}

#[test]
fn a_host_name_is_at_the_addresses_that_it_has() {
    let networks = Networks::new(&view());
    let namer = namer(AnswerMode::Endpoints);
    let names = |known: &[(&str, &str, u32)]| {
        let (service, located) = located(known);
        let names = names_of(&namer, around(&networks, &located), &service);
        let ttl = names[0].1.ttl;
        let code = names[0].1.why_empty.as_ref().map(Why::code);
        let all: Vec<String> = names.into_iter().map(shown).filter(|text| !is_of_part(text)).collect();
        (all, ttl, code)
    };
    let texts = |all: [&str; 2]| all.map(str::to_owned).to_vec();
    let (all, ttl, _) = names(&[("db.example", "192.0.2.7 192.0.2.8 2001:db8::7", 60)]);
    assert_eq!(all, texts(["web: 192.0.2.7 192.0.2.8 2001:db8::7", "_http._tcp.web: 80@web"]));
    // For as long as both say.
    assert_eq!((ttl, names(&[("db.example", "192.0.2.7", 2)]).1), (5, 2));
    let why = "1 endpoints of east: host names of which no address is known; 1 endpoints of here: not ready";
    let empty = [format!("web: ({why})"), format!("_http._tcp.web: ({why})")].to_vec();
    // It does not exist, or has no address: that is known. Nobody has said: it is not, and nobody is to remember it.
    assert_eq!(names(&[("db.example", "", 0)]), (empty.clone(), 5, Some(ExtendedError::Other)));
    assert_eq!(names(&[("other.example", "192.0.2.9", 60)]), (empty, 5, Some(ExtendedError::NetworkError)));
}
