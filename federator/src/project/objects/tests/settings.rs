//! What an operator sets: for whom objects are written and who sees them, of which families their addresses are, and whose
//! identities are known.

use super::*;
use model::{cluster::Meta, identity::TrustDomain};

/// What `here` says of itself: a gateway, or none.
pub(super) fn home(bed: &mut Bed, has_gateway: bool) {
    let gateway =
        Entrance { network: Network::new("n1"), address: Address::parse_ip("192.0.2.7").expect("one"), port: 1 };
    let gateways = if has_gateway { vec![gateway] } else { Vec::new() };
    let meta = Some(Meta { gateways, ..meta("", "n1") });
    bed.gathered.view.set_cluster(&id("here"), Some(Cluster { meta, ..Cluster::default() }));
}

#[test]
fn what_no_other_cluster_has_may_stay_out_of_the_mesh() {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1")]);
    bed.objects.config.remote_only = true;
    bed.set("demo/web", &[("here", plain("10.0.0.1"))]);
    bed.set("demo/api", &[("here", plain("10.0.0.2")), ("east", plain("10.0.0.3"))]);
    let api = "demo/api.demo.global@2 10.0.0.2 10.0.0.3";
    assert_eq!(bed.shown(), [api]);
    // A gateway resets every host that its own cluster does not know.
    home(&mut bed, true);
    assert_eq!(bed.shown(), [api, "demo/web.demo.global@2 10.0.0.1"]);
    home(&mut bed, false);
    bed.set("demo/api", &[("here", plain("10.0.0.2"))]);
    assert!(bed.shown().is_empty());
}

