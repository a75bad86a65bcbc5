//! API servers that die, freeze, forget, refuse or cannot be reached: no endpoint leaves an answer for it, and what
//! changed meanwhile is there soon after.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use harness::{Agent, Cluster, Expected, Fleet, Load, RestartApiServer, Result, eventually};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::federation::pods;
use crate::membership::{agent_of_secrets, told};

/// Between two queries.
const PERIOD: Duration = Duration::from_millis(20);

/// How long the way to an API server is cut.
const CUT: Duration = Duration::from_secs(180);

/// How long an API server is away that is killed or frozen.
const AWAY: Duration = Duration::from_secs(20);

/// How late a change may be that was made before an API server came back. What is waited for is the change, not a
/// time; this says only how often a busy machine may be looked at.
const LIMIT: Duration = Duration::from_secs(400);

/// A service without a selector, whose one slice has that many endpoints.
pub(crate) fn manual(name: &str, endpoints: u8) -> String {
    let endpoints: Vec<_> = addresses(endpoints).iter().map(|address| format!("{{addresses: [{address}]}}")).collect();
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{name: http, port: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints: [{}]
",
        endpoints.join(", ")
    )
}

/// The endpoints of such a service.
pub(crate) fn addresses(endpoints: u8) -> BTreeSet<IpAddr> {
    (1..=endpoints).map(|n| IpAddr::from([10, 99, 0, n])).collect()
}

/// What an agent says of the cluster north.
async fn north(agent: &Agent, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(Duration::from_secs(60), &format!("north {what}"), async || {
        let north = agent.status().await?["clusters"]["north"].clone();
        ensure!(holds(&north), "{north}");
        Ok(north)
    })
    .await
}

fn says<'a>(cluster: &'a Value, reason: &str) -> Option<&'a str> {
    cluster["conditions"][reason].as_str()
}

fn is_well(cluster: &Value) -> bool {
    cluster["conditions"].is_null() && cluster["observed"]["frozenSeconds"].is_null()
}

/// An agent of east that observes a spare cluster through a Secret, with a service there that is asked for all the time.
/// Its slice is made by hand: controllers have troubles of their own with an API server that dies.
struct Scene<'a> {
    agent: Agent,
    north: &'a Cluster,
    ns: String,
    name: String,
    load: Load,
}

impl<'a> Scene<'a> {
    async fn new(fleet: &Fleet, prefix: &str, north: &'a Cluster) -> Result<Self> {
        let ns = fleet.namespace(prefix).await?;
        ns.add_to(north).await?;
        north.apply(&ns, &manual("web", 1)).await?;
        let reader = north.reader("reader").await?;
        fleet.cluster("east").remote_secret(&ns, "north", &[("north", &reader.kubeconfig()?)]).await?;
        let agent = agent_of_secrets(fleet, &ns).await?;
        let (ns, name) = (ns.to_string(), format!("web.{ns}.global"));
        told(&agent, &name, &addresses(1)).await?;
        let load = Load::start(&[agent.dns()], &name, Expected::exactly(&addresses(1)), PERIOD);
        Ok(Self { agent, north, ns, name, load })
    }

    /// Gives the service that many endpoints, at least one more than before.
    async fn write(&self, endpoints: u8) -> Result {
        self.load.expect(Expected::between(&addresses(endpoints - 1), &addresses(endpoints)));
        self.north.apply(&self.ns, &manual("web", endpoints)).await
    }

    /// Waits until that many are known.
    async fn catches_up(&self, endpoints: u8) -> Result {
        told(&self.agent, &self.name, &addresses(endpoints)).await?;
        self.load.expect(Expected::exactly(&addresses(endpoints)));
        Ok(())
    }

    /// Makes another service, and waits until it is known.
    async fn make(&self, service: &str) -> Result {
        self.north.apply(&self.ns, &manual(service, 1)).await?;
        self.has(service).await
    }

    async fn has(&self, service: &str) -> Result {
        told(&self.agent, &format!("{service}.{}.global", self.ns), &addresses(1)).await
    }
}

#[test]
fn an_api_server_that_dies_or_freezes_takes_nothing_with_it() -> Result {
    Fleet::shared_within(LIMIT, async |fleet| {
        let spare = fleet.spare().await?;
        let scene = Scene::new(fleet, "dies", &spare).await?;
        let api_server = spare.component("kube-apiserver")?;

        let until = Instant::now() + AWAY;
        api_server.kill()?;
        north(&scene.agent, "cannot be reached", |north| says(north, "Unreachable").is_some()).await?;
        sleep_until(until).await;
        api_server.start()?;
        spare.ready().await?;
        scene.write(2).await?;
        scene.catches_up(2).await?;
        north(&scene.agent, "is well", is_well).await?;

        let until = Instant::now() + AWAY;
        api_server.pause()?;
        let frozen = north(&scene.agent, "cannot be reached", |north| says(north, "Unreachable").is_some()).await?;
        assert!(frozen["observed"]["frozenSeconds"].is_u64(), "{frozen}");
        sleep_until(until).await;
        api_server.resume()?;
        scene.write(3).await?;
        scene.catches_up(3).await?;
        north(&scene.agent, "is well", is_well).await?;
        scene.load.stop().await?.flawless(1000)
    })
}

