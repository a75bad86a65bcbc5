//! The stage against an API server that is a function, with time paused: what it does to the roster when Secrets
//! change under a watch and behind its back, and when it goes back to an earlier state.

use super::*;
use crate::condition::Reason;
use axum::{Router, body::Body, extract::Request, http::Response};
use futures::stream;
use model::name::ClusterId;
use serde_json::{Value, json};
use std::{collections::BTreeMap, convert::Infallible};
use tokio::task::JoinSet;

/// What the API server holds.
#[derive(Clone, Default)]
struct World {
    version: u64,
    secrets: BTreeMap<String, Value>,
    /// Told to the watches of this version; without any, they end.
    tells: Option<Value>,
    /// A namespace that must not be read.
    forbidden: Option<&'static str>,
}

fn secret(name: &str, version: u64, west: &str) -> Value {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    let labels = json!({ "istio/multiCluster": "true" });
    let metadata =
        json!({ "namespace": namespace, "name": name, "labels": labels, "resourceVersion": version.to_string() });
    json!({ "kind": "Secret", "apiVersion": "v1", "metadata": metadata, "data": { west: "MQ==" } })
}

impl World {
    fn answer(&self, request: &Request) -> (u16, Value) {
        let path: Vec<_> = request.uri().path().trim_matches('/').split('/').collect();
        let (namespace, name) = (path[3], path.get(5));
        if self.forbidden == Some(namespace) {
            return (403, json!({ "kind": "Status", "code": 403, "message": "no", "status": "Failure", "reason": "" }));
        }
        match name {
            Some(name) => match self.secrets.get(&format!("{namespace}/{name}")) {
                Some(secret) => (200, secret.clone()),
                None => (
                    404,
                    json!({ "kind": "Status", "code": 404, "message": "no", "status": "Failure", "reason": "NotFound" }),
                ),
            },
            None => {
                assert!(
                    request.uri().query().unwrap_or_default().contains("labelSelector=istio%2FmultiCluster%3Dtrue")
                );
                let items: Vec<_> = self.secrets.iter().filter(|(name, _)| name.starts_with(namespace)).collect();
                let items: Vec<_> = items.into_iter().map(|(_, secret)| secret).collect();
                let metadata = json!({ "resourceVersion": self.version.to_string() });
                (200, json!({ "kind": "SecretList", "apiVersion": "v1", "metadata": metadata, "items": items }))
            }
        }
    }
}

async fn respond(world: watch::Receiver<World>, request: Request) -> Result<Response<Body>, Infallible> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let now = world.borrow().clone();
    let (code, value) = if query.contains("watch=true") && !query.contains(&format!("resourceVersion={}", now.version))
    {
        (410, json!({ "kind": "Status", "code": 410, "message": "too old", "status": "Failure", "reason": "Expired" }))
    } else {
        now.answer(&request)
    };
    let body = if query.contains("watch=true") && code == 200 {
        let mut world = world;
        world.mark_unchanged();
        Body::from_stream(stream::unfold(world, |mut world| async move {
            world.changed().await.ok()?;
            let event = world.borrow_and_update().tells.clone()?;
            Some((Ok::<_, Infallible>(format!("{event}\n")), world))
        }))
    } else {
        Body::from(value.to_string())
    };
    Ok(Response::builder().status(code).body(body).expect("a response"))
}

/// A stage over an API server, reading the namespaces `fed` and `mesh`.
struct Bed {
    world: watch::Sender<World>,
    roster: watch::Receiver<Roster<String>>,
    _task: JoinSet<()>,
}

