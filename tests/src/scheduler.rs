//! A scheduler of one rule: the pods of one owner go round the nodes, so that they spread over the zones.
//!
//! kube-scheduler would do the same for 60 MiB a cluster. A pod that names its node is left alone.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::Result;
use crate::control_plane::ControlPlane;

/// Between two attempts while the API server is away.
const RETRY: Duration = Duration::from_millis(200);

/// Schedules until `end`, on a thread in the cluster's own place, so that no cut between
/// places comes between a cluster and its scheduler.
pub(crate) fn run(plane: &'static ControlPlane, end: impl Future<Output = ()> + Send + 'static) -> Result {
    let place = plane.site.place();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("scheduler of {}", place.name())).spawn(move || -> Result {
        place.move_here()?;
        let forever = async {
            loop {
                // Whatever ended the watch, most often a test that killed the API server: list again.
                let _ = schedule(plane).await;
                tokio::time::sleep(RETRY).await;
            }
        };
        runtime.block_on(async {
            tokio::select! {
                () = forever => {}
                () = end => {}
            }
        });
        Ok(())
    })?;
    Ok(())
}

async fn schedule(plane: &ControlPlane) -> Result {
    let client = plane.client().await?;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let nodes: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
    let mut turns: HashMap<String, usize> = HashMap::new();

    let unscheduled = watcher::Config::default().fields("spec.nodeName=");
    let mut pods = pin!(watcher(Api::<Pod>::all(client.clone()), unscheduled));
    while let Some(event) = pods.try_next().await? {
        let (Event::Apply(pod) | Event::InitApply(pod)) = event else {
            continue;
        };
        let owner = pod.owner_references().first().map(|owner| owner.uid.clone());
        let turn = turns.entry(owner.unwrap_or_default()).or_default();
        let node = nodes.get(*turn % nodes.len().max(1)).context("no node yet")?;
        *turn += 1;
        bind(&client, &pod, node).await?;
    }
    Ok(())
}

async fn bind(client: &Client, pod: &Pod, node: &str) -> Result {
    let namespace = pod.namespace().context("a pod without a namespace")?;
    let name = pod.name_any();
    let binding = Binding {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
    let bound = pods.create_subresource::<_, Value>("binding", &name, &PostParams::default(), &binding).await;
    match bound {
        // Another event of the same pod was faster, or the pod is gone.
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(()),
        other => other.map(drop).with_context(|| format!("bind {name}")),
    }
}
