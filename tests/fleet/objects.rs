//! What people write for several clusters, on top of what an agent emits, and what requests come to: every object of
//! `docs/istio-objects.md`, as it stands there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use futures::future::try_join_all;
use harness::{
    Agent, Backend, Cluster, Envoy, Fleet, Istiod, Manners, Namespace, Question, Result, SOON, Spare, XdsNode,
    eventually,
};
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt as _};
use serde_json::json;

/// The page with the objects.
const PAGE: &str = include_str!("../../docs/istio-objects.md");

/// A service, for each of its versions.
const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {app: NAME}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME-VERSION}
spec:
  replicas: 1
  selector: {matchLabels: {app: NAME, version: VERSION}}
  template:
    metadata: {labels: {app: NAME, version: VERSION}}
    spec:
      containers: [{name: main, image: none, ports: [{name: http, containerPort: 8080}]}]
";

/// What the page says that istiod refuses: an entry with host names as addresses, and a filter that is not there.
const REFUSED: [&str; 2] = [
    "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: refused}
spec:
  hosts: [web.shop.global]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: web.shop.svc.cluster.local, locality: west/west-1}]
",
    "\
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: refused}
spec:
  configPatches:
    - applyTo: HTTP_FILTER
      match: {context: SIDECAR_OUTBOUND}
      patch:
        operation: INSERT_BEFORE
        value:
          name: envoy.filters.http.metrics
          typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.metrics.v3.Metrics}
",
];

/// So many answers are no chance where another could have come.
const IN_A_ROW: usize = 40;

/// How shares are counted, and by how many points of a hundred they may be off. Envoy draws lots for routes, so even ones
/// need more requests to be that near: these many are off by as much in one of a hundred thousand runs.
const REQUESTS: usize = 2000;
const EVEN: usize = 5000;
const POINTS: f64 = 3.0;

/// A pod that answers.
struct Pod {
    cluster: String,
    version: String,
    backend: Backend,
}

/// Two clusters, an agent that emits into one of them, and a client in the mesh there.
struct Stage<'a> {
    ns: &'a Namespace,
    north: &'a Spare,
    agent: &'a Agent,
    istiod: &'a Istiod,
    envoy: &'a Envoy,
    /// By what they answer.
    pods: BTreeMap<String, Pod>,
}

// === impl Stage ===

impl Stage<'_> {
    /// A manifest of the page, for the clusters and the namespace that are here.
    fn translate(&self, yaml: &str) -> String {
        let yaml = yaml.replace("west", self.north.name()).replace("shop.global", &format!("{}.global", self.ns));
        yaml.replace("shop.svc.cluster", &format!("{}.svc.cluster", self.ns))
    }

    /// The objects below a headline of the page.
    fn objects(&self, headline: &str) -> Result<String> {
        let (_, below) = PAGE.split_once(&format!("\n## {headline}\n")).with_context(|| format!("no {headline}"))?;
        let below = below.split("\n## ").next().unwrap_or_default();
        let (_, yaml) = below.split_once("```yaml\n").with_context(|| format!("no YAML below {headline}"))?;
        Ok(self.translate(yaml.split("```").next().unwrap_or_default()))
    }

    async fn apply(&self, manifests: &str) -> Result {
        self.north.apply(self.ns, manifests).await
    }

    /// Takes away what was applied, and nothing of the agent's.
    fn clear(&self) -> Result {
        let kinds =
            "destinationrules,virtualservices,gateways.networking.istio.io,sidecars,workloadentries,serviceentries";
        let others = "app.kubernetes.io/managed-by!=federator";
        self.north.kubectl(["delete", kinds, "--namespace", self.ns, "--selector", others])?.done()?;
        Ok(())
    }

    fn question(&self, service: &str) -> Question {
        self.envoy.question(&format!("{service}.{}.global", self.ns), 80)
    }

    fn of(&self, cluster: &str) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(move |pod| pod.cluster == cluster)
    }

    fn behave(&self, cluster: &str, manners: Manners) {
        self.of(cluster).for_each(|pod| pod.backend.behave(manners));
    }

    /// How often who answered: pods by what `of` says of them.
    async fn tally(&self, question: &Question, times: usize, of: fn(&Pod) -> &str) -> Result<BTreeMap<String, usize>> {
        let mut tally = BTreeMap::new();
        for (answer, count) in question.tally(times).await? {
            let who = self.pods.get(&answer).map_or(answer.as_str(), of).to_owned();
            *tally.entry(who).or_default() += count;
        }
        Ok(tally)
    }

    /// Waits until exactly these answer.
    async fn served_by(&self, question: &Question, of: fn(&Pod) -> &str, who: &[&str]) -> Result {
        let who: BTreeSet<&str> = who.iter().copied().collect();
        eventually(SOON, &format!("{who:?} answer"), async || {
            let tally = self.tally(question, IN_A_ROW, of).await?;
            ensure!(tally.keys().map(String::as_str).eq(who.iter().copied()), "{tally:?}");
            Ok(())
        })
        .await
    }

    /// Waits until none of the pods answers.
    async fn nobody(&self, question: &Question) -> Result {
        eventually(SOON, "nobody answers", async || match question.ask().await {
            Ok(answer) if self.pods.contains_key(&answer) => bail!("{answer} answers"),
            _ => Ok(()),
        })
        .await
    }

    /// Waits until these answer, each with its share of a hundred.
    async fn shares(&self, question: &Question, times: usize, of: fn(&Pod) -> &str, shares: &[(&str, f64)]) -> Result {
        let agree = async |times: usize, points: f64| {
            let tally = self.tally(question, times, of).await?;
            ensure!(tally.len() == shares.len(), "{tally:?}");
            for (who, share) in shares {
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let seen = 100.0 * *tally.get(*who).unwrap_or(&0) as f64 / times as f64;
                ensure!((seen - share).abs() <= points, "{who} has {seen} % instead of {share} %: {tally:?}");
            }
            Ok(())
        };
        eventually(SOON, "the shares are about right", async || agree(2 * IN_A_ROW, 25.0).await).await?;
        agree(times, POINTS).await
    }
}

