//! istiod judges what an agent writes: it admits every object, and tells each proxy every ready endpoint once, in the
//! order that a DestinationRule asks for; an Envoy goes where it was told. Two mistakes that nothing of Istio notices are
//! looked for here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use harness::{Cluster, Fleet, Result, SOON, XdsClient, XdsNode, eventually};
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};

use crate::federation::{pods, service_entry};

/// What is ours.
const OURS: &str = "app.kubernetes.io/managed-by=federator";

/// Istio's group.
const NETWORKING: &str = "networking.istio.io";

/// Zones of a cluster.
const ZONES: [u8; 3] = [1, 2, 3];

/// A service without pods: of its two endpoints one is ready.
const HALF: &str = "\
apiVersion: v1
kind: Service
metadata: {name: half}
spec: {ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata:
  name: half-1
  labels: {kubernetes.io/service-name: half, endpointslice.kubernetes.io/managed-by: tests}
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
  - {addresses: [10.20.1.200], nodeName: west-1, zone: west-1, conditions: {ready: true}}
  - {addresses: [10.20.2.200], nodeName: west-2, zone: west-2, conditions: {ready: false}}
";

/// An entry with an endpoint that is here, and one that only istiod could say where to find.
const NO_ADDRESS: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: poisoned}
spec:
  hosts: [poisoned.test]
  location: MESH_INTERNAL
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
    - {address: 10.40.1.249, network: n1}
    - {network: n2, labels: {security.istio.io/tlsMode: istio}}
";

/// So many answers are no chance where four could have come.
const IN_A_ROW: usize = 40;

/// A ready endpoint: region, zone, address and port.
type Ready = (String, String, String);

/// What the clusters have behind a service.
async fn ready(clusters: &[&Cluster], ns: &str, service: &str, port: u16) -> Result<Vec<Ready>> {
    let mut all = Vec::new();
    for cluster in clusters {
        for endpoint in cluster.endpoints(ns, service).await?.into_iter().filter(|endpoint| endpoint.ready) {
            let zone = endpoint.zone.context("an endpoint without a zone")?;
            all.push((cluster.name().to_owned(), zone, format!("{}:{port}", endpoint.address)));
        }
    }
    Ok(all)
}

/// The table of a proxy: all endpoints on one level.
fn flat(all: &[Ready]) -> String {
    table(all, |_, _| 0)
}

/// The same with a level for its zone, one for its region and one for the rest of its network, without gaps.
fn nearest_first(all: &[Ready], region: &str, zone: &str) -> String {
    let distance = |of: &str, at: &str| if of != region { 2 } else { usize::from(at != zone) };
    let distances: BTreeSet<usize> = all.iter().map(|(of, at, _)| distance(of, at)).collect();
    table(all, |of, at| distances.iter().take_while(|nearer| **nearer < distance(of, at)).count())
}

fn table(all: &[Ready], level: impl Fn(&str, &str) -> usize) -> String {
    let rows = all.iter().map(|(region, zone, at)| format!("P{} {region}/{zone} {at} x1", level(region, zone)));
    rows.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("\n")
}

/// All that we have written into a cluster, of whatever kind.
pub(crate) async fn written(cluster: &Cluster) -> Result<Vec<DynamicObject>> {
    let mut all = Vec::new();
    let group = kube::discovery::group(&cluster.client(), NETWORKING).await?;
    for (resource, _) in group.recommended_resources() {
        let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
        all.extend(api.list(&ListParams::default().labels(OURS)).await?);
    }
    Ok(all)
}

/// Hosts and virtual addresses that more than one ServiceEntry claims. Istio would take the endpoints of both, or send to
/// one what is for the other, and says nothing.
pub(crate) fn claimed_twice(entries: &[DynamicObject]) -> Vec<String> {
    let mut claims: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.types.as_ref().is_some_and(|types| types.kind == "ServiceEntry")) {
        let spec = &entry.data["spec"];
        for claim in ["hosts", "addresses"].iter().filter_map(|field| spec[*field].as_array()).flatten() {
            *claims.entry(claim.as_str().unwrap_or_default()).or_default() += 1;
        }
    }
    claims.into_iter().filter(|(_, count)| *count > 1).map(|(claim, _)| claim.to_owned()).collect()
}

#[test]
fn istiod_admits_what_is_written_and_every_proxy_gets_it() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("judge").await?;
        let (east, west, north) = (fleet.cluster("east"), fleet.cluster("west"), &fleet.spare().await?);
        let clusters = [east, west, &**north];
        ns.add_to(north).await?;
        east.deploy(&ns, "web", 3, 8080).await?;
        west.deploy(&ns, "web", 2, 8080).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        west.apply(&ns, HALF).await?;
        // Where the entry of a service goes that is elsewhere only.
        north.apply("", "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}").await?;
        let members = clusters.map(Cluster::membership);
        let agent = fleet.agent_of(north).embedded().emitting().config(|config| config["clusters"] = json!(members));
        let _agent = agent.start().await?;
        let istiod = north.istiod().await?;

        let mut proxies: Vec<(&str, String, XdsClient)> = Vec::new();
        for cluster in clusters {
            for number in ZONES {
                let (region, zone) = (cluster.name(), format!("{}-{number}", cluster.name()));
                let node = XdsNode::sidecar(&ns, [10, 40, number, 250]).network("n1");
                proxies.push((region, zone.clone(), istiod.proxy(&node.locality(&format!("{region}/{zone}"))).await?));
            }
        }
        let [web, half] = ["web", "half"].map(|name| format!("{name}.{ns}.global"));
        let of = |host: &str, port: u16| format!("outbound|{port}||{host}");
        let all = ready(&clusters, &ns, "web", 8080).await?;
        ensure!(all.len() == 6, "{all:?}");
        for (region, zone, proxy) in &mut proxies {
            proxy.sees(&of(&web, 8080), &nearest_first(&all, region, zone)).await?;
            proxy.sees(&of(&half, 80), "P0 west/west-1 10.20.1.200:8080 x1").await?;
        }
        west.scale(&ns, "web", 1).await?;
        let fewer = ready(&clusters, &ns, "web", 8080).await?;
        for (region, zone, proxy) in &mut proxies {
            proxy.sees(&of(&web, 8080), &nearest_first(&fewer, region, zone)).await?;
        }

        let objects = written(north).await?;
        for object in &objects {
            istiod.admits(object).await?;
        }
        for host in [&web, &half] {
            ensure!(objects.iter().any(|object| object.data["spec"]["hosts"] == json!([host])), "no entry of {host}");
        }
        assert_eq!(claimed_twice(&objects), [""; 0]);
        Ok(())
    })
}

