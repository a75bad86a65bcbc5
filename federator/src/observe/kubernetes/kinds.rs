//! The kinds that are observed, and how each is followed, fetched and listed by name. What an object says is read as
//! it arrives, so nothing of a kind's own type goes further than this file.

use super::defined::while_defined;
use crate::{
    kubernetes::{
        follow::{Event, Selection, follow},
        lenient::Lenient,
    },
    observe::{
        convert::{
            gateway::Gateway, node::Node, pod::Pod, service_export::ServiceExport, workload_entry::WorkloadEntry,
        },
        index::{Kind, Object, ObjectName},
    },
};
use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{GetParams, ListParams, ObjectList},
    core::{PartialObjectMeta, Request},
};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

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

    /// The definition that must be there for the kind to be there.
    const DEFINITION: Option<&'static str> = None;

    fn read(self) -> Result<Object, String>;
}

/// Makes a kind of an object that is boxed as it is.
macro_rules! source {
    ($kind:ident $(, $definition:literal)?) => {
        impl Source for Lenient<$kind> {
            const KIND: Kind = Kind::$kind;
            $(const DEFINITION: Option<&'static str> = Some($definition);)?

            fn read(self) -> Result<Object, String> {
                self.object.map(|object| Object::$kind(Box::new(object)))
            }
        }
    };
    (metadata of $kind:ident) => {
        impl Source for Lenient<PartialObjectMeta<$kind>> {
            const KIND: Kind = Kind::$kind;

            fn read(self) -> Result<Object, String> {
                self.object.map(|object| Object::$kind(Box::new(object.metadata)))
            }
        }
    };
}

source!(Service);
source!(EndpointSlice);
source!(Pod);
source!(Node);
source!(WorkloadEntry, "workloadentries.networking.istio.io");
source!(Gateway, "gateways.networking.istio.io");
source!(ServiceExport, "serviceexports.multicluster.x-k8s.io");
source!(metadata of Namespace);

/// Does something for the type that a kind is decoded as.
macro_rules! of_kind {
    ($kind:expr, $do:ident($($argument:expr),*)$(.$wait:ident)?) => {
        match $kind {
            Kind::Service => $do::<Lenient<Service>>($($argument),*)$(.$wait)?,
            Kind::EndpointSlice => $do::<Lenient<EndpointSlice>>($($argument),*)$(.$wait)?,
            Kind::Node => $do::<Lenient<Node>>($($argument),*)$(.$wait)?,
            Kind::Pod => $do::<Lenient<Pod>>($($argument),*)$(.$wait)?,
            Kind::Namespace => $do::<Lenient<PartialObjectMeta<Namespace>>>($($argument),*)$(.$wait)?,
            Kind::WorkloadEntry => $do::<Lenient<WorkloadEntry>>($($argument),*)$(.$wait)?,
            Kind::Gateway => $do::<Lenient<Gateway>>($($argument),*)$(.$wait)?,
            Kind::ServiceExport => $do::<Lenient<ServiceExport>>($($argument),*)$(.$wait)?,
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
    let api = Api::<S>::all(client.clone());
    let begin = move |from| follow(api.clone(), Selection { from, ..Selection::default() });
    let events = match S::DEFINITION {
        Some(definition) => while_defined(client, definition, from, begin),
        None => begin(from),
    };
    events.map(|event| (S::KIND, event.map(seen))).boxed()
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
