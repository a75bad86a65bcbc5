//! The records that all servers have, in the form each of them reads: services of one address a family and one named port,
//! three records each. And the questions for them.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use dns::{Apex, Name, Node, Srv, Zone};
use harness::Result;
use serde_json::{Value, json};

/// Seconds an answer may be kept, everywhere.
pub(super) const TTL: u32 = 5;

/// Where every service listens.
const PORT: u16 = 8080;

/// A, AAAA and SRV.
pub(super) const RECORDS: u32 = 3;

/// Services in one file of manifests.
const IN_A_FILE: u32 = 20;

/// `s7.bench.global`.
pub(super) fn name(number: u32) -> String {
    format!("s{number}.bench.global")
}

pub(super) fn v4(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a10_0000 + number)
}

fn v6(number: u32) -> Ipv6Addr {
    Ipv6Addr::from((0xfd00 << 112) + u128::from(number) + 1)
}

/// Questions in dnsperf's form, neighbours far apart: of ten five for A, two for AAAA, one for SRV, and two for names that
/// do not exist.
pub(super) fn write_queries(path: &Path, names: u32) -> Result {
    let mut text = String::new();
    // A prime that divides no sensible number of names, so that the steps come by all of them.
    for step in 0..u64::from(names) {
        let number = u32::try_from(step * 7919 % u64::from(names))?;
        match step % 10 {
            0..5 => writeln!(text, "{} A", name(number))?,
            5 | 6 => writeln!(text, "{} AAAA", name(number))?,
            7 => writeln!(text, "_http._tcp.{} SRV", name(number))?,
            _ => writeln!(text, "x{number}.bench.global A")?,
        }
    }
    Ok(fs::write(path, text)?)
}

/// Manifests of a cluster.
pub(super) fn write_manifests(directory: &Path, names: u32) -> Result {
    fs::create_dir_all(directory)?;
    for first in (0..names).step_by(IN_A_FILE as usize) {
        let mut text = String::new();
        for number in first..names.min(first + IN_A_FILE) {
            for manifest in manifests(number) {
                writeln!(text, "{manifest}\n---")?;
            }
        }
        fs::write(directory.join(format!("s{first}.yaml")), text)?;
    }
    Ok(())
}

/// A zone file for the servers that read one.
pub(super) fn text(names: u32) -> String {
    let mut text =
        format!("$ORIGIN global.\n$TTL {TTL}\n@ SOA ns hostmaster 1 3600 600 86400 {TTL}\n@ NS ns\nns A 127.0.0.1\n");
    for number in 0..names {
        let (name, v4, v6) = (name(number), v4(number), v6(number));
        let _ = writeln!(text, "{name}. A {v4}\n{name}. AAAA {v6}\n_http._tcp.{name}. SRV 0 1 {PORT} {name}.");
    }
    text
}

/// The same as a zone of ours.
pub(super) fn ours(names: u32) -> Result<Zone> {
    let name = |text: &str| Name::from_ascii(text);
    let mut zone = Zone::new(Apex {
        name: name("global.")?,
        primary: name("ns.global.")?,
        mailbox: name("hostmaster.global.")?,
        servers: vec![name("ns.global.")?],
        ttl: TTL,
        refresh: 3600,
        retry: 600,
        expire: 86_400,
        negative_ttl: TTL,
    })?;
    for number in 0..names {
        let (owner, nodes) = service(number, v4(number))?;
        zone.set_all(&owner, nodes)?;
    }
    zone.set_complete(true);
    Ok(zone)
}

/// The names of one service, its own first.
pub(super) fn service(number: u32, address: Ipv4Addr) -> Result<(Name, [(Name, Node); 2])> {
    let owner = Name::from_ascii(format!("{}.", name(number)))?;
    let port = Name::from_ascii(format!("_http._tcp.{owner}"))?;
    let addresses = Node { ttl: TTL, a: vec![address], aaaa: vec![v6(number)], ..Node::default() };
    let srv = Srv { priority: 0, weight: 1, port: PORT, target: owner.clone() };
    let nodes = [(owner.clone(), addresses), (port, Node { ttl: TTL, srv: vec![srv], ..Node::default() })];
    Ok((owner, nodes))
}

fn manifests(number: u32) -> [Value; 3] {
    let service = format!("s{number}");
    let slice = |family: &str, address: String| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-{}", family.to_lowercase()), "namespace": "bench",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": family,
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        })
    };
    [
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": service, "namespace": "bench"},
            "spec": {"ports": [{"name": "http", "port": PORT, "targetPort": PORT}]},
        }),
        slice("IPv4", v4(number).to_string()),
        slice("IPv6", v6(number).to_string()),
    ]
}
