//! Proves which override wins, and that every complaint is one line that says where, what, and what was perhaps meant.

use super::*;

const MINIMAL: &str = "cluster: east\nclusters: [{id: east, kubernetes: {}}]\n";

fn with(text: &str, variables: &[(&str, &str)], set: &[&str]) -> Result<File, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let set: Vec<String> = set.iter().map(|setting| (*setting).to_owned()).collect();
    parse("f.yaml", text, variables, &set)
}

fn complain(text: &str, variables: &[(&str, &str)], set: &[&str], parts: &[&str]) {
    let error = with(text, variables, set).expect_err("wrong").to_string();
    assert!(!error.contains('\n'), "{error}");
    for part in parts {
        assert!(error.contains(part), "{error:?}, without {part:?}");
    }
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let check = |variables: &[(&str, &str)], set: &[&str], ttl: u32| {
        let text = format!("{MINIMAL}dns: {{ttl: 1, negativeTtl: 9}}\n");
        let file = with(&text, variables, set).unwrap();
        assert_eq!((file.dns.ttl, file.dns.negative_ttl), (ttl, 9));
    };
    check(&[], &[], 1);
    check(&[("FEDERATOR_DNS__TTL", "2")], &[], 2);
    check(&[("FEDERATOR_DNS__TTL", "2")], &["dns.ttl=3"], 3);
    check(&[], &["dns.ttl=3", "dns.ttl=4"], 4);
    check(&[("HOME", "x"), ("FEDERATOR_CONFIG", "y"), ("OTHER_DNS__TTL", "z")], &[], 1);
}

#[test]
fn any_field_can_be_overridden() {
    let file = with(
        MINIMAL,
        &[
            ("FEDERATOR_DNS__NEGATIVE_TTL", "7"),
            ("FEDERATOR_STORE__ETCD__LEASE_SECONDS", "5"),
            ("FEDERATOR_STORE__ETCD__ROOT", "/r"),
        ],
        &[
            "store.etcd.endpoints=[http://a:2379, http://b:2379]",
            "clusters.0.network=n1",
            "emit.kubernetes={}",
            "log.filter=info,federator::emit=debug",
        ],
    )
    .unwrap();
    let etcd = file.store.etcd.unwrap();
    assert_eq!((etcd.endpoints.len(), &*etcd.root, etcd.lease_seconds), (2, "/r", 5));
    assert_eq!((file.dns.negative_ttl, &*file.clusters[0].network), (7, "n1"));
    assert!(file.emit.kubernetes.is_some());
    assert_eq!(file.log.filter, "info,federator::emit=debug");
}

/// One file for all clusters, and a variable that says which one it is.
#[test]
fn what_the_file_lacks_may_come_from_elsewhere() {
    let text = "clusters: [{id: east, kubernetes: {}}]\n";
    assert_eq!(with(text, &[("FEDERATOR_CLUSTER", "east")], &[]).unwrap().cluster, "east");
    complain(text, &[], &[], &["configuration f.yaml: ", "missing field `cluster`"]);
    complain(text, &[], &["dns.ttl=1"], &["configuration f.yaml: missing field `cluster`"]);
    let all = ["cluster=east", "clusters=[{id: east, kubernetes: {}}]"];
    assert_eq!(with("", &[], &all).unwrap().clusters.len(), 1);
}

#[test]
fn what_looks_like_a_number_may_be_a_text() {
    let variables = [("FEDERATOR_AGENT", "1234"), ("FEDERATOR_EMIT__NAMESPACE", "true")];
    let file = with(MINIMAL, &variables, &["cluster=1e5"]).unwrap();
    assert_eq!((file.agent.as_deref(), &*file.cluster), (Some("1234"), "1e5"));
    assert_eq!(file.emit.namespace, "true");
}

#[test]
fn an_unknown_field_names_its_nearest_neighbour_and_the_line() {
    let check = |more: &str, line: &str, near: &str| {
        let near = format!("did you mean `{near}`?");
        complain(&format!("{MINIMAL}{more}"), &[], &[], &["configuration f.yaml: ", line, &near]);
    };
    check("zoen: x\n", "line 3", "zone");
    check("dns:\n  ttl: 1\n  negativeTTL: 1\n", "line 5", "negativeTtl");
    check("store: {ectd: {}}\n", "line 3", "etcd");
    check("log:\n  format: jsn\n", "line 4", "json");
    check("dns: {listeners: [{address: '1.2.3.4:53', mode: vips}]}\n", "line 3", "vip");
    let nothing = format!("{MINIMAL}somethingElseEntirely: 1\n");
    complain(&nothing, &[], &[], &["line 3", "unknown field `somethingElseEntirely`"]);
    assert!(!with(&nothing, &[], &[]).unwrap_err().to_string().contains("did you mean"));
}

#[test]
fn a_wrong_value_names_the_line() {
    for more in ["dns:\n  ttl: soon\n", "dns:\n  ttl: -1\n", "admin:\n  address: 9153\n", "vips:\n  ipv4: x\n"] {
        complain(&format!("{MINIMAL}{more}"), &[], &[], &["configuration f.yaml: ", "line 4"]);
    }
    complain("cluster: [\n", &[], &[], &["configuration f.yaml: ", "line"]);
    complain("cluster: a\ncluster: b\n", &[], &[], &["line 2", "cluster"]);
    complain("", &[], &[], &["configuration f.yaml: "]);
    complain("just a text", &[], &[], &["configuration f.yaml: "]);
}

#[test]
fn a_wrong_override_names_where_it_came_from() {
    complain(
        MINIMAL,
        &[("FEDERATOR_DNS__TTL", "soon")],
        &["cluster=east"],
        &["configuration variable FEDERATOR_DNS__TTL: ", "u32"],
    );
    complain(MINIMAL, &[("FEDERATOR_DNS__TTTL", "1")], &[], &["variable FEDERATOR_DNS__TTTL: ", "did you mean `ttl`?"]);
    complain(MINIMAL, &[], &["dns.tll=1"], &["--set dns.tll=1: ", "did you mean `ttl`?"]);
    complain(MINIMAL, &[], &["dns.ttl"], &["--set dns.ttl: write it as FIELD=VALUE"]);
    complain(MINIMAL, &[], &["dns=5"], &["--set dns=5: invalid type"]);
    complain(MINIMAL, &[], &["clusters.7.id=x"], &["--set clusters.7.id=x: invalid type"]);
    complain(MINIMAL, &[], &["store.etcd.root=/r"], &["--set store.etcd.root=/r: missing field `endpoints`"]);
}

/// Kubernetes tells a pod of the Services `federator` and `federator-dns` in its namespace like this.
#[test]
fn variables_that_nobody_typed_are_not_fields() {
    let variables = [
        ("FEDERATOR_SERVICE_HOST", "10.0.0.1"),
        ("FEDERATOR_SERVICE_PORT", "53"),
        ("FEDERATOR_SERVICE_PORT_DNS_UDP", "53"),
        ("FEDERATOR_PORT", "udp://10.0.0.1:53"),
        ("FEDERATOR_PORT_53_UDP", "udp://10.0.0.1:53"),
        ("FEDERATOR_DNS_SERVICE_HOST", "10.0.0.2"),
        ("FEDERATOR_DNS_PORT", "udp://10.0.0.2:53"),
        ("FEDERATOR_DNS_PORT_53_UDP_ADDR", "10.0.0.2"),
    ];
    assert_eq!(with(MINIMAL, &variables, &[]).unwrap().dns.ttl, 5);
    complain(MINIMAL, &[("FEDERATOR_DNS__PORT", "53")], &[], &["unknown field `port`"]);
}
