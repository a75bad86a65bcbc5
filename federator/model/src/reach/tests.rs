//! Endpoints of three clusters, and what each asker can use of them.

use super::*;
use crate::{
    cluster::Meta,
    export::{Address, Endpoint, Export, Head, Slice, TLS_MODE_LABEL, Traits, Workload},
    gateway::{Gateway, Passed},
    merge::{Parts, merge},
    name::ServiceKey,
    view::{Cluster, View},
};
use std::sync::Arc;

/// Exports as `cluster@network: address[@network]health…`, asked from `east`: `+` ready, `~` draining, `-` not.
/// A cluster without network has not said what it is.
fn check(exports: &[(&str, &str, &[&str])]) -> (Vec<String>, Vec<String>) {
    let (usable, left_out, _) = asked(exports);
    (usable, left_out)
}

/// The same, and what is left when nobody looks host names up.
fn asked(exports: &[(&str, &str, &[&str])]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (networks, service) = fleet(exports, &[]);
    let place = east();
    let offer = offer(&networks, &place, &service, Asker::Plain);
    let (usable, left_out) = (shown(&offer), said(&offer));
    let offer = offer.located(|address| address.ip().is_some());
    let mut without: Vec<String> = shown(&offer);
    without.extend(said(&offer));
    (usable, left_out, without)
}

/// What a sidecar in `east` can use where clusters have gateways, `cluster: network@address…`, that pass a pattern; `*`
/// before its health is an endpoint that takes mutual TLS.
fn meshed(exports: &[(&str, &str, &[&str])], gateways: &[(&str, &[&str], &str)]) -> Vec<String> {
    let (networks, service) = fleet(exports, gateways);
    let place = east();
    let offer = offer(&networks, &place, &service, Asker::Meshed("web.demo.global"));
    let mut all = shown(&offer);
    for through in &offer.through {
        let gateway = |entrance: &Entrance<'_>| format!("{}:{}", entrance.cluster, entrance.gateway.address);
        let gateways: Vec<String> = through.gateways.iter().map(gateway).collect();
        all.push(format!("{} behind {}", through.endpoints.len(), gateways.join(" ")));
    }
    all.extend(said(&offer));
    all
}

fn east() -> Place {
    Place { cluster: ClusterId::parse("east").expect("an id"), network: Network::new("n1"), mode: Mode::Auto }
}

fn shown(offer: &Offer<'_>) -> Vec<String> {
    offer.usable.iter().map(|usable| format!("{}:{}", usable.cluster, usable.member.endpoint.address)).collect()
}

fn said(offer: &Offer<'_>) -> Vec<String> {
    offer.left_out.iter().map(ToString::to_string).collect()
}

fn fleet(exports: &[(&str, &str, &[&str])], gateways: &[(&str, &[&str], &str)]) -> (Networks, Service) {
    let (mut view, mut parts) = (View::default(), Parts::default());
    for (cluster, network, endpoints) in exports {
        let id = ClusterId::parse(cluster).expect("an id");
        let own = gateways.iter().filter(|(of, ..)| of == cluster);
        let meta = (!network.is_empty()).then(|| Meta {
            network: Network::new(network),
            gateways: own.clone().flat_map(|(_, gateways, _)| gateways.iter().map(|text| gateway(text))).collect(),
            passed: own.map(|(_, _, passed)| Passed::new(passed)).collect(),
            ..Meta::default()
        });
        view.set_cluster(&id, Some(Cluster { meta, ..Cluster::default() }));
        let slice = Slice { ports: [].into(), endpoints: endpoints.iter().map(|text| endpoint(text)).collect() };
        let slices = [("s".into(), Arc::new(slice))].into_iter().collect();
        parts.exports.insert(id, Arc::new(Export { head: Arc::new(Head::default()), slices }));
    }
    let key = ServiceKey::parse("demo", "web").expect("a key");
    (Networks::new(&view), merge(&key, &parts).expect("exported"))
}

