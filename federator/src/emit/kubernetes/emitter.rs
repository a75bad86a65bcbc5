//! What is there and what should be, of all kinds, and what is to be done about the difference. Says which writes to start;
//! does none.

use super::{
    claims::Claims,
    election::Term,
    pace::Pace,
    served::News,
    waiting::Waiting,
    withheld::Withheld,
    write::{Failure, Outcome, There, Write, Written, key_of, there, version_of, write},
};
use crate::{
    emit::{
        Status,
        object::{Desired, Kind, ObjectKey},
        plan::{Action, action},
    },
    kubernetes::{
        explain::{explain, retry_after},
        follow::{Event, Trouble},
    },
};
use futures::{future::BoxFuture, stream::FuturesUnordered};
use kube::{
    Client,
    api::{ApiResource, DynamicObject},
};
use model::{
    cluster::SetHash,
    tracked::{Since, Tracked},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Writes in flight at once: an API server is shared, and one that is slow is asked less.
const MAX_IN_FLIGHT: usize = 16;

/// What is known of a kind.
#[derive(Default)]
struct Known {
    /// As what the cluster serves it; `None` as long as that is not known.
    resource: Option<ApiResource>,
    /// Whether everything that is there was seen.
    listed: bool,
    /// What a list in progress has named so far.
    listing: BTreeSet<ObjectKey>,
    waiting: Waiting,
    /// Why nothing of it can be emitted.
    trouble: Option<String>,
}

/// Objects of one cluster.
pub(super) struct Emitter {
    client: Client,
    kinds: BTreeMap<Kind, Known>,
    desired: Tracked<ObjectKey, Desired>,
    actual: BTreeMap<ObjectKey, There>,
    /// What an object was to be and what became of it, which may be more: others may have added fields of their own.
    outcomes: BTreeMap<ObjectKey, (u64, SetHash)>,
    claims: Claims,
    pace: Pace,
    namespace: Arc<str>,
    /// Each with the version of the last thing that was heard of it meanwhile.
    in_flight: BTreeMap<ObjectKey, u64>,
    /// Written in vain; to be tried again after a pause.
    failed: BTreeSet<ObjectKey>,
    troubles: BTreeMap<String, String>,
    /// Where nothing is written: what would be.
    withheld: Option<Withheld>,
    status: watch::Sender<Status>,
}

// === impl Emitter ===

impl Emitter {
    pub(super) fn new(client: Client, namespace: Arc<str>, dry_run: bool, status: watch::Sender<Status>) -> Self {
        Self {
            client,
            kinds: Kind::ALL.into_iter().map(|kind| (kind, Known::default())).collect(),
            desired: Tracked::new(),
            actual: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            claims: Claims::default(),
            pace: Pace::new(),
            namespace,
            in_flight: BTreeMap::new(),
            failed: BTreeSet::new(),
            troubles: BTreeMap::new(),
            withheld: dry_run.then(Withheld::default),
            status,
        }
    }

    /// Takes note of what should be from now on.
    pub(super) fn want(&mut self, desired: Tracked<ObjectKey, Desired>) {
        let changed: Vec<ObjectKey> = match desired.since(self.desired.sequence()) {
            Since::Changes(changes) => changes.into_iter().map(|(key, _)| key.clone()).collect(),
            Since::Everything => desired.iter().map(|(key, _)| key).chain(self.actual.keys()).cloned().collect(),
        };
        let before = std::mem::replace(&mut self.desired, desired);
        for key in changed {
            let leads_nowhere = |desired: &Tracked<_, Desired>| desired.get(&key).is_none_or(Desired::is_empty);
            // Where it did not lead anywhere, but there is an object, it leads somewhere again.
            let is_again = before.get(&key).is_some_and(Desired::is_empty);
            let is_urgent = leads_nowhere(&self.desired) || is_again;
            self.kinds.entry(key.kind).or_default().waiting.insert(key, is_urgent);
        }
    }

    /// Takes note of what happened to a kind.
    pub(super) fn hear(&mut self, kind: Kind, news: News) {
        let Some(known) = self.kinds.get_mut(&kind) else { return };
        match news {
            News::Absent(why) | News::Unknown(why, _) => self.cannot_emit(kind, why),
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
                self.heard_of(kind, &object);
                let Some(known) = self.kinds.get_mut(&kind) else { return };
                known.listing.insert(key_of(kind, &object));
                self.set_object(key_of(kind, &object), &object);
            }
            Event::Complete(version) => {
                let there = self.actual.keys().filter(|key| key.kind == kind);
                let gone: Vec<_> = there.filter(|key| !known.listing.contains(*key)).cloned().collect();
                (known.listed, known.trouble) = (true, None);
                let version: u64 = version.parse().unwrap_or_default();
                let unlisted = self.in_flight.iter_mut().filter(|(key, _)| key.kind == kind);
                let unlisted = unlisted.filter(|(key, _)| !known.listing.contains(*key));
                unlisted.for_each(|(_, heard)| *heard = version.max(*heard));
                gone.into_iter().for_each(|key| self.set_gone(key));
            }
            Event::Changed(object) => {
                known.trouble = None;
                self.heard_of(kind, &object);
                if self.is_news(&key_of(kind, &object), &object) {
                    self.set_object(key_of(kind, &object), &object);
                }
            }
            Event::Gone(object) => {
                known.trouble = None;
                self.heard_of(kind, &object);
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

    /// Takes note of a version of an object that is being written.
    fn heard_of(&mut self, kind: Kind, object: &DynamicObject) {
        if let Some(heard) = self.in_flight.get_mut(&key_of(kind, object)) {
            *heard = version_of(object).max(*heard);
        }
    }

    fn cannot_emit(&mut self, kind: Kind, why: String) {
        let Some(known) = self.kinds.get_mut(&kind) else { return };
        if known.trouble.as_ref() != Some(&why) {
            tracing::warn!("{why}");
            known.trouble = Some(why);
        }
    }

    /// Whether something is to be tried again.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Whether that is a single thing: the first since the last try.
    pub(super) fn has_failed_once(&self) -> bool {
        self.failed.len() == 1
    }

    pub(super) fn try_again(&mut self) {
        std::mem::take(&mut self.failed).into_iter().for_each(|key| self.soil(key));
    }

    /// Notes that an object may not be as it should be.
    fn soil(&mut self, key: ObjectKey) {
        let is_urgent = self.desired.get(&key).is_none_or(Desired::is_empty);
        self.kinds.entry(key.kind).or_default().waiting.insert(key, is_urgent);
    }

    /// Whether an event tells of something later than what is known: the answer to a write comes before the watch tells of
    /// what was there before it.
    fn is_news(&self, key: &ObjectKey, object: &DynamicObject) -> bool {
        self.actual.get(key).is_none_or(|known| known.state.version < version_of(object))
    }

    fn set_object(&mut self, key: ObjectKey, object: &DynamicObject) {
        let there = there(object);
        let claims = !there.actual.ours && !there.actual.adoptable;
        self.set_claim(&key, claims.then_some(&object.data["spec"]));
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
            ours.cloned().collect::<Vec<_>>().into_iter().for_each(|ours| self.soil(ours));
        }
    }

    fn set_actual(&mut self, key: ObjectKey, there: Option<There>) {
        let now = there.as_ref().map(|there| there.actual);
        let before = match there {
            Some(there) => self.actual.insert(key.clone(), there),
            None => self.actual.remove(&key),
        };
        if before.map(|before| before.actual) != now {
            self.soil(key);
        }
    }

    /// Something that is due, and as what its kind is served. Of a kind of which not everything was seen nothing is.
    fn next_due(&mut self, now: Instant) -> Option<(ObjectKey, ApiResource)> {
        let is_due =
            |key: &&ObjectKey| !self.in_flight.contains_key(*key) && self.pace.due(key).is_none_or(|due| due <= now);
        let ready = || self.kinds.values().filter(|known| known.listed && known.resource.is_some());
        let urgent = ready().find_map(|known| known.waiting.urgent().find(is_due));
        let key = urgent.or_else(|| ready().find_map(|known| known.waiting.iter().find(is_due)))?.clone();
        let known = self.kinds.get_mut(&key.kind)?;
        known.waiting.remove(&key);
        Some((key, known.resource.clone()?))
    }

    /// When something becomes due that is not yet. Whoever ends a write looks again anyway.
    pub(super) fn next_look(&self) -> Option<Instant> {
        if self.in_flight.len() == MAX_IN_FLIGHT {
            return None;
        }
        let waiting = self.kinds.values().filter(|known| known.listed).flat_map(|known| known.waiting.iter());
        waiting.filter(|key| !self.in_flight.contains_key(*key)).filter_map(|key| self.pace.due(key)).min()
    }

    /// Starts what is due, as far as there is room.
    pub(super) fn start(&mut self, writes: &mut FuturesUnordered<BoxFuture<'static, Written>>) {
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
            let what = match todo {
                Action::Nothing => {
                    match claimed.filter(|_| self.desired.get(&key).is_some()) {
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
                Action::Apply => match desired.cloned() {
                    Some(desired) => Write::Apply(desired),
                    None => continue,
                },
                Action::Delete => Write::Delete,
            };
            let on = self.actual.get(&key).map(|there| there.state.clone());
            writes.push(Box::pin(write(self.client.clone(), resource, key.clone(), what, on)));
            self.in_flight.insert(key, 0);
        }
    }

    /// Takes note of what became of a write. Where it is to be tried again, how long the API server wants to be left alone.
    pub(super) fn written(&mut self, Written { key, meant, on, result }: Written) -> Option<Duration> {
        let heard = self.in_flight.remove(&key).unwrap_or_default();
        let there = match result {
            Ok(Outcome::There(there)) => Some(there),
            Ok(Outcome::Gone) => None,
            // What is there is for the watch to tell, or has told already.
            Ok(Outcome::Outdated) => {
                self.failed.insert(key);
                return Some(Duration::ZERO);
            }
            Err(failure) => {
                let (reason, asked) = match failure {
                    Failure::Refused(error) => (explain(&error), retry_after(&error)),
                    Failure::NoAnswer => ("the API server does not answer".to_owned(), Duration::ZERO),
                };
                if self.troubles.get(&key.to_string()) != Some(&reason) {
                    tracing::warn!(object = %key, reason, "not emitted; trying again");
                    self.troubles.insert(key.to_string(), reason);
                }
                self.failed.insert(key);
                self.status.send_modify(|status| status.failures += 1);
                return Some(asked);
            }
        };
        let revision = self.desired.get(&key).map(|desired| desired.revision);
        tracing::info!(object = %key, revision, removed = there.is_none(), "emitted");
        self.failed.remove(&key);
        self.troubles.remove(&key.to_string());
        let actual = there.as_ref().map(|there| there.actual);
        let (hash, bytes) = actual.map_or((None, 0), |actual| (Some(actual.spec), actual.bytes));
        self.pace.wrote(key.clone(), hash, bytes, Instant::now());
        match meant.zip(hash) {
            Some(outcome) => self.outcomes.insert(key.clone(), outcome),
            None => self.outcomes.remove(&key),
        };
        // Somebody may have changed it, deleted it or made it anew since, and the watch been faster than the answer.
        let is_outdated = match &there {
            Some(there) => heard > there.state.version,
            None => self.actual.get(&key).zip(on).is_some_and(|(known, on)| known.state.uid != on.uid),
        };
        match there {
            _ if is_outdated => self.soil(key.clone()),
            Some(there) => _ = self.actual.insert(key.clone(), there),
            None => _ = self.actual.remove(&key),
        }
        // Nothing is to be looked at again, unless it should be another by now.
        if self.desired.get(&key).map(Desired::hash) != meant {
            self.soil(key);
        }
        self.status.send_modify(|status| status.writes += 1);
        None
    }

    /// Says how it all stands.
    pub(super) fn report(&self, term: &Term, is_writer: bool) {
        let kinds = self.kinds.values().filter_map(|known| known.trouble.as_deref());
        let troubles: Vec<&str> = kinds.chain(term.trouble.as_deref()).collect();
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        let dry_run = self.withheld.as_ref().map(Withheld::would);
        let writer = (!term.holder.is_empty()).then(|| term.holder.clone());
        let fought = self.pace.fought(Instant::now());
        let mut of_objects = self.troubles.clone();
        of_objects.extend(fought.map(|(key, times)| (key.to_string(), fought_over(times))));
        self.status.send_if_modified(|status| {
            // Counted over what is in flight, which is bounded, and not over all that waits.
            let waits = |key: &&ObjectKey| self.kinds.get(&key.kind).is_some_and(|known| known.waiting.contains(key));
            let in_flight = self.in_flight.keys().filter(|key| !waits(key)).count();
            let waiting: usize = self.kinds.values().map(|known| known.waiting.len()).sum();
            let withheld = dry_run.map_or(0, |would| would.created + would.changed);
            let in_place = self.desired.len().saturating_sub(waiting + in_flight + withheld + self.troubles.len());
            let news = status.in_place != in_place
                || *status.troubles != of_objects
                || status.trouble != trouble
                || status.dry_run != dry_run
                || (status.is_writer, &status.writer) != (is_writer && dry_run.is_none(), &writer);
            if news {
                (status.in_place, status.dry_run) = (in_place, dry_run);
                status.troubles = Arc::new(of_objects);
                (status.trouble, status.writer) = (trouble, writer);
                status.is_writer = is_writer && dry_run.is_none();
            }
            news
        });
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

#[cfg(test)]
mod tests;
