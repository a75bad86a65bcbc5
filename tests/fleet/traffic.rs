//! Requests of a client in the mesh between networks: shares are what endpoints are behind a gateway, whatever zones they
//! are in; nothing leaves its network while there is anybody to ask; everything does when there is nobody.
//!
//! Where the gateway would be, a server listens that answers with its own address. The mesh encrypts nothing here, so what
//! comes to it is what a gateway would pass on; what a gateway does with TLS is not shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, ensure};
use harness::{Backend, Fleet, Manners, Question, Result, SOON, XdsNode, eventually};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::federation::pods;

/// The client, and all nodes of its cluster.
const CLIENT: [u8; 4] = [10, 40, 1, 250];
const PLACE: &str = "r1/z1";

/// Shares are counted over so many requests, and may be off by so many points of a hundred.
const REQUESTS: usize = 2000;
const POINTS: f64 = 3.0;

/// So many answers are no chance where a far one could have come.
const IN_A_ROW: usize = 200;

/// Local pods of the service that is twice at one place.
const TWENTY: u32 = 20;

/// Another network's cluster as a directory: each endpoint of `service` in one of these zones of a region, and a Gateway
/// that lets our hosts through.
fn far(ns: &str, service: &str, region: &str, zones: &[&str]) -> String {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: entrance, namespace: istio-system}}
spec:
  selector: {{istio: eastwestgateway}}
  servers: [{{port: {{number: 15443, name: tls, protocol: TLS}}, tls: {{mode: AUTO_PASSTHROUGH}}, hosts: ['*.global']}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {service}, namespace: {ns}}}
spec: {{ports: [{{name: http, port: 80, targetPort: 8080}}]}}
"
    );
    let mut endpoints = String::new();
    for (number, zone) in zones.iter().enumerate() {
        let _ = write!(
            text,
            "---
apiVersion: v1
kind: Node
metadata:
  name: node-{number}
  labels: {{topology.kubernetes.io/region: {region}, topology.kubernetes.io/zone: {zone}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: pod-{number}, namespace: {ns}, labels: {{security.istio.io/tlsMode: istio}}}}
"
        );
        let _ = writeln!(
            endpoints,
            "- {{addresses: [10.99.0.1{number}], nodeName: node-{number}, zone: {zone}, targetRef: {{kind: Pod, name: \
             pod-{number}}}}}"
        );
    }
    let _ = write!(
        text,
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {{name: {service}-1, namespace: {ns}, labels: {{kubernetes.io/service-name: {service}}}}}
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints:
{endpoints}"
    );
    text
}

/// An agent's member on a network of its own, with this way in.
fn member(directory: &Path, id: &str, manifests: &str, gateway: SocketAddr) -> Result<Value> {
    let directory = directory.join(id);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("all.yaml"), manifests)?;
    Ok(json!({"id": id, "network": id, "directory": directory, "gateways": [gateway.to_string()]}))
}

/// Waits until a question is answered by nobody else, time after time.
async fn only(question: &Question, right: impl Fn(&str) -> bool) -> Result {
    eventually(SOON, "nobody else answers", async || {
        let tally = question.tally(IN_A_ROW).await?;
        ensure!(tally.keys().all(|answer| right(answer)), "{tally:?}");
        Ok(())
    })
    .await
}

