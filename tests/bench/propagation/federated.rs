//! A change on its way through the agents: from west's API server to east's answers and east's API server.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use harness::{Cluster, Namespace, Result, eventually};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, ListParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use tokio::task::spawn_blocking;

use super::seen::{Watch, entry_has};
use super::{WITHIN, client, patch, slices};
use crate::ask::Asker;

/// The Service that is exported.
pub(super) const SERVICE: &str = "web";

/// East's `endpoints` listener in a test that has the fleet for itself.
const LISTENER: u16 = 5353;

/// From the first slice to the first ServiceEntry, on a busy machine.
const FIRST: Duration = Duration::from_secs(30);

/// The path of changes through the agents.
pub(super) struct Federated {
    slices: Api<EndpointSlice>,
    asker: Arc<Asker>,
    entries: Watch<DynamicObject>,
    entry: DynamicObject,
}

/// When one change arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) sent: Instant,
    /// The same by the clock that logs are stamped with.
    pub(super) sent_by_clock: SystemTime,
    pub(super) answered: Instant,
    pub(super) emitted: Instant,
    pub(super) resolution: Duration,
}

// === impl Times ===

impl Times {
    pub(super) fn answer(&self) -> Duration {
        self.answered - self.sent
    }

    pub(super) fn entry(&self) -> Duration {
        self.emitted - self.sent
    }
}

// === impl Federated ===

impl Federated {
    /// Waits until the service is known in east.
    pub(super) async fn start(west: &Cluster, east: &Cluster, ns: &Namespace) -> Result<Self> {
        let host = format!("{SERVICE}.{ns}.global");
        let listed = Api::<DynamicObject>::all_with(client(east).await?, &service_entries());
        let entry = eventually(FIRST, "the service has a ServiceEntry in east", async || {
            let entries = listed.list(&ListParams::default()).await?;
            let ours = |entry: &DynamicObject| entry.data["spec"]["hosts"][0].as_str() == Some(&host);
            entries.into_iter().find(ours).with_context(|| format!("none for {host}"))
        })
        .await?;
        let namespace = entry.namespace().context("a ServiceEntry without namespace")?;
        let watched = Api::namespaced_with(client(east).await?, &namespace, &service_entries());
        Ok(Self {
            slices: slices(west, ns).await?,
            asker: Arc::new(Asker::new(east.place().port(LISTENER), &host)?),
            entries: Watch::start(watched, &entry.name_any()),
            entry,
        })
    }

    /// The ServiceEntry as it was found first.
    pub(super) const fn entry(&self) -> &DynamicObject {
        &self.entry
    }

    /// Makes one change, and waits until it is everywhere.
    pub(super) async fn change(&mut self, address: Ipv4Addr) -> Result<Times> {
        let asker = self.asker.clone();
        let (sent, sent_by_clock) = (Instant::now(), SystemTime::now());
        let answered = spawn_blocking(move || asker.until(address, WITHIN));
        let (answered, emitted, ()) = futures::try_join!(
            async { answered.await?.context("DNS") },
            async {
                let seen = self.entries.until(|entry| entry_has(entry, address));
                seen.await.context("ServiceEntry")
            },
            patch(&self.slices, SERVICE, address),
        )?;
        Ok(Times { sent, sent_by_clock, answered: answered.at, emitted, resolution: answered.resolution })
    }
}

pub(super) fn service_entries() -> ApiResource {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "ServiceEntry");
    ApiResource::from_gvk_with_plural(&kind, "serviceentries")
}