impl Bed {
    fn start(world: World) -> Self {
        let world = watch::Sender::new(world);
        let seen = world.subscribe();
        let router = Router::new().fallback(move |request: Request| respond(seen.clone(), request));
        let names = Names {
            home: ClusterId::parse("home").expect("an id"),
            configured: BTreeSet::new(),
            aliases: BTreeMap::new(),
        };
        let parse: Parse<String> = Arc::new(|bytes: &[u8]| Ok(String::from_utf8_lossy(bytes).into_owned()));
        let config = Config { namespaces: vec!["mesh".to_owned()], names, parse };
        let (sender, roster) = watch::channel(Roster::default());
        let mut task = JoinSet::new();
        task.spawn(run(config, Client::new(router, "fed"), sender));
        Self { world, roster, _task: task }
    }

    /// Waits until the clusters are these, with a `?` behind those whose Secret is missing.
    async fn comes_to(&mut self, expected: &str) {
        let shown = |roster: &Roster<String>| {
            let missing = |id: &ClusterId| {
                roster.conditions.get(id.as_str()).is_some_and(|all| all.get(Reason::SecretMissing).is_some())
            };
            let id = |id: &ClusterId| format!("{id}{}", if missing(id) { "?" } else { "" });
            roster.members.keys().map(id).collect::<Vec<_>>().join(" ")
        };
        let wait = self.roster.wait_for(|roster| shown(roster) == expected);
        let waited = timeout(Duration::from_secs(600), wait).await.is_ok();
        assert!(waited, "expected {expected}, is {}", shown(&self.roster.borrow()));
    }

    fn becomes(&self, change: impl FnOnce(&mut World)) {
        self.world.send_modify(change);
    }
}

fn two() -> World {
    let secrets = [("fed/w", secret("fed/w", 90, "west")), ("mesh/n", secret("mesh/n", 95, "north"))];
    let secrets = secrets.map(|(name, secret)| (name.to_owned(), secret)).into();
    World { version: 100, secrets, ..World::default() }
}

#[tokio::test(start_paused = true)]
async fn a_watch_says_who_comes_and_goes() {
    let mut bed = Bed::start(two());
    bed.comes_to("north west").await;
    // Both watches hear of it; there is one of each namespace.
    bed.becomes(|world| world.tells = Some(json!({ "type": "ADDED", "object": secret("fed/e", 100, "east") })));
    bed.comes_to("east north west").await;
    bed.becomes(|world| world.tells = Some(json!({ "type": "DELETED", "object": secret("fed/e", 100, "east") })));
    bed.comes_to("north west").await;
    let mut bare = secret("fed/w", 100, "west");
    bare["metadata"]["labels"] = json!({});
    bed.becomes(|world| world.tells = Some(json!({ "type": "MODIFIED", "object": bare })));
    bed.comes_to("north").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_list_lacks_goes_once_that_is_confirmed() {
    let mut bed = Bed::start(two());
    bed.comes_to("north west").await;
    bed.becomes(|world| {
        world.version = 110;
        world.secrets.remove("mesh/n");
    });
    bed.comes_to("north? west").await;
    bed.comes_to("west").await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_went_back_removes_nobody() {
    let mut bed = Bed::start(two());
    bed.comes_to("north west").await;
    let restored = |world: &mut World| {
        world.version = 80;
        world.secrets.clear();
    };
    bed.becomes(restored);
    bed.comes_to("north? west?").await;
    sleep(LOOK * 4).await;
    // It goes on by other writes, past what it once was.
    bed.becomes(|world| world.version = 500);
    sleep(LOOK * 4).await;
    bed.comes_to("north? west?").await;
    bed.becomes(|world| {
        world.version = 501;
        world.secrets.insert("fed/w".to_owned(), secret("fed/w", 501, "west"));
    });
    bed.comes_to("north? west").await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_must_not_be_read_holds_up_no_other() {
    let mut bed = Bed::start(World { forbidden: Some("mesh"), ..two() });
    bed.comes_to("west").await;
    let roster = bed.roster.borrow().clone();
    assert!(!roster.complete && roster.troubles["mesh"].contains("403"), "{roster:?}");
    bed.becomes(|world| world.forbidden = None);
    bed.comes_to("north west").await;
}
