//! Host names of east-west gateways, replaced by the addresses that they have: whoever sends to a gateway elsewhere is told
//! addresses, the same in all clusters, and looks nothing up. Knows nothing of how an answer is got, nor of what is
//! observed beside gateways.

use super::Observed;
use crate::{
    condition::Reason,
    lookup::{Answer, Host, Hosts, at},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use model::{export::Address, gateway::Gateway};
use std::{net::IpAddr, sync::Arc};
use tokio::{sync::watch, time::Instant};

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
        while let Some(host) = hosts.next(Instant::now()) {
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
                follow(&mut hosts, &seen.borrow_and_update().meta.gateways, Instant::now());
            }
            // What was known may itself only be read now.
            Ok(()) = known.changed(), if hosts.may_remember() => {}
            Some((host, answer)) = asked.next() => {
                if hosts.take(&host, answer, Instant::now()).is_none() {
                    continue;
                }
            }
            () = at(due) => continue,
        }
        let mut now = seen.borrow().clone();
        if hosts.may_remember() {
            let before = before(&known.borrow_and_update());
            hosts.remember(|host| remembered(host, &now.meta.gateways, &before));
        }
        settle(&hosts, &mut now);
        observed.send_replace(now);
    }
}

/// These gateways are to be looked up, and no others.
fn follow(hosts: &mut Hosts, gateways: &[Gateway], now: Instant) {
    let is_named = |host| gateways.iter().any(|gateway| host_of(gateway) == Some(host));
    let gone: Vec<Arc<str>> = hosts.iter().filter(|(host, _)| !is_named(host)).map(|(host, _)| host.clone()).collect();
    gone.iter().for_each(|host| hosts.remove(host));
    gateways.iter().filter_map(host_of).for_each(|host| hosts.add(host, now));
}

/// Puts addresses where host names were. A name without any stays: who cannot reach what is behind it is told so.
fn settle(hosts: &Hosts, observed: &mut Observed) {
    if hosts.is_empty() {
        return;
    }
    let mut gateways: Vec<Gateway> = Vec::new();
    for gateway in &observed.meta.gateways {
        match host_of(gateway).and_then(|host| hosts.get(host)).filter(|known| !known.addresses.is_empty()) {
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
    let troubles: Vec<String> = hosts.iter().filter_map(|(host, known)| said(host, known)).collect();
    let said = observed.synced && !observed.partial && !troubles.is_empty();
    observed.conditions.set(Reason::GatewayUnresolved, said.then(|| troubles.join("; ")));
}

/// What is wrong with a name, and what that means.
fn said(host: &str, known: &Host) -> Option<String> {
    let trouble = known.trouble.as_ref()?;
    Some(format!("{host}: {trouble}{}", if known.is_kept() { "; the last addresses are used" } else { "" }))
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

#[cfg(test)]
mod tests;
