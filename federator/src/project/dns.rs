//! A View as DNS zones, one an answer mode. A changed service changes its own names and nothing else. What a name
//! answers in which mode is in [`names`]; here is only the keeping of the zones.

pub mod names;

use super::Cursor;
use crate::{
    config::{file::AnswerMode, rules::ImportRules},
    gather::Gathered,
};
use dns::{Apex, Name, Node, Zone, ZoneError};
use model::{name::ServiceKey, reach::Place};
use names::Namer;
use std::{collections::BTreeMap, str::FromStr as _, sync::Arc};

/// What a zone projection needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the agent is.
    pub place: Place,
    /// The zone, without a final dot.
    pub zone: Arc<str>,
    /// Seconds an answer may be kept.
    pub ttl: u32,
    /// Seconds the answer that there is none may be kept.
    pub negative_ttl: u32,
    /// The serial to begin with; RFC 1982 counts on from there.
    pub serial: u32,
}

/// Zones kept equal to a View.
#[derive(Debug)]
pub struct Zones {
    config: Config,
    cursor: Cursor,
    modes: BTreeMap<AnswerMode, Mode>,
    revision_name: Name,
    serial: u32,
}

/// The zone of one answer mode.
#[derive(Debug)]
struct Mode {
    namer: Namer,
    zone: Zone,
}

/// What makes a zone impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZonesError {
    /// The zone's name is none.
    #[error("zone `{0}` is not a DNS name")]
    Name(Arc<str>),
    /// The zone itself.
    #[error(transparent)]
    Zone(#[from] ZoneError),
}

// === impl Zones ===

impl Zones {
    /// Empty zones for these modes. Until told otherwise they say of no name that it does not exist.
    ///
    /// # Errors
    /// [`ZonesError`], when the zone's name cannot be one.
    pub fn new(config: Config, modes: impl IntoIterator<Item = AnswerMode>) -> Result<Self, ZonesError> {
        let name = |text: &str| Name::from_str(text).map_err(|_| ZonesError::Name(config.zone.clone()));
        let apex = Apex {
            name: name(&format!("{}.", config.zone))?,
            primary: name(&format!("ns.{}.", config.zone))?,
            mailbox: name(&format!("hostmaster.{}.", config.zone))?,
            servers: vec![name(&format!("ns.{}.", config.zone))?],
            ttl: config.ttl,
            refresh: 3600,
            retry: 600,
            expire: 86_400,
            negative_ttl: config.negative_ttl,
        };
        let revision_name = name(&format!("_revision.{}.", config.zone))?;
        let mut zones = BTreeMap::new();
        for mode in modes {
            let namer = Namer { place: config.place.clone(), zone: config.zone.clone(), ttl: config.ttl, mode };
            let mut zone = Zone::new(apex.clone())?;
            zone.set_complete(false);
            zones.insert(mode, Mode { namer, zone });
        }
        let serial = config.serial;
        Ok(Self { config, cursor: Cursor::default(), modes: zones, revision_name, serial })
    }

    /// Sets what is imported, from the next update on.
    pub fn set_rules(&mut self, rules: ImportRules) {
        self.cursor.set_rules(rules);
    }

    /// Brings the zones to what was gathered, and hands them out.
    pub fn update(&mut self, gathered: &Gathered) -> BTreeMap<AnswerMode, Arc<Zone>> {
        let due = self.cursor.advance(&gathered.view);
        self.serial = self.serial.wrapping_add(1);
        let revision = revision_text(gathered);
        for mode in self.modes.values_mut() {
            for (key, service) in &due.services {
                let nodes = service.as_deref().map(|service| mode.namer.names(&due.networks, service));
                mode.put(key, nodes.unwrap_or_default());
            }
            let txt = Node { ttl: 0, txt: vec![revision.clone()], ..Node::default() };
            if let Err(error) = mode.zone.set(&self.revision_name, txt) {
                tracing::warn!(name = %self.revision_name, %error, "name left out");
            }
            mode.zone.set_complete(gathered.complete);
            mode.zone.set_serial(self.serial);
        }
        self.modes.iter().map(|(mode, kept)| (*mode, Arc::new(kept.zone.clone()))).collect()
    }

    /// Where answers are given from.
    pub fn place(&self) -> &Place {
        &self.config.place
    }
}

// === impl Mode ===

impl Mode {
    /// Replaces the names of a service.
    fn put(&mut self, key: &ServiceKey, nodes: Vec<(Name, Node)>) {
        let owner = nodes.first().map(|(own, _)| own.clone()).or_else(|| self.namer.owner(key));
        let Some(owner) = owner else { return };
        // Names are made of checked labels, so only their length can be wrong, or that they hold too much.
        match self.zone.set_all(&owner, nodes) {
            Ok((_, left_out)) => {
                for error in left_out {
                    tracing::warn!(%error, "name left out");
                }
            }
            Err(error) => tracing::warn!(service = %key, %error, "names left out"),
        }
    }
}

/// `revision`, or `revision+local` while this agent uses what it sees itself.
#[must_use]
pub fn revision_text(gathered: &Gathered) -> String {
    match gathered.local {
        0 => gathered.view.revision().to_string(),
        local => format!("{}+{local}", gathered.view.revision()),
    }
}

#[cfg(test)]
mod tests;
