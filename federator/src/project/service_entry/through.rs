//! Endpoints of other networks, as the gateways that lead to them: one entry a gateway, over all zones and clusters behind
//! it, because Envoy keeps only the first of several with one address. What it weighs is how many are behind it, in steps,
//! so that a pod more or less elsewhere does not rewrite an object here.

use super::port_name;
use crate::emit::service_entry::{Endpoint, Labels};
use model::{
    export::{self, Workload},
    gateway::Gateway,
    locality::Network,
    reach::{Entrance, Through, Usable},
};
use std::{borrow::Cow, collections::BTreeMap};

/// Most units that an endpoint weighs. Where gateways cannot be divided evenly by so few, shares are rounded.
const MAX_UNIT: u32 = 60;

/// What is behind one gateway.
struct Behind<'a> {
    entrance: Entrance<'a>,
    weight: u32,
    workload: Workload,
}

/// The gateways as endpoints on these ports, and what an endpoint that is reached directly weighs beside them.
pub(super) fn endpoints<'a>(
    through: &[Through<'a>],
    ports: &[&'a export::Port],
    here: &Network,
) -> (u32, Vec<Endpoint<'a>>) {
    let counts = || through.iter().map(|through| u32::try_from(through.gateways.len()).unwrap_or(u32::MAX));
    let unit = counts().fold(1, least_common_multiple);
    let mut all: BTreeMap<&Gateway, Behind<'a>> = BTreeMap::new();
    for (through, count) in through.iter().zip(counts()) {
        let weight = (quantised(through.endpoints.len()) * unit).div_ceil(count);
        for entrance in &through.gateways {
            let behind = all.entry(entrance.gateway).or_insert_with(|| Behind {
                entrance: *entrance,
                weight: 0,
                workload: first(&through.endpoints),
            });
            behind.weight = behind.weight.saturating_add(weight);
            through.endpoints.iter().for_each(|usable| keep_common(&mut behind.workload, usable));
        }
    }
    let endpoint = |(gateway, behind): (&'a Gateway, Behind<'a>)| Endpoint {
        address: &gateway.address,
        labels: Labels { cluster: behind.entrance.cluster.as_str(), workload: Cow::Owned(behind.workload) },
        locality: behind.entrance.locality,
        network: network(gateway, &behind.entrance, here),
        ports: ports.iter().map(|port| (port_name(port), gateway.port)).collect(),
        weight: (behind.weight != 1).then_some(behind.weight),
    };
    (unit, all.into_iter().map(endpoint).collect())
}

/// The network of an endpoint that is a gateway: never the one here. The gateways here see the endpoints of their own
/// network, and what came in through one of them would leave through another, and so round for ever.
fn network<'a>(gateway: &'a Gateway, entrance: &Entrance<'a>, here: &Network) -> Cow<'a, str> {
    match gateway.network.as_str() {
        network if gateway.network == *here => format!("{}.{network}", entrance.cluster).into(),
        network => network.into(),
    }
}

fn first(endpoints: &[Usable<'_>]) -> Workload {
    let labels = endpoints.first().map(|usable| usable.member.endpoint.workload.labels.clone());
    Workload { labels: labels.unwrap_or_default(), ..Workload::default() }
}

/// Leaves the labels that an endpoint has too: a subset may choose a gateway only where it would choose all behind it.
fn keep_common(workload: &mut Workload, usable: &Usable<'_>) {
    let labels = &usable.member.endpoint.workload.labels;
    workload.labels.retain(|key, value| labels.get(key) == Some(value));
}

/// A number near this one, of three significant bits behind the first: at most 6 % off, and exact up to sixteen.
fn quantised(count: usize) -> u32 {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let step = 1 << count.checked_ilog2().unwrap_or_default().saturating_sub(3);
    (count.saturating_add(step / 2) / step).saturating_mul(step)
}

fn least_common_multiple(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a.saturating_mul(b / x.max(1)).min(MAX_UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_are_exact_and_large_ones_near() {
        assert!((0..=16).all(|count| quantised(count) == u32::try_from(count).expect("small")));
        for (count, weight) in [(17, 18), (18, 18), (19, 20), (31, 32), (100, 104), (1000, 1024), (4096, 4096)] {
            assert_eq!(quantised(count), weight, "{count}");
        }
        for count in 1..100_000_usize {
            let (exact, weight) = (f64::from(u32::try_from(count).expect("small")), f64::from(quantised(count)));
            assert!((weight / exact - 1.0).abs() < 0.063, "{count}");
        }
    }

    #[test]
    fn units_divide_evenly_where_they_can() {
        assert_eq!([2, 3].into_iter().fold(1, least_common_multiple), 6);
        assert_eq!([4, 6].into_iter().fold(1, least_common_multiple), 12);
        assert_eq!([7, 11].into_iter().fold(1, least_common_multiple), MAX_UNIT);
        assert_eq!(least_common_multiple(1, 0), 0);
    }
}
