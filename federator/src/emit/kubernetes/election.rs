//! Which of a cluster's agents writes: the one that holds a Lease there, renews it again and again, and writes nothing
//! once it could not for a while. Who waits believes no clock but its own: a Lease is free when it has stood still for as
//! long as it says, as in client-go's leader election. Knows nothing of what is written.

use crate::{
    backoff::Backoff,
    kubernetes::explain::{Cause, cause, explain},
};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep, timeout};

/// The Lease. The canary's are called after clusters, whose ids have no dot.
const NAME: &str = "federator.emit";

/// For how long a Lease that stands still is its holder's. Whole seconds.
const DURATION: Duration = Duration::from_secs(15);

/// For how long its holder writes, from before it asked for the renewal that it was granted. The rest of the time is for
/// writes that are on their way, and for clocks that do not run equally fast.
const VALID: Duration = Duration::from_secs(10);

/// Between two renewals, or two looks at somebody else's Lease.
const EVERY: Duration = Duration::from_secs(2);

/// Who takes part.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) client: Client,
    /// Where the Lease is.
    pub(super) namespace: String,
    /// Its name in the fleet: no other has it.
    pub(super) agent: String,
    /// What time it is, for the people who look at the Lease.
    pub(super) clock: fn() -> SystemTime,
}

/// How the election stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Term {
    /// Until when this agent may write.
    pub(super) until: Option<Instant>,
    /// Who holds the Lease, as far as is known.
    pub(super) holder: Arc<str>,
    /// Why the Lease cannot be had or seen.
    pub(super) trouble: Option<String>,
}

struct Election {
    candidate: Candidate,
    others: Others,
    term: Term,
    pause: Duration,
    backoff: Backoff,
}

/// The Lease as somebody else left it.
#[derive(Debug, Default)]
struct Others {
    version: String,
    since: Option<Instant>,
}

/// Every change of how it stands, and every renewal, for as long as somebody listens.
pub(super) fn terms(candidate: Candidate) -> BoxStream<'static, Term> {
    let election = Election {
        candidate,
        others: Others::default(),
        term: Term::default(),
        pause: Duration::ZERO,
        backoff: Backoff::default(),
    };
    stream::unfold(election, async |mut election| Some((election.next().await, election))).boxed()
}

// === impl Candidate ===

impl Candidate {
    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Gives the Lease up, so that others need not wait.
    pub(super) async fn release(&self) {
        let release = async {
            let leases = self.leases();
            let Some(mut lease) = leases.get_opt(NAME).await? else { return Ok(()) };
            if holder(&lease) == self.agent {
                let spec = lease.spec.get_or_insert_default();
                spec.holder_identity = None;
                leases.replace(NAME, &PostParams::default(), &lease).await?;
            }
            Ok(())
        };
        // Whoever waits finds out by waiting.
        if let Ok(Err(error)) = timeout(EVERY, release).await {
            let reason: String = explain(&error);
            tracing::info!(reason, "the Lease {}/{NAME} is not given up", self.namespace);
        }
    }
}

// === impl Election ===

impl Election {
    async fn next(&mut self) -> Term {
        sleep(self.pause).await;
        let asked = Instant::now();
        let told = timeout(VALID, self.turn(asked)).await;
        let trouble = match told {
            Ok(Ok(())) => None,
            Ok(Err(error)) if cause(&error) == Cause::UnknownKind => {
                let advice = "create the namespace, or name another in `watch.namespace`";
                Some(format!("{}: {advice}", explain(&error)))
            }
            Ok(Err(error)) => Some(explain(&error)),
            Err(_) => Some(format!("no answer within {} seconds", VALID.as_secs())),
        };
        self.pause = match &trouble {
            None => {
                self.backoff.reset();
                EVERY
            }
            Some(_) => self.backoff.pause(),
        };
        let lease = format!("the Lease {}/{NAME}", self.candidate.namespace);
        self.term.trouble = trouble.map(|why| format!("who writes cannot be settled by {lease}: {why}"));
        self.term.clone()
    }

    /// Renews the Lease, takes it where it is free, and looks at it otherwise.
    async fn turn(&mut self, now: Instant) -> Result<(), kube::Error> {
        let leases = self.candidate.leases();
        let found = leases.get_opt(NAME).await?;
        let holder = found.as_ref().map(holder).unwrap_or_default();
        if holder != self.candidate.agent {
            self.term.until = None;
        }
        let is_mine = holder.is_empty() || holder == self.candidate.agent;
        if !is_mine && !found.as_ref().is_some_and(|lease| self.others.is_over(lease, now)) {
            self.term.holder = holder.into();
            return Ok(());
        }
        let wanted = self.candidate.lease(found);
        let params = PostParams::default();
        let written = match &wanted.metadata.resource_version {
            Some(_) => leases.replace(NAME, &params, &wanted).await,
            None => leases.create(&params, &wanted).await,
        };
        match written {
            Ok(_) => {
                self.term.until = Some(now + VALID);
                self.term.holder = self.candidate.agent.as_str().into();
                Ok(())
            }
            // Somebody was faster, which the next look shows.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Candidate {
    /// The Lease as ours, on top of what there is.
    fn lease(&self, found: Option<Lease>) -> Lease {
        let now = Timestamp::try_from((self.clock)()).ok().map(MicroTime);
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        };
        let mut lease = found.unwrap_or(Lease { metadata, spec: None });
        let is_new = holder(&lease) != self.agent;
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if is_new {
            spec.acquire_time.clone_from(&now);
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |times| times.saturating_add(1)));
        }
        spec.holder_identity = Some(self.agent.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = now;
        lease
    }
}

// === impl Others ===

impl Others {
    /// Whether somebody else's Lease has stood still for so long that it is nobody's any more.
    fn is_over(&mut self, lease: &Lease, now: Instant) -> bool {
        let version = lease.resource_version().unwrap_or_default();
        if self.version != version {
            (self.version, self.since) = (version, None);
        }
        let said = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let duration = said.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs);
        now.duration_since(*self.since.get_or_insert(now)) >= duration
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(version: &str, seconds: Option<i32>) -> Lease {
        let metadata = ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() };
        let spec = LeaseSpec { lease_duration_seconds: seconds, ..LeaseSpec::default() };
        Lease { metadata, spec: Some(spec) }
    }

    #[test]
    fn a_lease_is_over_when_it_stood_still_for_as_long_as_it_says() {
        let start = Instant::now();
        let mut others = Others::default();
        for (version, seconds, at, is_over) in [
            ("7", Some(15), 0, false),
            ("7", Some(15), 14, false),
            // A renewal counts from when it is seen, whatever time it says.
            ("8", Some(15), 15, false),
            ("8", Some(15), 29, false),
            ("8", Some(15), 30, true),
            ("9", Some(2), 31, false),
            ("9", Some(2), 33, true),
            // Of another make, or damaged.
            ("10", None, 40, false),
            ("10", Some(-1), 54, false),
            ("10", None, 55, true),
        ] {
            let now = start + Duration::from_secs(at);
            assert_eq!(others.is_over(&lease(version, seconds), now), is_over, "{version} after {at} s");
        }
    }
}
