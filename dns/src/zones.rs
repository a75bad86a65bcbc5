//! What one listener serves: a few zones, and the version it may be asked for.
//!
//! Zones nest: a name belongs to the longest apex above it. Nothing is looked up here beyond that choice.

use std::sync::Arc;

use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, LowerName, Name, RData};

use crate::node::RrSet;
use crate::zone::Zone;

/// The names under which servers are asked for their version, in class CH by custom.
const VERSION_NAMES: [&str; 2] = ["version.bind.", "version.server."];

/// Cheap to clone; replaced as a whole in front of the listener.
#[derive(Debug, Clone, Default)]
pub struct Zones {
    /// Longest apex first.
    zones: Vec<Arc<Zone>>,
    version: Arc<[(LowerName, RrSet)]>,
}

impl Zones {
    /// Of several zones with one apex the last is served.
    pub fn new(zones: impl IntoIterator<Item = Arc<Zone>>) -> Self {
        let mut all = Self::default();
        for zone in zones {
            all.set(zone);
        }
        all
    }

    /// Puts a zone in the place of the one with its apex, or beside the others.
    pub fn set(&mut self, zone: Arc<Zone>) {
        self.zones.retain(|known| known.apex().name != zone.apex().name);
        let labels = |zone: &Zone| zone.apex().name.iter().len();
        let place = self.zones.partition_point(|known| labels(known) >= labels(&zone));
        self.zones.insert(place, zone);
    }

    /// The text that `version.bind` and `version.server` answer in class CH; without one they are refused.
    pub fn set_version(&mut self, version: &str) {
        let set = |name: &str| {
            let name = Name::from_ascii(name).ok()?;
            let data = RData::TXT(TXT::new(vec![version.chars().take(60).collect()]));
            let set = RrSet::new(&name, 0, [data])?.in_class(DNSClass::CH);
            Some((LowerName::from(name), set))
        };
        self.version = VERSION_NAMES.into_iter().filter_map(set).collect();
    }

    /// Longest apex first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Zone>> {
        self.zones.iter()
    }

    /// The zone that `name` belongs to.
    pub(crate) fn find(&self, name: &LowerName) -> Option<&Zone> {
        self.zones.iter().map(|zone| &**zone).find(|zone| zone.covers(name))
    }

    pub(crate) fn version(&self, name: &LowerName) -> Option<&RrSet> {
        self.version.iter().find(|(known, _)| known == name).map(|(_, set)| set)
    }
}
