//! The engine for a fleet: etcd. The only file, with those below it, that knows etcd-client.
//!
//! What the client does not do by itself, and is done here (each seen against a real etcd): which member is asked, and
//! when the next one (`members`); what opens etcd is read again when it changes (`access`); what etcd says becomes
//! what to do (`failure`); a watch that has gone deaf is found out, and one from a revision that etcd never had is
//! refused (`watch`); big reads are paged at one revision; and who operates it is told what to set (`upkeep`).

mod access;
mod failure;
mod lease;
mod members;
pub mod roles;
mod upkeep;
mod watch;

use super::{Committed, Entry, Guard, Lease, LeaseId, Must, Snapshot, Store, StoreError, Txn, Upkeep, Watch};
use async_trait::async_trait;
use etcd_client::{Client, Compare, CompareOp, GetOptions, KeyValue, PutOptions, TxnOp, TxnOpResponse};
use failure::TOO_MUCH;
use futures::{StreamExt as _, stream};
use members::{Members, Retry};
use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

/// How long a call may take until its answer begins.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Keys in the first page of a read. etcd counts for each page all keys that are left of what is asked for, so small pages
/// of much make a large read quadratic: 204,000 keys took minutes by 500.
const PAGE: i64 = 10_000;

/// Bytes of keys and values in every further page, about: addresses are small, and slices may be large.
const PAGE_BYTES: usize = 8 << 20;

/// Most keys in one page, however small they are: what comes next may be larger, and etcd holds all of a page.
const LARGEST_PAGE: i64 = 50_000;

/// Parts of a large read that are asked for at a time: while etcd looks for one, another is under way or taken in.
const AT_ONCE: usize = 2;

/// How often a read is begun anew because what it was reading was compacted.
const READS: usize = 5;

/// Largest answer accepted: a page of the largest slices is far below.
const MAX_ANSWER: usize = 64 << 20;

/// Which etcd, and how to get in. What stands in the files may change at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// URLs of members of one etcd, all with TLS or all without.
    pub endpoints: Vec<String>,
    /// Prefix of all keys.
    pub root: String,
    /// How long the keys of an agent outlive it, in seconds.
    pub lease_seconds: i64,
    /// With TLS.
    pub tls: Option<Tls>,
    /// By name and password; not needed with a certificate that etcd takes the user from.
    pub user: Option<User>,
}

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Who vouches for the members.
    pub ca: PathBuf,
    /// The client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A name, and the file that holds the password to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The file.
    pub password: PathBuf,
}

/// A root in an etcd cluster. Clones share their connections.
#[derive(Clone)]
pub struct Etcd {
    members: Arc<Members>,
    /// Prefix of all keys; ends with a slash.
    root: Arc<str>,
    /// How long the keys of an agent outlive it, in seconds.
    lease_seconds: i64,
    /// The oldest revision that could be read.
    oldest: Arc<Mutex<Option<upkeep::Oldest>>>,
}

/// A page of what is read.
struct Page {
    /// Where etcd was when it answered.
    revision: u64,
    entries: Vec<(String, Entry)>,
    /// The key to go on from; `None` at the end.
    next: Option<Vec<u8>>,
}

// === impl Etcd ===

