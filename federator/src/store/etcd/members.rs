//! The members of an etcd: one connection each, which of them is asked, and whether they are one etcd at all.
//!
//! A balanced channel would send calls to dead members, so there is one client a member, and one member in use until
//! it fails. What may be done twice is tried at the next member within the call; so is what a member was never asked.
//! An answer of another etcd cluster than the first that answered is never taken for one of it.

use super::{CALL_TIMEOUT, Settings, access::Access, access::Material, failure::Blame, failure::Failure, unsign};
use crate::store::StoreError;
use etcd_client::{
    Client, Error, GetResponse, LeaseGrantResponse, LeaseKeepAliveResponse, ResponseHeader, StatusResponse,
    TxnResponse, WatchResponse,
};
use futures::future::join_all;
use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// How long members may take to say how they are: a member that serves does so at once.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Members {
    all: Vec<Member>,
    access: Access,
    /// The member in use.
    current: AtomicUsize,
    /// The id of the etcd cluster once known, else zero.
    cluster: AtomicU64,
    reached: Mutex<Reached>,
}

/// How far etcd has come, by answers that are linearizable: of those no later one says less.
#[derive(Clone, Copy, Default)]
struct Reached {
    revision: u64,
    /// How often another etcd was taken for it: answers to what was asked before that say nothing of this one.
    adopted: u64,
}

struct Member {
    endpoint: String,
    connection: Mutex<Option<Connection>>,
    /// The id of the other etcd cluster that it was seen in while some member still was in the known one, else zero.
    foreign: AtomicU64,
}

struct Connection {
    client: Client,
    made_of: Arc<Material>,
}

/// Whether a call may be made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// It reads, or leaves nothing behind.
    Freely,
    /// Only if it was surely never made.
    IfUnasked,
}

/// Which etcd an answer is of.
pub(super) trait Answer {
    fn header(&self) -> Option<&ResponseHeader>;
}

macro_rules! answers {
    ($($response:ident)*) => {
        $(impl Answer for $response {
            fn header(&self) -> Option<&ResponseHeader> {
                self.header()
            }
        })*
    };
}

answers! { GetResponse LeaseGrantResponse LeaseKeepAliveResponse StatusResponse TxnResponse WatchResponse }

impl<A, B: Answer> Answer for (A, B) {
    fn header(&self) -> Option<&ResponseHeader> {
        self.1.header()
    }
}

// === impl Members ===

