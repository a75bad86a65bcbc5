//! How a link is at the moment, and what becomes of one call because of it. Knows nothing of what is called.

use crate::dice::Dice;
use std::{fmt, time::Duration};
use tokio::time::Instant;

/// How a link is at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Longest time that half a way takes, in milliseconds.
    pub(crate) slow: u64,
    /// Longest time that a watch is behind, in milliseconds.
    pub(crate) lag: u64,
    /// One call in so many has a fate; zero: none has.
    pub(crate) rough: u32,
    /// What does not get through, and since when.
    pub(crate) cut: Option<(Cut, Instant)>,
    /// Watches that were open at this time hear nothing any more.
    pub(crate) silent_since: Option<Instant>,
    /// How often watches were broken.
    pub(crate) breaks: u64,
}

/// What of a link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing gets through, and nobody says so.
    Silent,
    /// Nothing gets through, and whoever tries is told.
    Refused,
    /// Requests get through, answers do not.
    Answers,
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) late: Duration,
    pub(crate) request_lost: bool,
    pub(crate) twice: bool,
    pub(crate) second_answer: bool,
    pub(crate) answer_lost: bool,
}

// === impl Weather ===

impl Weather {
    /// Nothing happens.
    pub(crate) fn calm() -> Self {
        Self { slow: 10, lag: 30, rough: 0, cut: None, silent_since: None, breaks: 0 }
    }

    pub(super) fn delay(&self, dice: &Dice) -> Duration {
        dice.millis(0..=self.slow)
    }

    pub(super) fn behind(&self, dice: &Dice) -> Duration {
        dice.millis(0..=self.lag)
    }

    pub(super) fn carries_requests(&self) -> bool {
        !matches!(self.cut, Some((Cut::Silent | Cut::Refused, _)))
    }

    pub(super) fn carries_answers(&self) -> bool {
        self.cut.is_none()
    }

    /// Whether it is not even heard that something got lost.
    pub(super) fn is_silent(&self, dice: &Dice) -> bool {
        match self.cut {
            Some((Cut::Refused, _)) => false,
            Some((Cut::Silent | Cut::Answers, _)) => true,
            None => dice.once_in(2),
        }
    }

    pub(super) fn fate(&self, dice: &Dice) -> Fate {
        let mut fate = Fate::default();
        if self.rough == 0 || !dice.once_in(self.rough) {
            return fate;
        }
        match dice.number(0..=4) {
            0 => fate.request_lost = true,
            1 => fate.answer_lost = true,
            // Perhaps after its sender gave up.
            2 => fate.late = dice.millis(500..=9000),
            3 => fate.twice = true,
            _ => (fate.twice, fate.second_answer) = (true, true),
        }
        fate
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { request_lost: true, .. } => f.write_str("the request gets lost"),
            Self { answer_lost: true, .. } => f.write_str("the answer gets lost"),
            Self { twice: true, second_answer: true, .. } => f.write_str("arrives twice, answered for the second"),
            Self { twice: true, .. } => f.write_str("arrives twice"),
            Self { late, .. } => write!(f, "arrives {late:?} late"),
        }
    }
}
