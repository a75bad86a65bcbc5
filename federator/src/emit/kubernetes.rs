//! Objects in the agent's own cluster, by server-side apply. What is there is watched, so that an object is compared
//! without asking, and put right when somebody changes it. One write in flight an object, at a pace; what changes meanwhile
//! goes out as one. Istio need not be there yet, and may go.

mod claims;
mod pace;
mod served;
mod withheld;

use super::{
    Status,
    object::{Desired, FIELD_MANAGER, Kind, ObjectKey},
    plan::{Action, Actual, action},
};
use crate::{
    backoff::Backoff,
    kubernetes::{
        explain::explain,
        follow::{Event, Trouble},
    },
    publish,
};
use claims::Claims;
use futures::{
    StreamExt as _,
    future::BoxFuture,
    stream::{FuturesUnordered, SelectAll},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
};
use model::{
    cluster::SetHash,
    tracked::{Since, Tracked},
};
use pace::Pace;
use serde_json::Value;
use served::News;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use withheld::Withheld;

/// Writes in flight at once: an API server is shared.
const MAX_IN_FLIGHT: usize = 16;

/// What emitting needs.
pub struct Config {
    /// A client of the cluster's API server.
    pub client: Client,
    /// The root namespace of the mesh: what is written there is for all.
    pub namespace: Arc<str>,
    /// How publishing of the cluster stands: its owner is the one that writes.
    pub published: watch::Receiver<publish::status::Status>,
    /// Whether nothing is written, and only said what would be.
    pub dry_run: bool,
}

/// What became of a write: what was to be, by its hash, and the object that there is now, if any.
type Written = (ObjectKey, Option<u64>, Result<Option<There>, kube::Error>);

/// An object as it is, and its resourceVersion.
#[derive(Clone, Copy)]
struct There {
    actual: Actual,
    version: u64,
}

/// What is known of a kind.
#[derive(Default)]
struct Known {
    /// As what the cluster serves it; `None` as long as that is not known.
    resource: Option<ApiResource>,
    /// Whether everything that is there was seen.
    listed: bool,
    /// What a list in progress has named so far.
    listing: BTreeSet<ObjectKey>,
    dirty: BTreeSet<ObjectKey>,
    /// Why nothing of it can be emitted.
    trouble: Option<String>,
}

struct Emitter {
    client: Client,
    kinds: BTreeMap<Kind, Known>,
    desired: Tracked<ObjectKey, Desired>,
    actual: BTreeMap<ObjectKey, There>,
    /// What an object was to be and what became of it, which may be more: others may have added fields of their own.
    outcomes: BTreeMap<ObjectKey, (u64, SetHash)>,
    claims: Claims,
    pace: Pace,
    namespace: Arc<str>,
    in_flight: BTreeSet<ObjectKey>,
    /// Written in vain; to be tried again after a pause.
    failed: BTreeSet<ObjectKey>,
    troubles: BTreeMap<String, String>,
    /// What would be written or deleted, where nothing is.
    withheld: Option<Withheld>,
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
        kinds: Kind::ALL.into_iter().map(|kind| (kind, Known::default())).collect(),
        desired: Tracked::new(),
        actual: BTreeMap::new(),
        outcomes: BTreeMap::new(),
        claims: Claims::default(),
        pace: Pace::new(),
        namespace: config.namespace,
        in_flight: BTreeSet::new(),
        failed: BTreeSet::new(),
        troubles: BTreeMap::new(),
        withheld: config.dry_run.then(Withheld::default),
        status,
    };
    let mut published = config.published;
    let kinds = Kind::ALL.into_iter().map(|kind| served::news(&emitter.client, kind));
    let mut news: SelectAll<_> = kinds.collect();
    let mut writes: FuturesUnordered<BoxFuture<'static, Written>> = FuturesUnordered::new();
    let mut backoff = Backoff::default();
    let mut pause: BoxFuture<'static, ()> = Box::pin(std::future::pending());
    // Nothing is desired until the first projection; deleting before it would be believing in emptiness.
    if desired.changed().await.is_err() {
        return;
    }
    emitter.want(desired.borrow_and_update().clone());
    loop {
        // What would be written may be said by any agent.
        let is_writer = published.borrow_and_update().owner || emitter.withheld.is_some();
        if is_writer {
            emitter.start(&mut writes);
        }
        emitter.report();
        let look = emitter.next_look().filter(|_| is_writer);
        tokio::select! {
            changed = desired.changed() => {
                if changed.is_err() {
                    return;
                }
                emitter.want(desired.borrow_and_update().clone());
            }
            Some((kind, news)) = news.next() => emitter.hear(kind, news),
            Some((key, meant, result)) = writes.next() => {
                if emitter.written(key, meant, result) {
                    backoff.reset();
                } else if emitter.failed.len() == 1 {
                    // An API server that refused a write does not say when it will take it.
                    pause = Box::pin(tokio::time::sleep(backoff.pause()));
                }
            }
            // What failed is tried again together; everything else goes on meanwhile.
            () = &mut pause, if !emitter.failed.is_empty() => emitter.try_again(),
            () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {}
            Ok(()) = published.changed() => {}
        }
    }
}

