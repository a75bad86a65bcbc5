//! Objects in the agent's own cluster, by server-side apply. What is there is watched, so that an object is compared
//! without asking, and put right when somebody changes it. One write in flight an object; the first change of an
//! object goes out at once, and what changes meanwhile goes out as one. Istio need not be there yet, and may go.

mod version;

use super::{
    Status,
    object::{Desired, FIELD_MANAGER, ObjectKey},
    plan::{Action, Actual, action},
};
use crate::{
    backoff::Backoff,
    kubernetes::{
        explain::{Cause, explain},
        follow::{Event, Selection, Trouble, follow},
    },
    publish,
};
use futures::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
};
use model::tracked::{Since, Tracked};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;

/// Writes in flight at once: an API server is shared.
const MAX_IN_FLIGHT: usize = 16;

/// What emitting needs.
pub struct Config {
    /// A client of the cluster's API server.
    pub client: Client,
    /// How publishing of the cluster stands: its owner is the one that writes.
    pub published: watch::Receiver<publish::status::Status>,
}

/// What became of a write.
type Written = (ObjectKey, Result<Option<Actual>, kube::Error>);

struct Emitter {
    client: Client,
    /// As what the cluster serves ServiceEntries; `None` as long as that is not known.
    resource: Option<ApiResource>,
    desired: Tracked<ObjectKey, Desired>,
    actual: BTreeMap<ObjectKey, Actual>,
    /// Whether everything that is there was seen.
    listed: bool,
    dirty: BTreeSet<ObjectKey>,
    in_flight: BTreeSet<ObjectKey>,
    /// What a list in progress has named so far.
    listing: BTreeSet<ObjectKey>,
    /// Written in vain; to be tried again after a pause.
    failed: BTreeSet<ObjectKey>,
    troubles: BTreeMap<String, String>,
    status: watch::Sender<Status>,
}

/// Keeps the cluster's objects equal to what is desired, until there is nothing to desire any more.
pub async fn run(
    config: Config,
    mut desired: watch::Receiver<Tracked<ObjectKey, Desired>>,
    status: watch::Sender<Status>,
) {
    let mut emitter = Emitter {
        client: config.client,
        resource: None,
        desired: Tracked::new(),
        actual: BTreeMap::new(),
        listed: false,
        dirty: BTreeSet::new(),
        in_flight: BTreeSet::new(),
        listing: BTreeSet::new(),
        failed: BTreeSet::new(),
        troubles: BTreeMap::new(),
        status,
    };
    let mut published = config.published;
    let mut events: BoxStream<'static, Event<DynamicObject>> = stream::pending().boxed();
    let mut finding = emitter.find_version();
    let mut writes: FuturesUnordered<BoxFuture<'static, Written>> = FuturesUnordered::new();
    let mut backoff = Backoff::default();
    let mut pause: BoxFuture<'static, ()> = Box::pin(std::future::pending());
    // Nothing is desired until the first projection; deleting before it would be believing in emptiness.
    if desired.changed().await.is_err() {
        return;
    }
    emitter.want(desired.borrow_and_update().clone());
    loop {
        if emitter.listed && published.borrow_and_update().owner {
            emitter.start(&mut writes);
        }
        tokio::select! {
            changed = desired.changed() => {
                if changed.is_err() {
                    return;
                }
                emitter.want(desired.borrow_and_update().clone());
            }
            resource = &mut finding, if emitter.resource.is_none() => {
                let api = Api::all_with(emitter.client.clone(), &resource);
                events = follow(api, Selection::default()).boxed();
                emitter.resource = Some(resource);
            }
            Some(event) = events.next() => if emitter.see(event) {
                // Istio is gone, or serves another version now.
                events = stream::pending().boxed();
                finding = emitter.find_version();
            },
            Some((key, result)) = writes.next() => {
                if emitter.written(key, result) {
                    backoff.reset();
                } else if emitter.failed.len() == 1 {
                    // An API server that refused a write does not say when it will take it.
                    pause = Box::pin(tokio::time::sleep(backoff.pause()));
                }
            }
            // What failed is tried again together; everything else goes on meanwhile.
            () = &mut pause, if !emitter.failed.is_empty() => emitter.try_again(),
            Ok(()) = published.changed() => {}
        }
        emitter.report();
    }
}

// === impl Emitter ===

impl Emitter {
    fn want(&mut self, desired: Tracked<ObjectKey, Desired>) {
        match desired.since(self.desired.sequence()) {
            Since::Changes(changes) => self.dirty.extend(changes.into_iter().map(|(key, _)| key.clone())),
            Since::Everything => {
                let keys = desired.iter().map(|(key, _)| key).chain(self.actual.keys());
                self.dirty.extend(keys.cloned());
            }
        }
        self.desired = desired;
    }

