//! Networks that are reached through gateways: found as they come and go, used for what they let through and for what
//! takes mutual TLS, and written for others to come in.

use anyhow::{Context as _, ensure};
use harness::{Agent, Cluster, Fleet, Result, SOON, XdsNode, eventually};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::federation::service_entry;

/// The network that only the spare cluster is on, and its gateway.
pub(crate) const NETWORK: &str = "n9";
const GATEWAY: &str = "192.0.2.9";

/// Pods that have a sidecar, as far as anybody can tell by their labels.
pub(crate) const MESHED: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: v1, security.istio.io/tlsMode: istio}}
    spec:
      containers: [{name: main, image: none, ports: [{name: http, containerPort: 8080}]}]
";

/// A gateway as Istio's own installation makes it.
pub(crate) const ENTRANCE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: eastwest, labels: {topology.istio.io/network: n9}}
spec: {type: LoadBalancer, selector: {istio: eastwestgateway}, ports: [{name: tls, port: 15443}]}
";

/// What lets nothing of ours through.
const LOCAL: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: cross-network}
spec:
  selector: {istio: eastwestgateway}
  servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ['*.local']}]
";

/// Has a load balancer give a gateway these addresses.
pub(crate) async fn balance(cluster: &Cluster, ns: &str, addresses: &[&str]) -> Result {
    give(cluster, ns, addresses.iter().map(|address| json!({"ip": address})).collect()).await
}

async fn give(cluster: &Cluster, ns: &str, ingress: Vec<Value>) -> Result {
    let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    let services: Api<Service> = Api::namespaced(cluster.client(), ns);
    services.patch_status("eastwest", &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// Waits until the only thing that is said of the service begins with a reason.
async fn said(agent: &Agent, key: &str, reason: &str) -> Result {
    let holds = |now: &Value| {
        let said = now["emit"]["leftOut"][key].as_array().map(Vec::as_slice).unwrap_or_default();
        match (reason, said) {
            ("", []) => true,
            (_, [only]) => !reason.is_empty() && only.as_str().is_some_and(|text| text.starts_with(reason)),
            _ => false,
        }
    };
    agent.wait_until(&format!("`{reason}` is said of {key}"), holds).await?;
    Ok(())
}

#[test]
fn another_network_is_reached_through_its_gateways() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("gateways").await?;
        let (east, north) = (&fleet.spare().await?, fleet.spare().await?);
        ns.add_to(east).await?;
        ns.add_to(&north).await?;
        north.apply("", "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}").await?;
        north.apply(&ns, MESHED).await?;
        east.deploy(&ns, "web", 1, 80).await?;
        let mut there = north.membership();
        there["network"] = NETWORK.into();
        let both = json!([east.membership(), there]);
        let agent = fleet.agent_of(east).embedded().emitting();
        let agent = agent.config(|config| config["clusters"] = both).start().await?;
        let (key, host, name) = (format!("{ns}/web"), format!("web.{ns}.global"), north.name());
        said(&agent, &key, &format!("NoGateway: 3 endpoints of {name}: on network n9")).await?;

        north.apply(&ns, ENTRANCE).await?;
        balance(&north, &ns, &[GATEWAY]).await?;
        let closed = format!("GatewayDoesNotServeHost: 3 endpoints of {name}");
        said(&agent, &key, &closed).await?;
        north.apply(&ns, LOCAL).await?;
        let passes = |now: &Value| now["clusters"][name]["passed"] == json!(["*.local"]);
        agent.wait_until("what the gateway lets through is seen", passes).await?;
        said(&agent, &key, &closed).await?;

        // The agent of that network lets others in.
        let in_north = fleet
            .agent_of(&north)
            .embedded()
            .emitting()
            .config(|config| config["clusters"][0]["network"] = NETWORK.into());
        let in_north = in_north.start().await?;
        said(&agent, &key, "").await?;
        let entry = |weight: u64| {
            json!({
                "address": GATEWAY,
                "labels": {"security.istio.io/tlsMode": "istio", "federator.io/cluster": name, "version": "v1"},
                "locality": name,
                "network": NETWORK,
                "ports": {"http": 15443},
                "weight": weight,
            })
        };
        let holds = async |expected: Value| {
            eventually(SOON, "the entry has the gateway", async || {
                let found = service_entry(east, &ns, &host).await?;
                let endpoints = found.data["spec"]["endpoints"].as_array().cloned().context("endpoints")?;
                let of_north = endpoints.into_iter().filter(|endpoint| endpoint["network"] == NETWORK);
                let of_north = Value::from(of_north.collect::<Vec<_>>());
                ensure!(of_north == expected, "{of_north}");
                Ok(())
            })
            .await
        };
        holds(json!([entry(3)])).await?;
        north.scale(&ns, "web", 5).await?;
        holds(json!([entry(5)])).await?;

        // A load balancer that is being set up anew is no reason to lose a network; a gateway that is gone is.
        balance(&north, &ns, &[]).await?;
        let kept = "has no address yet: no load balancer's, and no externalIPs; the last ones are used";
        let seen = |now: &Value| now["clusters"][name]["observed"]["leftOut"].to_string().contains(kept);
        agent.wait_until("the loss is said", seen).await?;
        holds(json!([entry(5)])).await?;
        let services: Api<Service> = Api::namespaced(north.client(), &ns);
        services.delete("eastwest", &Default::default()).await?;
        holds(json!([])).await?;
        said(&agent, &key, &format!("NoGateway: 5 endpoints of {name}")).await?;
        drop(in_north);
        Ok(())
    })
}

