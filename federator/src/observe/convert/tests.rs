//! Proves what is federated and what is not, each with its reason, and how conditions, addresses and ports are read.

use super::{
    node::{Node, node},
    pod::{Pod, SourcePod, pod},
    service::{SourceService, Target},
    slice::{PlacedEndpoint, SourceSlice, health, slice},
    workload_entry::{SourceEntry, WorkloadEntry, workload_entry},
    *,
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use model::{
    export::{
        Address, Affinity, AnswerMode, Answers, Exported, Family, Head, Health, Host, Hosts, Kind, Port, TargetPort,
        Texts, Traffic,
    },
    locality::Locality,
};
use serde_json::{Value, json};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const IMPORTED_LABEL: &str = "multicluster.kubernetes.io/service-name";

fn read(service: &Service) -> Result<(ServiceKey, SourceService), LeftOut> {
    service::service(service)
}

fn service(namespace: &str, name: &str, spec: Value) -> Service {
    annotated(namespace, name, json!({}), spec)
}

fn annotated(namespace: &str, name: &str, annotations: Value, spec: Value) -> Service {
    let mut service = json!({ "metadata": { "namespace": namespace, "name": name } });
    service["metadata"]["annotations"] = annotations;
    service["spec"] = spec;
    serde_json::from_value(service).unwrap()
}

fn web(labels: Value, rest: Value) -> EndpointSlice {
    let mut slice = json!({
        "metadata": { "namespace": "shop", "name": "web-1" },
        "addressType": "IPv4",
        "endpoints": [],
    });
    slice["metadata"]["labels"] = labels;
    if let (Value::Object(fields), Value::Object(rest)) = (&mut slice, rest) {
        fields.extend(rest);
    }
    serde_json::from_value(slice).unwrap()
}

#[test]
fn services_that_can_never_be_federated_each_have_a_reason() {
    let check = |service: &Service, reason: Option<LeftOut>| {
        assert_eq!(read(service).err(), reason, "{:?}", service.metadata);
    };
    let yes = json!({ EXPORT: "true" });
    check(&service("shop", "web", json!({})), None);
    check(&service("default", "kubernetes", json!({})), Some(LeftOut::ApiServer));
    check(&service("shop", "kubernetes", json!({})), None);
    check(
        &service("shop", "web", json!({ "type": "ExternalName", "externalName": "a.b" })),
        Some(LeftOut::ExternalName),
    );
    // What is never of the fleet is not made so by asking.
    check(&annotated("default", "kubernetes", yes, json!({})), Some(LeftOut::ApiServer));
    assert_eq!(read(&Service::default()).err(), Some(LeftOut::Unnamed));
    assert!(matches!(read(&service("shop", "a.b", json!({}))), Err(LeftOut::Name(_))));
}

#[test]
fn what_a_service_asks_for() {
    let check = |annotation: &str, policy: &str, annotated_so: Option<bool>, node_local: bool| {
        let spec = json!({ "internalTrafficPolicy": policy });
        let (_, read) = read(&annotated("shop", "web", json!({ EXPORT: annotation }), spec)).unwrap();
        assert_eq!(
            (read.annotated, read.head.traffic.node_local),
            (annotated_so, node_local),
            "{annotation:?} {policy:?}"
        );
    };
    check("", "Cluster", None, false);
    check("true", "Local", Some(true), true);
    check("false", "", Some(false), false);
    check("yes", "Local", None, true);
}

#[test]
fn every_reason_is_one_line() {
    for reason in [
        LeftOut::ApiServer,
        LeftOut::Namespace(Refusal::NotAllowed),
        LeftOut::NamespaceLabel,
        LeftOut::ExternalName,
        LeftOut::NodeLocal,
        LeftOut::Annotated,
        LeftOut::NotAsked,
        LeftOut::AddressType("X".to_owned()),
        LeftOut::NoService,
        LeftOut::Imported,
        LeftOut::NoAddress,
        LeftOut::UnixSocket,
        LeftOut::Address("x".to_owned()),
        LeftOut::Unnamed,
    ] {
        let text = reason.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
    }
}

#[test]
fn ports_lead_where_they_are_targeted() {
    for (target, expected) in [
        (json!(null), Target::Number(80)),
        (json!(0), Target::Number(80)),
        (json!(8080), Target::Number(8080)),
        (json!("http"), Target::Name("http".into())),
    ] {
        let spec = json!({ "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": target }] });
        let (_, read) = read(&service("shop", "web", spec)).unwrap();
        assert_eq!(read.targets, [expected]);
        assert_eq!(read.selector["app"], "web");
    }
}

