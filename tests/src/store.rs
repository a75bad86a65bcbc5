//! The etcd that Federator's agents share, in a place of its own so that it can be cut off.

use crate::Result;
use crate::bed::Bed;
use crate::etcd;
use crate::process::Process;
use crate::site::STORE;
use crate::{Proxy, Snapshot};

/// A test's handle on the shared store.
#[derive(Debug)]
pub struct Store {
    bed: &'static Bed,
    breakable: bool,
}

impl Store {
    pub(crate) const fn new(bed: &'static Bed, breakable: bool) -> Self {
        Self { bed, breakable }
    }

    /// The URL that agents are configured with.
    pub fn endpoint(&self) -> String {
        format!("http://{}", STORE.port(etcd::PORT))
    }

    /// A client of this test's own, to look at what agents have written.
    pub async fn client(&self) -> Result<etcd_client::Client> {
        Ok(etcd_client::Client::connect([self.endpoint()], None).await?)
    }

    /// Another way to it, for one agent alone: `format!("http://{}", proxy.address())`.
    pub fn proxy(&self) -> Result<Proxy> {
        Proxy::start(STORE, STORE.port(etcd::PORT))
    }

    /// The process, to kill, pause and start. Needs [`Fleet::exclusive`](crate::Fleet::exclusive).
    pub fn etcd(&self) -> &Process {
        assert!(self.breakable, "the store is shared with other tests: use Fleet::exclusive");
        self.bed.store.process()
    }

    /// Loses all of it: the store comes back empty, at revision 1, and under the same etcd cluster id.
    /// Needs [`Fleet::exclusive`](crate::Fleet::exclusive).
    pub async fn wipe(&self) -> Result {
        self.etcd().kill()?;
        self.bed.store.start_empty()?;
        self.ready().await
    }

    /// Keeps what it knows now.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::save(self.bed, STORE, &self.bed.data())
    }

    /// Goes back to a snapshot, under the same etcd cluster id. Needs [`Fleet::exclusive`](crate::Fleet::exclusive).
    pub async fn restore(&self, snapshot: &Snapshot) -> Result {
        self.etcd().kill()?;
        self.bed.store.start_from(&self.bed.parts.bin("etcdutl")?, snapshot.file())?;
        self.ready().await
    }

    /// Waits until it serves.
    pub async fn ready(&self) -> Result {
        self.bed.store.ready().await
    }
}
