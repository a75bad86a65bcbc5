//! Addresses of the cluster that lie inside the ranges of virtual ones are told once everything was seen, for as long as
//! they are there.

use super::*;

#[test]
fn addresses_of_services_and_pods_inside_the_ranges_are_told() {
    let fixed = |name: &str, ips: &[&str]| {
        let spec = json!({ "clusterIP": ips[0], "clusterIPs": ips });
        let service = json!({ "metadata": { "namespace": "default", "name": name }, "spec": spec });
        Object::Service(serde_json::from_value(service).unwrap())
    };
    let check = |vips: serde_json::Value, object: &Object, expected: bool| {
        let mut index = index(Locality::default(), &[]);
        index.set_vips(configured(json!({ "vips": vips })).vips);
        index.apply(object);
        let told = |index: &mut Index| index.flush().conditions.get(Reason::VipsOverlap).map(str::to_owned);
        assert_eq!(told(&mut index), None, "not all was seen");
        index.observed().synced = true;
        index.observed().partial = true;
        assert_eq!(told(&mut index), None, "not all can be seen");
        index.observed().partial = false;
        let says = told(&mut index);
        assert_eq!(says.is_some(), expected, "{vips} {object:?}");
        let name = object.name();
        assert!(says.is_none_or(|says| says.starts_with(&format!("{name} has "))));
        index.delete(&name);
        assert_eq!(told(&mut index), None);
    };
    // It is never exported, and is there in every cluster.
    let kubernetes = fixed("kubernetes", &["10.96.0.1", "fd00:10::1"]);
    check(json!({ "ipv4": "10.0.0.0/8" }), &kubernetes, true);
    check(json!({ "ipv6": "fd00:10::/64" }), &kubernetes, true);
    check(json!({ "ipv4": "10.97.0.0/16" }), &kubernetes, false);
    check(json!({}), &fixed("headless", &["None"]), false);
    let pods = slice("web", "web-1", &[("10.244.0.1", "", ""), ("10.9.0.1", "", "")]);
    check(json!({ "ipv4": "10.9.0.0/16" }), &pods, true);
    check(json!({ "ipv4": "10.10.0.0/16" }), &pods, false);
    let Object::EndpointSlice(mut elsewhere) = pods else { unreachable!() };
    elsewhere.endpoints.iter_mut().for_each(|endpoint| endpoint.target_ref = None);
    // Whoever writes endpoints by hand may lead to anything.
    check(json!({ "ipv4": "10.9.0.0/16" }), &Object::EndpointSlice(elsewhere), false);
}
