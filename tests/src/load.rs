//! A constant load of queries for one name, which counts what was wrong with the answers.
//!
//! Every resolver is asked once a period, whether or not it has answered before: a server that hangs does not make
//! the load smaller. What is right may change while it runs; a reply is right if it was at any moment between its
//! question and itself.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::{RecordType, Reply, Resolver, ResponseCode, Result};

/// Offending replies that are kept for the message.
const KEPT: usize = 5;

/// Which addresses an answer must and may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    required: BTreeSet<IpAddr>,
    /// Without, every address is allowed.
    allowed: Option<BTreeSet<IpAddr>>,
}

/// What came of the questions so far; each of them is one of `right`, `wrong`, `missing` and `failed`, or under way.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Questions sent.
    pub asked: usize,
    /// Every required address, and none that is not allowed.
    pub right: usize,
    /// An address that is not allowed.
    pub wrong: usize,
    /// A required address is absent.
    pub missing: usize,
    /// No answer, or a code that is not NOERROR.
    pub failed: usize,
    /// The first replies that were not right.
    pub offending: Vec<String>,
}

/// A load that runs; it ends when dropped.
#[derive(Debug)]
pub struct Load {
    state: Arc<Mutex<State>>,
    stop: watch::Sender<bool>,
    loads: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    name: String,
    /// All that was ever expected, the present last.
    expected: Vec<Expected>,
    counts: Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    Missing,
    Failed,
}

// === impl Expected ===

impl Expected {
    /// All of these addresses and no other.
    pub fn exactly(addresses: &BTreeSet<IpAddr>) -> Self {
        Self { required: addresses.clone(), allowed: Some(addresses.clone()) }
    }

    /// All of `required`, and of others only `optional`.
    pub fn between(required: &BTreeSet<IpAddr>, optional: &BTreeSet<IpAddr>) -> Self {
        Self { required: required.clone(), allowed: Some(required | optional) }
    }

    /// All of these addresses, whatever else there is.
    pub fn at_least(required: &BTreeSet<IpAddr>) -> Self {
        Self { required: required.clone(), allowed: None }
    }

    /// Whether an answer with these addresses is right.
    pub(crate) fn holds(&self, seen: &BTreeSet<IpAddr>) -> bool {
        self.allows(seen) && self.required.is_subset(seen)
    }

    /// Whether it has no address but those that it may have.
    pub(crate) fn allows(&self, seen: &BTreeSet<IpAddr>) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| seen.is_subset(allowed))
    }
}

// === impl Load ===

impl Load {
    /// Asks every resolver for the A records of `name` once a `period`, until it is stopped.
    pub fn start(resolvers: &[Resolver], name: &str, expected: Expected, period: Duration) -> Self {
        let state = State { name: name.to_owned(), expected: vec![expected], counts: Counts::default() };
        let (stop, stopped) = watch::channel(false);
        let mut load = Self { state: Arc::new(Mutex::new(state)), stop, loads: JoinSet::new() };
        for &resolver in resolvers {
            load.loads.spawn(put(resolver, Arc::clone(&load.state), period, stopped.clone()));
        }
        load
    }

    /// Changes what is right from now on.
    pub fn expect(&self, expected: Expected) {
        lock(&self.state).expected.push(expected);
    }

    /// What it has counted so far.
    pub fn counts(&self) -> Counts {
        lock(&self.state).counts.clone()
    }

    /// Ends it when the last question is answered.
    pub async fn stop(mut self) -> Result<Counts> {
        self.stop.send_replace(true);
        while let Some(ended) = self.loads.join_next().await {
            ended?;
        }
        Ok(self.counts())
    }
}

/// Asks one resolver again and again.
async fn put(resolver: Resolver, state: Arc<Mutex<State>>, period: Duration, mut stopped: watch::Receiver<bool>) {
    let mut questions = JoinSet::new();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            // It also ends when nobody is left who could stop it.
            _ = stopped.wait_for(|stopped| *stopped) => break,
            Some(_) = questions.join_next() => {}
            _ = ticks.tick() => {
                questions.spawn(ask(resolver, Arc::clone(&state)));
            }
        }
    }
    while questions.join_next().await.is_some() {}
}

async fn ask(resolver: Resolver, state: Arc<Mutex<State>>) {
    let (name, asked_at) = {
        let mut state = lock(&state);
        state.counts.asked += 1;
        (state.name.clone(), state.expected.len() - 1)
    };
    let reply = resolver.udp(&name, RecordType::A).await;
    lock(&state).judge(asked_at, &reply);
}

