//! What was typed about east-west gateways: where they are, and who knows the addresses of those that are host names.

use super::{ConfigError, field, file};
use model::{export::Address, gateway, reach::Mode};
use std::net::{IpAddr, SocketAddr};

/// The port of DNS.
const DNS: u16 = 53;

/// How east-west gateways are found and used.
#[derive(Clone, Debug)]
pub struct Gateways {
    /// How endpoints of other clusters are reached.
    pub mode: Mode,
    /// Who is asked for the addresses of gateways that are host names; none for those of the machine.
    pub nameservers: Vec<SocketAddr>,
}

// === impl Gateways ===

impl Gateways {
    pub(super) fn check(typed: &file::Gateways) -> Result<Self, ConfigError> {
        let mode = match typed.mode {
            file::GatewayMode::Auto => Mode::Auto,
            file::GatewayMode::Workload => Mode::Workload,
            file::GatewayMode::Gateway => Mode::Gateway,
        };
        Ok(Self { mode, nameservers: nameservers("gateways.nameservers", &typed.nameservers)? })
    }
}

/// Addresses of gateways, as `address`, `address:port` or `[address]:port`.
pub(super) fn gateways(at: &str, typed: &[String]) -> Result<Vec<(Address, u16)>, ConfigError> {
    let address = |text: &str| Address::parse_ip(text).or_else(|| Address::parse_host(text));
    let refuse = |(n, text): (usize, &String)| {
        let reason = format!("`{text}` is no gateway: give an address or a host name, and behind a colon a port");
        with_port(text, gateway::PORT, address).ok_or_else(|| field(format!("{at}[{n}]"), reason))
    };
    typed.iter().enumerate().map(refuse).collect()
}

/// Name servers, as `address`, `address:port` or `[address]:port`.
pub(super) fn nameservers(at: &str, typed: &[String]) -> Result<Vec<SocketAddr>, ConfigError> {
    let refuse = |(n, text): (usize, &String)| {
        let reason = format!("`{text}` is no name server: give an address, and behind a colon a port");
        let parsed = with_port(text, DNS, |text: &str| text.parse::<IpAddr>().ok());
        parsed.map(SocketAddr::from).ok_or_else(|| field(format!("{at}[{n}]"), reason))
    };
    typed.iter().enumerate().map(refuse).collect()
}

/// A place, and behind a colon a port where it is not the usual one.
fn with_port<T>(text: &str, usual: u16, parse: impl Fn(&str) -> Option<T>) -> Option<(T, u16)> {
    parse(text).map(|place| (place, usual)).or_else(|| {
        let (place, port) = text.rsplit_once(':')?;
        let place = place.strip_prefix('[').and_then(|place| place.strip_suffix(']')).unwrap_or(place);
        Some((parse(place)?, port.parse().ok().filter(|port| *port != 0)?))
    })
}
