//! What the objects of a real cluster say of endpoints and of exporting counts, and when they say otherwise, that counts
//! from then on.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use harness::{Agent, Cluster, Fleet, Result, SOON, Spare, eventually};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::federation::pods;
use crate::membership::told;

/// A workload that the Service `web` selects, an endpoint that somebody wrote down for it, and a headless service of its
/// pods.
const BESIDE_PODS: &str = "\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm}
spec: {address: 10.99.0.1, labels: {app: web}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-by-hand
  labels: {kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: tests}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.99.0.2]}]
---
apiVersion: v1
kind: Service
metadata: {name: head}
spec:
  clusterIP: None
  selector: {app: web}
  ports: [{name: http, port: 8080}]
";

const SERVICE_EXPORT: &str = "\
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceExport
metadata: {name: web}
";

/// The definition of that.
const DEFINITION: &str = "serviceexports.multicluster.x-k8s.io";

/// The root namespace of the mesh, with a network of its own.
const ROOT_NAMESPACE: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: n9}}
";

/// The annotation, and the label of a namespace, that says whether something is exported.
const EXPORT: &str = "federator.io/export";

/// A cluster of the test's own with a service of one pod, and an agent of it without a shared store.
struct Scene {
    north: Spare,
    agent: Agent,
    ns: String,
    name: String,
    pods: BTreeSet<IpAddr>,
}

/// Deletes a definition of a kind; returns what it was, once it is gone.
pub(crate) async fn undefine(cluster: &Cluster, name: &str) -> Result<CustomResourceDefinition> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let definition = definitions.get(name).await?;
    definitions.delete(name, &DeleteParams::default()).await?;
    eventually(SOON, "the definition is gone", async || {
        ensure!(definitions.get_opt(name).await?.is_none(), "it is still there");
        Ok(())
    })
    .await?;
    Ok(definition)
}

/// Makes it again.
pub(crate) async fn define(cluster: &Cluster, mut definition: CustomResourceDefinition) -> Result {
    let ObjectMeta { name, annotations, .. } = definition.metadata;
    definition.metadata = ObjectMeta { name, annotations, ..ObjectMeta::default() };
    definition.status = None;
    Api::all(cluster.client()).create(&PostParams::default(), &definition).await?;
    Ok(())
}

// === impl Scene ===

impl Scene {
    async fn new(fleet: &Fleet, prefix: &str) -> Result<Self> {
        let ns = fleet.namespace(prefix).await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        let agent = fleet.agent_of(&north).embedded().start().await?;
        agent.ready().await?;
        let pods = pods(&north, &ns, "web").await?;
        let (ns, name) = (ns.to_string(), format!("web.{ns}.global"));
        let scene = Self { north, agent, ns, name, pods };
        scene.answers(&[]).await?;
        Ok(scene)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.north.client(), &self.ns)
    }

    /// Waits until the service's endpoints are its pods and these.
    async fn answers(&self, others: &[u8]) -> Result {
        let others = others.iter().map(|n| IpAddr::from([10, 99, 0, *n]));
        told(&self.agent, &self.name, &self.pods.iter().copied().chain(others).collect()).await
    }

    /// Waits until the service has no endpoint, and status says why.
    async fn is_left_out(&self, why: &str) -> Result {
        told(&self.agent, &self.name, &BTreeSet::new()).await?;
        let object = format!("Service {}/web", self.ns);
        let says = |status: &Value| {
            let left_out = &status["clusters"][self.north.name()]["observed"]["leftOut"];
            left_out[&object].as_str().is_some_and(|reason| reason.contains(why))
        };
        self.agent.wait_until(&format!("leaves it out: {why}"), says).await.map(drop)
    }

    async fn view_has(&self, text: &str) -> Result {
        eventually(SOON, &format!("the View has {text}"), async || {
            let view = self.agent.view().await?;
            ensure!(view.contains(text), "{view}");
            Ok(())
        })
        .await
    }
}

/// Changes an object.
async fn merge<K>(api: &Api<K>, name: &str, patch: Value) -> Result
where
    K: Clone + DeserializeOwned + Debug,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// A change of a label or an annotation; null takes it away.
fn meta(kind: &str, name: &str, value: impl Into<Value>) -> Value {
    json!({"metadata": {kind: {name: value.into()}}})
}