// === impl State ===

impl State {
    /// Counts a reply to a question that was asked when `expected[asked_at]` held.
    fn judge(&mut self, asked_at: usize, reply: &Result<Reply>) {
        let verdict = reply.as_ref().map_or(Verdict::Failed, |reply| self.verdict(asked_at, reply));
        let counts = &mut self.counts;
        let count = match verdict {
            Verdict::Right => &mut counts.right,
            Verdict::Wrong => &mut counts.wrong,
            Verdict::Missing => &mut counts.missing,
            Verdict::Failed => &mut counts.failed,
        };
        *count += 1;
        if verdict != Verdict::Right && counts.offending.len() < KEPT {
            let number = counts.answered();
            counts.offending.push(match reply {
                Ok(reply) => format!("answer {number}: {reply}"),
                Err(error) => format!("answer {number}: {error:#}"),
            });
        }
    }

    fn verdict(&self, asked_at: usize, reply: &Reply) -> Verdict {
        let seen = reply.addresses();
        let expected = &self.expected[asked_at..];
        if reply.code != ResponseCode::NoError {
            Verdict::Failed
        } else if expected.iter().any(|expected| expected.holds(&seen)) {
            Verdict::Right
        } else if expected.iter().any(|expected| expected.allows(&seen)) {
            Verdict::Missing
        } else {
            Verdict::Wrong
        }
    }
}

// === impl Counts ===

impl Counts {
    /// Fails unless every answer was right, and there were at least as many as prove something.
    pub fn flawless(&self, at_least: usize) -> Result {
        ensure!(self.right == self.answered(), "{self}");
        ensure!(self.right >= at_least, "too few to prove anything: {self}");
        Ok(())
    }

    const fn answered(&self) -> usize {
        self.right + self.wrong + self.missing + self.failed
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, right, wrong, missing, failed, offending } = self;
        write!(f, "{asked} asked: {right} right, {wrong} wrong, {missing} missing, {failed} failed")?;
        offending.iter().try_for_each(|reply| write!(f, "\n  {reply}"))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Counts stay what they are, whoever panicked.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::Answer;

    #[test]
    fn a_reply_is_right_if_it_was_at_any_moment_since_it_was_asked_for() {
        let set = |addresses: &[u8]| addresses.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
        let (one, both, other): (BTreeSet<_>, BTreeSet<_>, BTreeSet<_>) = (set(&[1]), set(&[1, 2]), set(&[2]));
        let expected = vec![Expected::exactly(&one), Expected::between(&one, &other), Expected::exactly(&both)];
        let mut state = State { name: String::new(), expected, counts: Counts::default() };
        let reply = |code, addresses: &BTreeSet<IpAddr>| {
            let answer = |address: &IpAddr| Answer {
                name: String::new(),
                kind: RecordType::A,
                ttl: 5,
                data: address.to_string(),
            };
            let answers = addresses.iter().map(answer).collect();
            Ok(Reply { code, authoritative: true, truncated: false, answers, soa: None, extended_error: None })
        };
        let none = BTreeSet::new();
        for (asked_at, code, addresses, verdict) in [
            (0, ResponseCode::NoError, &one, Verdict::Right),
            (1, ResponseCode::NoError, &one, Verdict::Right),
            (2, ResponseCode::NoError, &one, Verdict::Missing),
            (2, ResponseCode::NoError, &both, Verdict::Right),
            (0, ResponseCode::NoError, &other, Verdict::Missing),
            (0, ResponseCode::NoError, &set(&[1, 3]), Verdict::Wrong),
            (0, ResponseCode::NoError, &none, Verdict::Missing),
            (0, ResponseCode::NXDomain, &none, Verdict::Failed),
        ] {
            let before = state.counts.clone();
            state.judge(asked_at, &reply(code, addresses));
            let Counts { right, wrong, missing, failed, .. } = state.counts;
            let grown = match verdict {
                Verdict::Right => right - before.right,
                Verdict::Wrong => wrong - before.wrong,
                Verdict::Missing => missing - before.missing,
                Verdict::Failed => failed - before.failed,
            };
            assert_eq!(grown, 1, "{asked_at} {code:?} {addresses:?}: {}", state.counts);
        }
        state.judge(0, &Err(anyhow!("no answer")));
        assert_eq!(state.counts.failed, 2);
        assert_eq!(state.counts.offending.len(), KEPT);
        assert!(state.counts.flawless(0).is_err());
    }
}