fn cluster(pod: &Pod) -> &str {
    &pod.cluster
}

fn version(pod: &Pod) -> &str {
    &pod.version
}

/// Starts a server for every pod of a namespace, when there are as many as there will be.
async fn pods(cluster: &Cluster, ns: &str, count: usize) -> Result<Vec<Pod>> {
    let api: Api<PodObject> = Api::namespaced(cluster.client(), ns);
    let found = eventually(SOON, "all pods have an address", async || {
        let pods = api.list(&ListParams::default()).await?.items;
        let address = |pod: &PodObject| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let found: Option<Vec<_>> = pods.iter().map(|pod| Some((address(pod)?, pod.labels().clone()))).collect();
        found.filter(|found| found.len() == count).context("not yet")
    })
    .await?;
    let pod = |(address, labels): (String, BTreeMap<String, String>)| {
        let backend = cluster.place().serve(SocketAddr::new(address.parse()?, 8080))?;
        Ok(Pod { cluster: cluster.name().to_owned(), version: labels["version"].clone(), backend })
    };
    found.into_iter().map(pod).collect()
}

fn object(yaml: &str) -> Result<DynamicObject> {
    let mut objects: Vec<DynamicObject> = serde_saphyr::from_multiple(yaml)?;
    objects.pop().context("an object")
}

#[test]
fn what_people_write_for_several_clusters_does_what_the_manual_says() -> Result {
    Fleet::shared(async |fleet| {
        let ns = &fleet.namespace("objects").await?;
        let (east, north) = (fleet.cluster("east"), &fleet.spare().await?);
        ns.add_to(north).await?;
        north.apply("", "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}").await?;
        for version in ["v1", "v2"] {
            let web = SERVICE.replace("NAME", "web").replace("VERSION", version);
            east.apply(ns, &web).await?;
            north.apply(ns, &web).await?;
        }
        east.apply(ns, &SERVICE.replace("NAME", "api").replace("VERSION", "v1")).await?;
        let both = pods(east, ns, 3).await?.into_iter().chain(pods(north, ns, 2).await?);
        let pods = both.map(|pod| (pod.backend.address().to_string(), pod)).collect();

        let members = [east, north].map(Cluster::membership);
        let agent = fleet.agent_of(north).embedded().emitting().config(|config| {
            config["clusters"] = json!(members);
            config["import"]["aliases"]["allow"] = json!([{"suffix": "example.com", "namespaces": [ns.to_string()]}]);
        });
        let agent = &agent.start().await?;
        let istiod = &north.istiod().await?;
        let client = north.pod_addresses().pop_last().context("pods")?;
        let node = XdsNode::sidecar(ns, client).network("n1").locality(north.name());
        let envoy = &north.envoy(&node).await?;
        let stage = Stage { ns, north, agent, istiod, envoy, pods };
        // As it is emitted: the nearest of one service, and the only one of the other.
        stage.served_by(&stage.question("web"), cluster, &[north.name()]).await?;
        stage.served_by(&stage.question("api"), cluster, &["east"]).await?;

        shares(&stage).await.context("shares")?;
        hosts(&stage, east).await.context("hosts")?;
        by_header(&stage).await.context("by header")?;
        near_and_far(&stage).await.context("near and far")?;
        conditions(&stage).await.context("conditions")?;
        versions(&stage).await.context("versions")?;
        troubles(&stage).await.context("troubles")?;
        scope(&stage).await.context("scope")?;
        additions(&stage).await.context("additions")?;
        refusals(&stage).await.context("refusals")?;
        assert_eq!(stage.envoy.refusals().await?, 0);
        Ok(())
    })
}

