//! What is refused goes, and takes nothing else along: what the merge decided stays, and every rule shows what it did.

use super::*;
use crate::testing::{configured, export, head, id, key, plain, slice};
use model::{
    export::Export,
    merge::{Parts, merge},
    vip::Vip,
};
use proptest::prelude::*;

/// Rules of the agent of `east`.
fn rules(import: &serde_json::Value) -> ImportRules {
    configured(serde_json::json!({ "import": import })).import
}

/// A service of these clusters, in first-seen order.
fn service(name: &str, exports: &[(&str, Arc<Export>)]) -> Arc<Service> {
    let parts = Parts {
        exports: exports.iter().map(|(cluster, export)| (id(cluster), export.clone())).collect(),
        order: exports.iter().map(|(cluster, _)| id(cluster)).collect(),
        vip: Some(Vip { v4: [240, 64, 0, 1].into(), v6: "fd66::1".parse().expect("an address") }),
    };
    Arc::new(merge(&key(name), &parts).expect("somebody exports it"))
}

fn clusters(service: Option<&Arc<Service>>) -> Vec<&str> {
    service.map(|service| service.exports.iter().map(|(id, _)| id.as_str()).collect()).unwrap_or_default()
}

#[test]
fn what_is_refused_goes_and_what_the_merge_decided_stays() {
    let other = export(head("http:8080"), [slice("http:8080", "10.1.0.1")]);
    let web = service("demo/web", &[("west", other), ("east", plain("10.0.0.1")), ("lab", plain("10.2.0.1"))]);
    let check = |import: serde_json::Value, expected: &[&str]| {
        let imported = imported(&rules(&import), &web);
        assert_eq!(clusters(imported.as_ref()), expected, "{import}");
        if let Some(imported) = imported {
            // West was the first to export it, and decides what it is, imported or not.
            let whole = Service { exports: web.exports.clone(), ..(*imported).clone() };
            assert_eq!(whole, *web, "{import}");
            assert_eq!(Arc::ptr_eq(&imported, &web), expected.len() == 3, "{import}");
        }
    };
    let all = ["west", "east", "lab"];
    check(serde_json::json!({}), &all);
    check(serde_json::json!({ "clusters": { "deny": ["west"] } }), &["east", "lab"]);
    check(serde_json::json!({ "clusters": { "allow": ["lab"] } }), &["east", "lab"]);
    // The agent's own cluster is no other's to be kept out.
    check(serde_json::json!({ "clusters": { "deny": ["*"] } }), &["east"]);
    check(serde_json::json!({ "services": { "deny": ["demo/web"] } }), &[]);
    check(serde_json::json!({ "services": { "deny": ["demo/we", "shop/web"] } }), &all);
    check(serde_json::json!({ "services": { "allow": ["*/api"] } }), &[]);
    check(serde_json::json!({ "namespaces": { "deny": ["demo"] }, "services": { "allow": ["demo/web"] } }), &[]);
}

#[test]
fn nothing_is_left_of_a_service_that_only_refused_clusters_export() {
    let web = service("demo/web", &[("west", plain("10.1.0.1"))]);
    assert_eq!(imported(&rules(&serde_json::json!({ "clusters": { "deny": ["west"] } })), &web), None);
}

#[test]
fn every_rule_shows_what_it_keeps_out_and_names_a_few() {
    let mut view = View::default();
    let mut set = |name: &str, exports: &[&str]| {
        let exports: Vec<_> = exports.iter().map(|cluster| (*cluster, plain("10.0.0.1"))).collect();
        view.set_service(&key(name), Some((*service(name, &exports)).clone()));
    };
    (0..30).for_each(|n| set(&format!("demo/s{n:02}"), &["east", "west", "lab"]));
    set("kube-system/dns", &["west"]);
    set("demo/secret", &["east"]);
    let rules = rules(&serde_json::json!({
        "clusters": { "deny": ["west", "lab"] },
        "services": { "deny": ["demo/secret"] },
    }));
    let left_out = left_out(&rules, &view);
    let shown = |rule: &str| {
        let LeftOut { services, clusters, some } = &left_out[rule];
        let clusters: Vec<_> = clusters.iter().map(ClusterId::as_str).collect();
        (*services, clusters.join(" "), some.len(), some[0].to_string())
    };
    assert_eq!(left_out.len(), 4);
    assert_eq!(shown("import.clusters.deny: west"), (30, "west".to_owned(), NAMED, "demo/s00".to_owned()));
    assert_eq!(shown("import.clusters.deny: lab"), (30, "lab".to_owned(), NAMED, "demo/s00".to_owned()));
    assert_eq!(shown("import.namespaces.deny: kube-*"), (1, "west".to_owned(), 1, "kube-system/dns".to_owned()));
    assert_eq!(shown("import.services.deny: demo/secret"), (1, "east".to_owned(), 1, "demo/secret".to_owned()));
}

proptest! {
    /// Whatever the rules: an export is imported or shown as refused, never both and never neither.
    #[test]
    fn what_is_not_imported_is_shown(
        lists in prop::collection::vec(prop::collection::vec(prop_oneof![Just("a*"), Just("b"), Just("*")], 0..3), 6),
        made in prop::collection::btree_map(
            (prop_oneof![Just("a1"), Just("b")], prop_oneof![Just("a"), Just("b")]),
            prop::collection::btree_set(prop_oneof![Just("a2"), Just("b"), Just("east")], 1..4),
            1..4,
        ),
    ) {
        let services = |list: &[&str]| list.iter().map(|name| format!("{name}/{name}")).collect::<Vec<_>>();
        let rules = rules(&serde_json::json!({
            "clusters": { "allow": lists[0], "deny": lists[1] },
            "namespaces": { "allow": lists[2], "deny": lists[3] },
            "services": { "allow": services(&lists[4]), "deny": services(&lists[5]) },
        }));
        let mut view = View::default();
        let mut kept_out = BTreeSet::new();
        for ((namespace, name), exports) in &made {
            let exports: Vec<_> = exports.iter().map(|cluster| (*cluster, plain("10.0.0.1"))).collect();
            let service = service(&format!("{namespace}/{name}"), &exports);
            let imported = imported(&rules, &service);
            for (cluster, _) in &service.exports {
                let is_imported = clusters(imported.as_ref()).contains(&cluster.as_str());
                prop_assert_eq!(refuse(&rules, &service.key, cluster).is_none(), is_imported);
                if !is_imported {
                    kept_out.insert(service.key.clone());
                }
            }
            view.set_service(&service.key, Some((*service).clone()));
        }
        let shown = left_out(&rules, &view);
        let named: BTreeSet<_> = shown.values().flat_map(|left_out| left_out.some.iter().cloned()).collect();
        prop_assert_eq!(named, kept_out);
    }
}
