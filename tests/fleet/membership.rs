//! Clusters come, change and go by Secret alone, under a constant load of queries that counts every answer that is not
//! right.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use harness::{
    Agent, Cluster, Expected, Fleet, Load, Namespace, RecordType, RestartApiServer, Result, SOON, eventually,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use serde_json::Value;

use crate::federation::pods;

/// Between two queries.
const PERIOD: Duration = Duration::from_millis(20);

/// How much is written between a backup and what it lacks.
const LONG_AGO: usize = 600;

/// How often a cluster comes and goes.
const ROUNDS: usize = 50;

/// An agent of east without a shared store, that observes whatever the Secrets of a namespace name.
pub(crate) async fn agent_of_secrets(fleet: &Fleet, ns: &Namespace) -> Result<Agent> {
    agent_of_secrets_with(fleet, ns, |_| ()).await
}

/// The same with another configuration.
pub(crate) async fn agent_of_secrets_with(
    fleet: &Fleet,
    ns: &Namespace,
    change: impl FnOnce(&mut Value),
) -> Result<Agent> {
    let kubeconfig = fleet.cluster("east").kubeconfig();
    let agent = fleet.agent("east").embedded().config(|config| {
        config["membership"] = serde_json::json!({
            "kubernetes": {"kubeconfig": kubeconfig},
            "namespaces": [ns.to_string()],
            "defaults": {"network": "n1"},
            "drainSeconds": 0,
        });
    });
    let agent = agent.config(change).start().await?;
    agent.ready().await?;
    Ok(agent)
}

/// Waits until the agent itself answers exactly these addresses.
pub(crate) async fn told(agent: &Agent, name: &str, expected: &BTreeSet<IpAddr>) -> Result {
    eventually(SOON, &format!("{name} is {expected:?}"), async || {
        let reply = agent.dig(name, RecordType::A).await?;
        ensure!(reply.addresses() == *expected, "{reply}");
        Ok(())
    })
    .await
}

/// The pods of a service in some clusters.
pub(crate) async fn all_pods(clusters: &[&Cluster], ns: &str, service: &str) -> Result<BTreeSet<IpAddr>> {
    let mut all = BTreeSet::new();
    for cluster in clusters {
        all.extend(pods(cluster, ns, service).await?);
    }
    Ok(all)
}

#[test]
fn credentials_are_rotated_and_nobody_notices() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("rotate").await?;
        let (east, north) = (fleet.cluster("east"), &fleet.spare().await?);
        ns.add_to(north).await?;
        east.deploy(&ns, "web", 2, 8080).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        let mut reader = north.reader("reader").await?;
        let secret = east.remote_secret(&ns, "north", &[("north", &reader.kubeconfig()?)]).await?;
        let agent = agent_of_secrets(fleet, &ns).await?;
        let name = format!("web.{ns}.global");
        let both = async || all_pods(&[east, north], &ns, "web").await;
        let mut now = both().await?;
        told(&agent, &name, &now).await?;
        let load = Load::start(&[agent.dns()], &name, Expected::exactly(&now), PERIOD);
        // One pod more: the change arrives by whatever credentials are in use, and nothing else changes meanwhile.
        let mut replicas = 1;
        let mut grows = async || -> Result {
            replicas += 1;
            load.expect(Expected::between(&now, &north.pod_addresses()));
            north.scale(&ns, "web", replicas).await?;
            let more = both().await?;
            load.expect(Expected::between(&now, &more));
            told(&agent, &name, &more).await?;
            load.expect(Expected::exactly(&more));
            now = more;
            Ok(())
        };
        grows().await?;

        // The old token is revoked before the new one is there.
        reader.renew().await?;
        secret.replace(&[("north", &reader.kubeconfig()?)]).await?;
        rotated(&agent, 1).await?;
        grows().await?;

        // Another authority signs the API server's certificate.
        north.rotate_ca().await?;
        secret.replace(&[("north", &reader.kubeconfig()?)]).await?;
        rotated(&agent, 2).await?;
        grows().await?;

        // The kubeconfig of another cluster is refused, and the old one goes on.
        let other = fleet.cluster("south").reader("reader").await?;
        secret.replace(&[("north", &other.kubeconfig()?)]).await?;
        condition(&agent, "north", "AnotherCluster").await?;
        grows().await?;
        // So is one that says what it may not.
        let hostile = reader.kubeconfig()?.replace("token: ", "tokenFile: ");
        secret.replace(&[("north", &hostile)]).await?;
        condition(&agent, "north", "KubeconfigRefused").await?;
        grows().await?;
        secret.replace(&[("north", &reader.kubeconfig()?)]).await?;
        agent
            .wait_until("nothing is wrong any more", |status| status["clusters"]["north"]["conditions"].is_null())
            .await?;
        grows().await?;
        load.stop().await?.flawless(40)
    })
}

