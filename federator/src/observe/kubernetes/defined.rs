//! A kind that is there once its CustomResourceDefinition is: followed from the moment that is installed, and empty
//! when it is gone. Who may not see definitions finds out by asking for the kind itself.

use crate::kubernetes::{
    explain::Cause,
    follow::{Event, Selection, follow},
};
use futures::{StreamExt as _, stream, stream::BoxStream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt as _, core::PartialObjectMeta};
use std::collections::VecDeque;

/// A version that says nothing.
const NO_VERSION: &str = "0";

struct Defined<T, F> {
    definition: String,
    definitions: BoxStream<'static, Event<PartialObjectMeta<CustomResourceDefinition>>>,
    objects: Option<BoxStream<'static, Event<T>>>,
    begin: F,
    from: Option<String>,
    /// Whether the list of definitions in progress has it.
    listed: bool,
    /// Why definitions cannot be seen.
    unseen: Option<String>,
    ready: VecDeque<Event<T>>,
}

/// Follows what `begin` follows, from a version on or from the beginning, while the definition of that name is there.
pub(super) fn while_defined<T: Send + 'static>(
    client: &Client,
    definition: &str,
    from: Option<String>,
    begin: impl Fn(Option<String>) -> BoxStream<'static, Event<T>> + Send + 'static,
) -> BoxStream<'static, Event<T>> {
    let selection = Selection { fields: Some(format!("metadata.name={definition}")), ..Selection::default() };
    let definitions = follow(Api::all(client.clone()), selection);
    let defined = Defined {
        definition: definition.to_owned(),
        definitions,
        objects: None,
        begin,
        from,
        listed: false,
        unseen: None,
        ready: VecDeque::new(),
    };
    stream::unfold(defined, |mut defined| async move { Some((defined.next().await, defined)) }).boxed()
}

// === impl Defined ===

impl<T: Send + 'static, F: Fn(Option<String>) -> BoxStream<'static, Event<T>>> Defined<T, F> {
    async fn next(&mut self) -> Event<T> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            let objects = async {
                match &mut self.objects {
                    Some(objects) => objects.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(event) = objects => match event {
                    // Not served yet, or not any more.
                    Event::Trouble(trouble) if trouble.cause == Cause::UnknownKind => self.is_empty(NO_VERSION.to_owned()),
                    event => return event,
                },
                Some(event) = self.definitions.next() => self.define(event),
            }
        }
    }

    fn define(&mut self, event: Event<PartialObjectMeta<CustomResourceDefinition>>) {
        match event {
            Event::Begin => self.listed = false,
            Event::Listed(_) | Event::Changed(_) => {
                self.listed = true;
                self.follow();
            }
            Event::Complete(version) if !self.listed => {
                self.objects = None;
                self.is_empty(version);
            }
            Event::Gone(definition) => {
                self.objects = None;
                self.is_empty(definition.resource_version().unwrap_or_else(|| NO_VERSION.to_owned()));
            }
            Event::Trouble(trouble) if trouble.cause == Cause::Forbidden => {
                self.cannot_see(trouble.reason);
                self.follow();
            }
            Event::Trouble(trouble) => self.ready.push_back(Event::Trouble(trouble)),
            Event::Complete(_) | Event::At(_) => {}
            Event::Quiet => self.ready.push_back(Event::Quiet),
        }
    }

    /// Nothing is lost by it but the moment of installing: worth a line in the log, once.
    fn cannot_see(&mut self, reason: String) {
        if self.unseen.as_ref() != Some(&reason) {
            let definition = &self.definition;
            tracing::info!(definition, reason, "the kind itself is asked for instead of its definition");
            self.unseen = Some(reason);
        }
    }

    fn follow(&mut self) {
        if self.objects.is_none() {
            self.objects = Some((self.begin)(self.from.take()));
        }
    }

    fn is_empty(&mut self, version: String) {
        self.ready.extend([Event::Begin, Event::Complete(version)]);
    }
}