#[test]
fn a_head_says_what_the_service_says() {
    let spec = json!({
        "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1", "fd00::1"],
        "sessionAffinity": "ClientIP",
        "ports": [
            { "name": "http", "port": 80, "appProtocol": "h2c" },
            { "name": "dns", "port": 53, "protocol": "UDP" },
            { "name": "none", "port": 0 },
            { "name": "many", "port": 70000 },
        ],
    });
    let mut service = service("shop", "web", spec);
    let time = serde_json::from_value(json!("1970-01-01T00:01:00Z")).unwrap();
    service.metadata.creation_timestamp = Some(time);
    let (key, SourceService { head, .. }) = read(&service).unwrap();
    let port = |name: &str, number, protocol, app: &str| Port {
        name: name.into(),
        number,
        protocol,
        app_protocol: app.into(),
    };
    assert_eq!(key.to_string(), "shop/web");
    assert_eq!(
        *head,
        Head {
            kind: Kind::ClusterIp,
            ports: [port("http", 80, Protocol::Tcp, "h2c"), port("dns", 53, Protocol::Udp, "")].into(),
            cluster_ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            families: [Family::V4, Family::V6].into_iter().collect(),
            traffic: Traffic { affinity: Affinity::ClientIp { seconds: 10_800 }, ..Traffic::default() },
            exported: Exported::none(),
            hosts: Hosts::none(),
            answers: Answers::default(),
            created: 60,
        }
    );
}

#[test]
fn hosts_are_asked_for_by_annotations() {
    let many: Vec<String> = (0..65).map(|n| format!("a{n}.example.com")).collect();
    for (annotations, aliases, per_cluster, trouble) in [
        (json!({}), &[][..], false, ""),
        (json!({ ALIASES: "" }), &[], false, ""),
        (
            json!({ ALIASES: "b.example.com, a.example.com\n A.example.com." }),
            &["a.example.com", "b.example.com"],
            false,
            "",
        ),
        (json!({ ALIASES: "a.example.com,,b", CLUSTER_HOST: "true" }), &["a.example.com"], true, "`b` is no DNS name"),
        (json!({ ALIASES: "web.shop.svc.cluster.local" }), &[], false, "each cluster's own"),
        (json!({ ALIASES: many.join(",") }), &[], false, "65 aliases"),
        (json!({ CLUSTER_HOST: "yes" }), &[], false, ""),
    ] {
        let mut object = service("shop", "web", json!({}));
        object.metadata.annotations = serde_json::from_value(annotations.clone()).unwrap();
        let (_, SourceService { head, trouble: said, .. }) = read(&object).unwrap();
        let names: Vec<_> = head.hosts.aliases.iter().map(Host::as_str).collect();
        assert_eq!((&*names, head.hosts.per_cluster), (aliases, per_cluster), "{annotations}");
        let said = said.unwrap_or_default();
        assert!(said.is_empty() == trouble.is_empty() && said.contains(trouble), "{said}");
    }
}

