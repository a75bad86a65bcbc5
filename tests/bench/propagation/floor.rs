//! The floor: the same steps without Federator. A watch sees the slice, a put writes it to the shared store, a watch
//! sees the put; then an apply writes an object as large as our ServiceEntry, and a watch sees that.
//!
//! Nothing is merged, compared or decided here, and every step has clients of its own, as agents would have. No
//! program with these parts between its ends can be faster by more than what it saves on a step.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use etcd_client::{Client as EtcdClient, WatchStream};
use futures::TryFutureExt as _;
use harness::{Fleet, Namespace, Result};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::federated::{self, service_entries};
use super::seen::{Watch, entry_has};
use super::{WITHIN, client, endpoints, patch, slice_name, slices};

/// The name of a Service that does not exist; as long as the one that does.
pub(super) const SERVICE: &str = "raw";

/// A key outside of every agent's root.
const KEY: &str = "/floor/slice";

/// The steps' connections.
pub(super) struct Floor {
    slices: Api<EndpointSlice>,
    slice: Watch<EndpointSlice>,
    writer: EtcdClient,
    puts: WatchStream,
    entries: Api<DynamicObject>,
    entry: Watch<DynamicObject>,
    object: Value,
}

/// How long after the PATCH was sent each step was done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub(super) slice_seen: Duration,
    pub(super) put_seen: Duration,
    pub(super) entry_seen: Duration,
}

// === impl Floor ===

impl Floor {
    /// `like` is the object that agents emit.
    pub(super) async fn start(fleet: &Fleet, ns: &Namespace, like: &DynamicObject) -> Result<Self> {
        let [west, east] = ["west", "east"].map(|name| fleet.cluster(name));
        let namespace = like.namespace().context("a ServiceEntry without namespace")?;
        let entries = async || {
            let api = Api::namespaced_with(client(east).await?, &namespace, &service_entries());
            Ok::<_, anyhow::Error>(api)
        };
        let object = copy(like);
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let puts = fleet.store().client().await?.watch(KEY, None).await?;
        Ok(Self {
            slices: slices(west, ns).await?,
            slice: Watch::start(slices(west, ns).await?, &slice_name(SERVICE)),
            writer: fleet.store().client().await?,
            puts,
            entries: entries().await?,
            entry: Watch::start(entries().await?, &name),
            object,
        })
    }

    /// Makes one change, and follows it to the end.
    pub(super) async fn change(&mut self, address: Ipv4Addr) -> Result<Steps> {
        let sent = Instant::now();
        let is_new = |slice: &EndpointSlice| slice.endpoints[0].addresses[0] == address.to_string();
        let (slice_seen, ()) = futures::try_join!(self.slice.until(is_new), patch(&self.slices, SERVICE, address))?;

        let value = serde_json::to_vec(&endpoints(address))?;
        let put = self.writer.put(KEY, value.clone(), None).map_err(anyhow::Error::from);
        let rest = async {
            let put_seen = put_seen(&mut self.puts, &value).await?;
            self.object["spec"]["endpoints"][0]["address"] = json!(address);
            let name = self.object["metadata"]["name"].as_str().unwrap_or_default();
            let (params, object) = (PatchParams::apply("floor").force(), Patch::Apply(&self.object));
            let apply = self.entries.patch(name, &params, &object).map_err(anyhow::Error::from);
            let seen = self.entry.until(|entry| entry_has(entry, address));
            let (entry_seen, _) = futures::try_join!(seen, apply)?;
            Ok::<_, anyhow::Error>((put_seen, entry_seen))
        };
        let ((put_seen, entry_seen), _) = futures::try_join!(rest, put)?;
        Ok(Steps { slice_seen: slice_seen - sent, put_seen: put_seen - sent, entry_seen: entry_seen - sent })
    }
}

async fn put_seen(puts: &mut WatchStream, value: &[u8]) -> Result<Instant> {
    let seen = async {
        while let Some(message) = puts.message().await? {
            ensure!(!message.canceled(), "etcd cancelled the watch");
            let events = message.events();
            if events.iter().any(|event| event.kv().is_some_and(|kv| kv.value() == value)) {
                return Ok(Instant::now());
            }
        }
        anyhow::bail!("the watch ended")
    };
    let limited = tokio::time::timeout(WITHIN, seen).await;
    limited.with_context(|| format!("the put was not seen within {WITHIN:?}"))?
}

/// The same object under another name and host, and marked as somebody else's, so that agents leave it alone.
fn copy(like: &DynamicObject) -> Value {
    let rename = |text: &str| text.replacen(federated::SERVICE, SERVICE, 1);
    let mut spec = like.data["spec"].clone();
    spec["hosts"] = json!([rename(spec["hosts"][0].as_str().unwrap_or_default())]);
    let labels = like.labels().keys().map(|key| (key.clone(), json!("benchmark")));
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {
            "name": format!("floor-{}", rename(&like.name_any())),
            "namespace": like.namespace(),
            "labels": labels.collect::<serde_json::Map<_, _>>(),
            "annotations": like.annotations(),
        },
        "spec": spec,
    })
}
