//! What the clusters of a benchmark export, as the keys and records that their owners would write.
//!
//! Every service has one port that its endpoints listen on, and every cluster is on the one network, so that each
//! agent lists every endpoint. Endpoints have what real ones have: a zone, labels, a service account.

use std::net::Ipv4Addr;

use harness::Result;
use model::cluster::{Meta, SetHash, Synced};
use model::export::{Address, Endpoint, Head, Health, Port, Protocol, Slice, TargetPort, Traits, Workload};
use model::key::Key;
use model::locality::{Locality, Network};
use model::name::{ClusterId, ServiceKey};
use model::record::{Order, Record as _, VipHost};
use model::vip::Vip;

/// The network of every cluster.
pub(crate) const NETWORK: &str = "n1";

/// The zone that hosts are in.
pub(crate) const ZONE: &str = "global";

/// What every service listens on.
const PORT: u16 = 8080;

/// Clusters of equal size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) clusters: u32,
    /// Services of one cluster.
    pub(crate) services: u32,
    /// EndpointSlices of one service in one cluster.
    pub(crate) slices: u32,
    /// Endpoints in one of them.
    pub(crate) endpoints: u32,
    /// Whether all clusters have services of the same names, or each its own.
    pub(crate) shared: bool,
}

/// One EndpointSlice of the fleet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) cluster: u32,
    pub(crate) service: u32,
    pub(crate) slice: u32,
}

/// What stands behind a key.
pub(crate) type Write = (String, Vec<u8>);

// === impl Shape ===

impl Shape {
    /// Names in the fleet.
    pub(crate) const fn names(&self) -> u32 {
        if self.shared { self.services } else { self.services * self.clusters }
    }

    pub(crate) const fn all_endpoints(&self) -> u32 {
        self.clusters * self.services * self.slices * self.endpoints
    }

    pub(crate) fn cluster(number: u32) -> Result<ClusterId> {
        Ok(ClusterId::parse(&format!("cluster-{number:03}"))?)
    }

    /// A service of a cluster.
    pub(crate) fn service(&self, cluster: u32, number: u32) -> Result<ServiceKey> {
        let namespace = format!("team-{:02}", number % 40);
        let name =
            if self.shared { format!("service-{number:04}") } else { format!("service-{number:04}-{cluster:03}") };
        Ok(ServiceKey::parse(&namespace, &name)?)
    }

    /// The host of a service.
    pub(crate) fn host(&self, cluster: u32, number: u32) -> Result<String> {
        Ok(self.service(cluster, number)?.host(ZONE))
    }

    /// The host that is read last, and its virtual address.
    pub(crate) fn last(&self) -> Result<(String, Ipv4Addr)> {
        let (cluster, service) = (if self.shared { 0 } else { self.clusters - 1 }, self.services - 1);
        Ok((self.host(cluster, service)?, self.vip(cluster, service).v4))
    }

    /// All that one cluster asserts, its marker and what it says of itself last.
    pub(crate) fn records(&self, cluster: u32) -> Result<Vec<Write>> {
        let id = Self::cluster(cluster)?;
        let mut writes = Vec::new();
        let mut synced = Synced { epoch: 1, sequence: 1, source_version: "1".into(), ..Synced::default() };
        for service in 0..self.services {
            let key = self.service(cluster, service)?;
            let mut put = |key: &Key, value: Vec<u8>| {
                let key = key.to_string();
                synced.records += 1;
                synced.hash = synced.hash.plus(SetHash::of(&key, &value));
                writes.push((key, value));
            };
            put(&Key::Head(id.clone(), key.clone()), head(cluster, service).encode());
            for slice in 0..self.slices {
                let at = Place { cluster, service, slice };
                put(&self.key(at)?, self.slice(at, 0).encode());
            }
        }
        let meta = Meta { uid: format!("uid-{id}").into(), network: Network::new(NETWORK), ..Meta::default() };
        writes.push((Key::Meta(id.clone()).to_string(), meta.encode()));
        writes.push((Key::Synced(id).to_string(), synced.encode()));
        Ok(writes)
    }

