//! Proves that exports follow from the objects alone, whatever their order, and that an object touches the services
//! that it is of and no other.

mod gateways;
mod inside;
mod service_exports;

use super::*;
use crate::{config::file::ExportMode, testing::configured};
use model::{
    export::{Endpoint, Export},
    tracked::Since,
};
use proptest::prelude::*;
use serde_json::json;

fn service(name: &str) -> Object {
    of_type(name, "ClusterIP")
}

fn of_type(name: &str, kind: &str) -> Object {
    asking("shop", name, "", kind)
}

/// A service with an annotation on exporting; it selects what has the label `app` of its name.
fn asking(namespace: &str, name: &str, annotation: &str, kind: &str) -> Object {
    let service = json!({
        "metadata": { "namespace": namespace, "name": name, "annotations": { "federator.io/export": annotation } },
        "spec": {
            "type": kind,
            "clusterIP": "10.0.0.1",
            "selector": { "app": name },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
        },
    });
    Object::Service(serde_json::from_value(service).unwrap())
}

/// An entry of the app, on a network where that is not empty.
fn entry(app: &str, name: &str, network: &str) -> Object {
    let entry = json!({
        "metadata": { "namespace": "shop", "name": name },
        "spec": { "address": "10.9.0.1", "labels": { "app": app }, "network": network, "serviceAccount": "vm" },
    });
    Object::WorkloadEntry(serde_json::from_value(entry).unwrap())
}

fn pod(name: &str, version: &str, network: &str) -> Object {
    let labels = json!({ "version": version, "topology.istio.io/network": network });
    let pod = json!({ "metadata": { "namespace": "shop", "name": name, "labels": labels } });
    Object::Pod(serde_json::from_value(pod).unwrap())
}

fn namespace(name: &str, labels: &serde_json::Value) -> Object {
    Object::Namespace(serde_json::from_value(json!({ "name": name, "labels": labels })).unwrap())
}

fn service_export(namespace: &str, name: &str) -> Object {
    let export = json!({ "metadata": { "namespace": namespace, "name": name } });
    Object::ServiceExport(serde_json::from_value(export).unwrap())
}

/// The rules that a configuration with these fields has.
fn rules(export: &serde_json::Value) -> ExportRules {
    configured(json!({ "export": export })).export
}

/// The first endpoint of a service of the namespace `shop`.
fn first(index: &mut Index, name: &str) -> Endpoint {
    let export = export(index, name).unwrap();
    export.endpoints().next().unwrap().endpoint.clone()
}

/// A slice by its name, with endpoints by address, node and zone.
fn slice(of: &str, name: &str, endpoints: &[(&str, &str, &str)]) -> Object {
    let endpoint = |(address, node, zone): &(&str, &str, &str)| {
        // Each address is a pod's of that name.
        let target = json!({ "kind": "Pod", "name": address, "namespace": "shop" });
        json!({ "addresses": [address], "nodeName": node, "zone": zone, "targetRef": target })
    };
    let slice = json!({
        "metadata": {
            "namespace": "shop",
            "name": name,
            "labels": { "kubernetes.io/service-name": of },
        },
        "addressType": "IPv4",
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{ "name": "http", "port": 8080 }],
    });
    Object::EndpointSlice(serde_json::from_value(slice).unwrap())
}

fn node(name: &str, region: &str, zone: &str) -> Object {
    let labels = json!({ "topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone });
    Object::Node(serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } })).unwrap())
}

fn index(default: Locality, objects: &[Object]) -> Index {
    let mut index = Index::new(Observed::default(), default);
    objects.iter().for_each(|object| index.apply(object));
    index
}

fn export(index: &mut Index, name: &str) -> Option<Arc<Export>> {
    let key = ServiceKey::parse("shop", name).unwrap();
    index.flush().exports.get(&key).cloned()
}

/// The services that changed since the last look.
fn changed(index: &mut Index, seen: &mut u64) -> Vec<String> {
    let now = index.flush().exports;
    let Since::Changes(changes) = now.since(*seen) else { panic!("nothing is forgotten in so short a time") };
    *seen = now.sequence();
    changes.iter().map(|(key, _)| key.name.to_string()).collect()
}

