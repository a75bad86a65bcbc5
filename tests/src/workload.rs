//! Services with pods behind them, in one cluster, and what its EndpointSlices say of them.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{Cluster, Result, eventually};

/// Mostly a tenth of a second; the endpoint slice controller sometimes backs off for one, and a busy machine
/// multiplies.
const SETTLE: Duration = Duration::from_secs(20);

/// One address behind a service, as its EndpointSlice describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's address.
    pub address: IpAddr,
    /// Its node's zone: `east-1`, …
    pub zone: Option<String>,
    /// Absent in a slice means yes.
    pub ready: bool,
    /// The pod is being deleted.
    pub terminating: bool,
}

impl Cluster {
    /// A Deployment and a Service of one name, serving `port` under the same number; returns when the slices
    /// have that many ready endpoints.
    ///
    /// Nothing listens on the pods' addresses: [`Place::listen`](crate::Place::listen) does it where a test
    /// needs traffic.
    pub async fn deploy(&self, namespace: &str, name: &str, replicas: u32, port: u16) -> Result {
        let manifest = format!(
            "\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: {port}, targetPort: {port}, appProtocol: http}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers: [{{name: main, image: none, ports: [{{name: http, containerPort: {port}}}]}}]
"
        );
        self.apply(namespace, &manifest).await?;
        self.settled(namespace, name, replicas).await
    }

    /// Changes how many pods a Deployment has; returns when the slices of the Service of that name say so.
    pub async fn scale(&self, namespace: &str, name: &str, replicas: u32) -> Result {
        let deployments = Api::<Deployment>::namespaced(self.client(), namespace);
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch_scale(name, &PatchParams::default(), &patch).await?;
        self.settled(namespace, name, replicas).await
    }

    /// What the slices of a Service hold now.
    pub async fn endpoints(&self, namespace: &str, service: &str) -> Result<Vec<Endpoint>> {
        let slices = Api::<EndpointSlice>::namespaced(self.client(), namespace);
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = slices.list(&of_service).await?;
        slices.iter().flat_map(|slice| &slice.endpoints).flat_map(read).collect()
    }

    async fn settled(&self, namespace: &str, service: &str, replicas: u32) -> Result {
        let what = format!("{namespace}/{service} has {replicas} ready endpoints in {}", self.name());
        eventually(SETTLE, &what, async || {
            let endpoints = self.endpoints(namespace, service).await?;
            let ready = endpoints.iter().filter(|endpoint| endpoint.ready).count();
            ensure!(ready == replicas as usize && endpoints.len() == ready, "it has {endpoints:?}");
            Ok(())
        })
        .await
    }
}

fn read(endpoint: &SliceEndpoint) -> impl Iterator<Item = Result<Endpoint>> {
    let condition = |of: fn(&k8s_openapi::api::discovery::v1::EndpointConditions) -> Option<bool>| {
        endpoint.conditions.as_ref().and_then(of)
    };
    let (ready, terminating) = (condition(|c| c.ready), condition(|c| c.terminating));
    endpoint.addresses.iter().map(move |address| {
        Ok(Endpoint {
            address: address.parse()?,
            zone: endpoint.zone.clone(),
            ready: ready.unwrap_or(true),
            terminating: terminating.unwrap_or(false),
        })
    })
}
