//! What one sidecar pays for a fleet: the configuration that istiod hands it, and the memory of a stock Envoy that holds it.
//! Beside it as many Services of the cluster itself, which is what istiod would have it hold by its own multicluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::Context;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use harness::{Result, Spare, XdsNode};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::PostParams;
use serde_json::{from_value, json};

use crate::shape::{Place, Shape};

/// Requests under way at a time.
const CONCURRENT: usize = 64;

/// Where the sidecar's pod would be.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 40, 3, 250);

/// Nothing that comes in is encrypted, so that a sidecar needs no certificate.
const PLAIN: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: DISABLE}}
";

/// What one sidecar was told and holds.
#[derive(Debug, Clone)]
pub(super) struct Sidecar {
    /// Bytes that it received of istiod.
    pub(super) received: u64,
    /// Bytes of resources by their type, as istiod counts them: `Cluster`, `ClusterLoadAssignment`, …
    pub(super) told: BTreeMap<String, u64>,
    /// Resident bytes of Envoy.
    pub(super) resident: u64,
}

/// Starts istiod and one sidecar in this cluster, and looks at it when it has all that istiod tells it.
pub(super) async fn measure(cluster: &Spare) -> Result<Sidecar> {
    cluster.apply("default", PLAIN).await?;
    let istiod = cluster.istiod().await?;
    // As Istio injects it: whatever its pod sends is redirected to it.
    let node = XdsNode::sidecar("default", CLIENT).network(cluster.network()).redirected();
    let envoy = cluster.envoy(&node).await?;
    let received = envoy.count("cluster.istiod.upstream_cx_rx_bytes_total").await?;
    let mut told = BTreeMap::new();
    for line in istiod.metrics().await?.lines() {
        // pilot_xds_config_size_bytes_sum{type="type.googleapis.com/envoy.config.cluster.v3.Cluster"} 123
        let Some(rest) = line.strip_prefix("pilot_xds_config_size_bytes_sum{") else { continue };
        let (labels, value) = rest.split_once("} ").context("a metric of istiod")?;
        let kind = labels.trim_end_matches('"').rsplit(['.', '/', '"']).next().unwrap_or_default();
        told.insert(kind.to_owned(), value.parse::<f64>()? as u64);
    }
    Ok(Sidecar { received, told, resident: envoy.leaks()?.resident })
}

/// Writes the services of a shape into a cluster as Services of its own. Nothing runs there, so istiod knows neither
/// localities nor workloads of their endpoints, which the fleet's have.
pub(super) async fn fill(cluster: &Spare, shape: &Shape) -> Result {
    let all = (0..shape.clusters).flat_map(|cluster| (0..shape.services).map(move |service| (cluster, service)));
    let keys = all.clone().map(|(cluster, service)| Ok(shape.service(cluster, service)?.namespace.to_string()));
    let names = keys.collect::<Result<BTreeSet<_>>>()?;
    let namespaces = Api::<Namespace>::all(cluster.client());
    for name in names {
        let object = from_value(json!({"metadata": {"name": name}}))?;
        namespaces.create(&PostParams::default(), &object).await?;
    }
    let writes = stream::iter(all).map(async |(of, service)| create(cluster, shape, of, service).await);
    writes.buffer_unordered(CONCURRENT).try_collect::<Vec<()>>().await?;
    Ok(())
}

async fn create(cluster: &Spare, shape: &Shape, of: u32, service: u32) -> Result {
    let key = shape.service(of, service)?;
    let (name, namespace) = (key.name.as_str(), key.namespace.as_str());
    let slice = shape.slice(Place { cluster: of, service, slice: 0 }, 0);
    let endpoints = slice
        .endpoints
        .iter()
        .map(|endpoint| json!({"addresses": [endpoint.address.to_string()], "conditions": {"ready": true}}));
    let endpoints: Vec<_> = endpoints.collect();
    let ports: Vec<_> = slice.ports.iter().map(|port| (&*port.name, port.number)).collect();
    let ports =
        |field: &str| ports.iter().map(|(name, number)| json!({"name": name, field: number})).collect::<Vec<_>>();
    let object = json!({"metadata": {"name": name}, "spec": {"ports": ports("port")}});
    Api::<Service>::namespaced(cluster.client(), namespace)
        .create(&PostParams::default(), &from_value(object)?)
        .await?;
    let object = json!({
        "metadata": {"name": format!("{name}-byhand"), "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": ports("port"), "endpoints": endpoints,
    });
    let slices = Api::<EndpointSlice>::namespaced(cluster.client(), namespace);
    slices.create(&PostParams::default(), &from_value(object)?).await?;
    Ok(())
}