async fn shares(stage: &Stage<'_>) -> Result {
    let (west, web, objects) = (stage.north.name(), stage.question("web"), stage.objects("Shares")?);
    stage.apply(&objects).await?;
    stage.shares(&web, EVEN, cluster, &[(west, 70.0), ("east", 30.0)]).await?;
    stage.served_by(&stage.envoy.question("shop.example.com", 80), cluster, &[west, "east"]).await?;
    let moved = json!({"spec": {"http": [{"route": [
        {"destination": {"host": format!("web.{}.global", stage.ns), "subset": "east"}},
    ]}]}});
    let patch = ["patch", "virtualservice", "web", "--type", "merge", "--namespace", stage.ns, "--patch"];
    stage.north.kubectl(patch.into_iter().chain([&*moved.to_string()]))?.done()?;
    stage.served_by(&web, cluster, &["east"]).await?;

    // The label that seems to say the cluster is everywhere istiod's own: one subset has all, the other nobody.
    stage.apply(&objects.replace("federator.io/cluster", "topology.istio.io/cluster")).await?;
    stage.served_by(&web, cluster, &["503", west]).await?;

    // A weight of nothing is no backup.
    stage.apply(&objects.replace("weight: 70", "weight: 100").replace("weight: 30", "weight: 0")).await?;
    stage.served_by(&web, cluster, &[west]).await?;
    stage.behave(west, Manners::Failing);
    stage.served_by(&web, cluster, &["503"]).await?;
    stage.behave(west, Manners::Good);
    stage.clear()
}

async fn hosts(stage: &Stage<'_>, east: &Cluster) -> Result {
    let (west, alias) = (stage.north.name(), stage.envoy.question("shop.example.com", 80));
    let annotate = |hosts: [&str; 2]| -> Result {
        for cluster in [east, stage.north] {
            let annotate = ["annotate", "service", "web", "--overwrite", "--namespace", stage.ns];
            cluster.kubectl(annotate.into_iter().chain(hosts))?.done()?;
        }
        Ok(())
    };
    annotate(["federator.io/cluster-host=true", "federator.io/aliases=shop.example.com,shop.example.org"])?;
    stage.served_by(&alias, cluster, &[west]).await?;
    for place in ["east", west] {
        let host = format!("web.{}.svc.cluster.{place}", stage.ns);
        stage.served_by(&stage.envoy.question(&host, 80), cluster, &[place]).await?;
    }
    let key = format!("{}/web", stage.ns);
    let refused =
        |now: &serde_json::Value| now["emit"]["leftOut"][&key].to_string().contains("AliasRefused: shop.example.org");
    stage.agent.wait_until("the other alias is refused", refused).await?;
    // Where a level has nobody, another takes over: an alias has a rule as good as the service's own.
    stage.behave(west, Manners::Failing);
    stage.served_by(&alias, cluster, &["east"]).await?;
    stage.behave(west, Manners::Good);

    // A host that something here names is there unasked, and goes with what names it.
    annotate(["federator.io/cluster-host-", "federator.io/aliases=shop.example.com"])?;
    let of_east = stage.envoy.question(&format!("web.{}.svc.cluster.east", stage.ns), 80);
    stage.nobody(&of_east).await?;
    stage.apply(&stage.objects("Hosts of clusters")?).await?;
    for question in [&stage.question("web"), &alias] {
        stage.shares(question, EVEN, cluster, &[(west, 70.0), ("east", 30.0)]).await?;
    }
    stage.served_by(&of_east, cluster, &["east"]).await?;
    stage.clear()?;
    stage.nobody(&of_east).await?;
    annotate(["federator.io/cluster-host-", "federator.io/aliases-"])?;
    stage.agent.wait_until("nothing more is asked for", |now| now["emit"]["leftOut"][&key].is_null()).await?;
    stage.nobody(&alias).await
}

