//! The protocol of ownership and synchronisation, as the same code that the daemon runs, over a simulated store, network
//! and clock: thousands of seeds, each a schedule of crashes, delays, lost and repeated answers, and what must hold in
//! all of them.
//!
//! A seed that fails prints what happened, and is run again by
//! `FEDERATOR_SIM_SEEDS=SEED cargo test -p federator-tests --test sim`; `A..B` runs a range.

mod agent;
mod dice;
mod eye;
mod faults;
mod invariants;
mod journal;
mod link;
mod source;
mod stages;
mod store;
mod tasks;
mod witness;
mod world;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// The seeds of the default run.
const SEEDS: Range<u64> = 0..10_000;

/// The seeds to run.
const VARIABLE: &str = "FEDERATOR_SIM_SEEDS";

/// After so many failures a run ends: more of them say no more.
const ENOUGH: usize = 20;

#[test]
fn what_must_hold_does_hold() {
    let seeds = seeds();
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..workers {
            scope.spawn(|| work(&next, seeds.end, &failed));
        }
    });
    let failed = journal::locked(&failed);
    let Some(first) = failed.keys().next() else { return };
    let told = world::run(*first, true);
    let all: String =
        failed.iter().map(|(seed, why)| format!("\n{seed}: {}", why.lines().next().unwrap_or(""))).collect();
    panic!("{told}\n\nseeds that failed:{all}\nagain: {VARIABLE}={first} cargo test -p federator-tests --test sim");
}

/// Runs seeds until there are no more, or enough have failed.
fn work(next: &AtomicU64, end: u64, failed: &Mutex<BTreeMap<u64, String>>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || journal::locked(failed).len() >= ENOUGH {
            return;
        }
        if let Some(why) = world::run(seed, false).failure {
            journal::locked(failed).insert(seed, why);
        }
    }
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var(VARIABLE) else { return SEEDS };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match text.split_once("..") {
        Some((start, end)) => number(start).zip(number(end)).map(|(start, end)| start..end),
        None => number(&text).map(|seed| seed..seed + 1),
    };
    range.unwrap_or_else(|| panic!("{VARIABLE} is `{text}`: give a seed, or a range as `0..10000`"))
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 0..20 {
        let (once, again) = (world::run(seed, true), world::run(seed, true));
        let differ = once.lines.iter().zip(&again.lines).find(|(once, again)| once != again);
        assert!(differ.is_none() && once == again, "seed {seed}: {differ:#?}");
    }
}
