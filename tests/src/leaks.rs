//! What a process holds of the machine, from `/proc`: what must not grow while nothing changes.
//!
//! A figure is a look at one moment. Connections that a test has open to the process count as its own.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, ensure};

use crate::Result;

/// How `/proc/net/tcp` calls a connection that is up.
const ESTABLISHED: &str = "01";

/// What a process holds; later minus earlier is a leak, if it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaks {
    /// Open file descriptors.
    pub files: usize,
    /// Established TCP connections that it has an open descriptor of.
    pub connections: usize,
    /// Threads.
    pub threads: usize,
    /// Bytes of memory that are resident now.
    pub resident: u64,
    /// The most bytes that ever were.
    pub peak: u64,
}

impl Leaks {
    /// Looks at a process, wherever its network is.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = value.and_then(|value| value.split_whitespace().next());
            Ok(number.with_context(|| format!("no {name} in /proc/{pid}/status"))?.parse()?)
        };
        Ok(Self {
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            connections: connections(pid)?.len(),
            threads: usize::try_from(field("Threads")?)?,
            resident: field("VmRSS")? << 10,
            peak: field("VmHWM")? << 10,
        })
    }
}

/// The other ends of a process's established TCP connections.
pub(crate) fn connections(pid: u32) -> Result<Vec<SocketAddr>> {
    let mut sockets = BTreeSet::new();
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed between the two looks.
        let Ok(target) = fs::read_link(descriptor?.path()) else { continue };
        let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
        sockets.extend(inode.map(ToOwned::to_owned));
    }
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        // The tables are those of the process's network namespace: other processes are in them as well.
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}"))?;
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            ensure!(fields.len() > 9, "a line of /proc/{pid}/net is short: {line}");
            if fields[3] == ESTABLISHED && sockets.contains(fields[9]) {
                found.push(address(fields[2]).with_context(|| format!("not an address: {}", fields[2]))?);
            }
        }
    }
    Ok(found)
}

/// `0100000A:192B` is 10.0.0.1:6443: words of 32 bits in the machine's own order, the port as one reads it.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..address.len() / 8)
        .map(|word| Some(u32::from_str_radix(address.get(8 * word..8 * word + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let address = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical(),
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_kernel_are_read() {
        let read = |text: &str| address(text).map(|address| address.to_string());
        let ours = |big_endian: &str| match cfg!(target_endian = "little") {
            true => big_endian.as_bytes().chunks(8).map(swap).collect::<String>(),
            false => big_endian.to_owned(),
        };
        assert_eq!(read(&format!("{}:192B", ours("0A000001"))).as_deref(), Some("10.0.0.1:6443"));
        let mapped = ours("00000000000000000000FFFF0A000001");
        assert_eq!(read(&format!("{mapped}:192B")).as_deref(), Some("10.0.0.1:6443"));
        assert_eq!(read(&format!("{}:1", ours("00000000000000000000000000000001"))).as_deref(), Some("[::1]:1"));
        assert_eq!(read("0A00:1"), None);
    }

    #[test]
    fn a_connection_and_its_file_are_seen_and_go() -> Result {
        let own = std::process::id();
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let to = listener.local_addr()?;
        let count = || -> Result<usize> { Ok(connections(own)?.iter().filter(|peer| **peer == to).count()) };
        assert_eq!(count()?, 0);
        let client = std::net::TcpStream::connect(to)?;
        assert_eq!(count()?, 1);
        let leaks = Leaks::of(own)?;
        assert!(leaks.peak >= leaks.resident && leaks.threads > 0 && leaks.files > 2, "{leaks:?}");
        drop(client);
        assert_eq!(count()?, 0);
        Ok(())
    }

    /// Eight hexadecimal digits with their bytes in reverse.
    fn swap(word: &[u8]) -> String {
        word.chunks(2).rev().map(|byte| String::from_utf8_lossy(byte).into_owned()).collect()
    }
}
