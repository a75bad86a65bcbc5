//! What nodes, and endpoints of the Service in front, make of a cluster's gateways.

use super::*;

/// A Service that leads into `n2`.
fn entrance(name: &str, rest: &serde_json::Value, status: &serde_json::Value) -> Object {
    let mut service = json!({
        "metadata": {
            "namespace": "shop",
            "name": name,
            "labels": { "topology.istio.io/network": "n2" },
            "annotations": { "traffic.istio.io/nodeSelector": "{\"edge\": \"yes\"}" },
        },
        "spec": { "ports": [{ "port": 15443, "nodePort": 30443 }] },
        "status": status,
    });
    service["spec"].as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    Object::Service(serde_json::from_value(service).unwrap())
}

/// The gateways that are told to others.
fn told(index: &mut Index) -> Vec<String> {
    let gateways = index.flush().meta.gateways;
    gateways.iter().map(|gateway| format!("{}:{}", gateway.address, gateway.port)).collect()
}

#[test]
fn nodes_that_come_and_go_are_ways_in() {
    let node = |name: &str, address: &str, ready: &str| -> Object {
        let labels = json!({ "edge": "yes" });
        let addresses = json!([{ "type": "ExternalIP", "address": address }]);
        let conditions = json!([{ "type": "Ready", "status": ready }]);
        let node = json!({
            "metadata": { "name": name, "labels": labels },
            "status": { "addresses": addresses, "conditions": conditions },
        });
        Object::Node(serde_json::from_value(node).unwrap())
    };
    let on_nodes = entrance("gw", &json!({ "type": "NodePort" }), &json!({}));
    let mut index = index(Locality::default(), &[node("a", "192.0.2.1", "True"), on_nodes.clone()]);
    assert_eq!(told(&mut index), ["192.0.2.1:30443"]);
    index.apply(&node("b", "192.0.2.2", "True"));
    assert_eq!(told(&mut index), ["192.0.2.1:30443", "192.0.2.2:30443"]);
    index.apply(&node("a", "192.0.2.1", "Unknown"));
    assert_eq!(told(&mut index), ["192.0.2.2:30443"]);
    let said = "leads into network n2, and no node that it selects has an ExternalIP; the last ones are used";
    let complaint = |index: &mut Index| index.flush().left_out.get("gateway Service shop/gw").cloned();
    assert_eq!(complaint(&mut index), None);
    index.delete(&node("a", "", "").name());
    index.delete(&node("b", "", "").name());
    assert_eq!((told(&mut index), complaint(&mut index).as_deref()), (vec!["192.0.2.2:30443".to_owned()], Some(said)));
    index.delete(&on_nodes.name());
    assert_eq!((told(&mut index), complaint(&mut index)), (vec![], None));
}

#[test]
fn what_is_ready_behind_them_decides_between_gateways() {
    let balanced = |name: &str, address: &str| {
        entrance(name, &json!({}), &json!({ "loadBalancer": { "ingress": [{ "ip": address }] } }))
    };
    let behind = |service: &str, ready: bool| {
        let slice = json!({
            "metadata": {
                "namespace": "shop",
                "name": format!("{service}-1"),
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.1.0.1"], "conditions": { "ready": ready } }],
            "ports": [],
        });
        Object::EndpointSlice(serde_json::from_value(slice).unwrap())
    };
    let mut index = index(Locality::default(), &[behind("a", false), balanced("a", "192.0.2.1")]);
    let condition = |index: &mut Index| index.flush().conditions.get(Reason::GatewayNotReady).map(ToOwned::to_owned);
    assert_eq!(condition(&mut index), None, "not everything was seen");
    index.observed().synced = true;
    let why = "no pod is ready behind shop/a, and there is no other gateway: it is used";
    assert_eq!((told(&mut index), condition(&mut index).as_deref()), (vec!["192.0.2.1:15443".to_owned()], Some(why)));
    // Of the other it is not known yet.
    index.apply(&balanced("b", "192.0.2.2"));
    assert_eq!((told(&mut index), condition(&mut index)), (vec!["192.0.2.2:15443".to_owned()], None));
    index.apply(&behind("b", true));
    assert_eq!(told(&mut index), ["192.0.2.2:15443"]);
    index.apply(&behind("a", true));
    assert_eq!(told(&mut index), ["192.0.2.1:15443", "192.0.2.2:15443"]);
    index.apply(&behind("b", false));
    assert_eq!(told(&mut index), ["192.0.2.1:15443"]);
    // A slice less says nothing of what is ready.
    index.delete(&behind("b", false).name());
    assert_eq!(told(&mut index), ["192.0.2.1:15443", "192.0.2.2:15443"]);
}
