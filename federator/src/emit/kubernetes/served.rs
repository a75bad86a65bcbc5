//! One kind of Istio's in a cluster: in which version it is served, and what there is of it. Fields are the same in all
//! versions; which there are depends on how old the CRDs are, and they may come and go. Knows nothing of what is written,
//! nor what of it matters to whoever listens.

use crate::{
    backoff::Backoff,
    emit::object::GROUP,
    kubernetes::{
        explain::{Cause, cause, explain},
        follow::{Event, Selection, follow},
    },
};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use std::time::Duration;

/// How often it is asked for where there is none: Istio is not installed many times a day.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What can be used, best first.
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

/// A kind of Istio's networking group.
#[derive(Clone, Copy)]
pub(super) struct Names {
    /// The kind.
    pub(super) kind: &'static str,
    /// Its resource.
    pub(super) plural: &'static str,
}

/// What happened to a kind.
pub(super) enum News {
    /// It is not there: why nothing can be done with it.
    Absent(String),
    /// Whether it is there cannot be found out.
    Unknown(String, Cause),
    /// It is served as this, and followed from now on.
    Served(ApiResource),
    /// Something of it changed.
    Seen(Box<Event<DynamicObject>>),
    /// It is not served any more; what it is served as is found out again.
    Lost,
}

struct Served {
    client: Client,
    names: Names,
    selection: Selection,
    events: Option<BoxStream<'static, Event<DynamicObject>>>,
    pause: Duration,
    backoff: Backoff,
}

/// All that happens to what is selected of a kind, for as long as somebody listens.
pub(super) fn news(client: &Client, names: Names, selection: Selection) -> BoxStream<'static, News> {
    let client = client.clone();
    let served = Served { client, names, selection, events: None, pause: Duration::ZERO, backoff: Backoff::default() };
    stream::unfold(served, async |mut served| Some((served.next().await, served))).boxed()
}

// === impl Served ===

impl Served {
    async fn next(&mut self) -> News {
        if let Some(events) = &mut self.events {
            match events.next().await {
                Some(Event::Trouble(trouble)) if trouble.cause == Cause::UnknownKind => {}
                Some(event) => return News::Seen(Box::new(event)),
                None => {}
            }
            self.events = None;
            return News::Lost;
        }
        tokio::time::sleep(std::mem::take(&mut self.pause)).await;
        let Names { kind: name, plural } = self.names;
        match look(&self.client, plural).await {
            Ok(Some(version)) => {
                tracing::info!(kind = name, version, "following");
                let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, version, name), plural);
                let api = Api::all_with(self.client.clone(), &resource);
                self.events = Some(follow(api, self.selection.clone()).boxed());
                self.backoff.reset();
                News::Served(resource)
            }
            Ok(None) => {
                // Nothing tells of it: a new kind can only be asked for.
                self.pause = LOOK_AGAIN;
                let versions = VERSIONS.join(", ");
                News::Absent(format!("the cluster serves no {name} of {GROUP} in {versions}: install Istio's CRDs"))
            }
            Err(error) => {
                self.pause = self.backoff.pause();
                let why = format!("cannot find out in which version the cluster serves {name}: {}", explain(&error));
                News::Unknown(why, cause(&error))
            }
        }
    }
}

/// All that is there of a kind, once.
///
/// # Errors
/// Why it cannot be known, and what to do.
pub(super) async fn list(client: &Client, names: Names) -> Result<Vec<DynamicObject>, String> {
    let mut found = Vec::new();
    let mut news = news(client, names, Selection::default());
    while let Some(news) = news.next().await {
        match news {
            News::Absent(why) | News::Unknown(why, _) => return Err(why),
            News::Seen(event) => match *event {
                Event::Begin => found.clear(),
                Event::Listed(object) => found.push(object),
                Event::Complete(_) => return Ok(found),
                Event::Trouble(trouble) => return Err(format!("cannot list {}: {}", names.plural, trouble.reason)),
                _ => {}
            },
            News::Served(_) | News::Lost => {}
        }
    }
    Err(format!("cannot list {}", names.plural))
}

/// The best version that is served; `None` when none is.
async fn look(client: &Client, plural: &str) -> Result<Option<&'static str>, kube::Error> {
    for version in VERSIONS {
        match client.list_api_group_resources(&format!("{GROUP}/{version}")).await {
            Ok(list) if list.resources.iter().any(|resource| resource.name == plural) => {
                return Ok(Some(version));
            }
            Ok(_) => {}
            Err(error) if cause(&error) == Cause::UnknownKind => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
