//! A large cluster as objects: services without selectors, a slice for each, pods, and nodes, with as many labels,
//! annotations and fields as they have in the wild. The API server adds managedFields of its own.

use std::fmt::Debug;
use std::ops::Range;
use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use harness::{Cluster, Fleet, Namespace, Result};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt as _};
use serde_json::{Value, json};

/// Requests under way at a time.
const CONCURRENT: usize = 64;

/// Pods behind a service.
const PODS: u32 = 10;

/// Services of a namespace.
const SERVICES: u32 = 50;

const ZONES: u32 = 3;

/// How large a cluster is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) services: u32,
    pub(super) nodes: u32,
}

/// As many namespaces as the services need, in every cluster.
pub(super) async fn namespaces(fleet: &Fleet, size: Size) -> Result<Vec<Namespace>> {
    let numbers = stream::iter(0..size.services.div_ceil(SERVICES));
    numbers.then(|_| fleet.namespace("team")).try_collect().await
}

/// Writes all objects of a cluster.
pub(super) async fn fill(cluster: &Cluster, namespaces: &[Namespace], size: Size) -> Result {
    let start = Instant::now();
    let nodes = Api::<Node>::all(cluster.client());
    create(0..size.nodes, async |n| create_in(&nodes, node(cluster, n)).await).await?;
    let of_service = |n: u32| namespace(namespaces, n);
    let services = create(0..size.services, async |n| {
        create_in(&Api::<Service>::namespaced(cluster.client(), of_service(n)), service(cluster, n)).await
    })
    .await?;
    let pods = create(0..size.services * PODS, async |n| {
        create_in(&Api::<Pod>::namespaced(cluster.client(), of_service(n / PODS)), pod(cluster, n, size)).await
    })
    .await?;
    create(0..size.services, async |n| {
        let first = (n * PODS) as usize;
        let pods = &pods[first..first + PODS as usize];
        let mut slice = slice(cluster, n, &services[n as usize]);
        slice["endpoints"] = endpoints(cluster, n, size, of_service(n), pods);
        create_in(&Api::<EndpointSlice>::namespaced(cluster.client(), of_service(n)), slice).await
    })
    .await?;
    println!("{} is full after {:.0} s", cluster.name(), start.elapsed().as_secs_f64());
    Ok(())
}

/// Makes many at once; their uids come back in the order of their numbers.
async fn create(numbers: Range<u32>, make: impl AsyncFn(u32) -> Result<String>) -> Result<Vec<String>> {
    stream::iter(numbers).map(|n| make(n)).buffered(CONCURRENT).try_collect().await
}

async fn create_in<K>(api: &Api<K>, object: Value) -> Result<String>
where
    K: Resource + Serialize + DeserializeOwned + Clone + Debug,
{
    let created = api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(created.uid().unwrap_or_default())
}

fn namespace(namespaces: &[Namespace], service: u32) -> &str {
    &namespaces[(service / SERVICES) as usize]
}

fn name(cluster: &Cluster, service: u32) -> String {
    format!("{}-checkout-{service}", cluster.name())
}

/// An address among those of the cluster's pods.
fn address(cluster: &Cluster, pod: u32) -> String {
    format!("10.{}0.{}.{}", cluster.place().address().octets()[3], pod / 250, pod % 250 + 1)
}

fn zone(cluster: &Cluster, node: u32) -> String {
    format!("{}-{}", cluster.name(), node % ZONES + 1)
}

fn labels(name: &str) -> Value {
    json!({
        "app": name, "version": "v1", "app.kubernetes.io/name": name, "app.kubernetes.io/instance": format!("{name}-live"),
        "app.kubernetes.io/version": "2.31.4", "app.kubernetes.io/component": "backend",
        "app.kubernetes.io/part-of": "storefront", "app.kubernetes.io/managed-by": "Helm",
        "helm.sh/chart": "storefront-service-4.2.0", "service.istio.io/canonical-name": name,
        "service.istio.io/canonical-revision": "v1", "team": "payments", "cost-centre": "4711",
    })
}

fn service(cluster: &Cluster, n: u32) -> Value {
    let name = name(cluster, n);
    json!({
        "metadata": {
            "name": name, "labels": labels(&name),
            "annotations": {
                "meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": "storefront",
                "prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/metrics",
            },
        },
        "spec": {"type": "ClusterIP", "ports": ports()},
    })
}

