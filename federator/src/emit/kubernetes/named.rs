//! Which hosts of clusters are named here: by a VirtualService or a DestinationRule that somebody else wrote, in any
//! namespace of the agent's own cluster. Who names one gets it, without the exporter's having to ask for it. Knows nothing
//! of which services there are.

use super::served::{self, Names, News};
use crate::{
    emit::{
        OfClusters, Status,
        object::{Kind, MANAGED_BY},
    },
    kubernetes::{
        explain::Cause,
        follow::{Event, Selection},
    },
};
use futures::{StreamExt as _, stream::SelectAll};
use kube::{Client, ResourceExt as _, api::DynamicObject};
use model::{
    export::of_cluster,
    name::{ClusterId, ServiceKey},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;

/// The kinds that name hosts to route to, or say how.
const KINDS: [Names; 2] = [
    Names { kind: "VirtualService", plural: "virtualservices" },
    Names { kind: Kind::DestinationRule.as_str(), plural: Kind::DestinationRule.plural() },
];

/// What is known of one kind.
#[derive(Default)]
struct Known {
    /// What each object names, by its namespace and name; nothing of those that name none.
    objects: BTreeMap<(String, String), BTreeSet<(ServiceKey, ClusterId)>>,
    /// What a list in progress has named so far.
    listing: BTreeSet<(String, String)>,
    /// Whether all of it was seen, or cannot be.
    is_whole: bool,
    /// Whether more or less is named, or known, than was handed out last.
    is_other: bool,
    /// Why nothing more is known.
    trouble: Option<String>,
}

/// Says again and again what is named; nothing before all of it was seen, and then `status` says why.
pub async fn run(client: Client, named: watch::Sender<Option<OfClusters>>, status: watch::Sender<Status>) {
    let selection = Selection { labels: Some(format!("{}!={}", MANAGED_BY.0, MANAGED_BY.1)), ..Selection::default() };
    let news = |(kind, names)| served::news(&client, names, selection.clone()).map(move |news| (kind, news)).boxed();
    let mut news: SelectAll<_> = KINDS.into_iter().enumerate().map(news).collect();
    let mut known: [Known; KINDS.len()] = Default::default();
    while let Some((kind, news)) = news.next().await {
        known[kind].hear(KINDS[kind], news);
        let troubles: Vec<&str> = known.iter().filter_map(|known| known.trouble.as_deref()).collect();
        let unread = (!troubles.is_empty()).then(|| troubles.join("; "));
        status.send_if_modified(|status| {
            let is_news = status.unread != unread;
            if let Some(unread) = unread.as_ref().filter(|_| is_news) {
                tracing::warn!("{unread}");
            }
            status.unread = unread;
            is_news
        });
        // Most that happens to such objects names no host of a cluster, or the same ones.
        if known.iter().all(|known| known.is_whole) && known.iter().any(|known| known.is_other) {
            known.iter_mut().for_each(|known| known.is_other = false);
            let all: BTreeSet<_> = known.iter().flat_map(|known| known.objects.values()).flatten().cloned().collect();
            if named.borrow().as_deref() != Some(&all) {
                named.send_replace(Some(Arc::new(all)));
            }
        }
    }
}

// === impl Known ===

impl Known {
    fn hear(&mut self, names: Names, news: News) {
        match news {
            // None of it can be there.
            News::Absent(_) => *self = Self { is_whole: true, is_other: true, ..Self::default() },
            News::Unknown(why, cause) => self.cannot_read(why, cause),
            News::Served(_) | News::Lost => {}
            News::Seen(event) => self.see(names, *event),
        }
    }

    fn see(&mut self, names: Names, event: Event<DynamicObject>) {
        match event {
            Event::Begin => self.listing.clear(),
            Event::Listed(object) => {
                self.listing.insert(at(&object));
                self.set(&object);
            }
            Event::Complete(_) => {
                let listing = std::mem::take(&mut self.listing);
                self.objects.retain(|at, _| listing.contains(at));
                (self.is_whole, self.is_other, self.trouble) = (true, true, None);
            }
            Event::Changed(object) => self.set(&object),
            Event::Gone(object) => self.is_other |= self.objects.remove(&at(&object)).is_some(),
            Event::Quiet | Event::At(_) => self.trouble = None,
            Event::Trouble(trouble) => {
                let why = format!("cannot watch {}: {}", names.plural, trouble.reason);
                self.cannot_read(why, trouble.cause);
            }
        }
    }

    /// What was known stays. An agent that may not see them, because its rights are of an earlier version, emits all the
    /// same.
    fn cannot_read(&mut self, why: String, cause: Cause) {
        if cause == Cause::Forbidden {
            (self.is_whole, self.is_other) = (true, true);
        }
        self.trouble = Some(why);
    }

    fn set(&mut self, object: &DynamicObject) {
        let mut hosts = BTreeSet::new();
        read(&object.data["spec"], &mut hosts);
        let hosts = Some(hosts).filter(|hosts| !hosts.is_empty());
        let before = match hosts.clone() {
            Some(hosts) => self.objects.insert(at(object), hosts),
            None => self.objects.remove(&at(object)),
        };
        self.is_other |= before != hosts;
    }
}

fn at(object: &DynamicObject) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Every host that is named anywhere: of routes, mirrors and rules alike.
fn read(value: &Value, hosts: &mut BTreeSet<(ServiceKey, ClusterId)>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(host) if name == "host" => hosts.extend(of_cluster(&host.to_ascii_lowercase())),
                    Value::Array(all) if name == "hosts" => {
                        let texts = all.iter().filter_map(Value::as_str);
                        hosts.extend(texts.filter_map(|host| of_cluster(&host.to_ascii_lowercase())));
                    }
                    field => read(field, hosts),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| read(value, hosts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::ObjectMeta;
    use serde_json::json;

    fn object(name: &str, spec: &Value) -> DynamicObject {
        let metadata = ObjectMeta { name: Some(name.into()), namespace: Some("demo".into()), ..ObjectMeta::default() };
        DynamicObject { types: None, metadata, data: json!({ "spec": spec }) }
    }

    fn names(known: &Known) -> Vec<String> {
        known.objects.values().flatten().map(|(service, cluster)| format!("{service}@{cluster}")).collect()
    }

    fn hear(known: &mut Known, event: Event<DynamicObject>) -> (Vec<String>, bool) {
        known.hear(KINDS[0], News::Seen(Box::new(event)));
        (names(known), known.is_whole)
    }

    #[test]
    fn every_field_that_leads_to_a_host_counts() {
        let to = |host: &str| json!({ "destination": { "host": host } });
        let spec = json!({
            "hosts": ["web.demo.global", "a.demo.svc.cluster.west"],
            "http": [{
                "match": [{ "headers": { "host": { "exact": "no.demo.svc.cluster.west" } } }],
                "route": [to("b.demo.svc.cluster.west"), to("web.demo.svc.cluster.local"), to("web")],
                "mirror": { "host": "c.demo.svc.cluster.west" },
                "mirrors": [to("D.Demo.svc.cluster.west")],
            }],
            "tcp": [{ "route": [to("e.demo.svc.cluster.west")] }],
            "tls": [{ "match": [{ "sniHosts": ["no.demo.svc.cluster.west"] }], "route": [to("f.demo.svc.cluster.west")] }],
        });
        let mut known = Known::default();
        known.set(&object("routes", &spec));
        assert_eq!(names(&known), ["a", "b", "c", "d", "e", "f"].map(|name| format!("demo/{name}@west")));
        let mut known = Known::default();
        known.set(&object("rule", &json!({ "host": "web.demo.svc.cluster.west" })));
        known.set(&object("pattern", &json!({ "host": "*.demo.svc.cluster.west" })));
        assert_eq!(names(&known), ["demo/web@west"]);
    }

    #[test]
    fn what_is_named_ends_with_the_last_that_names_it() {
        let rule = |name: &str, host: &str| object(name, &json!({ "host": format!("{host}.demo.svc.cluster.west") }));
        let named = |names: &[&str], is_whole| {
            (names.iter().map(|name| format!("demo/{name}@west")).collect::<Vec<_>>(), is_whole)
        };
        let mut known = Known::default();
        assert_eq!(hear(&mut known, Event::Begin), named(&[], false));
        assert_eq!(hear(&mut known, Event::Listed(rule("1", "a"))), named(&["a"], false));
        assert_eq!(hear(&mut known, Event::Complete("7".into())), named(&["a"], true));
        assert_eq!(hear(&mut known, Event::Changed(rule("2", "b"))), named(&["a", "b"], true));
        assert_eq!(hear(&mut known, Event::Changed(rule("1", "c"))), named(&["c", "b"], true));
        // A list that begins says nothing yet; what it did not name is gone.
        assert_eq!(hear(&mut known, Event::Begin), named(&["c", "b"], true));
        assert_eq!(hear(&mut known, Event::Listed(rule("2", "b"))), named(&["c", "b"], true));
        assert_eq!(hear(&mut known, Event::Complete("9".into())), named(&["b"], true));
        assert_eq!(hear(&mut known, Event::Gone(rule("2", "b"))), named(&[], true));
    }

    #[test]
    fn what_names_the_same_is_no_news() {
        let rule = |name: &str, host: &str| object(name, &json!({ "host": host, "trafficPolicy": { "name": name } }));
        let mut known = Known::default();
        let mut is_news = |event| {
            known.hear(KINDS[0], News::Seen(Box::new(event)));
            std::mem::take(&mut known.is_other)
        };
        let east = "web.demo.svc.cluster.east";
        assert!(is_news(Event::Complete("1".into())));
        for (event, expected) in [
            (Event::Changed(rule("1", east)), true),
            (Event::Changed(rule("1", east)), false),
            (Event::Changed(rule("2", "web.demo.global")), false),
            (Event::Gone(rule("2", "web.demo.global")), false),
            (Event::Changed(rule("1", "api.demo.svc.cluster.east")), true),
            (Event::Changed(rule("1", "web.demo.global")), true),
            (Event::Changed(rule("1", east)), true),
            (Event::Gone(rule("1", east)), true),
            (Event::At("9".into()), false),
        ] {
            let what = format!("{event:?}");
            assert_eq!(is_news(event), expected, "{what}");
        }
    }

    #[test]
    fn who_may_not_look_goes_on_and_who_cannot_waits() {
        let unknown = |cause| {
            let mut known = Known::default();
            known.hear(KINDS[0], News::Unknown("no".into(), cause));
            (known.is_whole, known.trouble.is_some())
        };
        assert_eq!(unknown(Cause::Unreachable), (false, true));
        assert_eq!(unknown(Cause::Forbidden), (true, true));
        let mut known = Known::default();
        known.set(&object("rule", &json!({ "host": "web.demo.svc.cluster.west" })));
        known.hear(KINDS[0], News::Absent("no CRD".into()));
        assert_eq!((names(&known), known.is_whole, known.trouble), (vec![], true, None));
    }
}
