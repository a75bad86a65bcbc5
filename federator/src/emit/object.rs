//! What is emitted: Istio's ServiceEntry, as far as it is written here, and the marks that say an object is ours.
//! For server-side apply a field that is never set must not be there, so empty ones are left out.

use serde::Serialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The field manager of everything we write.
pub const FIELD_MANAGER: &str = "federator";

/// The label of everything we write.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "federator");

/// The revision at which an object last changed.
pub const REVISION_ANNOTATION: &str = "federator.io/revision";

/// Group and version of ServiceEntry.
pub const API_VERSION: &str = "networking.istio.io/v1";

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An object as it should be, and since which revision.
#[derive(Clone, Debug)]
pub struct Desired {
    /// What it says.
    pub entry: Arc<ServiceEntry>,
    /// The revision of the View in which it became so. Not part of what it is: an object is not rewritten because
    /// something else moved.
    pub revision: u64,
}

/// `ServiceEntry.spec`, MESH_INTERNAL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntry {
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its virtual addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Whether it belongs to the mesh.
    pub location: &'static str,
    /// How endpoints are found: `STATIC`, or `DNS` when one of them is a host name.
    pub resolution: &'static str,
    /// Its endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}

/// `ServiceEntry.spec.ports[]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The number clients dial.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// What Istio takes it for.
    pub protocol: String,
}

/// `ServiceEntry.spec.endpoints[]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// Its address or host name; never empty, because one that is makes Envoy refuse the whole service.
    pub address: String,
    /// Port name to the number it listens on, where that differs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// `region/zone/subzone`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub locality: String,
    /// The network it is on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

// === impl ServiceEntry ===

impl Default for ServiceEntry {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            addresses: Vec::new(),
            ports: Vec::new(),
            location: "MESH_INTERNAL",
            resolution: "STATIC",
            endpoints: Vec::new(),
        }
    }
}

// === impl Desired ===

impl PartialEq for Desired {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry
    }
}

impl Desired {
    /// Its `spec` as JSON.
    #[must_use]
    pub fn spec(&self) -> Value {
        // Strings, numbers and maps with text keys: nothing in it can fail to serialize.
        serde_json::to_value(&*self.entry).unwrap_or_default()
    }

    /// The whole object.
    #[must_use]
    pub fn object(&self, at: &ObjectKey) -> Value {
        json!({
            "apiVersion": API_VERSION,
            "kind": "ServiceEntry",
            "metadata": {
                "namespace": at.namespace,
                "name": at.name,
                "labels": { MANAGED_BY.0: MANAGED_BY.1 },
                "annotations": { REVISION_ANNOTATION: self.revision.to_string() },
            },
            "spec": self.spec(),
        })
    }
}

// === impl ObjectKey ===

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceEntry {}/{}", self.namespace, self.name)
    }
}