impl Etcd {
    /// A store in an etcd. Does not wait for etcd to be there.
    ///
    /// # Errors
    /// [`StoreError::Refused`], when a file of the settings cannot be used.
    pub async fn connect(settings: &Settings) -> Result<Self, StoreError> {
        let root = format!("{}/", settings.root.trim_end_matches('/')).into();
        let members = Arc::new(Members::new(settings.clone()).await?);
        Ok(Self { members, root, lease_seconds: settings.lease_seconds, oldest: Arc::default() })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// Everything under `prefix`, all at one revision, and where it is much, in parts from border to border. What is being
    /// read may be compacted meanwhile, and then all of it is read anew.
    async fn read_parts(&self, prefix: &str, borders: &[String]) -> Result<Snapshot, StoreError> {
        let start = self.key(prefix).into_bytes();
        let end = prefix_end(&start);
        let mut borders: Vec<Vec<u8>> = borders.iter().map(|border| self.key(border).into_bytes()).collect();
        borders.sort_unstable();
        borders.dedup();
        for _ in 0..READS {
            match self.read_once(&start, &end, &borders).await {
                Err(StoreError::Compacted(_)) => {}
                read => return read,
            }
        }
        Err(StoreError::Unavailable(format!(
            "etcd compacts faster than it can be read, {READS} times in a row: have it keep its history for longer, with \
             --auto-compaction-mode=periodic --auto-compaction-retention=10m"
        )))
    }

    /// The same, unless what is being read is compacted meanwhile. The first page says at which revision.
    async fn read_once(&self, start: &[u8], end: &[u8], borders: &[Vec<u8>]) -> Result<Snapshot, StoreError> {
        let mut limit = PAGE;
        let Page { revision, entries, next } = self.read_page(start, end, 0, &mut limit).await?;
        let mut snapshot = Snapshot { revision, entries: entries.into_iter().collect() };
        // What is little takes one question, however far away etcd is.
        let Some(rest) = next else { return Ok(snapshot) };
        let between =
            borders.iter().map(Vec::as_slice).filter(|border| (&*rest..end).contains(border) && *border != rest);
        let edges: Vec<&[u8]> = [&*rest].into_iter().chain(between).chain([end]).collect();
        let parts: Vec<_> = edges.windows(2).map(|edges| self.read_part(edges[0], edges[1], revision, limit)).collect();
        let mut parts = stream::iter(parts).buffered(AT_ONCE);
        while let Some(part) = parts.next().await {
            snapshot.entries.extend(part?);
        }
        Ok(snapshot)
    }

    /// Everything from one key to before another, page by page at this revision.
    async fn read_part(
        &self,
        start: &[u8],
        end: &[u8],
        revision: u64,
        mut limit: i64,
    ) -> Result<Vec<(String, Entry)>, StoreError> {
        let (mut all, mut next) = (Vec::new(), Some(start.to_vec()));
        while let Some(start) = next {
            let page = self.read_page(&start, end, revision, &mut limit).await?;
            all.extend(page.entries);
            next = page.next;
        }
        Ok(all)
    }

    /// The first of what there is from one key to before another, at this revision, or at the present one if that is zero.
    /// `limit` is how many keys at most, and becomes how many the next page is to have.
    async fn read_page(&self, start: &[u8], end: &[u8], revision: u64, limit: &mut i64) -> Result<Page, StoreError> {
        loop {
            let options = GetOptions::new().with_range(end).with_limit(*limit).with_revision(sign(revision));
            let page = self.members.call_linearizable(Retry::Freely, |client| {
                let (start, options) = (start.to_vec(), options.clone());
                async move { client.kv_client().max_decoding_message_size(MAX_ANSWER).get(start, Some(options)).await }
            });
            let page = match page.await {
                Ok(page) => page,
                // Somebody has written values that are far larger than ours.
                Err(StoreError::Refused(why)) if why.contains(TOO_MUCH) && *limit > 1 => {
                    *limit = (*limit / 8).max(1);
                    continue;
                }
                Err(error) => return Err(error),
            };
            *limit = next_limit(page.kvs().len(), page.kvs().iter().map(|kv| kv.key().len() + kv.value().len()).sum());
            return Ok(Page {
                revision: page.header().map_or(0, |header| unsign(header.revision())),
                entries: page.kvs().iter().filter_map(|kv| self.entry(kv)).collect(),
                next: page.kvs().last().filter(|_| page.more()).map(|last| [last.key(), b"\0"].concat()),
            });
        }
    }

    /// The revision it is at, whichever member answers.
    async fn revision(&self) -> Result<u64, StoreError> {
        let root = &*self.root;
        let ask = async |mut client: Client| client.get(root, None).await;
        let answer = self.members.call_linearizable(Retry::Freely, ask).await?;
        Ok(answer.header().map_or(0, |header| unsign(header.revision())))
    }

    fn entry(&self, kv: &KeyValue) -> Option<(String, Entry)> {
        let key = std::str::from_utf8(kv.key()).ok()?.strip_prefix(&*self.root)?.to_owned();
        let (created, modified) = (unsign(kv.create_revision()), unsign(kv.mod_revision()));
        Some((key, Entry { value: kv.value().to_vec(), created, modified }))
    }

    fn compare(&self, guard: &Guard) -> Compare {
        let key = self.key(&guard.key);
        match &guard.must {
            Must::Modified(revision) => Compare::mod_revision(key, CompareOp::Equal, sign(*revision)),
            Must::Hold(value) => Compare::value(key, CompareOp::Equal, value.clone()),
        }
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd {} under {}", self.members.endpoints().collect::<Vec<_>>().join(","), self.root)
    }
}

#[async_trait]
impl Store for Etcd {
    async fn read(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.read_parts(prefix, &[]).await
    }

    async fn read_all(&self, borders: &[String]) -> Result<Snapshot, StoreError> {
        self.read_parts("", borders).await
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
        let answer = self.members.call_linearizable(Retry::IfUnasked, |client| {
            let request = request.clone();
            async move { client.kv_client().max_decoding_message_size(MAX_ANSWER).txn(request).await }
        });
        let answer = answer.await?;
        if answer.succeeded() {
            return Ok(Committed::Done(answer.header().map_or(0, |header| unsign(header.revision()))));
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
        self.members.adopt();
    }

    async fn upkeep(&self) -> Option<Upkeep> {
        Some(self.look_after().await)
    }
}

/// How many keys the next page is to have, after one of so many keys and bytes.
fn next_limit(keys: usize, bytes: usize) -> i64 {
    let fitting = keys.saturating_mul(PAGE_BYTES) / bytes.max(1);
    i64::try_from(fitting).unwrap_or(LARGEST_PAGE).clamp(1, LARGEST_PAGE)
}

/// The end of the range of all keys with this prefix. Our prefixes end in `/` or letters, never in `0xff`.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// etcd's revisions are signed on the wire and never negative.
fn unsign(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn sign(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_of_about_as_many_bytes() {
        for (keys, bytes, next) in [
            (0, 0, 1),
            (10_000, 1_000_000, LARGEST_PAGE),
            (10_000, 8 << 20, 10_000),
            (100, 8 << 20, 100),
            (1, 9 << 20, 1),
        ] {
            assert_eq!(next_limit(keys, bytes), next, "{keys} keys of {bytes} bytes");
        }
    }
}
