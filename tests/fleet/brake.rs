//! What a new owner misses of a cluster: it goes at once where single questions confirm that, and is held where nobody
//! can, until an operator accepts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use harness::{Agent, Cluster, Expected, Fleet, Load, Result, SOON, Said, eventually};
use serde_json::{Value, json};

use crate::lies::{addresses, manual};
use crate::membership::told;

/// Endpoints of the service before and after.
const ALL: u8 = 60;
const HALF: u8 = 30;

/// Between two queries.
const PERIOD: Duration = Duration::from_millis(5);

/// Fewer answers would prove little.
const ENOUGH: usize = 100;

/// What an agent says of east, once it says this.
async fn east(agent: &Agent, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let status = agent.wait_until(&format!("east {what}"), |status| holds(&status["clusters"]["east"])).await?;
    Ok(status["clusters"]["east"].clone())
}

/// Accepts what is held of east, as an operator with the configuration of an agent.
fn accept(cluster: &Cluster, agent: &Agent) -> Result<Said> {
    let config = agent.config_file().display().to_string();
    cluster.federator(["cluster", "accept-withdrawal", "east", "--config", &config])
}

/// An agent of east that exports nothing of other tests: a share is one of all there is.
async fn agent_of(fleet: &Fleet, ns: &str) -> Result<Agent> {
    let only = json!({ "namespaces": { "allow": [ns] } });
    fleet.agent("east").config(|config| config["export"] = only).start().await
}

/// Everything of it stands in the store, and nothing is held.
fn owned_and_well(east: &Value) -> bool {
    east["observed"]["owner"] == true
        && east["synced"] == true
        && east["conditions"].is_null()
        && east["hold"].is_null()
}

#[test]
fn what_went_while_no_agent_looked_goes_as_single_questions_confirm_it() -> Result {
    Fleet::shared(async |fleet| {
        let (ns, cluster) = (fleet.namespace("brake").await?, fleet.cluster("east"));
        cluster.apply(&ns, &manual("web", ALL)).await?;
        let agent = agent_of(fleet, &ns).await?;
        let name = format!("web.{ns}.global");
        told(&agent, &name, &addresses(ALL)).await?;
        east(&agent, "is published", owned_and_well).await?;
        agent.terminate().await?;
        cluster.apply(&ns, &manual("web", HALF)).await?;
        agent.start().await?;
        // It may be over before anybody looks; what the agent says of itself stays.
        agent.wait_until("held what it missed", |_| agent.logs().contains("misses 30 of")).await?;
        told(&agent, &name, &addresses(HALF)).await?;
        east(&agent, "holds nothing", owned_and_well).await.map(drop)
    })
}

#[test]
fn what_nobody_can_confirm_is_held_until_an_operator_accepts_it() -> Result {
    Fleet::shared(async |fleet| {
        let (ns, cluster) = (fleet.namespace("brake").await?, fleet.cluster("east"));
        cluster.apply(&ns, &manual("web", ALL)).await?;
        let agent = agent_of(fleet, &ns).await?;
        let name = format!("web.{ns}.global");
        told(&agent, &name, &addresses(ALL)).await?;
        east(&agent, "is published", owned_and_well).await?;
        agent.terminate().await?;

        // From here on east is a directory: it answers no questions.
        let beside = agent.config_file().parent().context("a directory")?;
        let directory = beside.join(format!("manifests-{ns}"));
        fs::create_dir_all(&directory)?;
        let manifests = manual("web", HALF).replace("metadata: {", &format!("metadata: {{namespace: {ns}, "));
        fs::write(directory.join("web.yaml"), manifests)?;
        agent.reconfigure(|config| {
            config["clusters"] = json!([{ "id": "east", "directory": directory, "network": cluster.network() }]);
        })?;
        agent.start().await?;
        let held = |east: &Value| east["hold"]["endpoints"].as_u64() >= Some(30) && east["hold"]["accepted"] == false;
        let status = east(&agent, "holds", held).await?;
        let why = status["conditions"]["WithdrawalHeld"].as_str().unwrap_or_default();
        ensure!(why.contains("federator cluster accept-withdrawal east"), "{status}");
        ensure!(agent.metrics().await?.contains("federator_cluster_held_endpoints{cluster=\"east\"} "));
        // Held ones are not answered as long as others are ready, and are there all the same.
        told(&agent, &name, &addresses(HALF)).await?;
        let endpoints = async || -> Result<Value> {
            Ok(agent.status().await?["services"][format!("{ns}/web")]["exports"][0]["endpoints"].clone())
        };
        ensure!(endpoints().await? == ALL);

        let said = accept(cluster, &agent)?.done()?;
        ensure!(said.contains("is accepted; its owner withdraws them"), "{said}");
        east(&agent, "holds nothing", owned_and_well).await?;
        ensure!(endpoints().await? == HALF);
        told(&agent, &name, &addresses(HALF)).await
    })
}

#[test]
fn a_new_owner_whose_lists_lack_what_is_there_withdraws_nothing() -> Result {
    Fleet::shared(async |fleet| {
        let (ns, cluster) = (fleet.namespace("brake").await?, fleet.cluster("east"));
        for service in ["web", "api"] {
            cluster.apply(&ns, &manual(service, HALF)).await?;
        }
        let agent = agent_of(fleet, &ns).await?;
        let elsewhere = fleet.agent("west").start().await?;
        let name = format!("web.{ns}.global");
        told(&elsewhere, &name, &addresses(HALF)).await?;
        told(&elsewhere, &format!("api.{ns}.global"), &addresses(HALF)).await?;
        east(&agent, "is published", owned_and_well).await?;
        let load = Load::start(&[elsewhere.dns()], &name, Expected::exactly(&addresses(HALF)), PERIOD);

        // The next owner lists through somebody who leaves out the slice of `web`, and gets it when it asks for it.
        agent.terminate().await?;
        let liar = cluster.liar("endpointslices", "web-1")?;
        agent.reconfigure(|config| {
            config["clusters"][0]["kubernetes"]["kubeconfig"] = json!(liar.kubeconfig());
        })?;
        agent.start().await?;
        agent.wait_until("held what it missed", |_| agent.logs().contains("misses 30 of 60 endpoints")).await?;
        east(&agent, "holds nothing", owned_and_well).await?;
        ensure!(liar.lies() > 0, "nobody was lied to");
        told(&agent, &name, &addresses(HALF)).await?;
        let status = elsewhere.status().await?;
        let export = &status["services"][format!("{ns}/web")]["exports"][0];
        ensure!(export["ready"] == HALF && export["endpoints"] == HALF, "{export}");
        eventually(SOON, "enough is asked", async || {
            let counts = load.counts();
            ensure!(counts.right >= ENOUGH, "{counts}");
            Ok(())
        })
        .await?;
        load.stop().await?.flawless(ENOUGH)
    })
}