#[test]
fn a_service_is_exported_with_or_without_endpoints_and_endpoints_without_it_are_not() {
    let mut index = index(Locality::default(), &[slice("web", "web-1", &[("10.1.0.1", "", "")])]);
    assert_eq!(export(&mut index, "web"), None);
    index.apply(&service("web"));
    assert_eq!(export(&mut index, "web").unwrap().ready(), 1);
    index.delete(&slice("web", "web-1", &[]).name());
    assert!(export(&mut index, "web").unwrap().slices.is_empty());
    index.delete(&service("web").name());
    assert_eq!(export(&mut index, "web"), None);
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let endpoints = [("10.1.0.1", "", "")];
    let mut index = index(Locality::default(), &[service("a"), service("b"), slice("a", "x", &endpoints)]);
    assert_eq!(export(&mut index, "a").unwrap().ready(), 1);
    index.apply(&slice("b", "x", &endpoints));
    assert_eq!(export(&mut index, "a").unwrap().ready(), 0);
    assert_eq!(export(&mut index, "b").unwrap().ready(), 1);
}

#[test]
fn large_slices_are_split_and_none_is_lost() {
    for (endpoints, names) in
        [(0, vec!["x"]), (1, vec!["x"]), (100, vec!["x"]), (101, vec!["x", "x/1"]), (250, vec!["x", "x/1", "x/2"])]
    {
        let addresses: Vec<String> = (0..endpoints).map(|n| format!("10.1.{}.{}", n / 200, n % 200)).collect();
        let all: Vec<_> = addresses.iter().map(|address| (address.as_str(), "", "")).collect();
        let mut index = index(Locality::default(), &[service("web"), slice("web", "x", &all)]);
        let export = export(&mut index, "web").unwrap();
        let held: Vec<String> = export.endpoints().map(|member| member.endpoint.address.to_string()).collect();
        assert_eq!(export.slices.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), names);
        assert_eq!(held, addresses);
        assert!(export.slices.values().all(|slice| slice.ports.len() == 1));
    }
}

#[test]
fn locality_is_the_slices_zone_in_the_nodes_region_else_the_default() {
    let nodes = [node("n1", "eu", "eu-a"), node("bare", "", "")];
    let check = |default: Locality, on: &str, zone: &str, text: &str| {
        let mut objects = nodes.to_vec();
        objects.extend([service("web"), slice("web", "x", &[("10.1.0.1", on, zone)])]);
        let export = export(&mut index(default, &objects), "web").unwrap();
        let endpoint = export.endpoints().next().unwrap().endpoint;
        assert_eq!(endpoint.locality.to_string(), text, "on {on:?} in {zone:?}");
    };
    let default = Locality::new("us", "us-a", "rack");
    check(default.clone(), "n1", "", "eu/eu-a");
    check(default.clone(), "n1", "eu-b", "eu/eu-b");
    check(default.clone(), "bare", "", "us/us-a/rack");
    check(default.clone(), "unknown", "us-a", "us/us-a/rack");
    check(default.clone(), "unknown", "us-b", "us/us-b");
    check(default, "", "", "us/us-a/rack");
    check(Locality::default(), "unknown", "z", "");
}

