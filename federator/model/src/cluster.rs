//! What a cluster asserts about itself, the marker that says how far its records are complete, and the tombstone that
//! says whether it belongs to the fleet. Knows nothing of how a cluster is watched or who owns it.

use crate::{
    gateway::{Gateway, Passed},
    identity::TrustDomain,
    locality::{Locality, Network},
};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// What a cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The uid of its `kube-system` namespace: the cluster's identity. Empty for a source that has none.
    pub uid: Arc<str>,
    /// The network its pods are on.
    pub network: Network,
    /// Where its nodes are, as far as that is the same for all.
    pub locality: Locality,
    /// Its east-west gateways, in their order.
    pub gateways: Vec<Gateway>,
    /// What these let through, in its order.
    pub passed: Vec<Passed>,
    /// The trust domain of its mesh.
    pub trust_domain: TrustDomain,
}

/// The marker: all records of a cluster up to here are written. Without a valid one, absence means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// The revision of the owner key of the last owner that had compared everything; zero while the records are being
    /// filled in for the first time.
    pub epoch: u64,
    /// The generation of the store in which the epoch is a revision.
    pub generation: Arc<str>,
    /// Counts the transactions that changed the records.
    pub sequence: u64,
    /// How many record keys there are.
    pub records: u64,
    /// The sum of all records' hashes.
    pub hash: SetHash,
    /// How far the source was read: the API server's resourceVersion, or a directory's own counter.
    pub source_version: Arc<str>,
    /// Whether the records are not all yet that was read up to there.
    pub behind: bool,
    /// Whether something of the source was never readable: what is not in the records may be there all the same.
    pub partial: bool,
}

/// Whether what is known of a cluster is news.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Nothing new is known for sure: its API server cannot be reached, or cannot be believed.
    pub frozen: bool,
    /// Since when, in seconds since 1970 by the clock of the owner that noticed.
    pub since: i64,
    /// Why, for people; empty while it is live.
    pub reason: Arc<str>,
}

/// Endpoints that a comparison of everything would withdraw, and that are kept until that is sure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Since when, in seconds since 1970 by the clock of the owner that began it. The same set never begins anew.
    pub since: i64,
    /// The sum of the hashes of the endpoints that are kept.
    pub set: SetHash,
    /// How many these are.
    pub endpoints: u64,
    /// Why, for people.
    pub reason: Arc<str>,
    /// Whether an operator has said that they may go.
    pub accepted: bool,
    /// Whether the source went back to an earlier state: then time alone does not end it.
    pub went_back: bool,
}

/// Whether an administrator removed the cluster from the fleet. It outlives the cluster: every publisher compares the
/// one it has read with what stands in the store, so that one which slept meanwhile writes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstone {
    /// The uid of the cluster that was removed, as far as it was known; empty once the id is free again.
    pub uid: Arc<str>,
    /// Counts removals and readmissions.
    pub number: u64,
    /// Whether it is removed now.
    pub removed: bool,
}

/// An order-free hash of a set of records: the sum of their hashes, so one record more or less costs one addition.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SetHash([u64; 2]);

// === impl Synced ===

impl Synced {
    /// Whether the records were complete when it was written. Absence means something only then.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.epoch != 0
    }

    /// Whether a source that was read up to `version` shows as much as there was when this was written. Versions that
    /// are no numbers cannot be compared, and bar nobody.
    #[must_use]
    pub fn is_reached_by(&self, version: &str) -> bool {
        match (self.source_version.parse::<u64>(), version.parse::<u64>()) {
            (Ok(written), Ok(read)) => read >= written,
            _ => true,
        }
    }
}

// === impl SetHash ===

impl SetHash {
    /// The hash of one record by its key and value.
    #[must_use]
    pub fn of(key: &str, value: &[u8]) -> Self {
        // The length keeps (key, value) apart from every other cut of the same bytes.
        let digest = Sha256::new()
            .chain_update((key.len() as u64).to_be_bytes())
            .chain_update(key)
            .chain_update(value)
            .finalize();
        let (halves, _) = digest.as_chunks::<8>();
        Self([u64::from_be_bytes(halves[0]), u64::from_be_bytes(halves[1])])
    }

    /// From the sixteen bytes that [`Self::to_bytes`] gives.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let (halves, _) = bytes.as_chunks::<8>();
        Self([u64::from_be_bytes(halves[0]), u64::from_be_bytes(halves[1])])
    }

    /// Sixteen bytes, big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_be_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_be_bytes());
        bytes
    }

    /// The set with one record more.
    #[must_use]
    pub fn plus(self, record: Self) -> Self {
        Self([self.0[0].wrapping_add(record.0[0]), self.0[1].wrapping_add(record.0[1])])
    }

    /// The set with one record less.
    #[must_use]
    pub fn minus(self, record: Self) -> Self {
        Self([self.0[0].wrapping_sub(record.0[0]), self.0[1].wrapping_sub(record.0[1])])
    }
}

impl fmt::Display for SetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

impl fmt::Debug for SetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_hash_ignores_order_and_forgets_what_left() {
        let (a, b) = (SetHash::of("a", b"1"), SetHash::of("b", b"2"));
        let empty = SetHash::default();
        assert_eq!(empty.plus(a).plus(b), empty.plus(b).plus(a));
        assert_eq!(empty.plus(a).plus(b).minus(a), empty.plus(b));
        assert_ne!(SetHash::of("ab", b"c"), SetHash::of("a", b"bc"));
        assert_eq!(SetHash::from_bytes(a.to_bytes()), a);
    }
}
