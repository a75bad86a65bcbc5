//! Follows the remote Secrets of the agent's own cluster and keeps the roster. Needs to get, list and watch Secrets in
//! the namespaces it reads, and nothing else. What a list lacks is asked for by name before it is believed; and every
//! few seconds the API server is asked how far it is, because one that went back to an earlier state of its storage
//! lists less with the best of conscience.

use super::{
    registrar::{Names, Parse, Registrar, Seen},
    roster::{Change, ChangeKind, Roster},
    secret::{RemoteSecret, SELECTOR, SecretName},
    versions::Versions,
};
use crate::kubernetes::follow::{Event, Selection, follow};
use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{BoxStream, select_all},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::ListParams};
use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// The pause between two looks at what is missing and how far the API server is.
const LOOK: Duration = Duration::from_secs(5);

/// How long one question of a look may take.
const ANSWER: Duration = Duration::from_secs(10);

/// What following remote Secrets needs.
pub struct Config<A> {
    /// Namespaces to read beside the client's own.
    pub namespaces: Vec<String>,
    /// What ids mean here.
    pub names: Names,
    /// Makes an access of a kubeconfig.
    pub parse: Parse<A>,
}

/// What a look showed.
struct Look {
    /// The highest version seen when it began.
    floor: u64,
    /// The version of a fresh list, if there was an answer.
    version: Option<u64>,
    /// Missing Secrets of which there was an answer: a remote Secret, or none.
    answers: Vec<(SecretName, Option<RemoteSecret>)>,
}

/// Keeps the roster until nobody wants it any more.
pub async fn run<A>(config: Config<A>, client: Client, roster: watch::Sender<Roster<A>>)
where
    A: Clone + PartialEq + Send + Sync + 'static,
{
    let own: Arc<str> = client.default_namespace().into();
    let namespaces: BTreeSet<Arc<str>> =
        config.namespaces.iter().map(|name| name.as_str().into()).chain([own]).collect();
    let mut registrar = Registrar::new(config.names, config.parse, namespaces.iter().cloned());
    let mut versions = Versions::default();
    let mut events = follow_all(&client, &namespaces);
    // Nothing but the roster's own state decides what is asked next, so one look at a time is enough.
    let mut turn = namespaces.iter().cycle();
    let mut looking: BoxFuture<'static, Option<Look>> = pause();
    loop {
        tokio::select! {
            Some((namespace, event)) = events.next() => {
                if let Some(seen) = translate(event, &mut versions) {
                    registrar.see(&namespace, seen);
                }
            }
            look = &mut looking => match look {
                None => {
                    let missing = registrar.missing();
                    // A namespace of which something was listed before can be listed.
                    let within = missing.first().map(|name| name.namespace.clone()).or_else(|| turn.next().cloned());
                    looking = match within {
                        Some(within) => look_around(client.clone(), within, missing, versions.highest()).map(Some).boxed(),
                        None => pause(),
                    };
                }
                Some(look) => {
                    let known = versions.went_back();
                    judge(&mut registrar, &mut versions, look);
                    if versions.went_back() && !known {
                        // The watches wait for versions that are long to come; a list says what there is now.
                        events = follow_all(&client, &namespaces);
                    }
                    looking = pause();
                }
            },
            () = roster.closed() => return,
        }
        hand_on(&roster, registrar.roster());
    }
}

fn follow_all(client: &Client, namespaces: &BTreeSet<Arc<str>>) -> BoxStream<'static, (Arc<str>, Event<Secret>)> {
    let follow_one = |namespace: &Arc<str>| {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let namespace = namespace.clone();
        follow(api, Selection { labels: Some(SELECTOR.to_owned()), ..Selection::default() })
            .map(move |event| (namespace.clone(), event))
    };
    select_all(namespaces.iter().map(follow_one)).boxed()
}

fn pause() -> BoxFuture<'static, Option<Look>> {
    sleep(LOOK).map(|()| None).boxed()
}

/// A Secret without the label is one that a selection would call deleted.
fn translate(event: Event<Secret>, versions: &mut Versions) -> Option<Seen> {
    let name_of = |secret: &Secret| {
        let (namespace, name) = (secret.metadata.namespace.as_deref()?, secret.metadata.name.as_deref()?);
        Some(SecretName { namespace: namespace.into(), name: name.into() })
    };
    let mut read = |secret: Secret| {
        let secret = RemoteSecret::of(secret)?;
        secret.version.into_iter().for_each(|version| versions.saw(version));
        Some(secret)
    };
    match event {
        Event::Begin => Some(Seen::Begin),
        Event::Listed(secret) => read(secret).map(Seen::Listed),
        Event::Complete(_) => Some(Seen::Complete),
        Event::Changed(secret) => {
            let name = name_of(&secret)?;
            Some(read(secret).map_or(Seen::Gone(name), Seen::Changed))
        }
        Event::Gone(secret) => name_of(&secret).map(Seen::Gone),
        Event::At(version) => {
            version.parse().into_iter().for_each(|version| versions.saw(version));
            None
        }
        Event::Quiet => Some(Seen::Quiet),
        Event::Trouble(trouble) => Some(Seen::Trouble(trouble.reason)),
    }
}

/// Asks for what is missing by name, and then how far the API server is. Both questions are answered by a quorum of
/// its storage, not by a cache.
async fn look_around(client: Client, within: Arc<str>, missing: Vec<SecretName>, floor: u64) -> Look {
    let mut answers = Vec::new();
    for name in missing {
        let api: Api<Secret> = Api::namespaced(client.clone(), &name.namespace);
        if let Some(found) = answer(api.get_opt(&name.name)).await {
            answers.push((name, found.and_then(RemoteSecret::of)));
        }
    }
    let api: Api<Secret> = Api::namespaced(client, &within);
    let list = answer(api.list_metadata(&ListParams::default().labels(SELECTOR).limit(1))).await;
    let version = list.and_then(|list| list.metadata.resource_version?.parse().ok());
    Look { floor, version, answers }
}

/// An answer, if there is one: what cannot be asked is asked again later, and following says why it cannot.
async fn answer<T>(asked: impl Future<Output = kube::Result<T>>) -> Option<T> {
    timeout(ANSWER, asked).await.ok()?.ok()
}

fn judge<A: Clone>(registrar: &mut Registrar<A>, versions: &mut Versions, look: Look) {
    if let Some(version) = look.version {
        versions.answered(look.floor, version);
    }
    if versions.went_back() {
        registrar.went_back();
    }
    let absence_counts = look.version.is_some() && !versions.went_back();
    for (name, found) in look.answers {
        match found {
            Some(secret) => registrar.found(secret),
            None if absence_counts => registrar.confirm_gone(&name),
            None => {}
        }
    }
}

fn hand_on<A: PartialEq>(sender: &watch::Sender<Roster<A>>, roster: Roster<A>) {
    sender.send_if_modified(|held| {
        if *held == roster {
            return false;
        }
        roster.changes(held).iter().for_each(audit);
        *held = roster;
        true
    });
}

/// Whoever reads the log later must see who came, went and was refused, and when.
fn audit(change: &Change) {
    let (kind, cluster, reason) = (change.kind.as_str(), &change.of, &change.message);
    let secret = change.secret.as_ref().map(tracing::field::display);
    let digest = change.digest.as_ref().map(tracing::field::display);
    if matches!(change.kind, ChangeKind::Refused | ChangeKind::Held) {
        tracing::warn!(target: "federator::audit", change = kind, cluster, reason, "membership");
    } else {
        tracing::info!(target: "federator::audit", change = kind, cluster, secret, digest, reason, "membership");
    }
}

#[cfg(test)]
mod tests;
