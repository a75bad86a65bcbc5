//! What an operator applies is what an agent needs: the manifests as they are, in a real API server, and an agent with
//! the rights, the configuration and the environment that its pod would have. Changed is only where things are here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use harness::{Account, Agent, AgentSetup, Cluster, Fleet, Result, Rule, SOON, eventually};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::federation::{answers, entry_addresses, pods, service_entry};
use crate::membership::all_pods;
use crate::rights::{OTHERS, touch};

/// Where it is installed, and what everything is called there.
const NAMESPACE: &str = "federator";
const NAME: &str = "federator";

/// What may be written and is not here: there is no gateway in this test.
const UNWRITTEN: [&str; 1] = ["gateways"];

/// One cluster more, and an API server that is started twice.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

/// What a pod of the Deployment is given.
struct Pod {
    file: Value,
    environment: BTreeMap<String, String>,
}

// === impl Pod ===

impl Pod {
    /// By the Deployment that the cluster took.
    async fn of(cluster: &Cluster) -> Result<Self> {
        let deployment = Api::<Deployment>::namespaced(cluster.client(), NAMESPACE).get(NAME).await?;
        let pod = deployment.spec.and_then(|spec| spec.template.spec).context("a pod")?;
        ensure!(pod.service_account_name.as_deref() == Some(NAME), "its account is {:?}", pod.service_account_name);
        let [container] = &pod.containers[..] else { anyhow::bail!("one container") };
        let arguments = container.args.clone().unwrap_or_default();
        ensure!(arguments == ["agent", "--config", "/etc/federator/federator.yaml"], "its arguments are {arguments:?}");
        let mounts = container.volume_mounts.iter().flatten();
        let mounted = mounts.clone().find(|mount| mount.mount_path == "/etc/federator").context("a mount")?;
        let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mounted.name).context("a volume")?;
        let file = volume.config_map.as_ref().context("a ConfigMap")?.name.clone();
        let from = container.env_from.iter().flatten().find_map(|from| from.config_map_ref.as_ref()).context("env")?;
        let maps = Api::<ConfigMap>::namespaced(cluster.client(), NAMESPACE);
        let file = maps.get(&file).await?.data.unwrap_or_default();
        let file = serde_saphyr::from_str(file.get("federator.yaml").context("a configuration file")?)?;
        let mut environment = maps.get(&from.name).await?.data.unwrap_or_default();
        environment.insert("POD_NAME".to_owned(), "federator-0".to_owned());
        Ok(Self { file, environment })
    }

    /// An agent with all of it, and with addresses, files and namespaces of this test.
    fn agent<'a>(&self, setup: AgentSetup<'a>, account: &Account, state: &Path) -> AgentSetup<'a> {
        let setup = setup.config(|config| {
            let ours = std::mem::replace(config, self.file.clone());
            config["clusters"][0]["kubernetes"]["kubeconfig"] = json!(account.kubeconfig());
            config["dns"]["listeners"][0]["address"] = ours["dns"]["listeners"][0]["address"].clone();
            config["admin"] = ours["admin"].clone();
            config["snapshot"]["directory"] = json!(state);
            // Clusters that other tests use as well have services of theirs.
            config["import"] = ours["import"].clone();
            // What changed last is asked for at each beat.
            config["watch"]["foundWithinSeconds"] = json!(2);
        });
        setup.environment(self.environment.iter().map(|(name, value)| (&**name, &**value)))
    }
}

/// A path in the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Applies a directory as an operator would; nothing is refused, ignored or warned of.
fn install(cluster: &Cluster, directory: &Path) -> Result {
    let directory = directory.to_str().context("a path that is text")?;
    let said = cluster.kubectl(["apply", "--server-side", "--validate=strict", "--kustomize", directory])?;
    ensure!(said.code == 0 && said.err.is_empty(), "{said:?}");
    Ok(())
}

/// Waits until the agent says that nothing is wrong, of itself and of these clusters.
async fn is_well(agent: &Agent, clusters: &[&str]) -> Result {
    agent
        .wait_until("all is well", |status| {
            let well = |cluster: &&str| {
                let cluster = &status["clusters"][cluster];
                let observed = &cluster["observed"];
                cluster["conditions"].is_null()
                    && (observed.is_null() || observed["synced"] == true && observed["frozenSeconds"].is_null())
                    && !observed["leftOut"].to_string().contains("canary")
            };
            let emit = &status["emit"];
            let emits = emit["trouble"].is_null() && emit["troubles"].as_object().is_none_or(serde_json::Map::is_empty);
            status["ready"] == true && clusters.iter().all(well) && emits && status["snapshot"]["state"] == "kept"
        })
        .await
        .map(drop)
}

