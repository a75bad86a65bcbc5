//! List and watch of one kind, for ever. It goes on after trouble from where it was, and lists again only when the
//! server says that the place is lost. Every new list and every new connection after a failure waits a pause that
//! grows until a watch has lasted. Kube's own watcher asks at once again when a watch ends, and when the place is
//! lost at the start of a watch asks for the same place for ever.

use super::explain::{Cause, cause, explain, retry_after};
use crate::backoff::Backoff;
use futures::{StreamExt as _, stream, stream::BoxStream};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, future::Future, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// Objects in one page of a list, as kubectl and the informers of Go ask for.
const PAGE: u32 = 500;

/// How long the server may take for a page of a list, or to begin a watch.
const ANSWER: Duration = Duration::from_secs(30);

/// How long one watch may last, in seconds. Its end is the last proof that a connection is not silently dead: of one
/// that speaks HTTP/2, pings tell sooner.
const WATCH_SECONDS: u32 = 50;

/// A watch of which nothing is heard for so long has died silently: the server should have ended it before.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 8);

/// The longest pause that a server may ask for: one that asks for hours is not to be forgotten.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A watch that lasts so long is taken for well: it need not have anything to say.
const QUIET: Duration = Duration::from_secs(5);

/// One step of a watch.
#[derive(Debug)]
pub enum Event<K> {
    /// A list begins.
    Begin,
    /// An object of the list that began last.
    Listed(K),
    /// The list is complete, at this version: what it did not name is gone.
    Complete(String),
    /// A new or changed object.
    Changed(K),
    /// An object is gone; this is how it was.
    Gone(K),
    /// Everything up to this version was seen.
    At(String),
    /// The trouble is over.
    Quiet,
    /// Nothing can be read at the moment.
    Trouble(Trouble),
}

/// Why nothing can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of trouble it is.
    pub cause: Cause,
    /// The reason, for people.
    pub reason: String,
    /// How long the server asks to be left alone.
    pub retry_after: Duration,
}

/// Which objects of a kind are followed, and from where on.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// A label selector.
    pub labels: Option<String>,
    /// A field selector.
    pub fields: Option<String>,
    /// The version up to which everything was seen before; without one, a list comes first.
    pub from: Option<String>,
}

struct Following<K> {
    api: Api<K>,
    labels: Option<String>,
    fields: Option<String>,
    place: Place<K>,
    backoff: Backoff,
    /// Something failed, and nothing was tried since; the server may have said for how long.
    pause: Option<Duration>,
    /// Something failed, and no watch has lasted since.
    doubtful: bool,
}

/// How far it is.
enum Place<K> {
    /// Nowhere, or the server has forgotten where.
    Lost,
    /// In a list, with what is left of a page and the token of the next.
    Page(std::vec::IntoIter<K>, Option<String>),
    /// In a list, with what is left of the last page and the version of the list.
    LastPage(std::vec::IntoIter<K>, String),
    /// Everything up to a version was seen.
    At(String),
    /// As before, with a watch from there on, and since when.
    Watch(String, Instant, BoxStream<'static, kube::Result<WatchEvent<K>>>),
}

/// Follows the objects that `api` names and `selection` selects.
pub fn follow<K>(api: Api<K>, selection: Selection) -> BoxStream<'static, Event<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let Selection { labels, fields, from } = selection;
    let place = from.map_or(Place::Lost, Place::At);
    let following = Following { api, labels, fields, place, backoff: Backoff::default(), pause: None, doubtful: false };
    stream::unfold(following, |mut following| async move { Some((following.next().await, following)) }).boxed()
}

// === impl Following ===

