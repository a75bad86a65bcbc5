//! Federator itself: one agent process in the place of its cluster, configured like an operator would.
//!
//! The harness knows the configuration file, the admin port and DNS, and nothing else of the daemon.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::dig::{Reply, Resolver};
use crate::place::Place;
use crate::process::Process;
use crate::site::REPLICA;
use crate::{Cluster, Leaks, RecordType, Result, Trio, eventually, http, leaks, parts};

/// From the start of the process to its first answer on the admin port.
const START: Duration = Duration::from_secs(10);

/// What a healthy fleet needs to agree on a change, many times over: slow is not what these waits are to find.
const SETTLE: Duration = Duration::from_secs(20);

/// From SIGTERM to the end: the daemon's own drain, and slack.
const STOP: Duration = Duration::from_secs(20);

/// An agent before its start, with the configuration that it will have.
pub struct AgentSetup<'a> {
    cluster: &'a Cluster,
    config: Value,
    /// Added to every port.
    shift: u16,
    /// Seconds by which its clock is wrong.
    clock: i64,
    /// Variables that it has beside those of the test.
    environment: Vec<OsString>,
}

/// An agent that was started; it is killed when dropped.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    config: PathBuf,
    place: Place,
    admin: SocketAddr,
    endpoints: SocketAddr,
    vip: SocketAddr,
}

impl<'a> AgentSetup<'a> {
    pub(crate) fn new(cluster: &'a Cluster, store: &str, root: &str, namespaces: &[String]) -> Self {
        let (place, lane) = (cluster.place(), cluster.lane());
        let config = json!({
            "cluster": cluster.name(),
            "clusters": [cluster.membership()],
            "store": {"etcd": {"endpoints": [store], "root": root}},
            // Answers are to show all that is known, far as it may be.
            "dns": {"minAnswers": 1000, "maxAnswers": 1000, "listeners": [
                {"address": place.port(lane.endpoints()), "mode": "endpoints"},
                {"address": place.port(lane.vip()), "mode": "vip"},
            ]},
            "import": {"namespaces": {"allow": namespaces}},
            "admin": {"address": place.port(lane.admin())},
        });
        Self { cluster, config, shift: 0, clock: 0, environment: Vec::new() }
    }

    /// Writes into its cluster. Agents of two tests that do so in one cluster take each other's objects for left behind, so
    /// a test does this in a [`Spare`](crate::Spare) cluster, if it is not the only one.
    #[must_use]
    pub fn emitting(mut self) -> Self {
        self.config["emit"] = json!({"kubernetes": {}});
        self
    }

    /// A second agent of the same cluster, on ports of its own, that CoreDNS forwards to as well.
    #[must_use]
    pub fn replica(mut self) -> Self {
        let (place, lane) = (self.cluster.place(), self.cluster.lane());
        self.shift = REPLICA;
        self.config["dns"]["listeners"][0]["address"] = json!(place.port(lane.endpoints() + REPLICA));
        self.config["dns"]["listeners"][1]["address"] = json!(place.port(lane.vip() + REPLICA));
        self.config["admin"]["address"] = json!(place.port(lane.admin() + REPLICA));
        self
    }

    /// With a clock that is ahead by so many seconds, or behind; how long things take, it measures right.
    #[must_use]
    pub fn clock(mut self, ahead: i64) -> Self {
        self.clock = ahead;
        self
    }

    /// With these variables in its environment, which override its configuration file.
    #[must_use]
    pub fn environment<'v>(mut self, variables: impl IntoIterator<Item = (&'v str, &'v str)>) -> Self {
        self.environment.extend(variables.into_iter().map(|(name, value)| format!("{name}={value}").into()));
        self
    }

    /// Without the shared store: it keeps its own in memory, and observes all of its `clusters` itself.
    #[must_use]
    pub fn embedded(mut self) -> Self {
        if let Some(config) = self.config.as_object_mut() {
            config.remove("store");
        }
        self
    }

    /// With another etcd than the fleet's, as the user that has the cluster's name.
    pub fn trio(mut self, trio: &Trio) -> Result<Self> {
        let root = self.config["store"]["etcd"]["root"].take();
        self.config["store"]["etcd"] = trio.config(self.cluster.name())?;
        self.config["store"]["etcd"]["root"] = root;
        Ok(self)
    }

    /// Changes the configuration: `.config(|c| c["dns"]["minAnswers"] = 3.into())`. The listeners and the admin
    /// address stay as they are: CoreDNS and the harness rely on them.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts it and returns when its admin port answers; that it is *ready* is another question
    /// ([`Agent::ready`]).
    pub async fn start(self) -> Result<Agent> {
        let agent = self.launch().await?;
        agent.answers().await?;
        Ok(agent)
    }

    /// Starts it and waits for nothing: for an agent that is expected to refuse.
    pub async fn launch(self) -> Result<Agent> {
        let (cluster, lane, place) = (self.cluster, self.cluster.lane(), self.cluster.place());
        let name = if self.shift == 0 { "agent" } else { "agent-replica" };
        let config = cluster.logs().join(format!("{name}.yaml"));
        fs::write(&config, serde_saphyr::to_string(&self.config)?)?;
        let mut arguments = vec![OsString::from("agent"), "--config".into(), config.clone().into_os_string()];
        let mut program = parts::federator()?;
        let mut environment = self.environment;
        if self.clock != 0 {
            let library = parts::Parts::from_environment()?.share("libfaketime.so.1")?;
            let wrong_clock = [
                format!("LD_PRELOAD={}", library.display()),
                format!("FAKETIME={:+}", self.clock),
                "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            ];
            environment.extend(wrong_clock.into_iter().map(OsString::from));
        }
        if !environment.is_empty() {
            arguments.splice(..0, environment.into_iter().chain([program.into_os_string()]));
            program = PathBuf::from("env");
        }
        let agent = Agent {
            process: Process::new(name, place, program, arguments, cluster.logs()),
            config,
            place,
            admin: place.port(lane.admin() + self.shift),
            endpoints: place.port(lane.endpoints() + self.shift),
            vip: place.port(lane.vip() + self.shift),
        };
        agent.process.start()?;
        cluster.front_agent().await?;
        Ok(agent)
    }
}

