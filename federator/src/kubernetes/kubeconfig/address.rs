//! Where a kubeconfig of a Secret may lead. The agent sits inside a network that whoever writes the Secret may not be
//! in, so an address that means something else here than there is refused: this machine, its links, the metadata
//! service of its cloud. Private ranges are where clusters live, and are fine. Pure; names are checked a second time
//! when they are resolved.

use http::{Uri, uri::Scheme};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Services of clouds that hand credentials to whoever can reach them, and are not link-local.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(168, 63, 129, 16),   // Azure
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle
];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google
];

const NOT_A_URL: &str = "is not an address like https://HOST:PORT";
const NOT_A_HOST: &str = "names a host that is neither a DNS name nor an IP address";
const LOOPBACK: &str = "leads to this machine (loopback): give the address that other clusters reach it by";

/// A server's address, if connecting to it is harmless.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with the field.
pub(in crate::kubernetes) fn server(text: &str, loopback: bool) -> Result<Uri, &'static str> {
    // The parser drops a fragment without a word.
    if text.contains('#') {
        return Err("has a fragment (`#`): remove it");
    }
    if text.contains('@') {
        return Err("has a user before the host (`@`): put credentials into the user");
    }
    let uri: Uri = text.parse().map_err(|_| NOT_A_URL)?;
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => {}
        Some(scheme) if *scheme == Scheme::HTTP => return Err("is not encrypted: use https"),
        _ => return Err(NOT_A_URL),
    }
    if uri.query().is_some() {
        return Err("has a query (`?`): remove it");
    }
    let authority = uri.authority().ok_or(NOT_A_URL)?;
    // The parser takes a port that is none for no port.
    let port = &authority.as_str()[authority.host().len()..];
    if !port.is_empty() && !port[1..].parse().is_ok_and(|port: u16| port > 0) {
        return Err("has a port that is not a number from 1 to 65535");
    }
    host(authority.host(), loopback)?;
    Ok(uri)
}

/// Whether connecting to an address is harmless.
///
/// # Errors
/// What is wrong with it.
pub(in crate::kubernetes) fn harmless(address: IpAddr, loopback: bool) -> Result<(), &'static str> {
    let refused = match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    };
    refused.filter(|why| !(loopback && *why == LOOPBACK)).map_or(Ok(()), Err)
}

fn host(text: &str, loopback: bool) -> Result<(), &'static str> {
    if let Some(text) = text.strip_prefix('[') {
        let address: Ipv6Addr = text.strip_suffix(']').and_then(|text| text.parse().ok()).ok_or(NOT_A_HOST)?;
        return harmless(address.into(), loopback);
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(NOT_A_HOST);
    }
    // A name that ends in a number is an address to the system's resolver, in spellings that Rust does not know:
    // 127.1, 0x7f000001, 017700000001, 2130706433.
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
        let odd = "spells an IP address in an odd way: write four decimal numbers, like 10.0.0.1";
        // A final dot would make it a name to some, and an address to others.
        let address: Ipv4Addr = text.parse().map_err(|_| odd)?;
        return harmless(address.into(), loopback);
    }
    if !loopback && (name == "localhost" || name.ends_with(".localhost")) { Err(LOOPBACK) } else { Ok(()) }
}

fn v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some(LOOPBACK)
    } else if address.octets()[0] == 0 {
        Some("is no address of a host (unspecified)")
    } else if address.is_link_local() {
        Some("is link-local: the cloud's metadata service is there, and no API server")
    } else if address.is_multicast() || address.is_broadcast() {
        Some("is an address of many hosts (multicast)")
    } else if METADATA_V4.contains(&address) {
        Some("is a cloud's metadata service, not an API server")
    } else {
        None
    }
}

fn v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some(LOOPBACK)
    } else if address.is_unspecified() {
        Some("is no address of a host (unspecified)")
    } else if address.is_unicast_link_local() {
        Some("is link-local: no API server is there")
    } else if address.is_multicast() {
        Some("is an address of many hosts (multicast)")
    } else if METADATA_V6.contains(&address) {
        Some("is a cloud's metadata service, not an API server")
    } else {
        within(address).and_then(v4)
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped (RFC 4291, section 2.5.5.2), its obsolete predecessor
/// (2.5.5.1), translated by NAT64 (RFC 6052, the well-known prefix) or by 6to4 (RFC 3056).
fn within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let at = |start: usize| Ipv4Addr::new(octets[start], octets[start + 1], octets[start + 2], octets[start + 3]);
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(at(12)),
        [0x2002, ..] => Some(at(2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(), &str>) {
        match (server(text, false), expected) {
            (Ok(_), Ok(())) => {}
            (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn servers_of_clusters_are_fine() {
        for text in [
            "https://10.0.0.2:6443",
            "https://192.168.1.1",
            "https://172.18.0.3:6443/",
            "https://[fd00::1]:6443",
            "https://[64:ff9b::a00:1]",
            "https://api.west.example.com:6443",
            "https://api.west.example.com.:6443",
            "https://rancher.example.com/k8s/clusters/c-1",
            "HTTPS://0a1b.gr7.eu-west-1.eks.amazonaws.com",
            "https://kubernetes",
        ] {
            check(text, Ok(()));
        }
    }

    #[test]
    fn one_address_has_many_spellings() {
        for text in [
            "https://127.1",
            "https://0x7f.1",
            "https://0x7f000001",
            "https://0x",
            "https://017700000001",
            "https://2130706433:6443",
            "https://127.0.0.01",
            "https://127.0.0.1.",
            "https://256.0.0.1",
            "https://2852039166",
            "https://a.b.1",
        ] {
            check(text, Err("odd way"));
        }
        for text in [
            "https://127.0.0.1",
            "https://127.255.0.1",
            "https://[::1]",
            "https://[::ffff:127.0.0.1]",
            "https://[::127.0.0.1]",
            "https://[64:ff9b::7f00:1]",
            "https://[2002:7f00:1::]",
            "https://localhost:6443",
            "https://LocalHost.",
            "https://api.localhost",
        ] {
            check(text, Err("loopback"));
            assert!(server(text, true).is_ok(), "{text}");
        }
        for text in ["https://169.254.169.254", "https://[::ffff:a9fe:a9fe]", "https://[fe80::1]"] {
            check(text, Err("link-local"));
        }
        for text in ["https://100.100.100.200", "https://168.63.129.16", "https://[fd00:ec2::254]"] {
            check(text, Err("metadata"));
        }
        for text in ["https://0.0.0.0", "https://[::]", "https://[::ffff:0.0.0.0]", "https://0.0.0.1"] {
            check(text, Err("unspecified"));
        }
        for text in ["https://224.0.0.1", "https://255.255.255.255", "https://[ff02::1]"] {
            check(text, Err("multicast"));
        }
    }

    #[test]
    fn what_is_no_address() {
        for text in
            ["", "10.0.0.2:6443", "10.0.0.2", "/", "ftp://a", "https://", "https:///a", "https://a b", "unix:///a"]
        {
            check(text, Err("is not an address"));
        }
        for text in ["https://a..b", "https://.", "https://a%2eb", "https://[fe80::1%25eth0]", "https://a!b"] {
            assert!(server(text, false).is_err(), "{text}");
        }
        for text in ["https://a:0", "https://a:99999", "https://a:"] {
            assert!(server(text, false).is_err(), "{text}");
        }
        check("http://10.0.0.2", Err("https"));
        check("https://u:p@10.0.0.2", Err("user"));
        check("https://10.0.0.2?a", Err("query"));
        check("https://10.0.0.2#a", Err("fragment"));
    }
}
