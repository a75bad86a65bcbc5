//! Host names, and the addresses that they were last said to have: asked again by their time to live, more and more seldom
//! while that is no use. Trouble takes no address away; only who says that there is no such name does. Pure, but for
//! [`names`], which asks; knows nothing of what has such a name.

pub mod chase;
pub mod names;

use model::export::can_be_an_endpoint;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// An answer is good for no less: a load balancer that is being moved often has a time to live of zero.
const AT_LEAST: Duration = Duration::from_secs(5);

/// And for no more: who moved is found again within this.
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
#[derive(Debug, Default)]
pub struct Host {
    /// In order, and none twice.
    pub addresses: Vec<IpAddr>,
    /// For how long whoever is told these may keep them.
    pub ttl: Duration,
    /// What is wrong with the last answer.
    pub trouble: Option<String>,
    /// Whether anybody ever said what it has, even if that is nothing.
    pub answered: bool,
    /// Whether these addresses, or their absence, are an answer, and not what an earlier process knew.
    told: bool,
    /// How many answers in a row were no use.
    failures: u32,
    /// When to ask; `None` while it is asked.
    due: Option<Instant>,
}

/// Host names, and when each is to be asked for again.
#[derive(Debug, Default)]
pub struct Hosts {
    known: BTreeMap<Arc<str>, Host>,
    due: BTreeSet<(Instant, Arc<str>)>,
}

/// Waits until something is due.
pub async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

// === impl Hosts ===

impl Hosts {
    /// From now on this name is asked for too.
    pub fn add(&mut self, host: &Arc<str>, now: Instant) {
        if !self.known.contains_key(host) {
            self.known.insert(host.clone(), Host { due: Some(now), ..Host::default() });
            self.due.insert((now, host.clone()));
        }
    }

    /// From now on it is not, and what it had is forgotten.
    pub fn remove(&mut self, host: &Arc<str>) {
        if let Some(Host { due: Some(due), .. }) = self.known.remove(host) {
            self.due.remove(&(due, host.clone()));
        }
    }

    /// What is known of a name.
    #[must_use]
    pub fn get(&self, host: &Arc<str>) -> Option<&Host> {
        self.known.get(host)
    }

    /// All names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Host)> {
        self.known.iter()
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Gives addresses to names that nobody said anything of yet.
    pub fn remember(&mut self, before: impl Fn(&Arc<str>) -> Vec<IpAddr>) {
        for (host, known) in self.known.iter_mut().filter(|(_, known)| known.may_remember()) {
            known.addresses = before(host);
        }
    }

    /// Whether there is any such name.
    #[must_use]
    pub fn may_remember(&self) -> bool {
        self.known.values().any(Host::may_remember)
    }

    /// A name that is due, if there is one; it is taken for asked.
    pub fn next(&mut self, now: Instant) -> Option<Arc<str>> {
        self.due().filter(|due| *due <= now)?;
        let (_, host) = self.due.pop_first()?;
        if let Some(known) = self.known.get_mut(&host) {
            known.due = None;
        }
        Some(host)
    }

    /// When there will be one.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes an answer; says what is known now, where that is news. One about a name that is gone is none.
    pub fn take(&mut self, host: &Arc<str>, answer: Answer, now: Instant) -> Option<&Host> {
        let known = self.known.get_mut(host)?;
        let before = (known.addresses.clone(), known.trouble.clone(), known.ttl, known.answered);
        let due = now + known.take(answer);
        // It may be gone and have come back since it was asked.
        if let Some(other) = known.due.replace(due) {
            self.due.remove(&(other, host.clone()));
        }
        self.due.insert((due, host.clone()));
        if before.1 != known.trouble {
            match &known.trouble {
                Some(trouble) => tracing::error!(%host, reason = trouble, "host name"),
                None => tracing::info!(%host, "host name has addresses again"),
            }
        }
        let now = (&known.addresses, &known.trouble, known.ttl, known.answered);
        ((&before.0, &before.1, before.2, before.3) != now).then_some(&*known)
    }
}

// === impl Host ===

impl Host {
    fn may_remember(&self) -> bool {
        !self.told && self.addresses.is_empty()
    }

    /// Takes an answer; says for how long it is good.
    fn take(&mut self, answer: Answer) -> Duration {
        self.answered |= !matches!(answer, Answer::Failed(_));
        self.trouble = match answer {
            Answer::Addresses(addresses, ttl) => {
                let (mut good, refused): (Vec<IpAddr>, Vec<IpAddr>) =
                    addresses.into_iter().partition(|address| can_be_an_endpoint(*address));
                good.sort();
                good.dedup();
                good.truncate(MAX_ADDRESSES);
                let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
                let refused =
                    (!refused.is_empty()).then(|| format!("no endpoint can have the address {}", refused.join(", ")));
                if !good.is_empty() {
                    (self.addresses, self.trouble, self.failures, self.told) = (good, refused, 0, true);
                    self.ttl = ttl.clamp(AT_LEAST, AT_MOST);
                    return self.ttl;
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

    /// Whether its addresses are those of an earlier answer, because the last one was no use.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.failures != 0 && !self.addresses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_addresses_are_few() {
        let mut host = Host::default();
        let all = (0..=255).rev().map(|last| IpAddr::from([192, 0, 2, last])).collect();
        assert_eq!(host.take(Answer::Addresses(all, Duration::from_secs(60))), Duration::from_secs(60));
        let first: Vec<IpAddr> = (0..16).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        assert_eq!(host.addresses, first);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_late_asks_nothing_twice() {
        let (mut hosts, host, now) = (Hosts::default(), Arc::<str>::from("a.example"), Instant::now());
        hosts.add(&host, now);
        assert_eq!((hosts.next(now), hosts.next(now), hosts.due()), (Some(host.clone()), None, None));
        // Gone while it is asked, and back: it is due, and the old answer counts.
        hosts.remove(&host);
        assert!(hosts.take(&host, Answer::Absent, now).is_none() && hosts.due().is_none());
        hosts.add(&host, now);
        assert!(hosts.take(&host, Answer::Absent, now).is_some());
        assert_eq!((hosts.next(now), hosts.due()), (None, Some(now + AT_LEAST)));
        hosts.remove(&host);
        assert!(hosts.is_empty() && hosts.due().is_none());
    }
}
