//! A Pod, of which next to nothing is kept: it is by far the largest kind and there are the most of them, so whatever
//! is not used is skipped while it is read.

use super::{NETWORK_LABEL, WORKLOAD_LABELS, network, workload};
use k8s_openapi::{Resource as _, api::core::v1::Pod as WholePod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use model::{export::Workload, locality::Network};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

/// A Pod as it is read: its name, namespace, uid and version, the labels that are used, and its service account.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Pod {
    /// What is used of its metadata.
    #[serde(deserialize_with = "slim")]
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

/// What a Pod says about the endpoints that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePod {
    /// The network it is on, where that is not its cluster's.
    pub network: Option<Network>,
    /// What runs in it.
    pub workload: Arc<Workload>,
}

/// Reads a Pod.
#[must_use]
pub fn pod(pod: &Pod) -> SourcePod {
    let labels = pod.metadata.labels.as_ref();
    SourcePod { network: network(labels), workload: workload(labels, &pod.spec.service_account_name) }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    service_account_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Slim {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<Used>,
}

/// The labels that are used.
struct Used(BTreeMap<String, String>);

struct UsedVisitor;

fn slim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let Slim { name, namespace, uid, resource_version, labels } = Slim::deserialize(deserializer)?;
    let labels = labels.map(|Used(labels)| labels);
    Ok(ObjectMeta { name, namespace, uid, resource_version, labels, ..ObjectMeta::default() })
}

impl<'de> Deserialize<'de> for Used {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UsedVisitor)
    }
}

impl<'de> Visitor<'de> for UsedVisitor {
    type Value = Used;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Used, A::Error> {
        let mut used = BTreeMap::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if *name == *NETWORK_LABEL || WORKLOAD_LABELS.contains(&&*name) {
                used.insert(name.into_owned(), map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Used(used))
    }
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = <WholePod as k8s_openapi::Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        WholePod::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        WholePod::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        WholePod::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        <WholePod as k8s_openapi::Resource>::URL_PATH_SEGMENT.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
