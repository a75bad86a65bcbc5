//! The grammar of the store's keys, relative to the configured root. Parse and format are inverses; an id is always
//! followed by `/`, so the prefix of cluster `a` never matches `ab`. Knows nothing of what stands behind a key.
//!
//! | key | behind it |
//! |---|---|
//! | `generation` | which life of the store this is |
//! | `clusters/<id>/meta` | what the cluster is |
//! | `clusters/<id>/owner` | who publishes it; bound to a lease, and not part of a View |
//! | `clusters/<id>/candidates/<agent>` | who could; bound to a lease, and not part of a View |
//! | `clusters/<id>/state` | whether it is live or frozen |
//! | `clusters/<id>/synced` | the marker |
//! | `clusters/<id>/hold` | what is kept though its source does not name it any more |
//! | `records/<id>/<namespace>/<service>/head` | what the service is there |
//! | `records/<id>/<namespace>/<service>/slices/<name>` | some of its endpoints there |
//! | `order/<namespace>/<service>` | clusters in first-seen order |
//! | `vips/hosts/<host>` | the host's virtual addresses |
//! | `vips/addresses/<address>` | the host that has it |
//! | `tombstones/<id>` | whether an administrator removed the cluster |

use crate::name::{ClusterId, ServiceKey};
use std::{fmt, net::IpAddr, sync::Arc};

/// A key of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Which life of the store this is.
    Generation,
    /// What a cluster is.
    Meta(ClusterId),
    /// Who publishes a cluster.
    Owner(ClusterId),
    /// Who could publish a cluster, by the name of the agent.
    Candidate(ClusterId, Arc<str>),
    /// Whether a cluster is live or frozen.
    State(ClusterId),
    /// What is kept of a cluster though its source does not name it any more.
    Hold(ClusterId),
    /// How far a cluster's records are complete.
    Synced(ClusterId),
    /// What a service is in a cluster.
    Head(ClusterId, ServiceKey),
    /// Some endpoints of a service in a cluster.
    Slice(ClusterId, ServiceKey, Arc<str>),
    /// The clusters that export a service, in first-seen order.
    Order(ServiceKey),
    /// The virtual addresses of a host.
    VipOfHost(Arc<str>),
    /// The host of a virtual address.
    HostOfVip(IpAddr),
    /// Whether a cluster was removed from the fleet.
    Tombstone(ClusterId),
}

/// In so many parts the records are read at most.
const MOST_PARTS: usize = 64;

/// A key under our root that none of our grammar made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a key of this layout")]
pub struct UnknownKey(pub String);

// === impl Key ===

impl Key {
    /// Everything that one cluster asserts about services.
    #[must_use]
    pub fn records_of(cluster: &ClusterId) -> String {
        format!("records/{cluster}/")
    }

    /// Everything that is known of a cluster itself.
    #[must_use]
    pub fn cluster(cluster: &ClusterId) -> String {
        format!("clusters/{cluster}/")
    }

    /// All that is known of clusters themselves.
    pub const CLUSTERS: &'static str = "clusters/";

    /// All records of services.
    pub const RECORDS: &'static str = "records/";

    /// All orders.
    pub const ORDERS: &'static str = "order/";

    /// All that is known of removals.
    pub const TOMBSTONES: &'static str = "tombstones/";

    /// All virtual addresses.
    pub const VIPS: &'static str = "vips/";

