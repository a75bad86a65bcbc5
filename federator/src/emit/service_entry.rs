//! Istio's ServiceEntry, as far as it is written here. For server-side apply a field that is never set must not be there, so
//! empty ones are left out. Knows nothing of what an entry is made of.

use model::{
    export::{Address, Workload},
    locality::Locality,
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// Tells which cluster an endpoint is in, to subsets and to people. Not Istio's own `topology.istio.io/cluster`: istiod writes
/// its own cluster's id over that, on every endpoint of a ServiceEntry.
const CLUSTER_LABEL: &str = "federator.io/cluster";

/// How endpoints are found that are addresses.
pub const STATIC: &str = "STATIC";

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
    /// The namespaces that see it; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Whether it belongs to the mesh.
    pub location: &'static str,
    /// Its ports.
    pub ports: Vec<Port<'a>>,
    /// How endpoints are found: `STATIC`, or `DNS` when one of them is a host name.
    pub resolution: &'static str,
    /// The identities that may answer for it over mutual TLS; any of the mesh where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
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
    pub network: Cow<'a, str>,
    /// Port name to the number it listens on, where that differs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Cow<'a, str>, u16>,
    /// Its share of what its level gets; absent for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// The labels of an endpoint: its cluster, what tells its version, and whether it takes mutual TLS. (Not by its service
/// account, which alone would turn that on.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels<'a> {
    /// The cluster it is in.
    pub cluster: &'a str,
    /// What runs there: what all have in common, where there are several behind it.
    pub workload: Cow<'a, Workload>,
}

// === impl ServiceEntry ===

impl Default for ServiceEntry<'_> {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            endpoints: Vec::new(),
            export_to: Vec::new(),
            hosts: Vec::new(),
            location: "MESH_INTERNAL",
            ports: Vec::new(),
            resolution: STATIC,
            subject_alt_names: Vec::new(),
        }
    }
}

// === impl Labels ===

impl Labels<'_> {
    /// By key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let versions = self.workload.labels.iter().map(|(key, value)| (&**key, &**value));
        let versions = versions.filter(|(key, _)| *key != CLUSTER_LABEL);
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