#[test]
fn answers_are_asked_for_by_annotations() {
    for (annotations, mode, ttl, trouble) in [
        (json!({}), None, None, ""),
        (json!({ ANSWER_MODE: "vip", ANSWER_TTL: "0" }), Some(AnswerMode::Vip), Some(0), ""),
        (json!({ ANSWER_MODE: "cluster", ANSWER_TTL: "86400" }), Some(AnswerMode::Cluster), Some(86_400), ""),
        (json!({ ANSWER_MODE: "VIP", ANSWER_TTL: "30" }), None, Some(30), "`VIP` is none of endpoints, vip, cluster"),
        (json!({ ANSWER_MODE: "endpoints", ANSWER_TTL: "86401" }), Some(AnswerMode::Endpoints), None, "0 to 86400"),
        (json!({ ANSWER_TTL: "5s", ALIASES: "b" }), None, None, "`b` is no DNS name"),
        (json!({ ANSWER_TTL: "-1", ALIASES: "b" }), None, None, "dns-ttl: `-1`"),
    ] {
        let mut object = service("shop", "web", json!({}));
        object.metadata.annotations = serde_json::from_value(annotations.clone()).unwrap();
        let (_, SourceService { head, trouble: said, .. }) = read(&object).unwrap();
        assert_eq!(head.answers, Answers { mode, ttl }, "{annotations}");
        let said = said.unwrap_or_default();
        assert!(said.is_empty() == trouble.is_empty() && said.contains(trouble), "{said}");
    }
}

#[test]
fn traffic_is_spread_as_the_service_says() {
    let affinity = |seconds: Value| json!({ "sessionAffinity": "ClientIP", "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": seconds } } });
    let kept = |seconds| Traffic { affinity: Affinity::ClientIp { seconds }, ..Traffic::default() };
    let to = |text: &str| Traffic { distribution: Some(text.into()), ..Traffic::default() };
    for (spec, expected) in [
        (json!({}), Traffic::default()),
        (json!({ "sessionAffinity": "None" }), Traffic::default()),
        (json!({ "sessionAffinity": "ClientIP" }), kept(10_800)),
        (affinity(json!(60)), kept(60)),
        (affinity(json!(86_400)), kept(86_400)),
        (affinity(json!(null)), kept(10_800)),
        // No API server lets these in; a directory has none.
        (affinity(json!(0)), kept(10_800)),
        (affinity(json!(-1)), kept(10_800)),
        (affinity(json!(86_401)), kept(10_800)),
        (json!({ "internalTrafficPolicy": "Cluster" }), Traffic::default()),
        (json!({ "internalTrafficPolicy": "Local" }), Traffic { node_local: true, ..Traffic::default() }),
        (json!({ "trafficDistribution": "PreferSameZone" }), to("PreferSameZone")),
        (json!({ "trafficDistribution": "" }), Traffic::default()),
        (json!({ "trafficDistribution": "two words" }), Traffic::default()),
    ] {
        let (_, SourceService { head, .. }) = read(&service("shop", "web", spec.clone())).unwrap();
        assert_eq!(head.traffic, expected, "{spec}");
    }
}

#[test]
fn families_are_what_the_service_says_and_else_what_its_addresses_are() {
    for (spec, expected) in [
        (json!({}), ""),
        (json!({ "clusterIP": "None", "ipFamilies": ["IPv6", "IPv4"] }), "IPv6,IPv4"),
        (json!({ "clusterIP": "None", "ipFamilies": ["IPv4", "IPv4", "IPv9"] }), "IPv4"),
        (json!({ "clusterIP": "None" }), ""),
        (json!({ "clusterIP": "10.0.0.1" }), "IPv4"),
        (json!({ "clusterIPs": ["fd00::1", "10.0.0.1"] }), "IPv6,IPv4"),
        (json!({ "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"] }), "IPv4"),
    ] {
        let (_, SourceService { head, .. }) = read(&service("shop", "web", spec.clone())).unwrap();
        assert_eq!(head.families.to_string(), expected, "{spec}");
    }
}