    /// Keys between which a store has about equally many, if these are its clusters: borders for whoever reads all of
    /// it in parts. In order.
    #[must_use]
    pub fn borders<'a>(clusters: impl ExactSizeIterator<Item = &'a ClusterId>) -> Vec<String> {
        let step = clusters.len().div_ceil(MOST_PARTS).max(1);
        let records = clusters.step_by(step).map(Self::records_of);
        let mut borders: Vec<String> = records.collect();
        let kinds = [Self::ORDERS, Self::RECORDS, Self::TOMBSTONES, Self::VIPS, "vips/hosts/"];
        borders.extend(kinds.map(str::to_owned));
        borders.sort_unstable();
        borders
    }

    /// Whether all clusters have a part in it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Order(_) | Self::VipOfHost(_) | Self::HostOfVip(_))
    }

    /// The cluster whose it is, if it is one's own.
    #[must_use]
    pub fn owned_by(&self) -> Option<&ClusterId> {
        match self {
            Self::Meta(id) | Self::Owner(id) | Self::Candidate(id, _) | Self::Synced(id) | Self::State(id) => Some(id),
            Self::Hold(id) | Self::Head(id, _) | Self::Slice(id, _, _) | Self::Tombstone(id) => Some(id),
            Self::Generation | Self::Order(_) | Self::VipOfHost(_) | Self::HostOfVip(_) => None,
        }
    }

    /// Whether it is a record of a service: one of those that the marker counts.
    #[must_use]
    pub fn is_record(&self) -> bool {
        matches!(self, Self::Head(..) | Self::Slice(..))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`UnknownKey`] when it is none of ours.
    pub fn parse(text: &str) -> Result<Self, UnknownKey> {
        Self::read(text).ok_or_else(|| UnknownKey(text.to_owned()))
    }

    fn read(text: &str) -> Option<Self> {
        if text == "generation" {
            return Some(Self::Generation);
        }
        let (kind, rest) = text.split_once('/')?;
        match kind {
            "clusters" => {
                let (id, leaf) = rest.split_once('/')?;
                let id = ClusterId::parse(id).ok()?;
                match leaf {
                    "meta" => Some(Self::Meta(id)),
                    "owner" => Some(Self::Owner(id)),
                    "synced" => Some(Self::Synced(id)),
                    "state" => Some(Self::State(id)),
                    "hold" => Some(Self::Hold(id)),
                    leaf => {
                        let agent = leaf.strip_prefix("candidates/").filter(|agent| !agent.is_empty())?;
                        Some(Self::Candidate(id, agent.into()))
                    }
                }
            }
            "records" => {
                let mut parts = rest.splitn(4, '/');
                let id = ClusterId::parse(parts.next()?).ok()?;
                let service = ServiceKey::parse(parts.next()?, parts.next()?).ok()?;
                match parts.next()? {
                    "head" => Some(Self::Head(id, service)),
                    leaf => {
                        let name = leaf.strip_prefix("slices/").filter(|name| !name.is_empty())?;
                        Some(Self::Slice(id, service, name.into()))
                    }
                }
            }
            "tombstones" => ClusterId::parse(rest).ok().map(Self::Tombstone),
            "order" => {
                let (namespace, name) = rest.split_once('/')?;
                ServiceKey::parse(namespace, name).ok().map(Self::Order)
            }
            "vips" => {
                let (kind, leaf) = rest.split_once('/')?;
                match kind {
                    "hosts" if !leaf.is_empty() => Some(Self::VipOfHost(leaf.into())),
                    // An address has many spellings; only the one we write is a key.
                    "addresses" => leaf.parse::<IpAddr>().ok().filter(|a| a.to_string() == leaf).map(Self::HostOfVip),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generation => f.write_str("generation"),
            Self::Meta(id) => write!(f, "clusters/{id}/meta"),
            Self::Owner(id) => write!(f, "clusters/{id}/owner"),
            Self::Candidate(id, agent) => write!(f, "clusters/{id}/candidates/{agent}"),
            Self::State(id) => write!(f, "clusters/{id}/state"),
            Self::Hold(id) => write!(f, "clusters/{id}/hold"),
            Self::Synced(id) => write!(f, "clusters/{id}/synced"),
            Self::Head(id, service) => write!(f, "records/{id}/{service}/head"),
            Self::Slice(id, service, name) => write!(f, "records/{id}/{service}/slices/{name}"),
            Self::Order(service) => write!(f, "order/{service}"),
            Self::VipOfHost(host) => write!(f, "vips/hosts/{host}"),
            Self::HostOfVip(address) => write!(f, "vips/addresses/{address}"),
            Self::Tombstone(id) => write!(f, "{}{id}", Self::TOMBSTONES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = Key> {
        let id = "[a-y][a-z0-9]{0,5}".prop_map(|s| ClusterId::parse(&format!("z{s}")).expect("a label"));
        let service =
            ("[a-z][a-z0-9]{0,5}", "[a-z0-9]{1,9}").prop_map(|(ns, n)| ServiceKey::parse(&ns, &n).expect("labels"));
        (id, service, "[a-z0-9.-]{1,20}", any::<IpAddr>(), 0..13_u8).prop_map(|(id, service, text, address, kind)| {
            match kind {
                0 => Key::Meta(id),
                1 => Key::Owner(id),
                2 => Key::Synced(id),
                3 => Key::Head(id, service),
                4 => Key::Slice(id, service, text.as_str().into()),
                5 => Key::Order(service),
                6 => Key::VipOfHost(text.as_str().into()),
                7 => Key::Tombstone(id),
                8 => Key::Generation,
                9 => Key::Candidate(id, text.as_str().into()),
                10 => Key::State(id),
                11 => Key::Hold(id),
                _ => Key::HostOfVip(address),
            }
        })
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_format(key in any_key()) {
            prop_assert_eq!(Key::parse(&key.to_string()), Ok(key));
        }

        #[test]
        fn what_parses_formats_to_itself(text in "(generation|clusters|records|order|vips|tombstones|x)(/[a-z0-9.:-]{0,8}){0,5}") {
            if let Ok(key) = Key::parse(&text) {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }

    #[test]
    fn borders_are_few_and_in_order() {
        let clusters: Vec<ClusterId> =
            (0..1000).map(|n| ClusterId::parse(&format!("c{n:03}")).expect("an id")).collect();
        for count in [0, 1, 64, 65, 1000] {
            let borders = Key::borders(clusters[..count].iter());
            assert!(borders.is_sorted() && borders.len() <= MOST_PARTS + 5, "{count}");
            assert!(borders.len() > count.min(MOST_PARTS / 2), "{count}");
        }
    }

    #[test]
    fn a_cluster_prefix_matches_no_longer_id() {
        let id = ClusterId::parse("a").expect("an id");
        assert!(!"records/ab/x/y/head".starts_with(&Key::records_of(&id)));
    }
}