/// All objects of the kinds that are emitted, as they are now, and what each says.
///
/// # Errors
/// Why that cannot be known, and what to do.
pub async fn found(client: &Client) -> Result<BTreeMap<ObjectKey, (Actual, Value)>, String> {
    let mut all = BTreeMap::new();
    for kind in Kind::ALL {
        for mut object in served::list(client, kind).await? {
            all.insert(key_of(kind, &object), (there(&object).actual, object.data["spec"].take()));
        }
    }
    Ok(all)
}

// === impl Emitter ===

impl Emitter {
    fn want(&mut self, desired: Tracked<ObjectKey, Desired>) {
        match desired.since(self.desired.sequence()) {
            Since::Changes(changes) => changes.into_iter().for_each(|(key, _)| soil(&mut self.kinds, key.clone())),
            Since::Everything => {
                let keys = desired.iter().map(|(key, _)| key).chain(self.actual.keys());
                keys.for_each(|key| soil(&mut self.kinds, key.clone()));
            }
        }
        self.desired = desired;
    }

    /// Takes note of what happened to a kind.
    fn hear(&mut self, kind: Kind, news: News) {
        let Some(known) = self.kinds.get_mut(&kind) else { return };
        match news {
            News::Missing(why) => self.cannot_emit(kind, why),
            News::Served(resource) => known.resource = Some(resource),
            // Nothing is written meanwhile.
            News::Lost => (known.resource, known.listed) = (None, false),
            News::Seen(event) => self.see(kind, *event),
        }
    }

    /// Takes note of what is there.
    fn see(&mut self, kind: Kind, event: Event<DynamicObject>) {
        let Some(known) = self.kinds.get_mut(&kind) else { return };
        match event {
            Event::Begin => known.listing.clear(),
            Event::Listed(object) => {
                known.listing.insert(key_of(kind, &object));
                self.set_object(key_of(kind, &object), &object);
            }
            Event::Complete(_) => {
                let there = self.actual.keys().filter(|key| key.kind == kind);
                let gone: Vec<_> = there.filter(|key| !known.listing.contains(*key)).cloned().collect();
                (known.listed, known.trouble) = (true, None);
                gone.into_iter().for_each(|key| self.set_gone(key));
            }
            Event::Changed(object) => {
                known.trouble = None;
                if self.is_news(&key_of(kind, &object), &object) {
                    self.set_object(key_of(kind, &object), &object);
                }
            }
            Event::Gone(object) => {
                known.trouble = None;
                if self.is_news(&key_of(kind, &object), &object) {
                    self.set_gone(key_of(kind, &object));
                }
            }
            Event::Quiet | Event::At(_) => known.trouble = None,
            Event::Trouble(Trouble { reason, .. }) => {
                self.cannot_emit(kind, format!("cannot watch {}: {reason}", kind.plural()));
            }
        }
    }

    fn cannot_emit(&mut self, kind: Kind, why: String) {
        let Some(known) = self.kinds.get_mut(&kind) else { return };
        if known.trouble.as_ref() != Some(&why) {
            tracing::warn!("{why}");
            known.trouble = Some(why);
        }
    }

