//! Host names of east-west gateways, replaced by the addresses that they have: whoever sends to a gateway elsewhere is told
//! addresses, the same in all clusters, and looks nothing up. Asked again by their time to live. Trouble takes no address
//! away. Knows nothing of how an answer is got, nor of what is observed beside gateways.

pub mod names;

use super::Observed;
use crate::condition::Reason;
use futures::{StreamExt as _, stream::FuturesUnordered};
use model::{
    export::{Address, can_be_an_endpoint},
    gateway::Gateway,
};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// An answer is good for no less: a load balancer that is being moved often has a time to live of zero.
const AT_LEAST: Duration = Duration::from_secs(5);

/// And for no more: a gateway that moved is found again within this.
const AT_MOST: Duration = Duration::from_secs(300);

/// The longest time until somebody is asked again who did not answer, or knew nothing.
const AGAIN_WITHIN: Duration = Duration::from_secs(30);

/// Most addresses of one name that are used; every importer has an endpoint for each.
const MAX_ADDRESSES: usize = 16;

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses that the name has, which may be none, and for how long.
    Addresses(Vec<IpAddr>, Duration),
    /// There is no such name.
    Absent,
    /// Nobody knows, and why.
    Failed(String),
}

/// One host name.
#[derive(Debug)]
struct Host {
    addresses: Vec<IpAddr>,
    /// What is wrong with the last answer.
    trouble: Option<String>,
    /// How many answers in a row were no use.
    failures: u32,
    /// Whether it was ever said what it has.
    told: bool,
    /// When to ask; `None` while it is asked.
    due: Option<Instant>,
}

/// The host names of one cluster's gateways.
#[derive(Debug, Default)]
struct Hosts(BTreeMap<Arc<str>, Host>);

