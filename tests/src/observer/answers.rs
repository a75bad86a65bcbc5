//! Which answers of DNS an observer accepts. Pure: it is told who was asked what and when, and what came back.
//!
//! A name that is expected never is NXDOMAIN, empty or a failure. An answer is right if it was at any moment between
//! its question and itself; what is no longer right may be said for as long as the bound, and no longer. A virtual
//! address stays what it was when it was first seen, whoever is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::{Expected, Reply, ResponseCode, Result};

/// What is right, and was seen.
#[derive(Debug)]
pub(super) struct Answers {
    /// How long an answer may stay that is not right any more.
    bound: Duration,
    /// By name and network: all that was ever expected, the present last.
    expected: BTreeMap<(String, &'static str), Vec<Phase>>,
    vips: BTreeMap<String, BTreeSet<IpAddr>>,
    away: BTreeMap<usize, Away>,
}

/// A question and its reply.
pub(super) struct Asked<'a> {
    /// Which of the agents.
    pub(super) agent: usize,
    /// Its network.
    pub(super) network: &'static str,
    pub(super) name: &'a str,
    pub(super) at: Instant,
    pub(super) answered: Instant,
    pub(super) reply: &'a Result<Reply>,
}

#[derive(Debug)]
struct Phase {
    since: Instant,
    expected: Expected,
}

/// When an agent was not expected to answer.
#[derive(Debug)]
struct Away {
    since: Instant,
    until: Option<Instant>,
}

// === impl Answers ===

impl Answers {
    pub(super) const fn new(bound: Duration) -> Self {
        Self { bound, expected: BTreeMap::new(), vips: BTreeMap::new(), away: BTreeMap::new() }
    }

    /// Changes what is right from now on for the agents of a network.
    pub(super) fn expect(&mut self, name: &str, network: &'static str, expected: Expected, now: Instant) {
        self.expected.entry((name.to_owned(), network)).or_default().push(Phase { since: now, expected });
    }

    /// The names that are expected on a network.
    pub(super) fn names(&self, network: &str) -> Vec<String> {
        self.expected.keys().filter(|(_, of)| *of == network).map(|(name, _)| name.clone()).collect()
    }

    /// From now on an agent may be silent, or know less than the others.
    pub(super) fn leave(&mut self, agent: usize, now: Instant) {
        self.away.insert(agent, Away { since: now, until: None });
    }

    /// From now on it has to answer like everybody; for as long as the bound it may say what was right when it left.
    pub(super) fn back(&mut self, agent: usize, now: Instant) {
        if let Some(away) = self.away.get_mut(&agent) {
            away.until = Some(now);
        }
    }

    /// What is wrong with a reply of an `endpoints` listener.
    pub(super) fn endpoints(&self, asked: &Asked<'_>) -> Option<String> {
        let phases = self.expected.get(&(asked.name.to_owned(), asked.network))?;
        let reply = match self.refuse(asked) {
            Ok(Some(reply)) => reply,
            Ok(None) => return None,
            Err(wrong) => return Some(wrong),
        };
        let seen = reply.addresses();
        let right = if self.is_away(asked) {
            phases.iter().any(|phase| phase.expected.allows(&seen))
        } else {
            let since = self.excused_since(asked);
            phases.iter().enumerate().any(|(number, phase)| {
                let ends = phases.get(number + 1).map(|next| next.since + self.bound);
                phase.since <= asked.answered && ends.is_none_or(|ends| ends >= since) && phase.expected.holds(&seen)
            })
        };
        (!right).then(|| format!("{} is {reply}; expected: {:?}", asked.name, phases.last().map(|p| &p.expected)))
    }

    /// What is wrong with a reply of a `vip` listener.
    pub(super) fn vip(&mut self, asked: &Asked<'_>) -> Option<String> {
        let reply = match self.refuse(asked) {
            Ok(Some(reply)) => reply,
            Ok(None) => return None,
            Err(wrong) => return Some(wrong),
        };
        let seen = reply.addresses();
        if seen.is_empty() {
            return (!self.is_away(asked)).then(|| format!("{} has no virtual address: {reply}", asked.name));
        }
        let known = self.vips.entry(asked.name.to_owned()).or_insert_with(|| seen.clone());
        (*known != seen).then(|| format!("the virtual address of {} was {known:?} and is {seen:?}", asked.name))
    }

