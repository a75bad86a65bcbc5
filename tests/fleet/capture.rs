//! What a client without any knowledge of a mesh does: it looks a name up, connects to the virtual address that it is
//! told, and reaches pods of every cluster, because its connections are redirected to its sidecar.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, ensure};
use harness::{Backend, Cluster, Fleet, Question, RecordType, Result, SOON, XdsNode, eventually};
use serde_json::json;

use crate::federation::pods;

/// Virtual addresses are in here, unless somebody says otherwise.
const RANGE: &str = "240.64.0.0/12";

/// Two services of the same pods on the same port: one is told by its name, too, the other by its address alone.
const SERVICES: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: raw}
spec: {selector: {app: web}, ports: [{name: tcp, port: 80, targetPort: 9090}]}
";

/// Nothing that comes in is encrypted, so that a sidecar needs no certificate.
const PLAIN: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: DISABLE}}
";

/// So many answers are no chance where two could have come.
const IN_A_ROW: usize = 40;

/// Waits until these, and nobody else, answer.
async fn served_by(question: &Question, backends: &BTreeMap<String, Backend>) -> Result {
    eventually(SOON, "all of these answer, and nobody else", async || {
        let tally = question.tally(IN_A_ROW).await?;
        ensure!(tally.keys().eq(backends.keys()), "{tally:?}, and there are {:?}", backends.keys());
        Ok(())
    })
    .await
}

#[test]
fn a_client_that_knows_a_name_reaches_pods_of_every_cluster() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("capture").await?;
        let (east, north) = (fleet.cluster("east"), &fleet.spare().await?);
        ns.add_to(north).await?;
        north.apply(&ns, PLAIN).await?;
        for cluster in [east, north] {
            cluster.deploy(&ns, "web", 2, 8080).await?;
            cluster.apply(&ns, SERVICES).await?;
        }
        let members = [east, north].map(Cluster::membership);
        let agent = fleet.agent_of(north).embedded().emitting().config(|config| config["clusters"] = json!(members));
        let agent = agent.start().await?;
        let _istiod = north.istiod().await?;
        // The last address of its cluster that a pod may have is the client's.
        let client = north.pod_addresses().pop_last().context("pods")?;
        let node = XdsNode::sidecar(&ns, client).network("n1").locality(north.name()).redirected();
        let envoy = north.envoy(&node).await?;
        north.redirect(client, RANGE)?;

        let mut addresses: Vec<IpAddr> = Vec::new();
        for (service, target) in [("web", 8080), ("raw", 9090)] {
            let host = format!("{service}.{ns}.global");
            let address = eventually(SOON, &format!("{host} has an address"), async || {
                let reply = agent.vip_dns().udp(&host, RecordType::A).await?;
                reply.addresses().first().copied().with_context(|| reply.to_string())
            })
            .await?;
            ensure!(!addresses.contains(&address), "{address} is of two services");
            addresses.push(address);
            let [mut there, mut here] = [BTreeMap::new(), BTreeMap::new()];
            for (cluster, backends) in [(east, &mut there), (north, &mut here)] {
                for pod in pods(cluster, &ns, "web").await? {
                    let on = SocketAddr::new(pod, target);
                    backends.insert(on.to_string(), cluster.place().serve(on)?);
                }
            }
            ensure!(there.len() == 2 && here.len() == 2, "{there:?} {here:?}");
            // A service without HTTP is asked for a name that nobody has.
            let name = if service == "web" { &*host } else { "nobody.example" };
            let question = north.place().question(name, SocketAddr::new(address, 80)).by(client);
            served_by(&question, &here).await?;
            // Without those that are near.
            here.clear();
            served_by(&question, &there).await?;
        }
        assert_eq!(envoy.refusals().await?, 0);
        Ok(())
    })
}
