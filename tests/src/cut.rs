//! A partition between two places, for as long as somebody holds it.

use crate::Result;
use crate::network::Network;
use crate::place::Place;

/// Drops every packet between two places, both ways, connections that exist included; all other pairs go on.
/// It heals when dropped.
#[derive(Debug)]
#[must_use = "a cut heals when it is dropped"]
pub struct Cut {
    network: &'static Network,
    /// The name of the rule; taken by whoever heals first.
    table: Option<String>,
}

impl Cut {
    pub(crate) fn make(network: &'static Network, a: Place, b: Place) -> Result<Self> {
        let mut names = [a.name(), b.name()];
        names.sort_unstable();
        let table = format!("cut_{}", names.join("_"));
        network.cut(&table, a, b)?;
        Ok(Self { network, table: Some(table) })
    }

    /// Lets the packets pass again.
    pub fn heal(mut self) -> Result {
        self.mend()
    }

    fn mend(&mut self) -> Result {
        self.table.take().map_or(Ok(()), |table| self.network.heal(&table))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        // The next cut of the same pair would fail loudly if this one did.
        let _ = self.mend();
    }
}
