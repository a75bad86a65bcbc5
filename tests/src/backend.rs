//! What listens on a pod's address: the least HTTP server that says who it is, may be told to fail or to be silent, and
//! ends like a crash when it is dropped.

use std::future;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Result;
use crate::place::Place;

/// What ends a connection with its answer.
const LAST: &[u8] = b"\r\nconnection: close\r\n";

/// How a server takes the next questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// Its address.
    Good,
    /// 503.
    Failing,
    /// No answer, and no end of the connection.
    Silent,
}

/// A server that answers everything with its own address, as long as nothing else is asked of it.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    manners: watch::Sender<Manners>,
    /// The listener and its connections, which end with it.
    _server: JoinSet<()>,
}

impl Place {
    /// Has a server listen here on an address of a pod; port 0 is one that the kernel chooses.
    pub fn serve(&self, on: SocketAddr) -> Result<Backend> {
        let listener = self.listen(on)?;
        let address = listener.local_addr()?;
        let (manners, state) = watch::channel(Manners::Good);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                connections.spawn(async move {
                    // Whoever goes away in the middle of it has no use for an answer.
                    let _ = answer(stream, address, &state).await;
                });
            }
        });
        Ok(Backend { address, manners, _server: server })
    }
}

impl Backend {
    /// Where it listens, which is what it answers.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it takes the questions that come from now on.
    pub fn behave(&self, manners: Manners) {
        self.manners.send_replace(manners);
    }
}

/// Answers requests without a body, one after the other, until the other side has no more, or says that it was the last.
async fn answer(mut stream: TcpStream, name: SocketAddr, manners: &watch::Receiver<Manners>) -> Result {
    let name = name.to_string();
    let good = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
    let (mut asked, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut some).await? {
            0 => return Ok(()),
            count => asked.extend_from_slice(&some[..count]),
        }
        if !asked.ends_with(b"\r\n\r\n") {
            continue;
        }
        let last = asked.to_ascii_lowercase().windows(LAST.len()).any(|line| line == LAST);
        asked.clear();
        let manners = *manners.borrow();
        match manners {
            Manners::Good => stream.write_all(good.as_bytes()).await?,
            Manners::Failing => {
                stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await?;
            }
            Manners::Silent => future::pending().await,
        }
        if last {
            return Ok(());
        }
    }
}
