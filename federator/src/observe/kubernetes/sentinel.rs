//! The sentinel of one cluster: proves again and again that its API server can be reached, takes our credentials, is
//! the same cluster as before, and tells the truth (by the `canary`). While it cannot be reached, it is tried on
//! fresh connections several times a second, so that its return is noticed at once. Knows nothing of what is observed.

use super::canary::{Canary, Renewal, Verdict};
use crate::{
    backoff::Backoff,
    kubernetes::{
        client::Connector,
        explain::{Cause, cause, explain, retry_after},
        follow::{Event, Selection, follow},
    },
};
use futures::{FutureExt as _, StreamExt as _, stream, stream::BoxStream, stream::FuturesUnordered};
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Namespace,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use std::time::{Duration, SystemTime};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// Between two tries of an API server that cannot be reached.
const PROBE_EVERY: Duration = Duration::from_millis(400);

/// How long one such try may take; so a few are under way at a time.
const PROBE_FOR: Duration = Duration::from_secs(2);

/// Between two tries of an API server that answers, but not as it should.
const PAUSE: Duration = Duration::from_secs(2);

/// Counts the renewals of a Lease, so that an earlier one is told from a later one.
const SEQUENCE_ANNOTATION: &str = "federator.io/sequence";

/// How a cluster's API server is watched over.
#[derive(Clone, Debug)]
pub struct Config {
    /// The namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who renews it.
    pub holder: String,
    /// An API server that tells no news is found out within this.
    pub found_within: Duration,
    /// Between two proofs that the credentials are taken and the cluster is the same.
    pub proof: Duration,
    /// What time it is, for the people who look at the Lease.
    pub clock: fn() -> SystemTime,
}

/// What the sentinel has to say.
pub(super) enum Sign {
    /// It answers, to this client with fresh connections, as the cluster with this uid.
    Reached(Client, String),
    /// It still answers this client, as the cluster with this uid.
    Proved(Client, String),
    /// Half the time within which a lie is to be found has passed; the canary was renewed at this version, if it was.
    Beat(Option<u64>),
    /// It cannot be reached.
    Unreachable(String),
    /// It refuses the credentials.
    Refused(String),
    /// Its watches deliver nothing.
    Deaf,
    /// Its storage went back; versions from this one on are of the restored world.
    RolledBack(u64),
    /// The canary may not be written, for this reason; proofs go on.
    NoCanary(String),
}

/// What the sentinel is told.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    /// How the cluster is reached.
    pub(super) connector: Connector,
    /// Counts the doubts of others whether it can be.
    pub(super) doubts: u64,
}

struct Sentinel {
    config: Config,
    orders: watch::Receiver<Orders>,
    signs: mpsc::Sender<Sign>,
    client: Client,
    canary: Canary,
    /// The Lease as it was written or found last.
    lease: Option<Lease>,
    may_write: bool,
    /// Why there is no canary, as it was said last.
    why_not: Option<String>,
    proved: Instant,
}

/// Why there is nothing to be known.
enum Failure {
    /// Nobody answers.
    Unreachable(String),
    /// It answers that it cannot, and wants to be left alone for a while.
    Busy(String, Duration),
    /// It refuses the credentials.
    Refused(String),
}

/// Watches over the cluster until nobody listens any more. The first thing it says is that it was reached.
pub(super) async fn run(config: Config, mut orders: watch::Receiver<Orders>, signs: mpsc::Sender<Sign>) {
    let connector = orders.borrow_and_update().connector.clone();
    let Some(client) = reach(&connector, &mut orders, &signs).await else { return };
    let patience = config.found_within / 2;
    let now = Instant::now();
    let canary = Canary::new(patience, now);
    let mut sentinel =
        Sentinel { config, orders, signs, client, canary, lease: None, may_write: true, why_not: None, proved: now };
    let mut ticks = interval(patience);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewals = sentinel.renewals();
    let mut may_write = true;
    loop {
        if sentinel.may_write != may_write {
            may_write = sentinel.may_write;
            sentinel.canary.pause(Instant::now());
            renewals = sentinel.renewals();
        }
        let connector = sentinel.orders.borrow().connector.clone();
        let beat = tokio::select! {
            _ = ticks.tick() => sentinel.beat().await,
            Some(event) = renewals.next() => {
                sentinel.hear(event).await;
                continue;
            }
            Ok(()) = sentinel.orders.changed() => {
                let now = sentinel.orders.borrow_and_update().connector.clone();
                // New credentials are a new look at everything; a doubt is a look now.
                if now.is(&connector) { sentinel.prove().await } else { Err(Failure::Unreachable(String::new())) }
            }
            () = sentinel.signs.closed() => return,
        };
        let sign = match beat {
            Ok(()) => continue,
            Err(Failure::Refused(why)) => Sign::Refused(why),
            Err(Failure::Unreachable(why) | Failure::Busy(why, _)) => {
                if !why.is_empty() && sentinel.signs.send(Sign::Unreachable(why)).await.is_err() {
                    return;
                }
                let connector = sentinel.orders.borrow_and_update().connector.clone();
                let Some(client) = reach(&connector, &mut sentinel.orders, &sentinel.signs).await else { return };
                sentinel.client = client;
                sentinel.may_write = true;
                may_write = true;
                sentinel.canary.pause(Instant::now());
                renewals = sentinel.renewals();
                continue;
            }
        };
        if sentinel.signs.send(sign).await.is_err() {
            return;
        }
    }
}