/// Waits until the cluster has the ServiceEntry of a service with the addresses of its pods.
async fn is_emitted(cluster: &Cluster, ns: &str, service: &str, of: &[&Cluster]) -> Result {
    let expected = all_pods(of, ns, service).await?;
    eventually(SOON, &format!("the ServiceEntry of {service} is there"), async || {
        let found = entry_addresses(&service_entry(cluster, ns, &format!("{service}.{ns}.global")).await?);
        ensure!(!found.is_empty() && found == expected, "{found:?}, and not {expected:?}");
        Ok(())
    })
    .await
}

#[test]
fn an_agent_has_the_rights_that_it_needs_and_uses_all_of_them() -> Result {
    Fleet::shared_within(LIMIT, async |fleet| {
        let ns = fleet.namespace("install").await?;
        let (west, north) = (fleet.cluster("west"), &fleet.spare().await?);
        ns.add_to(north).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        west.deploy(&ns, "web", 2, 8080).await?;
        north.apply(&ns, OTHERS).await?;
        install(north, &repository("manifests/overlays/embedded"))?;
        let (account, state) = (north.account(NAMESPACE, NAME)?, tempfile::TempDir::new()?);
        let pod = Pod::of(north).await?;
        // The cluster that is called north here has the id of the manifests.
        ensure!(pod.environment["FEDERATOR_CLUSTER"] == "east", "{:?}", pod.environment);
        let agent = pod.agent(fleet.agent_of(north), &account, state.path()).start().await?;
        let administrator = west.kubeconfig().display().to_string();
        let create = ["remote-secret", "create", "--kubeconfig", &administrator, "--name", "west"];
        let secret = west.federator(create.into_iter().chain(["--namespace", NAMESPACE]))?.done()?;
        north.apply("", &secret).await?;

        let name = format!("web.{ns}.global");
        answers(north, &name, &all_pods(&[north, west], &ns, "web").await?).await?;
        is_emitted(north, &ns, "web", &[north, west]).await?;
        is_well(&agent, &["east", "west"]).await?;
        // What is installed beside services is no service of the fleet.
        let services = Api::<Service>::namespaced(north.client(), NAMESPACE);
        ensure!(services.get("federator-dns").await.is_ok(), "it is not there");
        let view = agent.view().await?;
        ensure!(view.contains(&format!("service {ns}/web ")) && !view.contains("federator-dns"), "{view}");

        // Once more, by another life: its Lease stands there already.
        agent.terminate().await?;
        agent.start().await?;
        is_well(&agent, &["east", "west"]).await?;
        may_not_create(&agent, north, &ns).await?;
        north.kubectl(["delete", "service", "later", "--namespace", &*ns])?.done()?;
        is_asked_for_everything(&account, north, &ns).await?;
        loses_a_secret(&agent, &account, north).await?;
        eventually(SOON, "every right is used", async || {
            let unused = unused(north, &account).await?;
            ensure!(unused.is_empty(), "{unused:?}");
            Ok(())
        })
        .await?;
        let logs = agent.logs();
        for line in logs.lines().filter(|line| line.contains(account.user())) {
            ensure!(line.contains("cannot create resource"), "{line}");
        }
        Ok(())
    })
}

/// Takes the right away to create what is applied, and gives it back: an audit log has an apply as `patch` alone.
async fn may_not_create(agent: &Agent, north: &Cluster, ns: &str) -> Result {
    let roles = Api::<ClusterRole>::all(north.client());
    let rules = roles.get(NAME).await?.rules.unwrap_or_default();
    let allow = async |rules: &[PolicyRule]| {
        roles.patch(NAME, &PatchParams::default(), &Patch::Merge(json!({ "rules": rules }))).await
    };
    let mut fewer = rules.clone();
    fewer.iter_mut().for_each(|rule| rule.verbs.retain(|verb| verb != "create"));
    allow(&fewer).await?;
    let rule = Rule::everywhere("networking.istio.io", "serviceentries", &["create"]);
    rule.holds(north, &format!("system:serviceaccount:{NAMESPACE}:{NAME}"), "create", false).await?;
    north.deploy(ns, "later", 1, 8080).await?;
    let missed = "cannot create resource \\\"serviceentries\\\"";
    agent.wait_until("it is said", |status| status["emit"]["troubles"].to_string().contains(missed)).await?;
    allow(&rules).await?;
    is_emitted(north, ns, "later", &[north]).await?;
    is_well(agent, &["east", "west"]).await
}

