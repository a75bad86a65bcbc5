//! A proxy as istiod sees one: it says who and where it is, asks for resources and takes what is pushed. No Envoy runs.
//!
//! State of the world over plaintext gRPC. It reads only while somebody waits, and istiod, which pushes nothing before the
//! last answer was acknowledged, has the newest state ready then. How resources look as text is in `assignment` and
//! `cluster`.

mod assignment;
mod cluster;
mod node;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::protobuf::Any;
use futures::SinkExt;
use futures::channel::mpsc;
use hyper_util::rt::TokioIo;
use prost::{Message, Name};
use tokio::time::{Instant, timeout_at};
use tonic::Streaming;
use tonic::transport::Endpoint;
use tower::service_fn;

pub use node::XdsNode;

use crate::place::Place;
use crate::{Result, SOON};

/// Requests on their way: one for every type that is asked for, and one acknowledgement.
const REQUESTS: usize = 4;

/// What a proxy has been told.
pub struct XdsClient {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
    /// The hosts' clusters whose endpoints it asks for.
    names: Vec<String>,
    assignments: BTreeMap<String, ClusterLoadAssignment>,
    clusters: BTreeMap<String, Cluster>,
    /// None until somebody has asked.
    listeners: Option<BTreeMap<String, Listener>>,
}

impl XdsClient {
    /// Connects a proxy inside a place, and asks for all clusters.
    pub(crate) async fn connect(place: Place, server: SocketAddr, node: &XdsNode) -> Result<Self> {
        Self::open(place, server, node, Cluster::type_url(), Vec::new()).await
    }

    /// The same that asks for nothing but the endpoints of these clusters.
    pub(crate) async fn of_endpoints(
        place: Place,
        server: SocketAddr,
        node: &XdsNode,
        names: Vec<String>,
    ) -> Result<Self> {
        Self::open(place, server, node, ClusterLoadAssignment::type_url(), names).await
    }

