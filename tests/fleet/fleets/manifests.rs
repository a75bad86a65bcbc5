//! A fleet that was dealt, as its clusters' manifests and as the configuration of an agent in one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use harness::Result;
use serde_json::{Value, json};

use super::deal::{Cluster, Dealt, Endpoint, Health, NAMESPACE, Service};

/// Every object of every cluster, into a directory a cluster.
pub(super) fn write(fleet: &Dealt, into: &Path) -> Result {
    for cluster in &fleet.clusters {
        let directory = into.join(cluster.id);
        fs::create_dir_all(&directory)?;
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects(cluster)});
        fs::write(directory.join("all.json"), list.to_string())?;
    }
    Ok(())
}

/// The zone that an agent serves in a cluster. One API server holds what all of them write, so each has its own.
pub(super) fn zone(fleet: &Dealt, cluster: &Cluster) -> String {
    format!("{}-{}.global", cluster.id, fleet.seed)
}

/// The configuration of an agent in a cluster that observes the whole fleet.
pub(super) fn config(fleet: &Dealt, home: &Cluster, directories: &Path) -> Value {
    let clusters = fleet.clusters.iter().map(|cluster| {
        let mut known = json!({"id": cluster.id, "directory": directories.join(cluster.id)});
        if let Some(network) = cluster.network {
            known["network"] = network.into();
        }
        if !cluster.found {
            let port = cluster.gateway_port;
            let addresses =
                cluster.gateways.iter().map(|gateway| std::net::SocketAddr::new(*gateway, port).to_string());
            known["gateways"] = addresses.collect();
        }
        known
    });
    json!({"cluster": home.id, "clusters": clusters.collect::<Vec<_>>(), "zone": zone(fleet, home)})
}

fn objects(cluster: &Cluster) -> Vec<Value> {
    let mut all = Vec::new();
    for zone in &cluster.zones {
        let labels = json!({"topology.kubernetes.io/region": cluster.region, "topology.kubernetes.io/zone": zone});
        all.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": zone, "labels": labels}}));
    }
    if cluster.found
        && let Some(network) = cluster.network
        && !cluster.gateways.is_empty()
    {
        let port = cluster.gateway_port;
        let labels = json!({"topology.istio.io/network": network, "networking.istio.io/gatewayPort": port.to_string()});
        let ingress: Vec<Value> = cluster.gateways.iter().map(|address| json!({"ip": address})).collect();
        all.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "eastwest", "namespace": "istio-system", "labels": labels},
            "spec": {"type": "LoadBalancer", "selector": {"istio": "gw"}, "ports": [{"name": "tls", "port": port}]},
            "status": {"loadBalancer": {"ingress": ingress}},
        }));
    }
    if !cluster.passes.is_empty() {
        let tls = json!({"number": 15443, "name": "tls", "protocol": "TLS"});
        let server = json!({"port": tls, "tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": [cluster.passes]});
        all.push(json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "cross-network", "namespace": "istio-system"},
            "spec": {"selector": {"istio": "gw"}, "servers": [server]},
        }));
    }
    for (name, service) in &cluster.services {
        all.push(head(name, service));
        all.extend(slices(name, service));
        all.extend(service.endpoints.iter().map(|endpoint| pod(name, endpoint)));
    }
    all
}

fn head(name: &str, service: &Service) -> Value {
    let ports = service.ports.iter().map(|port| {
        let protocol = if port.udp { "UDP" } else { "TCP" };
        json!({"name": port.name, "port": port.number, "protocol": protocol})
    });
    let mut spec = json!({"ports": ports.collect::<Vec<_>>()});
    if service.headless {
        spec["clusterIP"] = "None".into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    })
}

/// What endpoints of one slice have in common: whether they are of IPv6, and where they listen.
type Alike<'a> = (bool, &'a BTreeMap<u16, u16>);

/// One slice for all endpoints of a family that listen alike, and one more of an endpoint that is being moved.
fn slices(name: &str, service: &Service) -> Vec<Value> {
    let mut groups: BTreeMap<Alike<'_>, Vec<Value>> = BTreeMap::new();
    for endpoint in &service.endpoints {
        let group = groups.entry((endpoint.address.is_ipv6(), &endpoint.targets)).or_default();
        group.push(shown(name, endpoint));
    }
    let mut all: Vec<_> = groups.into_iter().collect();
    if service.moving
        && let Some(((six, targets), endpoints)) = all.first()
    {
        let mut left = endpoints[0].clone();
        // Where it was before, it may look worse.
        if service.endpoints.len().is_multiple_of(2) {
            left["conditions"] = json!({"ready": false});
        }
        let again = ((*six, *targets), vec![left]);
        all.push(again);
    }
    let slice = |(number, ((six, targets), endpoints)): (usize, (Alike<'_>, Vec<Value>))| {
        let ports = service.ports.iter().filter_map(|port| {
            let protocol = if port.udp { "UDP" } else { "TCP" };
            Some(json!({"name": port.name, "port": targets.get(&port.number)?, "protocol": protocol}))
        });
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-{number}"),
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": if six { "IPv6" } else { "IPv4" },
            "ports": ports.collect::<Vec<_>>(),
            "endpoints": endpoints,
        })
    };
    all.into_iter().enumerate().map(slice).collect()
}

fn shown(service: &str, endpoint: &Endpoint) -> Value {
    let (ready, serving, terminating) = match endpoint.health {
        Health::Ready => (true, true, false),
        Health::Serving => (false, true, true),
        Health::Terminating => (false, false, true),
        Health::NotReady => (false, false, false),
    };
    json!({
        "addresses": [endpoint.address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "nodeName": endpoint.zone,
        "zone": endpoint.zone,
        "targetRef": {"kind": "Pod", "name": pod_name(service, endpoint.address), "namespace": NAMESPACE},
    })
}

fn pod(service: &str, endpoint: &Endpoint) -> Value {
    let mut labels = BTreeMap::new();
    if endpoint.meshed {
        labels.insert("security.istio.io/tlsMode", "istio");
    }
    if let Some(network) = endpoint.network {
        labels.insert("topology.istio.io/network", network);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod_name(service, endpoint.address), "namespace": NAMESPACE, "labels": labels},
    })
}

fn pod_name(service: &str, address: IpAddr) -> String {
    format!("{service}-{address}").replace(['.', ':'], "-")
}

/// The zones of a cluster, as a proxy in them says where it is.
pub(super) fn localities(cluster: &Cluster) -> BTreeSet<String> {
    cluster.zones.iter().map(|zone| format!("{}/{zone}", cluster.region)).collect()
}