impl Agent {
    /// Starts it (again) with the same configuration file; returns when its admin port answers.
    pub async fn start(&self) -> Result {
        self.process.start()?;
        self.answers().await
    }

    /// Its configuration file.
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// Changes its configuration file under it, as whoever mounts it would: in one step.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Value)) -> Result {
        let mut config = serde_saphyr::from_str(&fs::read_to_string(&self.config)?)?;
        change(&mut config);
        let next = self.config.with_extension("next");
        fs::write(&next, serde_saphyr::to_string(&config)?)?;
        fs::rename(&next, &self.config)?;
        Ok(())
    }

    async fn answers(&self) -> Result {
        let what = format!("the agent of {} answers", self.place.name());
        let ended = eventually(START, &what, async || {
            if let Some(status) = self.process.exited()? {
                return Ok(Some(status));
            }
            self.get("/livez").await.map(|_| None)
        });
        match ended.await? {
            None => Ok(()),
            Some(status) => bail!("the agent of {} ended: {status}", self.place.name()),
        }
    }

    /// Waits until it has ended by itself, and returns how.
    pub async fn ended(&self) -> Result<ExitStatus> {
        let what = format!("the agent of {} ends by itself", self.place.name());
        eventually(SETTLE, &what, async || self.process.exited()?.context("it still runs")).await
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) -> Result {
        self.wait("is ready", async || self.get("/readyz").await.map(drop)).await
    }

    /// What it says of itself.
    pub async fn status(&self) -> Result<Value> {
        let status = self.get("/status").await?;
        serde_json::from_str(&status).with_context(|| format!("/status is not JSON: {status}"))
    }

    /// The revision of the View that it serves.
    pub async fn revision(&self) -> Result<u64> {
        let status = self.status().await?;
        status["revision"].as_u64().with_context(|| format!("no revision in {status}"))
    }

    /// Its View as canonical text: equal views are equal texts.
    pub async fn view(&self) -> Result<String> {
        self.get("/view").await
    }

    /// Its metrics, in the Prometheus text format.
    pub async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await
    }

    /// Waits until its View has at least that revision.
    pub async fn wait_for(&self, revision: u64) -> Result {
        let what = format!("is at revision {revision}");
        self.wait(&what, async || {
            let at = self.revision().await?;
            ensure!(at >= revision, "it is at {at}");
            Ok(())
        })
        .await
    }

    /// Waits until its status fulfils a condition, and returns that status.
    pub async fn wait_until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        self.wait(what, async || {
            let status = self.status().await?;
            ensure!(holds(&status), "its status is {status}");
            Ok(status)
        })
        .await
    }

    /// Asks its `endpoints` listener from its own place, without CoreDNS in between.
    pub async fn dig(&self, name: &str, kind: RecordType) -> Result<Reply> {
        self.dns().udp(name, kind).await
    }

    /// What its log and an observer call it: `west/agent`, `west/agent-replica`.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.place.name(), self.process.name())
    }

    /// The cluster that it is in.
    pub(crate) const fn place(&self) -> Place {
        self.place
    }

    /// Its admin port.
    pub(crate) const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its admin port, for command lines.
    pub fn url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Its `endpoints` listener.
    pub const fn dns(&self) -> Resolver {
        self.place.resolver(self.endpoints)
    }

    /// Its `vip` listener.
    pub const fn vip_dns(&self) -> Resolver {
        self.place.resolver(self.vip)
    }

    /// Ends it at once, as a crash would; [`Agent::start`] begins its next life.
    pub fn kill(&self) -> Result {
        self.process.kill()
    }

    /// Asks it to end (SIGTERM), and returns how it did.
    pub async fn terminate(&self) -> Result<ExitStatus> {
        self.process.terminate(STOP).await
    }

    /// Stops it where it stands; [`Agent::resume`] lets it go on.
    pub fn pause(&self) -> Result {
        self.process.pause()
    }

    /// Undoes [`Agent::pause`].
    pub fn resume(&self) -> Result {
        self.process.resume()
    }

    /// The number of its process.
    pub fn pid(&self) -> Result<u32> {
        self.process.pid()
    }

    /// What its process holds now: files, connections, threads, memory.
    pub fn leaks(&self) -> Result<Leaks> {
        Leaks::of(self.process.pid()?)
    }

    /// The other ends of its established TCP connections: `10.0.0.2:6443` is west's API server.
    pub fn connections(&self) -> Result<Vec<SocketAddr>> {
        leaks::connections(self.process.pid()?)
    }

    /// Everything it has logged in all its lives.
    pub fn logs(&self) -> String {
        self.process.logs()
    }

    async fn get(&self, path: &str) -> Result<String> {
        http::get(self.place, self.admin, path).await
    }

    async fn wait<T>(&self, what: &str, look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        eventually(SETTLE, &format!("the agent of {} {what}", self.place.name()), look).await
    }
}
