//! The simulated store does what the embedded one does, which passes the battery that etcd passes.

use super::*;
use federator::store::{Store as _, embedded::Embedded};
use proptest::prelude::*;

/// What is done to both.
#[derive(Clone, Debug)]
enum Act {
    /// Guards (a key, and whether by creation or by the last write; whether it is to hold), then writes.
    Commit(Vec<(u8, bool, bool)>, Vec<(u8, Option<u8>)>, Option<(u8, usize)>),
    Grant,
    Revoke(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let guards = prop::collection::vec((0..4_u8, any::<bool>(), prop::bool::weighted(0.8)), 0..3);
    let writes = prop::collection::vec((0..4_u8, prop::option::of(any::<u8>())), 0..3);
    prop_oneof![
        6 => (guards, writes, prop::option::of((4..6_u8, 0..4_usize))).prop_map(|(g, w, l)| Act::Commit(g, w, l)),
        1 => Just(Act::Grant),
        1 => (0..4_usize).prop_map(Act::Revoke),
    ]
}

/// Revisions of a real etcd begin at one, those of the embedded store at zero.
fn later<T: Clone + Ord>(entries: &BTreeMap<T, Entry>) -> BTreeMap<T, Entry> {
    let later = |entry: &Entry| Entry { created: entry.created + 1, modified: entry.modified + 1, ..entry.clone() };
    entries.iter().map(|(key, entry)| (key.clone(), later(entry))).collect()
}

proptest! {
    #[test]
    fn it_does_what_the_embedded_store_does(acts in prop::collection::vec(act(), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let journal = Journal::begin(false);
            let who = Who { agent: "one".into(), life: 1 };
            let mut simulated = Etcd::new(Law::new(journal.clone(), Duration::from_secs(60)), journal, Duration::from_secs(10));
            let embedded = Embedded::new();
            let mut watch = embedded.watch(1).await.expect("a watch");
            let mut leases = Vec::new();
            for act in acts {
                match act {
                    Act::Grant => {
                        leases.push(Some((simulated.grant(who.clone()), embedded.lease().await.expect("a lease"))));
                    }
                    Act::Revoke(at) => {
                        if let Some((id, lease)) = leases.get_mut(at).and_then(Option::take) {
                            simulated.revoke(id, "ends");
                            lease.revoke().await;
                        }
                    }
                    Act::Commit(guards, writes, leased) => {
                        let there = embedded.read("").await.expect("it is there").entries;
                        let txns = [0, 1].map(|offset| {
                            let guards = guards.iter().map(|(key, by_value, holds)| {
                                let key = format!("k{key}");
                                let entry = there.get(&key);
                                if *by_value {
                                    let mut value = entry.map_or_else(Vec::new, |e| e.value.clone());
                                    value.extend((!holds).then_some(0));
                                    return Guard::holds(key, value);
                                }
                                let revision = entry.map_or(0, |e| e.modified + offset);
                                Guard::modified(key, if *holds { revision } else { revision + 1 })
                            });
                            let writes: BTreeMap<_, _> =
                                writes.iter().map(|(key, value)| (format!("k{key}"), value.map(|v| vec![v]))).collect();
                            let lease = leased.and_then(|(key, at)| Some((key, leases.get(at)?.as_ref()?)));
                            let leased = lease.map(|(key, (id, lease))| {
                                (format!("k{key}"), vec![key], if offset == 0 { lease.id() } else { *id })
                            });
                            let (guards, writes) = (guards.collect(), writes.into_iter().collect());
                            Txn { guards, writes, leased: leased.into_iter().collect() }
                        });
                        let ours = simulated.commit(&who, &txns[1]).expect("it is there");
                        let theirs = match embedded.commit(&txns[0]).await.expect("it is there") {
                            Committed::Done(revision) => Committed::Done(revision + 1),
                            Committed::Refused(found) => Committed::Refused(found.into_iter().map(|(key, entry)| {
                                let one = entry.map(|entry| (key.clone(), entry)).into_iter().collect();
                                let entry = later(&one).remove(&key);
                                (key, entry)
                            }).collect()),
                        };
                        prop_assert_eq!(ours, theirs);
                    }
                }
                let theirs = embedded.read("k").await.expect("it is there");
                prop_assert_eq!(simulated.read("k").revision, theirs.revision + 1);
                prop_assert_eq!(simulated.read("k").entries, later(&theirs.entries));
            }
            if simulated.revision > 1 {
                let theirs = watch.next().await.expect("changes").changes;
                let ours = simulated.since(2, simulated.revision).expect("changes").changes;
                let theirs: Vec<_> = theirs.into_iter().map(|(key, entry)| {
                    let one = entry.map(|entry| (key.clone(), entry)).into_iter().collect();
                    let entry = later(&one).remove(&key);
                    (key, entry)
                }).collect();
                prop_assert_eq!(ours, theirs);
            }
            Ok(())
        })?;
    }
}
