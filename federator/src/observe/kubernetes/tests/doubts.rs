//! Doubted objects: each is asked for by name until there is an answer, and what there is counts as seen.

use super::*;

fn names(names: &[&str]) -> Arc<BTreeSet<ObjectName>> {
    let service = |name: &&str| ObjectName { kind: Kind::Service, namespace: "shop".into(), name: (*name).into() };
    Arc::new(names.iter().map(service).collect())
}

#[tokio::test(start_paused = true)]
async fn what_is_doubted_is_asked_for_until_there_is_an_answer() {
    let answer = |ask: &Ask| match (&*ask.of, &ask.watch) {
        ("services", None) => Some(list(&[service("a")])),
        ("b", None) => Some(Says(service("b"))),
        ("c", None) => Some(Refuses(if ask.nth < 2 { 500 } else { 404 })),
        ("d", None) => Some(Says(malformed("d"))),
        _ => None,
    };
    let (doubts, doubted) = watch::channel(names(&["b", "c", "d"]));
    doubting(doubted, answer, async |observed| {
        // What the list had not is there, before it counts as confirmed.
        let seen = until(observed, |seen| seen.confirmed == names(&["b", "c"])).await;
        assert_eq!(services(&seen), ["a", "b"]);
        doubts.send_replace(names(&["c", "e"]));
        until(observed, |seen| seen.confirmed == names(&["c"])).await;
        doubts.send_replace(names(&[]));
        until(observed, |seen| seen.confirmed.is_empty()).await;
    })
    .await;
}
