//! What one listener serves: some zones, and the version it may be asked for.
//!
//! Zones nest: a name belongs to the longest apex above it. Nothing is looked up here beyond that choice, which costs no
//! more where there are many zones. The map behind it is persistent, as a zone's own is.

use std::sync::Arc;

use hickory_proto::rr::Name;
use rpds::HashTrieMapSync;

use crate::depths::Depths;
use crate::path::Path;
use crate::zone::Zone;

/// The names under which servers are asked for their version, in class CH by custom.
const VERSION_NAMES: [&[u8]; 2] = [b"\x04bind\x07version", b"\x06server\x07version"];

/// Most octets of a version: one character-string, and not a long one.
const MAX_VERSION: usize = 60;

/// Cheap to clone; replaced as a whole in front of the listener.
#[derive(Debug, Clone, Default)]
pub struct Zones {
    /// By their apexes.
    zones: HashTrieMapSync<Box<[u8]>, Arc<Zone>>,
    /// Of the apexes.
    depths: Depths,
    version: Option<Arc<str>>,
    stale: Option<Stale>,
}

/// What data answers that is older than it should be. None of it says that a name does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// What there was, with an extended error that says so.
    Answers,
    /// SERVFAIL, so that whoever asks tries another server; only the apex is answered.
    Fails,
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
        let labels = zone.path().labels();
        let is_new = !self.zones.contains_key(zone.path().octets());
        self.zones.insert_mut(zone.path().octets().into(), zone);
        if is_new {
            self.depths.add(labels);
        }
    }

    /// Takes away the zone with this apex.
    pub fn remove(&mut self, apex: &Name) {
        let path = Path::new(apex, 0);
        if self.zones.remove_mut(path.octets()) {
            self.depths.remove(path.labels());
        }
    }

    /// The text that `version.bind` and `version.server` answer in class CH; without one they are refused.
    pub fn set_version(&mut self, version: &str) {
        self.version = Some(version[..version.floor_char_boundary(MAX_VERSION)].into());
    }

    /// What the zones say while they are older than they should be; `None` where they are not.
    pub fn set_stale(&mut self, stale: Option<Stale>) {
        self.stale = stale;
    }

    pub(crate) fn stale(&self) -> Option<Stale> {
        self.stale
    }

    /// The zone that `path` belongs to.
    pub(crate) fn find(&self, path: &Path) -> Option<&Zone> {
        let depths = self.depths.iter().filter(|labels| *labels <= path.labels());
        depths.map(|labels| path.above(labels)).find_map(|apex| self.zones.get(apex)).map(|zone| &**zone)
    }

    pub(crate) fn version(&self, path: &Path) -> Option<&str> {
        self.version.as_deref().filter(|_| VERSION_NAMES.contains(&path.octets()))
    }
}