#[test]
fn a_service_export_says_what_is_said_elsewhere_or_why_nothing_is() {
    let check = |object: Value, labels: &[&str], annotations: &[&str], refused: &str| {
        let (exported, reason) = service_export::exported(&serde_json::from_value(object.clone()).unwrap());
        let shown = |texts: &Texts| texts.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        assert_eq!(
            (shown(&exported.labels), shown(&exported.annotations)),
            (labels.iter().map(ToString::to_string).collect(), annotations.iter().map(ToString::to_string).collect())
        );
        assert_eq!(reason.map(|reason| reason.to_string()).unwrap_or_default(), refused, "{object}");
    };
    // What is said of the object itself stays at home.
    let own = json!({ "name": "web", "labels": { "team": "shop" }, "annotations": { "note": "n" } });
    check(json!({ "metadata": own }), &[], &[], "");
    check(json!({ "metadata": own, "spec": null }), &[], &[], "");
    check(json!({ "metadata": own, "spec": { "exportedLabels": null } }), &[], &[], "");
    let spec = json!({ "exportedLabels": { "team": "bank" }, "exportedAnnotations": { "note": "two words" } });
    check(json!({ "metadata": own, "spec": spec }), &["team=bank"], &["note=two words"], "");
    let spec = json!({ "exportedLabels": { "team": "a b" }, "exportedAnnotations": { "note": "n" } });
    check(json!({ "metadata": own, "spec": spec }), &[], &[], "`team=a b` cannot be a label");
}

#[test]
fn a_service_without_an_address_is_headless() {
    for (spec, kind, ips) in [
        (json!({ "clusterIP": "None", "clusterIPs": ["None"] }), Kind::Headless, 0),
        (json!({ "clusterIP": "10.0.0.1" }), Kind::ClusterIp, 1),
        (json!({ "clusterIP": "" }), Kind::ClusterIp, 0),
        (json!({}), Kind::ClusterIp, 0),
    ] {
        let (_, SourceService { head, .. }) = read(&service("shop", "web", spec.clone())).unwrap();
        assert_eq!((head.kind, head.cluster_ips.len()), (kind, ips), "{spec}");
    }
}

#[test]
fn slices_that_are_left_out_each_have_a_reason() {
    let check = |labels: Value, rest: Value, reason: Option<LeftOut>| {
        assert_eq!(slice(&web(labels.clone(), rest)).err(), reason, "{labels}");
    };
    let of_web = json!({ SERVICE_NAME_LABEL: "web" });
    check(of_web.clone(), json!({}), None);
    check(of_web.clone(), json!({ "addressType": "IPv6" }), None);
    check(of_web.clone(), json!({ "addressType": "FQDN" }), None);
    check(of_web, json!({ "addressType": "IPX" }), Some(LeftOut::AddressType("IPX".to_owned())));
    check(json!({}), json!({}), Some(LeftOut::NoService));
    // Imported ones carry both labels in some implementations, and the second alone in others.
    check(json!({ IMPORTED_LABEL: "web" }), json!({}), Some(LeftOut::Imported));
    check(json!({ IMPORTED_LABEL: "web", SERVICE_NAME_LABEL: "derived-1" }), json!({}), Some(LeftOut::Imported));
}

#[test]
fn health_is_read_from_conditions() {
    let check = |conditions: Value, expected: Health| {
        let endpoint = json!({ "addresses": ["10.1.0.1"], "conditions": conditions });
        let endpoint = serde_json::from_value(endpoint).unwrap();
        assert_eq!(health(&endpoint), expected, "{conditions}");
    };
    check(json!(null), Health::Ready);
    check(json!({}), Health::Ready);
    check(json!({ "ready": true }), Health::Ready);
    check(json!({ "ready": false }), Health::NotReady);
    check(json!({ "ready": false, "serving": true, "terminating": true }), Health::Draining);
    check(json!({ "ready": false, "serving": false, "terminating": true }), Health::NotReady);
    check(json!({ "ready": false, "terminating": true }), Health::NotReady);
    check(json!({ "ready": false, "serving": true }), Health::NotReady);
    // `publishNotReadyAddresses` makes terminating ones ready.
    check(json!({ "ready": true, "serving": true, "terminating": true }), Health::Ready);
}

