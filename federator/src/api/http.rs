//! The admin port. Answers from memory, but for the snapshot, writes nothing, asks nobody.

use super::{Sources, report::Report};
use crate::{emit::yaml, gather::StoreHealth, snapshot};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{io, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The type of OpenMetrics text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The type of YAML (RFC 9512).
const YAML: &str = "application/yaml";

#[derive(Clone)]
struct Admin {
    sources: Sources,
    registry: Arc<Registry>,
}

/// Serves until `shutdown`.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    sources: Sources,
    registry: Registry,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/view", get(view))
        .route("/objects", get(objects))
        .route("/snapshot", get(give))
        .with_state(Admin { sources, registry: Arc::new(registry) });
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// Ready once names that are not there can be said not to exist, or what an earlier process knew is answered; until then
/// it says what is awaited.
async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    if *admin.sources.ready.borrow() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let mut awaited = awaited(&admin.sources);
    if admin.sources.gathered.borrow().is_ready() {
        awaited.insert(0, "what is known is not answered yet".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", awaited.join("; ")))
}

/// What has to come before everything is known.
fn awaited(sources: &Sources) -> Vec<String> {
    let gathered = sources.gathered.borrow().clone();
    let mut awaited = Vec::new();
    if matches!(gathered.store, StoreHealth::NeverRead | StoreHealth::Snapshot) {
        awaited.push("the store was not read yet".to_owned());
    }
    for (id, own) in &*sources.own.borrow() {
        if !own.observed.borrow().settled() {
            awaited.push(format!("cluster {id} was not seen whole yet"));
        }
    }
    for id in &*gathered.aside {
        awaited.push(format!("no marker vouches for what the store holds of cluster {id}"));
    }
    awaited
}

async fn status(State(admin): State<Admin>) -> Json<Report> {
    Json(Report::new(&admin.sources))
}

async fn view(State(admin): State<Admin>) -> String {
    let view = admin.sources.gathered.borrow().view.clone();
    view.canonical()
}

/// What is to be emitted. Not all of it, or nothing at all, would be taken for what the agent means to write.
async fn objects(State(admin): State<Admin>) -> Response {
    let Some(desired) = &admin.sources.desired else {
        return (StatusCode::NOT_FOUND, "this agent emits nothing: set `emit.kubernetes` or `emit.directory`\n")
            .into_response();
    };
    // Whatever is there when somebody asks for the first time: it is not marked as seen.
    if !desired.has_changed().unwrap_or_default() {
        let awaited = awaited(&admin.sources).join("; ");
        let awaited = if awaited.is_empty() { "see /status" } else { &awaited };
        let why = format!("not all of the fleet is known yet: {awaited}\n");
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    let all = desired.borrow().clone();
    ([(header::CONTENT_TYPE, YAML)], yaml::documents(&all)).into_response()
}

async fn give(State(admin): State<Admin>) -> Response {
    snapshot::give(admin.sources.snapshot.file.as_deref()).await
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &admin.registry);
    ([(header::CONTENT_TYPE, OPEN_METRICS)], text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::rules::ImportRules, emit, gather::Gathered, membership::roster::Roster, snapshot::Kept};
    use model::{name::ClusterId, reach::Place, tracked::Tracked};
    use std::time::SystemTime;
    use tokio::sync::watch;

    #[tokio::test]
    async fn it_is_ready_when_dns_answers_so_and_not_when_it_is_only_known() {
        for (complete, answered, code) in [
            (false, false, StatusCode::SERVICE_UNAVAILABLE),
            (true, false, StatusCode::SERVICE_UNAVAILABLE),
            (true, true, StatusCode::OK),
            (false, true, StatusCode::OK),
        ] {
            let place = Place {
                cluster: ClusterId::parse("east").expect("an id"),
                network: Default::default(),
                mode: Default::default(),
            };
            let sources = Sources {
                agent: "east-1".to_owned(),
                place,
                gathered: watch::Sender::new(Gathered { complete, ..Gathered::default() }).subscribe(),
                ready: watch::Sender::new(answered).subscribe(),
                unconfirmed: watch::Sender::default().subscribe(),
                import: watch::Sender::new(ImportRules::default()).subscribe(),
                upkeep: watch::Sender::default().subscribe(),
                own: watch::Sender::default().subscribe(),
                roster: watch::Sender::new(Roster::default()).subscribe(),
                desired: None,
                emitted: watch::Sender::new(emit::Status::default()).subscribe(),
                entry_conditions: watch::Sender::new(Tracked::new()).subscribe(),
                snapshot: Kept {
                    file: None,
                    status: watch::Sender::default().subscribe(),
                    clock: || SystemTime::UNIX_EPOCH,
                },
            };
            let admin = Admin { sources: sources.clone(), registry: Arc::default() };
            let said = readyz(State(admin)).await.into_response();
            assert_eq!(said.status(), code, "complete: {complete}, answered: {answered}");
            assert_eq!(Report::new(&sources).ready, answered, "complete: {complete}, answered: {answered}");
        }
    }
}
