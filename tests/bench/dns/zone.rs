//! The names that all servers have, in the form each of them reads: one service, one address.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use harness::Result;
use serde_json::{Value, json};

/// Seconds an answer may be kept, everywhere.
pub(super) const TTL: u32 = 5;

/// `s7.bench.global`.
pub(super) fn name(number: u16) -> String {
    format!("s{number}.bench.global")
}

pub(super) fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 10, 100 + high, low)
}

/// Questions in dnsperf's form: every name once, neighbours far apart.
pub(super) fn write_queries(path: &Path, names: u16) -> Result {
    let mut text = String::new();
    // A prime that divides no sensible number of names, so that the steps come by all of them.
    for step in 0..u64::from(names) {
        let number = u16::try_from(step * 7919 % u64::from(names))?;
        writeln!(text, "{} A", name(number))?;
    }
    Ok(fs::write(path, text)?)
}

/// Manifests of a cluster, one file a service.
pub(super) fn write_manifests(directory: &Path, names: u16) -> Result {
    fs::create_dir_all(directory)?;
    for number in 0..names {
        let [service, slice] = manifests(number);
        fs::write(directory.join(format!("s{number}.yaml")), format!("{service}\n---\n{slice}\n"))?;
    }
    Ok(())
}

/// A zone file for NSD and for CoreDNS.
pub(super) fn zone(names: u16) -> String {
    let mut text =
        format!("$ORIGIN global.\n$TTL {TTL}\n@ SOA ns hostmaster 1 3600 600 86400 {TTL}\n@ NS ns\nns A 127.0.0.1\n");
    for number in 0..names {
        let _ = writeln!(text, "{}. A {}", name(number), address(number));
    }
    text
}

fn manifests(number: u16) -> [Value; 2] {
    let service = format!("s{number}");
    [
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": service, "namespace": "bench"},
            "spec": {"ports": [{"name": "http", "port": 8080, "targetPort": 8080}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": service, "namespace": "bench",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address(number)], "conditions": {"ready": true}}],
        }),
    ]
}
