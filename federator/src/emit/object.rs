//! What is emitted: Istio's ServiceEntry, as far as it is written here, and the marks that say an object is ours.
//! For server-side apply a field that is never set must not be there, so empty ones are left out.
//!
//! An object that is desired is not held as such, because a fleet has an entry of every endpoint: what is held says how
//! to make it, and a hash tells whether it would be another one.

use model::{
    export::{Address, Workload},
    locality::Locality,
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
};

/// The field manager of everything we write.
pub const FIELD_MANAGER: &str = "federator";

/// The label of everything we write.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "federator");

/// The revision at which an object last changed.
pub const REVISION_ANNOTATION: &str = "federator.io/revision";

/// Group and version of ServiceEntry, where nobody says otherwise.
pub const API_VERSION: &str = "networking.istio.io/v1";

/// Tells which cluster an endpoint is in, to Istio and to people.
const CLUSTER_LABEL: &str = "topology.istio.io/cluster";

/// Turns mutual TLS on. Alone it would make clients ask for an identity that the entry does not name.
const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// How to make what an object says.
pub trait Recipe: fmt::Debug + Send + Sync {
    /// What it says: the same whenever it is asked.
    fn entry(&self) -> ServiceEntry<'_>;
}

/// An object as it should be, and since which revision.
#[derive(Clone, Debug)]
pub struct Desired {
    recipe: Arc<dyn Recipe>,
    /// Of what it says.
    hash: u64,
    /// The revision of the View in which it became so. Not part of what it is: an object is not rewritten because
    /// something else moved.
    pub revision: u64,
}

/// `ServiceEntry.spec`, MESH_INTERNAL. Fields are in the order of their names, here and below: so is what is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntry<'a> {
    /// Its virtual addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Its endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint<'a>>,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Whether it belongs to the mesh.
    pub location: &'static str,
    /// Its ports.
    pub ports: Vec<Port<'a>>,
    /// How endpoints are found: `STATIC`, or `DNS` when one of them is a host name.
    pub resolution: &'static str,
}

/// `ServiceEntry.spec.ports[]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Port<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// The number clients dial.
    pub number: u16,
    /// What Istio takes it for.
    pub protocol: &'static str,
}

/// `ServiceEntry.spec.endpoints[]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Endpoint<'a> {
    /// Its address or host name; never empty, because one that is makes Envoy refuse the whole service.
    #[serde(serialize_with = "shown")]
    pub address: &'a Address,
    /// Its labels.
    pub labels: Labels<'a>,
    /// `region/zone/subzone`.
    #[serde(skip_serializing_if = "is_unknown", serialize_with = "shown")]
    pub locality: &'a Locality,
    /// The network it is on.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub network: &'a str,
    /// Port name to the number it listens on, where that differs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Cow<'a, str>, u16>,
}

/// The labels of an endpoint: its cluster, and what tells its version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels<'a> {
    /// The cluster it is in.
    pub cluster: &'a str,
    /// What runs there.
    pub workload: &'a Workload,
}

// === impl ServiceEntry ===

impl Default for ServiceEntry<'_> {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            endpoints: Vec::new(),
            hosts: Vec::new(),
            location: "MESH_INTERNAL",
            ports: Vec::new(),
            resolution: "STATIC",
        }
    }
}

impl ServiceEntry<'_> {
    /// Tells it from any other, within this process.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

// === impl Labels ===

impl Labels<'_> {
    /// By key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let versions = self.workload.labels.iter().map(|(key, value)| (&**key, &**value));
        let versions = versions.filter(|(key, _)| *key != TLS_MODE_LABEL && *key != CLUSTER_LABEL);
        let (before, after): (Vec<_>, Vec<_>) = versions.partition(|(key, _)| *key < CLUSTER_LABEL);
        before.into_iter().chain([(CLUSTER_LABEL, self.cluster)]).chain(after)
    }
}

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

fn shown<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference to the field")]
fn is_unknown(locality: &&Locality) -> bool {
    locality.is_unknown()
}

// === impl Desired ===

impl PartialEq for Desired {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Desired {
    /// An object that `recipe` makes; `hash` is that of the entry.
    #[must_use]
    pub fn new(recipe: Arc<dyn Recipe>, hash: u64, revision: u64) -> Self {
        Self { recipe, hash, revision }
    }

    /// Tells what it says from anything else, within this process.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// What it says.
    #[must_use]
    pub fn entry(&self) -> ServiceEntry<'_> {
        self.recipe.entry()
    }

    /// Its `spec` as JSON.
    #[must_use]
    pub fn spec(&self) -> Value {
        // Strings, numbers and maps with text keys: nothing in it can fail to serialize.
        serde_json::to_value(self.entry()).unwrap_or_default()
    }

    /// The whole object, to be written down in a version of its group.
    #[must_use]
    pub fn object<'a>(&'a self, at: &'a ObjectKey, api_version: &'a str) -> impl Serialize + fmt::Debug + use<'a> {
        Object {
            api_version,
            kind: "ServiceEntry",
            metadata: Metadata {
                annotations: BTreeMap::from([(REVISION_ANNOTATION, self.revision.to_string())]),
                labels: BTreeMap::from([MANAGED_BY]),
                name: &at.name,
                namespace: &at.namespace,
            },
            spec: self.entry(),
        }
    }
}

/// `ServiceEntry`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    api_version: &'a str,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: ServiceEntry<'a>,
}

/// `ServiceEntry.metadata`.
#[derive(Debug, Serialize)]
struct Metadata<'a> {
    annotations: BTreeMap<&'static str, String>,
    labels: BTreeMap<&'static str, &'static str>,
    name: &'a str,
    namespace: &'a str,
}

// === impl ObjectKey ===

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceEntry {}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
impl Recipe for ServiceEntry<'static> {
    fn entry(&self) -> ServiceEntry<'_> {
        self.clone()
    }
}

#[cfg(test)]
impl From<ServiceEntry<'static>> for Desired {
    fn from(entry: ServiceEntry<'static>) -> Self {
        let hash = entry.digest();
        Self::new(Arc::new(entry), hash, 7)
    }
}
