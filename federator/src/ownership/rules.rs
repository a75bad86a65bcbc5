//! The rules of ownership: who looks at a cluster, who says that it could own it, who takes it and who hands it on. Pure:
//! what is known goes in with the time, and what is to be done comes out, with the time at which to ask again.
//!
//! | who | looks | takes a vacant cluster |
//! |---|---|---|
//! | home: in the cluster | unless another one of home owns it | at once |
//! | deputy: holds its Secret | when nobody has owned it for a while, or its owner has been blind for a while | then |
//!
//! Only who is *qualified* takes a cluster or is handed one: it sees the cluster now, and at least as much of it as the
//! marker says was there. Nothing here is needed for safety, which is the store's fence; so all of it may rest on what
//! was gathered a moment ago.

use crate::gather::fold::Seats;
use model::seat::{Candidate, Role};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long things must last before something is done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A cluster must be without an owner that sees it, before a deputy looks at it.
    pub deputy_after: Duration,
    /// An owner must be blind, before it hands the cluster to somebody who is not.
    pub resign_after: Duration,
    /// The cluster's own agent must have been qualified, before a deputy hands the cluster back. Doubled by every time
    /// that it was lost again soon.
    pub hand_back_after: Duration,
}

/// The longest time before a cluster is handed back, in multiples of the first.
const MOST_PATIENCE: u32 = 32;

/// What an agent sees of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It does not look, or has not seen everything yet, or less than was there before.
    None,
    /// Everything, as it is now.
    Clear,
    /// It saw everything, and nothing is news since then.
    Blind(Instant),
}

/// What is known at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What time it is.
    pub now: Instant,
    /// What this agent is to the cluster.
    pub role: Role,
    /// This agent's name.
    pub agent: &'a str,
    /// Whether this agent knows that it owns the cluster, though what was gathered may not show it yet.
    pub owns: bool,
    /// Who publishes the cluster, and who could; `None` while the store is not followed.
    pub seats: Option<&'a Seats>,
    /// Whether the cluster's owner says that it is blind.
    pub frozen: bool,
    /// Whether the store says all that is known of the cluster.
    pub said: bool,
    /// Whether the cluster is removed from the fleet.
    pub removed: bool,
    /// What this agent sees of it.
    pub sight: Sight,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether to look at the cluster.
    pub look: bool,
    /// Whether to stand as a candidate, and whether as a qualified one.
    pub stand: Option<bool>,
    /// What to do about the owner key.
    pub act: Act,
    /// When to ask again, if nothing happens before.
    pub again: Option<Instant>,
}

/// What to do about the owner key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Wait,
    /// Take it: it is vacant.
    Take,
    /// Go on as the owner.
    Keep,
    /// Hand it to this candidate.
    HandTo(Arc<str>, Candidate),
}

/// What is remembered of the past.
#[derive(Debug)]
pub struct Rules {
    timing: Timing,
    /// This agent's own part of the time before a deputy looks, so that not all of them do at once.
    patience: Duration,
    vacant_since: Option<Instant>,
    frozen_since: Option<Instant>,
    /// Since when somebody else has stood without being qualified.
    rival_since: Option<Instant>,
    home_ready_since: Option<Instant>,
    /// Whether this deputy has begun to look.
    looks: bool,
}

// === impl Rules ===

impl Rules {
    /// Nothing happened yet. `share`, of 0 to 255, is this agent's place among the deputies of one cluster.
    pub fn new(timing: Timing, share: u8) -> Self {
        Self {
            timing,
            patience: timing.deputy_after * u32::from(share) / 255,
            vacant_since: None,
            frozen_since: None,
            rival_since: None,
            home_ready_since: None,
            looks: false,
        }
    }

