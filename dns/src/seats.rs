//! Who has how many connections. Half of all are kept for forwarders, where some are named, and a client that is none may be
//! held to fewer: whoever opens connections without end keeps nobody else from being answered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::policy::Policy;
use crate::server::Limits;

/// The connections of one address.
#[derive(Debug)]
pub(crate) struct Seats {
    limits: Limits,
    policy: Arc<Policy>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    forwarders: usize,
    others: HashMap<IpAddr, usize>,
    of_others: usize,
}

/// A connection that is counted until this is dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    /// `None` for a forwarder's.
    client: Option<IpAddr>,
}

// === impl Seats ===

impl Seats {
    pub(crate) fn new(limits: Limits, policy: Arc<Policy>) -> Arc<Self> {
        Arc::new(Self { limits, policy, taken: Mutex::default() })
    }

    /// A seat for this client, if there is one.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Seat> {
        let client = Some(client.to_canonical()).filter(|client| !self.policy.is_forwarder(*client));
        let Limits { tcp_connections, tcp_per_client, .. } = self.limits;
        let mut taken = self.taken();
        if taken.forwarders + taken.of_others >= tcp_connections {
            return None;
        }
        match client {
            None => taken.forwarders += 1,
            Some(client) => {
                let known = taken.others.get(&client).copied().unwrap_or_default();
                let is_full = !self.policy.forwarders.is_empty() && taken.of_others >= tcp_connections.div_ceil(2);
                if is_full || tcp_per_client.is_some_and(|most| known >= most.get()) {
                    return None;
                }
                taken.others.insert(client, known + 1);
                taken.of_others += 1;
            }
        }
        drop(taken);
        Some(Seat { seats: self.clone(), client })
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        // Numbers are right at every moment.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Seat ===

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        let Some(client) = self.client else {
            taken.forwarders -= 1;
            return;
        };
        taken.of_others -= 1;
        match taken.others.get_mut(&client) {
            Some(seats) if *seats > 1 => *seats -= 1,
            _ => _ = taken.others.remove(&client),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many seats each of these gets, one after the other, and all keep theirs.
    fn given(limits: Limits, policy: Policy, asked: &[(&str, usize)]) -> Vec<usize> {
        let seats = Seats::new(limits, Arc::new(policy));
        let mut held = Vec::new();
        let mut take = |(client, count): &(&str, usize)| {
            let before = held.len();
            held.extend((0..*count).filter_map(|_| seats.take(client.parse().unwrap())));
            held.len() - before
        };
        let given = asked.iter().map(&mut take).collect();
        drop(held);
        let left = seats.taken();
        assert_eq!((left.forwarders, left.of_others, left.others.len()), (0, 0, 0), "all come back");
        given
    }

    #[test]
    fn forwarders_always_find_one() {
        let limits = Limits { tcp_connections: 10, ..Limits::default() };
        assert_eq!(given(limits, Policy::default(), &[("10.0.0.1", 20), ("10.0.0.2", 1)]), [10, 0]);
        let named = || Policy { forwarders: vec!["10.0.0.10/32".parse().unwrap()], ..Policy::default() };
        assert_eq!(given(limits, named(), &[("10.0.0.1", 20), ("10.0.0.10", 20), ("10.0.0.2", 1)]), [5, 5, 0]);
        assert_eq!(given(limits, named(), &[("::ffff:10.0.0.10", 20), ("10.0.0.1", 1)]), [10, 0]);
        let few = Limits { tcp_per_client: std::num::NonZero::new(2), ..limits };
        assert_eq!(given(few, named(), &[("10.0.0.1", 20), ("10.0.0.2", 1), ("10.0.0.10", 5)]), [2, 1, 5]);
    }
}
