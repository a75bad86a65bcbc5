//! Where everything is: the fixed plan of addresses, networks and ports.
//!
//! Every sandbox has a world of its own, so the plan is constant and a failing test can be read without
//! looking anything up. This file starts nothing.

use std::net::{Ipv4Addr, SocketAddr};

use crate::place::Place;

/// One cluster of the plan.
#[derive(Debug)]
pub(crate) struct Site {
    /// Cluster id, and the name of its network namespace.
    pub(crate) name: &'static str,
    /// The digit in its addresses: API server 10.0.0.i, pods 10.i0.0.0/16, services 10.i1.0.0/16.
    pub(crate) digit: u8,
    /// Clusters of one network reach each other's pods.
    pub(crate) network: &'static str,
}

/// The three clusters: two on one network, one on another.
pub(crate) static SITES: [Site; 3] = [
    Site { name: "east", digit: 1, network: "n1" },
    Site { name: "west", digit: 2, network: "n1" },
    Site { name: "south", digit: 3, network: "n2" },
];

/// Clusters that one test makes for itself, to destroy them; they are on the network of east and west.
pub(crate) static SPARES: [Site; 4] = [
    Site { name: "north", digit: 4, network: "n1" },
    Site { name: "north-2", digit: 5, network: "n1" },
    Site { name: "north-3", digit: 6, network: "n1" },
    Site { name: "north-4", digit: 7, network: "n1" },
];

/// Where the etcd runs that Federator's agents share.
pub(crate) const STORE: Place = Place::named("store", Ipv4Addr::new(10, 0, 0, 99));

/// Where the members of the etcds are that tests make for themselves, three to each.
pub(crate) static TRIOS: [[Place; 3]; 4] = [
    [member("etcd-1", 61), member("etcd-2", 62), member("etcd-3", 63)],
    [member("etcd-4", 64), member("etcd-5", 65), member("etcd-6", 66)],
    [member("etcd-7", 67), member("etcd-8", 68), member("etcd-9", 69)],
    [member("etcd-10", 70), member("etcd-11", 71), member("etcd-12", 72)],
];

/// The sandbox itself, where the test process and its clients are.
pub(crate) const TEST: Place = Place::sandbox("test", Ipv4Addr::new(10, 0, 0, 100));

/// Every place that is always on the wire.
pub(crate) fn places() -> Vec<Place> {
    SITES.iter().map(Site::place).chain([STORE, TEST]).collect()
}

const fn member(name: &'static str, digit: u8) -> Place {
    Place::named(name, Ipv4Addr::new(10, 0, 0, digit))
}

impl Site {
    pub(crate) const fn place(&self) -> Place {
        Place::named(self.name, Ipv4Addr::new(10, 0, 0, self.digit))
    }

    /// `10.10.0.0/16` for east; a node's pods are in the /24 of its number.
    pub(crate) fn pod_cidr(&self) -> String {
        format!("10.{}0.0.0/16", self.digit)
    }

    pub(crate) fn node_pod_cidr(&self, node: u8) -> String {
        format!("10.{}0.{node}.0/24", self.digit)
    }

    pub(crate) fn service_cidr(&self) -> String {
        format!("10.{}1.0.0/16", self.digit)
    }

    /// The ClusterIP of the API server: the first address of the service range.
    pub(crate) const fn kubernetes_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.digit * 10 + 1, 0, 1)
    }
}

/// A set of ports in every cluster, so that the agents of several tests can run side by side.
///
/// Lane 0 has the ports that the manual and the clusters' own CoreDNS name; a test that has the fleet for
/// itself uses it. The others are offset by a hundred each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane(pub(crate) u16);

/// A second agent of a cluster has the ports of the first, and these many more.
pub(crate) const REPLICA: u16 = 10;

impl Lane {
    /// The CoreDNS port that forwards to [`Lane::endpoints`].
    pub(crate) const fn dns(self) -> u16 {
        53 + 100 * self.0
    }

    /// The CoreDNS port that forwards to [`Lane::vip`].
    pub(crate) const fn dns_vip(self) -> u16 {
        54 + 100 * self.0
    }

    /// The name server of the world outside, as far as a test makes one.
    pub(crate) const fn dns_outside(self) -> u16 {
        55 + 100 * self.0
    }

    /// Its readiness.
    pub(crate) const fn outside_ready(self) -> SocketAddr {
        loopback(8182 + 100 * self.0)
    }

    /// CoreDNS's own readiness, on the loopback of its cluster.
    pub(crate) const fn dns_ready(self) -> SocketAddr {
        loopback(8181 + 100 * self.0)
    }

    /// The agent's DNS listener in mode `endpoints`.
    pub(crate) const fn endpoints(self) -> u16 {
        5353 + 100 * self.0
    }

    /// The agent's DNS listener in mode `vip`.
    pub(crate) const fn vip(self) -> u16 {
        5354 + 100 * self.0
    }

    /// The agent's admin port.
    pub(crate) const fn admin(self) -> u16 {
        9153 + 100 * self.0
    }
}

/// An address on the loopback of whichever place uses it.
pub(crate) const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
