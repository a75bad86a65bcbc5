//! The record of a head. What it has in common with others is held once. A field that says what version 1 would have
//! taken for granted is not written.

use super::{
    Record, RecordError, Shared, address_from_wire, address_to_wire, check_reader, port_from_wire, protocol_from_wire,
    protocol_to_wire,
};
use crate::{
    export::{
        Affinity, AnswerMode, Answers, DEFAULT_AFFINITY_SECONDS, Exported, Families, Family, Head, Host, Hosts, Kind,
        MAX_AFFINITY_SECONDS, MAX_TTL, Port, Texts, Traffic, can_be_a_distribution,
    },
    wire,
};
use prost::Message;
use std::{net::IpAddr, sync::Arc};

impl Record for Head {
    fn encode(&self) -> Vec<u8> {
        let kind = match self.kind {
            Kind::ClusterIp => wire::Kind::ClusterIp,
            Kind::Headless => wire::Kind::Headless,
        };
        let port = |port: &Port| wire::Port {
            name: port.name.to_string(),
            number: port.number.into(),
            protocol: protocol_to_wire(port.protocol),
            app_protocol: port.app_protocol.to_string(),
        };
        let affinity_seconds = match self.traffic.affinity {
            Affinity::None | Affinity::ClientIp { seconds: DEFAULT_AFFINITY_SECONDS } => 0,
            Affinity::ClientIp { seconds } => seconds,
        };
        let families =
            if self.families == of_addresses(&self.cluster_ips) { Families::default() } else { self.families };
        wire::Head {
            kind: kind.into(),
            ports: self.ports.iter().map(port).collect(),
            cluster_ips: self.cluster_ips.iter().copied().map(address_to_wire).collect(),
            client_ip_affinity: self.traffic.affinity != Affinity::None,
            created: self.created,
            affinity_seconds,
            node_local: self.traffic.node_local,
            traffic_distribution: self.traffic.distribution.as_deref().unwrap_or_default().to_owned(),
            ip_families: families.iter().map(family_to_wire).collect(),
            exported_labels: texts_to_wire(&self.exported.labels),
            exported_annotations: texts_to_wire(&self.exported.annotations),
            aliases: self.hosts.aliases.iter().map(ToString::to_string).collect(),
            per_cluster_host: self.hosts.per_cluster,
            answer_mode: answer_mode_to_wire(self.answers.mode).into(),
            reader: 0,
            answer_ttl: self.answers.ttl,
        }
        .encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::decode_sharing(bytes, &mut Shared::default())
    }
}

impl Head {
    /// Reads it back, and holds what it has in common with others only once.
    ///
    /// # Errors
    /// As [`Record::decode`].
    pub fn decode_sharing(bytes: &[u8], shared: &mut Shared) -> Result<Self, RecordError> {
        let wire = wire::Head::decode(bytes)?;
        check_reader(wire.reader)?;
        shared.sweep();
        let kind = match wire.kind() {
            wire::Kind::ClusterIp => Kind::ClusterIp,
            wire::Kind::Headless => Kind::Headless,
        };
        let mut ports = Vec::with_capacity(wire.ports.len());
        for port in &wire.ports {
            let (number, protocol) = (port_from_wire(port.number)?, protocol_from_wire(port.protocol()));
            let (name, app_protocol) = (shared.text(&port.name), shared.text(&port.app_protocol));
            ports.push(Port { name, number, protocol, app_protocol });
        }
        let cluster_ips: Vec<_> = wire.cluster_ips.iter().map(|ip| address_from_wire(ip)).collect::<Result<_, _>>()?;
        let said: Families = wire.ip_families().map(family_from_wire).collect();
        Ok(Self {
            kind,
            ports: shared.ports(ports),
            families: if said.is_unknown() { of_addresses(&cluster_ips) } else { said },
            cluster_ips,
            traffic: traffic_from_wire(&wire, shared)?,
            exported: exported_from_wire(&wire, shared)?,
            hosts: hosts_from_wire(&wire)?,
            answers: answers_from_wire(&wire)?,
            created: wire.created,
        })
    }
}

