//! Proves that a cluster is followed through everything its API server does: it forgets the place, refuses, ends
//! watches, says nothing, or tells of objects that cannot be read. The server is a function; time is paused.

mod doubts;

use super::*;
use crate::testing::configured;
use axum::{Router, body::Body, extract::Request, http::Response};
use model::locality::Network;
use model::name::ServiceKey;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// What the API server is asked.
#[derive(Debug)]
struct Ask {
    /// `services`, `endpointslices`, `nodes`, `leases`, or the name of what is asked for alone.
    of: String,
    /// `GET`, `POST` or `PUT`.
    method: String,
    /// From where on to watch; a list otherwise.
    watch: Option<String>,
    /// The token of the page.
    page: Option<String>,
    /// How many lists of this kind, or else watches, were asked for before.
    nth: usize,
}

/// What it answers.
enum Answer {
    Says(Value),
    Refuses(u16),
    /// Events, and then nothing for ever.
    Tells(Vec<String>),
    /// Events, and then the end of the watch.
    Ends(Vec<String>),
    /// Nothing at all.
    Hangs,
}
use Answer::{Ends, Hangs, Refuses, Says, Tells};

/// Observes a cluster whose API server answers like this, and where it does not say, like an empty one.
async fn observing(
    answer: impl FnMut(&Ask) -> Option<Answer> + Send + 'static,
    test: impl AsyncFnOnce(&mut watch::Receiver<Observed>),
) {
    doubting(watch::channel(Arc::default()).1, answer, test).await;
}

/// The same, and these objects are doubted.
async fn doubting(
    doubts: watch::Receiver<Arc<BTreeSet<ObjectName>>>,
    answer: impl FnMut(&Ask) -> Option<Answer> + Send + 'static,
    test: impl AsyncFnOnce(&mut watch::Receiver<Observed>),
) {
    let server = Arc::new(Mutex::new((answer, HashMap::<(String, bool), usize>::new())));
    let respond = move |request: Request| {
        let (answer, asked) = &mut *server.lock().unwrap();
        let mut ask = ask(&request);
        let nth = asked.entry((ask.of.clone(), ask.watch.is_some())).or_default();
        ask.nth = *nth;
        *nth += 1;
        let answer = answer(&ask).unwrap_or_else(|| ordinary(&ask));
        async move { response(answer).await }
    };
    let sentinel = sentinel::Config {
        namespace: "istio-system".to_owned(),
        name: "canary".to_owned(),
        holder: "test".to_owned(),
        found_within: Duration::from_secs(10),
        proof: Duration::from_secs(120),
        clock: || std::time::UNIX_EPOCH,
    };
    let config = Config {
        place: Place { network: Network::new("n"), ..Place::default() },
        vips: configured(json!({})).vips,
        rules: watch::channel(ExportRules::default()).1,
        sentinel,
    };
    let client = Client::new(Router::new().fallback(respond), "default");
    let (_connectors, connector) = watch::channel(Connector::new("https://east:6443", move || Ok(client.clone())));
    let (sender, mut observed) = watch::channel(Observed::default());
    let running = async {
        tokio::select! {
            () = run(config, connector, doubts, sender) => panic!("it ends only when nobody looks"),
            () = test(&mut observed) => {}
        }
    };
    timeout(Duration::from_secs(3600), running).await.expect("the state that is waited for");
}

fn ask(request: &Request) -> Ask {
    let field = |name: &str| {
        let fields = request.uri().query().unwrap_or_default().split('&');
        let mut pairs = fields.filter_map(|field| field.split_once('='));
        pairs.find(|(field, _)| *field == name).map(|(_, value)| value.to_owned())
    };
    Ask {
        of: request.uri().path().rsplit('/').next().unwrap_or_default().to_owned(),
        method: request.method().to_string(),
        watch: field("watch").and_then(|_| field("resourceVersion")),
        page: field("continue"),
        nth: 0,
    }
}

