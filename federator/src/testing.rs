//! What the tests of several stages share: exports written as short texts, and a store that fails on request. Holds
//! no assertions.

use crate::{
    config::Config,
    gather,
    observe::Observed,
    store::{Batch, Committed, Lease, Snapshot, Store, StoreError, Txn, Watch, embedded::Embedded},
};
use async_trait::async_trait;
use futures::FutureExt as _;
use model::{
    cluster::{Meta, SetHash, Synced},
    export::{Address, Endpoint, Export, Head, Health, Kind, Port, Protocol, Slice, TargetPort, Traits, Workload},
    generation::Generation,
    locality::{Locality, Network},
    name::{ClusterId, ServiceKey},
    record::Record as _,
    tracked::Tracked,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// These writes, and the marker of an owner of `cluster` that speaks of all records there are then.
pub(crate) fn as_owner(
    store: &Embedded,
    cluster: &str,
    epoch: u64,
    writes: &[(String, Option<Vec<u8>>)],
) -> Vec<(String, Option<Vec<u8>>)> {
    let stands = now(store.read("")).expect("it is there").entries;
    let prefix = format!("records/{cluster}/");
    let mut records: BTreeMap<&String, &[u8]> =
        stands.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(key, entry)| (key, &*entry.value)).collect();
    for (key, value) in writes.iter().filter(|(key, _)| key.starts_with(&prefix)) {
        match value {
            Some(value) => _ = records.insert(key, value),
            None => _ = records.remove(key),
        }
    }
    let generation = |value: &[u8]| Generation::decode(value).expect("a generation").id;
    let written = writes.iter().find(|(key, _)| key == "generation").and_then(|(_, value)| value.as_deref());
    let life = written.or_else(|| stands.get("generation").map(|entry| &*entry.value)).map(generation);
    let synced = Synced {
        epoch,
        generation: life.unwrap_or_default(),
        records: records.len() as u64,
        hash: records.iter().fold(SetHash::default(), |sum, (key, value)| sum.plus(SetHash::of(key, value))),
        ..Synced::default()
    };
    let marker = format!("clusters/{cluster}/synced");
    let others = writes.iter().filter(|(key, _)| *key != marker).cloned();
    others.chain([(marker.clone(), Some(synced.encode()))]).collect()
}

/// A configuration of the cluster `east` with these fields besides.
pub(crate) fn configured(more: serde_json::Value) -> Config {
    let mut file = serde_json::json!({ "cluster": "east", "clusters": [{ "id": "east", "kubernetes": {} }] });
    if let (Some(fields), serde_json::Value::Object(more)) = (file.as_object_mut(), more) {
        fields.extend(more);
    }
    Config::check(serde_json::from_value(file).expect("known fields")).expect("good values")
}

/// What gathering needs, of a store that nobody else uses.
pub(crate) fn gathering() -> gather::Config {
    static LIVES: AtomicU64 = AtomicU64::new(1);
    let new_id = || LIVES.fetch_add(1, Ordering::Relaxed).to_string();
    let grace = Duration::from_secs(30);
    gather::Config { zone: "global".into(), grace, first_grace: Duration::ZERO, new_id }
}

/// The result of a future that never waits, as those of the embedded store are.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it does not wait")
}

pub(crate) fn id(text: &str) -> ClusterId {
    ClusterId::parse(text).expect("a cluster id")
}

/// `namespace/name`.
pub(crate) fn key(text: &str) -> ServiceKey {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    ServiceKey::parse(namespace, name).expect("labels")
}

/// Ports as `name:number[/PROTOCOL][@appProtocol]`.
pub(crate) fn head(ports: &str) -> Head {
    let port = |text: &str| {
        let (text, app_protocol) = text.split_once('@').unwrap_or((text, ""));
        let (name, number, protocol) = target(text);
        Port { name, number, protocol, app_protocol: app_protocol.into() }
    };
    Head { ports: ports.split_whitespace().map(port).collect(), ..Head::default() }
}

pub(crate) fn headless(ports: &str) -> Head {
    Head { kind: Kind::Headless, ..head(ports) }
}

