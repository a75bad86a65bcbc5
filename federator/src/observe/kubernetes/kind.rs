//! A watch of one kind that never ends by itself. It goes on after trouble from where it was, with a pause that
//! grows; it lists again only when the server says that the place is lost.

use super::super::index::{Kind, Object, ObjectName};
use crate::backoff::Backoff;
use futures::{StreamExt as _, stream, stream::BoxStream};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::watcher,
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, time::Duration};

/// How long one watch may last, in seconds. A connection that died silently is noticed this late.
const WATCH_SECONDS: u32 = 60;

/// A watch that does not fail for so long after trouble is taken for well again: it need not have anything to say.
const QUIET: Duration = Duration::from_secs(5);

/// One step of a watch.
#[derive(Debug)]
pub(super) enum Event {
    /// A list begins.
    Begin(Kind),
    /// An object, of a list or by itself, with its resourceVersion.
    Object {
        listed: bool,
        object: Box<Object>,
        version: Option<String>,
    },
    /// An object that does not parse.
    Malformed {
        listed: bool,
        name: ObjectName,
        reason: String,
    },
    /// A list is complete.
    Listed(Kind),
    /// An object is gone.
    Gone(ObjectName),
    /// The trouble is over.
    Quiet(Kind),
    /// Nothing can be read at the moment.
    Trouble(Kind, String),
}

type Read<K> = fn(K) -> Result<Object, String>;

struct Watching<K> {
    client: Client,
    kind: Kind,
    read: Read<K>,
    stream: Option<BoxStream<'static, watcher::Result<watcher::Event<K>>>>,
    backoff: Backoff,
    in_trouble: bool,
}

/// Watches all objects of a kind.
pub(super) fn watch_kind<K>(client: Client, kind: Kind, read: Read<K>) -> BoxStream<'static, Event>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let watching = Watching {
        client,
        kind,
        read,
        stream: None,
        backoff: Backoff::default(),
        in_trouble: false,
    };
    stream::unfold(watching, |mut watching| async move {
        Some((watching.next().await, watching))
    })
    .boxed()
}

// === impl Watching ===

impl<K> Watching<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(&mut self) -> Event {
        if self.in_trouble {
            self.backoff.wait().await;
        }
        let stream = self.stream.get_or_insert_with(|| {
            let config = watcher::Config::default().timeout(WATCH_SECONDS);
            watcher(Api::<K>::all(self.client.clone()), config).boxed()
        });
        let next = if self.in_trouble {
            match tokio::time::timeout(QUIET, stream.next()).await {
                Ok(next) => next,
                Err(_) => {
                    self.well_again();
                    return Event::Quiet(self.kind);
                }
            }
        } else {
            stream.next().await
        };
        match next {
            Some(Ok(event)) => {
                self.well_again();
                self.convert(event)
            }
            Some(Err(error)) => {
                self.in_trouble = true;
                // The watcher answers a 410 to the start of a watch by asking for the same place for ever.
                if is_gone(&error) {
                    self.stream = None;
                }
                Event::Trouble(self.kind, explain_watch(&error))
            }
            None => {
                self.in_trouble = true;
                self.stream = None;
                Event::Trouble(self.kind, "the watch ended".to_owned())
            }
        }
    }

    fn well_again(&mut self) {
        self.in_trouble = false;
        self.backoff.reset();
    }

    fn convert(&self, event: watcher::Event<K>) -> Event {
        match event {
            watcher::Event::Init => Event::Begin(self.kind),
            watcher::Event::InitApply(object) => self.object(true, object),
            watcher::Event::InitDone => Event::Listed(self.kind),
            watcher::Event::Apply(object) => self.object(false, object),
            watcher::Event::Delete(object) => Event::Gone(ObjectName::new(self.kind, object.meta())),
        }
    }

    fn object(&self, listed: bool, object: K) -> Event {
        let name = ObjectName::new(self.kind, object.meta());
        let version = object.resource_version();
        match (self.read)(object) {
            Ok(object) => Event::Object {
                listed,
                object: Box::new(object),
                version,
            },
            Err(reason) => Event::Malformed { listed, name, reason },
        }
    }
}

fn is_gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

fn explain_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => explain(error),
        other => other.to_string(),
    }
}

/// What an error of the API server means, and what to do about it.
pub(super) fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "it refuses the credentials (401 Unauthorized): renew the token or certificate in the kubeconfig"
                .to_owned()
        }
        kube::Error::Api(status) if status.code == 403 => {
            format!(
                "it refuses this (403 Forbidden): {}: bind the ClusterRole of the manifests",
                status.message
            )
        }
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => chain(other),
    }
}

/// An error with its causes: the outermost alone seldom says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
