//! Which gateways an entry leads through: those alone behind whose own cluster everything of the entry is served.

use super::*;

/// What `here` on `n1` has of a service and what south does behind its gateway into `n2`, each as ports and slices (`ports |
/// endpoints`, with a `*` behind the ports of those that take mutual TLS): the addresses of the entry, and what is said.
fn check(here: &[&str], south: &[&str], addresses: &[&str], said: &[&str]) {
    let mut bed = Bed::new(&[("here", "n1")]);
    with_gateways(&mut bed, &["192.0.2.7"], "*.global");
    let exports = [("here", of(here)), ("south", of(south))];
    assert_eq!(missing(&mut bed, &exports), said);
    let found = endpoints(&mut bed);
    let found: Vec<_> = found.iter().filter_map(|text| text.split(' ').next()).collect();
    assert_eq!(found, addresses);
}

fn of(slices: &[&str]) -> Arc<Export> {
    let made = slices.iter().map(|text| {
        let (ports, endpoints) = text.split_once('|').expect("ports and endpoints");
        match ports.trim().strip_suffix('*') {
            Some(ports) => meshed(ports, endpoints, &["v1"]),
            None => slice(ports.trim(), endpoints),
        }
    });
    export(head("http:80 tcp:90"), made)
}

const PORT: &str = "GatewayDoesNotServePort: 2 endpoints of south: on network n2, whose gateways have nowhere to pass it on: in \
                    their cluster it lacks a port that it has here, or nothing of it is ready with a sidecar";
const PLAIN: &str =
    "NoMutualTls: 1 endpoints of south: on network n2, whose gateways pass mutual TLS only, and without a sidecar";

#[test]
fn a_gateway_whose_cluster_lacks_a_port_is_no_way() {
    let whole = "http:80 tcp:90 | 10.0.0.1";
    check(&[whole], &["http:80 tcp:90* | 10.2.0.1"], &["10.0.0.1", "192.0.2.7"], &[]);
    // Nobody sees the plain one from here, and it keeps the port from south's entry.
    check(&[whole], &["http:80 tcp:90* | 10.2.0.1", "http:80 | 10.2.0.2"], &["10.0.0.1"], &[PORT]);
    // What is left out here too is not missed there.
    let partial = "PortPartial: 90/TCP(tcp) is served by 1 of 2 endpoints, and left out";
    check(
        &["http:80 | 10.0.0.1"],
        &["http:80 tcp:90* | 10.2.0.1", "http:80 | 10.2.0.2"],
        &["10.0.0.1", "192.0.2.7"],
        &[PLAIN, partial],
    );
}

#[test]
fn a_port_that_any_serves_is_enough_where_all_ports_are_kept() {
    let mut bed = Bed::new(&[("here", "n1")]);
    bed.objects.config.all_ports = true;
    with_gateways(&mut bed, &["192.0.2.7"], "*.global");
    let here = of(&["http:80 tcp:90 | 10.0.0.1"]);
    let ways = |bed: &mut Bed, south: &[&str]| {
        bed.set("demo/web", &[("here", here.clone()), ("south", of(south))]);
        endpoints(bed).len()
    };
    assert_eq!(ways(&mut bed, &["http:80 tcp:90* | 10.2.0.1", "http:80 | 10.2.0.2"]), 2);
    assert_eq!(ways(&mut bed, &["http:80* | 10.2.0.1", "http:80 | 10.2.0.2"]), 1, "nobody there serves the other");
}

#[test]
fn a_gateway_with_nothing_ready_behind_it_is_no_way() {
    let draining = "http:80 tcp:90* | 10.2.0.1~";
    // Nothing is ready that this cluster could use, and in south something is, without a sidecar.
    check(&[], &[draining], &["192.0.2.7"], &[]);
    check(&[], &[draining, "http:80 tcp:90 | 10.2.0.2"], &[], &[PORT]);
    // With the way to them gone, the last ones here are needed.
    check(
        &["http:80 tcp:90 | 10.0.0.1~"],
        &["http:80 tcp:90* | 10.2.0.1", "http:80 | 10.2.0.2"],
        &["10.0.0.1"],
        &[PORT],
    );
}

#[test]
fn a_way_less_may_be_a_port_more_and_so_another_way_less() {
    let mut bed = Bed::new(&[("here", "n1")]);
    with_gateways(&mut bed, &["192.0.2.7"], "*.global");
    let into = |address: &str| Entrance {
        network: Network::new("n3"),
        address: Address::parse_ip(address).expect("an address"),
        port: 15443,
    };
    let west = model::cluster::Meta {
        gateways: vec![into("192.0.2.8")],
        passed: vec![Passed::new("*.global")],
        ..meta("", "n3")
    };
    bed.gathered.view.set_cluster(&id("west"), Some(Cluster { meta: Some(west), ..Cluster::default() }));
    let here = of(&["http:80 tcp:90 | 10.0.0.1"]);
    // South has nothing ready with a sidecar, and is what keeps the second port from the entry here.
    let south = of(&["http:80* | 10.2.0.1", "tcp:90 | 10.2.0.2"]);
    let west = of(&["http:80 tcp:90* | 10.3.0.1", "http:80 | 10.3.0.2"]);
    bed.set("demo/web", &[("here", here), ("south", south), ("west", west)]);
    assert_eq!(endpoints(&mut bed), ["10.0.0.1 n1 cluster=here"]);
}