/// Ports as `name:number[/PROTOCOL]`, endpoints as `[host=]address[%network][~|-][@region/zone]`: `~` drains, `-` is
/// not ready.
pub(crate) fn slice(ports: &str, endpoints: &str) -> Slice {
    let endpoint = |text: &str| {
        let (text, at) = text.split_once('@').unwrap_or((text, ""));
        let (region, zone) = at.split_once('/').unwrap_or((at, ""));
        let (hostname, text) = text.split_once('=').unwrap_or(("", text));
        let health = match text.chars().last() {
            Some('~') => Health::Draining,
            Some('-') => Health::NotReady,
            _ => Health::Ready,
        };
        let text = text.trim_end_matches(['~', '-']);
        let (address, network) = text.split_once('%').unwrap_or((text, ""));
        Endpoint {
            address: address
                .parse()
                .ok()
                .map(Address::Ip)
                .or_else(|| Address::parse_host(address))
                .expect("an address"),
            health,
            traits: Arc::new(Traits {
                network: (!network.is_empty()).then(|| Network::new(network)),
                hostname: hostname.into(),
                locality: Locality::new(region, zone, ""),
                workload: Workload::unknown(),
            }),
        }
    };
    let port = |text| {
        let (name, number, protocol) = target(text);
        TargetPort { name, number, protocol }
    };
    Slice {
        ports: ports.split_whitespace().map(port).collect(),
        endpoints: endpoints.split_whitespace().map(endpoint).collect(),
    }
}

fn target(text: &str) -> (Arc<str>, u16, Protocol) {
    let (text, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let (name, number) = text.split_once(':').expect("name:number");
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = all.into_iter().find(|known| known.as_str() == protocol);
    (name.into(), number.parse().expect("a number"), protocol.expect("a protocol"))
}

/// Slices get the names `s0`, `s1`, ….
pub(crate) fn export(head: Head, slices: impl IntoIterator<Item = Slice>) -> Arc<Export> {
    let named = slices.into_iter().enumerate().map(|(n, slice)| (format!("s{n}").into(), Arc::new(slice)));
    Arc::new(Export { head: Arc::new(head), slices: named.collect() })
}

/// A service whose endpoints listen on its own port 80.
pub(crate) fn plain(endpoints: &str) -> Arc<Export> {
    export(head("http:80"), [slice("http:80", endpoints)])
}

pub(crate) fn meta(uid: &str, network: &str) -> Meta {
    Meta { uid: uid.into(), network: Network::new(network), ..Meta::default() }
}

/// A complete look at a cluster with the uid `uid` on network `n1`.
pub(crate) fn observed<'a>(exports: impl IntoIterator<Item = (&'a str, Arc<Export>)>) -> Observed {
    let mut tracked = Tracked::new();
    for (service, export) in exports {
        tracked.set(key(service), Some(export));
    }
    Observed {
        meta: meta("uid", "n1"),
        exports: tracked,
        synced: true,
        source_version: "1".into(),
        ..Observed::default()
    }
}

/// A store that can be taken away, replaced, and made to lose single answers.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    /// The store behind it, or `None` while it cannot be reached.
    inner: watch::Sender<Option<Embedded>>,
    commits: Arc<Mutex<VecDeque<Fault>>>,
}

/// What happens to a commit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It does not arrive.
    LostRequest,
    /// It is done, and the answer does not arrive.
    LostAnswer,
}

struct FaultyWatch {
    watch: Box<dyn Watch>,
    inner: watch::Receiver<Option<Embedded>>,
}

impl Faulty {
    pub(crate) fn new(store: &Embedded) -> Self {
        Self { inner: watch::Sender::new(Some(store.clone())), commits: Arc::default() }
    }

    /// Takes the store away, or puts another in its place: watches end.
    pub(crate) fn set(&self, store: Option<&Embedded>) {
        self.inner.send_replace(store.cloned());
    }

    /// What happens to the next commits.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.commits.lock().expect("no panic").extend(faults);
    }

    fn inner(&self) -> Result<Embedded, StoreError> {
        self.inner.borrow().clone().ok_or_else(gone)
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("taken away by the test".to_owned())
}

#[async_trait]
impl Store for Faulty {
    async fn read(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.inner()?.read(prefix).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Committed, StoreError> {
        let store = self.inner()?;
        let fault = self.commits.lock().expect("no panic").pop_front();
        match fault {
            None => store.commit(txn).await,
            Some(Fault::LostRequest) => Err(gone()),
            Some(Fault::LostAnswer) => {
                store.commit(txn).await?;
                Err(gone())
            }
        }
    }

    async fn watch(&self, revision: u64) -> Result<Box<dyn Watch>, StoreError> {
        let store = self.inner()?;
        let mut inner = self.inner.subscribe();
        inner.mark_unchanged();
        let watch = store.watch(revision).await?;
        Ok(Box::new(FaultyWatch { watch, inner }))
    }

    async fn lease(&self) -> Result<Box<dyn Lease>, StoreError> {
        self.inner()?.lease().await
    }

    fn adopt(&self) {}
}

#[async_trait]
impl Watch for FaultyWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        tokio::select! {
            biased;
            _ = self.inner.changed() => Err(gone()),
            batch = self.watch.next() => batch,
        }
    }
}