#[test]
fn a_cut_of_minutes_withdraws_nothing_and_what_changed_is_there_at_once() -> Result {
    Fleet::shared_within(LIMIT, async |fleet| {
        let spare = fleet.spare().await?;
        let scene = Scene::new(fleet, "cut", &spare).await?;
        let until = Instant::now() + CUT;
        let cut = spare.cut("east")?;
        scene.write(2).await?;
        north(&scene.agent, "cannot be reached", |north| says(north, "Unreachable").is_some()).await?;
        sleep_until(until).await;
        let healed = Instant::now();
        cut.heal()?;
        scene.catches_up(2).await?;
        // For people; a busy machine is no fault.
        #[expect(clippy::print_stdout, reason = "a figure that nobody may insist on")]
        {
            println!("the change was there {:?} after the return", healed.elapsed());
        }
        north(&scene.agent, "is well", is_well).await?;
        scene.load.stop().await?.flawless(5000)
    })
}

#[test]
fn a_storage_that_goes_back_takes_nothing_with_it() -> Result {
    Fleet::shared_within(LIMIT, async |fleet| {
        let spare = fleet.spare().await?;
        let scene = Scene::new(fleet, "back", &spare).await?;
        let (ns, agent) = (&scene.ns, &scene.agent);
        let snapshot = spare.snapshot()?;
        // What is written in the time that will be lost.
        scene.write(2).await?;
        scene.catches_up(2).await?;
        scene.make("lost").await?;

        // The API server goes on, and lies.
        spare.restore(&snapshot, RestartApiServer::No).await?;
        let frozen = north(agent, "is found out", |north| says(north, "RolledBack").is_some()).await?;
        assert!(frozen["observed"]["remembered"].as_u64() > Some(0), "{frozen}");
        scene.has("lost").await?;
        // Of what is known, a change is seen all the same.
        scene.write(3).await?;
        scene.catches_up(3).await?;
        let status = agent.status().await?;
        ensure!(says(&status["clusters"]["north"], "RolledBack").is_some(), "it still lies: {status}");

        // It starts anew and tells the truth: the cluster thaws, and what was lost is remembered.
        let api_server = spare.component("kube-apiserver")?;
        api_server.kill()?;
        api_server.start()?;
        spare.ready().await?;
        let thawed = north(agent, "tells the truth", is_well).await?;
        let remembered = thawed["observed"]["rememberedNames"].to_string();
        ensure!(remembered.contains(&format!("Service {ns}/lost")), "{thawed}");
        scene.has("lost").await?;
        scene.make("new").await?;

        // Both at once: the list itself tells.
        spare.restore(&snapshot, RestartApiServer::Yes).await?;
        let thaws =
            |north: &Value| is_well(north) && north["observed"]["rememberedNames"].to_string().contains("/new\"");
        north(agent, "thaws with what was lost", thaws).await?;
        scene.has("lost").await?;
        scene.has("new").await?;
        // What comes back is no longer only remembered, and may go.
        scene.make("lost").await?;
        Api::<Service>::namespaced(spare.client(), ns).delete("lost", &DeleteParams::default()).await?;
        told(agent, &format!("lost.{ns}.global"), &BTreeSet::new()).await?;
        scene.load.stop().await?.flawless(500)
    })
}

#[test]
fn a_revoked_credential_is_found_out_behind_its_open_watches() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("revoked").await?;
        let [east, west] = ["east", "west"].map(|name| fleet.cluster(name));
        west.deploy(&ns, "web", 1, 8080).await?;
        let mut reader = west.reader("reader").await?;
        let secret = east.remote_secret(&ns, "west", &[("west", &reader.kubeconfig()?)]).await?;
        let agent = agent_of_secrets(fleet, &ns).await?;
        let (name, now) = (format!("web.{ns}.global"), pods(west, &ns, "web").await?);
        told(&agent, &name, &now).await?;
        let load = Load::start(&[agent.dns()], &name, Expected::exactly(&now), PERIOD);
        reader.revoke().await?;
        reader.refused().await?;
        let refused = |status: &Value| status["clusters"]["west"]["conditions"]["CredentialsRefused"].is_string();
        agent.wait_until("the credentials are found out", refused).await?;
        reader.renew().await?;
        secret.replace(&[("west", &reader.kubeconfig()?)]).await?;
        agent.wait_until("all is well", |status| is_well(&status["clusters"]["west"])).await?;
        load.expect(Expected::between(&now, &west.pod_addresses()));
        west.scale(&ns, "web", 2).await?;
        let more = pods(west, &ns, "web").await?;
        told(&agent, &name, &more).await?;
        load.stop().await?.flawless(100)
    })
}

#[test]
fn a_connection_that_falls_silent_is_replaced() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("silent").await?;
        let [east, west] = ["east", "west"].map(|name| fleet.cluster(name));
        west.deploy(&ns, "web", 1, 8080).await?;
        let reader = west.reader("reader").await?;
        let proxy = west.proxy()?;
        east.remote_secret(&ns, "west", &[("west", &reader.kubeconfig_at(&proxy.url())?)]).await?;
        let agent = agent_of_secrets(fleet, &ns).await?;
        let name = format!("web.{ns}.global");
        told(&agent, &name, &pods(west, &ns, "web").await?).await?;
        let before = proxy.accepted();
        proxy.stall_open();
        west.scale(&ns, "web", 2).await?;
        told(&agent, &name, &pods(west, &ns, "web").await?).await?;
        ensure!(proxy.accepted() > before, "a new connection");
        Ok(())
    })
    .context("a silent connection")
}
