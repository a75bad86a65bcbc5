//! What an east-west gateway, a stock Envoy under istiod, does with what comes from another network: it passes on what is
//! meant for a host of ours, whether or not its own cluster imports that, and closes everything else.
//!
//! A gateway reads the first message of a TLS handshake and no more, so a client here sends that alone, as a sidecar would
//! for the host, and behind it in plain what the pod is to answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use harness::{Backend, Fleet, Place, Result, SOON, XdsNode, eventually};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::federation::pods;
use crate::gateways::{ENTRANCE, MESHED, NETWORK, balance};

/// What sidecars speak to each other, by which a gateway knows them (ALPN).
const PROTOCOL: &str = "istio";

/// A client's first message (RFC 8446, section 4.1.2), for a name and with a protocol.
fn hello(name: &str, protocol: &str) -> Vec<u8> {
    let name = sized(2, &[&[0], &*sized(2, name.as_bytes())].concat());
    let protocol = sized(2, &sized(1, protocol.as_bytes()));
    let extensions = [
        &[0x00, 0x00],
        &*sized(2, &name),
        &[0x00, 0x10],
        &sized(2, &protocol),
        // Version 1.3.
        &[0x00, 0x2b, 0x00, 0x03, 0x02, 0x03, 0x04],
    ];
    // No session; one cipher; no compression.
    let rest: [&[u8]; 4] = [&[0x03, 0x03], &[7; 32], &[0, 0, 2, 0x13, 0x01, 1, 0], &sized(2, &extensions.concat())];
    let message = [&[0x01], &*sized(3, &rest.concat())].concat();
    [&[0x16, 0x03, 0x01], &*sized(2, &message)].concat()
}

/// Bytes with their number in front of them, in so many bytes.
fn sized(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    [&length[length.len() - width..], bytes].concat()
}

/// What comes back through a gateway from whoever a name leads to.
async fn through(from: Place, gateway: SocketAddr, name: &str) -> Result<String> {
    let mut stream = from.connect(gateway).await?;
    stream.write_all(&hello(name, PROTOCOL)).await?;
    stream.write_all(b"\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("it is closed")?;
    Ok(body.to_owned())
}

#[test]
fn a_gateway_serves_others_with_what_its_cluster_does_not_import() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("passage").await?;
        let (elsewhere, north) = (fleet.cluster("south").place(), fleet.spare().await?);
        ns.add_to(&north).await?;
        north.apply("", "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}").await?;
        for manifests in [MESHED, ENTRANCE] {
            north.apply(&ns, manifests).await?;
        }
        balance(&north, &ns, &[&north.place().address().to_string()]).await?;
        north.scale(&ns, "web", 3).await?;
        let pods = pods(&north, &ns, "web").await?.into_iter();
        let serve = |pod| north.place().serve(SocketAddr::new(pod, 8080));
        let backends: Vec<Backend> = pods.map(serve).collect::<Result<_>>()?;
        let agent = fleet.agent_of(&north).embedded().emitting().config(|config| {
            config["clusters"][0]["network"] = NETWORK.into();
            config["import"] =
                json!({"namespaces": {"deny": [&*ns]}, "aliases": {"allow": [{"suffix": "example.com"}]}});
        });
        let agent = agent.start().await?;

        let _istiod = north.istiod().await?;
        let node = XdsNode::router(&ns, north.place().address()).network(NETWORK).view(NETWORK);
        let envoy = north.envoy(&node.label("istio", "eastwestgateway")).await?;
        let gateway = north.place().port(15443);
        let name = format!("outbound_.80_._.web.{ns}.global");
        let mut unseen: BTreeSet<String> = backends.iter().map(|backend| backend.address().to_string()).collect();
        eventually(SOON, "every pod has answered", async || {
            unseen.remove(&through(elsewhere, gateway, &name).await?);
            ensure!(unseen.is_empty(), "{unseen:?} have not");
            Ok(())
        })
        .await?;
        // Neither a name that nobody lets in, nor one that nobody has.
        for other in [format!("outbound_.80_._.web.{ns}.svc.cluster.local"), name.replace("web", "none")] {
            let answered = through(elsewhere, gateway, &other).await;
            ensure!(answered.is_err(), "{other}: {answered:?}");
        }

        // Once it is imported, by its other hosts too.
        agent.reconfigure(|config| config["import"]["namespaces"] = json!({}))?;
        let hosts = [format!("web.{ns}.svc.cluster.{}", north.name()), "shop.example.com".to_owned()];
        let asks = format!("federator.io/aliases={}", hosts[1]);
        north
            .kubectl(["annotate", "service", "web", "--namespace", &*ns, "federator.io/cluster-host=true", &asks])?
            .done()?;
        for host in hosts {
            let name = format!("outbound_.80_._.{host}");
            eventually(SOON, &format!("{host} is let through"), async || {
                let pod = through(elsewhere, gateway, &name).await?;
                ensure!(backends.iter().any(|backend| backend.address().to_string() == pod), "{pod}");
                Ok(())
            })
            .await?;
        }
        assert_eq!(envoy.refusals().await?, 0);
        Ok(())
    })
}
