//! What a fleet costs its API servers, by their own count: each is watched by the one agent that publishes its cluster,
//! however many there are that could.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use harness::{Agent, Cluster, Fleet, Result, SOON, eventually};
use kube::api::GetParams;
use serde_json::{Value, json};

use crate::federation::converged;

/// What endpoints are made of. Who observes a cluster follows each of these once.
const OBSERVED: [&str; 3] = ["services", "endpointslices", "workloadentries"];

/// How many watches of each of these are open at a cluster's API server, whoever watches.
async fn watches(cluster: &Cluster) -> Result<BTreeMap<&'static str, u64>> {
    let metrics = kube::core::Request::new("").get("metrics", &GetParams::default())?;
    let metrics = cluster.client().request_text(metrics).await?;
    let mut watches = BTreeMap::from(OBSERVED.map(|resource| (resource, 0)));
    for line in metrics.lines().filter(|line| line.starts_with("apiserver_longrunning_requests{")) {
        let of = |label: &str, value: &str| line.contains(&format!("{label}=\"{value}\""));
        let Some(resource) = OBSERVED.into_iter().find(|resource| of("resource", resource)) else { continue };
        if of("verb", "WATCH") {
            let count = line.rsplit(' ').next().context("a sample without value")?;
            *watches.entry(resource).or_default() += count.parse::<u64>()?;
        }
    }
    Ok(watches)
}

async fn all_watches(fleet: &Fleet) -> Result<Vec<BTreeMap<&'static str, u64>>> {
    try_join_all(fleet.clusters().map(watches)).await
}

#[test]
fn an_api_server_is_watched_once_however_many_agents_there_are() -> Result {
    Fleet::exclusive(async |fleet| {
        // Every agent may watch every cluster: whoever is not in one stands by for it.
        let everywhere = |home: &Cluster| -> Value {
            let others = fleet.clusters().filter(|other| other.name() != home.name());
            json!([home].into_iter().chain(others).map(Cluster::membership).collect::<Vec<_>>())
        };
        let start = async |cluster: &Cluster| -> Result<Agent> {
            let agent = fleet.agent(cluster.name()).config(|config| config["clusters"] = everywhere(cluster));
            let agent = agent.start().await?;
            let owns = |status: &Value| status["clusters"][cluster.name()]["observed"]["owner"] == true;
            agent.wait_until("owns its cluster", owns).await?;
            Ok(agent)
        };
        let agents = try_join_all(fleet.clusters().map(start)).await?;
        for agent in &agents {
            agent.ready().await?;
            let stands_by = |status: &Value| {
                let clusters = ["east", "west", "south"].map(|id| &status["clusters"][id]["observed"]["owner"]);
                clusters.iter().filter(|owner| owner.is_boolean()).count() == 3
                    && clusters.iter().filter(|owner| ***owner == true).count() == 1
            };
            agent.wait_until("stands by for the others", stands_by).await?;
        }
        converged(&agents.iter().collect::<Vec<_>>()).await?;

        // Others watch too: controllers, CoreDNS. What goes with the agents is theirs.
        let with = all_watches(fleet).await?;
        for agent in &agents {
            agent.terminate().await?;
        }
        eventually(SOON, "each API server had one watch of each kind from all agents together", async || {
            let without = all_watches(fleet).await?;
            let theirs = with.iter().zip(&without).flat_map(|(with, without)| {
                with.iter().map(|(resource, count)| i64::try_from(*count).ok()?.checked_sub_unsigned(without[resource]))
            });
            ensure!(theirs.clone().all(|count| count == Some(1)), "with: {with:?}, without: {without:?}");
            Ok(())
        })
        .await
    })
}
