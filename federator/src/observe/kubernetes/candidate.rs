//! New credentials on trial: what they show is collected apart, and takes the place of the old ones' only once it is
//! whole. Until then nothing changes, so whoever rotates credentials breaks nothing, right or wrong.

use super::{held::Held, kinds::Seen};
use crate::{
    kubernetes::{client::Connector, follow::Event},
    observe::index::{Kind, ObjectName},
};
use std::collections::{HashMap, HashSet};

/// What the new credentials have shown so far.
pub(super) struct Candidate {
    pub(super) connector: Connector,
    /// What is there.
    named: HashSet<ObjectName>,
    /// What of it is not held as it is.
    news: HashMap<ObjectName, Seen>,
    /// What went since it was listed, and at which version.
    gone: HashMap<ObjectName, u64>,
    /// How far each kind was read.
    positions: HashMap<Kind, String>,
    complete: HashSet<Kind>,
}

/// A candidate that is whole.
pub(super) struct Whole {
    pub(super) connector: Connector,
    pub(super) named: HashSet<ObjectName>,
    pub(super) news: Vec<Seen>,
    pub(super) gone: HashMap<ObjectName, u64>,
    pub(super) positions: HashMap<Kind, String>,
}

// === impl Candidate ===

impl Candidate {
    pub(super) fn new(connector: Connector) -> Self {
        Self {
            connector,
            named: HashSet::new(),
            news: HashMap::new(),
            gone: HashMap::new(),
            positions: HashMap::new(),
            complete: HashSet::new(),
        }
    }

    /// Takes one step of a watch; an error says why these credentials will not do.
    pub(super) fn take(&mut self, kind: Kind, event: Event<Seen>, held: &Held) -> Result<(), String> {
        match event {
            Event::Begin => {
                self.named.retain(|name| name.kind != kind);
                self.news.retain(|name, _| name.kind != kind);
                self.positions.remove(&kind);
                self.complete.remove(&kind);
            }
            Event::Listed(seen) | Event::Changed(seen) => {
                self.gone.remove(&seen.name);
                self.named.insert(seen.name.clone());
                // What is held as it is needs no copy: there may be very many.
                if seen.version == 0 || held.version(&seen.name) != Some(seen.version) {
                    self.news.insert(seen.name.clone(), seen);
                }
            }
            Event::Gone(seen) => {
                self.named.remove(&seen.name);
                self.news.remove(&seen.name);
                self.gone.insert(seen.name, seen.version);
            }
            Event::Complete(version) => {
                self.complete.insert(kind);
                // What is not served has no version.
                if version != "0" {
                    self.positions.insert(kind, version);
                }
            }
            Event::At(version) => {
                self.positions.insert(kind, version);
            }
            Event::Quiet => {}
            Event::Trouble(trouble) => return Err(trouble.reason),
        }
        Ok(())
    }

    pub(super) fn is_whole(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.complete.contains(kind))
    }

    pub(super) fn finish(self) -> Whole {
        let Self { connector, named, news, gone, positions, .. } = self;
        Whole { connector, named, news: news.into_values().collect(), gone, positions }
    }
}