async fn by_header(stage: &Stage<'_>) -> Result {
    let (west, objects) = (stage.north.name(), stage.objects("By header")?);
    stage.apply(&objects).await?;
    let node = XdsNode::router(stage.ns, stage.north.place().address()).network("n1").locality(west);
    let node = node.label("istio", "ingressgateway");
    let gate = stage.north.envoy(&node).await?;
    let question = stage.north.place().question("shop.example.com", stage.north.place().port(80));
    for place in [west, "east"] {
        stage.served_by(&question.clone().header("place", place), cluster, &[place]).await?;
    }
    stage.served_by(&question.clone().header("place", "south"), version, &["v1"]).await?;
    // A host of which nobody has heard, where the rule with the subsets is for another.
    let right = format!("host: web.{}.global, subset: east", stage.ns);
    ensure!(objects.contains(&right), "{objects}");
    stage.apply(&objects.replace(&right, "host: web.shop.svc.cluster.east, subset: east")).await?;
    stage.served_by(&question.header("place", "east"), cluster, &["503"]).await?;
    assert_eq!(gate.refusals().await?, 0);
    stage.clear()
}

async fn near_and_far(stage: &Stage<'_>) -> Result {
    let (west, web) = (stage.north.name(), stage.question("web"));
    stage.apply(&stage.objects("Distribute")?).await?;
    stage.shares(&web, REQUESTS, cluster, &[(west, 80.0), ("east", 20.0)]).await?;
    stage.clear()?;

    stage.apply(&stage.objects("Primary and backup")?).await?;
    stage.served_by(&web, cluster, &["east"]).await?;
    stage.behave("east", Manners::Failing);
    stage.served_by(&web, cluster, &[west]).await?;
    stage.behave("east", Manners::Good);
    stage.clear()
}

async fn conditions(stage: &Stage<'_>) -> Result {
    let (west, web) = (stage.north.name(), stage.question("web"));
    stage.apply(&stage.objects("Conditions")?).await?;
    stage.served_by(&web.clone().header("customer", "gold"), cluster, &["east"]).await?;
    stage.shares(&web, REQUESTS, cluster, &[(west, 90.0), ("east", 10.0)]).await?;
    // One of a subset fails, and nobody hears of it; all of it fail, and nobody else is asked.
    let one = stage.of(west).next().context("a pod")?;
    one.backend.behave(Manners::Failing);
    let tally = stage.tally(&web, IN_A_ROW, cluster).await?;
    ensure!(!tally.contains_key("503"), "{tally:?}");
    stage.behave(west, Manners::Failing);
    stage.served_by(&web, cluster, &["503", "east"]).await?;
    stage.behave(west, Manners::Good);
    stage.clear()
}

async fn versions(stage: &Stage<'_>) -> Result {
    let web = stage.question("web");
    stage.apply(&stage.objects("Versions")?).await?;
    stage.served_by(&web.clone().header("tester", "yes"), version, &["v2"]).await?;
    stage.shares(&web, EVEN, version, &[("v1", 75.0), ("v2", 25.0)]).await?;
    stage.clear()?;

    stage.apply(&stage.objects("Paths")?).await?;
    let front = stage.envoy.question("shop.example.com", 80);
    stage.served_by(&front.clone().path("/web/1"), cluster, &[stage.north.name()]).await?;
    stage.served_by(&front.clone().path("/api/1"), cluster, &["east"]).await?;
    stage.clear()
}

