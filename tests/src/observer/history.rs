//! What an observer saw, in order, each line with the time since it began; and what of it must not be.
//!
//! It knows nothing of why something must not be.

use std::fmt;

use tokio::time::Instant;

/// Violations that are kept in words; one agent that is wrong is wrong a hundred times.
const KEPT: usize = 40;

/// Lines shown around the first violation.
const SHOWN: usize = 60;

/// Everything that was noted.
#[derive(Debug)]
pub(super) struct History {
    begun: Instant,
    lines: Vec<String>,
    /// The lines that are violations, by number.
    violations: Vec<usize>,
    /// How many there were, kept or not.
    wrong: usize,
}

// === impl History ===

impl History {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), lines: Vec::new(), violations: Vec::new(), wrong: 0 }
    }

    pub(super) fn note(&mut self, what: &str) {
        self.lines.push(format!("{:8.3} s  {what}", self.begun.elapsed().as_secs_f64()));
    }

    pub(super) fn violation(&mut self, what: &str) {
        self.wrong += 1;
        if self.violations.len() < KEPT {
            self.violations.push(self.lines.len());
            self.note(&format!("WRONG: {what}"));
        }
    }

    pub(super) const fn wrong(&self) -> usize {
        self.wrong
    }

    /// All violations that were kept, and what came before and after the first.
    pub(super) fn excerpt(&self) -> String {
        let wrong: Vec<_> = self.violations.iter().map(|at| &*self.lines[*at]).collect();
        let first = self.violations.first().copied().unwrap_or(0);
        let from = first.saturating_sub(SHOWN / 2);
        let around = &self.lines[from..self.lines.len().min(from + SHOWN)];
        format!("{}\naround the first of them:\n{}", wrong.join("\n"), around.join("\n"))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