impl Members {
    /// Connects to none of them yet.
    ///
    /// # Errors
    /// [`StoreError::Refused`], when a file or an endpoint cannot be used.
    pub(super) async fn new(settings: Settings) -> Result<Self, StoreError> {
        let member = |endpoint: &String| Member {
            endpoint: endpoint.clone(),
            connection: Mutex::default(),
            foreign: AtomicU64::new(0),
        };
        let all = settings.endpoints.iter().map(member).collect();
        let access = Access::new(settings).await?;
        let (current, cluster, reached) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::default());
        Ok(Self { all, access, current, cluster, reached })
    }

    pub(super) fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|member| &*member.endpoint)
    }

    /// The member in use.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Uses the next member, unless somebody else has turned from this one already.
    pub(super) fn turn_from(&self, member: usize) {
        let next = (member + 1) % self.all.len();
        let _ = self.current.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Asks the member in use, and others if that one fails and it is allowed; says who answered.
    pub(super) async fn call<T, F, R>(&self, retry: Retry, ask: F) -> Result<(usize, T), StoreError>
    where
        T: Answer,
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, Error>> + Send,
    {
        let mut failures: Vec<StoreError> = Vec::new();
        for _ in &self.all {
            let member = self.current();
            match self.ask(member, CALL_TIMEOUT, &ask).await {
                Ok(answer) => {
                    self.check(member, answer.header()).await?;
                    return Ok((member, answer));
                }
                Err(failure) => {
                    let error = self.failed(member, failure.clone()).await;
                    if failure.blame == Blame::Request {
                        return Err(error);
                    }
                    failures.push(error);
                    if failure.blame == Blame::Member && retry == Retry::IfUnasked {
                        break;
                    }
                }
            }
        }
        Err(summary(failures))
    }

    /// The same for what is linearizable, reads and transactions, where the revision tells that etcd went back.
    ///
    /// # Errors
    /// [`StoreError::WentBack`] when it has not come as far as it had before it was asked.
    pub(super) async fn call_linearizable<T, F, R>(&self, retry: Retry, ask: F) -> Result<T, StoreError>
    where
        T: Answer,
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, Error>> + Send,
    {
        let before = *self.reached();
        let (_, answer) = self.call(retry, ask).await?;
        self.reached().note(before, answer.header().map_or(0, |header| unsign(header.revision())))?;
        Ok(answer)
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns from a member that is the trouble, and says which it was.
    pub(super) async fn failed(&self, member: usize, failure: Failure) -> StoreError {
        if failure.credentials {
            self.access.doubt();
            *self.all[member].connection() = None;
        }
        if failure.blame != Blame::Request {
            self.turn_from(member);
        }
        let endpoint = &self.all[member].endpoint;
        match failure.error {
            StoreError::Unavailable(why) => StoreError::Unavailable(format!("{endpoint}: {why}")),
            StoreError::Refused(why) => StoreError::Refused(format!("{endpoint}: {why}")),
            other => other,
        }
    }

    /// Asks one member.
    pub(super) async fn ask<T, F, R>(&self, member: usize, within: Duration, ask: F) -> Result<T, Failure>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, Error>> + Send,
    {
        let answered = timeout(within, async { ask(self.client(member).await?).await }).await;
        match answered {
            Ok(answer) => answer.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::of_member(format!("no answer within {} s", within.as_secs()))),
        }
    }

    /// A connection to a member, made of what the files hold now. One that was made of what they held before goes on
    /// for those who have it.
    pub(super) async fn client(&self, member: usize) -> Result<Client, Error> {
        let material = self.access.material().await;
        let member = &self.all[member];
        if let Some(there) = &*member.connection()
            && Arc::ptr_eq(&there.made_of, &material)
        {
            return Ok(there.client.clone());
        }
        let client = Client::connect([&member.endpoint], Some(self.access.options(&material))).await?;
        *member.connection() = Some(Connection { client: client.clone(), made_of: material });
        Ok(client)
    }

    /// What each member says of itself, in the order of the endpoints.
    pub(super) async fn statuses(&self) -> Vec<Result<StatusResponse, Failure>> {
        let status = async |mut client: Client| client.status().await;
        join_all((0..self.all.len()).map(|member| self.ask(member, STATUS_TIMEOUT, status))).await
    }

    /// Takes the next answer for one of the etcd that is to be used, whichever it is.
    pub(super) fn adopt(&self) {
        self.cluster.store(0, Ordering::Relaxed);
        self.reached().adopt();
        for member in &self.all {
            member.foreign.store(0, Ordering::Relaxed);
        }
    }

    /// The revision of an answer. The first answer of all decides which etcd cluster is used.
    ///
    /// # Errors
    /// [`StoreError::WentBack`] when it is of another one than that, and [`StoreError::Refused`] when that one is still
    /// there: the endpoints are of several.
    pub(super) async fn check(&self, member: usize, header: Option<&ResponseHeader>) -> Result<u64, StoreError> {
        let header = header.ok_or_else(|| StoreError::Unavailable("an answer without header".to_owned()))?;
        let now = header.cluster_id();
        match self.cluster.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => self.look(member, now, now).await.map_err(|mixed| {
                // Whichever of them answers first, none is used.
                self.cluster.store(0, Ordering::Relaxed);
                StoreError::Refused(mixed)
            })?,
            Err(known) if known == now => {}
            Err(known) => {
                self.turn_from(member);
                self.look(member, known, now).await.map_err(StoreError::Refused)?;
                return Err(StoreError::WentBack(format!("it was etcd cluster {known:x} and now is {now:x}")));
            }
        }
        Ok(unsign(header.revision()))
    }

    /// Has all members say which etcd cluster they are of, when one has said that it is of `now`. Fails when they are
    /// of several.
    async fn look(&self, member: usize, known: u64, now: u64) -> Result<(), String> {
        if self.all.len() == 1 {
            return Ok(());
        }
        let ids = self.statuses().await.into_iter().map(|status| Some(status.ok()?.header()?.cluster_id()));
        let mut ids: Vec<_> = ids.collect();
        ids[member] = Some(now);
        self.compare(known, &ids).map_or(Ok(()), Err)
    }

    /// Whether endpoints are of several etcd clusters, and which; takes note of those that are not of the known one.
    pub(super) fn compare(&self, known: u64, ids: &[Option<u64>]) -> Option<String> {
        let before = self.all.iter().map(|member| member.foreign.load(Ordering::Relaxed) != 0).collect::<Vec<_>>();
        let strangers = strangers(known, ids, &before)?;
        let mut said = Vec::new();
        for stranger in strangers {
            let Member { endpoint, foreign, .. } = &self.all[stranger];
            let id = ids[stranger].unwrap_or_default();
            foreign.store(id, Ordering::Relaxed);
            said.push(format!("{endpoint} is of {id:x}"));
        }
        Some(format!(
            "store.etcd.endpoints are of different etcd clusters: the one in use is {known:x}, and {}; name the members of \
             one only",
            said.join(", ")
        ))
    }

    /// The id of the etcd cluster, once known.
    pub(super) fn cluster(&self) -> Option<u64> {
        Some(self.cluster.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }
}

