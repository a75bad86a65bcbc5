//! The engine for a fleet: etcd. The only file, with those below it, that knows etcd-client.
//!
//! What the client does not do by itself, and is done here (each seen against a real etcd):
//! one client a member, because a balanced channel sends calls to dead members; HTTP/2 keep-alives, because a dead
//! peer is invisible without; the revision of a fresh watch is compared with the one asked for, because etcd accepts
//! a revision of the future and then stays silent; big reads are paged at one revision.

mod lease;
mod watch;

use super::{Committed, Entry, Guard, Lease, LeaseId, Must, Snapshot, Store, StoreError, Txn, Watch};
use async_trait::async_trait;
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, KeyValue, PutOptions, ResponseHeader, TxnOp,
    TxnOpResponse,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How long a call may take until its answer begins.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Pings on a connection with open streams. etcd refuses more than one in 5 s (`--grpc-keepalive-min-time`).
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

/// Keys in one page of a read.
const PAGE: i64 = 500;

/// Largest answer accepted: a page of the largest slices is far below.
const MAX_ANSWER: usize = 64 << 20;

/// A root in an etcd cluster. Clones share their connections.
#[derive(Clone)]
pub struct Etcd {
    members: Arc<Members>,
    /// Prefix of all keys; ends with a slash.
    root: Arc<str>,
    /// How long the keys of an agent outlive it, in seconds.
    lease_seconds: i64,
}

struct Members {
    clients: Vec<Client>,
    endpoints: Vec<String>,
    /// The member in use; moves on when it fails.
    current: AtomicUsize,
    /// The id of the etcd cluster once known, else zero: another one is never mistaken for it.
    cluster: AtomicU64,
}

// === impl Etcd ===