#[test]
fn a_node_touches_exactly_the_services_on_it() {
    let mut index = index(
        Locality::default(),
        &[
            node("n1", "eu", "eu-a"),
            node("n2", "eu", "eu-b"),
            service("a"),
            service("b"),
            service("c"),
            slice("a", "a-1", &[("10.1.0.1", "n1", ""), ("10.1.0.2", "n2", "")]),
            slice("b", "b-1", &[("10.1.0.3", "n1", "")]),
            slice("c", "c-1", &[("10.1.0.4", "n2", "")]),
        ],
    );
    let mut seen = 0;
    assert_eq!(changed(&mut index, &mut seen), ["a", "b", "c"]);
    index.apply(&node("n1", "eu", "eu-a"));
    assert_eq!(changed(&mut index, &mut seen), [""; 0], "nothing new");
    index.apply(&node("n1", "eu", "eu-c"));
    assert_eq!(changed(&mut index, &mut seen), ["a", "b"]);
    index.apply(&slice("b", "b-1", &[("10.1.0.3", "n2", "")]));
    assert_eq!(changed(&mut index, &mut seen), ["b"]);
    index.apply(&node("n1", "eu", "eu-a"));
    assert_eq!(index.dirty.len(), 1, "not even looked at");
    assert_eq!(changed(&mut index, &mut seen), ["a"]);
    index.delete(&node("n2", "", "").name());
    assert_eq!(changed(&mut index, &mut seen), ["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        index.delete(&slice(name, &format!("{name}-1"), &[]).name());
    }
    assert!(index.on_node.is_empty(), "nodes that come and go leave nothing");
}

#[test]
fn what_is_left_out_is_named_until_it_is_gone_or_good() {
    let mut index = index(
        Locality::default(),
        &[of_type("web", "ExternalName"), slice("web", "x", &[("127.0.0.1", "", ""), ("10.1.0.1", "", "")])],
    );
    let named = |index: &mut Index| index.flush().left_out.keys().cloned().collect::<Vec<_>>();
    assert_eq!(named(&mut index), ["EndpointSlice shop/x", "Service shop/web"]);
    // A relist has to know them, to take them away.
    assert!(index.names(Kind::Service).contains(&service("web").name()));
    index.apply(&service("web"));
    assert_eq!(export(&mut index, "web").unwrap().ready(), 1);
    assert_eq!(named(&mut index), ["EndpointSlice shop/x"]);
    index.delete(&slice("web", "x", &[]).name());
    assert_eq!(named(&mut index), [""; 0]);
    // What was good and is left out now is no longer exported.
    index.apply(&of_type("web", "ExternalName"));
    assert_eq!(export(&mut index, "web"), None);
}

#[test]
fn names_are_those_of_the_objects() {
    let objects = [
        service("web"),
        slice("web", "x.y", &[]),
        node("ip-10.example.org", "eu", ""),
        pod("web-0", "", ""),
        namespace("shop", &json!({})),
        entry("web", "vm.example", ""),
        service_export("shop", "web"),
    ];
    let index = index(Locality::default(), &objects);
    for object in &objects {
        let name = object.name();
        assert_eq!(index.names(name.kind), HashSet::from([name]));
    }
}

fn left_out(index: &mut Index) -> Vec<String> {
    index.flush().left_out.iter().map(|(what, why)| format!("{what}: {why}")).collect()
}

#[test]
fn what_is_exported_is_for_the_rules_to_say_at_any_time() {
    let objects = [
        asking("shop", "plain", "", "ClusterIP"),
        asking("shop", "no", "false", "ClusterIP"),
        asking("shop", "yes", "true", "ClusterIP"),
        asking("bank", "plain", "", "ClusterIP"),
        asking("bank", "mcs", "", "ClusterIP"),
        asking("kube-system", "dns", "true", "ClusterIP"),
        service_export("bank", "mcs"),
        service_export("shop", "no"),
    ];
    let mut index = index(Locality::default(), &objects);
    let mut check = |export: &serde_json::Value, expected: &[&str]| {
        index.set_rules(rules(export));
        let exported: Vec<_> = index.flush().exports.iter().map(|(key, _)| key.to_string()).collect();
        assert_eq!(exported, expected, "{export}");
        // What is not exported is named.
        assert_eq!(index.observed().left_out.len(), 6 - expected.len(), "{:?}", index.observed().left_out);
    };
    let all = ["bank/mcs", "bank/plain", "shop/plain", "shop/yes"];
    check(&json!({}), &all);
    check(&json!({ "mode": "opt-in" }), &["bank/mcs", "shop/yes"]);
    check(&json!({ "namespaces": { "allow": ["shop"] } }), &["shop/plain", "shop/yes"]);
    check(&json!({ "namespaces": { "allow": ["shop", "b*"], "deny": ["*a*"] } }), &["shop/plain", "shop/yes"]);
    let with_dns: Vec<_> = [&all[..2], &["kube-system/dns"], &all[2..]].concat();
    check(&json!({ "namespaces": { "deny": [] } }), &with_dns);
    check(&json!({ "mode": "all", "namespaces": { "allow": [] } }), &all);
}

#[test]
fn every_rule_has_its_reason() {
    let check = |service: &Object, others: &[Object], export: &serde_json::Value, reason: &str| {
        let mut index = index(Locality::default(), others);
        index.set_rules(rules(export));
        index.apply(service);
        let said = left_out(&mut index);
        assert_eq!(said.first().map_or("", |said| said.split_once(": ").unwrap().1), reason);
    };
    let plain = asking("shop", "web", "", "ClusterIP");
    let asked = asking("shop", "web", "true", "ClusterIP");
    let denied = namespace("shop", &json!({ "federator.io/export": "false" }));
    let none = json!({});
    let opt_in = json!({ "mode": "opt-in" });
    check(&plain, &[], &none, "");
    check(
        &plain,
        &[],
        &opt_in,
        "export.mode is opt-in: annotate federator.io/export: \"true\", or make a ServiceExport",
    );
    check(&asked, &[], &opt_in, "");
    check(&plain, &[service_export("shop", "web")], &opt_in, "");
    check(&asking("shop", "web", "false", "ClusterIP"), &[], &none, "annotated federator.io/export: \"false\"");
    check(&asked, &[denied], &none, "its namespace is labelled federator.io/export: \"false\"");
    check(
        &asking("kube-system", "dns", "true", "ClusterIP"),
        &[],
        &none,
        "export.namespaces: namespaces `kube-*` are denied",
    );
    check(
        &asked,
        &[],
        &json!({ "namespaces": { "allow": ["bank"] } }),
        "export.namespaces: its namespace is not among those that are allowed",
    );
    let mut local = json!({ "metadata": { "namespace": "shop", "name": "web" } });
    local["spec"] = json!({ "internalTrafficPolicy": "Local" });
    let local = |annotation: &str| {
        let mut local = local.clone();
        local["metadata"]["annotations"] = json!({ "federator.io/export": annotation });
        Object::Service(serde_json::from_value(local).unwrap())
    };
    let reason =
        "internalTrafficPolicy is Local: it is for clients on its node (annotate federator.io/export: \"true\")";
    check(&local(""), &[], &none, reason);
    check(&local("true"), &[], &none, "");
    check(&local(""), &[service_export("shop", "web")], &none, "");
}

#[test]
fn what_is_missing_of_ambient_namespaces_is_said_where_something_is_exported() {
    let ambient = |name: &str| namespace(name, &json!({ "istio.io/dataplane-mode": "ambient" }));
    let mut index = index(Locality::default(), &[ambient("empty"), asking("shop", "web", "", "ClusterIP")]);
    let mut said = |objects: &[Object]| {
        objects.iter().for_each(|object| index.apply(object));
        index.flush().conditions.get(Reason::AmbientUnsupported).map(str::to_owned)
    };
    assert_eq!(said(&[]), None);
    // Who has not seen everything is not taken for somebody who has, by a condition.
    assert_eq!(said(&[ambient("shop")]), None);
    assert!(!index.flush().settled());
    index.observed().synced = true;
    let mut said = |objects: &[Object]| {
        objects.iter().for_each(|object| index.apply(object));
        index.flush().conditions.get(Reason::AmbientUnsupported).map(str::to_owned)
    };
    let named =
        |said: Option<String>| said.and_then(|said| Some(said.split_once(" are in ambient mode")?.0.to_owned()));
    assert_eq!(named(said(&[ambient("shop")])).as_deref(), Some("namespaces shop"));
    let more: Vec<_> =
        ["a", "b", "c"].into_iter().flat_map(|n| [ambient(n), asking(n, "web", "", "ClusterIP")]).collect();
    assert_eq!(named(said(&more)).as_deref(), Some("namespaces a, b, c and 1 more"));
    assert_eq!(said(&["a", "b", "c", "shop"].map(|name| namespace(name, &json!({})))), None);
}

#[test]
fn new_rules_touch_only_what_they_decide_otherwise() {
    let mut index = index(
        Locality::default(),
        &[asking("shop", "a", "true", "ClusterIP"), service("b"), asking("bank", "c", "", "ClusterIP")],
    );
    let mut seen = 0;
    assert_eq!(changed(&mut index, &mut seen), ["c", "a", "b"]);
    index.set_rules(rules(&json!({ "mode": "opt-in" })));
    assert_eq!(index.dirty.len(), 2, "what asks is not looked at");
    assert_eq!(changed(&mut index, &mut seen), ["c", "b"]);
    index.apply(&namespace("shop", &json!({ "federator.io/export": "false" })));
    assert_eq!(changed(&mut index, &mut seen), ["a"]);
    index.delete(&namespace("shop", &json!({})).name());
    index.apply(&service_export("shop", "b"));
    assert_eq!(changed(&mut index, &mut seen), ["a", "b"]);
}

#[test]
fn what_cannot_be_read_is_said_before_what_the_rules_say() {
    let mut index = index(Locality::default(), &[asking("kube-system", "dns", "", "ClusterIP")]);
    let name = asking("kube-system", "dns", "", "").name();
    index.leave_out(&name, Some("malformed".to_owned()));
    assert_eq!(left_out(&mut index), ["Service kube-system/dns: malformed"]);
    index.leave_out(&name, None);
    assert_eq!(left_out(&mut index), ["Service kube-system/dns: export.namespaces: namespaces `kube-*` are denied"]);
    index.delete(&name);
    assert_eq!(left_out(&mut index), [""; 0]);
}

#[test]
fn entries_are_endpoints_of_the_services_that_select_them() {
    let mut index = index(
        Locality::new("d", "", ""),
        &[service("a"), service("b"), slice("a", "x", &[("10.1.0.1", "", "")]), entry("a", "vm", "n2")],
    );
    let exported = export(&mut index, "a").unwrap();
    assert_eq!(exported.slices.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["WorkloadEntry/vm", "x"]);
    assert_eq!(exported.ready(), 2);
    let slice = exported.slices.get("WorkloadEntry/vm").unwrap();
    let found = &slice.endpoints[0];
    assert_eq!((found.network.clone(), found.locality.to_string()), (Some(Network::new("n2")), "d".to_owned()));
    assert_eq!((&*found.workload.service_account, slice.ports[0].number), ("vm", 8080));
    let mut seen = 0;
    assert_eq!(changed(&mut index, &mut seen), ["a", "b"]);
    index.apply(&entry("a", "vm", "n2"));
    assert!(index.dirty.is_empty(), "nothing new");
    index.apply(&entry("b", "vm", "n2"));
    assert_eq!(changed(&mut index, &mut seen), ["a", "b"]);
    index.delete(&entry("", "vm", "").name());
    assert_eq!(changed(&mut index, &mut seen), ["b"]);
    // One that is nobody's endpoint is named.
    let empty = json!({ "metadata": { "namespace": "shop", "name": "vm" }, "spec": { "network": "n2" } });
    index.apply(&Object::WorkloadEntry(serde_json::from_value(empty).unwrap()));
    assert_eq!(
        left_out(&mut index),
        ["WorkloadEntry shop/vm: no address: it is reached through the gateways of its network alone"]
    );
}

#[test]
fn a_pod_says_what_its_endpoints_are() {
    let endpoints = [("10.1.0.1", "", "")];
    let mut index = index(
        Locality::default(),
        &[service("a"), service("b"), slice("a", "x", &endpoints), slice("b", "y", &[("10.1.0.2", "", "")])],
    );
    let mut seen = 0;
    assert_eq!(changed(&mut index, &mut seen), ["a", "b"]);
    assert!(first(&mut index, "a").workload.is_unknown());
    index.apply(&pod("10.1.0.1", "v1", "n2"));
    assert_eq!(changed(&mut index, &mut seen), ["a"]);
    let endpoint = first(&mut index, "a");
    assert_eq!((endpoint.network.clone(), &*endpoint.workload.labels["version"]), (Some(Network::new("n2")), "v1"));
    index.apply(&pod("10.1.0.1", "v1", "n2"));
    index.apply(&pod("elsewhere", "v1", "n2"));
    assert!(index.dirty.is_empty(), "nothing new");
    index.delete(&pod("10.1.0.1", "", "").name());
    assert_eq!(changed(&mut index, &mut seen), ["a"]);
    index.delete(&slice("a", "x", &[]).name());
    index.delete(&slice("b", "y", &[]).name());
    assert!(index.on_pod.is_empty(), "pods that come and go leave nothing");
}

#[test]
fn a_pod_that_takes_no_traffic_comes_and_goes_without_a_write() {
    let not_ready = json!({
        "metadata": { "namespace": "shop", "name": "x", "labels": { "kubernetes.io/service-name": "a" } },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": ["10.1.0.1"], "conditions": { "ready": false }, "targetRef": { "kind": "Pod", "name": "p" },
        }],
    });
    let slice = Object::EndpointSlice(serde_json::from_value(not_ready).unwrap());
    let mut index = index(Locality::default(), &[service("a"), slice]);
    let mut seen = 0;
    assert_eq!(changed(&mut index, &mut seen), ["a"]);
    index.apply(&pod("p", "v1", ""));
    assert_eq!(changed(&mut index, &mut seen), [""; 0]);
    index.delete(&pod("p", "v1", "").name());
    assert_eq!(changed(&mut index, &mut seen), [""; 0]);
}

