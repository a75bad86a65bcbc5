//! The admin port. Answers from memory, but for the snapshot, writes nothing, asks nobody.

use super::{Sources, report::Report};
use crate::snapshot;
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
        .route("/snapshot", get(give))
        .with_state(Admin { sources, registry: Arc::new(registry) });
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// Ready once names that are not there can be said not to exist, or what an earlier process knew is answered; until then
/// it says what is awaited.
async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let gathered = admin.sources.gathered.borrow().clone();
    if gathered.is_ready() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let mut awaited = Vec::new();
    if gathered.store == crate::gather::StoreHealth::NeverRead {
        awaited.push("the store was not read yet".to_owned());
    }
    for (id, own) in &*admin.sources.own.borrow() {
        if !own.observed.borrow().settled() {
            awaited.push(format!("cluster {id} was not seen whole yet"));
        }
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", awaited.join("; ")))
}

async fn status(State(admin): State<Admin>) -> Json<Report> {
    Json(Report::new(&admin.sources))
}

async fn view(State(admin): State<Admin>) -> String {
    let view = admin.sources.gathered.borrow().view.clone();
    view.canonical()
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