fn ports() -> Value {
    json!([
        {"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP", "appProtocol": "http"},
        {"name": "grpc", "port": 9000, "targetPort": 9000, "protocol": "TCP", "appProtocol": "grpc"},
    ])
}

/// The pods of a service as its slice has them.
fn endpoints(cluster: &Cluster, service: u32, size: Size, namespace: &str, uids: &[String]) -> Value {
    let endpoint = |(pod, uid): (u32, &String)| {
        let node = pod % size.nodes;
        json!({
            "addresses": [address(cluster, pod)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": node_name(cluster, node), "zone": zone(cluster, node),
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod_name(cluster, pod), "uid": uid},
        })
    };
    (service * PODS..).zip(uids).map(endpoint).collect()
}

fn slice(cluster: &Cluster, n: u32, owner: &str) -> Value {
    let name = name(cluster, n);
    let mut labels = labels(&name);
    labels["kubernetes.io/service-name"] = json!(name);
    labels["endpointslice.kubernetes.io/managed-by"] = json!("endpointslice-controller.k8s.io");
    json!({
        "metadata": {
            "name": format!("{name}-x7k2p"), "labels": labels,
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": name, "uid": owner,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "addressType": "IPv4",
        "ports": [
            {"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"},
            {"name": "grpc", "port": 9000, "protocol": "TCP", "appProtocol": "grpc"},
        ],
    })
}

fn pod_name(cluster: &Cluster, n: u32) -> String {
    format!("{}-6d4cf56db6-{n:05}", name(cluster, n / PODS))
}

fn pod(cluster: &Cluster, n: u32, size: Size) -> Value {
    let app = name(cluster, n / PODS);
    let mut labels = labels(&app);
    labels["pod-template-hash"] = json!("6d4cf56db6");
    labels["topology.istio.io/network"] = json!(cluster.network());
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": 8080}, "periodSeconds": 10, "timeoutSeconds": 2});
    let variables: Vec<Value> = (0..12)
        .map(|k| json!({"name": format!("SETTING_{k}"), "value": format!("value-of-setting-{k}-of-{app}")}))
        .collect();
    json!({
        "metadata": {
            "name": pod_name(cluster, n), "labels": labels,
            "annotations": {
                "prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/metrics",
                "checksum/config": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z",
            },
        },
        "spec": {
            "nodeName": node_name(cluster, n % size.nodes),
            "containers": [{
                "name": "main", "image": format!("registry.example/storefront/{app}:2.31.4"),
                "ports": [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 9000}],
                "env": variables,
                "resources": {
                    "requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "512Mi"},
                },
                "livenessProbe": probe("/healthz"), "readinessProbe": probe("/ready"),
                "volumeMounts": [{"name": "config", "mountPath": "/etc/config"}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": format!("{app}-config")}}],
            "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "storefront", "effect": "NoSchedule"}],
        },
    })
}

fn node_name(cluster: &Cluster, n: u32) -> String {
    format!("{}-node-{n}", cluster.name())
}

/// Most of a node is its list of images.
fn node(cluster: &Cluster, n: u32) -> Value {
    let name = node_name(cluster, n);
    let image = |k: u32| {
        let repository = format!("registry.example/storefront/image-{k}");
        let digest = format!("{repository}@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f0{k:04x}");
        json!({"names": [digest, format!("{repository}:2.31.4")], "sizeBytes": 123_456_789 + k})
    };
    let quantities = json!({"cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi"});
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": format!("Kubelet{kind}"), "message": "as the kubelet says",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    json!({
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "node.kubernetes.io/instance-type": "m6i.4xlarge",
                "topology.kubernetes.io/region": cluster.name(), "topology.kubernetes.io/zone": zone(cluster, n),
            },
        },
        "spec": {"providerID": format!("cloud:///{name}")},
        "status": {
            "capacity": quantities, "allocatable": quantities,
            "addresses": [
                {"type": "InternalIP", "address": cluster.place().address()},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [
                condition("MemoryPressure", "False"), condition("DiskPressure", "False"),
                condition("PIDPressure", "False"), condition("Ready", "True"),
            ],
            "images": (0..40).map(image).collect::<Vec<_>>(),
        },
    })
}