/// Tries the API server on one fresh connection after the other, until it answers; says so. `None` when nobody listens.
async fn reach(
    connector: &Connector,
    orders: &mut watch::Receiver<Orders>,
    signs: &mpsc::Sender<Sign>,
) -> Option<Client> {
    let mut connector = connector.clone();
    let mut probes = FuturesUnordered::new();
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let connector = connector.clone();
                probes.push(async move { probe(&connector).await }.boxed());
            }
            Some(probed) = probes.next() => {
                let failure = match probed {
                    Ok((client, uid)) => {
                        signs.send(Sign::Reached(client.clone(), uid)).await.ok()?;
                        return Some(client);
                    }
                    Err(failure) => failure,
                };
                // An API server that answers is there: it need not be asked as often as one that may come back.
                if let Some(pause) = failure.pause() {
                    probes.clear();
                    ticks.reset_after(pause);
                }
                signs.send(failure.into()).await.ok()?;
            }
            Ok(()) = orders.changed() => {
                let now = orders.borrow_and_update().connector.clone();
                if !now.is(&connector) {
                    connector = now;
                    probes.clear();
                    ticks.reset_immediately();
                }
            }
            () = signs.closed() => return None,
        }
    }
}

/// The uid of the cluster that an API server is of; asks until it says so.
pub async fn uid_of(connector: Connector) -> String {
    let mut told = introductions(connector);
    loop {
        if let Some(Ok((_, uid))) = told.next().await {
            return uid;
        }
    }
}

/// Asks an API server which cluster it is of, until it says so; what it says instead is told.
pub(super) fn introductions(connector: Connector) -> BoxStream<'static, Result<(Client, String), String>> {
    let ask = |(connector, mut backoff, again): (Connector, Backoff, bool)| async move {
        if again {
            backoff.wait().await;
        }
        let asked = probe(&connector).await.map_err(|failure| match failure {
            Failure::Unreachable(why) | Failure::Busy(why, _) | Failure::Refused(why) => why,
        });
        Some((asked, (connector, backoff, true)))
    };
    stream::unfold((connector, Backoff::default(), false), ask).boxed()
}

/// Asks on a fresh connection which cluster this is.
async fn probe(connector: &Connector) -> Result<(Client, String), Failure> {
    let client = connector.connect().map_err(|error| Failure::Refused(format!("{error:#}")))?;
    let uid = answer(PROBE_FOR, identify(&client)).await?;
    Ok((client, uid))
}

async fn identify(client: &Client) -> kube::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    Ok(namespaces.get("kube-system").await?.metadata.uid.unwrap_or_default())
}

async fn answer<T>(within: Duration, asked: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match timeout(within, asked).await {
        Err(_) => Err(Failure::Unreachable(format!("it does not answer within {} seconds", within.as_secs_f32()))),
        Ok(Err(error)) if matches!(cause(&error), Cause::Unauthorized | Cause::Forbidden) => {
            Err(Failure::Refused(explain(&error)))
        }
        Ok(Err(error)) if cause(&error) == Cause::Unreachable => Err(Failure::Unreachable(explain(&error))),
        Ok(Err(error)) => Err(Failure::Busy(explain(&error), retry_after(&error).max(PAUSE))),
        Ok(Ok(answer)) => Ok(answer),
    }
}

// === impl Failure ===

impl Failure {
    /// How long to wait before the next try, of one that was answered.
    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Unreachable(_) => None,
            Self::Busy(_, pause) => Some(*pause),
            Self::Refused(_) => Some(PAUSE),
        }
    }
}

impl From<Failure> for Sign {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(why) | Failure::Busy(why, _) => Self::Unreachable(why),
            Failure::Refused(why) => Self::Refused(why),
        }
    }
}

// === impl Sentinel ===

impl Sentinel {
    /// Everything that is done at regular intervals.
    async fn beat(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        // What may not be heard is no sign of deafness.
        let deaf = self.may_write && self.canary.check(now) == Verdict::Deaf;
        if deaf {
            self.say(Sign::Deaf).await;
        }
        if self.may_write {
            self.renew().await?;
        }
        if now.duration_since(self.proved) >= self.config.proof {
            self.prove().await?;
        }
        let renewed = self.canary.last().filter(|_| self.why_not.is_none()).map(|last| last.version);
        self.say(Sign::Beat(renewed)).await;
        // What is deaf may be the connection.
        if deaf { Err(Failure::Unreachable(String::new())) } else { Ok(()) }
    }

