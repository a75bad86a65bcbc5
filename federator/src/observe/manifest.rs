//! A file of ordinary manifests, as `kubectl get -o yaml` prints them: documents, lists of objects, objects of kinds
//! that do not matter here. Pure: text in, objects out, and a reason for each that cannot be read.

use super::{
    convert::{gateway, service_export, workload_entry},
    object::{Kind, Object, ObjectName},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// Largest file that is read, in bytes.
pub const MAX_FILE: u64 = 16 << 20;

/// Most values in one file: more than the largest file has when its values are as short as those of manifests.
const MAX_VALUES: usize = 4 << 20;

/// Most values that aliases may stand for. Manifests hardly have any; what a bomb unfolds to stays small.
const MAX_ALIASED: usize = 100_000;

/// What stands in one file.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The objects that matter.
    pub objects: Vec<Object>,
    /// The uid of the `kube-system` namespace, if it is there.
    pub cluster_uid: Option<String>,
    /// Objects that cannot be read, and why.
    pub malformed: Vec<(ObjectName, String)>,
}

/// What is read of an object of which only the metadata matters.
#[derive(Deserialize)]
struct Shell {
    metadata: ObjectMeta,
}

// === impl Manifest ===

impl Manifest {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Where and why the text is not YAML; no object is taken from such a file.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The parser's budget bounds aliases, depth and values, so a document that would unfold without end is an
        // error like any other. How many documents there are does not matter beside that.
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_documents: MAX_VALUES,
                max_nodes: MAX_VALUES,
                max_events: 3 * MAX_VALUES,
            },
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIASED },
            with_snippet: false,
        };
        let documents: Vec<Value> =
            serde_saphyr::from_multiple_with_options(text, options).map_err(|error| first_line(&error.to_string()))?;
        let mut manifest = Self::default();
        for document in documents {
            manifest.take(document);
        }
        Ok(manifest)
    }

    fn take(&mut self, mut document: Value) {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api, kind) = (text("/apiVersion"), text("/kind"));
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        if let Some(of) = kind.strip_suffix("List")
            && let Some(Value::Array(items)) = document.get_mut("items").map(Value::take)
        {
            for mut item in items {
                // The items of a typed list, like ServiceList, do not repeat what they are.
                if let (Some(fields), false) = (item.as_object_mut(), of.is_empty()) {
                    fields.entry("apiVersion").or_insert_with(|| api.clone().into());
                    fields.entry("kind").or_insert_with(|| of.into());
                }
                self.take(item);
            }
            return;
        }
        let Some(kind) = kind_of(&api, &kind) else {
            return;
        };
        if kind == Kind::Namespace && name == "kube-system" {
            self.cluster_uid = document.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
        }
        let object = match kind {
            Kind::Service => read(document).map(Object::Service),
            Kind::EndpointSlice => read(document).map(Object::EndpointSlice),
            Kind::Pod => read(document).map(Object::Pod),
            Kind::Node => read(document).map(Object::Node),
            Kind::WorkloadEntry => read(document).map(Object::WorkloadEntry),
            Kind::Gateway => read(document).map(Object::Gateway),
            Kind::ServiceExport => read(document).map(Object::ServiceExport),
            // Neither the spec nor the status matters, so they need not be right.
            Kind::Namespace => read::<Shell>(document).map(|found| Object::Namespace(Box::new(found.metadata))),
        };
        match object {
            Ok(object) => self.objects.push(object),
            Err(reason) => {
                let meta = ObjectMeta {
                    namespace: Some(namespace).filter(|text| !text.is_empty()),
                    name: Some(name),
                    ..ObjectMeta::default()
                };
                self.malformed.push((ObjectName::new(kind, &meta), reason));
            }
        }
    }
}

/// The kind of an object that matters here.
fn kind_of(api: &str, kind: &str) -> Option<Kind> {
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    match (group, kind) {
        ("", "Service") if version == "v1" => Some(Kind::Service),
        ("", "Pod") if version == "v1" => Some(Kind::Pod),
        ("", "Node") if version == "v1" => Some(Kind::Node),
        ("", "Namespace") if version == "v1" => Some(Kind::Namespace),
        ("discovery.k8s.io", "EndpointSlice") if version == "v1" => Some(Kind::EndpointSlice),
        (workload_entry::GROUP, "WorkloadEntry") if workload_entry::VERSIONS.contains(&version) => {
            Some(Kind::WorkloadEntry)
        }
        (gateway::GROUP, "Gateway") if gateway::VERSIONS.contains(&version) => Some(Kind::Gateway),
        (service_export::GROUP, "ServiceExport") if service_export::VERSIONS.contains(&version) => {
            Some(Kind::ServiceExport)
        }
        _ => None,
    }
}

fn read<T: DeserializeOwned>(document: Value) -> Result<T, String> {
    serde_json::from_value(document).map_err(|error| error.to_string())
}

/// The parser's message without the picture of the place that follows it.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