    /// Finds out as what the cluster serves ServiceEntries. Nothing is written meanwhile.
    fn find_version(&mut self) -> BoxFuture<'static, ApiResource> {
        (self.resource, self.listed) = (None, false);
        let status = self.status.clone();
        Box::pin(version::served(self.client.clone(), move |trouble| cannot_emit(&status, trouble)))
    }

    /// Takes note of what is there; says whether the kind itself is not.
    fn see(&mut self, event: Event<DynamicObject>) -> bool {
        match event {
            Event::Begin => self.listing.clear(),
            Event::Listed(object) => {
                self.listing.insert(key_of(&object));
                self.set_actual(key_of(&object), Some(actual_of(&object)));
            }
            Event::Complete(_) => {
                let gone: Vec<_> = self.actual.keys().filter(|key| !self.listing.contains(*key)).cloned().collect();
                for key in gone {
                    self.set_actual(key, None);
                }
                self.listed = true;
                self.well();
            }
            Event::Changed(object) => {
                self.well();
                self.set_actual(key_of(&object), Some(actual_of(&object)));
            }
            Event::Gone(object) => {
                self.well();
                self.set_actual(key_of(&object), None);
            }
            Event::Quiet | Event::At(_) => self.well(),
            Event::Trouble(trouble) if trouble.cause == Cause::UnknownKind => return true,
            Event::Trouble(Trouble { reason, .. }) => {
                cannot_emit(&self.status, format!("cannot watch ServiceEntries: {reason}"));
            }
        }
        false
    }

    fn try_again(&mut self) {
        self.dirty.append(&mut self.failed);
    }

    fn set_actual(&mut self, key: ObjectKey, actual: Option<Actual>) {
        if self.actual.get(&key) == actual.as_ref() {
            return;
        }
        match actual {
            Some(actual) => self.actual.insert(key.clone(), actual),
            None => self.actual.remove(&key),
        };
        self.dirty.insert(key);
    }

    /// Starts what is due, as far as there is room.
    fn start(&mut self, writes: &mut FuturesUnordered<BoxFuture<'static, Written>>) {
        let Some(resource) = self.resource.clone() else { return };
        while self.in_flight.len() < MAX_IN_FLIGHT {
            let Some(key) = self.dirty.iter().find(|key| !self.in_flight.contains(*key)).cloned() else { return };
            self.dirty.remove(&key);
            let desired = self.desired.get(&key);
            let write: BoxFuture<'static, Written> = match action(desired, self.actual.get(&key)) {
                Action::Nothing => {
                    self.troubles.remove(&key.to_string());
                    continue;
                }
                Action::Foreign => {
                    let reason = "an object of this name is somebody else's; it is left alone".to_owned();
                    self.troubles.insert(key.to_string(), reason);
                    continue;
                }
                Action::Apply => {
                    let Some(desired) = desired.cloned() else { continue };
                    Box::pin(apply(self.api(&key, &resource), resource.api_version.clone(), key.clone(), desired))
                }
                Action::Delete => Box::pin(delete(self.api(&key, &resource), key.clone())),
            };
            self.in_flight.insert(key);
            writes.push(write);
        }
    }

    /// Takes note of what became of a write; says whether it worked.
    fn written(&mut self, key: ObjectKey, result: Result<Option<Actual>, kube::Error>) -> bool {
        self.in_flight.remove(&key);
        match result {
            Ok(actual) => {
                let revision = self.desired.get(&key).map(|desired| desired.revision);
                tracing::info!(object = %key, revision, removed = actual.is_none(), "emitted");
                self.failed.remove(&key);
                self.troubles.remove(&key.to_string());
                self.set_actual(key, actual);
                self.status.send_modify(|status| status.writes += 1);
                true
            }
            Err(error) => {
                let reason = explain(&error);
                if self.troubles.get(&key.to_string()) != Some(&reason) {
                    tracing::warn!(object = %key, reason, "not emitted; trying again");
                    self.troubles.insert(key.to_string(), reason);
                }
                self.failed.insert(key);
                self.status.send_modify(|status| status.failures += 1);
                false
            }
        }
    }

    fn well(&self) {
        self.status.send_if_modified(|status| status.trouble.take().is_some());
    }

    fn report(&self) {
        self.status.send_if_modified(|status| {
            // Counted over what is in flight, which is bounded, and not over all that is dirty.
            let in_flight = self.in_flight.iter().filter(|key| !self.dirty.contains(*key)).count();
            let waiting = self.dirty.len() + in_flight + self.troubles.len();
            let in_place = self.desired.len().saturating_sub(waiting);
            let news = status.in_place != in_place || *status.troubles != self.troubles;
            if news {
                status.in_place = in_place;
                status.troubles = Arc::new(self.troubles.clone());
            }
            news
        });
    }

    fn api(&self, key: &ObjectKey, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.namespace, resource)
    }
}

fn cannot_emit(status: &watch::Sender<Status>, why: String) {
    status.send_if_modified(|status| {
        let news = status.trouble.as_ref() != Some(&why);
        if news {
            tracing::warn!("{why}");
            status.trouble = Some(why);
        }
        news
    });
}

async fn apply(api: Api<DynamicObject>, version: String, key: ObjectKey, desired: Desired) -> Written {
    // Forced: where somebody else took a field of an object of ours, it is ours again. Foreign objects never get here.
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch(&key.name, &params, &Patch::Apply(desired.object(&key, &version))).await;
    (key, written.map(|object| Some(actual_of(&object))))
}

async fn delete(api: Api<DynamicObject>, key: ObjectKey) -> Written {
    let result = match api.delete(&key.name, &DeleteParams::default()).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    };
    (key, result)
}

fn key_of(object: &DynamicObject) -> ObjectKey {
    ObjectKey { namespace: object.namespace().unwrap_or_default().into(), name: object.name_any().into() }
}

fn actual_of(object: &DynamicObject) -> Actual {
    let labels = object.metadata.labels.iter().flatten();
    Actual::new(labels.map(|(key, value)| (&**key, &**value)), &object.data["spec"])
}