    /// Proves that the credentials are taken, and says which cluster it is. They may have been given the canary by now.
    async fn prove(&mut self) -> Result<(), Failure> {
        let uid = answer(self.config.found_within / 2, identify(&self.client)).await?;
        self.proved = Instant::now();
        self.may_write = true;
        self.say(Sign::Proved(self.client.clone(), uid)).await;
        Ok(())
    }

    /// Renews the Lease, on top of what is known of it. Where something else stands there, that is looked at first.
    async fn renew(&mut self) -> Result<(), Failure> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.config.namespace);
        let sequence =
            self.canary.last().map_or(0, |last| last.sequence).max(self.lease.as_ref().map_or(0, sequence)) + 1;
        let wanted = self.next(sequence);
        let params = PostParams { field_manager: Some("federator".to_owned()), ..PostParams::default() };
        let write = async {
            match &self.lease {
                Some(_) => leases.replace(&self.config.name, &params, &wanted).await,
                None => leases.create(&params, &wanted).await,
            }
        };
        match timeout(self.config.found_within / 2, write).await {
            Err(_) => Err(Failure::Unreachable("it does not take the renewal of a Lease in time".to_owned())),
            Ok(Ok(lease)) => {
                let renewal = Renewal { sequence, version: version(&lease) };
                self.lease = Some(lease);
                self.why_not = None;
                if let Verdict::RolledBack(floor) = self.canary.wrote(renewal, Instant::now()) {
                    self.say(Sign::RolledBack(floor)).await;
                }
                Ok(())
            }
            // That other rights are missing too is for proofs to find out.
            Ok(Err(kube::Error::Api(status))) if status.code == 403 || (status.code == 404 && self.lease.is_none()) => {
                self.no_canary(status.message.clone()).await;
                Ok(())
            }
            // Something else stands there: somebody else's renewal, one of ours that is over, or nothing any more.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => self.look(&leases).await,
            // One that has no room left, say, may still be read.
            Ok(Err(kube::Error::Api(status))) if status.code != 401 => {
                self.say_why_not(status.message.clone()).await;
                self.prove().await
            }
            Ok(Err(error)) => answer(Duration::MAX, async { Err(error) }).await,
        }
    }

    /// Looks at what stands there.
    async fn look(&mut self, leases: &Api<Lease>) -> Result<(), Failure> {
        let asked = timeout(self.config.found_within / 2, leases.get_opt(&self.config.name)).await;
        let found = match asked {
            Err(_) => return Err(Failure::Unreachable("it does not show a Lease in time".to_owned())),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                self.no_canary(status.message.clone()).await;
                return Ok(());
            }
            Ok(found) => answer(Duration::MAX, async { found }).await?,
        };
        let is_ours = |lease: &&Lease| holder(lease) == Some(self.config.holder.as_str());
        match found.as_ref().filter(is_ours) {
            Some(lease) => self.canary.found(Some(Renewal { sequence: sequence(lease), version: version(lease) })),
            None => self.canary.found(None),
        }
        self.lease = found;
        Box::pin(self.renew()).await
    }

    async fn hear(&mut self, event: Event<Lease>) {
        match event {
            Event::Listed(lease) | Event::Changed(lease) => self.canary.saw(version(&lease)),
            Event::Trouble(trouble) if trouble.cause == Cause::Forbidden => self.no_canary(trouble.reason).await,
            _ => {}
        }
    }

    /// Renews the Lease no more, until the next proof.
    async fn no_canary(&mut self, why: String) {
        self.may_write = false;
        self.say_why_not(why).await;
    }

    /// Says why the Lease is not renewed, unless that was said before.
    async fn say_why_not(&mut self, why: String) {
        if self.why_not.as_ref() != Some(&why) {
            self.why_not = Some(why.clone());
            self.say(Sign::NoCanary(why)).await;
        }
    }

    fn renewals(&self) -> BoxStream<'static, Event<Lease>> {
        if !self.may_write {
            return stream::pending().boxed();
        }
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.config.namespace);
        let fields = Some(format!("metadata.name={}", self.config.name));
        follow(leases, Selection { fields, ..Selection::default() })
    }

    fn next(&self, sequence: u64) -> Lease {
        let annotations = [(SEQUENCE_ANNOTATION.to_owned(), sequence.to_string())].into();
        let resource_version = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let metadata = ObjectMeta {
            namespace: Some(self.config.namespace.clone()),
            name: Some(self.config.name.clone()),
            annotations: Some(annotations),
            resource_version,
            ..ObjectMeta::default()
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.config.holder.clone()),
            renew_time: Timestamp::try_from((self.config.clock)()).ok().map(MicroTime),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    async fn say(&self, sign: Sign) {
        // Who does not listen any more is noticed at the next round.
        let _ = self.signs.send(sign).await;
    }
}

fn version(lease: &Lease) -> u64 {
    lease.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn sequence(lease: &Lease) -> u64 {
    let annotations = lease.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(SEQUENCE_ANNOTATION)?.parse().ok()).unwrap_or_default()
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}
