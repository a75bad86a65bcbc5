//! Proves that exports follow from the objects alone, whatever their order, and that an object touches the services
//! that it is of and no other.

use super::*;
use model::tracked::Since;
use proptest::prelude::*;
use serde_json::json;

fn service(name: &str) -> Object {
    of_type(name, "ClusterIP")
}

fn of_type(name: &str, kind: &str) -> Object {
    let service = json!({ "metadata": { "namespace": "shop", "name": name }, "spec": { "type": kind } });
    Object::Service(serde_json::from_value(service).unwrap())
}

/// A slice by its name, with endpoints by address, node and zone.
fn slice(of: &str, name: &str, endpoints: &[(&str, &str, &str)]) -> Object {
    let endpoint =
        |(address, node, zone): &(&str, &str, &str)| json!({ "addresses": [address], "nodeName": node, "zone": zone });
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
    Object::Node(serde_json::from_value(json!({ "name": name, "labels": labels })).unwrap())
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
    assert_eq!(export(&mut index, "web").unwrap().slices.len(), 0);
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
        assert_eq!(export.slices.keys().map(|name| &**name).collect::<Vec<_>>(), names);
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
    let left_out = |index: &mut Index| index.flush().left_out.keys().cloned().collect::<Vec<_>>();
    assert_eq!(left_out(&mut index), ["EndpointSlice shop/x", "Service shop/web"]);
    // A relist has to know them, to take them away.
    assert!(index.names(Kind::Service).contains(&service("web").name()));
    index.apply(&service("web"));
    assert_eq!(export(&mut index, "web").unwrap().ready(), 1);
    assert_eq!(left_out(&mut index), ["EndpointSlice shop/x"]);
    index.delete(&slice("web", "x", &[]).name());
    assert_eq!(left_out(&mut index), [""; 0]);
    // What was good and is left out now is no longer exported.
    index.apply(&of_type("web", "ExternalName"));
    assert_eq!(export(&mut index, "web"), None);
}

#[test]
fn names_are_those_of_the_objects() {
    let objects = [service("web"), slice("web", "x.y", &[]), node("ip-10.example.org", "eu", "")];
    let index = index(Locality::default(), &objects);
    for object in &objects {
        let name = object.name();
        assert_eq!(index.names(name.kind), HashSet::from([name]));
    }
}

/// One step: an object, applied or deleted.
fn step() -> impl Strategy<Value = (Object, bool)> {
    let named = |names: &'static [&'static str]| prop::sample::select(names);
    let service = (named(&["a", "b"]), named(&["ClusterIP", "ExternalName"]));
    let endpoint = (named(&["10.1.0.1", "10.1.0.2", "127.0.0.1"]), named(&["", "n1", "n2"]), named(&["", "z"]));
    let slice_of = (named(&["a", "b"]), named(&["x", "y"]), prop::collection::vec(endpoint, 0..3));
    let place = (named(&["n1", "n2"]), named(&["", "r1", "r2"]));
    let object = prop_oneof![
        service.prop_map(|(name, kind)| of_type(name, kind)),
        slice_of.prop_map(|(of, name, endpoints)| slice(of, name, &endpoints)),
        place.prop_map(|(name, region)| node(name, region, "")),
    ];
    (object, any::<bool>())
}

proptest! {
    #[test]
    fn any_way_to_the_same_objects_gives_the_same_exports(
        steps in prop::collection::vec((step(), any::<bool>()), 0..40),
    ) {
        let default = Locality::new("d", "", "");
        let (mut by_steps, mut last) = (index(default.clone(), &[]), BTreeMap::new());
        for ((object, applied), flushed) in steps {
            if applied {
                by_steps.apply(&object);
                last.insert(object.name(), object);
            } else {
                by_steps.delete(&object.name());
                last.remove(&object.name());
            }
            if flushed {
                by_steps.flush();
            }
        }
        let objects: Vec<Object> = last.into_values().collect();
        let mut at_once = index(default, &objects);
        let (one, other) = (by_steps.flush(), at_once.flush());
        prop_assert_eq!(
            one.exports.iter().collect::<Vec<_>>(),
            other.exports.iter().collect::<Vec<_>>()
        );
        prop_assert_eq!(one.left_out, other.left_out);
        prop_assert_eq!(&by_steps.on_node, &at_once.on_node);
        for kind in [Kind::Service, Kind::EndpointSlice, Kind::Node] {
            prop_assert_eq!(by_steps.names(kind), at_once.names(kind));
        }
    }
}