/// Changes one object of every kind that is observed, until it is asked for by its name.
async fn is_asked_for_everything(account: &Account, north: &Cluster, ns: &str) -> Result {
    let rules = Api::<ClusterRole>::all(north.client()).get(NAME).await?.rules.unwrap_or_default();
    for rule in rules.iter().filter(|rule| rule.verbs.iter().any(|verb| verb == "get")) {
        for resource in rule.resources.iter().flatten() {
            let group = rule.api_groups.iter().flatten().next().context("a group")?;
            let rule = Rule::everywhere(group, resource, &["get"]);
            eventually(SOON, &format!("{resource} are asked for"), async || {
                touch(north, ns, &rule).await?;
                let used = used(account)?;
                ensure!(used.contains(&("get".to_owned(), resource.clone())), "{used:?}");
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

/// Takes a Secret away while the agent does not look, in an API server that has forgotten where it was: the list that it
/// begins with lacks the Secret, and it must ask.
async fn loses_a_secret(agent: &Agent, account: &Account, north: &Cluster) -> Result {
    let secrets = Api::<Secret>::namespaced(north.client(), NAMESPACE);
    agent.pause()?;
    let api_server = north.component("kube-apiserver")?;
    api_server.kill()?;
    api_server.start()?;
    north.ready().await?;
    secrets.delete("istio-remote-secret-west", &DeleteParams::default()).await?;
    agent.resume()?;
    eventually(SOON * 2, "the Secret is asked for", async || {
        let used = used(account)?;
        ensure!(used.contains(&("get".to_owned(), "secrets".to_owned())), "{used:?}");
        Ok(())
    })
    .await
}

/// What was done as the account: verbs and resources.
fn used(account: &Account) -> Result<BTreeSet<(String, String)>> {
    Ok(account.requests()?.into_iter().map(|request| (request.verb, request.resource)).collect())
}

/// What the account may do and never did.
async fn unused(north: &Cluster, account: &Account) -> Result<BTreeSet<(String, String)>> {
    let mut rules = Api::<ClusterRole>::all(north.client()).get(NAME).await?.rules.unwrap_or_default();
    rules.extend(Api::<Role>::namespaced(north.client(), NAMESPACE).get(NAME).await?.rules.unwrap_or_default());
    let mut unused = BTreeSet::new();
    for rule in &rules {
        for resource in rule.resources.iter().flatten().filter(|resource| !UNWRITTEN.contains(&&***resource)) {
            unused.extend(rule.verbs.iter().map(|verb| (verb.clone(), resource.clone())));
        }
    }
    // An apply; what it takes where nothing was is tried by itself.
    for written in ["serviceentries", "destinationrules"] {
        unused.remove(&("create".to_owned(), written.to_owned()));
    }
    let used = used(account)?;
    ensure!(unused.len() > 20, "rights cannot be read: {unused:?}");
    Ok(unused.difference(&used).cloned().collect())
}

#[test]
fn two_agents_of_one_cluster_share_its_work() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("pair").await?;
        let (trio, north) = (fleet.trio().start().await?, fleet.spare().await?);
        ns.add_to(&north).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        // As the script for kind has it, by the overlay for etcd.
        let state = tempfile::TempDir::new()?;
        let rendered = state.path().join("rendered");
        let render =
            Command::new(repository("kind-clusters/up")).arg("--render").arg(&rendered).arg("etcd").output()?;
        ensure!(render.status.success(), "{}", String::from_utf8_lossy(&render.stderr));
        install(&north, &rendered.join("south"))?;

        let account = north.account(NAMESPACE, NAME)?;
        let mut pod = Pod::of(&north).await?;
        ensure!(pod.environment["FEDERATOR_CLUSTER"] == "south", "{:?}", pod.environment);
        trio.admit("south", "/federator/").await?;
        let etcd = trio.config("south")?;
        pod.file["store"]["etcd"]["tls"] = etcd["tls"].clone();
        pod.environment.insert("FEDERATOR_STORE__ETCD__ENDPOINTS".to_owned(), etcd["endpoints"].to_string());
        let one = pod.agent(fleet.agent_of(&north), &account, &state.path().join("one")).start().await?;
        pod.environment.insert("POD_NAME".to_owned(), "federator-1".to_owned());
        let other = pod.agent(fleet.agent_of(&north).replica(), &account, &state.path().join("other")).start().await?;
        for agent in [&one, &other] {
            is_well(agent, &["south"]).await?;
        }
        is_emitted(&north, &ns, "web", &[&north]).await?;
        let owner = |status: &Value| status["clusters"]["south"]["owner"].as_str().map(str::to_owned);
        let first = owner(&one.status().await?).context("nobody publishes it")?;
        ensure!(owner(&other.status().await?).as_ref() == Some(&first), "they do not agree");
        let (goes, stays) = if first.starts_with("federator-0") { (one, other) } else { (other, one) };

        goes.terminate().await?;
        let is_another = |status: &Value| owner(status).is_some_and(|now| now != first);
        stays.wait_until("takes the cluster", is_another).await?;
        north.scale(&ns, "web", 2).await?;
        is_emitted(&north, &ns, "web", &[&north]).await?;
        answers(&north, &format!("web.{ns}.global"), &pods(&north, &ns, "web").await?).await?;
        is_well(&stays, &["south"]).await
    })
}
