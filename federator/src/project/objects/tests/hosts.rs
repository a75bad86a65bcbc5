//! Hosts beside a service's own: what there is for them, what goes with them, and what gateways let through.

use super::*;
use model::export::{Head, Host, Hosts};

/// An export that asks for hosts.
fn asks(ports: &str, endpoints: &str, aliases: &[&str], per_cluster: bool) -> Arc<Export> {
    let aliases = aliases.iter().map(|alias| Host::parse(alias).expect("a name")).collect();
    let hosts = Arc::new(Hosts { aliases, per_cluster });
    export(Head { hosts, ..head(ports) }, [slice(ports, endpoints)])
}

fn bed() -> Bed {
    let mut bed = Bed::new(&[("here", "n1"), ("east", "n1"), ("west", "n1")]);
    let import = serde_json::json!({ "aliases": { "allow": [{ "suffix": "example.com" }] } });
    bed.objects.set_rules(configured(serde_json::json!({ "import": import })).import);
    bed
}

/// All entries as `namespace/name [address] port… -> endpoint…`.
fn entries(bed: &mut Bed) -> Vec<String> {
    let all = bed.objects.update(&bed.gathered);
    let entry = |(at, desired): (&ObjectKey, &Desired)| {
        let entry = desired.entry();
        assert_eq!(entry.hosts, [at.name.to_string()]);
        let ports: Vec<_> = entry.ports.iter().map(|port| port.number.to_string()).collect();
        let endpoints: Vec<_> = entry.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
        let (namespace, name, addresses) = (&at.namespace, &at.name, entry.addresses.join(" "));
        format!("{namespace}/{name} [{addresses}] {} -> {}", ports.join(" "), endpoints.join(" "))
    };
    all.iter().map(entry).collect()
}

fn missing(bed: &Bed, service: &str) -> Vec<String> {
    bed.objects.conditions().get(&key(service)).iter().flat_map(|all| all.iter()).map(ToString::to_string).collect()
}

#[test]
fn an_alias_has_an_entry_without_addresses_that_others_tell_apart_by_name() {
    let mut bed = bed();
    let ports = "http:80 tls-x:443 db:5432";
    bed.set(
        "demo/web",
        &[
            ("here", asks(ports, "10.0.0.1", &["users.example.com"], false)),
            ("east", asks(ports, "10.1.0.1", &["www.demo.global", "users.example.org"], false)),
        ],
    );
    let both = "10.0.0.1 10.1.0.1";
    assert_eq!(
        entries(&mut bed),
        [
            format!("demo/users.example.com [] 80 443 -> {both}"),
            format!("demo/web.demo.global [240.64.0.1] 80 443 5432 -> {both}"),
            format!("demo/www.demo.global [] 80 443 -> {both}"),
        ]
    );
    // Who dials the database by an alias dials the address of the service.
    assert_eq!(missing(&bed, "demo/web"), ["AliasRefused: users.example.org: no rule of import.aliases allows it"]);

    // It goes where the service goes, and with it.
    bed.set("demo/web", &[("east", asks("http:80", "10.1.0.1", &["www.demo.global"], false))]);
    assert_eq!(
        entries(&mut bed),
        ["istio-system/web.demo.global [240.64.0.1] 80 -> 10.1.0.1", "istio-system/www.demo.global [] 80 -> 10.1.0.1",]
    );
    bed.set("demo/web", &[]);
    assert!(entries(&mut bed).is_empty() && bed.objects.further.is_empty());
}

#[test]
fn an_alias_moves_to_who_was_there_first() {
    let mut bed = bed();
    let at = |created, endpoints: &str| {
        let export = asks("http:80", endpoints, &["a.example.com"], false);
        let head = Head { created, ..(*export.head).clone() };
        Arc::new(Export { head: Arc::new(head), slices: export.slices.clone() })
    };
    bed.set("demo/web", &[("east", at(7, "10.1.0.1"))]);
    assert_eq!(entries(&mut bed)[0], "istio-system/a.example.com [] 80 -> 10.1.0.1");
    // Wherever it comes among those that are projected anew.
    for (first, second) in [("demo/api", 6), ("demo/zoo", 5)] {
        bed.set(first, &[("east", at(second, "10.1.0.2"))]);
        assert_eq!(entries(&mut bed)[0], "istio-system/a.example.com [] 80 -> 10.1.0.2");
        assert_eq!(missing(&bed, "demo/web").len(), 1);
        bed.set(first, &[]);
        assert_eq!(entries(&mut bed)[0], "istio-system/a.example.com [] 80 -> 10.1.0.1");
        assert!(missing(&bed, "demo/web").is_empty());
    }
}