    /// What is to be done now.
    pub fn decide(&mut self, at: &Situation<'_>) -> Decision {
        let idle = Decision { look: at.role == Role::Home, stand: None, act: Act::Wait, again: None };
        if at.removed {
            self.looks = idle.look;
            return idle;
        }
        let Some(seats) = at.seats else {
            // Nothing can be taken or handed on. Who owns the cluster keeps it fresh, and whose it is does so too; and what
            // is looked at already may be known by that alone.
            self.looks |= idle.look || at.owns;
            return Decision { look: self.looks, act: if at.owns { Act::Keep } else { Act::Wait }, ..idle };
        };
        self.remember(at, seats);
        if at.owns {
            return self.own(at, seats);
        }
        let others = seats.owner.as_ref();
        let (look, again) = match (at.role, others) {
            (Role::Home, Some((owner, _))) => {
                let is_needed = owner.role != Role::Home || self.is_overdue(at, self.frozen_since);
                (is_needed || self.is_missed(at), None)
            }
            (Role::Home, None) => (true, None),
            (_, Some((owner, _))) if owner.role == Role::Caretaker => (true, None),
            (_, Some(_)) if self.is_missed(at) => (true, None),
            (_, Some(_)) => self.wait_and_look(at, self.frozen_since),
            (_, None) => self.wait_and_look(at, self.vacant_since),
        };
        self.looks = look;
        let qualified = at.sight == Sight::Clear;
        let waits_for_home = at.role != Role::Home && best(seats, at).is_some_and(|(_, best)| best.role == Role::Home);
        let act = if others.is_none() && qualified && look && !waits_for_home { Act::Take } else { Act::Wait };
        // Whose it is takes it where it is vacant, and has nobody to tell.
        let stands = look && (at.role != Role::Home || others.is_some());
        Decision { look, stand: stands.then_some(qualified), act, again }
    }

    /// What the owner does.
    fn own(&mut self, at: &Situation<'_>, seats: &Seats) -> Decision {
        self.looks = true;
        let keep = Decision { look: at.role != Role::Caretaker, stand: None, act: Act::Keep, again: None };
        let Some((agent, candidate)) = best(seats, at) else { return keep };
        let due = match at.sight {
            _ if at.role == Role::Caretaker => at.now,
            Sight::Blind(since) => since + self.timing.resign_after,
            // It is handed on to whoever is nearer to the cluster, once that one has been steady.
            Sight::Clear if candidate.role < at.role => {
                let flaps = seats.owner.as_ref().map_or(0, |(owner, _)| owner.flaps);
                let times = 2_u32.saturating_pow(flaps).min(MOST_PATIENCE);
                self.home_ready_since.unwrap_or(at.now) + self.timing.hand_back_after * times
            }
            Sight::Clear | Sight::None => return keep,
        };
        if due <= at.now {
            return Decision { act: Act::HandTo(agent, candidate), ..keep };
        }
        Decision { again: Some(due), ..keep }
    }

    /// Whether a deputy looks, given since when there is reason to.
    fn wait_and_look(&self, at: &Situation<'_>, since: Option<Instant>) -> (bool, Option<Instant>) {
        let Some(since) = since else { return (false, None) };
        if self.looks {
            return (true, None);
        }
        let due = since + self.timing.deputy_after + self.patience;
        // Somebody else has begun to look: it gets its time.
        let due = self.rival_since.map_or(due, |rival| due.max(rival + self.timing.deputy_after + self.patience));
        if at.now >= due { (true, None) } else { (false, Some(due)) }
    }

    /// Whether nothing is known of the cluster but by looking, until its new owner has said something.
    fn is_missed(&self, at: &Situation<'_>) -> bool {
        self.looks && !at.said
    }

    fn is_overdue(&self, at: &Situation<'_>, since: Option<Instant>) -> bool {
        since.is_some_and(|since| at.now >= since + self.timing.resign_after)
    }

    fn remember(&mut self, at: &Situation<'_>, seats: &Seats) {
        let since = |is: bool, was: Option<Instant>| is.then(|| was.unwrap_or(at.now));
        self.vacant_since = since(seats.owner.is_none(), self.vacant_since);
        self.frozen_since = since(at.frozen && seats.owner.is_some(), self.frozen_since);
        let others =
            || seats.candidates.iter().filter(|(agent, _)| ***agent != *at.agent).map(|(_, candidate)| candidate);
        self.rival_since = since(others().any(|candidate| candidate.role != Role::Home), self.rival_since);
        let home_ready = others().any(|candidate| candidate.role == Role::Home && candidate.qualified);
        self.home_ready_since = since(home_ready, self.home_ready_since);
    }
}

/// The candidate to hand the cluster to: qualified, and the nearest to it.
fn best(seats: &Seats, at: &Situation<'_>) -> Option<(Arc<str>, Candidate)> {
    let others = seats.candidates.iter().filter(|(agent, candidate)| candidate.qualified && ***agent != *at.agent);
    others.min_by_key(|(agent, candidate)| (candidate.role, (*agent).clone())).map(|(agent, c)| (agent.clone(), *c))
}

#[cfg(test)]
mod tests;
