//! What is known of an object when answers to writes and what the watch tells come in any order.

use super::*;
use crate::emit::{
    kubernetes::write::State,
    object::{GROUP, MANAGED_BY, Spec},
    service_entry::ServiceEntry,
};
use axum::Router;
use kube::core::GroupVersionKind;
use model::tracked::Tracked;
use serde_json::json;

/// An emitter that wants one object, in a cluster where there is none.
struct Bed {
    emitter: Emitter,
    key: ObjectKey,
    writes: FuturesUnordered<BoxFuture<'static, Written>>,
}

impl Bed {
    fn new() -> Self {
        let client = Client::new(Router::new(), "default");
        let mut emitter = Emitter::new(client, "istio-system".into(), false, watch::Sender::default());
        let kind = Kind::ServiceEntry;
        let key = ObjectKey { kind, namespace: "demo".into(), name: "web.demo.global".into() };
        let entry = ServiceEntry { hosts: vec!["web.demo.global".to_owned()], ..ServiceEntry::default() };
        let mut desired = Tracked::new();
        desired.set(key.clone(), Some(Desired::fixed(Spec::ServiceEntry(entry), 7)));
        emitter.want(desired);
        let gvk = GroupVersionKind::gvk(GROUP, "v1", kind.as_str());
        emitter.hear(kind, News::Served(ApiResource::from_gvk_with_plural(&gvk, kind.plural())));
        let mut bed = Self { emitter, key, writes: FuturesUnordered::new() };
        bed.tell(Event::Begin);
        bed.tell(Event::Complete("1".to_owned()));
        bed
    }

    fn tell(&mut self, event: Event<DynamicObject>) {
        self.emitter.hear(self.key.kind, News::Seen(Box::new(event)));
    }

    /// The object of a version, as it should be or as somebody else has it.
    fn object(&self, version: u64, uid: &str, is_right: bool) -> DynamicObject {
        let desired = self.emitter.desired.get(&self.key).expect("it is wanted");
        let spec = if is_right { desired.json() } else { json!({ "hosts": ["theirs.example"] }) };
        let metadata = json!({
            "name": &*self.key.name, "namespace": &*self.key.namespace, "labels": { MANAGED_BY.0: MANAGED_BY.1 },
            "resourceVersion": version.to_string(), "uid": uid,
        });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).expect("an object")
    }

    /// Starts what is due, and says how much that is. Nobody sends it.
    async fn started(&mut self) -> usize {
        tokio::time::advance(Duration::from_secs(400)).await;
        self.emitter.start(&mut self.writes);
        std::mem::take(&mut self.writes).len()
    }

    /// The answer to the write that was started: it is so in this version, or gone.
    fn answer(&mut self, on: Option<(&str, u64)>, there: Option<(&str, u64)>) {
        let there_is = |(uid, version)| Outcome::There(super::there(&self.object(version, uid, true)));
        let outcome = there.map_or(Outcome::Gone, there_is);
        let meant = self.emitter.desired.get(&self.key).filter(|_| there.is_some()).map(Desired::hash);
        let on = on.map(|(uid, version)| State { uid: uid.into(), version });
        self.emitter.written(Written { key: self.key.clone(), meant, on, result: Ok(outcome) });
    }
}

#[tokio::test(start_paused = true)]
async fn who_changes_an_object_before_we_hear_of_our_own_write_is_put_right() {
    let mut bed = Bed::new();
    assert_eq!(bed.started().await, 1);
    bed.tell(Event::Changed(bed.object(2, "a", true)));
    bed.tell(Event::Changed(bed.object(3, "a", false)));
    bed.answer(None, Some(("a", 2)));
    assert_eq!(bed.started().await, 1, "it is theirs by now");
    // In the usual order there is nothing to do.
    bed.answer(Some(("a", 3)), Some(("a", 4)));
    bed.tell(Event::Changed(bed.object(4, "a", true)));
    assert_eq!(bed.started().await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_deletes_an_object_before_we_hear_of_our_own_write_is_put_right() {
    let mut bed = Bed::new();
    assert_eq!(bed.started().await, 1);
    bed.tell(Event::Changed(bed.object(2, "a", true)));
    bed.tell(Event::Gone(bed.object(3, "a", true)));
    bed.answer(None, Some(("a", 2)));
    assert_eq!(bed.started().await, 1, "it is gone by now");
    // By a list that was made after the write.
    bed.tell(Event::Begin);
    bed.tell(Event::Complete("9".to_owned()));
    bed.answer(None, Some(("b", 8)));
    assert_eq!(bed.started().await, 1, "it is gone again");
}

#[tokio::test(start_paused = true)]
async fn who_makes_an_object_anew_before_we_hear_that_it_is_gone_has_made_one() {
    let mut bed = Bed::new();
    bed.tell(Event::Changed(bed.object(2, "a", true)));
    let again = bed.object(4, "b", true);
    bed.emitter.want(Tracked::new());
    assert_eq!(bed.started().await, 1);
    bed.tell(Event::Gone(again.clone()));
    bed.tell(Event::Changed(again));
    bed.answer(Some(("a", 2)), None);
    assert_eq!(bed.started().await, 1, "there is another one now");
}
