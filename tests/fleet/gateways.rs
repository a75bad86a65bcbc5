//! Networks that are reached through gateways: found as they come and go, used for what they let through and for what
//! takes mutual TLS, and written for others to come in.

use anyhow::{Context as _, ensure};
use harness::{Agent, Cluster, Fleet, Result, SOON, XdsNode, eventually};
use k8s_openapi::api::core::v1::{Node, NodeAddress, Service};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::federation::{pods, service_entry};

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
        says("lb.outside.example: no endpoint can have the address 127.0.0.9").await?;

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

/// A second gateway beside [`ENTRANCE`], and the pods of both.
const PAIR: &str = "\
apiVersion: v1
kind: Service
metadata: {name: second, labels: {topology.istio.io/network: n9}}
spec: {type: LoadBalancer, externalIPs: [192.0.2.10], selector: {istio: second}, ports: [{name: tls, port: 15443}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: eastwest}
spec:
  replicas: 1
  selector: {matchLabels: {istio: eastwestgateway}}
  template:
    metadata: {labels: {istio: eastwestgateway}}
    spec: {containers: [{name: main, image: none}]}
";

/// The first gateway as a NodePort, on the nodes that are meant.
const ON_NODES: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: eastwest
  labels: {topology.istio.io/network: n9}
  annotations: {traffic.istio.io/nodeSelector: '{\"entrance\": \"yes\"}'}
spec: {type: NodePort, selector: {istio: eastwestgateway}, ports: [{name: tls, port: 15443, nodePort: 31443}]}
";

/// The ways to what the other cluster has of a service, as the entry has them.
async fn leads(cluster: &Cluster, ns: &str, other: &str, expected: &[&str]) -> Result {
    let host = format!("web.{ns}.global");
    eventually(SOON, &format!("the entry leads to {expected:?}"), async || {
        let found = service_entry(cluster, ns, &host).await?;
        let endpoints = found.data["spec"]["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of_other = endpoints.iter().filter(|endpoint| endpoint["labels"]["federator.io/cluster"] == other);
        let way = |endpoint: &Value| {
            let text = |field: &str| endpoint[field].as_str().unwrap_or_default().to_owned();
            format!("{}:{} on {}", text("address"), endpoint["ports"]["http"], text("network"))
        };
        let ways: Vec<_> = of_other.map(way).collect();
        ensure!(ways == expected, "{ways:?}");
        Ok(())
    })
    .await
}

/// Replaces the status of a node's addresses by one that is reached from outside.
async fn show(cluster: &Cluster, node: &str, address: &str) -> Result {
    let nodes: Api<Node> = Api::all(cluster.client());
    let labels = json!({"metadata": {"labels": {"entrance": "yes"}}});
    nodes.patch(node, &PatchParams::default(), &Patch::Merge(labels)).await?;
    let mut addresses = nodes.get(node).await?.status.and_then(|status| status.addresses).unwrap_or_default();
    addresses.push(NodeAddress { address: address.to_owned(), type_: "ExternalIP".to_owned() });
    let status = json!({"status": {"addresses": addresses}});
    nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

#[test]
fn ways_in_are_those_that_are_ready_on_nodes_that_are_meant_and_by_mode() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("ways").await?;
        let (east, north) = (&fleet.spare().await?, fleet.spare().await?);
        ns.add_to(east).await?;
        ns.add_to(&north).await?;
        north.apply("", "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}").await?;
        for manifests in [MESHED, ENTRANCE, PAIR, &LOCAL.replace("*.local", "*.global")] {
            north.apply(&ns, manifests).await?;
        }
        balance(&north, &ns, &[GATEWAY]).await?;
        north.scale(&ns, "web", 1).await?;
        east.deploy(&ns, "web", 1, 80).await?;
        let name = north.name();
        let both = |network: &str| {
            let mut there = north.membership();
            there["network"] = network.into();
            json!([east.membership(), there])
        };
        let agent = fleet.agent_of(east).embedded().emitting();
        let agent = agent.config(|config| config["clusters"] = both(NETWORK)).start().await?;
        let first = format!("{GATEWAY}:15443 on n9");
        leads(east, &ns, name, &[&first]).await?;
        let unready = |now: &Value| now["clusters"][name]["conditions"]["GatewayNotReady"].is_string();
        agent.wait_until("one is ready", |now| !unready(now)).await?;
        north.scale(&ns, "eastwest", 0).await?;
        leads(east, &ns, name, &[&first, "192.0.2.10:15443 on n9"]).await?;
        agent.wait_until("none is ready", unready).await?;
        north.scale(&ns, "eastwest", 1).await?;
        leads(east, &ns, name, &[&first]).await?;

        // What nodes are reached by from outside, of those that are meant.
        north.apply(&ns, ON_NODES).await?;
        let services: Api<Service> = Api::namespaced(north.client(), &ns);
        services.delete("second", &Default::default()).await?;
        let seen = |now: &Value| {
            let said = now["clusters"][name]["observed"]["leftOut"].to_string();
            said.contains("no node that it selects has an ExternalIP; the last ones are used")
        };
        agent.wait_until("no node is meant", seen).await?;
        leads(east, &ns, name, &[&first]).await?;
        let nodes = Api::<Node>::all(north.client()).list(&Default::default()).await?.items;
        let node = nodes.first().context("a node")?.name_any();
        show(&north, &node, "192.0.2.31").await?;
        leads(east, &ns, name, &["192.0.2.31:31443 on n9"]).await?;
        agent.terminate().await?;

        // On one network a gateway is not needed, and may be wanted; on two it may not be wanted.
        let pods = pods(&north, &ns, "web").await?;
        let pod = pods.first().context("a pod")?;
        for (mode, network, expected) in [
            ("auto", east.network(), format!("{pod}:8080 on {}", east.network())),
            ("gateway", east.network(), format!("192.0.2.31:31443 on {name}.{}", east.network())),
            ("workload", NETWORK, format!("{pod}:8080 on {}", east.network())),
        ] {
            let on_nodes = ON_NODES.replace("network: n9", &format!("network: {network}"));
            north.apply(&ns, &on_nodes).await?;
            let agent = fleet.agent_of(east).embedded().emitting().config(|config| {
                config["clusters"] = both(network);
                config["gateways"] = json!({"mode": mode});
            });
            let agent = agent.start().await?;
            leads(east, &ns, name, &[&expected]).await.context(mode)?;
            said(&agent, &format!("{ns}/web"), "").await?;
            agent.terminate().await?;
        }
        Ok(())
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
