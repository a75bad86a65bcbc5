//! A way to a cluster's API server, or to the shared store, that its test can break: bytes pass through, and TLS with
//! them.
//!
//! It stands in the server's own place, so that the API server's certificate is good for it. What it can do is what
//! a middlebox does to connections that look healthy from both ends: nothing arrives, and nothing is closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{Cluster, Place, Result};

/// Larger than any record of TLS.
const BUFFER: usize = 32 << 10;

/// What happens to bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Nothing passes on connections with a number below this one.
    Silent {
        below: usize,
    },
    /// There are no connections.
    Cut,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicUsize,
    open: AtomicUsize,
}

/// A listener in a cluster's place that passes connections on; it closes all of them when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    counters: Arc<Counters>,
    /// Never read: it ends what it holds when it is dropped.
    _accepting: JoinSet<()>,
}

impl Cluster {
    /// Another way to this cluster's API server: `reader.kubeconfig_at(&proxy.url())`.
    pub fn proxy(&self) -> Result<Proxy> {
        Proxy::start(self.place(), self.place().port(6443))
    }
}

impl Proxy {
    /// Passes on what connects to a port of `place`, which the kernel chooses.
    pub(crate) fn start(place: Place, to: SocketAddr) -> Result<Self> {
        let listener = place.listen(place.port(0))?;
        let address = listener.local_addr()?;
        let (way, state) = watch::channel(Way::Open);
        let counters = Arc::new(Counters::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, place, to, state, Arc::clone(&counters)));
        Ok(Self { address, way, counters, _accepting: accepting })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same for a kubeconfig.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Nothing passes any more, in either direction, and nothing is closed; connections are still accepted.
    pub fn stall(&self) {
        self.way.send_replace(Way::Silent { below: usize::MAX });
    }

    /// Nothing passes any more on the connections that there are; new ones work.
    pub fn stall_open(&self) {
        let below = self.counters.accepted.load(Ordering::SeqCst);
        self.way.send_replace(Way::Silent { below });
    }

    /// Resets every connection, and every new one.
    pub fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    /// Everything passes again, and first what was held back.
    pub fn resume(&self) {
        self.way.send_replace(Way::Open);
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// Connections that were ever accepted.
    pub fn accepted(&self) -> usize {
        self.counters.accepted.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    place: Place,
    to: SocketAddr,
    way: watch::Receiver<Way>,
    counters: Arc<Counters>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                let number = counters.accepted.fetch_add(1, Ordering::SeqCst);
                connections.spawn(pass(client, place, to, number, way.clone(), Arc::clone(&counters)));
            }
        }
    }
}

/// One connection, until one end closes it or the way is cut.
async fn pass(
    mut client: TcpStream,
    place: Place,
    to: SocketAddr,
    number: usize,
    way: watch::Receiver<Way>,
    counters: Arc<Counters>,
) {
    let _open = Open::count(counters);
    let Ok(mut server) = place.connect(to).await else { return };
    let mut reset = way.clone();
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let there = pump(from_client, to_server, number, way.clone());
        let back = pump(from_server, to_client, number, way);
        tokio::select! {
            _ = reset.wait_for(|way| *way == Way::Cut) => {}
            _ = async { futures::try_join!(there, back) } => return,
        }
    }
    // Nobody has to hear of it: whoever is left finds the connection gone.
    let _ = client.set_zero_linger();
    let _ = server.set_zero_linger();
}

/// One direction, with its end.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, number: usize, mut way: watch::Receiver<Way>) -> Result {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        way.wait_for(|way| way.lets_pass(number)).await?;
        if length == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&buffer[..length]).await?;
    }
}

// === impl Way ===

impl Way {
    const fn lets_pass(self, number: usize) -> bool {
        match self {
            Self::Open => true,
            Self::Silent { below } => number >= below,
            Self::Cut => false,
        }
    }
}

// === impl Open ===

/// Counts a connection for as long as it lives.
struct Open(Arc<Counters>);

impl Open {
    fn count(counters: Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Ordering::SeqCst);
        Self(counters)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