fn ordinary(ask: &Ask) -> Answer {
    match (&*ask.of, &ask.watch) {
        ("kube-system", _) => Says(json!({ "metadata": { "name": "kube-system", "uid": "u1" } })),
        // The canary may not be written, which is not what most tests are about.
        ("leases" | "canary", None) => Refuses(403),
        (_, Some(_)) => Tells(vec![]),
        ("services" | "endpointslices" | "nodes" | "pods" | "namespaces", None) => list(&[]),
        ("customresourcedefinitions", None) => list(&[]),
        // Whoever is asked for by name is not known to be there or not.
        (_, None) => Refuses(500),
    }
}

async fn response(answer: Answer) -> Result<Response<Body>, Infallible> {
    let lines = |events: Vec<String>| stream::iter(events).map(|event| Ok::<_, Infallible>(format!("{event}\n")));
    let (code, body) = match answer {
        Says(value) => (200, Body::from(value.to_string())),
        Refuses(code) => (code, Body::from(status(code).to_string())),
        Tells(events) => (200, Body::from_stream(lines(events).chain(stream::pending()))),
        Ends(events) => (200, Body::from_stream(lines(events))),
        Hangs => std::future::pending().await,
    };
    Ok(Response::builder().status(code).body(body).unwrap())
}

fn status(code: u16) -> Value {
    let mut status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "" });
    status["message"] = format!("says {code}").into();
    if code == 429 {
        status["details"] = json!({ "retryAfterSeconds": 7 });
    }
    status
}

fn list(items: &[Value]) -> Answer {
    Says(json!({ "metadata": { "resourceVersion": "10" }, "items": items }))
}

/// An event as API servers write it, the type first.
fn event(kind: &str, object: impl std::borrow::Borrow<Value>) -> String {
    format!(r#"{{"type":"{kind}","object":{}}}"#, object.borrow())
}

fn service(name: &str) -> Value {
    let metadata = json!({ "namespace": "shop", "name": name, "resourceVersion": "5" });
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {} })
}

fn at(version: u64, mut object: Value) -> Value {
    object["metadata"]["resourceVersion"] = version.to_string().into();
    object
}

fn malformed(name: &str) -> Value {
    let mut service = service(name);
    service["spec"] = json!({ "ports": "none" });
    service
}

fn slice(of: &str, node: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "shop",
            "name": format!("{of}-1"),
            "resourceVersion": "6",
            "labels": { "kubernetes.io/service-name": of },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["10.1.0.1"], "nodeName": node }],
        "ports": [],
    })
}

fn says(seen: &Observed, part: &str) -> bool {
    seen.conditions.iter().any(|(_, message)| message.contains(part))
}

/// What is left out, but for the canary, which most of these servers refuse.
fn left_out(seen: &Observed) -> Vec<&str> {
    seen.left_out.keys().map(String::as_str).filter(|what| !what.starts_with("Lease ")).collect()
}

fn services(seen: &Observed) -> Vec<String> {
    seen.exports.iter().map(|(key, _)| key.name.to_string()).collect()
}