#[test]
fn equal_workloads_and_texts_are_held_once() {
    let addresses: Vec<String> = (1..=50).map(|n| format!("10.1.0.{n}")).collect();
    let endpoints: Vec<_> = addresses.iter().map(|address| (address.as_str(), "n1", "z")).collect();
    let mut index = index(Locality::default(), &[service("a"), slice("a", "x", &endpoints)]);
    addresses.iter().for_each(|name| index.apply(&pod(name, "v1", "")));
    let export = export(&mut index, "a").unwrap();
    let all: Vec<_> = export.endpoints().map(|member| member.endpoint.clone()).collect();
    assert_eq!(all.len(), 50);
    assert!(all.iter().all(|endpoint| Arc::ptr_eq(&endpoint.workload, &all[0].workload)));
    assert!(all.iter().all(|endpoint| Arc::ptr_eq(&endpoint.locality.zone, &all[0].locality.zone)));
}

#[test]
fn the_network_is_the_root_namespaces_else_the_configured_one() {
    let mut index = index(Locality::default(), &[service("a"), slice("a", "x", &[("10.1.0.1", "", "")])]);
    index.set_root_namespace("mesh");
    index.set_network(Network::new("configured"));
    let mut seen = 0;
    assert_eq!(changed(&mut index, &mut seen), ["a"]);
    let label = |network: &str| json!({ "topology.istio.io/network": network });
    let mut check = |object: Result<Object, Object>, network: &str| {
        match object {
            Ok(object) => index.apply(&object),
            Err(gone) => index.delete(&gone.name()),
        }
        let observed = index.flush();
        assert_eq!(observed.meta.network.as_str(), network);
        assert_eq!(changed(&mut index, &mut seen), [""; 0], "it is the cluster's, not its services'");
    };
    check(Ok(namespace("istio-system", &label("other"))), "configured");
    check(Ok(namespace("mesh", &label("n1"))), "n1");
    check(Ok(namespace("mesh", &label("n2"))), "n2");
    check(Ok(namespace("mesh", &label(""))), "configured");
    check(Ok(namespace("mesh", &label("n3"))), "n3");
    check(Err(namespace("mesh", &json!({}))), "configured");
}

