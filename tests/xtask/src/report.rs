//! A run of named steps: announces each, times it, goes on after a failure, and sums up at the end.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

/// The steps done so far.
#[derive(Default)]
pub(crate) struct Report(Vec<Done>);

struct Done {
    step: String,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Failed,
    /// Not run, with the reason.
    Left(&'static str),
}

// === impl Report ===

impl Report {
    /// Runs one step; true if it passed.
    pub(crate) fn step(&mut self, name: impl Into<String>, work: impl FnOnce() -> Result<()>) -> bool {
        let step = name.into();
        println!("\n== {step}");
        let start = Instant::now();
        let result = work();
        let took = start.elapsed();
        if let Err(error) = &result {
            eprintln!("error: {step}: {error:#}");
        }
        println!("== {step}: {} after {}", if result.is_ok() { "passed" } else { "FAILED" }, seconds(took));
        let outcome = if result.is_ok() { Outcome::Passed } else { Outcome::Failed };
        self.0.push(Done { step, took, outcome });
        result.is_ok()
    }

    /// Notes a step that cannot be run because an earlier one failed, or because it has nothing to work on.
    pub(crate) fn left(&mut self, name: impl Into<String>, why: &'static str) {
        self.0.push(Done { step: name.into(), took: Duration::ZERO, outcome: Outcome::Left(why) });
    }

    /// Prints the summary; failure if any step failed.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\n== summary");
        for Done { step, took, outcome } in &self.0 {
            match outcome {
                Outcome::Passed => println!("passed   {:>9}  {step}", seconds(*took)),
                Outcome::Failed => println!("FAILED   {:>9}  {step}", seconds(*took)),
                Outcome::Left(why) => println!("not run             {step}: {why}"),
            }
        }
        if self.0.iter().any(|done| matches!(done.outcome, Outcome::Failed)) {
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// A duration for people.
pub(crate) fn seconds(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min {:02.0} s", (seconds / 60.0).floor(), (seconds % 60.0).floor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_millis(119_900)), "1 min 59 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }
}