    /// What no reply may be, or a reply to be looked at; neither, if an agent that is away gave none.
    fn refuse<'a>(&self, asked: &Asked<'a>) -> std::result::Result<Option<&'a Reply>, String> {
        match asked.reply {
            Ok(reply) if reply.code == ResponseCode::NoError => Ok(Some(reply)),
            Ok(reply) if reply.code == ResponseCode::NXDomain => Err(format!("{} is {reply}", asked.name)),
            _ if self.is_away(asked) => Ok(None),
            Ok(reply) => Err(format!("{} is {reply}", asked.name)),
            Err(error) => Err(format!("{} has no answer: {error:#}", asked.name)),
        }
    }

    fn is_away(&self, asked: &Asked<'_>) -> bool {
        let away = self.away.get(&asked.agent);
        away.is_some_and(|away| away.since <= asked.answered && away.until.is_none_or(|until| asked.at <= until))
    }

    /// What was right from this moment on is right, for one that has just come back.
    fn excused_since(&self, asked: &Asked<'_>) -> Instant {
        match self.away.get(&asked.agent) {
            Some(Away { since, until: Some(until) }) if asked.at <= *until + self.bound => *since,
            _ => asked.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::{Answer, RecordType};

    const BOUND: Duration = Duration::from_secs(10);
    const NAME: &str = "web.test.global";

    fn set(addresses: &[u8]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect()
    }

    fn reply(code: ResponseCode, addresses: &[u8]) -> Result<Reply> {
        let answer =
            |address: IpAddr| Answer { name: String::new(), kind: RecordType::A, ttl: 5, data: address.to_string() };
        let answers = set(addresses).into_iter().map(answer).collect();
        Ok(Reply { code, authoritative: true, truncated: false, answers, soa: None, extended_error: None })
    }

    fn at(start: Instant, second: u64, reply: &Result<Reply>) -> Asked<'_> {
        let at = start + Duration::from_secs(second);
        Asked { agent: 0, network: "n1", name: NAME, at, answered: at, reply }
    }

    /// `[1, 2]` until second 100, and `[1]` from then on.
    fn shrinking(start: Instant) -> Answers {
        let mut answers = Answers::new(BOUND);
        answers.expect(NAME, "n1", Expected::exactly(&set(&[1, 2])), start);
        answers.expect(NAME, "n1", Expected::exactly(&set(&[1])), start + Duration::from_secs(100));
        answers
    }

    #[test]
    fn what_left_may_be_said_as_long_as_the_bound() {
        let start = Instant::now();
        let answers = shrinking(start);
        for (second, addresses, right) in [
            (50, &[1, 2][..], true),
            (50, &[1], false),
            (105, &[1, 2], true),
            (105, &[1], true),
            (111, &[1, 2], false),
            (111, &[1], true),
            (111, &[], false),
            (111, &[1, 3], false),
        ] {
            let reply = reply(ResponseCode::NoError, addresses);
            let wrong = answers.endpoints(&at(start, second, &reply));
            assert_eq!(wrong.is_none(), right, "{second} {addresses:?}: {wrong:?}");
        }
    }

    #[test]
    fn a_name_never_fails_and_never_vanishes() {
        let start = Instant::now();
        let answers = shrinking(start);
        for bad in [reply(ResponseCode::ServFail, &[]), reply(ResponseCode::NXDomain, &[]), Err(anyhow!("silence"))] {
            assert!(answers.endpoints(&at(start, 50, &bad)).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn who_is_away_may_be_silent_and_must_not_lie() {
        let start = Instant::now();
        let mut answers = shrinking(start);
        answers.leave(0, start + Duration::from_secs(90));
        answers.back(0, start + Duration::from_secs(200));
        for (second, given, right) in [
            (150, Err(anyhow!("silence")), true),
            (150, reply(ResponseCode::ServFail, &[]), true),
            (150, reply(ResponseCode::NoError, &[1]), true),
            (150, reply(ResponseCode::NXDomain, &[]), false),
            (150, reply(ResponseCode::NoError, &[9]), false),
            // It is back, and says what was right when it left.
            (205, reply(ResponseCode::NoError, &[1, 2]), true),
            (205, Err(anyhow!("silence")), false),
            (211, reply(ResponseCode::NoError, &[1, 2]), false),
            (211, reply(ResponseCode::NoError, &[1]), true),
        ] {
            let wrong = answers.endpoints(&at(start, second, &given));
            assert_eq!(wrong.is_none(), right, "{second} {given:?}: {wrong:?}");
        }
    }

    #[test]
    fn a_virtual_address_stays() {
        let start = Instant::now();
        let mut answers = shrinking(start);
        let mut wrong = |given| answers.vip(&at(start, 50, &given)).is_some();
        assert!(wrong(reply(ResponseCode::NoError, &[])));
        assert!(!wrong(reply(ResponseCode::NoError, &[7])));
        assert!(wrong(reply(ResponseCode::NoError, &[8])));
        assert!(wrong(reply(ResponseCode::NoError, &[7, 8])));
        assert!(wrong(reply(ResponseCode::NXDomain, &[])));
        assert!(!wrong(reply(ResponseCode::NoError, &[7])));
    }
}