#[test]
fn what_one_cluster_has_of_a_service_has_a_host() {
    let mut bed = bed();
    bed.set(
        "demo/web",
        &[
            ("east", asks("http:80 db:5432", "10.1.0.1", &[], true)),
            ("west", asks("http:80 grpc:9000", "10.2.0.1", &[], true)),
            ("here", asks("http:80", "10.0.0.1", &[], false)),
        ],
    );
    assert_eq!(
        entries(&mut bed),
        [
            "demo/web.demo.global [240.64.0.1] 80 -> 10.0.0.1 10.1.0.1 10.2.0.1",
            "demo/web.demo.svc.cluster.east [] 80 -> 10.1.0.1",
            "demo/web.demo.svc.cluster.west [] 80 9000 -> 10.2.0.1",
        ]
    );
    let why = "only HTTP and TLS say for which host they come, and the host has no address of its own";
    let of_database = format!("PortNeedsAddress: web.demo.svc.cluster.east: 5432/TCP(db) is left out: {why}");
    assert!(missing(&bed, "demo/web").contains(&of_database), "{:?}", missing(&bed, "demo/web"));
}

#[test]
fn what_is_named_here_need_not_be_asked_for() {
    let mut bed = bed();
    let plain = |endpoints: &str| asks("http:80", endpoints, &[], false);
    bed.set("demo/web", &[("east", plain("10.1.0.1")), ("west", plain("10.2.0.1"))]);
    bed.set("demo/api", &[("east", plain("10.1.0.2"))]);
    let own = ["istio-system/api.demo.global", "istio-system/web.demo.global"];
    let names = |bed: &mut Bed| {
        let name = |entry: String| entry.split(' ').next().map(str::to_owned);
        entries(bed).into_iter().filter_map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&mut bed), own);
    let named = |all: &[&str]| -> OfClusters {
        let cluster = ClusterId::parse("east").expect("an id");
        Arc::new(all.iter().map(|service| (key(service), cluster.clone())).collect())
    };
    // One of a service that is not there is nothing, until it is.
    bed.objects.set_named(&named(&["demo/web", "demo/later"]));
    assert_eq!(names(&mut bed), [own[0], own[1], "istio-system/web.demo.svc.cluster.east"]);
    bed.set("demo/later", &[("east", plain("10.1.0.3"))]);
    let later = ["istio-system/later.demo.global", "istio-system/later.demo.svc.cluster.east"];
    assert_eq!(names(&mut bed), [own[0], later[0], later[1], own[1], "istio-system/web.demo.svc.cluster.east"]);
    bed.objects.set_named(&named(&[]));
    assert_eq!(names(&mut bed), [own[0], later[0], own[1]]);
}

#[test]
fn gateways_let_through_whatever_there_is_an_entry_for() {
    let mut bed = bed();
    bed.objects.config.gateway = BTreeMap::from([("istio".to_owned(), "gw".to_owned())]);
    settings::home(&mut bed, true);
    let passed = |bed: &mut Bed| {
        let all = bed.objects.update(&bed.gathered);
        let mut gateways = all.iter().filter(|(at, _)| at.kind == Kind::Gateway);
        gateways.next().expect("one").1.json()["servers"][0]["hosts"].to_string()
    };
    assert_eq!(passed(&mut bed), r#"["*.global"]"#);
    let aliases = ["users.example.com", "www.demo.global", "users.example.org"];
    bed.set("demo/web", &[("here", asks("http:80", "10.0.0.1", &aliases, true))]);
    assert_eq!(passed(&mut bed), r#"["*.global","users.example.com","web.demo.svc.cluster.here"]"#);
    bed.set("demo/web", &[]);
    assert_eq!(passed(&mut bed), r#"["*.global"]"#);
}