/// The gateways in the entry of the spare cluster's network, as addresses.
async fn leads_through(cluster: &Cluster, ns: &str, host: &str, expected: &[&str]) -> Result {
    eventually(SOON, &format!("the entry leads through {expected:?}"), async || {
        let found = service_entry(cluster, ns, host).await?;
        let endpoints = found.data["spec"]["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
        let through: Vec<_> = endpoints.iter().filter(|endpoint| endpoint["network"] == NETWORK).collect();
        let addresses: Vec<_> = through.iter().filter_map(|endpoint| endpoint["address"].as_str()).collect();
        ensure!(addresses == expected, "{through:?}");
        Ok(())
    })
    .await
}

#[test]
fn a_gateway_that_is_a_host_name_is_followed_to_its_addresses() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("named").await?;
        let (east, north) = (&fleet.spare().await?, fleet.spare().await?);
        ns.add_to(east).await?;
        ns.add_to(&north).await?;
        north.apply("", "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}").await?;
        north.apply(&ns, MESHED).await?;
        east.deploy(&ns, "web", 1, 80).await?;
        north.apply(&ns, ENTRANCE).await?;
        north.apply(&ns, &LOCAL.replace("*.local", "*.global")).await?;
        give(&north, &ns, vec![json!({"hostname": "lb.outside.example"})]).await?;
        let namer = east.namer(&[("lb.outside.example", GATEWAY), ("lb.outside.example", "127.0.0.9")]).await?;
        let mut there = north.membership();
        there["network"] = NETWORK.into();
        let (both, server) = (json!([east.membership(), there]), namer.address());
        let agent = fleet.agent_of(east).embedded().emitting().config(|config| {
            config["clusters"] = both;
            config["gateways"] = json!({"nameservers": [server]});
        });
        let agent = agent.start().await?;
        let (host, name) = (format!("web.{ns}.global"), north.name());
        let says = async |expected: &str| {
            let pointer = format!("/clusters/{name}/conditions/GatewayUnresolved");
            let holds = |now: &Value| now.pointer(&pointer).and_then(Value::as_str).unwrap_or_default() == expected;
            agent.wait_until(&format!("`{expected}` is said of the name"), holds).await
        };
        leads_through(east, &ns, &host, &[GATEWAY]).await?;
        says("lb.outside.example: no gateway can have the address 127.0.0.9").await?;

        namer.say(&[("lb.outside.example", "192.0.2.12"), ("lb.outside.example", "192.0.2.11")])?;
        leads_through(east, &ns, &host, &["192.0.2.11", "192.0.2.12"]).await?;
        says("").await?;

        namer.kill()?;
        let lost = |now: &Value| {
            let said = &now["clusters"][name]["conditions"]["GatewayUnresolved"];
            said.as_str().is_some_and(|said| said.ends_with("; the last addresses are used"))
        };
        agent.wait_until("the loss is said", lost).await?;
        leads_through(east, &ns, &host, &["192.0.2.11", "192.0.2.12"]).await?;
        said(&agent, &format!("{ns}/web"), "").await
    })
}

#[test]
fn a_sidecar_goes_through_a_gateway_and_a_gateway_through_none() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("through").await?;
        let (east, north) = (fleet.cluster("east"), fleet.spare().await?);
        ns.add_to(&north).await?;
        east.apply(&ns, MESHED).await?;
        // Nobody but this test's agent knows of a gateway there, so it does not matter to others what it lets through.
        east.apply(&ns, &LOCAL.replace("*.local", "*.global")).await?;
        north.deploy(&ns, "web", 1, 80).await?;
        let mut there = east.membership();
        there["network"] = NETWORK.into();
        there["gateways"] = json!([GATEWAY]);
        there["trustDomain"] = json!("east.example");
        let both = json!([north.membership(), there]);
        let agent =
            fleet.agent_of(&north).embedded().emitting().config(|config| config["clusters"] = both).start().await?;
        said(&agent, &format!("{ns}/web"), "").await?;

        let istiod = north.istiod_with("{trustDomain: home.example}").await?;
        let local = north.endpoints(&ns, "web").await?.pop().context("a pod")?;
        let zone = local.zone.context("a zone")?;
        let (host, here) = (format!("web.{ns}.global"), format!("{}/{zone}", north.name()));
        let cluster = format!("outbound|80||{host}");
        let (near, far) = (format!("P0 {here} {}:80 x1", local.address), format!("P1 east {GATEWAY}:15443 x3 istio"));
        let address = [10, 40, 1, 250];
        let sidecar = XdsNode::sidecar(&ns, address).network("n1").locality(&here);
        let mut proxy = istiod.proxy(&sidecar).await?;
        proxy.sees(&cluster, &format!("{near}\n{far}")).await?;
        // Of those who take mutual TLS all identities are known: nobody else may answer.
        let identity = format!("spiffe://east.example/ns/{ns}/sa/default");
        let tls = format!("tlsMode=istio: outbound_.80_._.{host} to {identity}\nelse: plain");
        let told = format!("{tls}\noutlier detection\nlocalities by weight");
        proxy.is_told(&cluster, &told).await?;
        let gate = XdsNode::router(&ns, address).network("n1").view("n1").locality(&here);
        istiod.proxy(&gate).await?.sees(&cluster, &near).await?;
        istiod.admits(&service_entry(&north, &ns, &host).await?).await?;

        // With the last pod here gone, there is still a way, and for a gateway still none.
        north.scale(&ns, "web", 0).await?;
        istiod.proxy(&sidecar).await?.sees(&cluster, &far.replace("P1", "P0")).await?;
        istiod.proxy(&gate).await?.sees(&cluster, "").await
    })
}