#[test]
fn where_it_is_not_known_where_endpoints_run_that_is_said_once() {
    let mut index = index(Locality::default(), &[service("a"), slice("a", "x", &[("10.1.0.1", "n1", "")])]);
    assert_eq!(left_out(&mut index), [""; 0], "nodes may be late");
    index.observed().synced = true;
    let said = |nodes: &str| {
        format!(
            "Locality: of endpoints on {nodes}: no label topology.kubernetes.io/region there, and no clusters[].locality"
        )
    };
    assert_eq!(left_out(&mut index), [said("1 nodes (n1)")]);
    index.apply(&node("n1", "", "z"));
    assert_eq!(left_out(&mut index), [said("1 nodes (n1)")]);
    let nodes: Vec<String> = (1..=4).map(|n| format!("n{n}")).collect();
    let endpoints: Vec<_> = nodes.iter().map(|name| ("10.1.0.1", name.as_str(), "")).collect();
    index.apply(&slice("a", "x", &endpoints));
    assert_eq!(left_out(&mut index), [said("4 nodes (n1, n2, n3, …)")]);
    (2..=4).for_each(|n| index.apply(&node(&format!("n{n}"), "eu", "")));
    assert_eq!(left_out(&mut index), [said("1 nodes (n1)")]);
    index.delete(&slice("a", "x", &[]).name());
    assert_eq!(left_out(&mut index), [""; 0]);
}

