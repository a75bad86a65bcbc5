//! Where the time goes: the agents' own log lines put between the moments that were measured from outside.
//!
//! Agents and benchmark share one machine, hence one clock. A line is written when its stage is done, so `published`
//! comes after the store's answer, which other agents may have seen by then: a negative step is no mistake.

use std::time::SystemTime;

use anyhow::Context;
use harness::Result;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::federated::Times;
use crate::report::{Table, median};

/// Log lines of one message, as milliseconds since 1970.
struct Lines(Vec<f64>);

/// Prints the middle of every step.
pub(super) fn report(samples: &[Times], west: &str, east: &str) -> Result {
    let published = Lines::of(west, "published")?;
    let projected = Lines::of(east, "projected")?;
    let emitted = Lines::of(east, "emitted")?;
    let mut table = Table::new(["step (logging costs time here)", "p50 ms"]);
    let mut row = |name: &str, step: &dyn Fn(&Times) -> Option<f64>| {
        let middle = median(samples.iter().filter_map(step));
        table.row([name.to_owned(), format!("{middle:.2}")]);
    };
    let sent = |times: &Times| millis(times.sent_by_clock);
    let projected_after = |times: &Times| projected.after(sent(times));
    row("sent -> published in west", &|times| Some(published.after(sent(times))? - sent(times)));
    row("published in west -> projected in east", &|times| {
        Some(projected_after(times)? - published.after(sent(times))?)
    });
    row("projected -> answered", &|times| {
        let answered = sent(times) + times.answer().as_secs_f64() * 1e3;
        Some(answered - projected_after(times)?)
    });
    row("projected -> emitted", &|times| Some(emitted.after(sent(times))? - projected_after(times)?));
    row("projected -> ServiceEntry seen", &|times| {
        let seen = sent(times) + times.entry().as_secs_f64() * 1e3;
        Some(seen - projected_after(times)?)
    });
    table.print();
    Ok(())
}

// === impl Lines ===

impl Lines {
    fn of(log: &str, message: &str) -> Result<Self> {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let stamps = lines.filter(|line| line["message"] == message).map(|line| {
            let stamp: Timestamp = line["timestamp"].as_str().context("no timestamp")?.parse()?;
            Ok(millis(stamp.into()))
        });
        stamps.collect::<Result<_>>().map(Self)
    }

    fn after(&self, time: f64) -> Option<f64> {
        let first = self.0.partition_point(|stamp| *stamp < time);
        self.0.get(first).copied()
    }
}

fn millis(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}