#[test]
fn a_gateway_gets_its_share_and_nothing_while_there_is_somebody_near() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("traffic").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        // All of its pods are in one zone.
        let (region, zone) = PLACE.split_once('/').context("a region and a zone")?;
        let labels = json!({"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone});
        let labels = Patch::Merge(json!({"metadata": {"labels": labels}}));
        for node in 1..=3 {
            let name = format!("{}-{node}", north.name());
            Api::<Node>::all(north.client()).patch(&name, &PatchParams::default(), &labels).await?;
        }
        north.deploy(&ns, "zones", 2, 80).await?;
        north.deploy(&ns, "twin", TWENTY, 80).await?;
        let backends = async |service: &str| -> Result<BTreeMap<String, Backend>> {
            let pods = pods(&north, &ns, service).await?.into_iter().map(|pod| SocketAddr::new(pod, 80));
            pods.map(|on| Ok((on.to_string(), north.place().serve(on)?))).collect()
        };
        let (mut zones, twin) = (backends("zones").await?, backends("twin").await?);
        let gateway = || north.place().serve(north.place().port(0));
        let (to_zones, to_twin) = (gateway()?, gateway()?);

        // Six in three zones of another region, and two in the very zone of the client.
        let directory = tempfile::tempdir()?;
        let spread = far(&ns, "zones", "r2", &["z1", "z1", "z1", "z2", "z2", "z3"]);
        let twins = far(&ns, "twin", region, &[zone, zone]);
        let members = json!([
            north.membership(),
            member(directory.path(), "spread", &spread, to_zones.address())?,
            member(directory.path(), "beside", &twins, to_twin.address())?,
        ]);
        let agent = fleet.agent_of(&north).embedded().emitting().config(|config| {
            config["clusters"] = members;
            config["emit"]["destinationRules"] = false.into();
        });
        let agent = agent.start().await?;
        let istiod = north.istiod().await?;
        let node = XdsNode::sidecar(&ns, CLIENT).network("n1").locality(PLACE);
        let [host, twin_host] = ["zones", "twin"].map(|service| format!("{service}.{ns}.global"));
        let mut table: Vec<String> = zones.keys().map(|at| format!("P0 {PLACE} {at} x1")).collect();
        table.push(format!("P0 r2 {} x6 istio", to_zones.address()));
        istiod.proxy(&node).await?.sees(&format!("outbound|80||{host}"), &table.join("\n")).await?;

        // Without a rule there is one level, and shares are what weights say.
        let envoy = north.envoy(&node).await?;
        let question = envoy.question(&host, 80);
        let expected = zones.keys().map(|at| (at.clone(), 1)).chain([(to_zones.address().to_string(), 6)]);
        shares(&question, &expected.collect()).await?;

        agent.reconfigure(|config| config["emit"]["destinationRules"] = true.into())?;
        agent.terminate().await?;
        agent.start().await?;
        only(&question, |answer| zones.contains_key(answer)).await?;
        zones.clear();
        only(&question, |answer| answer == to_zones.address().to_string()).await?;

        // Where only the network tells what is near, and some that are near fail.
        let question = envoy.question(&twin_host, 80);
        only(&question, |answer| twin.contains_key(answer)).await?;
        let mut backends = twin.values();
        backends.by_ref().take(5).for_each(|backend| backend.behave(Manners::Failing));
        let good: Vec<String> = backends.clone().map(|backend| backend.address().to_string()).collect();
        only(&question, |answer| good.iter().any(|one| one == answer)).await?;
        // And all of them.
        backends.for_each(|backend| backend.behave(Manners::Failing));
        only(&question, |answer| answer == to_twin.address().to_string()).await?;
        assert_eq!(envoy.refusals().await?, 0);
        Ok(())
    })
}

/// Each answer's share of many is what its weight says.
async fn shares(question: &Question, weights: &BTreeMap<String, u32>) -> Result {
    let tally = question.tally(REQUESTS).await?;
    let all: u32 = weights.values().sum();
    ensure!(tally.keys().eq(weights.keys()), "{tally:?} instead of {weights:?}");
    for (answer, weight) in weights {
        let percent = |part: f64, whole: f64| 100.0 * part / whole;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let seen = percent(tally[answer] as f64, REQUESTS as f64);
        let expected = percent(f64::from(*weight), f64::from(all));
        ensure!((seen - expected).abs() <= POINTS, "{answer} has {seen} % instead of {expected} %: {tally:?}");
    }
    Ok(())
}
