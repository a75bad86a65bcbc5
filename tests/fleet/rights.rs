//! An agent runs with exactly the rights that `federator remote-secret create` gives: with all of them all is well, and
//! without any one of them it says which it lacks.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use federator::kubernetes::grant::Account;
use harness::{Agent, Cluster, Fleet, Result, Rule, SOON, eventually};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::federation::pods;
use crate::membership::{agent_of_secrets_with, told};

/// The account that is made, and where; also where agents renew their Leases.
const ACCOUNT: &str = "federator-reader";
const NAMESPACE: &str = "istio-system";

/// More starts of an agent than a test usually has.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(400);

/// Something of every kind that is no pod, service or slice.
pub(crate) const OTHERS: &str = "\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm}
spec: {address: 10.99.0.1, labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: entrance}
spec: {selector: {app: none}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceExport
metadata: {name: web}
";

/// A role of the account, and what it allows, a rule a resource.
struct Role {
    resource: ApiResource,
    name: String,
    namespace: Option<String>,
    rules: Vec<Rule>,
}

// === impl Role ===

impl Role {
    /// The roles as the product ships them.
    fn shipped() -> Result<Vec<Self>> {
        let account = Account { namespace: NAMESPACE.to_owned(), name: ACCOUNT.to_owned() };
        account.objects().iter().filter(|object| object["rules"].is_array()).map(Self::read).collect()
    }

    fn read(object: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts = |value: &Value| value.as_array().into_iter().flatten().filter_map(text).collect::<Vec<_>>();
        let namespace = text(&object["metadata"]["namespace"]);
        let mut rules = Vec::new();
        for rule in object["rules"].as_array().into_iter().flatten() {
            let [group] = &texts(&rule["apiGroups"])[..] else { bail!("one group a rule: {rule}") };
            let verbs = texts(&rule["verbs"]);
            for resource in texts(&rule["resources"]) {
                let (group, verbs, namespace) = (group.clone(), verbs.clone(), namespace.clone());
                rules.push(Rule { group, resource, verbs, namespace });
            }
        }
        let kind = text(&object["kind"]).context("a kind")?;
        let gvk = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", &kind);
        let name = text(&object["metadata"]["name"]).context("a name")?;
        Ok(Self { resource: ApiResource::from_gvk(&gvk), name, namespace, rules })
    }

    /// Has the cluster allow exactly this by the role.
    async fn allow(&self, cluster: &Cluster, rules: &[Rule]) -> Result {
        let rules: Vec<_> = rules
            .iter()
            .map(|rule| json!({"apiGroups": [rule.group], "resources": [rule.resource], "verbs": rule.verbs}))
            .collect();
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(cluster.client(), namespace, &self.resource),
            None => Api::all_with(cluster.client(), &self.resource),
        };
        api.patch(&self.name, &PatchParams::default(), &Patch::Merge(json!({"rules": rules}))).await?;
        Ok(())
    }
}

#[test]
fn with_the_rights_that_are_given_all_is_well_and_without_any_of_them_it_is_said() -> Result {
    Fleet::shared_within(LIMIT, async |fleet| {
        let ns = fleet.namespace("rights").await?;
        let (east, north) = (fleet.cluster("east"), &fleet.spare().await?);
        ns.add_to(north).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        north.apply(&ns, OTHERS).await?;
        let administrator = north.kubeconfig().display().to_string();
        let create = ["remote-secret", "create", "--kubeconfig", &administrator, "--name", "north"];
        let manifest = north.federator(create.into_iter().chain(["--secret-namespace", &ns]))?.done()?;
        east.apply(&ns, &manifest).await?;
        is_istioctls(&Api::namespaced(east.client(), &ns).get("istio-remote-secret-north").await?)?;

        let agent = agent_of_secrets_with(fleet, &ns, |config| {
            config["watch"] = json!({"foundWithinSeconds": 3, "proofSeconds": 1});
        })
        .await?;
        told(&agent, &format!("web.{ns}.global"), &pods(north, &ns, "web").await?).await?;
        is_well(&agent).await?;
        is_renewed(north).await?;

        let user = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
        for role in Role::shipped()? {
            for (at, rule) in role.rules.iter().enumerate() {
                for verb in &rule.verbs {
                    let mut rules = role.rules.clone();
                    rules[at].verbs.retain(|had| had != verb);
                    rules.retain(|rule| !rule.verbs.is_empty());
                    let said = agent.logs().len();
                    role.allow(north, &rules).await?;
                    rule.holds(north, &user, verb, false).await?;
                    is_missed(&agent, north, &ns, rule, verb, said).await?;
                    role.allow(north, &role.rules).await?;
                    rule.holds(north, &user, verb, true).await?;
                    is_well(&agent).await.with_context(|| format!("after {verb} {}", rule.resource))?;
                    if rule.resource == "leases" {
                        is_renewed(north).await?;
                    }
                }
            }
        }
        told(&agent, &format!("web.{ns}.global"), &pods(north, &ns, "web").await?).await
    })
}

