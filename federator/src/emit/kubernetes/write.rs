//! One write of one object, and what it found. Each says on top of which state of the object it is meant, so that one that
//! comes late, of an agent that has stopped being the one that writes, changes nothing.

use crate::emit::{
    object::{ADOPT, Desired, FIELD_MANAGER, Kind, ObjectKey, On},
    plan::Actual,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long an answer may take: an API server gives up itself by then (`--request-timeout`). What was asked may have been
/// done nevertheless, which the watch tells.
const ANSWER: Duration = Duration::from_secs(60);

/// Which object of a name, and which of its states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) uid: Arc<str>,
    pub(super) version: u64,
}

/// An object as it is.
#[derive(Clone, Debug)]
pub(super) struct There {
    pub(super) actual: Actual,
    pub(super) state: State,
}

/// What is to become of an object.
pub(super) enum Write {
    Apply(Desired),
    Delete,
}

/// What became of it.
pub(super) struct Written {
    pub(super) key: ObjectKey,
    /// What it was meant to be, by its hash.
    pub(super) meant: Option<u64>,
    /// On top of what.
    pub(super) on: Option<State>,
    pub(super) result: Result<Outcome, Failure>,
}

/// An answer that is no trouble.
pub(super) enum Outcome {
    /// It is so now.
    There(There),
    /// It is not there any more.
    Gone,
    /// It had changed, or come or gone, before.
    Outdated,
}

/// No answer, or one that is.
pub(super) enum Failure {
    Refused(kube::Error),
    NoAnswer,
}

/// Writes, on top of the state that is known; `None` where there is no object.
pub(super) async fn write(
    client: Client,
    resource: ApiResource,
    key: ObjectKey,
    write: Write,
    on: Option<State>,
) -> Written {
    let api: Api<DynamicObject> = Api::namespaced_with(client, &key.namespace, &resource);
    let meant = match &write {
        Write::Apply(desired) => Some(desired.hash()),
        Write::Delete => None,
    };
    let written = async {
        match write {
            Write::Apply(desired) => {
                // Forced: where somebody else took a field of an object of ours, it is ours again. Foreign objects never
                // get here.
                let params = PatchParams::apply(FIELD_MANAGER).force();
                let state = on.as_ref().map(|State { uid, version }| On::State { uid, version: *version });
                let object = desired.object(&key, &resource.api_version, state.unwrap_or(On::Nothing));
                api.patch(&key.name, &params, &Patch::Apply(object)).await.map(|object| Outcome::There(there(&object)))
            }
            Write::Delete => {
                let preconditions = on.as_ref().map(|state| Preconditions {
                    resource_version: Some(state.version.to_string()),
                    uid: Some(state.uid.to_string()),
                });
                let params = DeleteParams { preconditions, ..DeleteParams::default() };
                api.delete(&key.name, &params).await.map(|_| Outcome::Gone)
            }
        }
    };
    let result = match timeout(ANSWER, written).await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(Outcome::Outdated),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 && meant.is_none() => Ok(Outcome::Gone),
        Ok(Err(error)) => Err(Failure::Refused(error)),
        Err(_) => Err(Failure::NoAnswer),
    };
    Written { key, meant, on, result }
}

/// Where an object is.
pub(super) fn key_of(kind: Kind, object: &DynamicObject) -> ObjectKey {
    ObjectKey { kind, namespace: object.namespace().unwrap_or_default().into(), name: object.name_any().into() }
}

/// How it is.
pub(super) fn there(object: &DynamicObject) -> There {
    let labels = object.labels().iter().map(|(key, value)| (&**key, &**value));
    let adoptable = object.annotations().get(ADOPT.0).is_some_and(|said| said == ADOPT.1);
    let actual = Actual { adoptable, ..Actual::new(labels, &object.data["spec"]) };
    let uid = object.metadata.uid.as_deref().unwrap_or_default().into();
    There { actual, state: State { uid, version: version_of(object) } }
}

/// Its resourceVersion: objects of one kind are as old as these say.
pub(super) fn version_of(object: &DynamicObject) -> u64 {
    object.resource_version().and_then(|text| text.parse().ok()).unwrap_or_default()
}