#[test]
fn a_cluster_comes_and_goes_and_leaves_nothing_behind() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("comes").await?;
        let [east, west] = ["east", "west"].map(|name| fleet.cluster(name));
        east.deploy(&ns, "web", 1, 8080).await?;
        west.deploy(&ns, "web", 1, 8080).await?;
        let kubeconfig = west.reader("reader").await?.kubeconfig()?;
        let agent = agent_of_secrets(fleet, &ns).await?;
        let name = format!("web.{ns}.global");
        let (own, both) = (pods(east, &ns, "web").await?, all_pods(&[east, west], &ns, "web").await?);
        told(&agent, &name, &own).await?;
        let load = Load::start(&[agent.dns()], &name, Expected::between(&own, &both), PERIOD);
        let secret = east.remote_secret(&ns, "west", &[("west", &kubeconfig)]).await?;
        told(&agent, &name, &both).await?;
        secret.delete().await?;
        told(&agent, &name, &own).await?;
        let before = eventually(SOON, "its connections are closed", async || connections(&agent, west)).await?;
        let leaks = agent.leaks()?;
        for _ in 0..ROUNDS {
            secret.create(&[("west", &kubeconfig)]).await?;
            told(&agent, &name, &both).await?;
            secret.delete().await?;
            told(&agent, &name, &own).await?;
        }
        eventually(SOON, "nothing is left", async || {
            connections(&agent, west)?;
            let now = agent.leaks()?;
            ensure!(now.files <= leaks.files && now.threads <= leaks.threads, "{now:?}, and before {leaks:?}");
            Ok(())
        })
        .await?;
        assert_eq!(before, 0);
        let status = agent.status().await?;
        assert!(status["clusters"]["west"].is_null(), "{status}");
        load.stop().await?.flawless(100)
    })
}

#[test]
fn what_is_wrong_with_one_cluster_is_its_own_trouble() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("trouble").await?;
        let [east, west] = ["east", "west"].map(|name| fleet.cluster(name));
        west.deploy(&ns, "web", 1, 8080).await?;
        let kubeconfig = west.reader("reader").await?.kubeconfig()?;
        let several = [("west", &*kubeconfig), ("again", &kubeconfig), ("bad", "{")];
        east.remote_secret(&ns, "several", &several).await?;
        let cloud = east.remote_secret(&ns, "cloud", &[("config", &kubeconfig)]).await?;
        cloud
            .change(|secret| {
                let annotations = secret.metadata.annotations.get_or_insert_default();
                annotations.insert("networking.istio.io/cluster".to_owned(), "arn:aws:x".to_owned());
            })
            .await?;
        east.remote_secret(&ns, "two", &[("west", &kubeconfig), ("east", &kubeconfig)]).await?;
        let nobody = kubeconfig.replace("10.0.0.2:6443", "10.0.0.2:6444");
        east.remote_secret(&ns, "nobody", &[("nobody", &nobody)]).await?;
        let agent = agent_of_secrets(fleet, &ns).await?;
        told(&agent, &format!("web.{ns}.global"), &pods(west, &ns, "web").await?).await?;

        let status = agent
            .wait_until("all of it is said", |status| {
                let wrong = |id: &str, reason: &str| !status["clusters"][id]["conditions"][reason].is_null();
                let same = wrong("again", "SameCluster") || wrong("west", "SameCluster");
                same && wrong("nobody", "Unreachable") && wrong("west", "DuplicateId")
            })
            .await?;
        let refused = &status["refused"];
        assert!(refused["bad"]["KubeconfigRefused"].is_string(), "{refused}");
        let place = format!("{ns}/cloud[config]");
        assert!(refused[&place]["IdRefused"].as_str().is_some_and(|why| why.contains("aliases")), "{refused}");
        let metrics = agent.metrics().await?;
        assert!(
            metrics.contains(r#"federator_cluster_condition{cluster="nobody",reason="Unreachable"} 1"#),
            "{metrics}"
        );
        // Nothing of a Secret is in a log.
        let token = kubeconfig.split("token: ").nth(1).unwrap().trim();
        assert!(!agent.logs().contains(&token[..20]));
        Ok(())
    })
}