async fn until(observed: &mut watch::Receiver<Observed>, state: impl FnMut(&Observed) -> bool) -> Observed {
    observed.wait_for(state).await.unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn all_pages_of_a_list_and_then_changes() {
    let answer = |ask: &Ask| match (&*ask.of, &ask.watch, ask.page.as_deref()) {
        ("services", None, None) => {
            Some(Says(json!({ "metadata": { "resourceVersion": "10", "continue": "more" }, "items": [service("a")] })))
        }
        ("services", None, Some("more")) => Some(list(&[service("b")])),
        ("services", Some(from), _) if ask.nth == 0 => {
            assert_eq!(from, "10");
            Some(Tells(vec![
                event(
                    "BOOKMARK",
                    json!({ "kind": "Service", "apiVersion": "v1", "metadata": { "resourceVersion": "20" } }),
                ),
                event("ADDED", at(21, service("c"))),
                event("DELETED", at(22, service("a"))),
            ]))
        }
        ("endpointslices", None, _) => Some(list(&[slice("b", "n1")])),
        ("nodes", None, _) => Some(list(&[json!({
            "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadata",
            "metadata": { "name": "n1", "labels": { "topology.kubernetes.io/region": "eu" } },
        })])),
        _ => None,
    };
    observing(answer, async |observed| {
        let seen = until(observed, |seen| seen.synced && services(seen) == ["b", "c"]).await;
        assert_eq!((&*seen.meta.uid, seen.meta.network.as_str()), ("u1", "n"));
        assert!(seen.conditions.is_empty() && left_out(&seen).is_empty());
        let export = seen.exports.get(&ServiceKey::parse("shop", "b").unwrap()).unwrap();
        let endpoint = export.endpoints().next().unwrap().endpoint;
        assert_eq!(endpoint.locality.to_string(), "eu");
    })
    .await;
}

/// In the watch, at its start, and while a list is paged through.
#[tokio::test(start_paused = true)]
async fn a_lost_place_is_a_new_list_and_what_it_drops_is_gone() {
    for how in ["event", "start", "page"] {
        let answer = move |ask: &Ask| match (&*ask.of, &ask.watch, &ask.page) {
            ("services", None, Some(_)) => Some(Refuses(410)),
            ("services", None, None) if ask.nth == 0 => Some(list(&[service("a"), service("b")])),
            ("services", None, None) if ask.nth == 1 && how == "page" => {
                Some(Says(json!({ "metadata": { "continue": "more" }, "items": [] })))
            }
            ("services", None, None) => Some(list(&[service("a")])),
            ("services", Some(_), _) if ask.nth == 0 => Some(match how {
                "start" => Refuses(410),
                _ => Tells(vec![event("ERROR", status(410))]),
            }),
            ("b", ..) => Some(Refuses(404)),
            _ => None,
        };
        observing(answer, async |observed| {
            until(observed, |seen| services(seen).len() == 2).await;
            let seen = until(observed, |seen| services(seen).len() != 2).await;
            assert_eq!(services(&seen), ["a"], "{how}: what is still there was there all the time");
            assert!(seen.conditions.is_empty(), "{how}: it is ordinary");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_is_named_and_stays_what_it_was() {
    let mut relisted = false;
    let answer = move |ask: &Ask| match (&*ask.of, &ask.watch) {
        ("services", None) if ask.nth == 0 => Some(list(&[malformed("never"), service("web")])),
        ("services", None) => {
            relisted = true;
            Some(Says(json!({ "metadata": { "resourceVersion": "20" }, "items": [at(11, malformed("web"))] })))
        }
        ("services", Some(_)) if ask.nth == 0 => {
            Some(Tells(vec![event("MODIFIED", at(11, malformed("web"))), event("ADDED", at(12, service("next")))]))
        }
        // After a while the place is lost.
        ("services", Some(_)) if ask.nth == 1 => Some(Refuses(410)),
        ("never" | "next", _) if relisted => Some(Refuses(404)),
        _ => None,
    };
    observing(answer, async |observed| {
        let seen = until(observed, |seen| seen.synced && seen.exports.len() == 2 && left_out(seen).len() == 2).await;
        assert_eq!(services(&seen), ["next", "web"]);
        assert_eq!(left_out(&seen), ["Service shop/never", "Service shop/web"]);
        let reason = &seen.left_out["Service shop/web"];
        assert!(reason.contains("invalid type") && !reason.contains('\n'), "{reason}");
        let seen = until(observed, |seen| seen.exports.len() == 1 && left_out(seen).len() == 1).await;
        assert_eq!(services(&seen), ["web"]);
        assert_eq!(left_out(&seen), ["Service shop/web"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trouble_says_what_to_do_and_is_over_when_it_is_over() {
    for (code, reason, text) in [
        (401, Reason::CredentialsRefused, "it refuses the credentials (401 Unauthorized): renew"),
        (403, Reason::Forbidden, "it refuses this (403 Forbidden): says 403: bind the ClusterRole"),
        (503, Reason::Unreachable, "says 503 (503)"),
    ] {
        for of in ["kube-system", "services", "nodes"] {
            // Who may not even see which cluster this is has the wrong credentials.
            let reason = if of == "kube-system" && code == 403 { Reason::CredentialsRefused } else { reason };
            let answer = move |ask: &Ask| (ask.of == of && ask.watch.is_none() && ask.nth < 5).then_some(Refuses(code));
            observing(answer, async |observed| {
                let seen = until(observed, |seen| !seen.conditions.is_empty()).await;
                let trouble =
                    seen.conditions.get(reason).unwrap_or_else(|| panic!("{of} {code}: {:?}", seen.conditions));
                assert!(trouble.contains(text) && !trouble.contains('\n'), "{trouble}");
                assert!(!seen.synced && seen.settled());
                until(observed, |seen| seen.synced && seen.conditions.is_empty()).await;
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_takes_nothing_away() {
    let answer = |ask: &Ask| match (&*ask.of, &ask.watch, ask.nth) {
        ("services", None, 0) => Some(list(&[service("web")])),
        ("services", Some(_), 0) => Some(Ends(vec![event("ERROR", status(500))])),
        ("services", Some(_), 1..5) => Some(Refuses(401)),
        _ => None,
    };
    observing(answer, async |observed| {
        until(observed, |seen| seen.synced).await;
        for part in ["says 500", "401"] {
            let state = |seen: &Observed| says(seen, part);
            assert_eq!(services(&until(observed, state).await), ["web"]);
        }
        // Nothing happens in the watch that works again; that is good news too.
        let seen = until(observed, |seen| seen.conditions.is_empty()).await;
        assert!(seen.synced && services(&seen) == ["web"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_trouble() {
    let answer = |ask: &Ask| (ask.of == "services" && ask.nth == 0).then_some(Hangs);
    observing(answer, async |observed| {
        for _ in ["the list", "the start of the watch"] {
            until(observed, |seen| says(seen, "does not answer within 30 seconds")).await;
            until(observed, |seen| seen.conditions.is_empty()).await;
        }
        assert!(until(observed, |_| true).await.synced);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let answer = |ask: &Ask| match (&*ask.of, &ask.watch, ask.nth) {
        ("services", None, nth) => {
            assert_eq!(nth, 0, "nothing is lost, so nothing is listed");
            None
        }
        ("services", Some(_), 0) => Some(Ends(vec![event("ADDED", at(11, service("a")))])),
        ("services", Some(from), 1) => {
            assert_eq!(from, "11");
            Some(Tells(vec![event("ADDED", at(12, service("b")))]))
        }
        _ => None,
    };
    observing(answer, async |observed| {
        let seen = until(observed, |seen| services(seen) == ["a", "b"]).await;
        assert!(seen.conditions.is_empty(), "watches are to end");
    })
    .await;
}

/// A server that refuses, forgets or hangs up at once is asked again and again, but ever more seldom.
#[tokio::test(start_paused = true)]
async fn nothing_is_asked_in_a_hurry() {
    for how in ["refuses lists", "ends watches", "forgets places"] {
        let asked = Arc::new(Mutex::new((0, true)));
        let (counter, began) = (asked.clone(), Instant::now());
        let answer = move |ask: &Ask| {
            let (count, bad) = &mut *counter.lock().unwrap();
            if ask.of != "services" || !*bad {
                return None;
            }
            *count += 1;
            match (how, &ask.watch) {
                ("refuses lists", None) => Some(Refuses(401)),
                ("ends watches", Some(_)) => Some(Ends(vec![])),
                ("forgets places", Some(_)) => Some(Refuses(410)),
                _ => None,
            }
        };
        observing(answer, async |observed| {
            while began.elapsed() < Duration::from_secs(120) {
                sleep(Duration::from_secs(1)).await;
            }
            let (count, bad) = &mut *asked.lock().unwrap();
            assert!((30..300).contains(count), "{how}: {count} in two minutes");
            *bad = false;
            if how == "ends watches" {
                let seen = observed.borrow().clone();
                assert!(says(&seen, "it ends watches at once"), "{:?}", seen.conditions);
            }
        })
        .await;
    }
}

/// A server that asks to be left alone for a while is left alone.
#[tokio::test(start_paused = true)]
async fn a_pause_that_is_asked_for_is_kept() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let times = asked.clone();
    let answer = move |ask: &Ask| {
        (ask.of == "services" && ask.watch.is_none()).then(|| times.lock().unwrap().push(Instant::now()));
        (ask.of == "services" && ask.watch.is_none() && ask.nth == 0).then_some(Refuses(429))
    };
    observing(answer, async |observed| {
        until(observed, |seen| seen.synced).await;
        let times = asked.lock().unwrap();
        assert!(times[1] - times[0] >= Duration::from_secs(7), "{times:?}");
    })
    .await;
}

/// A list that lacks half of everything is not believed alone: each object is asked for, and what is there stays.
#[tokio::test(start_paused = true)]
async fn what_a_list_lacks_is_asked_for() {
    let answer = |ask: &Ask| match (&*ask.of, &ask.watch) {
        ("services", None) if ask.nth == 0 => Some(list(&[service("a"), service("b"), service("c")])),
        ("services", None) => Some(list(&[service("a")])),
        ("services", Some(_)) if ask.nth == 0 => Some(Tells(vec![event("ERROR", status(410))])),
        ("b", None) => Some(Says(service("b"))),
        ("c", None) => Some(Refuses(if ask.nth == 0 { 500 } else { 404 })),
        _ => None,
    };
    observing(answer, async |observed| {
        until(observed, |seen| services(seen) == ["a", "b", "c"]).await;
        until(observed, |seen| services(seen) == ["a", "b"]).await;
    })
    .await;
}

/// The canary's Lease, of which every write has a version that is ten more than the one before.
fn lease(version: u64) -> Value {
    let metadata = json!({ "namespace": "istio-system", "name": "canary", "resourceVersion": version.to_string() });
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {} })
}

/// A Lease that is written and read, and of whose renewals the watch tells nothing.
fn silent_canary(ask: &Ask, version: &mut u64) -> Option<Answer> {
    match (&*ask.of, &*ask.method, &ask.watch) {
        ("leases", "POST", _) | ("canary", "PUT", _) => {
            *version += 10;
            Some(Says(lease(*version)))
        }
        ("canary", "GET", _) => Some(Says(lease(*version))),
        // The list of the sentinel's own watch is of before; the one that is compared comes later.
        ("leases", "GET", None) if ask.nth == 0 => Some(list(&[])),
        ("leases", "GET", None) => {
            Some(Says(json!({ "metadata": { "resourceVersion": version.to_string() }, "items": [lease(*version)] })))
        }
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_does_not_come_back_freezes_until_lists_agree() {
    let mut version = 100;
    let answer = move |ask: &Ask| match (&*ask.of, &ask.watch) {
        ("services", None) => Some(list(&[service("web")])),
        ("web", None) => Some(Says(service("web"))),
        _ => silent_canary(ask, &mut version),
    };
    observing(answer, async |observed| {
        until(observed, |seen| seen.synced).await;
        let began = Instant::now();
        let seen = until(observed, |seen| seen.conditions.get(Reason::Deaf).is_some()).await;
        assert!(began.elapsed() <= Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(seen.frozen_since.is_some() && services(&seen) == ["web"]);
        // Lists agree with gets, so everything is listed anew, on a new connection.
        let seen = until(observed, |seen| seen.frozen_since.is_none()).await;
        assert!(seen.conditions.is_empty() && services(&seen) == ["web"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_canary_the_newest_object_tells_of_deafness() {
    // The watch of services is silent; what was changed stands in storage, and in new lists.
    let answer = |ask: &Ask| match (&*ask.of, &ask.watch) {
        ("services", None) if ask.nth == 0 => Some(list(&[service("web")])),
        ("services", None) => {
            let items = [at(30, service("web")), at(31, service("api"))];
            Some(Says(json!({ "metadata": { "resourceVersion": "31" }, "items": items })))
        }
        ("web", None) => Some(Says(at(30, service("web")))),
        ("api", None) => Some(Says(at(31, service("api")))),
        _ => None,
    };
    observing(answer, async |observed| {
        until(observed, |seen| seen.synced).await;
        let began = Instant::now();
        until(observed, |seen| seen.conditions.get(Reason::Deaf).is_some()).await;
        assert!(began.elapsed() <= Duration::from_secs(16), "{:?}", began.elapsed());
        let seen = until(observed, |seen| seen.conditions.is_empty()).await;
        assert_eq!(services(&seen), ["api", "web"]);
    })
    .await;
}

/// The storage has lost `web` and its endpoints, and lists go on to have them: nothing is taken away.
#[tokio::test(start_paused = true)]
async fn a_storage_that_went_back_is_told_by_lists_that_have_more() {
    let answer = |ask: &Ask| match (&*ask.of, &ask.watch) {
        ("services", None) => Some(list(&[service("web")])),
        ("web", None) => Some(Refuses(404)),
        _ => None,
    };
    observing(answer, async |observed| {
        let seen = until(observed, |seen| seen.conditions.get(Reason::RolledBack).is_some()).await;
        assert_eq!((services(&seen), seen.remembered), (vec!["web".to_owned()], 1));
        assert!(seen.remembered_names.contains("Service shop/web"));
        sleep(Duration::from_secs(600)).await;
        let seen = observed.borrow().clone();
        assert!(seen.frozen_since.is_some() && services(&seen) == ["web"]);
    })
    .await;
}

/// What may be listed and watched and not be asked for by its name: nothing is amiss yet, and it is said.
#[tokio::test(start_paused = true)]
async fn a_get_that_is_refused_is_told_until_it_is_granted() {
    let answer = |ask: &Ask| match (&*ask.of, &ask.watch) {
        ("services", None) => Some(list(&[service("web")])),
        ("web", None) if ask.nth < 3 => Some(Refuses(403)),
        ("web", None) => Some(Says(service("web"))),
        _ => None,
    };
    observing(answer, async |observed| {
        let seen = until(observed, |seen| seen.conditions.get(Reason::Forbidden).is_some()).await;
        assert!(seen.conditions.get(Reason::Forbidden).unwrap().starts_with("Service: it refuses this"));
        assert!(seen.synced && seen.frozen_since.is_none() && services(&seen) == ["web"]);
        until(observed, |seen| seen.conditions.is_empty()).await;
    })
    .await;
}

/// A Lease that may be written and not be watched: no canary, and no deafness.
#[tokio::test(start_paused = true)]
async fn a_canary_that_may_not_be_heard_says_nothing() {
    let mut version = 100;
    let answer = move |ask: &Ask| match (&*ask.of, &*ask.method, &ask.watch) {
        ("leases", "GET", _) => Some(Refuses(403)),
        _ => silent_canary(ask, &mut version),
    };
    observing(answer, async |observed| {
        until(observed, |seen| seen.synced).await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(600) {
            sleep(Duration::from_secs(1)).await;
            assert!(observed.borrow().conditions.is_empty(), "{:?}", observed.borrow().conditions);
        }
    })
    .await;
}

/// Behind one address, and perhaps one connection, there may be another cluster for a while.
#[tokio::test(start_paused = true)]
async fn of_another_cluster_nothing_is_taken_over_and_the_old_one_may_come_back() {
    let answer = |ask: &Ask| match (&*ask.of, &ask.watch) {
        ("kube-system", _) if ask.nth == 1 => Some(Says(json!({ "metadata": { "name": "kube-system", "uid": "u2" } }))),
        ("services", None) => Some(list(&[service("web")])),
        ("web", None) => Some(Says(service("web"))),
        _ => None,
    };
    observing(answer, async |observed| {
        until(observed, |seen| seen.synced).await;
        let seen = until(observed, |seen| seen.conditions.get(Reason::AnotherCluster).is_some()).await;
        assert_eq!((services(&seen), &*seen.meta.uid), (vec!["web".to_owned()], "u1"));
        let seen = until(observed, |seen| seen.frozen_since.is_none()).await;
        assert!(seen.conditions.is_empty() && services(&seen) == ["web"]);
    })
    .await;
}
