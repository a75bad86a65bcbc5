//! One GET on the loopback, one answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use harness::Result;

/// The metrics of a busy process, and the status of a large fleet.
const PATIENCE: Duration = Duration::from_secs(30);

/// The body of a `200` answer.
pub(super) fn get(server: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    ensure!(head.split_whitespace().nth(1) == Some("200"), "http://{server}{path}: {}", body.trim());
    Ok(body.to_owned())
}
