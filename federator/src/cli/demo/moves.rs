//! Moves an endpoint: its manifest is replaced in the directory of its cluster, as a pod that is born elsewhere would
//! change its EndpointSlice, and the time runs until DNS first answers the new address.

use super::{
    Demo,
    ask::{PAUSE, RecordType},
    clusters::{Cluster, Fleet},
};
use anyhow::Context as _;
use model::reach::Place;
use std::{fmt, fs, io, net::Ipv4Addr, path::PathBuf, time::Duration};
use tokio::time::Instant;

/// What can be moved: a cluster and a service of the namespace `shop` whose slice has a file of its own.
const MOVABLE: [(&str, &str); 3] = [("west", "cart"), ("east", "cart"), ("south", "payments")];

/// Longer than an observer takes that is told of no change, and looks again by itself.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

/// The last octets of addresses that nothing else in the manifests has.
const FREE: std::ops::RangeInclusive<u8> = 100..=199;

/// Moves one endpoint again and again.
#[derive(Debug)]
pub(super) struct Mover {
    cluster: String,
    service: &'static str,
    file: PathBuf,
    text: String,
    address: Ipv4Addr,
}

/// An endpoint that moved, and when that was seen.
#[derive(Debug)]
pub(super) struct Moved {
    host: String,
    cluster: String,
    from: Ipv4Addr,
    to: Ipv4Addr,
    revision: String,
    took: Duration,
}

// === impl Mover ===

impl Mover {
    /// An endpoint that is answered in that place; of another cluster, where one is in reach.
    pub(super) fn new(fleet: &Fleet, place: &Place) -> anyhow::Result<Self> {
        let find = |id: &str| fleet.clusters.iter().find(|cluster| cluster.id.as_str() == id);
        let mut movable: Vec<(&Cluster, &str)> = MOVABLE
            .into_iter()
            .filter_map(|(id, service)| Some((find(id)?, service)))
            .filter(|(cluster, _)| cluster.network == place.network)
            .collect();
        movable.sort_by_key(|(cluster, _)| cluster.id == place.cluster);
        let (cluster, service) = *movable.first().context("nothing to move on this network")?;
        let file = cluster.directory.join(format!("{service}-endpoints.yaml"));
        let text = fs::read_to_string(&file)?;
        let address = text.lines().find_map(|line| line.trim().strip_prefix("- ")?.parse().ok());
        let address = address.with_context(|| format!("no address in {}", file.display()))?;
        Ok(Self { cluster: cluster.id.to_string(), service, file, text, address })
    }

    /// Moves it, and waits until DNS answers so.
    pub(super) async fn step(&mut self, demo: &Demo) -> anyhow::Result<Moved> {
        let from = self.address;
        let (to, since) = self.write().with_context(|| format!("cannot write {}", self.file.display()))?;
        let host = format!("{}.shop.{}", self.service, demo.zone);
        let mut gathered = demo.gathered.clone();
        let seen = async {
            loop {
                let reply = demo.resolver.ask(&host, RecordType::A).await?;
                let took = since.elapsed();
                if reply.data.contains(&to.to_string()) && !reply.data.contains(&from.to_string()) {
                    return anyhow::Ok(took);
                }
                // The zone follows in an instant what was gathered; waiting for that alone could miss it.
                tokio::select! {
                    Ok(()) = gathered.changed() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        };
        let seen = tokio::time::timeout(SEEN_WITHIN, seen).await;
        let took = seen.with_context(|| {
            format!("{host}: expected {to} instead of {from} within {SEEN_WITHIN:?}, got no such answer")
        })??;
        let revision = demo.resolver.revision(&demo.zone).await?;
        Ok(Moved { host, cluster: self.cluster.clone(), from, to, revision, took })
    }

    /// Replaces the manifest as a whole, for half a file would be read too; says when it was in its place.
    fn write(&mut self) -> io::Result<(Ipv4Addr, Instant)> {
        let to = next(self.address);
        self.text = self.text.replacen(&format!("- {}\n", self.address), &format!("- {to}\n"), 1);
        self.address = to;
        // Neither hidden files nor those with another ending are manifests.
        let new = self.file.with_extension("new");
        fs::write(&new, &self.text)?;
        let since = Instant::now();
        fs::rename(new, &self.file)?;
        Ok((to, since))
    }
}

/// The address of the next pod in the same range of its node.
fn next(address: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, last] = address.octets();
    let free = last.checked_add(1).filter(|last| FREE.contains(last));
    Ipv4Addr::new(a, b, c, free.unwrap_or(*FREE.start()))
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, cluster, from, to, revision, took } = self;
        let took = took.as_secs_f64() * 1000.0;
        write!(f, "revision {revision}: {host} in {cluster} {from} -> {to}, answered after {took:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_never_stays_where_it_is() {
        for (from, to) in [("10.0.0.11", "10.0.0.100"), ("10.0.0.100", "10.0.0.101"), ("10.0.0.199", "10.0.0.100")] {
            let from: Ipv4Addr = from.parse().expect("an address");
            assert_eq!(next(from).to_string(), to);
        }
    }
}