impl<K> Following<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(&mut self) -> Event<K> {
        loop {
            if let Some(at_least) = self.pause.take() {
                // The one place that slows down whatever an API server does: see the file's head.
                tokio::time::sleep(self.backoff.pause().max(at_least)).await;
            }
            if let Some(event) = self.step().await {
                return event;
            }
        }
    }

    async fn step(&mut self) -> Option<Event<K>> {
        match std::mem::replace(&mut self.place, Place::Lost) {
            Place::Lost => {
                self.place = Place::Page(Vec::new().into_iter(), None);
                Some(Event::Begin)
            }
            Place::Page(mut objects, token) => match objects.next() {
                Some(object) => {
                    self.place = Place::Page(objects, token);
                    Some(Event::Listed(object))
                }
                None => self.list(token).await,
            },
            Place::LastPage(mut objects, version) => match objects.next() {
                Some(object) => {
                    self.place = Place::LastPage(objects, version);
                    Some(Event::Listed(object))
                }
                None => {
                    self.place = Place::At(version.clone());
                    Some(Event::Complete(version))
                }
            },
            Place::At(version) => {
                let mut params = WatchParams::default().timeout(WATCH_SECONDS);
                (params.label_selector, params.field_selector) = (self.labels.clone(), self.fields.clone());
                match answer(self.api.watch(&params, &version)).await {
                    Ok(events) => {
                        self.place = Place::Watch(version, Instant::now(), events.boxed());
                        None
                    }
                    Err(Failure::Kube(error)) if is_gone(&error) => self.lost(),
                    Err(failure) => self.failed(Place::At(version), failure.into()),
                }
            }
            Place::Watch(version, since, events) => self.listen(version, since, events).await,
        }
    }

    async fn list(&mut self, token: Option<String>) -> Option<Event<K>> {
        let mut params = ListParams::default().limit(PAGE);
        params.continue_token = token;
        (params.label_selector, params.field_selector) = (self.labels.clone(), self.fields.clone());
        match answer(self.api.list(&params)).await {
            Ok(list) => {
                let text = |text: Option<String>| text.filter(|text| !text.is_empty());
                let token = text(list.metadata.continue_);
                let objects = list.items.into_iter();
                self.place = match (token, text(list.metadata.resource_version)) {
                    (Some(token), _) => Place::Page(objects, Some(token)),
                    (None, Some(version)) => Place::LastPage(objects, version),
                    (None, None) => {
                        return self.failed(Place::Lost, Trouble::new("a list has no resourceVersion"));
                    }
                };
                None
            }
            // A page that came too late is of a list that the server has forgotten.
            Err(Failure::Kube(error)) if is_gone(&error) => self.lost(),
            Err(failure) => self.failed(Place::Lost, failure.into()),
        }
    }

    async fn listen(
        &mut self,
        version: String,
        since: Instant,
        mut events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    ) -> Option<Event<K>> {
        if self.doubtful && since.elapsed() >= QUIET {
            self.doubtful = false;
            self.backoff.reset();
            self.place = Place::Watch(version, since, events);
            return Some(Event::Quiet);
        }
        let next = if self.doubtful {
            timeout_at(since + QUIET, events.next()).await
        } else {
            timeout(SILENCE, events.next()).await
        };
        match next {
            Err(_) if self.doubtful => {
                self.place = Place::Watch(version, since, events);
                None
            }
            // Watches are to end after a while. One that ends at once must not be begun anew at once.
            Err(_) | Ok(None) => {
                if self.doubtful {
                    return self.failed(Place::At(version), Trouble::new("it ends watches at once"));
                }
                self.place = Place::At(version);
                self.doubtful = since.elapsed() < QUIET;
                self.pause = self.doubtful.then_some(Duration::ZERO);
                None
            }
            Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                let version = object.resource_version().unwrap_or(version);
                self.place = Place::Watch(version, since, events);
                Some(Event::Changed(object))
            }
            Ok(Some(Ok(WatchEvent::Deleted(object)))) => {
                let version = object.resource_version().unwrap_or(version);
                self.place = Place::Watch(version, since, events);
                Some(Event::Gone(object))
            }
            Ok(Some(Ok(WatchEvent::Bookmark(bookmark)))) => {
                let version = bookmark.metadata.resource_version;
                self.place = Place::Watch(version.clone(), since, events);
                Some(Event::At(version))
            }
            Ok(Some(Ok(WatchEvent::Error(status)))) if status.code == 410 => self.lost(),
            Ok(Some(Ok(WatchEvent::Error(status)))) => {
                self.failed(Place::At(version), Failure::Kube(kube::Error::Api(status)).into())
            }
            Ok(Some(Err(error))) if is_gone(&error) => self.lost(),
            // The same watch goes on behind what cannot be read; a new one would begin before it.
            Ok(Some(Err(error @ kube::Error::SerdeError(_)))) => {
                self.failed(Place::Watch(version, since, events), Failure::Kube(error).into())
            }
            Ok(Some(Err(error))) => self.failed(Place::At(version), Failure::Kube(error).into()),
        }
    }

    /// The server has forgotten the place. That is ordinary, but must not happen again at once.
    fn lost(&mut self) -> Option<Event<K>> {
        self.place = Place::Lost;
        self.pause = Some(Duration::ZERO);
        self.doubtful = true;
        None
    }

    fn failed(&mut self, place: Place<K>, trouble: Trouble) -> Option<Event<K>> {
        self.place = place;
        self.pause = Some(trouble.retry_after.min(LONGEST_PAUSE));
        self.doubtful = true;
        Some(Event::Trouble(trouble))
    }
}

// === impl Event ===

impl<K> Event<K> {
    /// The same step with its object made into something else.
    pub fn map<T>(self, make: impl FnOnce(K) -> T) -> Event<T> {
        match self {
            Self::Begin => Event::Begin,
            Self::Listed(object) => Event::Listed(make(object)),
            Self::Complete(version) => Event::Complete(version),
            Self::Changed(object) => Event::Changed(make(object)),
            Self::Gone(object) => Event::Gone(make(object)),
            Self::At(version) => Event::At(version),
            Self::Quiet => Event::Quiet,
            Self::Trouble(trouble) => Event::Trouble(trouble),
        }
    }
}

// === impl Trouble ===

impl Trouble {
    fn new(reason: &str) -> Self {
        Self { cause: Cause::Other, reason: reason.to_owned(), retry_after: Duration::ZERO }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        let reason = failure.to_string();
        match &failure {
            Failure::Kube(error) => Self { cause: cause(error), reason, retry_after: retry_after(error) },
            Failure::Silent => Self { cause: Cause::Unreachable, reason, retry_after: Duration::ZERO },
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The server, or the way to it, says why.
    #[error("{}", explain(.0))]
    Kube(kube::Error),
    /// Nobody says anything.
    #[error("it does not answer within {} seconds", ANSWER.as_secs())]
    Silent,
}

async fn answer<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    timeout(ANSWER, asked).await.map_err(|_| Failure::Silent)?.map_err(Failure::Kube)
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}
