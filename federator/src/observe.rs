//! Observe: what one cluster says about itself, from its API server or from a directory of manifests, as exports.
//! Both sources feed one index, which rebuilds the services that an object touches and nothing else. Knows nothing
//! of the store or of other clusters.

pub mod convert;
pub mod directory;
pub mod index;
pub mod kubernetes;
pub mod manifest;
pub mod object;
pub mod resolve;

use crate::condition::Conditions;
use model::{cluster::Meta, export::Export, name::ServiceKey, tracked::Tracked};
use object::ObjectName;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::time::Instant;

/// What is seen of one cluster. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// What the cluster is.
    pub meta: Meta,
    /// What it exports.
    pub exports: Tracked<ServiceKey, Arc<Export>>,
    /// Whether everything was seen at least once: only then does absence mean something.
    pub synced: bool,
    /// Whether something was never readable. What the store has of an earlier time and is not seen now may be just
    /// that, so it is not taken away.
    pub partial: bool,
    /// How far the source was read.
    pub source_version: Arc<str>,
    /// What is wrong with the source at the moment.
    pub conditions: Conditions,
    /// Since when nothing new is known for sure: what is here may be old, and nothing of it is taken away.
    pub frozen_since: Option<Instant>,
    /// How many objects are only remembered: the source went back to an earlier state, which does not confirm them.
    pub remembered: usize,
    /// Some of these, by kind and name.
    pub remembered_names: Arc<BTreeSet<String>>,
    /// Of the objects that were doubted, those that the source was asked for one by one: what it has of them is here.
    pub confirmed: Arc<BTreeSet<ObjectName>>,
    /// What is left out, with the reason: `Kind namespace/name` or a file, to why; and `Locality`, to the nodes of
    /// which it is not known where they are.
    pub left_out: Arc<BTreeMap<String, String>>,
}

// === impl Observed ===

impl Observed {
    /// Whether waiting for the first complete look makes sense no longer: it happened, or it is known why it cannot. A look
    /// at less than everything is none: what was never readable may hold any name.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.synced && !self.partial || self.conditions.iter().any(|(reason, _)| reason.is_of_sight())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Reason;

    #[test]
    fn only_what_keeps_from_looking_ends_the_wait_for_a_look() {
        for (synced, partial, reason, settled) in [
            (false, false, None, false),
            (true, false, None, true),
            (true, true, None, false),
            (false, false, Some(Reason::Unreachable), true),
            (true, true, Some(Reason::Forbidden), true),
            (false, false, Some(Reason::NetworkUnset), false),
            (true, true, Some(Reason::GatewayUnresolved), false),
        ] {
            let mut conditions = Conditions::default();
            reason.map(|reason| conditions.set(reason, Some("why".to_owned())));
            let observed = Observed { synced, partial, conditions, ..Observed::default() };
            assert_eq!(observed.settled(), settled, "{observed:?}");
        }
    }
}
