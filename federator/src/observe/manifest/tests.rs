//! Proves which texts are manifests, and that what is no manifest is refused in one line, however it would unfold.

use super::*;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n";

fn names(manifest: &Manifest) -> Vec<String> {
    let objects = manifest.objects.iter();
    objects.map(|object| object.name().to_string()).collect()
}

fn check(text: &str, expected: &[&str]) {
    let manifest = Manifest::parse(text).unwrap();
    assert_eq!(names(&manifest), expected, "{text}");
    assert_eq!(manifest.malformed, [], "{text}");
}

/// The text is refused, by a line that has this in it.
fn refuse(text: &str, part: &str) {
    let error = Manifest::parse(text).unwrap_err();
    assert!(error.contains(part) && !error.contains('\n'), "{error:?}");
    assert!(error.len() < 300, "{error}");
}

#[test]
fn objects_stand_in_documents_and_lists() {
    check("", &[]);
    check("# nothing\n---\n---\n", &[]);
    check("just a text", &[]);
    check(SERVICE, &["Service shop/web"]);
    check("apiVersion: v1\nkind: Service\nmetadata: {name: web}", &["Service default/web"]);
    check(
        &format!("{SERVICE}---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: x}}\n---\n{SERVICE}"),
        &["Service shop/web", "Service shop/web"],
    );
    check(
        "apiVersion: v1\nkind: List\nitems:\n\
         - {apiVersion: v1, kind: Service, metadata: {namespace: shop, name: a}}\n\
         - {apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 7}}\n\
         - apiVersion: discovery.k8s.io/v1\n  kind: EndpointSlice\n  addressType: IPv4\n  endpoints: []\n  \
         metadata: {namespace: shop, name: a-1}\n",
        &["Service shop/a", "Node n1", "EndpointSlice shop/a-1"],
    );
    // An API server's own lists do not repeat what their items are.
    check("apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {namespace: shop, name: a}\n", &["Service shop/a"]);
    check("apiVersion: v1\nkind: List\nitems: []\n", &[]);
}

#[test]
fn json_is_read_too() {
    let text =
        "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\n\t\t\"name\": \"web\"\n\t}\n}\n";
    check(text, &["Service default/web"]);
    check(&text.replace(['\n', '\t'], ""), &["Service default/web"]);
}

#[test]
fn every_kind_that_matters_is_read_in_every_version_it_is_served_in() {
    let object =
        |api: &str, kind: &str| format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{namespace: shop, name: x}}\n");
    for (api, kind, name) in [
        ("v1", "Pod", "Pod shop/x"),
        ("v1", "Node", "Node x"),
        ("v1", "Namespace", "Namespace x"),
        ("networking.istio.io/v1", "WorkloadEntry", "WorkloadEntry shop/x"),
        ("networking.istio.io/v1beta1", "WorkloadEntry", "WorkloadEntry shop/x"),
        ("networking.istio.io/v1alpha3", "WorkloadEntry", "WorkloadEntry shop/x"),
        ("multicluster.x-k8s.io/v1beta1", "ServiceExport", "ServiceExport shop/x"),
        ("multicluster.x-k8s.io/v1alpha1", "ServiceExport", "ServiceExport shop/x"),
    ] {
        check(&object(api, kind), &[name]);
    }
    for (api, kind) in [("v2", "Pod"), ("networking.istio.io/v9", "WorkloadEntry"), ("v1", "ServiceExport")] {
        check(&object(api, kind), &[]);
    }
}

#[test]
fn a_service_of_another_group_is_another_thing() {
    check(&SERVICE.replace("v1", "serving.knative.dev/v1"), &[]);
}

#[test]
fn a_malformed_object_is_named_and_the_others_are_read() {
    let text = format!("{SERVICE}spec: {{ports: none}}\n---\n{}", SERVICE.replace("web", "good"));
    let manifest = Manifest::parse(&text).unwrap();
    assert_eq!(names(&manifest), ["Service shop/good"]);
    let [(name, reason)] = &manifest.malformed[..] else { panic!("{:?}", manifest.malformed) };
    assert_eq!(name.to_string(), "Service shop/web");
    assert!(reason.contains("invalid type") && !reason.contains('\n'), "{reason}");
}

#[test]
fn the_cluster_is_known_by_its_kube_system_namespace() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system, uid: abc}\n";
    let uid = |text: &str| Manifest::parse(text).unwrap().cluster_uid;
    assert_eq!(uid(namespace).as_deref(), Some("abc"));
    assert_eq!(uid(&namespace.replace("kube-system", "shop")), None);
}

#[test]
fn what_is_no_yaml_is_refused_with_its_place() {
    refuse(&format!("{SERVICE}---\nkind: [\n"), "line");
    refuse("kind: Service\nkind: Service\n", "line 2");
    refuse("{\"kind\": ", "line 1");
    refuse("kind: *nobody\n", "line 1");
}

/// Each of these would be without end, or larger than any memory. That the test ends is the proof.
#[test]
fn bombs_are_refused() {
    refuse("metadata: &a\n  labels: *a\n", "line");
    refuse("&a [*a]", "line");
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..12 {
        let aliases = vec![format!("*a{}", n - 1); 9].join(", ");
        laughs += &format!("a{n}: &a{n} [{aliases}]\n");
    }
    refuse(&laughs, "line");
    // The same by merge keys.
    let mut merges = "a0: &a0 {k0: v}\n".to_owned();
    for n in 1..40 {
        let before = n - 1;
        merges += &format!("a{n}: &a{n} {{k{n}: {{<<: [*a{before}, *a{before}]}}, l{n}: *a{before}}}\n");
    }
    refuse(&merges, "line");
    refuse(&"[".repeat(100_000), "line");
    refuse(&"{a: ".repeat(100_000), "line");
    refuse(&"- ".repeat(100_000), "line");
}

/// A large file is not a bomb: thousands of objects, one a document or all in one list.
#[test]
fn large_files_are_read() {
    let documents: String =
        (0..3000).map(|n| format!("---\n{}", SERVICE.replace("web", &format!("web-{n}")))).collect();
    assert_eq!(Manifest::parse(&documents).unwrap().objects.len(), 3000);
    let endpoints = "{\"addresses\":[\"10.1.0.1\"],\"conditions\":{\"ready\":true,\"serving\":true}},".repeat(30_000);
    let list = format!(
        "{{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"metadata\":{{\"name\":\"x\"}},\
         \"addressType\":\"IPv4\",\"endpoints\":[{}]}}",
        endpoints.trim_end_matches(',')
    );
    assert_eq!(Manifest::parse(&list).unwrap().objects.len(), 1);
}

/// Values that YAML could take for something else stay texts, as kubectl writes them.
#[test]
fn quoted_values_stay_texts() {
    let text = format!("{SERVICE}spec:\n  clusterIP: \"None\"\n  selector: {{a: \"true\", b: \"1e3\", c: 'no'}}\n");
    let manifest = Manifest::parse(&text).unwrap();
    let [Object::Service(service)] = &manifest.objects[..] else { panic!("{manifest:?}") };
    let spec = service.spec.clone().unwrap();
    let selector: Vec<String> = spec.selector.unwrap().into_values().collect();
    assert_eq!(selector, ["true", "1e3", "no"]);
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
}
