//! The protobuf form of what stands behind the store's keys (`proto/federator/store/v1/record.proto`). Encoding is
//! total; decoding refuses what cannot be true and says why, so that one bad record is left out alone. Fields and
//! enum values from a newer version are ignored. Knows nothing of transactions.

mod head;
mod slice;
mod standing;

pub use slice::Shared;

use crate::{
    cluster::{Meta, SetHash, Synced, Tombstone},
    export::{Address, Protocol, can_be_an_endpoint},
    gateway::{Gateway, Passed},
    identity::TrustDomain,
    locality::{Locality, Network},
    name::ClusterId,
    vip::Vip,
    wire,
};
use prost::Message;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The version of the records that are written here, and the latest that is understood.
pub const VERSION: u32 = 1;

/// A value that can stand behind a key.
pub trait Record: Sized {
    /// Its protobuf form.
    fn encode(&self) -> Vec<u8>;

    /// Reads it back.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are no such record, or one that cannot be true.
    fn decode(bytes: &[u8]) -> Result<Self, RecordError>;
}

/// The clusters that export a service, in first-seen order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order(pub Vec<ClusterId>);

// === impl Order ===

impl Order {
    /// These, and after them those that are only in the other. Nobody changes places.
    #[must_use]
    pub fn followed_by(&self, other: &Self) -> Self {
        let more = other.0.iter().filter(|id| !self.0.contains(id));
        Self(self.0.iter().chain(more).cloned().collect())
    }
}