    fn try_again(&mut self) {
        std::mem::take(&mut self.failed).into_iter().for_each(|key| soil(&mut self.kinds, key));
    }

    /// Whether an event tells of something later than what is known: the answer to a write comes before the watch tells of
    /// what was there before it.
    fn is_news(&self, key: &ObjectKey, object: &DynamicObject) -> bool {
        self.actual.get(key).is_none_or(|known| known.version < version_of(object))
    }

    fn set_object(&mut self, key: ObjectKey, object: &DynamicObject) {
        let there = there(object);
        self.set_claim(&key, (!there.actual.ours).then_some(&object.data["spec"]));
        self.set_actual(key, Some(there));
    }

    fn set_gone(&mut self, key: ObjectKey) {
        self.set_claim(&key, None);
        self.set_actual(key, None);
    }

    /// Takes note of what somebody else claims; ours of its kind are looked at again, because few do.
    fn set_claim(&mut self, key: &ObjectKey, spec: Option<&Value>) {
        if self.claims.set(key, spec) && self.kinds.get(&key.kind).is_some_and(|known| known.listed) {
            let ours = self.desired.iter().map(|(key, _)| key).filter(|ours| ours.kind == key.kind);
            ours.for_each(|ours| soil(&mut self.kinds, ours.clone()));
        }
    }

    fn set_actual(&mut self, key: ObjectKey, there: Option<There>) {
        let before = match there {
            Some(there) => self.actual.insert(key.clone(), there),
            None => self.actual.remove(&key),
        };
        if before.map(|before| before.actual) != there.map(|there| there.actual) {
            soil(&mut self.kinds, key);
        }
    }

    /// Something that is due, and as what its kind is served. Of a kind of which not everything was seen nothing is.
    fn next_due(&mut self, now: Instant) -> Option<(ObjectKey, ApiResource)> {
        self.kinds.values_mut().filter(|known| known.listed).find_map(|known| {
            let resource = known.resource.clone()?;
            let is_due =
                |key: &&ObjectKey| !self.in_flight.contains(*key) && self.pace.due(key).is_none_or(|due| due <= now);
            let key = known.dirty.iter().find(is_due).cloned()?;
            known.dirty.remove(&key);
            Some((key, resource))
        })
    }

    /// When something becomes due that is not yet. Whoever ends a write looks again anyway.
    fn next_look(&self) -> Option<Instant> {
        if self.in_flight.len() == MAX_IN_FLIGHT {
            return None;
        }
        let dirty = self.kinds.values().filter(|known| known.listed).flat_map(|known| &known.dirty);
        dirty.filter(|key| !self.in_flight.contains(*key)).filter_map(|key| self.pace.due(key)).min()
    }

