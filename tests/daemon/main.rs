//! The daemon as a process, and what it says of bad input: one clear line, an exit code, nothing half-done. Needs no
//! cluster: clusters are directories, ports are free ones on loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod daemon;
mod render;
mod warm;

use daemon::{Daemon, Scene};
use std::fs;

/// One endpoint, on port 8080, behind `web` in `demo`.
const WEB: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {ports: [{name: http, port: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: demo, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.1]}]
";

/// The same for a service `api`.
fn api() -> String {
    WEB.replace("web", "api").replace("10.1.0.1", "10.1.0.2")
}

#[test]
fn a_bad_configuration_is_one_line_and_exit_code_2() {
    let scene = Scene::new();
    let directory = scene.cluster("east", &[]);
    let good = format!("cluster: east\nclusters: [{{id: east, directory: {}}}]\n", directory.display());
    for (text, says) in [
        (format!("{good}dnss: {{}}\n"), "unknown field `dnss`"),
        (format!("{good}dnss: {{}}\n"), "did you mean `dns`?"),
        (format!("{good}dns: {{listener: []}}\n"), "did you mean `listeners`?"),
        (format!("{good}dns: {{ttl: soon}}\n"), "line 3, column 12: invalid u32"),
        (format!("{good}dns: {{listeners: [{{address: '127.0.0.1:0', mode: vips}}]}}\n"), "did you mean `vip`?"),
        (good.replace("id: east", "id: East"), "`clusters[0].id`: `East` is not a DNS label"),
        (good.replace("cluster: east", "cluster: west"), "cluster `west` is not among them"),
        (good.replace("/east", "/nowhere"), "`clusters[0].directory`"),
        (format!("{good}vips: {{ipv4: 240.240.0.0/16}}\n"), "from which Istio allocates"),
        (format!("{good}store: {{etcd: {{endpoints: []}}}}\n"), "`store.etcd.endpoints`"),
        ("{".to_owned(), "configuration"),
    ] {
        let ended = scene.run(&text, &[]);
        assert_eq!(ended.code, Some(2), "{text}{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.starts_with("federator: ") && ended.stderr.contains(says), "{says}: {ended:?}");
    }
    let ended = scene.run(&good, &["--set", "dns.tll=5"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--set dns.tll=5") && ended.stderr.contains("did you mean `ttl`?"), "{ended:?}");
    let missing = scene.command(&["agent", "--config", "/nonexistent.yaml"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("/nonexistent.yaml"), "{missing:?}");
}

#[test]
fn virtual_addresses_that_the_own_cluster_uses_end_it_at_its_start() {
    let scene = Scene::new();
    let web = WEB.replace("spec: {", "spec: {clusterIP: 10.96.0.9, ");
    let directory = scene.cluster("east", &[("web.yaml", &web)]);
    let text = format!(
        "cluster: east\nclusters: [{{id: east, directory: {}}}]\nadmin: {{address: '127.0.0.1:0'}}\n\
         vips: {{ipv4: 10.96.0.0/12}}\n",
        directory.display()
    );
    let ended = scene.run(&text, &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let said = ended.stderr.lines().last().unwrap_or_default();
    assert!(said.starts_with("federator: cluster `east`: Service demo/web has 10.96.0.9"), "{ended:?}");
    assert!(said.contains("choose `vips.ipv4`"), "{ended:?}");
}

#[test]
fn a_port_in_use_is_named_and_nothing_starts() {
    let scene = Scene::new();
    let directory = scene.cluster("east", &[("web.yaml", WEB)]);
    let out = scene.path().join("out");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for field in
        ["dns: {listeners: [{address: 'ADDRESS'}]}\nadmin: {address: '127.0.0.1:0'}", "admin: {address: 'ADDRESS'}"]
    {
        let text = format!(
            "cluster: east\nclusters: [{{id: east, directory: {}}}]\nemit: {{directory: {}}}\n{}\n",
            directory.display(),
            out.display(),
            field.replace("ADDRESS", &address.to_string())
        );
        let ended = scene.run(&text, &[]);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.stderr.contains(&address.to_string()) && ended.stderr.contains("in use"), "{ended:?}");
        assert!(!out.exists(), "nothing was emitted");
    }
}

#[test]
fn good_files_go_on_beside_bad_ones() {
    let scene = Scene::new();
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    let files =
        [("a-broken.yaml", "kind: [\n"), ("b-bomb.yaml", bomb), ("c-cycle.yaml", "a: &a [*a]\n"), ("web.yaml", WEB)];
    let directory = scene.cluster("east", &files);
    let daemon = Daemon::start(&scene, &directory);
    daemon.answers("web.demo.global", &["10.1.0.1"]);
    let left_out = daemon.status()["clusters"]["east"]["observed"]["leftOut"].clone();
    for (name, _) in &files[..3] {
        let key = format!("file {}", directory.join(name).display());
        assert!(
            left_out[&key].as_str().is_some_and(|why| !why.is_empty() && !why.contains('\n')),
            "{name}: {left_out}"
        );
    }

    // An edit that breaks a file keeps what it held; one that mends it is picked up.
    fs::write(directory.join("web.yaml"), "kind: [\n").unwrap();
    fs::write(directory.join("api.yaml"), api()).unwrap();
    daemon.answers("api.demo.global", &["10.1.0.2"]);
    daemon.answers("web.demo.global", &["10.1.0.1"]);
    fs::write(directory.join("web.yaml"), WEB.replace("10.1.0.1", "10.1.0.9")).unwrap();
    daemon.answers("web.demo.global", &["10.1.0.9"]);
    fs::remove_file(directory.join("api.yaml")).unwrap();
    daemon.answers("api.demo.global", &[]);
}

/// One network is right for a single cluster, and for several it may be wrong: that is said of each that names none.
#[test]
fn clusters_that_name_no_network_are_told_so() {
    let scene = Scene::new();
    let network = "apiVersion: v1\nkind: Namespace\n\
                   metadata: {name: istio-system, labels: {topology.istio.io/network: n1}}\n";
    let east = scene.cluster("east", &[("web.yaml", WEB)]);
    let alone = Daemon::start(&scene, &east);
    alone.answers("web.demo.global", &["10.1.0.1"]);
    assert!(!alone.get("/status").1.contains("NetworkUnset"));
    alone.terminate();

    let west = scene.cluster("west", &[("network.yaml", network), ("api.yaml", &api())]);
    let daemon = Daemon::start_of(&scene, &[("east", &east), ("west", &west)], "");
    let of = |now: &serde_json::Value, id: &str| now["clusters"][id]["conditions"]["NetworkUnset"].is_string();
    daemon.wait_until("one of two has a network", |now| of(now, "east") && !of(now, "west"));
    assert!(daemon.get("/metrics").1.contains("NetworkUnset"));
    fs::write(east.join("network.yaml"), network).unwrap();
    daemon.wait_until("both have one", |now| !of(now, "east") && !of(now, "west"));
}

#[test]
fn it_stops_cleanly_when_told_to() {
    let scene = Scene::new();
    let directory = scene.cluster("east", &[("web.yaml", WEB)]);
    let daemon = Daemon::start(&scene, &directory);
    daemon.answers("web.demo.global", &["10.1.0.1"]);
    assert_eq!(daemon.get("/livez").0, 200);
    assert_eq!(daemon.get("/readyz").0, 200);
    assert!(daemon.get("/metrics").1.contains("\nfederator_revision "));
    let ended = daemon.terminate();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in ended.stderr.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(event["level"].is_string() && event["message"].is_string(), "{line}");
    }
    assert!(ended.stderr.contains("\"message\":\"stopped\""), "{ended:?}");
}
