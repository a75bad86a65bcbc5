//! A test's handle on one cluster: its API, its place, its DNS and its parts.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::control_plane::ControlPlane;
use crate::coredns::CoreDns;
use crate::dig::{Reply, Resolver};
use crate::furniture::NODES;
use crate::place::Place;
use crate::process::Process;
use crate::site::Lane;
use crate::{RecordType, Result, eventually, manifest};

/// CoreDNS reads its cluster in a quarter of a second.
const COREDNS: Duration = Duration::from_secs(20);

/// One cluster, with a client of the test's own runtime.
pub struct Cluster {
    bed: &'static Bed,
    plane: &'static ControlPlane,
    client: Client,
    lane: Lane,
    logs: PathBuf,
    breakable: bool,
    /// The CoreDNS of this test's lane, once there is an agent that it can forward to.
    coredns: OnceLock<CoreDns>,
}

impl Cluster {
    pub(crate) async fn new(
        bed: &'static Bed,
        plane: &'static ControlPlane,
        lane: Lane,
        logs: &Path,
        breakable: bool,
    ) -> Result<Self> {
        let logs = logs.join(plane.site.name);
        fs::create_dir_all(&logs)?;
        let client = plane.client().await?;
        Ok(Self { bed, plane, client, lane, logs, breakable, coredns: OnceLock::new() })
    }

    /// `east`, `west` or `south`; a spare one is `north` or one of its sisters.
    pub fn name(&self) -> &'static str {
        self.plane.site.name
    }

    /// `n1` or `n2`.
    pub fn network(&self) -> &'static str {
        self.plane.site.network
    }

    /// Where it is on the wire: to listen on its pods' addresses, or to connect as one of its pods would.
    pub fn place(&self) -> Place {
        self.plane.site.place()
    }

    /// Every address that a pod of it may ever have: what may be answered while nobody knows yet which it gets.
    pub fn pod_addresses(&self) -> BTreeSet<IpAddr> {
        let of_node = |node| (1..=u8::MAX).map(move |pod| [10, self.plane.site.digit * 10, node, pod].into());
        (1..=NODES).flat_map(of_node).collect()
    }

    /// A client with all rights, for `kube::Api`.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A file that opens this cluster with all rights; everything in it is inline.
    pub fn kubeconfig(&self) -> &Path {
        &self.plane.credentials.kubeconfig
    }

    /// This cluster as an entry of `clusters:` in an agent's configuration.
    pub fn membership(&self) -> Value {
        json!({
            "id": self.name(),
            "network": self.network(),
            "kubernetes": {"kubeconfig": self.kubeconfig()},
        })
    }

    /// Applies manifests of any kind, server-side; a namespaced object that names no namespace goes to
    /// `namespace`.
    pub async fn apply(&self, namespace: &str, manifests: &str) -> Result {
        manifest::apply(&self.client, namespace, manifests).await
    }

    /// Asks the cluster's CoreDNS, as a pod of it would.
    pub async fn dig(&self, name: &str, kind: RecordType) -> Result<Reply> {
        self.dns().udp(name, kind).await
    }

    /// The cluster's CoreDNS; names below `global` come from the `endpoints` listener of this test's agent.
    pub fn dns(&self) -> Resolver {
        self.place().resolver(self.coredns().address())
    }

    /// The same with names below `global` from the `vip` listener: what meshed pods would ask.
    pub fn vip_dns(&self) -> Resolver {
        self.place().resolver(self.coredns().vip_address())
    }

    /// A part: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kwok` or `coredns`.
    ///
    /// It may be killed, paused and started again: whatever a test leaves broken is mended after it. So it needs
    /// [`Fleet::exclusive`](crate::Fleet::exclusive). Mind that a kwok that was killed gives out addresses
    /// again that living pods have.
    pub fn component(&self, name: &str) -> Result<&'static Process> {
        assert!(self.breakable, "{} is shared with other tests: use Fleet::exclusive", self.name());
        self.plane.process(name)
    }

    /// Waits until every part serves, after some were broken and started again.
    pub async fn ready(&self) -> Result {
        self.plane.ready(&self.client).await
    }

    pub(crate) const fn plane(&self) -> &'static ControlPlane {
        self.plane
    }

    /// A number that nothing in the bed has had before.
    pub(crate) fn number(&self) -> u32 {
        self.bed.number()
    }

    /// An executable of the parts.
    pub(crate) fn part(&self, name: &str) -> Result<PathBuf> {
        self.bed.parts.bin(name)
    }

    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    pub(crate) const fn lane(&self) -> Lane {
        self.lane
    }

    /// Puts a CoreDNS in front of this test's agent, unless its lane is the one that the standing CoreDNS
    /// forwards to.
    pub(crate) async fn front_agent(&self) -> Result {
        if self.lane == self.plane.coredns.lane() || self.coredns.get().is_some() {
            return Ok(());
        }
        let coredns = CoreDns::new(
            self.plane.site,
            self.lane,
            self.bed.parts.bin("coredns")?,
            self.kubeconfig(),
            &self.logs,
            &self.logs,
        )?;
        let coredns = self.coredns.get_or_init(|| coredns);
        coredns.process().start()?;
        eventually(COREDNS, "the test's own CoreDNS serves", async || coredns.check().await).await
    }

    fn coredns(&self) -> &CoreDns {
        self.coredns.get().unwrap_or(&self.plane.coredns)
    }
}