/// The host behind a virtual address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipHost(pub String);

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not protobuf of that message.
    #[error("does not decode: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// An address that is neither 4 nor 16 bytes.
    #[error("an address of {0} bytes")]
    AddressLength(usize),
    /// An address that no endpoint can have for another cluster.
    #[error("address {0} cannot be an endpoint's")]
    Address(IpAddr),
    /// An address that no host can have in the whole fleet.
    #[error("address {0} cannot be a virtual one")]
    VirtualAddress(IpAddr),
    /// A time for which no client keeps its endpoint.
    #[error("a session affinity of {0} seconds does not exist")]
    Affinity(u32),
    /// A preference that is no word.
    #[error("`{0}` cannot be a trafficDistribution")]
    Distribution(String),
    /// Labels and annotations that no object elsewhere can have.
    #[error(transparent)]
    Exported(#[from] crate::export::ExportedError),
    /// A TTL above [`MAX_TTL`](crate::export::MAX_TTL).
    #[error("answers cannot be kept for {0} seconds")]
    Ttl(u32),
    /// An alias that it cannot have.
    #[error(transparent)]
    Alias(#[from] crate::export::HostError),
    /// A host name that is none, or that does not mean the same everywhere.
    #[error("host `{0}` cannot be an endpoint's")]
    Host(String),
    /// A trust domain that cannot be one.
    #[error("`{0}` cannot be a trust domain")]
    TrustDomain(String),
    /// A label that Kubernetes would refuse.
    #[error("`{0}={1}` cannot be a label")]
    Label(String, String),
    /// A workload that the slice does not have.
    #[error("there is no workload {0}")]
    Workload(u32),
    /// A port that is zero or above 65535.
    #[error("port {0} does not exist")]
    Port(u32),
    /// A hash that is not 16 bytes.
    #[error("a set hash of {0} bytes")]
    HashLength(usize),
    /// A record that this version would get wrong.
    #[error("needs a reader of record version {0}, and this agent is one of version {VERSION}: upgrade it")]
    Reader(u32),
    /// A cluster id that is none.
    #[error(transparent)]
    Cluster(#[from] crate::name::NameError),
}

impl Record for Meta {
    fn encode(&self) -> Vec<u8> {
        let gateway = |gateway: &Gateway| wire::Gateway {
            network: gateway.network.as_str().to_owned(),
            address: gateway.address.to_string(),
            port: gateway.port.into(),
        };
        wire::Meta {
            uid: self.uid.to_string(),
            network: self.network.as_str().to_owned(),
            region: self.locality.region.to_string(),
            zone: self.locality.zone.to_string(),
            subzone: self.locality.subzone.to_string(),
            gateways: self.gateways.iter().map(gateway).collect(),
            passed: self.passed.iter().map(|passed| passed.as_str().to_owned()).collect(),
            trust_domain: self.trust_domain.to_string(),
            reader: 0,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = wire::Meta::decode(bytes)?;
        check_reader(wire.reader)?;
        Ok(Self {
            uid: wire.uid.into(),
            network: Network::new(&wire.network),
            locality: Locality::new(&wire.region, &wire.zone, &wire.subzone),
            gateways: wire.gateways.into_iter().map(gateway).collect::<Result<_, _>>()?,
            passed: wire.passed.iter().map(|pattern| Passed::new(pattern)).collect(),
            trust_domain: TrustDomain::parse(&wire.trust_domain).ok_or(RecordError::TrustDomain(wire.trust_domain))?,
        })
    }
}

fn gateway(wire: wire::Gateway) -> Result<Gateway, RecordError> {
    let address = Address::parse_ip(&wire.address).or_else(|| Address::parse_host(&wire.address));
    Ok(Gateway {
        network: Network::new(&wire.network),
        address: address.ok_or(RecordError::Host(wire.address))?,
        port: port_from_wire(wire.port)?,
    })
}

impl Record for Synced {
    fn encode(&self) -> Vec<u8> {
        wire::Synced {
            epoch: self.epoch,
            sequence: self.sequence,
            records: self.records,
            hash: self.hash.to_bytes().to_vec(),
            source_version: self.source_version.to_string(),
            behind: self.behind,
            partial: self.partial,
            generation: self.generation.to_string(),
            reader: 0,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = wire::Synced::decode(bytes)?;
        check_reader(wire.reader)?;
        let hash = wire.hash.as_slice().try_into().map_err(|_| RecordError::HashLength(wire.hash.len()))?;
        Ok(Self {
            epoch: wire.epoch,
            sequence: wire.sequence,
            records: wire.records,
            hash: SetHash::from_bytes(hash),
            source_version: wire.source_version.into(),
            behind: wire.behind,
            partial: wire.partial,
            generation: wire.generation.into(),
        })
    }
}

impl Record for Order {
    fn encode(&self) -> Vec<u8> {
        let clusters = self.0.iter().map(ToString::to_string).collect();
        wire::Order { clusters, reader: 0 }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::decode_sharing(bytes, &mut Shared::default())
    }
}

impl Order {
    /// Reads it back, and holds what it has in common with others only once.
    ///
    /// # Errors
    /// As [`Record::decode`].
    pub fn decode_sharing(bytes: &[u8], shared: &mut Shared) -> Result<Self, RecordError> {
        let wire = wire::Order::decode(bytes)?;
        check_reader(wire.reader)?;
        shared.sweep();
        let clusters = wire.clusters.iter().map(|id| ClusterId::parse(id).map(|id| shared.cluster(id)));
        Ok(Self(clusters.collect::<Result<_, _>>()?))
    }
}

impl Record for Vip {
    fn encode(&self) -> Vec<u8> {
        wire::Vip { v4: self.v4.octets().to_vec(), v6: self.v6.octets().to_vec(), reader: 0 }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = wire::Vip::decode(bytes)?;
        check_reader(wire.reader)?;
        let v4: [u8; 4] = wire.v4.as_slice().try_into().map_err(|_| RecordError::AddressLength(wire.v4.len()))?;
        let v6: [u8; 16] = wire.v6.as_slice().try_into().map_err(|_| RecordError::AddressLength(wire.v6.len()))?;
        let vip = Self { v4: v4.into(), v6: v6.into() };
        let wrong = [vip.v4.into(), vip.v6.into()].into_iter().find(|address| !can_be_an_endpoint(*address));
        wrong.map_or(Ok(vip), |address| Err(RecordError::VirtualAddress(address)))
    }
}

impl Record for VipHost {
    fn encode(&self) -> Vec<u8> {
        wire::VipHost { host: self.0.clone(), reader: 0 }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = wire::VipHost::decode(bytes)?;
        check_reader(wire.reader)?;
        Ok(Self(wire.host))
    }
}

impl Record for Tombstone {
    fn encode(&self) -> Vec<u8> {
        wire::Tombstone { uid: self.uid.to_string(), number: self.number, removed: self.removed }.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire = wire::Tombstone::decode(bytes)?;
        Ok(Self { uid: wire.uid.into(), number: wire.number, removed: wire.removed })
    }
}

fn check_reader(reader: u32) -> Result<(), RecordError> {
    if reader > VERSION { Err(RecordError::Reader(reader)) } else { Ok(()) }
}

fn protocol_to_wire(protocol: Protocol) -> i32 {
    match protocol {
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
        Protocol::Sctp => wire::Protocol::Sctp,
    }
    .into()
}

fn protocol_from_wire(protocol: wire::Protocol) -> Protocol {
    match protocol {
        wire::Protocol::Tcp => Protocol::Tcp,
        wire::Protocol::Udp => Protocol::Udp,
        wire::Protocol::Sctp => Protocol::Sctp,
    }
}

fn port_from_wire(number: u32) -> Result<u16, RecordError> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or(RecordError::Port(number))
}

fn address_to_wire(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn address_from_wire(bytes: &[u8]) -> Result<IpAddr, RecordError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).map_err(|_| RecordError::AddressLength(bytes.len()))?;
    Ok(Ipv6Addr::from(v6).into())
}

#[cfg(test)]
mod tests;
