//! Who has an alias, by every rule; and that it is the same whatever came before.

use super::*;
use crate::testing::{configured, export, head, id, key};
use model::{
    export::{Head, Hosts},
    merge::{Parts, merge},
};
use proptest::prelude::*;

fn host(text: &str) -> Host {
    Host::parse(text).expect("a name")
}

/// A service of clusters, each with when it was created there and which aliases it asks for.
fn service(name: &str, exports: &[(&str, i64, &[&str])]) -> Service {
    let exports = exports.iter().map(|(cluster, created, aliases)| {
        let hosts = Hosts { aliases: aliases.iter().map(|alias| host(alias)).collect(), per_cluster: false };
        let head = Head { created: *created, hosts: Arc::new(hosts), ..head("http:80") };
        (id(cluster), export(head, []))
    });
    let parts = Parts { exports: exports.collect(), ..Parts::default() };
    merge(&key(name), &parts).expect("somebody exports it")
}

fn rules() -> ImportRules {
    let allow = serde_json::json!([{ "suffix": "example.com", "clusters": ["east", "west"] }]);
    configured(serde_json::json!({ "import": { "aliases": { "allow": allow } } })).import
}

/// What becomes of the aliases that these services ask for.
fn named(services: &[Service]) -> Vec<String> {
    let (mut aliases, mut all) = (Aliases::default(), Tracked::new());
    for service in services {
        all.set(service.key.clone(), Some(Arc::new(service.clone())));
        aliases.set(&rules(), &service.key, Some(service));
    }
    let named = services.iter().map(|service| (service, aliases.named("global", service, &all)));
    let text = |(service, named): (&Service, Named)| {
        let held = named.held.iter().map(|host| format!("{}={host}", service.key));
        let refused = named.refused.iter().map(|(host, why)| format!("{}!{host}: {why}", service.key));
        held.chain(refused).collect::<Vec<_>>()
    };
    named.flat_map(text).collect()
}

#[test]
fn who_was_exported_first_has_an_alias() {
    let a = "a.example.com";
    for (services, expected) in [
        (&[service("demo/web", &[("east", 7, &[a])])][..], &["demo/web=a.example.com"][..]),
        (
            &[service("demo/web", &[("east", 7, &[a])]), service("demo/api", &[("east", 6, &[a])])],
            &["demo/web!a.example.com: it is demo/api's, which was exported first", "demo/api=a.example.com"],
        ),
        // An export that does not ask for it, or may not, makes nobody the first.
        (
            &[
                service("demo/web", &[("east", 7, &[a]), ("west", 1, &[]), ("lab", 2, &[a])]),
                service("demo/api", &[("east", 6, &[a])]),
            ],
            &["demo/web!a.example.com: it is demo/api's, which was exported first", "demo/api=a.example.com"],
        ),
        // Of two of one second, the first by name.
        (
            &[service("demo/web", &[("east", 7, &[a])]), service("bank/web", &[("west", 7, &[a])])],
            &["demo/web!a.example.com: it is bank/web's, which was exported first", "bank/web=a.example.com"],
        ),
        (&[service("demo/web", &[("lab", 7, &[a])])], &["demo/web!a.example.com: no rule of import.aliases allows it"]),
        // A service's own name is its own, however old another is.
        (
            &[service("demo/web", &[("east", 1, &["api.demo.global"])]), service("demo/api", &[("lab", 7, &[])])],
            &["demo/web!api.demo.global: it is the host of demo/api itself"],
        ),
        (&[service("demo/web", &[("east", 1, &["api.demo.global"])])], &["demo/web=api.demo.global"]),
        (&[service("demo/web", &[("east", 1, &["web.demo.global"])])], &[]),
    ] {
        assert_eq!(named(services), expected);
    }
}

#[test]
fn who_may_have_got_or_lost_one_is_said() {
    let mut aliases = Aliases::default();
    let mut touches = |service: &Service, is_there: bool| -> Vec<String> {
        let touched = aliases.set(&rules(), &service.key, is_there.then_some(service));
        touched.iter().map(ToString::to_string).collect()
    };
    let (a, www) = ("a.example.com", "www.demo.global");
    assert!(touches(&service("demo/web", &[("east", 7, &[a])]), true).is_empty());
    assert_eq!(touches(&service("demo/api", &[("east", 6, &[a])]), true), ["demo/web"]);
    assert_eq!(touches(&service("demo/api", &[("east", 6, &[a])]), false), ["demo/web"]);
    assert!(touches(&service("demo/log", &[("east", 6, &[www])]), true).is_empty());
    assert_eq!(touches(&service("demo/www", &[("east", 9, &[])]), true), ["demo/log"]);
    assert_eq!(touches(&service("demo/www", &[("east", 9, &[])]), false), ["demo/log"]);
}

proptest! {
    /// What came before does not matter, and nothing that changes for another goes unsaid.
    #[test]
    fn only_what_is_there_counts(
        history in prop::collection::vec((0..3_usize, prop::option::of((0..3_i64, 0..8_u8))), 1..12),
    ) {
        let names = ["demo/a", "demo/b", "demo/c"];
        let hosts = ["x.example.com", "b.demo.global", "y.example.com"];
        let (mut aliases, mut all) = (Aliases::default(), Tracked::new());
        let mut known: BTreeMap<ServiceKey, Named> = BTreeMap::new();
        for (n, asks) in history {
            let asked = asks.map(|(created, bits)| {
                let wanted: Vec<_> = (0..3).filter(|bit| bits >> bit & 1 == 1).map(|bit| hosts[bit]).collect();
                service(names[n], &[("east", created, &wanted)])
            });
            let changed = key(names[n]);
            all.set(changed.clone(), asked.clone().map(Arc::new));
            let mut due = aliases.set(&rules(), &changed, asked.as_ref());
            due.insert(changed);
            for key in due {
                match all.get(&key) {
                    Some(service) => known.insert(key, aliases.named("global", service, &all)),
                    None => known.remove(&key),
                };
            }
            let mut anew = Aliases::default();
            for (key, service) in all.iter() {
                anew.set(&rules(), key, Some(service));
            }
            let expected: BTreeMap<_, _> =
                all.iter().map(|(key, service)| (key.clone(), anew.named("global", service, &all))).collect();
            prop_assert_eq!(&known, &expected);
        }
    }
}