fn gateway(text: &str) -> Gateway {
    let (network, address) = text.split_once('@').expect("a network and an address");
    let address = Address::parse_ip(address).or_else(|| Address::parse_host(address)).expect("an address");
    Gateway { network: Network::new(network), address, port: 15443 }
}

fn endpoint(text: &str) -> Endpoint {
    let (address, health) = text.split_at(text.len() - 1);
    let (address, mode) = address.strip_suffix('*').map_or((address, ""), |address| (address, "istio"));
    let (address, network) = address.split_once('@').unwrap_or((address, ""));
    let health = match health {
        "+" => Health::Ready,
        "?" => Health::Held,
        "~" => Health::Draining,
        _ => Health::NotReady,
    };
    let labels = [(TLS_MODE_LABEL.into(), mode.into())].into();
    let traits = Traits {
        network: (!network.is_empty()).then(|| Network::new(network)),
        workload: Workload { labels, ..Workload::default() }.into(),
        ..Traits::default()
    };
    Endpoint {
        address: Address::parse_ip(address).or_else(|| Address::parse_host(address)).expect("an address"),
        health,
        traits: traits.into(),
    }
}

#[test]
fn what_is_behind_gateways_is_for_the_mesh() {
    let exports: &[(&str, &str, &[&str])] = &[
        ("east", "n1", &["10.0.0.1*+"]),
        ("north", "n3", &["10.3.0.1*+"]),
        ("south", "n2", &["10.2.0.1*+", "10.2.0.2*+", "10.2.0.3+", "10.2.0.4*-", "10.2.0.5*~"]),
        ("west", "n2", &["10.1.0.1*+"]),
    ];
    let south = ("south", &["n2@192.0.2.2", "n2@192.0.2.3"][..], "*.global");
    assert_eq!(
        meshed(exports, &[south, ("north", &["n3@192.0.2.4"], "*.local")]),
        [
            "east:10.0.0.1",
            // West has none of its own, and is on the same network.
            "3 behind south:192.0.2.2 south:192.0.2.3",
            "1 endpoints of north: on network n3, whose gateways do not serve the host: no Gateway there passes it through",
            "1 endpoints of south: on network n2, whose gateways pass mutual TLS only, and without a sidecar",
            "2 endpoints of south: not ready",
        ]
    );
    let (networks, service) = fleet(exports, &[south]);
    let place = east();
    assert_eq!(
        said(&offer(&networks, &place, &service, Asker::Plain)),
        [
            "1 endpoints of north: on network n3, and no gateway into it is known",
            "4 endpoints of south: on network n2, whose gateways are for sidecars only",
            "1 endpoints of south: not ready",
            "1 endpoints of west: on network n2, whose gateways are for sidecars only",
        ]
    );
}

#[test]
fn a_cluster_of_its_own_gateways_is_reached_through_these() {
    let exports: &[(&str, &str, &[&str])] =
        &[("east", "n1", &[]), ("south", "n2", &["10.2.0.1*+"]), ("west", "n2", &["10.1.0.1*+", "10.1.0.2@n1*+"])];
    let west = ("west", &["n2@2001:db8::9", "n2@192.0.2.9"][..], "*");
    assert_eq!(
        meshed(exports, &[("south", &["n2@192.0.2.2"], "*"), west]),
        ["west:10.1.0.2", "1 behind south:192.0.2.2", "1 behind west:192.0.2.9"],
        "one gateway with addresses of two families is one way in"
    );
    assert_eq!(
        meshed(&exports[1..], &[("south", &["n2@gateway.example"], "*")]),
        [
            "west:10.1.0.2",
            "1 endpoints of south: on network n2, whose gateways are host names of which no address is known",
            "1 endpoints of west: on network n2, whose gateways are host names of which no address is known",
        ],
    );
    assert_eq!(
        meshed(&exports[1..], &[("south", &["n2@gateway.example", "n2@2001:db8::2"], "*")]),
        ["west:10.1.0.2", "2 behind south:2001:db8::2"],
        "an address of any family is better than a name"
    );
    assert_eq!(
        meshed(&exports[1..], &[("south", &["n2@gateway.example"], "*"), west]),
        ["west:10.1.0.2", "2 behind west:192.0.2.9"],
        "the gateways of a cluster beside it are better than a name"
    );
}