#[test]
fn the_first_address_counts_and_only_one_that_can_be_another_machines() {
    let endpoints = json!([
        {
            "addresses": ["10.1.0.1", "10.1.0.2"], "hostname": "web-0", "nodeName": "n1", "zone": "z1",
            "targetRef": { "kind": "Pod", "name": "web-0", "namespace": "shop" },
        },
        { "addresses": [] },
        { "addresses": ["127.0.0.1"] },
        { "addresses": ["169.254.169.254"] },
        { "addresses": ["nonsense"] },
    ]);
    let ports = json!([
        { "name": "http", "port": 8080, "protocol": "TCP" },
        { "name": "all" },
        { "port": 53, "protocol": "UDP" },
    ]);
    let labels = json!({ SERVICE_NAME_LABEL: "web" });
    let read = slice(&web(labels, json!({ "endpoints": endpoints, "ports": ports }))).unwrap();
    let target = |name: &str, number, protocol| TargetPort { name: name.into(), number, protocol };
    assert_eq!(
        read,
        SourceSlice {
            service: ServiceKey::parse("shop", "web").unwrap(),
            ports: vec![target("http", 8080, Protocol::Tcp), target("", 53, Protocol::Udp)],
            endpoints: vec![PlacedEndpoint {
                address: Address::parse_ip("10.1.0.1").unwrap(),
                health: Health::Ready,
                hostname: "web-0".into(),
                node: "n1".into(),
                zone: "z1".into(),
                pod: "shop/web-0".into(),
            }],
            refused: ["127.0.0.1", "169.254.169.254", "nonsense"].map(str::to_owned).to_vec(),
        }
    );
}

#[test]
fn slices_of_any_manager_are_read() {
    let labels = json!({ SERVICE_NAME_LABEL: "web", "endpointslice.kubernetes.io/managed-by": "me" });
    let check = |family: &str, endpoint: Value, expected: &[&str], refused: &[&str]| {
        let read = slice(&web(labels.clone(), json!({ "addressType": family, "endpoints": [endpoint] }))).unwrap();
        let shown = |placed: &PlacedEndpoint| format!("{} {} {:?}", placed.address, placed.health, placed.pod);
        assert_eq!(read.endpoints.iter().map(shown).collect::<Vec<_>>(), expected);
        assert_eq!(read.refused, refused);
    };
    check("IPv4", json!({ "addresses": ["10.1.0.1"] }), &["10.1.0.1 ready \"\""], &[]);
    check("IPv6", json!({ "addresses": ["fd00::1"], "conditions": {} }), &["fd00::1 ready \"\""], &[]);
    check("FQDN", json!({ "addresses": ["DB.example."] }), &["db.example ready \"\""], &[]);
    check("FQDN", json!({ "addresses": ["localhost"] }), &[], &["localhost"]);
    check("FQDN", json!({ "addresses": ["10.1.0.1"] }), &[], &["10.1.0.1"]);
    check("IPv4", json!({ "addresses": ["db.example"] }), &[], &["db.example"]);
    // Only a pod is joined, by its name; where no namespace is given it is the slice's.
    let target = |target: Value| json!({ "addresses": ["10.1.0.1"], "targetRef": target });
    check("IPv4", target(json!({ "kind": "Pod", "name": "p" })), &["10.1.0.1 ready \"shop/p\""], &[]);
    check("IPv4", target(json!({ "kind": "Node", "name": "n" })), &["10.1.0.1 ready \"\""], &[]);
    check("IPv4", target(json!({ "kind": "Pod" })), &["10.1.0.1 ready \"\""], &[]);
}

