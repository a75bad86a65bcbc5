//! A place: one network namespace on the wire, and how to do something *there*.
//!
//! A socket stays in the namespace it was made in, whoever uses it later. So a place makes sockets on a
//! short-lived thread that has moved there, and hands them to the test's own runtime; nothing else of the test
//! ever leaves the sandbox. Child processes are started there by `ip netns exec`.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::{Resolver, Result, network};

/// What a connection may take before the other side counts as unreachable: far more than a busy machine needs
/// on one bridge, far less than the kernel's own patience.
const CONNECT: Duration = Duration::from_secs(2);

/// One network namespace with an address on the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    name: &'static str,
    address: Ipv4Addr,
    entered_by_name: bool,
}

impl Place {
    pub(crate) const fn named(name: &'static str, address: Ipv4Addr) -> Self {
        Self { name, address, entered_by_name: true }
    }

    /// The namespace that the test process is in already.
    pub(crate) const fn sandbox(name: &'static str, address: Ipv4Addr) -> Self {
        Self { name, address, entered_by_name: false }
    }

    /// Makes one for a test that needs no fleet: it has these addresses, and nothing leads there or out of it.
    pub fn alone(name: &'static str, address: Ipv4Addr, more: &[Ipv4Addr]) -> Result<Self> {
        let place = Self::named(name, address);
        network::alone(place, more)?;
        Ok(place)
    }

    /// `east`, `west`, `south`, `store`, `test`, or what its test called it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its address on the bridge.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A port of this place, as others dial it.
    pub const fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), port)
    }

    pub(crate) const fn is_sandbox(&self) -> bool {
        !self.entered_by_name
    }

    /// Runs `make` on a thread inside this place.
    pub fn enter<T: Send>(&self, make: impl FnOnce() -> T + Send) -> Result<T> {
        if self.is_sandbox() {
            return Ok(make());
        }
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<T> {
                self.move_here()?;
                Ok(make())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread here for good.
    pub(crate) fn move_here(&self) -> Result {
        let path = Path::new("/run/netns").join(self.name);
        let namespace = File::open(&path).with_context(|| format!("no place {}", path.display()))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("enter {}", self.name))
    }

    /// Connects from here to `to`; an address that answers nothing is an error after two seconds.
    pub async fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        self.connect_from(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0), to).await
    }

    /// The same from an address of here, such as a pod's.
    pub(crate) async fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
        let socket = self.enter(TcpSocket::new_v4)??;
        socket.bind(from).with_context(|| format!("no address {from} in {}", self.name))?;
        let what = || format!("connect from {} to {to}", self.name);
        let stream = timeout(CONNECT, socket.connect(to)).await.with_context(what)?.with_context(what)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Listens here; every address of the cluster's pods is one of its own.
    pub fn listen(&self, on: SocketAddr) -> Result<TcpListener> {
        let listener = self
            .enter(|| std::net::TcpListener::bind(on))?
            .with_context(|| format!("listen in {} on {on}", self.name))?;
        listener.set_nonblocking(true)?;
        Ok(TcpListener::from_std(listener)?)
    }

    /// Any DNS server, asked from here.
    pub const fn resolver(&self, server: SocketAddr) -> Resolver {
        Resolver::new(*self, server)
    }

    /// A datagram socket from here to `to`.
    pub(crate) fn datagrams(&self, to: SocketAddr) -> Result<UdpSocket> {
        let socket = self
            .enter(|| {
                let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                socket.connect(to).map(|()| socket)
            })?
            .with_context(|| format!("no route from {} to {to}", self.name))?;
        socket.set_nonblocking(true)?;
        Ok(UdpSocket::from_std(socket)?)
    }

    /// A command that will run here.
    pub(crate) fn command(&self, program: &Path) -> Command {
        if self.is_sandbox() {
            return Command::new(program);
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name]).arg(program);
        command
    }
}

/// Runs a short command to its end; its error output becomes the error.
pub(crate) fn run(command: &mut Command) -> Result {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?} {:?}: {}", command.get_program(), command.get_args(), said.trim());
    Ok(())
}
