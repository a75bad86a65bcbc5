//! The kinds that are observed, and how each is followed, fetched and listed by name. What an object says is read as
//! it arrives, so nothing of a kind's own type goes further than this file.

use crate::{
    kubernetes::follow::{Event, Selection, follow},
    observe::index::{Kind, Object, ObjectName},
};
use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{GetParams, ListParams, ObjectList},
    core::{DeserializeGuard, PartialObjectMeta, Request},
};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// The kinds that must be listed once before absence means something.
pub(super) const KINDS: [Kind; 3] = [Kind::Service, Kind::EndpointSlice, Kind::Node];

/// An object as it was seen: what it is called, of which version, and what it is or why that cannot be read.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) name: ObjectName,
    /// Zero when it has none, or none that is a number.
    pub(super) version: u64,
    pub(super) object: Result<Object, String>,
}

/// A kind of object of the API, as it is decoded.
trait Source: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static {
    const KIND: Kind;

    fn read(self) -> Result<Object, String>;
}

impl Source for DeserializeGuard<Service> {
    const KIND: Kind = Kind::Service;

    fn read(self) -> Result<Object, String> {
        self.0.map(|service| Object::Service(Box::new(service))).map_err(|error| error.to_string())
    }
}

impl Source for DeserializeGuard<EndpointSlice> {
    const KIND: Kind = Kind::EndpointSlice;

    fn read(self) -> Result<Object, String> {
        self.0.map(|slice| Object::EndpointSlice(Box::new(slice))).map_err(|error| error.to_string())
    }
}

impl Source for PartialObjectMeta<Node> {
    const KIND: Kind = Kind::Node;

    fn read(self) -> Result<Object, String> {
        Ok(Object::Node(Box::new(self.metadata)))
    }
}

/// Does something for the type that a kind is decoded as.
macro_rules! of_kind {
    ($kind:expr, $do:ident($($argument:expr),*)$(.$wait:ident)?) => {
        match $kind {
            Kind::Service => $do::<DeserializeGuard<Service>>($($argument),*)$(.$wait)?,
            Kind::EndpointSlice => $do::<DeserializeGuard<EndpointSlice>>($($argument),*)$(.$wait)?,
            Kind::Node => $do::<PartialObjectMeta<Node>>($($argument),*)$(.$wait)?,
        }
    };
}

/// Follows all objects of a kind, from a version on or from the beginning.
pub(super) fn follow_kind(
    client: &Client,
    kind: Kind,
    from: Option<String>,
) -> BoxStream<'static, (Kind, Event<Seen>)> {
    of_kind!(kind, follow_source(client, from))
}

/// The object as it stands in storage: asked for by name, an API server tells nothing else. `None` when there is none.
pub(super) async fn get(client: &Client, name: &ObjectName) -> kube::Result<Option<Seen>> {
    of_kind!(name.kind, get_source(client, name).await)
}

/// The object as a list has it, which may be of another world. `None` when it is not in it.
pub(super) async fn list(client: &Client, name: &ObjectName) -> kube::Result<Option<Seen>> {
    of_kind!(name.kind, list_source(client, name).await)
}

fn follow_source<S: Source>(client: &Client, from: Option<String>) -> BoxStream<'static, (Kind, Event<Seen>)> {
    let selection = Selection { from, ..Selection::default() };
    follow(Api::<S>::all(client.clone()), selection).map(|event| (S::KIND, event.map(seen))).boxed()
}

async fn get_source<S: Source>(client: &Client, name: &ObjectName) -> kube::Result<Option<Seen>> {
    let request = place::<S>(name).get(&name.name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    match client.request::<S>(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        found => found.map(|object| Some(seen(object))),
    }
}

async fn list_source<S: Source>(client: &Client, name: &ObjectName) -> kube::Result<Option<Seen>> {
    let params = ListParams::default().fields(&format!("metadata.name={}", name.name));
    let request = place::<S>(name).list(&params).map_err(kube::Error::BuildRequest)?;
    Ok(client.request::<ObjectList<S>>(request).await?.items.into_iter().next().map(seen))
}

fn place<S: Source>(name: &ObjectName) -> Request {
    Request::new(S::url_path(&(), Some(&*name.namespace).filter(|namespace| !namespace.is_empty())))
}

fn seen<S: Source>(object: S) -> Seen {
    Seen {
        name: ObjectName::new(S::KIND, object.meta()),
        version: object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default(),
        object: object.read(),
    }
}