async fn troubles(stage: &Stage<'_>) -> Result {
    let api = stage.question("api");
    stage.apply(&stage.objects("Faults")?).await?;
    stage.shares(&api, REQUESTS, cluster, &[("east", 90.0), ("418", 10.0)]).await?;
    let before = stage.envoy.count("delays_injected").await?;
    let slow = api.clone().header("slow", "yes").tally(2).await?;
    ensure!(stage.envoy.count("delays_injected").await? >= before + 2, "{slow:?}");
    stage.behave("east", Manners::Silent);
    eventually(SOON, "somebody has waited long enough", async || {
        let tally = api.tally(1).await?;
        ensure!(tally.contains_key("504"), "{tally:?}");
        Ok(())
    })
    .await?;
    stage.clear()?;

    // One connection, one request that waits for it, and no more.
    stage.apply(&stage.objects("Breaker")?).await?;
    eventually(SOON, "one too many is turned away", async || {
        let all = try_join_all((0..4).map(|_| api.tally(1))).await?;
        let statuses: BTreeSet<&str> = all.iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
        ensure!(statuses == BTreeSet::from(["503", "504"]), "{statuses:?}");
        Ok(())
    })
    .await?;
    stage.behave("east", Manners::Good);
    stage.clear()
}

async fn scope(stage: &Stage<'_>) -> Result {
    let (west, web, api) = (stage.north.name(), stage.question("web"), stage.question("api"));
    let objects = stage.objects("Sidecar")?;
    // What is elsewhere only is out of sight of a sidecar that looks at its own namespace alone.
    stage.apply(&objects.replace(", \"istio-system/*\"", "")).await?;
    eventually(SOON, "it is out of sight", async || match api.ask().await {
        Ok(answer) => bail!("{answer} answers"),
        Err(_) => Ok(()),
    })
    .await?;
    stage.served_by(&web, cluster, &[west]).await?;
    stage.apply(&objects).await?;
    stage.served_by(&api, cluster, &["east"]).await?;
    stage.served_by(&web, cluster, &[west]).await?;
    stage.clear()
}

async fn additions(stage: &Stage<'_>) -> Result {
    let (west, web) = (stage.north.name(), stage.question("web"));
    // Neither the client's address nor one that a pod has.
    let address = stage.north.pod_addresses().into_iter().rev().nth(1).context("an address")?;
    let machine = stage.north.place().serve(SocketAddr::new(address, 8080))?;
    let objects = stage.objects("Virtual machine")?.replace("192.0.2.10", &address.to_string());
    stage.apply(&format!("{objects}  network: machines\n")).await?;
    let key = format!("{}/web", stage.ns);
    let left_out =
        |now: &serde_json::Value| now["emit"]["leftOut"][&key].to_string().contains("NoGateway: 1 endpoints");
    stage.agent.wait_until("it is on a network of its own", left_out).await?;
    stage.served_by(&web, cluster, &[west]).await?;
    stage.clear()?;
    stage.apply(&objects).await?;
    stage.served_by(&web, cluster, &[west, &machine.address().to_string()]).await?;
    stage.clear()?;

    let east = stage.of("east").next().context("a pod")?.backend.address().ip().to_string();
    stage.apply(&stage.objects("Outside")?.replace("192.0.2.20", &east)).await?;
    stage.served_by(&stage.envoy.question("partner.example.com", 80), cluster, &["east"]).await?;
    stage.clear()
}

async fn refusals(stage: &Stage<'_>) -> Result {
    for yaml in REFUSED {
        let refused = object(&stage.translate(yaml))?;
        let said = stage.istiod.admits(&refused).await.err().context("istiod admits it")?.to_string();
        ensure!(said.starts_with("istiod refuses"), "{said}");
    }
    let mut checked = object(&stage.objects("Outside")?)?;
    let gvk = GroupVersionKind::gvk("networking.istio.io", "v1", "ServiceEntry");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "serviceentries");
    let entries: Api<DynamicObject> = Api::namespaced_with(stage.north.client(), stage.ns, &resource);
    let params =
        PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply("strict").dry_run() };
    let name = checked.name_any();
    entries.patch(&name, &params, &Patch::Apply(&checked)).await.context("it is refused without the field")?;
    checked.data["spec"]["healthCheck"] = json!([{"name": "health", "interval": "60s"}]);
    let said = entries.patch(&name, &params, &Patch::Apply(&checked)).await.err().context("it is taken")?;
    ensure!(said.to_string().contains("healthCheck"), "{said}");
    Ok(())
}
