//! A watch of one object by kube's watcher, as the agents use it: when a change of it was seen.

use std::time::Instant;

use anyhow::{Context, bail};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use harness::Result;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::core::DynamicObject;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Resource};

use super::WITHIN;

/// The object's changes.
pub(super) struct Watch<K>(BoxStream<'static, kube::runtime::watcher::Result<Event<K>>>);

// === impl Watch ===

impl<K> Watch<K>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    K::DynamicType: Clone,
{
    pub(super) fn start(api: Api<K>, name: &str) -> Self {
        let config = Config::default().fields(&format!("metadata.name={name}"));
        Self(watcher(api, config).boxed())
    }

    /// Waits until the object is seen as it should be, and says when that was.
    pub(super) async fn until(&mut self, holds: impl Fn(&K) -> bool) -> Result<Instant> {
        let seen = async {
            while let Some(event) = self.0.next().await {
                if let Event::Apply(object) | Event::InitApply(object) = event?
                    && holds(&object)
                {
                    return Ok(Instant::now());
                }
            }
            bail!("the watch ended")
        };
        let limited = tokio::time::timeout(WITHIN, seen).await;
        limited.with_context(|| format!("not seen within {WITHIN:?}"))?
    }
}

/// Whether a ServiceEntry has an endpoint with this address.
pub(super) fn entry_has(entry: &DynamicObject, address: std::net::Ipv4Addr) -> bool {
    let endpoints = entry.data["spec"]["endpoints"].as_array();
    let address = address.to_string();
    endpoints.is_some_and(|endpoints| endpoints.iter().any(|endpoint| endpoint["address"].as_str() == Some(&address)))
}