#[test]
fn a_deputy_steps_in_for_an_agent_that_is_gone() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("deputy").await?;
        let [east, west] = ["east", "west"].map(|name| fleet.cluster(name));
        west.deploy(&ns, "web", 1, 8080).await?;
        let reader = west.reader("reader").await?;
        east.remote_secret(&ns, "west", &[("west", &reader.kubeconfig()?)]).await?;
        let inside = fleet.agent("west").start().await?;
        inside.ready().await?;
        let kubeconfig = east.kubeconfig();
        let deputy = fleet.agent("east").config(|config| {
            config["membership"] = serde_json::json!({
                "kubernetes": {"kubeconfig": kubeconfig},
                "namespaces": [ns.to_string()],
                "defaults": {"network": "n1"},
                "deputyAfterSeconds": 2,
            });
        });
        let deputy = deputy.start().await?;
        let name = format!("web.{ns}.global");
        told(&deputy, &name, &pods(west, &ns, "web").await?).await?;
        // As long as west has an agent of its own, nobody else watches it.
        ensure!(reader.requests()?.is_empty(), "{:?}", reader.requests()?);

        inside.terminate().await?;
        let owns = |status: &Value| {
            status["clusters"]["west"]["owner"].as_str().is_some_and(|owner| owner.starts_with("east"))
        };
        deputy.wait_until("owns west", owns).await?;
        west.scale(&ns, "web", 2).await?;
        told(&deputy, &name, &pods(west, &ns, "web").await?).await
    })
}

/// The Secrets of a restored API server are those of long ago.
#[test]
fn a_list_of_secrets_that_is_short_removes_nobody() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("short").await?;
        let (north, west) = (&fleet.spare().await?, fleet.cluster("west"));
        ns.add_to(north).await?;
        west.deploy(&ns, "web", 1, 8080).await?;
        let snapshot = north.snapshot()?;
        // Of long ago: more was written since than an API server writes when it starts.
        let maps = Api::<ConfigMap>::namespaced(north.client(), &ns);
        for n in 0..LONG_AGO {
            let data = Some([("n".to_owned(), n.to_string())].into());
            let map = ConfigMap { metadata: meta("since"), data, ..ConfigMap::default() };
            let params = PatchParams::apply("test").force();
            maps.patch("since", &params, &Patch::Apply(&map)).await?;
        }
        let kubeconfig = west.reader("reader").await?.kubeconfig()?;
        north.remote_secret(&ns, "west", &[("west", &kubeconfig)]).await?;
        let home = north.kubeconfig();
        let agent = fleet.agent_of(north).embedded().config(|config| {
            config["membership"] = serde_json::json!({
                "kubernetes": {"kubeconfig": home},
                "namespaces": [ns.to_string()],
                "defaults": {"network": "n1"},
                "drainSeconds": 0,
            });
        });
        let agent = agent.start().await?;
        let (name, now) = (format!("web.{ns}.global"), pods(west, &ns, "web").await?);
        told(&agent, &name, &now).await?;
        let load = Load::start(&[agent.dns()], &name, Expected::exactly(&now), PERIOD);
        north.restore(&snapshot, RestartApiServer::Yes).await?;
        condition(&agent, "west", "SecretMissing").await?;
        // It is there again, and then it goes as such things go.
        let secret = north.remote_secret(&ns, "west", &[("west", &kubeconfig)]).await?;
        agent.wait_until("the Secret is back", |status| status["clusters"]["west"]["conditions"].is_null()).await?;
        load.stop().await?.flawless(100)?;
        secret.delete().await?;
        told(&agent, &name, &BTreeSet::new()).await
    })
}

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// How many connections the agent has to a cluster's API server; an error while there are any.
fn connections(agent: &Agent, cluster: &Cluster) -> Result<usize> {
    let api_server = cluster.place().port(6443);
    let open = agent.connections()?.into_iter().filter(|peer| *peer == api_server).count();
    ensure!(open == 0, "{open} connections");
    Ok(open)
}

/// Waits until new credentials were taken over that many times.
async fn rotated(agent: &Agent, times: usize) -> Result {
    eventually(SOON, &format!("credentials were taken over {times} times"), async || {
        let taken = agent.logs().matches("new credentials are in use").count();
        ensure!(taken >= times, "{taken} times");
        Ok(())
    })
    .await
}

async fn condition(agent: &Agent, cluster: &str, reason: &str) -> Result {
    let holds = |status: &Value| !status["clusters"][cluster]["conditions"][reason].is_null();
    agent.wait_until(&format!("says {reason} of {cluster}"), holds).await.map(drop)
}
