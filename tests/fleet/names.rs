//! The names that a service has in DNS beside its own, and whose endpoints they answer, through a cluster's own CoreDNS and
//! from an agent itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::ensure;
use harness::{Agent, Cluster, Fleet, RecordType, ResponseCode, Result, SOON, eventually};
use hickory_proto::rr::Name;
use serde_json::json;

use crate::federation::{answers, pods};

/// Waits until the agent itself answers exactly these addresses, or that the name is nobody's.
async fn says(agent: &Agent, name: &str, expected: Option<&BTreeSet<IpAddr>>) -> Result {
    eventually(SOON, &format!("{name} is {expected:?}"), async || {
        let reply = agent.dig(name, RecordType::A).await?;
        let code = if expected.is_some() { ResponseCode::NoError } else { ResponseCode::Refused };
        ensure!(reply.code == code && Some(&reply.addresses()).filter(|_| expected.is_some()) == expected, "{reply}");
        Ok(())
    })
    .await
}

#[test]
fn every_name_of_a_service_leads_to_its_part_of_it() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("names").await?;
        let (here, east) = (&fleet.spare().await?, fleet.cluster("east"));
        ns.add_to(here).await?;
        here.deploy(&ns, "web", 2, 8080).await?;
        east.deploy(&ns, "web", 3, 8080).await?;
        let members = json!([here.membership(), east.membership()]);
        let agent = fleet.agent_of(here).embedded().config(|config| {
            config["clusters"] = members;
            config["dns"]["minAnswers"] = 2.into();
            config["dns"]["maxAnswers"] = 32.into();
            config["import"]["aliases"] = json!({"allow": [{"suffix": "example.com"}]});
        });
        let agent = agent.start().await?;
        let (near, far) = (pods(here, &ns, "web").await?, pods(east, &ns, "web").await?);
        for name in ["web.NS.global", "web.NS.svc.global", "HERE.web.NS.global"] {
            answers(here, &name.replace("NS", &ns).replace("HERE", here.name()), &near).await?;
        }
        answers(here, &format!("east.web.{ns}.global"), &far).await?;
        answers(here, &format!("east.web.{ns}.svc.global"), &far).await?;
        says(&agent, &format!("web.{ns}.svc.cluster.east"), Some(&far)).await?;
        says(&agent, &format!("web.{ns}.svc.cluster.{}", here.name()), Some(&near)).await?;
        says(&agent, &format!("web.{ns}.svc.cluster.west"), None).await?;

        // An alias is a zone of its own, for as long as somebody asks for it.
        says(&agent, "shop.example.com", None).await?;
        let annotate_in = |cluster: &Cluster, annotation: &str| -> Result {
            let service = ["annotate", "service", "web", "--namespace", &*ns];
            cluster.kubectl(service.into_iter().chain([annotation]))?.done().map(|_| ())
        };
        let annotate = |alias: &str| annotate_in(east, alias);
        annotate("federator.io/aliases=shop.example.com")?;
        says(&agent, "shop.example.com", Some(&near)).await?;
        says(&agent, "east.shop.example.com", Some(&far)).await?;
        let soa = agent.dig("shop.example.com", RecordType::SOA).await?;
        ensure!(soa.authoritative && soa.answers.len() == 1, "{soa}");
        annotate("federator.io/aliases-")?;
        says(&agent, "shop.example.com", None).await?;

        // A service may say how it is answered, and its virtual address leads back to it.
        let own = format!("web.{ns}.global");
        let vips = agent.vip_dns().udp(&own, RecordType::A).await?.addresses();
        for cluster in [here, east] {
            annotate_in(cluster, "federator.io/dns-mode=vip")?;
            annotate_in(cluster, "federator.io/dns-ttl=30")?;
        }
        says(&agent, &own, Some(&vips)).await?;
        eventually(SOON, "it may be kept for 30 s", async || {
            let reply = agent.dig(&own, RecordType::A).await?;
            ensure!(reply.answers.iter().all(|answer| answer.ttl == 30), "{reply}");
            Ok(())
        })
        .await?;
        for vip in vips {
            let reply = agent.dig(&Name::from(vip).to_string(), RecordType::PTR).await?;
            let leads_back = reply.answers.iter().map(|answer| &*answer.data).eq([format!("{own}.")]);
            ensure!(reply.authoritative && leads_back, "{reply}");
        }
        for cluster in [here, east] {
            annotate_in(cluster, "federator.io/dns-mode-")?;
        }
        says(&agent, &own, Some(&near)).await?;

        // Where there are not enough here, others help out.
        here.scale(&ns, "web", 1).await?;
        let near = pods(here, &ns, "web").await?;
        answers(here, &format!("web.{ns}.global"), &near.union(&far).copied().collect()).await?;
        here.scale(&ns, "web", 0).await?;
        answers(here, &format!("web.{ns}.global"), &far).await
    })
}