fn traffic_from_wire(wire: &wire::Head, shared: &mut Shared) -> Result<Traffic, RecordError> {
    let affinity = match (wire.client_ip_affinity, wire.affinity_seconds) {
        (false, _) => Affinity::None,
        (true, 0) => Affinity::ClientIp { seconds: DEFAULT_AFFINITY_SECONDS },
        (true, seconds) if seconds <= MAX_AFFINITY_SECONDS => Affinity::ClientIp { seconds },
        (true, seconds) => return Err(RecordError::Affinity(seconds)),
    };
    let distribution = match &*wire.traffic_distribution {
        "" => None,
        text if can_be_a_distribution(text) => Some(shared.text(text)),
        text => return Err(RecordError::Distribution(text.to_owned())),
    };
    Ok(Traffic { affinity, node_local: wire.node_local, distribution })
}

fn exported_from_wire(wire: &wire::Head, shared: &mut Shared) -> Result<Arc<Exported>, RecordError> {
    if wire.exported_labels.is_empty() && wire.exported_annotations.is_empty() {
        return Ok(Exported::none());
    }
    let mut texts = |texts: &[wire::Label]| -> Texts {
        texts.iter().map(|text| (shared.text(&text.key), shared.text(&text.value))).collect()
    };
    let exported = Exported { labels: texts(&wire.exported_labels), annotations: texts(&wire.exported_annotations) };
    exported.check()?;
    Ok(shared.exported(exported))
}

fn hosts_from_wire(wire: &wire::Head) -> Result<Arc<Hosts>, RecordError> {
    if wire.aliases.is_empty() && !wire.per_cluster_host {
        return Ok(Hosts::none());
    }
    let aliases = wire.aliases.iter().map(|text| Host::parse(text)).collect::<Result<_, _>>()?;
    let hosts = Hosts { aliases, per_cluster: wire.per_cluster_host };
    hosts.check()?;
    Ok(Arc::new(hosts))
}

fn answer_mode_to_wire(mode: Option<AnswerMode>) -> wire::AnswerMode {
    match mode {
        None => wire::AnswerMode::Unset,
        Some(AnswerMode::Endpoints) => wire::AnswerMode::Endpoints,
        Some(AnswerMode::Vip) => wire::AnswerMode::Vip,
        Some(AnswerMode::Cluster) => wire::AnswerMode::Cluster,
    }
}

/// A mode that a later version has brought is left to who is asked.
fn answers_from_wire(wire: &wire::Head) -> Result<Answers, RecordError> {
    let mode = match wire.answer_mode() {
        wire::AnswerMode::Unset => None,
        wire::AnswerMode::Endpoints => Some(AnswerMode::Endpoints),
        wire::AnswerMode::Vip => Some(AnswerMode::Vip),
        wire::AnswerMode::Cluster => Some(AnswerMode::Cluster),
    };
    match wire.answer_ttl {
        Some(ttl) if ttl > MAX_TTL => Err(RecordError::Ttl(ttl)),
        ttl => Ok(Answers { mode, ttl }),
    }
}

fn texts_to_wire(texts: &Texts) -> Vec<wire::Label> {
    texts.iter().map(|(key, value)| wire::Label { key: key.to_string(), value: value.to_string() }).collect()
}

fn of_addresses(addresses: &[IpAddr]) -> Families {
    addresses.iter().map(|address| Family::from(*address)).collect()
}

fn family_to_wire(family: Family) -> i32 {
    match family {
        Family::V4 => wire::IpFamily::Ipv4,
        Family::V6 => wire::IpFamily::Ipv6,
    }
    .into()
}

fn family_from_wire(family: wire::IpFamily) -> Family {
    match family {
        wire::IpFamily::Ipv4 => Family::V4,
        wire::IpFamily::Ipv6 => Family::V6,
    }
}