#[test]
fn ports_that_not_all_serve_may_be_kept() {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1")]);
    let exports = [
        ("here", export(head("http:80 tcp:90"), [slice("http:80", "10.0.0.1")])),
        ("east", export(head("http:80 tcp:90 none:95"), [slice("http:8080 tcp:90", "10.0.0.2")])),
    ];
    let partial = |port: &str, served: usize, then: &str| {
        format!("PortPartial: {port} is served by {served} of 2 endpoints, and {then}")
    };
    let left_out = [partial("90/TCP(tcp)", 1, "left out"), partial("95/TCP(none)", 0, "left out")];
    assert_eq!(missing(&mut bed, &exports), left_out);
    bed.objects.config.all_ports = true;
    bed.set("demo/web", &[]);
    assert_eq!(
        missing(&mut bed, &exports),
        [partial("90/TCP(tcp)", 1, "the others refuse what comes for it"), left_out[1].clone()]
    );
    let all = bed.objects.update(&bed.gathered);
    let entry = all.iter().next().expect("one").1.json();
    assert_eq!(entry["ports"].as_array().map(Vec::len), Some(2));
    let ports = entry["endpoints"].as_array().expect("two").iter().map(|endpoint| endpoint["ports"].to_string());
    assert_eq!(ports.collect::<Vec<_>>(), ["null", r#"{"http":8080}"#]);
}

#[test]
fn who_sees_an_entry_includes_the_gateways() {
    for (said, has_gateway, beside, in_root) in [
        (&[][..], true, None, None),
        (&["*"], true, Some("[\"*\"]"), Some("[\"*\"]")),
        (&["."], false, Some("[\".\"]"), Some("[\".\"]")),
        (&["."], true, Some("[\".\",\"istio-system\"]"), Some("[\".\"]")),
        (&["shop"], true, Some("[\"shop\",\"istio-system\"]"), Some("[\"shop\",\"istio-system\"]")),
        (&["istio-system", "shop"], true, Some("[\"istio-system\",\"shop\"]"), Some("[\"istio-system\",\"shop\"]")),
    ] {
        let mut bed = Bed::new(&[("here", "n1"), ("east", "n1")]);
        bed.objects.config.rules = true;
        bed.objects.config.export_to = said.iter().map(|to| (*to).to_owned()).collect();
        home(&mut bed, has_gateway);
        bed.set("demo/web", &[("here", plain("10.0.0.1"))]);
        bed.set("demo/api", &[("east", plain("10.0.0.2"))]);
        for (at, desired) in bed.objects.update(&bed.gathered).iter() {
            let seen = desired.json().get("exportTo").map(ToString::to_string);
            let expected = if *at.namespace == *"demo" { beside } else { in_root };
            assert_eq!(seen.as_deref(), expected, "{at} of {said:?}");
        }
    }
}

#[test]
fn addresses_are_of_the_families_that_are_asked_for() {
    let (v4, v6) = ("240.64.0.1", "fd66::1");
    for (families, expected) in
        [(&[Family::V4][..], &[v4][..]), (&[Family::V6], &[v6]), (&[Family::V6, Family::V4], &[v6, v4])]
    {
        let mut bed = Bed::new(&[("here", "n1")]);
        bed.objects.config.families = families.iter().copied().collect();
        bed.set("demo/web", &[("here", plain("10.0.0.1"))]);
        let entries = bed.objects.update(&bed.gathered);
        assert_eq!(entries.iter().next().expect("one").1.entry().addresses, expected);
    }
}

/// Who may answer, where east is of this trust domain and west of that, and endpoints run as these accounts.
fn identities(domains: [&str; 2], accounts: [&[&str]; 2]) -> Vec<String> {
    let mut bed = Bed::new(&[("here", "n1")]);
    let mut exports = Vec::new();
    for ((cluster, domain), accounts) in ["east", "west"].into_iter().zip(domains).zip(accounts) {
        let trust_domain = TrustDomain::parse(domain).expect("it can be");
        let meta = Some(Meta { trust_domain, ..meta("", "n1") });
        bed.gathered.view.set_cluster(&id(cluster), Some(Cluster { meta, ..Cluster::default() }));
        let endpoints: Vec<_> = (1..=accounts.len()).map(|n| format!("10.{}.0.{n}-", cluster.len())).collect();
        let mut slice = meshed("http:80", &endpoints.join(" "), &["v1"]);
        for (endpoint, account) in slice.endpoints.iter_mut().zip(accounts) {
            let mut workload = (*endpoint.workload).clone();
            workload.service_account = account.trim_start_matches('!').into();
            if account.starts_with('!') {
                workload.labels.clear();
            }
            endpoint.traits = export::Traits { workload: workload.into(), ..(*endpoint.traits).clone() }.into();
        }
        exports.push((cluster, export(head("http:80"), [slice])));
    }
    bed.set("demo/web", &exports);
    let entries = bed.objects.update(&bed.gathered);
    entries.iter().next().expect("one").1.entry().subject_alt_names
}

#[test]
fn identities_are_those_of_all_or_none() {
    let (east, west) = ("spiffe://east.example/ns/demo/sa/a", "spiffe://west.example/ns/demo/sa/b");
    let both = ["east.example", "west.example"];
    for (domains, accounts, expected) in [
        (both, [&["a", "a"][..], &["b"]], &[east, west][..]),
        (both, [&["a"], &[]], &[east]),
        // Who takes no mutual TLS shows no identity.
        (both, [&["a"], &["!b"]], &[east]),
        (both, [&["!a"], &["!b"]], &[]),
        (both, [&["a"], &[""]], &[]),
        (["east.example", ""], [&["a"], &["b"]], &[]),
        (["east.example", ""], [&["a"], &["!b"]], &[east]),
    ] {
        assert_eq!(identities(domains, accounts), expected, "{domains:?} {accounts:?}");
    }
}

#[test]
fn an_operator_may_say_how_others_are_reached() {
    let mut bed = Bed::new(&[("here", "n1"), ("south", "n1")]);
    with_gateways(&mut bed, &["192.0.2.7"], "*.global");
    let exports = |south: &str| {
        let south = export(head("http:80"), [meshed("http:80", south, &["v1"])]);
        [("here", export(head("http:80"), [slice("http:80", "10.0.0.1")])), ("south", south)]
    };
    let mut check = |mode, expected: &[&str]| {
        bed.objects.place = Arc::new(Place { mode, ..(*bed.objects.place).clone() });
        // The mode never changes while an agent runs, so only what is new is projected by it.
        bed.set("demo/web", &[]);
        bed.objects.update(&bed.gathered);
        bed.set("demo/web", &exports("10.2.0.1 10.2.0.2"));
        assert_eq!(endpoints(&mut bed), expected, "{mode:?}");
    };
    let south = "cluster=south tlsMode=istio";
    let here = "10.0.0.1 n1 cluster=here";
    let behind = format!("192.0.2.7 n2 us 2 version=1 {south} version=v1 http=15443");
    check(Mode::Auto, &[here, &behind]);
    let [first, second] = [1, 2].map(|pod| format!("10.2.0.{pod} n1 version=1 {south} version=v1"));
    check(Mode::Workload, &[here, &first, &second]);
    check(Mode::Gateway, &[here, &behind]);

    // On the same network, too; but the gateways here must not take it for something that is behind them.
    let known = bed.gathered.view.clusters()[&id("south")].clone();
    let mut meta = known.meta.expect("it has said");
    meta.network = Network::new("n1");
    meta.gateways[0].network = Network::new("n1");
    bed.gathered.view.set_cluster(&id("south"), Some(Cluster { meta: Some(meta.clone()), ..Cluster::default() }));
    assert_eq!(endpoints(&mut bed), [here, &behind.replace("n2", "south.n1")]);
    meta.gateways.clear();
    bed.gathered.view.set_cluster(&id("south"), Some(Cluster { meta: Some(meta), ..Cluster::default() }));
    assert_eq!(endpoints(&mut bed), [here]);
    let none = "NoGateway: 2 endpoints of south: on network n1, and no gateway into it is known";
    assert_eq!(missing(&mut bed, &exports("10.2.0.1 10.2.0.2")), [none]);
}