#[test]
fn an_operator_may_say_how_others_are_reached() {
    let exports: &[(&str, &str, &[&str])] = &[
        ("east", "n1", &["10.0.0.1*+", "10.0.0.2@n2*+"]),
        ("north", "n3", &["10.3.0.1*+"]),
        ("south", "n2", &["10.2.0.1*+", "10.2.0.2+"]),
        ("west", "n1", &["10.1.0.1*+", "10.1.0.2+"]),
        ("young", "", &["10.4.0.1*+"]),
    ];
    let into = |cluster, gateway| (cluster, gateway, "*.global");
    let gateways = [into("south", &["n2@192.0.2.2"][..]), into("west", &["n1@192.0.2.1"])];
    let (networks, service) = fleet(exports, &gateways);
    let check = |mode, asker, expected: &[&str]| {
        let place = Place { mode, ..east() };
        let offer = offer(&networks, &place, &service, asker);
        let through = offer.through.iter().map(|through| {
            let gateways = through.gateways.iter().map(|of| of.gateway.address.to_string());
            format!("{} behind {}", through.endpoints.len(), gateways.collect::<Vec<_>>().join(" "))
        });
        let all: Vec<String> = shown(&offer).into_iter().chain(through).collect();
        assert_eq!(all, expected, "{mode:?}");
        offer.usable.iter().all(|usable| usable.network == networks.of(&place.cluster))
    };
    let (meshed, plain) = (Asker::Meshed("web.demo.global"), Asker::Plain);
    let young = "young:10.4.0.1";
    let (here, there) = ("east:10.0.0.1", ["west:10.1.0.1", "west:10.1.0.2"]);
    check(Mode::Auto, meshed, &[here, there[0], there[1], young, "2 behind 192.0.2.2"]);
    check(Mode::Auto, plain, &[here, there[0], there[1], young]);
    // Networks are one: nothing is on another, for nobody.
    let (north, south) = ("north:10.3.0.1", ["south:10.2.0.1", "south:10.2.0.2"]);
    let all = [here, "east:10.0.0.2", north, south[0], south[1], there[0], there[1], young];
    assert!(check(Mode::Workload, meshed, &all), "all on this network");
    assert!(check(Mode::Workload, plain, &all));
    // Every cluster is a network of its own, for who knows what a gateway is.
    check(Mode::Gateway, meshed, &[here, young, "2 behind 192.0.2.2", "1 behind 192.0.2.1"]);
    check(Mode::Gateway, plain, &[here, there[0], there[1], young]);
}

#[test]
fn draining_ones_behind_a_gateway_are_used_when_nothing_is_ready_anywhere() {
    let gateways = &[("south", &["n2@192.0.2.2"][..], "*")][..];
    let south = ("south", "n2", &["10.2.0.1*~"][..]);
    assert_eq!(meshed(&[("east", "n1", &[]), south], gateways), ["1 behind south:192.0.2.2"]);
    let ready = ("east", "n1", &["10.0.0.1+"][..]);
    assert_eq!(meshed(&[ready, south], gateways), ["east:10.0.0.1", "1 endpoints of south: not ready"]);
    // Those of several clusters are together where they are behind the same gateways.
    let south = ("south", "n2", &["10.2.0.1*~", "10.2.0.2*?", "10.2.0.3*-"][..]);
    let west = ("west", "n2", &["10.1.0.1*?", "10.1.0.2@n1*?", "10.1.0.3*~"][..]);
    assert_eq!(
        meshed(&[("east", "n1", &[]), south, west], gateways),
        [
            "west:10.1.0.2",
            "2 behind south:192.0.2.2",
            "2 endpoints of south: not ready",
            "1 endpoints of west: not ready",
        ]
    );
}