/// One step: an object, applied or deleted.
fn step() -> impl Strategy<Value = (Object, bool)> {
    let named = |names: &'static [&'static str]| prop::sample::select(names);
    let service = (
        named(&["shop", "bank", "kube-x"]),
        named(&["a", "b"]),
        named(&["", "true", "false"]),
        named(&["ClusterIP", "ExternalName"]),
    );
    let endpoint = (named(&["10.1.0.1", "10.1.0.2", "127.0.0.1"]), named(&["", "n1", "n2"]), named(&["", "z"]));
    let slice_of = (named(&["a", "b"]), named(&["x", "y"]), prop::collection::vec(endpoint, 0..3));
    let place = (named(&["n1", "n2"]), named(&["", "r1", "r2"]));
    let selected = (named(&["a", "b", "c"]), named(&["vm1", "vm2"]), named(&["", "m2"]));
    let pods = (named(&["10.1.0.1", "10.1.0.2", "p3"]), named(&["", "v1"]), named(&["", "m2"]));
    let labels = (named(&["shop", "bank", "istio-system"]), named(&["", "false"]), named(&["", "m3"]));
    let object = prop_oneof![
        3 => service.prop_map(|(namespace, name, annotation, kind)| asking(namespace, name, annotation, kind)),
        3 => slice_of.prop_map(|(of, name, endpoints)| slice(of, name, &endpoints)),
        1 => place.prop_map(|(name, region)| node(name, region, "")),
        2 => selected.prop_map(|(app, name, network)| entry(app, name, network)),
        2 => pods.prop_map(|(name, version, network)| pod(name, version, network)),
        1 => labels.prop_map(|(name, export, network)| {
            namespace(name, &json!({ "federator.io/export": export, "topology.istio.io/network": network }))
        }),
        1 => (named(&["shop", "bank"]), named(&["a", "b"])).prop_map(|(namespace, name)| service_export(namespace, name)),
    ];
    (object, any::<bool>())
}

