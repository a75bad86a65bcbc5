//! What is emitted: the kinds, what each says, and the marks that say an object is ours.
//!
//! An object that is desired is not held as such, because a fleet has an entry of every endpoint: what is held says how
//! to make it, and a hash tells whether it would be another one.

use super::{destination_rule::DestinationRule, gateway::Gateway, service_entry::ServiceEntry};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
};

/// The field manager of everything we write.
pub const FIELD_MANAGER: &str = "federator";

/// The label of everything we write.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "federator");

/// The annotation by which somebody says of an object of theirs that ours is to be written all the same: over theirs where
/// both have one name, else beside it.
pub const ADOPT: (&str, &str) = ("federator.io/adopt", "true");

/// The revision at which an object last changed.
pub const REVISION_ANNOTATION: &str = "federator.io/revision";

/// The group of Istio's networking objects.
pub const GROUP: &str = "networking.istio.io";

/// Group and version of what is emitted, where nobody says otherwise.
pub const API_VERSION: &str = "networking.istio.io/v1";

/// The kinds that are emitted, all of them Istio's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A service and its endpoints.
    ServiceEntry,
    /// How clients choose among them.
    DestinationRule,
    /// What this cluster's east-west gateways let through.
    Gateway,
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// What an object says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Spec<'a> {
    /// As a ServiceEntry.
    ServiceEntry(ServiceEntry<'a>),
    /// As a DestinationRule.
    DestinationRule(DestinationRule),
    /// As a Gateway.
    Gateway(Gateway),
}

/// How to make what an object says.
pub trait Recipe: fmt::Debug + Send + Sync {
    /// What it says: the same whenever it is asked.
    fn spec(&self) -> Spec<'_>;
}

/// On top of what an object is written: what else is there refuses the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On<'a> {
    /// Whatever there is.
    Anything,
    /// There is none of that name.
    Nothing,
    /// This one, as of this resourceVersion.
    State {
        /// Its uid.
        uid: &'a str,
        /// Its resourceVersion.
        version: u64,
    },
}

/// No object has this resourceVersion: the API server compares it with that of an object that is there, and makes one that
/// is not (tried with Kubernetes 1.36).
const NO_VERSION: u64 = 1;

/// An object as it should be, and since which revision.
#[derive(Clone, Debug)]
pub struct Desired {
    recipe: Arc<dyn Recipe>,
    /// Of what it says.
    hash: u64,
    /// Whether it leads nowhere.
    is_empty: bool,
    /// The revision of the View in which it became so. Not part of what it is: an object is not rewritten because
    /// something else moved.
    pub revision: u64,
}

// === impl Kind ===

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ServiceEntry, Self::DestinationRule, Self::Gateway];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceEntry => "ServiceEntry",
            Self::DestinationRule => "DestinationRule",
            Self::Gateway => "Gateway",
        }
    }

    /// The name of its resource.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ServiceEntry => "serviceentries",
            Self::DestinationRule => "destinationrules",
            Self::Gateway => "gateways",
        }
    }
}

// === impl Spec ===

impl Spec<'_> {
    /// Tells it from any other, within this process.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl<'a> From<ServiceEntry<'a>> for Spec<'a> {
    fn from(entry: ServiceEntry<'a>) -> Self {
        Self::ServiceEntry(entry)
    }
}

// === impl Desired ===

impl PartialEq for Desired {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Desired {
    /// An object that `recipe` makes; `hash` is the digest of what it says.
    #[must_use]
    pub fn new(recipe: Arc<dyn Recipe>, hash: u64, revision: u64) -> Self {
        Self { recipe, hash, is_empty: false, revision }
    }

    /// An object that leads nowhere, like an entry without endpoints: that it comes to be so, or ceases to, is urgent.
    #[must_use]
    pub fn empty(self, is_empty: bool) -> Self {
        Self { is_empty, ..self }
    }

    /// Whether it leads nowhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// An object that always says the same.
    #[must_use]
    pub fn fixed(spec: Spec<'static>, revision: u64) -> Self {
        let hash = spec.digest();
        Self::new(Arc::new(spec), hash, revision)
    }

    /// Tells what it says from anything else, within this process.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// What it says.
    #[must_use]
    pub fn spec(&self) -> Spec<'_> {
        self.recipe.spec()
    }

    /// The same as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        // Strings, numbers and maps with text keys: nothing in it can fail to serialize.
        serde_json::to_value(self.spec()).unwrap_or_default()
    }

    /// The whole object, to be written down in a version of its group.
    #[must_use]
    pub fn object<'a>(
        &'a self,
        at: &'a ObjectKey,
        api_version: &'a str,
        on: On<'a>,
    ) -> impl Serialize + fmt::Debug + use<'a> {
        let (uid, resource_version) = match on {
            On::Anything => (None, None),
            On::Nothing => (None, Some(NO_VERSION.to_string())),
            On::State { uid, version } => (Some(uid), Some(version.to_string())),
        };
        Object {
            api_version,
            kind: at.kind.as_str(),
            metadata: Metadata {
                annotations: BTreeMap::from([(REVISION_ANNOTATION, self.revision.to_string())]),
                labels: BTreeMap::from([MANAGED_BY]),
                name: &at.name,
                namespace: &at.namespace,
                resource_version,
                uid,
            },
            spec: self.spec(),
        }
    }
}

/// The object as it is sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    api_version: &'a str,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: Spec<'a>,
}

/// Its `metadata`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    annotations: BTreeMap<&'static str, String>,
    labels: BTreeMap<&'static str, &'static str>,
    name: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
}

impl Recipe for Spec<'static> {
    fn spec(&self) -> Spec<'_> {
        self.clone()
    }
}

// === impl ObjectKey ===

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

#[cfg(test)]
impl Desired {
    /// What it says, as the ServiceEntry that it is.
    pub(crate) fn entry(&self) -> ServiceEntry<'_> {
        match self.spec() {
            Spec::ServiceEntry(entry) => entry,
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(test)]
impl From<ServiceEntry<'static>> for Desired {
    fn from(entry: ServiceEntry<'static>) -> Self {
        Self::fixed(entry.into(), 7)
    }
}
