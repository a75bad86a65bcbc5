//! The sockets of one listener: every address over UDP and over TCP.
//!
//! Binding is apart from serving, so that a process knows its real addresses, and its user's mistakes, before anything
//! runs. It needs no runtime, and it knows nothing of DNS.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZero;
use std::thread::available_parallelism;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::metrics::Transport;

/// Linux' default of 208 KiB loses a burst of more than some 390 small queries; the kernel may grant less than this
/// (`net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 4 << 20;

/// Connections that wait to be accepted: a CoreDNS with a cold cache opens one for each query it has in flight.
const BACKLOG: i32 = 1024;

/// A port that was free over TCP may be taken over UDP; so many others are tried.
const FREE_PORT_TRIES: usize = 16;

/// Sockets that are bound; datagrams and connections queue up in the kernel until they are served.
#[derive(Debug)]
pub struct Bound {
    pub(crate) pairs: Vec<Pair>,
}

/// One address, both transports.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) address: SocketAddr,
    /// Several, among which the kernel divides clients.
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: TcpListener,
}

/// Which address could not be had, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} over {transport}")]
pub struct BindError {
    /// As it was asked for.
    pub address: SocketAddr,
    /// The half that failed.
    pub transport: Transport,
    /// What the system says.
    pub source: io::Error,
}

// === impl Bound ===

impl Bound {
    /// Binds each address over both transports; port 0 becomes a port that is free on both.
    ///
    /// `[::]` serves IPv4 too, unless an IPv4 address is among the others. On a host with several addresses name them:
    /// an answer from a wildcard address over UDP may leave from another one than was asked.
    ///
    /// # Errors
    ///
    /// The first address that cannot be bound; the others are let go.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let only_v6 = addresses.iter().any(SocketAddr::is_ipv4);
        // A thread each. Those who ask run on the same machine as often as not, and an answer from a thread that had to be
        // woken for it costs a third more.
        let sockets = available_parallelism().map_or(1, NonZero::get).div_ceil(2);
        let pairs = addresses.iter().map(|address| Pair::bind(*address, only_v6, sockets));
        Ok(Self { pairs: pairs.collect::<Result<_, _>>()? })
    }

    /// The real addresses, in the order they were asked for.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.pairs.iter().map(|pair| pair.address)
    }

    /// The first of the real addresses; `None` if none was asked for.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addresses().next()
    }
}

// === impl Pair ===

impl Pair {
    fn bind(address: SocketAddr, only_v6: bool, sockets: usize) -> Result<Self, BindError> {
        let error = |transport| move |source| BindError { address, transport, source };
        let mut tries = if address.port() == 0 { FREE_PORT_TRIES } else { 1 };
        loop {
            let tcp = listen(address, only_v6).map_err(error(Transport::Tcp))?;
            let real = tcp.local_addr().map_err(error(Transport::Tcp))?;
            tries -= 1;
            match (0..sockets).map(|_| receive(real, only_v6)).collect() {
                Ok(udp) => {
                    return Ok(Self { address: real, udp, tcp });
                }
                Err(taken) if taken.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
                Err(source) => return Err(error(Transport::Udp)(source)),
            }
        }
    }
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = socket(address, only_v6, Type::STREAM, Protocol::TCP)?;
    // Connections of the process before us may linger in TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn receive(address: SocketAddr, only_v6: bool) -> io::Result<UdpSocket> {
    let socket = socket(address, only_v6, Type::DGRAM, Protocol::UDP)?;
    // For sockets of one user alone. Another process is told by the address over TCP, which it cannot have too.
    socket.set_reuse_port(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, only_v6: bool, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