    /// What belongs to no cluster alone: the order of exports, and virtual addresses.
    pub(crate) fn common(&self) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        let exporters = if self.shared { 1 } else { self.clusters };
        for cluster in 0..exporters {
            for service in 0..self.services {
                let key = self.service(cluster, service)?;
                let order = if self.shared { (0..self.clusters).collect() } else { vec![cluster] };
                let order = order.into_iter().map(Self::cluster).collect::<Result<_>>()?;
                writes.push((Key::Order(key.clone()).to_string(), Order(order).encode()));
                let (host, vip) = (key.host(ZONE), self.vip(cluster, service));
                writes.push((Key::VipOfHost(host.as_str().into()).to_string(), vip.encode()));
                for address in [vip.v4.into(), vip.v6.into()] {
                    writes.push((Key::HostOfVip(address).to_string(), VipHost(host.clone()).encode()));
                }
            }
        }
        Ok(writes)
    }

    /// The virtual addresses of a service.
    pub(crate) fn vip(&self, cluster: u32, service: u32) -> Vip {
        let number = 1 + if self.shared { service } else { cluster * self.services + service };
        let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(240, 64, 0, 0)) + number);
        let v6 = (0xfdfe_d066_u128 << 96) + u128::from(number);
        Vip { v4, v6: v6.into() }
    }

    /// Where the change of this number is: every place in turn, so that many changes touch as many services as there are.
    pub(crate) const fn place(&self, change: u32) -> Place {
        let Self { clusters, services, slices, .. } = *self;
        let place = change.wrapping_mul(7919) % (clusters * services * slices);
        Place { cluster: place / slices % clusters, service: place / slices / clusters, slice: place % slices }
    }

    /// The key of a slice.
    pub(crate) fn key(&self, at: Place) -> Result<Key> {
        let service = self.service(at.cluster, at.service)?;
        let name = format!("{}-{:05x}", service.name, at.slice * 7919);
        Ok(Key::Slice(Self::cluster(at.cluster)?, service, name.as_str().into()))
    }

    /// A slice after so many changes: each gives the first endpoint an address that it did not have before.
    pub(crate) fn slice(&self, at: Place, changes: u32) -> Slice {
        let first = ((at.cluster * self.services + at.service) * self.slices + at.slice) * self.endpoints;
        let region = format!("region-{}", at.cluster % 5);
        let labels = [("version", "v1"), ("security.istio.io/tlsMode", "istio")];
        let labels = labels.map(|(key, value)| (key.into(), value.into()));
        let workload: std::sync::Arc<_> = Workload {
            labels: labels.into(),
            service_account: format!("account-{}", at.service % 100).as_str().into(),
        }
        .into();
        let endpoint = |number: u32| Endpoint {
            address: Address::Ip(address(if number == 0 && changes > 0 {
                0x80_0000 + changes
            } else {
                first + number
            })),
            health: Health::Ready,
            traits: Traits {
                network: None,
                hostname: "".into(),
                locality: Locality::new(&region, &format!("{region}{}", ["a", "b", "c"][number as usize % 3]), ""),
                workload: workload.clone(),
            }
            .into(),
        };
        Slice {
            ports: [TargetPort { name: "http".into(), number: PORT, protocol: Protocol::Tcp }].into(),
            endpoints: (0..self.endpoints).map(endpoint).collect(),
        }
    }
}

/// The marker of a cluster after one record of it is another.
pub(crate) fn marker(known: &[u8], key: &str, before: &[u8], after: &[u8]) -> Result<Vec<u8>> {
    let mut synced = Synced::decode(known)?;
    synced.sequence += 1;
    synced.hash = synced.hash.minus(SetHash::of(key, before)).plus(SetHash::of(key, after));
    Ok(synced.encode())
}

fn head(cluster: u32, service: u32) -> Head {
    Head {
        ports: [Port { name: "http".into(), number: PORT, protocol: Protocol::Tcp, app_protocol: "".into() }].into(),
        cluster_ips: [address(0x40_0000 + cluster * 1000 + service)].into(),
        created: 1_700_000_000 + i64::from(service),
        ..Head::default()
    }
}

/// `10.0.0.1` and on.
fn address(number: u32) -> std::net::IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 1)) + number).into()
}