#[test]
fn a_client_in_the_mesh_goes_to_the_nearest_that_lives() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("traffic").await?;
        let (east, north) = (fleet.cluster("east"), &fleet.spare().await?);
        ns.add_to(north).await?;
        east.deploy(&ns, "web", 3, 8080).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        let members = [east, north].map(Cluster::membership);
        let agent = fleet.agent_of(north).embedded().emitting().config(|config| {
            config["clusters"] = json!(members);
            config["emit"]["destinationRules"] = false.into();
        });
        let agent = agent.start().await?;
        let mut backends = BTreeMap::new();
        for cluster in [east, north] {
            for pod in pods(cluster, &ns, "web").await? {
                let address = SocketAddr::new(pod, 8080);
                backends.insert(address.to_string(), cluster.place().serve(address)?);
            }
        }
        let host = format!("web.{ns}.global");
        let cluster = format!("outbound|8080||{host}");
        let all = ready(&[east, north], &ns, "web", 8080).await?;
        let (region, zone, nearest) = all.last().context("a pod of north")?;
        let node = XdsNode::sidecar(&ns, [10, 40, 1, 250]).network("n1").locality(&format!("{region}/{zone}"));
        let istiod = north.istiod().await?;
        let mut proxy = istiod.proxy(&node).await?;
        proxy.sees(&cluster, &flat(&all)).await?;

        let envoy = north.envoy(&node).await?;
        // Without a rule there is one level, and it goes everywhere.
        let mut unseen: BTreeSet<String> = backends.keys().cloned().collect();
        eventually(SOON, "all backends were asked", async || {
            unseen.remove(&envoy.get(&host, 8080).await?);
            ensure!(unseen.is_empty(), "nobody has asked {unseen:?}");
            Ok(())
        })
        .await?;

        agent.reconfigure(|config| config["emit"]["destinationRules"] = true.into())?;
        agent.terminate().await?;
        agent.start().await?;
        let in_a_row = async |what: &str, right: &dyn Fn(&str) -> bool| {
            eventually(SOON, what, async || {
                for _ in 0..IN_A_ROW {
                    let answer = envoy.get(&host, 8080).await?;
                    ensure!(right(&answer), "{answer} has answered");
                }
                Ok(())
            })
            .await
        };
        in_a_row("the nearest is asked only", &|answer| answer == nearest).await?;
        backends.remove(nearest);
        in_a_row("the others are asked", &|answer| answer != nearest).await?;
        assert_eq!(envoy.refusals().await?, 0);

        // What no Envoy takes: a service with one endpoint of no address loses the others, too.
        north.apply(&ns, NO_ADDRESS).await?;
        eventually(SOON, "Envoy refuses it", async || {
            let refusals = envoy.refusals().await?;
            ensure!(refusals > 0, "it takes all");
            Ok(())
        })
        .await?;
        eventually(SOON, "there is nobody to ask", async || {
            let said = format!("{:#}", envoy.get("poisoned.test", 8080).await.err().context("it answers")?);
            ensure!(said.contains("answers 503: no healthy upstream"), "{said}");
            Ok(())
        })
        .await?;
        Ok(())
    })
}

#[test]
fn istiod_has_objections_but_not_to_twins() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("objections").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        let _agent = fleet.agent_of(&north).embedded().emitting().start().await?;
        let istiod = north.istiod().await?;
        let host = format!("web.{ns}.global");
        let entry = eventually(SOON, "the entry is there", async || service_entry(&north, &ns, &host).await).await?;
        istiod.admits(&entry).await?;

        let objection = async |change: &dyn Fn(&mut Value)| {
            let mut changed = entry.clone();
            change(&mut changed.data["spec"]);
            istiod.admits(&changed).await.map_err(|said| said.to_string())
        };
        let said = objection(&|spec| spec["endpoints"][0]["address"] = json!("a.name")).await.unwrap_err();
        assert!(said.starts_with("istiod refuses ServiceEntry"), "{said}");
        let far = json!({"network": "n2", "labels": {"security.istio.io/tlsMode": "istio"}});
        let said = objection(&|spec| spec["endpoints"][0] = far.clone()).await.unwrap_err();
        assert!(said.starts_with("istiod warns of ServiceEntry"), "{said}");

        let mut twin = entry.clone();
        twin.metadata.name = Some("twin".to_owned());
        istiod.admits(&twin).await?;
        let addresses = entry.data["spec"]["addresses"].as_array().context("virtual addresses")?;
        let claims: BTreeSet<_> = addresses.iter().filter_map(Value::as_str).chain([&*host]).collect();
        let found = claimed_twice(&[entry.clone(), twin]);
        assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), claims);
        assert_eq!(claimed_twice(std::slice::from_ref(&entry)), [""; 0]);
        Ok(())
    })
}
