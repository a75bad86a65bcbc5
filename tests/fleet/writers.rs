//! Of a cluster's agents one writes, and which that is may change at any moment: no object is written twice for one change,
//! and no agent that has slept writes what was true when it fell asleep. The API server's own log is what is believed.

use anyhow::{Context as _, ensure};
use harness::{Account, Agent, AgentSetup, Cluster, Fleet, Result, SOON, eventually};
use serde_json::json;

use crate::federation::{entry_addresses, service_entry};

/// Two accounts that may do everything, so that each agent's writes can be told from the other's.
const ACCOUNTS: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: one}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: other}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: writers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects:
  - {kind: ServiceAccount, name: one, namespace: NS}
  - {kind: ServiceAccount, name: other, namespace: NS}
";

/// An agent that writes, and what it has written.
struct Writer {
    agent: Agent,
    account: Account,
    name: &'static str,
}

// === impl Writer ===

impl Writer {
    async fn start(setup: AgentSetup<'_>, account: Account, name: &'static str) -> Result<Self> {
        let kubeconfig = json!({"kubernetes": {"kubeconfig": account.kubeconfig()}});
        let setup = setup.config(|config| {
            config["agent"] = json!(name);
            config["emit"] = kubeconfig;
        });
        Ok(Self { agent: setup.start().await?, account, name })
    }

    /// Waits until it knows that this one is the writer, itself or another.
    async fn knows(&self, writer: &str) -> Result {
        self.agent.wait_until(&format!("{writer} writes"), |now| now["emit"]["writer"] == *writer).await?;
        Ok(())
    }

    /// Its writes of ServiceEntries and DestinationRules.
    fn writes(&self) -> Result<usize> {
        let writes = |verb: &str| ["create", "update", "patch", "delete"].contains(&verb);
        let emitted = |resource: &str| ["serviceentries", "destinationrules"].contains(&resource);
        let requests = self.account.requests()?;
        Ok(requests.iter().filter(|request| writes(&request.verb) && emitted(&request.resource)).count())
    }
}

/// Sets how many pods there are, and waits until the entry says so.
async fn scale(north: &Cluster, ns: &str, pods: usize) -> Result {
    north.scale(ns, "web", u32::try_from(pods)?).await?;
    eventually(SOON * 2, "the entry has every pod", async || {
        let found = entry_addresses(&service_entry(north, ns, &format!("web.{ns}.global")).await?).len();
        ensure!(found == pods, "{found} endpoints");
        Ok(())
    })
    .await
}

#[test]
fn one_agent_writes_whoever_sleeps_or_goes() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("writers").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        north.apply(&ns, &ACCOUNTS.replace("NS", &ns)).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        let one = Writer::start(fleet.agent_of(&north), north.account(&ns, "one")?, "one").await?;
        one.knows("one").await?;
        let other = Writer::start(fleet.agent_of(&north).replica(), north.account(&ns, "other")?, "other").await?;
        other.knows("one").await?;
        scale(&north, &ns, 2).await?;
        ensure!(other.writes()? == 0, "who was not elected wrote");
        // A store that begins gives out no addresses at first.
        eventually(SOON, "the entry has an address", async || {
            let entry = service_entry(&north, &ns, &format!("web.{ns}.global")).await?;
            ensure!(entry.data["spec"]["addresses"].is_array(), "{}", entry.data);
            Ok(())
        })
        .await?;

        // Asleep, it says nothing: the other has to find out, and writes what changes.
        one.agent.pause()?;
        let before = one.writes()?;
        other.knows("other").await?;
        ensure!(other.writes()? == 0, "nothing had changed");
        scale(&north, &ns, 3).await?;
        ensure!(other.writes()? == 1, "{} writes for one change", other.writes()?);
        // Awake, it knows of two pods, and learns of everything at once, in whatever order.
        one.agent.resume()?;
        one.knows("other").await?;
        scale(&north, &ns, 4).await?;
        ensure!(one.writes()? == before, "who has slept wrote {} times", one.writes()? - before);
        ensure!(other.writes()? == 2, "{} writes for two changes", other.writes()?);

        // Who goes gives up what it has: nobody waits until it is over.
        other.agent.terminate().await?;
        let log = other.account.requests()?;
        let last = log.iter().rfind(|request| request.resource == "leases").context("no Lease was written")?;
        ensure!(last.verb == "update", "its last word of the Lease is {last:?}");
        one.knows("one").await?;
        scale(&north, &ns, 5).await?;
        ensure!(one.writes()? == before + 1, "{} writes for one change", one.writes()? - before);
        ensure!(one.agent.metrics().await?.contains("federator_emit_writer 1"), "{} is the writer", one.name);
        Ok(())
    })
}