// === impl Reached ===

impl Reached {
    fn adopt(&mut self) {
        *self = Self { revision: 0, adopted: self.adopted + 1 };
    }

    /// Takes note of an answer to what was asked when this was `before`.
    fn note(&mut self, before: Self, now: u64) -> Result<(), StoreError> {
        if before.adopted != self.adopted {
            return Ok(());
        }
        if now < before.revision {
            let seen = before.revision;
            return Err(StoreError::WentBack(format!("it is at revision {now}, and {seen} was seen")));
        }
        self.revision = self.revision.max(now);
        Ok(())
    }
}

// === impl Member ===

impl Member {
    fn connection(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The members that are not of the known etcd cluster, if that one is still there. `before` are those that were
/// strangers at an earlier look. `None`: there are no strangers, or the known cluster has become another one.
fn strangers(known: u64, ids: &[Option<u64>], before: &[bool]) -> Option<Vec<usize>> {
    let strange = |member: &usize| ids[*member].is_some_and(|id| id != known);
    let strangers: Vec<_> = (0..ids.len()).filter(strange).collect();
    let still_there = ids.contains(&Some(known));
    // It cannot be reached now. Who was a stranger before proves nothing; who was of it before and is not now, does.
    let become_another = strangers.iter().any(|member| !before[*member]);
    (!strangers.is_empty() && (still_there || !become_another)).then_some(strangers)
}

/// One error out of those of several members.
fn summary(mut failures: Vec<StoreError>) -> StoreError {
    let refused = failures.iter().all(|failure| matches!(failure, StoreError::Refused(_)));
    let Some(last) = failures.pop() else {
        return StoreError::Unavailable("there is no endpoint".to_owned());
    };
    if failures.is_empty() {
        return last;
    }
    let why = |failure: StoreError| match failure {
        StoreError::Unavailable(why) | StoreError::Refused(why) => why,
        other => other.to_string(),
    };
    let all = failures.into_iter().chain([last]).map(why).collect::<Vec<_>>().join("; ");
    if refused { StoreError::Refused(all) } else { StoreError::Unavailable(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_several_clusters_are_told_from_a_cluster_that_became_another() {
        let check = |ids: &[u64], before: &[bool], expected: Option<&[usize]>| {
            let ids: Vec<_> = ids.iter().map(|id| Some(*id).filter(|id| *id != 0)).collect();
            assert_eq!(strangers(1, &ids, before).as_deref(), expected, "{ids:?} {before:?}");
        };
        let unknown = [false; 3];
        // 1 is known, 2 is another one, 0 does not answer.
        check(&[1, 1, 1], &unknown, None);
        check(&[1, 0, 0], &unknown, None);
        check(&[1, 2, 0], &unknown, Some(&[1]));
        check(&[1, 2, 2], &unknown, Some(&[1, 2]));
        // Nobody is left of it.
        check(&[2, 2, 2], &unknown, None);
        check(&[0, 2, 0], &unknown, None);
        check(&[2], &[false], None);
        // It cannot be reached, and the others were never of it.
        check(&[0, 2, 0], &[false, true, false], Some(&[1]));
        check(&[0, 2, 2], &[false, true, true], Some(&[1, 2]));
        // One that was of it is not any more.
        check(&[0, 2, 2], &[false, true, false], None);
        check(&[2, 2, 2], &[false, true, true], None);
    }

    #[test]
    fn an_answer_is_held_against_what_was_known_when_it_was_asked_for() {
        let mut reached = Reached::default();
        let first = reached;
        assert_eq!(reached.note(first, 18), Ok(()));
        // Asked for before that, and answered after it.
        assert_eq!(reached.note(first, 10), Ok(()));
        let later = reached;
        assert_eq!(reached.note(later, 18), Ok(()));
        let went_back = Err(StoreError::WentBack("it is at revision 10, and 18 was seen".to_owned()));
        assert_eq!(reached.note(later, 10), went_back);
        reached.adopt();
        let adopted = reached;
        assert_eq!(reached.note(later, 18), Ok(()), "of the one that it was");
        assert_eq!(reached.note(adopted, 10), Ok(()));
    }

    #[test]
    fn members_that_all_refuse_are_a_refusal() {
        let unavailable = || StoreError::Unavailable("a: b".to_owned());
        let refused = || StoreError::Refused("c: d".to_owned());
        assert_eq!(summary(vec![unavailable()]), unavailable());
        assert_eq!(summary(vec![refused(), refused()]), StoreError::Refused("c: d; c: d".to_owned()));
        assert_eq!(summary(vec![refused(), unavailable()]), StoreError::Unavailable("c: d; a: b".to_owned()));
    }
}
