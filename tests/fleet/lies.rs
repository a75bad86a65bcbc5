//! API servers that die, freeze, forget, refuse or cannot be reached: no endpoint leaves an answer for it, and what
//! changed meanwhile is there soon after.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use harness::{Agent, Cluster, Expected, Fleet, Load, RestartApiServer, Result, eventually};
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

/// A service without a selector, whose one slice has these addresses.
fn manual(addresses: &[&str]) -> String {
    let endpoints: Vec<String> = addresses.iter().map(|address| format!("{{addresses: [{address}]}}")).collect();
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: manual}}
spec: {{ports: [{{name: http, port: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: manual-1, labels: {{kubernetes.io/service-name: manual}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints: [{}]
",
        endpoints.join(", ")
    )
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
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

/// An agent of east that observes a spare cluster through a Secret, with a service `web` of two pods there that is
/// asked for all the time.
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
        north.deploy(&ns, "web", 2, 8080).await?;
        let reader = north.reader("reader").await?;
        fleet.cluster("east").remote_secret(&ns, "north", &[("north", &reader.kubeconfig()?)]).await?;
        let agent = agent_of_secrets(fleet, &ns).await?;
        let (ns, name) = (ns.to_string(), format!("web.{ns}.global"));
        let now = pods(north, &ns, "web").await?;
        told(&agent, &name, &now).await?;
        let load = Load::start(&[agent.dns()], &name, Expected::exactly(&now), PERIOD);
        Ok(Self { agent, north, ns, name, load })
    }

    /// Scales to one pod more, and waits until that is known; nothing may be missing meanwhile.
    async fn grow(&self, replicas: u32) -> Result {
        let before = pods(self.north, &self.ns, "web").await?;
        self.may_grow(&before);
        self.north.scale(&self.ns, "web", replicas).await?;
        self.catches_up().await
    }

    fn may_grow(&self, before: &BTreeSet<IpAddr>) {
        self.load.expect(Expected::between(before, &(0..=255).map(|n| IpAddr::from([10, 40, 1, n])).collect()));
    }

    async fn catches_up(&self) -> Result {
        let now = pods(self.north, &self.ns, "web").await?;
        told(&self.agent, &self.name, &now).await?;
        self.load.expect(Expected::exactly(&now));
        Ok(())
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
        scene.grow(3).await?;
        north(&scene.agent, "is well", is_well).await?;

        let until = Instant::now() + AWAY;
        api_server.pause()?;
        let frozen = north(&scene.agent, "cannot be reached", |north| says(north, "Unreachable").is_some()).await?;
        assert!(frozen["observed"]["frozenSeconds"].is_u64(), "{frozen}");
        sleep_until(until).await;
        api_server.resume()?;
        scene.grow(4).await?;
        north(&scene.agent, "is well", is_well).await?;
        scene.load.stop().await?.flawless(1000)
    })
}

#[test]
fn a_cut_of_minutes_withdraws_nothing_and_what_changed_is_there_at_once() -> Result {
    Fleet::shared_within(LIMIT, async |fleet| {
        let spare = fleet.spare().await?;
        let scene = Scene::new(fleet, "cut", &spare).await?;
        let before = pods(&spare, &scene.ns, "web").await?;
        let until = Instant::now() + CUT;
        let cut = spare.cut("east")?;
        spare.scale(&scene.ns, "web", 3).await?;
        north(&scene.agent, "cannot be reached", |north| says(north, "Unreachable").is_some()).await?;
        sleep_until(until).await;
        scene.may_grow(&before);
        let healed = Instant::now();
        cut.heal()?;
        scene.catches_up().await?;
        // For people; a busy machine is no fault.
        println!("the change was there {:?} after the return", healed.elapsed());
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
        let name = format!("manual.{ns}.global");
        spare.apply(ns, &manual(&["10.40.9.1"])).await?;
        told(agent, &name, &addresses(&["10.40.9.1"])).await?;
        let snapshot = spare.snapshot()?;
        // What is made in the time that will be lost.
        scene.grow(3).await?;
        let lost = pods(&spare, ns, "web").await?;
        spare.deploy(ns, "late", 1, 8080).await?;
        let late = pods(&spare, ns, "late").await?;
        told(agent, &format!("late.{ns}.global"), &late).await?;

        // The API server goes on, and lies.
        spare.restore(&snapshot, RestartApiServer::No).await?;
        let frozen = north(agent, "is found out", |north| says(north, "RolledBack").is_some()).await?;
        assert!(frozen["observed"]["remembered"].as_u64() > Some(0), "{frozen}");
        told(agent, &format!("late.{ns}.global"), &late).await?;
        // Of what is known, a change is seen all the same.
        spare.apply(ns, &manual(&["10.40.9.1", "10.40.9.2"])).await?;
        told(agent, &name, &addresses(&["10.40.9.1", "10.40.9.2"])).await?;
        ensure!(says(&agent.status().await?["clusters"]["north"], "RolledBack").is_some(), "it still lies");

        // It starts anew and tells the truth: the cluster thaws, and what was lost is remembered.
        let api_server = spare.component("kube-apiserver")?;
        api_server.kill()?;
        api_server.start()?;
        spare.ready().await?;
        let thawed = north(agent, "tells the truth", is_well).await?;
        let remembered = thawed["observed"]["rememberedNames"].to_string();
        ensure!(remembered.contains(&format!("Service {ns}/late")), "{thawed}");
        told(agent, &format!("late.{ns}.global"), &late).await?;
        spare.deploy(ns, "new", 1, 8080).await?;
        told(agent, &format!("new.{ns}.global"), &pods(&spare, ns, "new").await?).await?;

        // Both at once: found out by the list itself.
        let now = agent.dig(&scene.name, harness::RecordType::A).await?.addresses();
        scene.load.expect(Expected::between(&BTreeSet::new(), &(&lost | &now)));
        spare.restore(&snapshot, RestartApiServer::Yes).await?;
        north(agent, "thaws", |north| is_well(north) && north["observed"]["remembered"].as_u64() > Some(0)).await?;
        let kept = agent.dig(&format!("new.{ns}.global"), harness::RecordType::A).await?;
        ensure!(!kept.addresses().is_empty(), "{kept}");
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
        west.scale(&ns, "web", 2).await?;
        let more = pods(west, &ns, "web").await?;
        load.expect(Expected::between(&now, &more));
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