/// Any rules.
fn any_rules() -> impl Strategy<Value = ExportRules> {
    let mode = prop::sample::select(&[ExportMode::All, ExportMode::OptIn][..]);
    let lists = |lists: [&'static str; 3]| {
        prop::sample::select(lists.map(|list| list.split_whitespace().collect::<Vec<_>>()).to_vec())
    };
    (mode, lists(["", "shop", "b* kube-*"]), lists(["", "bank", "kube-* *-system"])).prop_map(|(mode, allow, deny)| {
        let mut made = rules(&json!({ "namespaces": { "allow": allow, "deny": deny } }));
        made.mode = mode;
        made
    })
}

proptest! {
    #[test]
    fn any_way_to_the_same_objects_gives_the_same_exports(
        steps in prop::collection::vec((step(), any::<bool>(), prop::option::weighted(0.1, any_rules())), 0..60),
        located in any::<bool>(),
    ) {
        let default = if located { Locality::new("d", "", "") } else { Locality::default() };
        let fresh = |default: &Locality| {
            let mut index = index(default.clone(), &[]);
            index.set_root_namespace("istio-system");
            index.set_network(Network::new("configured"));
            index.observed().synced = true;
            index
        };
        let (mut by_steps, mut last, mut rules) = (fresh(&default), BTreeMap::new(), ExportRules::default());
        for ((object, applied), flushed, new_rules) in steps {
            if applied {
                by_steps.apply(&object);
                last.insert(object.name(), object);
            } else {
                by_steps.delete(&object.name());
                last.remove(&object.name());
            }
            if let Some(new_rules) = new_rules {
                rules = new_rules;
                by_steps.set_rules(rules.clone());
            }
            if flushed {
                by_steps.flush();
            }
        }
        // In another order too: of kinds, and of names.
        let mut at_once = fresh(&default);
        last.values().rev().for_each(|object| at_once.apply(object));
        at_once.set_rules(rules);
        let (one, other) = (by_steps.flush(), at_once.flush());
        prop_assert_eq!(
            one.exports.iter().collect::<Vec<_>>(),
            other.exports.iter().collect::<Vec<_>>()
        );
        prop_assert_eq!(one.left_out, other.left_out);
        prop_assert_eq!(one.meta, other.meta);
        prop_assert_eq!(&by_steps.on_node, &at_once.on_node);
        prop_assert_eq!(&by_steps.on_pod, &at_once.on_pod);
        prop_assert_eq!(&by_steps.of_service, &at_once.of_service);
        for kind in Kind::ALL {
            prop_assert_eq!(by_steps.names(kind), at_once.names(kind));
        }
    }
}
