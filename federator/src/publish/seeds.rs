//! Seeds: which addresses hosts had, as objects in the agent's own cluster still say when a store is lost with all that
//! remembered it. A seed chooses among a host's own candidates, so nobody who writes such an object chooses an address.
//! Knows nothing of these objects.

use model::vip::Vip;
use std::{collections::HashMap, net::IpAddr, sync::Arc};
use tokio::sync::watch;

/// Seeds that are told once: `None` until it is known that there are some, or none.
pub type Sown = watch::Receiver<Option<Arc<Seeds>>>;

/// The addresses that hosts had, by host: of both families, or of the one that the cluster has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seeds(HashMap<String, Vec<IpAddr>>);

// === impl Seeds ===

impl Seeds {
    /// Takes note of what a host had.
    pub fn sow(&mut self, host: &str, addresses: Vec<IpAddr>) {
        if !addresses.is_empty() {
            self.0.insert(host.to_owned(), addresses);
        }
    }

    /// How many hosts are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no host is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The candidate of a host that it had, if it had one of these.
    pub fn choose(&self, host: &str, mut candidates: impl Iterator<Item = Vip>) -> Option<Vip> {
        let had = self.0.get(host)?;
        candidates.find(|vip| had.iter().all(|address| *address == vip.v4 || *address == vip.v6))
    }
}
