//! A cluster by its API server: list and watch of Services, EndpointSlices and Nodes (metadata only). Trouble is
//! shown and what is known is kept; only a complete list or a delete event takes anything away.

mod kind;

use super::{
    Observed,
    index::{Index, Kind, Object, ObjectName},
};
use crate::backoff::Backoff;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Service},
    discovery::v1::EndpointSlice,
};
use kind::{Event, watch_kind};
use kube::{
    Api, Client,
    core::{DeserializeGuard, PartialObjectMeta},
};
use model::locality::{Locality, Network};
use std::collections::{BTreeMap, HashSet};
use tokio::sync::watch;

/// The kinds that must be listed once before absence means something.
const KINDS: [Kind; 3] = [Kind::Service, Kind::EndpointSlice, Kind::Node];

/// Events taken together when they are there together, so that a burst is one look; none waits for another.
const BURST: usize = 256;

/// What one Kubernetes source needs.
#[derive(Clone)]
pub struct Config {
    /// A client of the cluster's API server.
    pub client: Client,
    /// The API server, for people.
    pub server: String,
    /// The network of the cluster.
    pub network: Network,
    /// Where endpoints run of which nothing better is known.
    pub default_locality: Locality,
}

/// The state of one cluster's watches.
struct Cluster {
    server: String,
    index: Index,
    /// What the list in progress has named so far, by kind.
    listing: BTreeMap<Kind, HashSet<ObjectName>>,
    listed: HashSet<Kind>,
    trouble: BTreeMap<Kind, String>,
}

/// Observes the cluster until nobody wants the result any more.
pub async fn run(config: Config, observed: watch::Sender<Observed>) {
    let mut cluster = Cluster::new(&config);
    tokio::select! {
        uid = identify(&config, &mut cluster, &observed) => cluster.index.observed().meta.uid = uid.into(),
        () = observed.closed() => return,
    }
    let client = config.client;
    let events = stream::select_all([
        watch_kind(client.clone(), Kind::Service, |service: DeserializeGuard<Service>| {
            service.0.map(|service| Object::Service(Box::new(service))).map_err(|error| error.to_string())
        }),
        watch_kind(client.clone(), Kind::EndpointSlice, |slice: DeserializeGuard<EndpointSlice>| {
            slice.0.map(|slice| Object::EndpointSlice(Box::new(slice))).map_err(|error| error.to_string())
        }),
        watch_kind(client, Kind::Node, |node: PartialObjectMeta<Node>| Ok(Object::Node(Box::new(node.metadata)))),
    ]);
    let mut events = events.ready_chunks(BURST);
    loop {
        tokio::select! {
            Some(burst) = events.next() => {
                burst.into_iter().for_each(|event| cluster.take(event));
                observed.send_replace(cluster.result());
            }
            () = observed.closed() => return,
        }
    }
}

/// The uid of the `kube-system` namespace; asks until it is told.
async fn identify(config: &Config, cluster: &mut Cluster, observed: &watch::Sender<Observed>) -> String {
    let namespaces: Api<Namespace> = Api::all(config.client.clone());
    let mut backoff = Backoff::default();
    loop {
        match namespaces.get("kube-system").await {
            Ok(namespace) => {
                cluster.trouble.clear();
                return namespace.metadata.uid.unwrap_or_default();
            }
            Err(error) => {
                cluster.take(Event::Trouble(Kind::Service, kind::explain(&error)));
                observed.send_replace(cluster.result());
                backoff.wait().await;
            }
        }
    }
}

// === impl Cluster ===

impl Cluster {
    fn new(config: &Config) -> Self {
        let mut index = Index::new(Observed::default(), config.default_locality.clone());
        index.observed().meta.network = config.network.clone();
        Self {
            server: config.server.clone(),
            index,
            listing: BTreeMap::new(),
            listed: HashSet::new(),
            trouble: BTreeMap::new(),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Begin(kind) => {
                self.listing.insert(kind, HashSet::new());
            }
            Event::Object { listed, object, version } => {
                let name = object.name();
                self.index.apply(&object);
                self.seen(listed, name, version);
            }
            Event::Malformed { listed, name, reason } => {
                // What it was is kept: an object that cannot be read is not an object that is gone.
                self.index.leave_out(&name, Some(reason));
                self.seen(listed, name, None);
            }
            Event::Listed(kind) => {
                let listed = self.listing.remove(&kind).unwrap_or_default();
                for name in self.index.names(kind).difference(&listed) {
                    self.index.delete(name);
                }
                self.listed.insert(kind);
                self.trouble.remove(&kind);
            }
            Event::Gone(name) => {
                self.trouble.remove(&name.kind);
                self.index.delete(&name);
            }
            Event::Quiet(kind) => {
                self.trouble.remove(&kind);
            }
            Event::Trouble(kind, reason) => {
                if self.trouble.insert(kind, reason.clone()).is_none_or(|old| old != reason) {
                    tracing::error!("API server {}: {kind:?}: {reason}; what is known is kept", self.server);
                }
            }
        }
    }

    fn seen(&mut self, listed: bool, name: ObjectName, version: Option<String>) {
        if let Some(listing) = self.listing.get_mut(&name.kind).filter(|_| listed) {
            listing.insert(name);
        } else {
            self.trouble.remove(&name.kind);
        }
        if let Some(version) = version {
            self.index.observed().source_version = version.into();
        }
    }

    fn result(&mut self) -> Observed {
        let server = &self.server;
        let trouble = self.trouble.values().next().map(|reason| format!("API server {server}: {reason}").into());
        let observed = self.index.observed();
        observed.synced = KINDS.iter().all(|kind| self.listed.contains(kind));
        observed.trouble = trouble;
        self.index.flush()
    }
}

#[cfg(test)]
mod tests;
