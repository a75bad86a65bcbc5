//! The least HTTP that health and admin ports need: one question, one answer, from any place.
//!
//! Version 1.0, so that the answer ends with the connection and is never chunked. No TLS: API servers are
//! spoken to by kube's client.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::Result;
use crate::place::Place;

/// A health or admin port that takes longer is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);

/// The body of a `200` answer; any other answer is an error that quotes it.
pub(crate) async fn get(from: Place, server: SocketAddr, path: &str) -> Result<String> {
    ask(from, server, path, &format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")).await
}

/// The same for a question that is JSON itself.
pub(crate) async fn post(from: Place, server: SocketAddr, path: &str, json: &str) -> Result<String> {
    let length = json.len();
    let head = format!("POST {path} HTTP/1.0\r\nHost: {server}\r\nContent-Type: application/json\r\n");
    ask(from, server, path, &format!("{head}Content-Length: {length}\r\n\r\n{json}")).await
}

async fn ask(from: Place, server: SocketAddr, path: &str, question: &str) -> Result<String> {
    let (status, body) = timeout(PATIENCE, exchange(from, server, question))
        .await
        .with_context(|| format!("no answer from http://{server}{path}"))??;
    ensure!(status == 200, "http://{server}{path} answers {status}: {}", body.trim());
    Ok(body)
}

async fn exchange(from: Place, server: SocketAddr, question: &str) -> Result<(u16, String)> {
    let mut stream = from.connect(server).await?;
    stream.write_all(question.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split_whitespace().nth(1).context("no status in the answer")?;
    Ok((status.parse().context("not an HTTP status")?, body.to_owned()))
}
