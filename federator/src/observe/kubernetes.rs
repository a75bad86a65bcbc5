//! A cluster by its API server: list and watch of Services, EndpointSlices and Nodes (metadata only). Trouble is
//! shown and what is known is kept; only a complete list or a delete event takes anything away.

use super::{
    Observed,
    index::{Index, Kind, Object, ObjectName},
};
use crate::{
    backoff::Backoff,
    kubernetes::{
        explain::explain,
        follow::{Event, follow},
    },
};
use futures::{StreamExt as _, stream, stream::BoxStream};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::{DeserializeGuard, PartialObjectMeta},
};
use model::locality::{Locality, Network};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, HashSet},
    fmt::Debug,
};
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

/// An object as it was seen: what it is called, of which version, and what it is or why that cannot be read.
struct Seen {
    name: ObjectName,
    version: Option<String>,
    object: Result<Object, String>,
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
        follow_kind(&client, Kind::Service, |service: DeserializeGuard<Service>| {
            service.0.map(|service| Object::Service(Box::new(service))).map_err(|error| error.to_string())
        }),
        follow_kind(&client, Kind::EndpointSlice, |slice: DeserializeGuard<EndpointSlice>| {
            slice.0.map(|slice| Object::EndpointSlice(Box::new(slice))).map_err(|error| error.to_string())
        }),
        follow_kind(&client, Kind::Node, |node: PartialObjectMeta<Node>| Ok(Object::Node(Box::new(node.metadata)))),
    ]);
    let mut events = events.ready_chunks(BURST);
    loop {
        tokio::select! {
            Some(burst) = events.next() => {
                burst.into_iter().for_each(|(kind, event)| cluster.take(kind, event));
                observed.send_replace(cluster.result());
            }
            () = observed.closed() => return,
        }
    }
}

/// Follows all objects of a kind; `read` says what an object is, or why it cannot be read.
fn follow_kind<K>(
    client: &Client,
    kind: Kind,
    read: fn(K) -> Result<Object, String>,
) -> BoxStream<'static, (Kind, Event<Seen>)>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let seen = move |object: K| Seen {
        name: ObjectName::new(kind, object.meta()),
        version: object.resource_version(),
        object: read(object),
    };
    follow(Api::<K>::all(client.clone())).map(move |event| (kind, event.map(seen))).boxed()
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
                cluster.in_trouble(Kind::Service, explain(&error));
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

    fn take(&mut self, kind: Kind, event: Event<Seen>) {
        match event {
            Event::Begin => {
                self.listing.insert(kind, HashSet::new());
            }
            Event::Listed(seen) => {
                self.listing.entry(kind).or_default().insert(seen.name.clone());
                self.keep(seen);
            }
            Event::Complete => {
                let listed = self.listing.remove(&kind).unwrap_or_default();
                for name in self.index.names(kind).difference(&listed) {
                    self.index.delete(name);
                }
                self.listed.insert(kind);
                self.trouble.remove(&kind);
            }
            Event::Changed(seen) => {
                self.trouble.remove(&kind);
                self.keep(seen);
            }
            Event::Gone(seen) => {
                self.trouble.remove(&kind);
                self.index.delete(&seen.name);
            }
            Event::Quiet => {
                self.trouble.remove(&kind);
            }
            Event::Trouble(trouble) => self.in_trouble(kind, trouble.reason),
        }
    }

    /// Takes over an object. One that cannot be read is not one that is gone: what it was is kept.
    fn keep(&mut self, seen: Seen) {
        match seen.object {
            Ok(object) => self.index.apply(&object),
            Err(reason) => self.index.leave_out(&seen.name, Some(reason)),
        }
        if let Some(version) = seen.version {
            self.index.observed().source_version = version.into();
        }
    }

    fn in_trouble(&mut self, kind: Kind, reason: String) {
        if self.trouble.get(&kind) != Some(&reason) {
            tracing::error!("API server {}: {kind:?}: {reason}; what is known is kept", self.server);
            self.trouble.insert(kind, reason);
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
