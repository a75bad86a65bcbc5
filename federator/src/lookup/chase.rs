//! Looks up the names that somebody wants, as long as they are wanted: each again when its answer is too old, and never
//! very many at once. Does not know what they are wanted for.

use super::{Answer, Hosts, at};
use futures::{StreamExt as _, stream::FuturesUnordered};
use model::tracked::{Since, Tracked};
use std::{net::IpAddr, sync::Arc};
use tokio::{sync::watch, time::Instant};

/// Most questions under way. Names beyond these wait for their turn.
const MOST: usize = 64;

/// Names that are wanted.
pub type Wanted = Tracked<Arc<str>, ()>;

/// Those of them of which somebody said what they have.
pub type Chased = Tracked<Arc<str>, Located>;

/// What a name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its addresses; none, where it has none or does not exist.
    pub addresses: Arc<[IpAddr]>,
    /// Seconds for which they may be told.
    pub ttl: u32,
}

/// Looks up until nobody can want a name any more.
pub async fn run<F: Future<Output = Answer>>(
    ask: impl Fn(Arc<str>) -> F,
    mut wanted: watch::Receiver<Wanted>,
    chased: watch::Sender<Chased>,
) {
    let (mut hosts, mut known, mut seen) = (Hosts::default(), Chased::new(), Wanted::new());
    let mut asked = FuturesUnordered::new();
    loop {
        while asked.len() < MOST
            && let Some(host) = hosts.next(Instant::now())
        {
            let answer = ask(host.clone());
            asked.push(async { (host, answer.await) });
        }
        let due = hosts.due().filter(|_| asked.len() < MOST);
        let is_news = tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = wanted.borrow_and_update().clone();
                let gone = follow(&mut hosts, &seen, &now);
                seen = now;
                gone.into_iter().fold(false, |news, host| known.set(host, None) | news)
            }
            Some((host, answer)) = asked.next() => {
                let told = hosts.take(&host, answer, Instant::now()).filter(|told| told.answered).map(|told| Located {
                    addresses: told.addresses.as_slice().into(),
                    ttl: u32::try_from(told.ttl.as_secs()).unwrap_or(u32::MAX),
                });
                told.is_some_and(|told| known.set(host, Some(told)))
            }
            () = at(due) => false,
        };
        if is_news {
            chased.send_replace(known.clone());
        }
    }
}

/// Adds the names that are wanted now; removes and names those that are not.
fn follow(hosts: &mut Hosts, before: &Wanted, now: &Wanted) -> Vec<Arc<str>> {
    let mut gone = Vec::new();
    match now.since(before.sequence()) {
        Since::Changes(changes) => {
            for (host, wanted) in changes {
                match wanted {
                    Some(()) => hosts.add(host, Instant::now()),
                    None => gone.push(host.clone()),
                }
            }
        }
        Since::Everything => {
            gone.extend(hosts.iter().map(|(host, _)| host).filter(|host| now.get(host).is_none()).cloned());
            now.iter().for_each(|(host, ())| hosts.add(host, Instant::now()));
        }
    }
    gone.iter().for_each(|host| hosts.remove(host));
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};
    use tokio::task::LocalSet;

    /// What names have, and how often each was asked for.
    #[derive(Default)]
    struct World {
        answers: BTreeMap<&'static str, Answer>,
        asked: BTreeMap<Arc<str>, usize>,
        under_way: usize,
        most: usize,
    }

    fn at_address(text: &str, seconds: u64) -> Answer {
        Answer::Addresses(text.parse().into_iter().collect(), Duration::from_secs(seconds))
    }

    fn shown(chased: &Chased) -> String {
        let one = |(host, located): (&Arc<str>, &Located)| format!("{host} {:?} {}", located.addresses, located.ttl);
        chased.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    async fn pass(seconds: u64) {
        // A moment later than what is due then.
        tokio::time::sleep(Duration::from_millis(seconds * 1000 + 1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_looked_up_while_they_are_wanted() {
        let world = Rc::new(RefCell::new(World::default()));
        let (want, wanted) = watch::channel(Wanted::new());
        let (told, chased) = watch::channel(Chased::new());
        let seen = world.clone();
        let ask = move |host: Arc<str>| {
            let world = seen.clone();
            async move {
                *world.borrow_mut().asked.entry(host.clone()).or_default() += 1;
                world.borrow().answers.get(&*host).cloned().unwrap_or_else(|| Answer::Failed("timed out".to_owned()))
            }
        };
        let set = |host: &str, wanted: bool| want.send_modify(|all| _ = all.set(host.into(), wanted.then_some(())));
        let tell = |host, answer| _ = world.borrow_mut().answers.insert(host, answer);
        let asked = |host: &str| world.borrow().asked.get(host).copied().unwrap_or_default();
        let local = LocalSet::new();
        local.spawn_local(run(ask, wanted, told));
        local
            .run_until(async {
                set("a.example", true);
                set("b.example", true);
                tell("a.example", at_address("10.0.0.1", 20));
                pass(0).await;
                // Nobody said what the other has.
                assert_eq!(shown(&chased.borrow()), "a.example [10.0.0.1] 20");
                tell("b.example", Answer::Absent);
                pass(5).await;
                assert_eq!(shown(&chased.borrow()), "a.example [10.0.0.1] 20, b.example [] 0");
                // Its answer is too old; who knew does not answer, and then knows better.
                world.borrow_mut().answers.remove("a.example");
                pass(20).await;
                assert_eq!((asked("a.example"), chased.borrow().len()), (3, 2));
                assert_eq!(shown(&chased.borrow()), "a.example [10.0.0.1] 20, b.example [] 0");
                tell("a.example", at_address("10.0.0.2", 0));
                pass(10).await;
                assert!(shown(&chased.borrow()).starts_with("a.example [10.0.0.2] 5"), "{}", shown(&chased.borrow()));
                // Who is not wanted any more is neither known nor asked for.
                set("a.example", false);
                pass(0).await;
                assert_eq!(shown(&chased.borrow()), "b.example [] 0");
                let before = asked("a.example");
                pass(600).await;
                assert_eq!(asked("a.example"), before);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn not_very_many_are_asked_for_at_once() {
        let world = Rc::new(RefCell::new(World::default()));
        let (want, wanted) = watch::channel(Wanted::new());
        let (told, chased) = watch::channel(Chased::new());
        let seen = world.clone();
        let ask = move |_| {
            let world = seen.clone();
            async move {
                {
                    let mut now = world.borrow_mut();
                    now.under_way += 1;
                    now.most = now.most.max(now.under_way);
                }
                pass(1).await;
                world.borrow_mut().under_way -= 1;
                at_address("10.0.0.1", 300)
            }
        };
        want.send_modify(|all| (0..MOST * 3).for_each(|n| _ = all.set(format!("{n}.example").into(), Some(()))));
        let local = LocalSet::new();
        local.spawn_local(run(ask, wanted, told));
        local
            .run_until(async {
                pass(4).await;
                assert_eq!((world.borrow().most, chased.borrow().len()), (MOST, MOST * 3));
            })
            .await;
    }
}
