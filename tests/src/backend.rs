//! What listens on a pod's address: the least HTTP server that says who it is, and ends like a crash when it is dropped.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Result;
use crate::place::Place;

/// A server that answers everything with its own address.
#[derive(Debug)]
pub struct Backend {
    /// The listener and its connections, which end with it.
    _server: JoinSet<()>,
}

impl Place {
    /// Has a server listen here on an address of a pod.
    pub fn serve(&self, on: SocketAddr) -> Result<Backend> {
        let listener = self.listen(on)?;
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    // Whoever goes away in the middle of it has no use for an answer.
                    let _ = answer(stream, on).await;
                });
            }
        });
        Ok(Backend { _server: server })
    }
}

/// Answers requests without a body, one after the other, until the other side has no more.
async fn answer(mut stream: TcpStream, name: SocketAddr) -> Result {
    let name = name.to_string();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
    let (mut asked, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut some).await? {
            0 => return Ok(()),
            count => asked.extend_from_slice(&some[..count]),
        }
        if asked.ends_with(b"\r\n\r\n") {
            asked.clear();
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}