    async fn open(
        place: Place,
        server: SocketAddr,
        node: &XdsNode,
        type_url: String,
        names: Vec<String>,
    ) -> Result<Self> {
        let connector = service_fn(move |_| async move { place.connect(server).await.map(TokioIo::new) });
        let channel = Endpoint::from_shared(format!("http://{server}"))?.connect_with_connector(connector).await?;
        let (mut requests, stream) = mpsc::channel(REQUESTS);
        let first = DiscoveryRequest {
            node: Some(node.proto(place.name())),
            type_url,
            resource_names: names.clone(),
            ..DiscoveryRequest::default()
        };
        requests.send(first).await?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let responses = client.stream_aggregated_resources(stream).await?.into_inner();
        let (assignments, clusters) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { requests, responses, names, assignments, clusters, listeners: None })
    }

    /// Waits until the endpoints of a cluster, `outbound|80||web.shop.global`, are exactly this table: one line each, in
    /// the order of priority, locality and address, `P0 east/east-1 10.10.1.2:8080 x1`, and what else there is to say.
    pub async fn sees(&mut self, cluster: &str, table: &str) -> Result {
        self.want(cluster).await?;
        let expected = lines(table);
        self.until(&format!("the endpoints of {cluster} are\n{expected}"), |client| {
            let seen = client.endpoints(cluster)?;
            ensure!(seen == expected, "they are\n{seen}");
            Ok(())
        })
        .await
    }

    /// Waits until a cluster is as these lines say: how it encrypts, to whom, and how it balances.
    pub async fn is_told(&mut self, cluster: &str, text: &str) -> Result {
        let expected = lines(text);
        self.until(&format!("{cluster} is\n{expected}"), |client| {
            let seen = client.cluster(cluster)?;
            ensure!(seen == expected, "it is\n{seen}");
            Ok(())
        })
        .await
    }

    /// Waits until a gateway passes on exactly these names of TLS (SNI) on a port, in their order; others it resets.
    pub async fn passes(&mut self, port: u16, names: &str) -> Result {
        if self.listeners.is_none() {
            self.listeners = Some(BTreeMap::new());
            let request = self.request(Listener::type_url());
            self.requests.send(request).await?;
        }
        let (name, expected) = (format!("0.0.0.0_{port}"), lines(names));
        self.until(&format!("port {port} passes\n{expected}"), |client| {
            let listener = client.listeners.iter().flatten().find(|(known, _)| **known == name);
            let (_, listener) = listener.with_context(|| format!("istiod has no {name}"))?;
            let matches = listener.filter_chains.iter().filter_map(|chain| chain.filter_chain_match.as_ref());
            let mut seen: Vec<&str> = matches.flat_map(|of| &of.server_names).map(String::as_str).collect();
            seen.sort_unstable();
            ensure!(seen.join("\n") == expected, "it passes\n{}", seen.join("\n"));
            Ok(())
        })
        .await
    }

    /// Takes what is pushed until the state satisfies `look`; an error of that means *not yet*.
    pub async fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + SOON;
        loop {
            let not_yet = match look(self) {
                Ok(found) => return Ok(found),
                Err(not_yet) => not_yet,
            };
            match timeout_at(deadline, self.responses.message()).await {
                Ok(response) => self.take(response?.context("istiod has closed the stream")?).await?,
                Err(_) => return Err(not_yet).with_context(|| format!("not within {SOON:?}: {what}")),
            }
        }
    }

    /// The endpoints of a cluster as they are now; those of one that is resolved by DNS come with the cluster.
    pub fn endpoints(&self, cluster: &str) -> Result<String> {
        let whole = self.clusters.get(cluster).with_context(|| format!("istiod has no {cluster}"))?;
        let assignment = whole.load_assignment.as_ref().or_else(|| self.assignments.get(cluster));
        Ok(assignment::table(assignment.with_context(|| format!("no word on the endpoints of {cluster}"))?))
    }

    /// The same as istiod has said it; `None` before it has.
    pub fn assignment(&self, cluster: &str) -> Option<&ClusterLoadAssignment> {
        self.assignments.get(cluster)
    }

    /// What is said of a cluster now.
    pub fn cluster(&self, name: &str) -> Result<String> {
        cluster::text(self.clusters.get(name).with_context(|| format!("istiod has no {name}"))?)
    }

    async fn want(&mut self, cluster: &str) -> Result {
        if !self.names.iter().any(|name| name == cluster) {
            self.names.push(cluster.to_owned());
            let request = self.request(ClusterLoadAssignment::type_url());
            self.requests.send(request).await?;
        }
        Ok(())
    }

    async fn take(&mut self, response: DiscoveryResponse) -> Result {
        if response.type_url == Cluster::type_url() {
            self.clusters = decode(&response.resources, |cluster: &Cluster| cluster.name.clone())?;
        } else if response.type_url == ClusterLoadAssignment::type_url() {
            // Each push has only those that changed.
            self.assignments.extend(decode(&response.resources, |of: &ClusterLoadAssignment| of.cluster_name.clone())?);
        } else if response.type_url == Listener::type_url() {
            self.listeners = Some(decode(&response.resources, |listener: &Listener| listener.name.clone())?);
        } else {
            bail!("nobody has asked for {}", response.type_url);
        }
        let mut acknowledgement = self.request(response.type_url);
        acknowledgement.version_info = response.version_info;
        acknowledgement.response_nonce = response.nonce;
        Ok(self.requests.send(acknowledgement).await?)
    }

    fn request(&self, type_url: String) -> DiscoveryRequest {
        let resource_names =
            if type_url == ClusterLoadAssignment::type_url() { self.names.clone() } else { Vec::new() };
        DiscoveryRequest { type_url, resource_names, ..DiscoveryRequest::default() }
    }
}

/// Resources by name.
fn decode<T: Message + Default>(resources: &[Any], name: impl Fn(&T) -> String) -> Result<BTreeMap<String, T>> {
    let decode = |any: &Any| {
        let resource = T::decode(&*any.value)?;
        Ok((name(&resource), resource))
    };
    resources.iter().map(decode).collect()
}

/// A table as tests write it: indented, and between empty lines.
fn lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}