#[test]
fn a_node_is_where_its_labels_say() {
    let check = |labels: Value, expected: Locality| {
        let found = serde_json::from_value(json!({ "metadata": { "name": "n1", "labels": labels } })).unwrap();
        assert_eq!(node(&found).locality, expected, "{labels}");
    };
    let (region, zone) = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone");
    let (old_region, old_zone) = ("failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone");
    let eu = Locality::new("eu", "eu-a", "");
    check(
        json!({ region: "eu", zone: "eu-a", "topology.istio.io/subzone": "rack" }),
        Locality::new("eu", "eu-a", "rack"),
    );
    check(json!({ old_region: "eu", old_zone: "eu-a" }), eu.clone());
    check(json!({ old_region: "old", old_zone: "eu-a", region: "eu" }), eu.clone());
    check(json!({ region: "", old_region: "eu", zone: "eu-a" }), eu);
    assert!(node(&Node::default()).locality.is_unknown());
}

#[test]
fn a_namespace_may_name_a_network_and_keep_out() {
    let check = |labels: Value, network: Option<&str>, denied: bool| {
        let meta = serde_json::from_value(json!({ "name": "shop", "labels": labels })).unwrap();
        let read = namespace::namespace(&meta);
        assert_eq!((read.network, read.denied), (network.map(Network::new), denied), "{labels}");
    };
    check(json!(null), None, false);
    check(json!({ NETWORK_LABEL: "n1" }), Some("n1"), false);
    check(json!({ NETWORK_LABEL: "", EXPORT: "false" }), None, true);
    check(json!({ EXPORT: "true" }), None, false);
    for (mode, ambient) in [("ambient", true), ("none", false)] {
        let meta = serde_json::from_value(json!({ "labels": { "istio.io/dataplane-mode": mode } })).unwrap();
        assert_eq!(namespace::namespace(&meta).ambient, ambient);
    }
}

#[test]
fn of_a_pod_only_what_is_used_is_read() {
    let text = json!({
        "metadata": {
            "name": "web-0",
            "namespace": "shop",
            "uid": "u",
            "resourceVersion": "7",
            "labels": {
                "app": "web",
                "version": "v1",
                NETWORK_LABEL: "n2",
                TLS_MODE_LABEL: "istio",
                "pod-template-hash": { "not": "even a text" },
            },
            "annotations": { "large": "x" },
            "managedFields": [{ "manager": "kubelet" }],
        },
        "spec": { "serviceAccountName": "web", "containers": "whatever" },
        "status": 7,
    });
    // As an API server sends it, and as a manifest gives it.
    for whole in [serde_json::from_str::<Pod>(&text.to_string()).unwrap(), serde_json::from_value(text).unwrap()] {
        let kept = whole.metadata.labels.clone().unwrap();
        assert_eq!(kept.keys().collect::<Vec<_>>(), [TLS_MODE_LABEL, NETWORK_LABEL, "version"]);
        assert_eq!((&whole.metadata.annotations, &whole.metadata.managed_fields), (&None, &None));
        assert_eq!(whole.metadata.resource_version.as_deref(), Some("7"));
        let labels = [("version".into(), "v1".into()), (TLS_MODE_LABEL.into(), "istio".into())].into();
        let workload = Arc::new(Workload { labels, service_account: "web".into() });
        assert_eq!(pod(&whole), SourcePod { network: Some(Network::new("n2")), workload });
    }
    let bare: Pod = serde_json::from_value(json!({ "metadata": { "name": "x", "labels": null } })).unwrap();
    assert_eq!(pod(&bare), SourcePod { network: None, workload: Workload::unknown() });
}

/// A WorkloadEntry with this annotation and spec besides its address.
fn entry(meta: Value, spec: Value, conditions: &Value) -> Result<SourceEntry, LeftOut> {
    let mut entry = json!({
        "metadata": { "namespace": "shop", "name": "vm-1" },
        "spec": { "address": "10.9.0.1" },
        "status": { "conditions": conditions },
    });
    for (part, more) in [("metadata", meta), ("spec", spec)] {
        if let (Value::Object(fields), Value::Object(more)) = (&mut entry[part], more) {
            fields.extend(more);
        }
    }
    let entry: WorkloadEntry = serde_json::from_value(entry).unwrap();
    workload_entry(&entry)
}

