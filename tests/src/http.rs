//! The least HTTP that health and admin ports need: one question, one answer, from any place.
//!
//! A connection is for one question, so that the answer ends with it. No TLS: API servers are spoken to by kube's client.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Result;
use crate::place::Place;

/// A health or admin port that takes longer is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);

/// The body of a `200` answer; any other answer is an error that quotes it.
pub(crate) async fn get(from: Place, server: SocketAddr, path: &str) -> Result<String> {
    let question = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    ask(from, server, &question).await.with_context(|| format!("GET http://{server}{path}"))
}

/// The same for a question that is JSON itself.
pub(crate) async fn post(from: Place, server: SocketAddr, path: &str, json: &str) -> Result<String> {
    let length = json.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    let question = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}");
    ask(from, server, &question).await.with_context(|| format!("POST http://{server}{path}"))
}

async fn ask(from: Place, server: SocketAddr, question: &str) -> Result<String> {
    let answer = timeout(PATIENCE, exchange(from, server, question)).await;
    let (status, body) = answer.with_context(|| format!("no answer from {server}"))??;
    ensure!(status == 200, "{server} answers {status}: {}", body.trim());
    Ok(body)
}

async fn exchange(from: Place, server: SocketAddr, question: &str) -> Result<(u16, String)> {
    answer(from.connect(server).await?, question).await
}

/// Status and body of the answer to a question that ends its connection.
pub(crate) async fn answer(mut stream: TcpStream, question: &str) -> Result<(u16, String)> {
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    // Envoy keeps a connection open for a second after an answer of its own.
    while length(&answer).is_none_or(|length| answer.len() < length) && stream.read_buf(&mut answer).await? > 0 {}
    let end = end_of_head(&answer).context("not an HTTP answer")?;
    let (head, body) = (std::str::from_utf8(&answer[..end])?.to_ascii_lowercase(), &answer[end..]);
    let status = head.split_whitespace().nth(1).context("no status in the answer")?;
    let chunked = head.lines().any(|line| line.starts_with("transfer-encoding:") && line.ends_with("chunked"));
    let body = if chunked { joined(body)? } else { body.to_owned() };
    Ok((status.parse().context("not an HTTP status")?, String::from_utf8(body)?))
}

/// Where the body begins.
fn end_of_head(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4)
}

/// How long an answer is that says so.
fn length(answer: &[u8]) -> Option<usize> {
    let end = end_of_head(answer)?;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_ascii_lowercase();
    let body: usize = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
    Some(end + body)
}

/// A body that came in chunks (RFC 9112, section 7.1).
fn joined(mut chunks: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|bytes| bytes == b"\r\n").context("a chunk without a size")?;
        let size = std::str::from_utf8(&chunks[..end])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).context("not the size of a chunk")?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = chunks.get(end + 2..end + 2 + size).context("a chunk that was cut off")?;
        body.extend_from_slice(chunk);
        chunks = chunks.get(end + 2 + size + 2..).context("a body that was cut off")?;
    }
}

#[cfg(test)]
mod tests {
    use super::{joined, length};

    #[test]
    fn chunks_are_joined() {
        let whole = |text: &str| joined(text.as_bytes()).map(|body| String::from_utf8(body).unwrap()).ok();
        assert_eq!(whole("0\r\n\r\n").as_deref(), Some(""));
        assert_eq!(whole("3\r\nabc\r\nA;x=y\r\n0123\r\n6789\r\n0\r\n\r\n").as_deref(), Some("abc0123\r\n6789"));
        for wrong in ["", "3", "x\r\n", "3\r\nab", "3\r\nabc\r\n"] {
            assert_eq!(whole(wrong), None, "{wrong:?}");
        }
    }
    #[test]
    fn an_answer_is_as_long_as_it_says() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(length(head.as_bytes()), Some(head.len() + 3));
        for untold in ["", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "HTTP/1.1 200 OK\r\n\r\nContent-Length: 3\r\n"] {
            assert_eq!(length(untold.as_bytes()), None, "{untold:?}");
        }
    }
}