impl Etcd {
    /// A store under `root` of the etcd cluster with these endpoints. Does not wait for etcd to be there.
    ///
    /// # Errors
    /// [`StoreError::Refused`], when an endpoint is no URL.
    pub async fn connect(endpoints: &[String], root: &str, lease_seconds: i64) -> Result<Self, StoreError> {
        let mut clients = Vec::new();
        for endpoint in endpoints {
            let options = ConnectOptions::new()
                .with_connect_timeout(CONNECT_TIMEOUT)
                .with_timeout(CALL_TIMEOUT)
                .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
                .with_keep_alive_while_idle(false)
                .with_require_leader(true);
            clients.push(Client::connect([endpoint], Some(options)).await.map_err(|error| wrap(&error))?);
        }
        let members = Members {
            clients,
            endpoints: endpoints.to_vec(),
            current: AtomicUsize::new(0),
            cluster: AtomicU64::new(0),
        };
        let root = format!("{}/", root.trim_end_matches('/')).into();
        Ok(Self { members: Arc::new(members), root, lease_seconds })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    fn client(&self) -> &Client {
        &self.members.clients[self.members.current.load(Ordering::Relaxed) % self.members.clients.len()]
    }

    /// Turns the client's error into ours, and to the next member when this one is the trouble.
    fn failed(&self, error: &Error) -> StoreError {
        let error = wrap(error);
        if matches!(error, StoreError::Unavailable(_)) {
            self.turn_to_next();
        }
        error
    }

    fn turn_to_next(&self) {
        self.members.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Refuses an answer of another etcd cluster than the first that answered.
    fn check(&self, header: Option<&ResponseHeader>) -> Result<u64, StoreError> {
        let header = header.ok_or_else(|| StoreError::Unavailable("an answer without header".to_owned()))?;
        let cluster = &self.members.cluster;
        let known = cluster.compare_exchange(0, header.cluster_id(), Ordering::Relaxed, Ordering::Relaxed);
        match known {
            Err(known) if known != header.cluster_id() => {
                Err(StoreError::WentBack(format!("it was etcd cluster {known:x} and now is {:x}", header.cluster_id())))
            }
            _ => Ok(unsign(header.revision())),
        }
    }

    fn entry(&self, kv: &KeyValue) -> Option<(String, Entry)> {
        let key = std::str::from_utf8(kv.key()).ok()?.strip_prefix(&*self.root)?.to_owned();
        let (created, modified) = (unsign(kv.create_revision()), unsign(kv.mod_revision()));
        Some((key, Entry { value: kv.value().to_vec(), created, modified }))
    }

    fn compare(&self, guard: &Guard) -> Compare {
        let key = self.key(&guard.key);
        match guard.must {
            Must::Created(revision) => Compare::create_revision(key, CompareOp::Equal, sign(revision)),
            Must::Modified(revision) => Compare::mod_revision(key, CompareOp::Equal, sign(revision)),
        }
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd {} under {}", self.members.endpoints.join(","), self.root)
    }
}

#[async_trait]
impl Store for Etcd {
    async fn read(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let mut kv = self.client().kv_client().max_decoding_message_size(MAX_ANSWER);
        let mut start = self.key(prefix).into_bytes();
        let end = prefix_end(&start);
        let mut snapshot = Snapshot { revision: 0, entries: BTreeMap::new() };
        loop {
            let at = sign(snapshot.revision);
            let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(at);
            let page = kv.get(start, Some(options)).await.map_err(|error| self.failed(&error))?;
            let revision = self.check(page.header())?;
            if snapshot.revision == 0 {
                snapshot.revision = revision;
            }
            snapshot.entries.extend(page.kvs().iter().filter_map(|kv| self.entry(kv)));
            match page.kvs().last() {
                Some(last) if page.more() => start = [last.key(), b"\0"].concat(),
                _ => return Ok(snapshot),
            }
        }
    }

    async fn commit(&self, txn: &Txn) -> Result<Committed, StoreError> {
        let op = |(key, value): &(String, Option<Vec<u8>>)| match value {
            Some(value) => TxnOp::put(self.key(key), value.clone(), None),
            None => TxnOp::delete(self.key(key), None),
        };
        let leased = |(key, value, lease): &(String, Vec<u8>, LeaseId)| {
            TxnOp::put(self.key(key), value.clone(), Some(PutOptions::new().with_lease(lease.0)))
        };
        let now = |guard: &Guard| TxnOp::get(self.key(&guard.key), None);
        let request = etcd_client::Txn::new()
            .when(txn.guards.iter().map(|guard| self.compare(guard)).collect::<Vec<_>>())
            .and_then(txn.writes.iter().map(op).chain(txn.leased.iter().map(leased)).collect::<Vec<_>>())
            .or_else(txn.guards.iter().map(now).collect::<Vec<_>>());
        let mut kv = self.client().kv_client().max_decoding_message_size(MAX_ANSWER);
        let answer = kv.txn(request).await.map_err(|error| self.failed(&error))?;
        let revision = self.check(answer.header())?;
        if answer.succeeded() {
            return Ok(Committed::Done(revision));
        }
        let mut found: BTreeMap<String, Option<Entry>> =
            txn.guards.iter().map(|guard| (guard.key.clone(), None)).collect();
        for response in answer.op_responses() {
            if let TxnOpResponse::Get(get) = response {
                found.extend(get.kvs().iter().filter_map(|kv| self.entry(kv)).map(|(key, e)| (key, Some(e))));
            }
        }
        Ok(Committed::Refused(found))
    }

    async fn watch(&self, revision: u64) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(watch::EtcdWatch::start(self.clone(), revision).await?))
    }

    async fn lease(&self) -> Result<Box<dyn Lease>, StoreError> {
        Ok(Box::new(lease::EtcdLease::grant(self.clone()).await?))
    }

    fn adopt(&self) {
        self.members.cluster.store(0, Ordering::Relaxed);
    }
}

/// The end of the range of all keys with this prefix. Our prefixes end in `/` or letters, never in `0xff`.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn wrap(error: &Error) -> StoreError {
    match error {
        Error::GRpcStatus(status) => from_status(&status.code().to_string(), status.message()),
        Error::InvalidArgs(text) | Error::EndpointError(text) => StoreError::Refused(text.clone()),
        Error::InvalidUri(uri) => StoreError::Refused(uri.to_string()),
        other => StoreError::Unavailable(other.to_string()),
    }
}

fn from_status(code: &str, message: &str) -> StoreError {
    let text = format!("{message} ({code})");
    // etcd's own words are the only thing that tells a full disk from a request that is too large.
    if message.contains("has been compacted") {
        StoreError::Compacted(0)
    } else if [
        "permission denied",
        "authentication failed",
        "lease not found",
        "too large",
        "too many operations",
        "user name is empty",
    ]
    .iter()
    .any(|word| message.contains(word))
    {
        StoreError::Refused(text)
    } else {
        StoreError::Unavailable(text)
    }
}

/// etcd's revisions are signed on the wire and never negative.
fn unsign(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn sign(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