#[test]
fn entries_are_where_they_say() {
    let check = |spec: Value, expected: Result<&str, LeftOut>| {
        let read = entry(json!({}), spec, &json!([]));
        let network = |read: &SourceEntry| read.network.as_ref().map(|n| format!("@{n}")).unwrap_or_default();
        let shown = read.map(|read| format!("{}{} {}", read.address, network(&read), read.locality));
        assert_eq!(shown, expected.map(str::to_owned));
    };
    check(json!({}), Ok("10.9.0.1 "));
    check(json!({ "locality": "eu/eu-a/rack" }), Ok("10.9.0.1 eu/eu-a/rack"));
    check(json!({ "locality": "eu" }), Ok("10.9.0.1 eu"));
    check(json!({ "locality": "eu/eu-a/rack/more" }), Ok("10.9.0.1 eu/eu-a/rack"));
    check(json!({ "locality": "//" }), Ok("10.9.0.1 "));
    check(json!({ "network": "n2", "labels": { NETWORK_LABEL: "n3" } }), Ok("10.9.0.1@n2 "));
    check(json!({ "labels": { NETWORK_LABEL: "n3" } }), Ok("10.9.0.1@n3 "));
    check(json!({ "address": "VM.example" }), Ok("vm.example "));
    check(json!({ "address": "", "network": "n2" }), Err(LeftOut::NoAddress));
    check(json!({ "address": "unix:///run/x" }), Err(LeftOut::UnixSocket));
    check(json!({ "address": "127.0.0.1" }), Err(LeftOut::Address("127.0.0.1".to_owned())));
    check(json!({ "address": "vm" }), Err(LeftOut::Address("vm".to_owned())));
}

#[test]
fn what_is_no_label_is_not_passed_on() {
    let spec = json!({ "labels": { "version": "one and a half", "service.istio.io/canonical-revision": "v1" } });
    let read = entry(json!({}), spec, &json!([])).unwrap();
    assert_eq!(
        read.workload.labels.keys().map(|key| &**key).collect::<Vec<_>>(),
        ["service.istio.io/canonical-revision"]
    );
}

#[test]
fn an_entry_with_an_identity_takes_mutual_tls_unless_it_says_otherwise() {
    let check = |spec: Value, mode: Option<&str>| {
        let read = entry(json!({ "labels": { "version": "v2" } }), spec, &json!([])).unwrap();
        assert_eq!(read.workload.labels.get(TLS_MODE_LABEL).map(|mode| &**mode), mode);
        assert_eq!(&*read.workload.labels["version"], "v2");
    };
    check(json!({}), None);
    check(json!({ "serviceAccount": "vm" }), Some("istio"));
    check(json!({ "serviceAccount": "vm", "labels": { TLS_MODE_LABEL: "disabled" } }), Some("disabled"));
}