/// The Secret has the form that `istioctl create-remote-secret` gives it, and nothing else.
fn is_istioctls(secret: &Secret) -> Result {
    let map = |name: &str, value: &str| Some(BTreeMap::from([(name.to_owned(), value.to_owned())]));
    assert_eq!(secret.metadata.labels, map("istio/multiCluster", "true"));
    assert_eq!(secret.metadata.annotations, map("networking.istio.io/cluster", "north"));
    let data = secret.data.as_ref().context("data")?;
    assert_eq!(data.keys().collect::<Vec<_>>(), ["north"]);
    let kubeconfig: Value = serde_saphyr::from_str(std::str::from_utf8(&data["north"].0)?)?;
    assert_eq!(kubeconfig["clusters"][0]["name"], "north");
    let user = kubeconfig["users"][0]["user"].as_object().context("a user")?;
    assert_eq!(user.keys().collect::<Vec<_>>(), ["token"]);
    assert_eq!(kubeconfig["current-context"], kubeconfig["contexts"][0]["name"]);
    Ok(())
}

/// Waits until nothing is wrong with the cluster.
async fn is_well(agent: &Agent) -> Result {
    agent
        .wait_until("all is well", |status| {
            let north = &status["clusters"]["north"];
            let observed = &north["observed"];
            north["conditions"].is_null() && observed["synced"] == true && observed["frozenSeconds"].is_null()
        })
        .await
        .map(drop)
}

/// Waits until its canary is renewed once more.
async fn is_renewed(north: &Cluster) -> Result {
    let before = renewals(north).await.unwrap_or_default();
    eventually(SOON, "the canary is renewed", async || {
        let now = renewals(north).await?;
        ensure!(now > before, "{now}, and before {before}");
        Ok(())
    })
    .await
}

/// How often the agent of east has renewed its Lease.
async fn renewals(north: &Cluster) -> Result<u64> {
    let lease = Api::<Lease>::namespaced(north.client(), NAMESPACE).get("federator-east").await?;
    let annotations = lease.metadata.annotations.unwrap_or_default();
    Ok(annotations.get("federator.io/sequence").context("no sequence")?.parse()?)
}

/// Has the agent need the right, and waits until it says what it lacks: in a condition of the cluster, or of what it can
/// do without, in its log.
async fn is_missed(agent: &Agent, north: &Cluster, ns: &str, rule: &Rule, verb: &str, said: usize) -> Result {
    let can_do_without = matches!(&*rule.resource, "leases" | "customresourcedefinitions");
    let single = verb == "get" && rule.resource != "leases";
    if !single {
        // What is open stays open.
        agent.kill()?;
        agent.start().await?;
    }
    let what = format!("the agent says that it may not {verb} {}", rule.resource);
    let needle = format!("cannot {verb} resource \"{}\"", rule.resource);
    eventually(SOON, &what, async || {
        if single {
            touch(north, ns, rule).await?;
        }
        let logs = agent.logs()[said..].replace('\\', "");
        if can_do_without {
            ensure!(logs.contains(&needle), "{logs}");
            return Ok(());
        }
        let conditions = agent.status().await?["clusters"]["north"]["conditions"].clone();
        let told = conditions.as_object().into_iter().flatten().filter_map(|(_, why)| why.as_str());
        ensure!(told.into_iter().any(|why| why.contains(&needle)), "{conditions}");
        Ok(())
    })
    .await
}

/// Changes one object: what changed last is what is asked for by its name.
pub(crate) async fn touch(north: &Cluster, ns: &str, rule: &Rule) -> Result {
    let version = if rule.resource == "serviceexports" { "v1alpha1" } else { "v1" };
    let gvk = GroupVersionKind::gvk(&rule.group, version, "");
    let resource = ApiResource::from_gvk_with_plural(&gvk, &rule.resource);
    let api: Api<DynamicObject> = match &*rule.resource {
        "nodes" | "namespaces" => Api::all_with(north.client(), &resource),
        _ => Api::namespaced_with(north.client(), ns, &resource),
    };
    let found = api.list(&ListParams::default()).await?.items.into_iter().next().context("nothing to touch")?;
    let name = found.metadata.name.context("a name")?;
    let touched = found.metadata.annotations.unwrap_or_default().get("touched").map_or(0, |n| n.parse().unwrap_or(0));
    let patch = json!({"metadata": {"annotations": {"touched": (touched + 1).to_string()}}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