    /// Starts what is due, as far as there is room.
    fn start(&mut self, writes: &mut FuturesUnordered<BoxFuture<'static, Written>>) {
        let now = Instant::now();
        while self.in_flight.len() < MAX_IN_FLIGHT {
            let Some((key, resource)) = self.next_due(now) else { return };
            let claimed = self.claims.of(&key, &self.namespace).map(|theirs| given_way(key.kind, theirs));
            let desired = self.desired.get(&key).filter(|_| claimed.is_none());
            let actual = self.actual.get(&key).map(|there| &there.actual);
            let outcome = desired.zip(actual).map(|(desired, actual)| (desired.hash(), actual.spec));
            let is_as_written = outcome.is_some() && self.outcomes.get(&key) == outcome.as_ref();
            let todo = if is_as_written { Action::Nothing } else { action(desired, actual) };
            if self.withheld.as_mut().is_some_and(|withheld| withheld.note(&key, todo, actual.is_some())) {
                self.troubles.remove(&key.to_string());
                continue;
            }
            let write: BoxFuture<'static, Written> = match todo {
                Action::Nothing => {
                    let fought = self.pace.fought(&key, now).map(fought_over);
                    match claimed.filter(|_| self.desired.get(&key).is_some()).or(fought) {
                        Some(reason) => self.troubles.insert(key.to_string(), reason),
                        None => self.troubles.remove(&key.to_string()),
                    };
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
    fn written(&mut self, key: ObjectKey, meant: Option<u64>, result: Result<Option<There>, kube::Error>) -> bool {
        self.in_flight.remove(&key);
        match result {
            Ok(there) => {
                let revision = self.desired.get(&key).map(|desired| desired.revision);
                tracing::info!(object = %key, revision, removed = there.is_none(), "emitted");
                self.failed.remove(&key);
                self.troubles.remove(&key.to_string());
                let (hash, bytes) = there.map_or((None, 0), |there| (Some(there.actual.spec), there.actual.bytes));
                self.pace.wrote(key.clone(), hash, bytes, Instant::now());
                match meant.zip(hash) {
                    Some(outcome) => self.outcomes.insert(key.clone(), outcome),
                    None => self.outcomes.remove(&key),
                };
                self.set_actual(key, there);
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

    fn report(&self) {
        let troubles: Vec<&str> = self.kinds.values().filter_map(|known| known.trouble.as_deref()).collect();
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        let dry_run = self.withheld.as_ref().map(Withheld::would);
        self.status.send_if_modified(|status| {
            // Counted over what is in flight, which is bounded, and not over all that is dirty.
            let dirty = |key: &&ObjectKey| self.kinds.get(&key.kind).is_some_and(|known| known.dirty.contains(*key));
            let in_flight = self.in_flight.iter().filter(|key| !dirty(key)).count();
            let waiting: usize = self.kinds.values().map(|known| known.dirty.len()).sum();
            let withheld = dry_run.map_or(0, |would| would.created + would.changed);
            let in_place = self.desired.len().saturating_sub(waiting + in_flight + withheld + self.troubles.len());
            let news = status.in_place != in_place
                || *status.troubles != self.troubles
                || status.trouble != trouble
                || status.dry_run != dry_run;
            if news {
                (status.in_place, status.dry_run) = (in_place, dry_run);
                status.troubles = Arc::new(self.troubles.clone());
                status.trouble = trouble;
            }
            news
        });
    }

    fn api(&self, key: &ObjectKey, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.namespace, resource)
    }
}

/// Why ours is not written though it is desired.
fn given_way(kind: Kind, theirs: &ObjectKey) -> String {
    match kind {
        Kind::ServiceEntry => format!("HostTaken: {theirs} has this host; nothing is written while it does"),
        Kind::DestinationRule | Kind::Gateway => format!("{theirs} is for this host, and counts instead"),
    }
}

/// What is said of an object that somebody else changes back again and again.
fn fought_over(times: u32) -> String {
    format!("somebody else has changed it {times} times in a row; it is put right later each time")
}

/// Notes that an object may not be as it should be.
fn soil(kinds: &mut BTreeMap<Kind, Known>, key: ObjectKey) {
    kinds.entry(key.kind).or_default().dirty.insert(key);
}

async fn apply(api: Api<DynamicObject>, version: String, key: ObjectKey, desired: Desired) -> Written {
    // Forced: where somebody else took a field of an object of ours, it is ours again. Foreign objects never get here.
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch(&key.name, &params, &Patch::Apply(desired.object(&key, &version))).await;
    (key, Some(desired.hash()), written.map(|object| Some(there(&object))))
}

async fn delete(api: Api<DynamicObject>, key: ObjectKey) -> Written {
    let result = match api.delete(&key.name, &DeleteParams::default()).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    };
    (key, None, result)
}

fn key_of(kind: Kind, object: &DynamicObject) -> ObjectKey {
    ObjectKey { kind, namespace: object.namespace().unwrap_or_default().into(), name: object.name_any().into() }
}

fn there(object: &DynamicObject) -> There {
    let labels = object.metadata.labels.iter().flatten();
    let actual = Actual::new(labels.map(|(key, value)| (&**key, &**value)), &object.data["spec"]);
    There { actual, version: version_of(object) }
}

fn version_of(object: &DynamicObject) -> u64 {
    object.resource_version().and_then(|text| text.parse().ok()).unwrap_or_default()
}
