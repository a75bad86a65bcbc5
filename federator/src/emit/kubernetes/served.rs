//! One kind of Istio's in a cluster: in which version it is served, and what there is of it. Fields are the same in all
//! versions; which there are depends on how old the CRDs are, and they may come and go. Knows nothing of what is written.

use crate::{
    backoff::Backoff,
    emit::object::{GROUP, Kind},
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

/// What happened to a kind.
pub(super) enum News {
    /// It cannot be found out, or it is not there.
    Missing(String),
    /// It is served as this, and followed from now on.
    Served(ApiResource),
    /// Something of it changed.
    Seen(Box<Event<DynamicObject>>),
    /// It is not served any more; what it is served as is found out again.
    Lost,
}

struct Served {
    client: Client,
    kind: Kind,
    events: Option<BoxStream<'static, Event<DynamicObject>>>,
    pause: Duration,
    backoff: Backoff,
}

/// All that happens to a kind, for as long as somebody listens.
pub(super) fn news(client: &Client, kind: Kind) -> BoxStream<'static, (Kind, News)> {
    let served =
        Served { client: client.clone(), kind, events: None, pause: Duration::ZERO, backoff: Backoff::default() };
    stream::unfold(served, async |mut served| Some(((served.kind, served.next().await), served))).boxed()
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
        let name = self.kind.as_str();
        match look(&self.client, self.kind).await {
            Ok(Some(version)) => {
                tracing::info!(kind = name, version, "writing");
                let resource =
                    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, version, name), self.kind.plural());
                let api = Api::all_with(self.client.clone(), &resource);
                self.events = Some(follow(api, Selection::default()).boxed());
                self.backoff.reset();
                News::Served(resource)
            }
            Ok(None) => {
                // Nothing tells of it: a new kind can only be asked for.
                self.pause = LOOK_AGAIN;
                let versions = VERSIONS.join(", ");
                News::Missing(format!("the cluster serves no {name} of {GROUP} in {versions}: install Istio's CRDs"))
            }
            Err(error) => {
                self.pause = self.backoff.pause();
                News::Missing(format!(
                    "cannot find out in which version the cluster serves {name}: {}",
                    explain(&error)
                ))
            }
        }
    }
}

/// All that is there of a kind, once.
///
/// # Errors
/// Why it cannot be known, and what to do.
pub(super) async fn list(client: &Client, kind: Kind) -> Result<Vec<DynamicObject>, String> {
    let mut found = Vec::new();
    let mut news = news(client, kind);
    while let Some((_, news)) = news.next().await {
        match news {
            News::Missing(why) => return Err(why),
            News::Seen(event) => match *event {
                Event::Begin => found.clear(),
                Event::Listed(object) => found.push(object),
                Event::Complete(_) => return Ok(found),
                Event::Trouble(trouble) => return Err(format!("cannot list {}: {}", kind.plural(), trouble.reason)),
                _ => {}
            },
            News::Served(_) | News::Lost => {}
        }
    }
    Err(format!("cannot list {}", kind.plural()))
}

/// The best version that is served; `None` when none is.
async fn look(client: &Client, kind: Kind) -> Result<Option<&'static str>, kube::Error> {
    for version in VERSIONS {
        match client.list_api_group_resources(&format!("{GROUP}/{version}")).await {
            Ok(list) if list.resources.iter().any(|resource| resource.name == kind.plural()) => {
                return Ok(Some(version));
            }
            Ok(_) => {}
            Err(error) if cause(&error) == Cause::UnknownKind => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