#[test]
fn an_entry_takes_traffic_once_it_is_probed_and_while_it_is_connected() {
    let check = |annotations: Value, conditions: Value, expected: Health| {
        let read = entry(json!({ "annotations": annotations }), json!({}), &conditions).unwrap();
        assert_eq!(read.health, expected, "{annotations} {conditions}");
    };
    let healthy =
        |status: &str| json!([{ "type": "Other", "status": "True" }, { "type": "Healthy", "status": status }]);
    let probed = json!({ "proxy.istio.io/health-checks-enabled": "true" });
    check(json!({}), json!([]), Health::Ready);
    // What nobody probes, nobody found unhealthy.
    check(json!({}), healthy("False"), Health::Ready);
    check(json!({ "proxy.istio.io/health-checks-enabled": "false" }), json!([]), Health::Ready);
    check(probed.clone(), json!([]), Health::NotReady);
    check(probed.clone(), healthy("False"), Health::NotReady);
    check(probed.clone(), healthy("Unknown"), Health::NotReady);
    check(probed, healthy("True"), Health::Ready);

    let registered = |connected: &str, disconnected: &str| {
        let mut annotations = json!({ "istio.io/autoRegistrationGroup": "vms" });
        for (name, time) in [("istio.io/connectedAt", connected), ("istio.io/disconnectedAt", disconnected)] {
            if !time.is_empty() {
                annotations[name] = time.into();
            }
        }
        annotations
    };
    let (early, late) = ("2026-01-02T03:04:05.1Z", "2026-01-02T05:04:06+01:00");
    check(registered(early, ""), json!([]), Health::Ready);
    check(registered("", late), json!([]), Health::NotReady);
    check(registered(early, late), json!([]), Health::NotReady);
    check(registered(late, early), json!([]), Health::Ready);
    check(registered(early, "nonsense"), json!([]), Health::Ready);
    // An entry that somebody wrote stays what they wrote.
    check(json!({ "istio.io/disconnectedAt": late }), json!([]), Health::Ready);
}

#[test]
fn entries_serve_the_ports_of_the_services_that_select_them() {
    let check = |service_spec: Value, entry_spec: Value, expected: Option<&[&str]>| {
        let (_, service) = read(&service("shop", "web", service_spec)).unwrap();
        let entry = entry(json!({ "labels": { "tier": "vm" } }), entry_spec, &json!([])).unwrap();
        let shown = |port: TargetPort| format!("{}:{}/{}", port.name, port.number, port.protocol);
        let served = entry.serves(&service).map(|ports| ports.into_iter().map(shown).collect::<Vec<_>>());
        assert_eq!(served, expected.map(|ports| ports.iter().map(ToString::to_string).collect()));
    };
    let spec = |selector: Value, ports: Value| json!({ "clusterIP": "10.0.0.1", "selector": selector, "ports": ports });
    let app = json!({ "app": "web" });
    let labels = |ports: Value| json!({ "labels": { "app": "web" }, "ports": ports });
    let http = json!([{ "name": "http", "port": 80, "targetPort": 8080 }]);
    let named = json!([{ "name": "http", "port": 80, "targetPort": "web" }]);

    // Labels of the entry and of its metadata count together.
    check(spec(app.clone(), http.clone()), labels(json!({})), Some(&["http:8080/TCP"]));
    check(spec(json!({ "app": "web", "tier": "vm" }), http.clone()), labels(json!({})), Some(&["http:8080/TCP"]));
    check(spec(json!({ "app": "api" }), http.clone()), labels(json!({})), None);
    check(spec(json!({}), http.clone()), labels(json!({})), None);
    // A number is overridden by the service port's own name.
    check(spec(app.clone(), http.clone()), labels(json!({ "http": 9 })), Some(&["http:9/TCP"]));
    check(spec(app.clone(), http.clone()), labels(json!({ "web": 9 })), Some(&["http:8080/TCP"]));
    check(spec(app.clone(), json!([{ "port": 80 }])), labels(json!({ "http": 9 })), Some(&[":80/TCP"]));
    // A name has to be there.
    check(spec(app.clone(), named.clone()), labels(json!({ "web": 9 })), Some(&["http:9/TCP"]));
    check(spec(app.clone(), named), labels(json!({ "http": 9 })), None);
    let both = json!([{ "name": "a", "port": 1, "targetPort": "a" }, { "name": "b", "port": 2, "protocol": "UDP" }]);
    check(spec(app.clone(), both), labels(json!({})), Some(&["b:2/UDP"]));
    // Istio adds none to a headless service.
    check(json!({ "clusterIP": "None", "selector": app, "ports": http }), labels(json!({})), None);
}
