//! Proves what is federated and what is not, each with its reason, and how conditions, addresses and ports are read.

use super::*;
use serde_json::{Value, json};

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
fn services_that_are_left_out_each_have_a_reason() {
    let check = |service: &Service, reason: Option<LeftOut>| {
        assert_eq!(head(service).err(), reason, "{:?}", service.metadata);
    };
    let yes = json!({ EXPORT_ANNOTATION: "true" });
    let no = json!({ EXPORT_ANNOTATION: "false" });
    let local = json!({ "internalTrafficPolicy": "Local" });
    check(&service("shop", "web", json!({})), None);
    check(&service("shop", "web", json!({ "internalTrafficPolicy": "Cluster" })), None);
    check(&service("default", "kubernetes", json!({})), Some(LeftOut::ApiServer));
    check(&service("shop", "kubernetes", json!({})), None);
    for system in ["kube-system", "kube-public", "istio-system"] {
        check(&service(system, "web", json!({})), Some(LeftOut::SystemNamespace));
    }
    for ordinary in ["kube", "system", "kubernetes", "systems"] {
        check(&service(ordinary, "web", json!({})), None);
    }
    check(
        &service("shop", "web", json!({ "type": "ExternalName", "externalName": "a.b" })),
        Some(LeftOut::ExternalName),
    );
    check(&service("shop", "web", local.clone()), Some(LeftOut::NodeLocal));
    check(&annotated("shop", "web", yes.clone(), local), None);
    check(&annotated("shop", "web", no, json!({})), Some(LeftOut::Annotated));
    // What is never of the fleet is not made so by asking.
    check(&annotated("default", "kubernetes", yes, json!({})), Some(LeftOut::ApiServer));
    assert_eq!(head(&Service::default()).err(), Some(LeftOut::Unnamed));
    assert!(matches!(head(&service("shop", "a.b", json!({}))), Err(LeftOut::Name(_))));
}

#[test]
fn every_reason_is_one_line() {
    for reason in [
        LeftOut::ApiServer,
        LeftOut::SystemNamespace,
        LeftOut::ExternalName,
        LeftOut::NodeLocal,
        LeftOut::Annotated,
        LeftOut::AddressType("FQDN".to_owned()),
        LeftOut::NoService,
        LeftOut::Imported,
        LeftOut::Unnamed,
    ] {
        let text = reason.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
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
    let (key, head) = head(&service).unwrap();
    let port = |name: &str, number, protocol, app: &str| Port {
        name: name.into(),
        number,
        protocol,
        app_protocol: app.into(),
    };
    assert_eq!(key.to_string(), "shop/web");
    assert_eq!(
        head,
        Head {
            kind: Kind::ClusterIp,
            ports: vec![port("http", 80, Protocol::Tcp, "h2c"), port("dns", 53, Protocol::Udp, "")],
            cluster_ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            client_ip_affinity: true,
            created: 60,
        }
    );
}

#[test]
fn a_service_without_an_address_is_headless() {
    for (spec, kind, ips) in [
        (json!({ "clusterIP": "None", "clusterIPs": ["None"] }), Kind::Headless, 0),
        (json!({ "clusterIP": "10.0.0.1" }), Kind::ClusterIp, 1),
        (json!({ "clusterIP": "" }), Kind::ClusterIp, 0),
        (json!({}), Kind::ClusterIp, 0),
    ] {
        let (_, head) = head(&service("shop", "web", spec.clone())).unwrap();
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
    check(of_web, json!({ "addressType": "FQDN" }), Some(LeftOut::AddressType("FQDN".to_owned())));
    check(json!({}), json!({}), Some(LeftOut::NoService));
    // Imported ones carry both labels in some implementations, and the second alone in others.
    check(json!({ IMPORTED_LABEL: "web" }), json!({}), Some(LeftOut::Imported));
    check(json!({ IMPORTED_LABEL: "web", SERVICE_NAME_LABEL: "derived-1" }), json!({}), Some(LeftOut::Imported));
}

#[test]
fn health_is_read_from_conditions() {
    let check = |conditions: Value, health: Health| {
        let endpoint = json!({ "addresses": ["10.1.0.1"], "conditions": conditions });
        let endpoint = serde_json::from_value(endpoint).unwrap();
        let placed = placed(&endpoint, "10.1.0.1".parse().unwrap());
        assert_eq!(placed.health, health, "{conditions}");
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
        { "addresses": ["10.1.0.1", "10.1.0.2"], "hostname": "web-0", "nodeName": "n1", "zone": "z1" },
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
                address: "10.1.0.1".parse().unwrap(),
                health: Health::Ready,
                hostname: "web-0".into(),
                node: "n1".into(),
                zone: "z1".into(),
            }],
            refused: ["127.0.0.1", "169.254.169.254", "nonsense"].map(str::to_owned).to_vec(),
        }
    );
}

#[test]
fn a_node_is_where_its_labels_say() {
    let labels = json!({ REGION_LABEL: "eu", ZONE_LABEL: "eu-a", SUBZONE_LABEL: "rack" });
    let meta = serde_json::from_value(json!({ "name": "n1", "labels": labels })).unwrap();
    assert_eq!(node(&meta), Locality::new("eu", "eu-a", "rack"));
    assert!(node(&ObjectMeta::default()).is_unknown());
}
