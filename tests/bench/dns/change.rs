//! What it costs to have one name changed and served, in a small zone and in a large one.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use dns::{Zone, Zones};
use harness::Result;

use super::zone;
use crate::report::median;

/// Names of the two zones.
pub(super) const NAMES: [u32; 2] = [1000, 1_000_000];

/// Changes in one round, and rounds of each zone in turn.
const CHANGES: u32 = 10_000;
const ROUNDS: u32 = 7;

/// A zone as it is served.
struct Served {
    names: u32,
    zone: Zone,
    zones: Zones,
    served: ArcSwap<Zones>,
}

// === impl Served ===

impl Served {
    fn new(names: u32) -> Result<Self> {
        let zone = zone::ours(names)?;
        let zones = Zones::new([Arc::new(zone.clone())]);
        Ok(Self { names, zone, served: ArcSwap::from_pointee(zones.clone()), zones })
    }

    /// Changes names far apart, one by one; microseconds each.
    fn change(&mut self, round: u32) -> Result<f64> {
        let begun = Instant::now();
        for step in 0..CHANGES {
            let number = u32::try_from(u64::from(step) * 7919 % u64::from(self.names))?;
            let (owner, nodes) = zone::service(number, Ipv4Addr::from(0x0b00_0000 + round * CHANGES + step))?;
            self.zone.set_all(&owner, nodes)?;
            self.zone.set_serial(round * CHANGES + step);
            self.zones.set(Arc::new(self.zone.clone()));
            self.served.store(Arc::new(self.zones.clone()));
        }
        Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(CHANGES))
    }
}

/// Microseconds of one change in the small zone and in the large one, and the ratio of the two.
pub(super) fn measure() -> Result<[f64; 3]> {
    let [mut small, mut large] = [Served::new(NAMES[0])?, Served::new(NAMES[1])?];
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        rounds.push([small.change(round)?, large.change(round)?]);
    }
    let of = |number: usize| median(rounds.iter().map(|round| round[number]));
    Ok([of(0), of(1), median(rounds.iter().map(|[small, large]| large / small))])
}