#[test]
fn what_is_said_of_endpoints_counts() -> Result {
    Fleet::shared(async |fleet| {
        let scene = Scene::new(fleet, "endpoints").await?;
        let (north, agent) = (&scene.north, &scene.agent);

        // Others than pods are endpoints too, but of a headless service only what its own cluster answers.
        north.apply(&scene.ns, BESIDE_PODS).await?;
        scene.answers(&[1, 2]).await?;
        told(agent, &format!("head.{}.global", scene.ns), &scene.pods).await?;

        // A workload that is probed takes no traffic until a probe has succeeded.
        let gvk = GroupVersionKind::gvk("networking.istio.io", "v1", "WorkloadEntry");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "workloadentries");
        let entries: Api<DynamicObject> = Api::namespaced_with(north.client(), &scene.ns, &resource);
        merge(&entries, "vm", meta("annotations", "proxy.istio.io/health-checks-enabled", "true")).await?;
        scene.answers(&[2]).await?;
        let found = async |healthy: &str| -> Result {
            let patch = Patch::Merge(json!({"status": {"conditions": [{"type": "Healthy", "status": healthy}]}}));
            entries.patch_status("vm", &PatchParams::default(), &patch).await?;
            Ok(())
        };
        found("True").await?;
        scene.answers(&[1, 2]).await?;
        found("False").await?;
        scene.answers(&[2]).await?;

        // An endpoint that is not ready takes none; one that is going takes what nobody else can.
        let slices: Api<EndpointSlice> = scene.api();
        let says = async |conditions: Value| {
            let endpoint = json!({"addresses": ["10.99.0.2"], "conditions": conditions});
            merge(&slices, "web-by-hand", json!({"endpoints": [endpoint]})).await
        };
        says(json!({"ready": false})).await?;
        scene.answers(&[]).await?;
        says(json!({"ready": false, "serving": true, "terminating": true})).await?;
        scene.view_has("10.99.0.2").await?;
        scene.answers(&[]).await?;

        // Where a node is, its endpoints are.
        let pod = scene.api::<Pod>().list(&ListParams::default()).await?.items.into_iter().next().context("a pod")?;
        let node = pod.spec.and_then(|spec| spec.node_name).context("a node")?;
        scene.view_has(&format!(" at={}/{node}", north.name())).await?;
        let nodes: Api<Node> = Api::all(north.client());
        merge(&nodes, &node, meta("labels", "topology.kubernetes.io/region", "elsewhere")).await?;
        scene.view_has(&format!(" at=elsewhere/{node}")).await?;

        // The network of a cluster is what its mesh's root namespace says, and else what the configuration says.
        let network = async |network: &str| {
            let id = north.name();
            let what = format!("it is on network {network}");
            agent.wait_until(&what, |status| status["clusters"][id]["network"] == network).await
        };
        network("n1").await?;
        north.apply("", ROOT_NAMESPACE).await?;
        network("n9").await?;
        scene.answers(&[]).await?;
        let namespaces: Api<Namespace> = Api::all(north.client());
        merge(&namespaces, "istio-system", meta("labels", "topology.istio.io/network", Value::Null)).await?;
        network("n1").await?;

        // Without any pod, the one that is going is all there is.
        let deployments: Api<Deployment> = scene.api();
        let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
        deployments.patch_scale("web", &PatchParams::default(), &none).await?;
        told(agent, &scene.name, &BTreeSet::from([IpAddr::from([10, 99, 0, 2])])).await
    })
}

#[test]
fn what_is_exported_may_change_at_any_time() -> Result {
    Fleet::shared(async |fleet| {
        let scene = Scene::new(fleet, "exported").await?;
        let (north, agent, ns) = (&scene.north, &scene.agent, &scene.ns);

        let services: Api<Service> = scene.api();
        merge(&services, "web", meta("annotations", EXPORT, "false")).await?;
        scene.is_left_out("annotated").await?;
        merge(&services, "web", meta("annotations", EXPORT, Value::Null)).await?;
        scene.answers(&[]).await?;

        let namespaces: Api<Namespace> = Api::all(north.client());
        merge(&namespaces, ns, meta("labels", EXPORT, "false")).await?;
        scene.is_left_out("its namespace is labelled").await?;
        merge(&namespaces, ns, meta("labels", EXPORT, Value::Null)).await?;
        scene.answers(&[]).await?;

        // The file of the configuration is read again while the agent runs.
        agent.reconfigure(|config| config["export"] = json!({"namespaces": {"deny": [ns]}}))?;
        scene.is_left_out("export.namespaces").await?;
        agent.reconfigure(|config| config["export"] = json!({"mode": "opt-in"}))?;
        scene.is_left_out("export.mode is opt-in").await?;

        // What asks for it is of a kind that may come, go and come again.
        north.apply(ns, SERVICE_EXPORT).await?;
        scene.answers(&[]).await?;
        let definition = undefine(north, DEFINITION).await?;
        scene.is_left_out("export.mode is opt-in").await?;
        define(north, definition).await?;
        eventually(SOON, "a ServiceExport can be made", async || north.apply(ns, SERVICE_EXPORT).await).await?;
        scene.answers(&[]).await?;
        agent.wait_until("nothing is wrong", |now| now["clusters"][north.name()]["conditions"].is_null()).await?;
        Ok(())
    })
}