/// Hands on what is seen with addresses for host names, until nobody wants it any more. What `ask` answers is believed;
/// `before` says which gateways the cluster had when it was last known, which count until a name was answered.
pub async fn run<F: Future<Output = Answer>, T>(
    ask: impl Fn(Arc<str>) -> F,
    mut known: watch::Receiver<T>,
    before: impl Fn(&T) -> Vec<Gateway>,
    mut seen: watch::Receiver<Observed>,
    observed: watch::Sender<Observed>,
) {
    let mut hosts = Hosts::default();
    let mut asked = FuturesUnordered::new();
    loop {
        for host in hosts.names_to_ask(Instant::now()) {
            let answer = ask(host.clone());
            asked.push(async { (host, answer.await) });
        }
        let due = hosts.due();
        tokio::select! {
            biased;
            () = observed.closed() => return,
            changed = seen.changed() => {
                if changed.is_err() {
                    return;
                }
                hosts.follow(&seen.borrow_and_update().meta.gateways, Instant::now());
            }
            // What was known may itself only be read now.
            Ok(()) = known.changed(), if hosts.may_remember() => {}
            Some((host, answer)) = asked.next() => {
                if !hosts.take(&host, answer, Instant::now()) {
                    continue;
                }
            }
            () = at(due) => continue,
        }
        let mut now = seen.borrow().clone();
        if hosts.may_remember() {
            hosts.remember(&now.meta.gateways, &before(&known.borrow_and_update()));
        }
        hosts.settle(&mut now);
        observed.send_replace(now);
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

// === impl Hosts ===

impl Hosts {
    /// These gateways are to be looked up, and no others.
    fn follow(&mut self, gateways: &[Gateway], now: Instant) {
        self.0.retain(|host, _| gateways.iter().any(|gateway| host_of(gateway) == Some(host)));
        for host in gateways.iter().filter_map(host_of) {
            self.0.entry(host.clone()).or_insert_with(|| Host::new(now));
        }
    }

    /// Whether what was known before is of use: some name has no address, and never had an answer.
    fn may_remember(&self) -> bool {
        self.0.values().any(Host::may_remember)
    }

    /// Takes what was known before, where there was no answer yet.
    fn remember(&mut self, gateways: &[Gateway], before: &[Gateway]) {
        for (host, known) in self.0.iter_mut().filter(|(_, known)| known.may_remember()) {
            known.addresses = remembered(host, gateways, before);
        }
    }

    /// Those that are due; they are taken for asked.
    fn names_to_ask(&mut self, now: Instant) -> Vec<Arc<str>> {
        let due = self.0.iter_mut().filter(|(_, known)| known.due.is_some_and(|due| due <= now));
        due.map(|(host, known)| {
            known.due = None;
            host.clone()
        })
        .collect()
    }

    fn due(&self) -> Option<Instant> {
        self.0.values().filter_map(|known| known.due).min()
    }

    /// Takes an answer; says whether that is news. One about a host that is gone is none.
    fn take(&mut self, host: &Arc<str>, answer: Answer, now: Instant) -> bool {
        let Some(known) = self.0.get_mut(host) else { return false };
        let before = (known.addresses.clone(), known.trouble.clone());
        let wait = known.take(answer);
        known.due = Some(now + wait);
        if before.1 != known.trouble {
            match &known.trouble {
                Some(trouble) => tracing::error!(%host, reason = trouble, "host name of a gateway"),
                None => tracing::info!(%host, "host name of a gateway has addresses again"),
            }
        }
        before != (known.addresses.clone(), known.trouble.clone())
    }

    /// Puts addresses where host names were. A name without any stays: who cannot reach what is behind it is told so.
    fn settle(&self, observed: &mut Observed) {
        if self.0.is_empty() {
            return;
        }
        let mut gateways: Vec<Gateway> = Vec::new();
        for gateway in &observed.meta.gateways {
            match host_of(gateway).and_then(|host| self.0.get(host)).filter(|known| !known.addresses.is_empty()) {
                Some(known) => {
                    let at = |ip: &IpAddr| Gateway { address: Address::Ip(*ip), ..gateway.clone() };
                    gateways.extend(known.addresses.iter().map(at));
                }
                None => gateways.push(gateway.clone()),
            }
        }
        gateways.sort();
        gateways.dedup();
        observed.meta.gateways = gateways;
        // Whoever has not seen everything is not taken for somebody who has, by a condition.
        let troubles: Vec<String> = self.0.iter().filter_map(|(host, known)| known.said(host)).collect();
        let said = observed.synced && !observed.partial && !troubles.is_empty();
        observed.conditions.set(Reason::GatewayUnresolved, said.then(|| troubles.join("; ")));
    }
}

/// The addresses that gateways like those of this name had before: who was reached by it when it was last known, as far as
/// no other is named that may be meant.
fn remembered(host: &Arc<str>, gateways: &[Gateway], before: &[Gateway]) -> Vec<IpAddr> {
    let is_like = |of: &Gateway, known: &Gateway| (&of.network, of.port) == (&known.network, known.port);
    let mine = |known: &&Gateway| gateways.iter().any(|of| host_of(of) == Some(host) && is_like(of, known));
    let another = |known: &&Gateway| gateways.iter().any(|of| of.address == known.address);
    let like = before.iter().filter(mine).filter(|known| !another(known));
    let mut addresses: Vec<IpAddr> = like.filter_map(|known| known.address.ip()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn host_of(gateway: &Gateway) -> Option<&Arc<str>> {
    match &gateway.address {
        Address::Host(host) => Some(host),
        Address::Ip(_) => None,
    }
}

// === impl Host ===

impl Host {
    fn new(now: Instant) -> Self {
        Self { addresses: Vec::new(), trouble: None, failures: 0, told: false, due: Some(now) }
    }

    fn may_remember(&self) -> bool {
        !self.told && self.addresses.is_empty()
    }

    /// Takes an answer; says for how long it is good.
    fn take(&mut self, answer: Answer) -> Duration {
        self.trouble = match answer {
            Answer::Addresses(addresses, ttl) => {
                let (mut good, refused): (Vec<IpAddr>, Vec<IpAddr>) =
                    addresses.into_iter().partition(|address| can_be_an_endpoint(*address));
                good.sort();
                good.dedup();
                good.truncate(MAX_ADDRESSES);
                let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
                let refused =
                    (!refused.is_empty()).then(|| format!("no gateway can have the address {}", refused.join(", ")));
                if !good.is_empty() {
                    (self.addresses, self.trouble, self.failures, self.told) = (good, refused, 0, true);
                    return ttl.clamp(AT_LEAST, AT_MOST);
                }
                Some(refused.unwrap_or_else(|| "it has no address".to_owned()))
            }
            Answer::Absent => {
                (self.addresses, self.told) = (Vec::new(), true);
                Some("there is no such name".to_owned())
            }
            Answer::Failed(why) => Some(why),
        };
        let wait = AT_LEAST * 2_u32.pow(self.failures.min(4));
        self.failures += 1;
        wait.min(AGAIN_WITHIN)
    }

    /// What is wrong, and what that means.
    fn said(&self, host: &str) -> Option<String> {
        let trouble = self.trouble.as_ref()?;
        let is_kept = self.failures != 0 && !self.addresses.is_empty();
        Some(format!("{host}: {trouble}{}", if is_kept { "; the last addresses are used" } else { "" }))
    }
}

#[cfg(test)]
mod tests;
