//! One remote Secret, as far as it matters: every key of its data is a cluster, and the value behind it a kubeconfig.
//! Pure. Nothing of a value is ever shown.

use k8s_openapi::api::core::v1::Secret;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The label that makes a Secret a remote one, as istioctl writes it.
const LABEL: &str = "istio/multiCluster";

/// Selects remote Secrets.
pub const SELECTOR: &str = "istio/multiCluster=true";

/// Names the cluster of a kubeconfig that stands behind the key [`CONFIG`].
const CLUSTER_ANNOTATION: &str = "networking.istio.io/cluster";

/// The key that is not the id of a cluster.
const CONFIG: &str = "config";

/// A Secret by namespace and name. Shown as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name within the namespace.
    pub name: Arc<str>,
}

/// A remote Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSecret {
    /// Which one it is.
    pub name: SecretName,
    /// When it was created, in seconds since 1970.
    pub created: i64,
    /// The version of the API server's storage that wrote it last.
    pub version: Option<u64>,
    /// The clusters it names, by the key of its data.
    pub entries: BTreeMap<Arc<str>, Entry>,
}

/// One cluster of a Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The id, as it stands there.
    pub id: Arc<str>,
    /// The kubeconfig, which nobody has looked into yet.
    pub kubeconfig: Vec<u8>,
}

/// Tells one content from another without showing any: SHA-256, of which people see the first digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

// === impl RemoteSecret ===

impl RemoteSecret {
    /// The Secret, if it is a remote one.
    #[must_use]
    pub fn of(secret: Secret) -> Option<Self> {
        let metadata = secret.metadata;
        let labels = metadata.labels.unwrap_or_default();
        if labels.get(LABEL).is_none_or(|value| value != "true") {
            return None;
        }
        let name = SecretName { namespace: metadata.namespace?.into(), name: metadata.name?.into() };
        let annotated = metadata.annotations.unwrap_or_default().remove(CLUSTER_ANNOTATION);
        let of_config: Arc<str> = annotated.filter(|id| !id.is_empty()).map_or_else(|| name.name.clone(), Into::into);
        let entry = |(key, value): (String, k8s_openapi::ByteString)| {
            let key: Arc<str> = key.into();
            let id = if &*key == CONFIG { of_config.clone() } else { key.clone() };
            (key, Entry { id, kubeconfig: value.0 })
        };
        Some(Self {
            created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
            version: metadata.resource_version.and_then(|version| version.parse().ok()),
            entries: secret.data.unwrap_or_default().into_iter().map(entry).collect(),
            name,
        })
    }
}

// === impl Entry ===

impl Entry {
    /// The digest of the kubeconfig.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(&self.kubeconfig).into())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("id", &self.id).field("kubeconfig", &"hidden").finish()
    }
}

// === impl Digest ===

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl SecretName ===

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A labelled Secret `fed/s` of which this differs, read.
    fn read(differs: &Value) -> Option<RemoteSecret> {
        let mut secret = json!({ "metadata": { "namespace": "fed", "name": "s", "labels": { LABEL: "true" } } });
        for (at, value) in differs.as_object().expect("an object") {
            *secret.pointer_mut(at).unwrap_or_else(|| panic!("{at} is there")) = value.clone();
        }
        RemoteSecret::of(serde_json::from_value(secret).expect("a Secret"))
    }

    fn ids(metadata: &Value, data: &Value) -> Vec<(String, String)> {
        let mut whole = json!({ "namespace": "fed", "name": "s", "labels": { LABEL: "true" } });
        whole.as_object_mut().expect("an object").extend(metadata.as_object().expect("an object").clone());
        let secret = serde_json::from_value(json!({ "metadata": whole, "data": data })).expect("a Secret");
        let entries = RemoteSecret::of(secret).expect("a remote one").entries;
        entries.into_iter().map(|(key, entry)| (key.to_string(), entry.id.to_string())).collect()
    }

    fn check(metadata: &Value, data: &Value, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(key, id)| ((*key).to_owned(), (*id).to_owned())).collect();
        assert_eq!(ids(metadata, data), expected);
    }

    #[test]
    fn every_key_is_a_cluster() {
        check(&json!({}), &json!({}), &[]);
        check(&json!({}), &json!({ "west": "Zm9v", "north": "" }), &[("north", "north"), ("west", "west")]);
        check(&json!({}), &json!({ "config": "Zm9v" }), &[("config", "s")]);
        let annotated = |id: &str| json!({ "annotations": { CLUSTER_ANNOTATION: id } });
        let both = json!({ "config": "Zm9v", "west": "Zm9v" });
        check(&annotated("arn:aws:x"), &both, &[("config", "arn:aws:x"), ("west", "west")]);
        check(&annotated(""), &json!({ "config": "Zm9v" }), &[("config", "s")]);
    }

    #[test]
    fn only_what_is_labelled_is_remote() {
        assert!(read(&json!({})).is_some());
        assert!(read(&json!({ "/metadata/labels": { LABEL: "false" } })).is_none());
        assert!(read(&json!({ "/metadata/labels": null })).is_none());
    }

    #[test]
    fn what_it_holds_is_never_shown() {
        let secret = json!({
            "metadata": {
                "namespace": "fed", "name": "s", "labels": { LABEL: "true" }, "resourceVersion": "7",
                "creationTimestamp": "2024-01-01T00:00:00Z",
            },
            "data": { "west": "aHVudGVyMg==" },
        });
        let secret = RemoteSecret::of(serde_json::from_value(secret).expect("a Secret")).expect("a remote one");
        assert_eq!(secret.entries["west"].kubeconfig, b"hunter2");
        assert_eq!((secret.created, secret.version, secret.name.to_string()), (1_704_067_200, Some(7), "fed/s".into()));
        let shown = format!("{secret:?} {:?}", secret.entries["west"].digest());
        assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
    }
}