#[test]
fn ready_ones_of_my_network_are_used() {
    let (usable, left_out) = check(&[
        ("east", "n1", &["10.0.0.1+", "10.0.0.2-"]),
        ("west", "n1", &["10.1.0.1+", "10.1.0.2~"]),
        ("south", "n2", &["10.2.0.1+", "10.2.0.2~"]),
    ]);
    assert_eq!(usable, ["east:10.0.0.1", "west:10.1.0.1"]);
    assert_eq!(
        left_out,
        [
            "1 endpoints of east: not ready",
            "2 endpoints of south: on network n2, and no gateway into it is known",
            "1 endpoints of west: not ready",
        ]
    );
}

#[test]
fn draining_ones_are_used_when_nothing_else_is_there() {
    let (usable, left_out) = check(&[("east", "n1", &["10.0.0.1~", "10.0.0.2-"])]);
    assert_eq!(usable, ["east:10.0.0.1"]);
    assert_eq!(left_out, ["1 endpoints of east: not ready"]);
}

#[test]
fn an_endpoint_may_be_on_another_network_than_its_cluster() {
    let (usable, left_out) = check(&[
        ("east", "n1", &["10.0.0.1+", "10.0.0.2@n2+"]),
        ("south", "n2", &["10.2.0.1@n1+", "10.2.0.2+", "10.2.0.3@n3+", "10.2.0.4@n3-"]),
    ]);
    assert_eq!(usable, ["east:10.0.0.1", "south:10.2.0.1"]);
    assert_eq!(
        left_out,
        [
            "1 endpoints of east: on network n2, and no gateway into it is known",
            "1 endpoints of south: on network n2, and no gateway into it is known",
            "1 endpoints of south: on network n3, and no gateway into it is known",
            "1 endpoints of south: not ready",
        ]
    );
}

#[test]
fn where_i_am_is_what_my_cluster_says() {
    assert_eq!(check(&[("east", "n9", &["10.0.0.1+"]), ("west", "n9", &["10.1.0.1+"])]).0.len(), 2);
    // While it says nothing, what was configured counts; and against a cluster that says nothing speaks nothing.
    assert_eq!(check(&[("east", "", &[]), ("west", "n1", &["10.1.0.1+"])]).0, ["west:10.1.0.1"]);
    assert_eq!(check(&[("east", "n1", &[]), ("west", "", &["10.1.0.1+"])]).0, ["west:10.1.0.1"]);
}

#[test]
fn host_names_are_for_those_who_look_them_up() {
    let (usable, left_out, without) = asked(&[("east", "n1", &["db.example+", "10.0.0.1+", "old.example-"])]);
    assert_eq!(usable, ["east:10.0.0.1", "east:db.example"]);
    assert_eq!(left_out, ["1 endpoints of east: not ready"]);
    assert_eq!(
        without,
        [
            "east:10.0.0.1",
            "1 endpoints of east: not ready",
            "1 endpoints of east: host names of which no address is known",
        ]
    );
}

#[test]
fn an_address_in_two_slices_counts_once() {
    let (usable, left_out) = check(&[("east", "n1", &["10.0.0.1~", "10.0.0.1+", "10.0.0.1-"])]);
    assert_eq!((usable, left_out), (vec!["east:10.0.0.1".to_owned()], vec![]));
}

#[test]
fn what_is_left_out_is_said_in_the_order_of_ids() {
    let (networks, mut service) =
        fleet(&[("south", "n2", &["10.0.0.3+"]), ("west", "n2", &["10.0.0.2+", "web.example+"])], &[]);
    let place = east();
    for exports in [service.exports.clone(), service.exports.iter().rev().cloned().collect()] {
        service.exports = exports;
        let offer = offer(&networks, &place, &service, Asker::Plain).located(|address| address.ip().is_some());
        let said: Vec<&str> = offer.left_out.iter().map(|left_out| left_out.cluster.as_str()).collect();
        assert_eq!(said, ["south", "west"]);
    }
}
