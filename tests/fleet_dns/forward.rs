//! Names of others: an agent that is told to asks the servers of the world for them, who are CoreDNS here.

use anyhow::ensure;
use harness::{RecordType, ResponseCode, Result, SOON, eventually};

use crate::bed::{AGENTS, Bed, PAYMENTS, PAYMENTS_ADDRESSES, resolves};

/// The world has `global` too.
const WORLD: &str = "\
.:53 {
    bind 192.0.2.53
    errors
    file world.zone .
}
";
const ZONE: &str = "\
. 30 IN SOA ns. hostmaster. 1 3600 600 86400 30
. 30 IN NS ns.
www.example.com. 30 IN A 198.51.100.7
alias.example.com. 30 IN CNAME www.example.com.
www.other.global. 30 IN A 198.51.100.8
";

#[tokio::test(flavor = "multi_thread")]
async fn names_of_others_are_asked_of_others() -> Result {
    let bed = Bed::new("forward")?;
    let zone: String = (0..100).map(|last| format!("many.example.com. 30 IN A 198.51.100.{last}\n")).collect();
    let zone = bed.write("world.zone", &format!("{ZONE}{zone}"))?;
    let corefile = WORLD.replace("world.zone", &zone.display().to_string());
    let corefile = bed.write("Corefile", &corefile)?;
    let world = bed.process("coredns", bed.parts().bin("coredns")?, ["-conf".as_ref(), corefile.as_os_str()]);
    world.start()?;
    let forward = "dns.forward=['192.0.2.53:53']";
    let _agent = bed.agent(AGENTS[0], &[forward]).await?;
    let agent = bed.agent_dns(AGENTS[0]);
    eventually(SOON, "the world answers", async || resolves(agent, "www.example.com", &["198.51.100.7"]).await).await?;

    let reply = agent.udp("alias.example.com", RecordType::A).await?;
    ensure!(reply.answers.len() == 2 && !reply.authoritative, "{reply}");
    let reply = agent.udp("nobody.example.com", RecordType::A).await?;
    ensure!(reply.code == ResponseCode::NXDomain, "{reply}");
    let reply = agent.udp("www.example.com", RecordType::AAAA).await?;
    ensure!(reply.code == ResponseCode::NoError && reply.answers.is_empty(), "{reply}");
    let reply = agent.udp("many.example.com", RecordType::A).await?;
    ensure!(reply.truncated && reply.answers.is_empty(), "{reply}");
    let reply = agent.tcp("many.example.com", RecordType::A).await?;
    ensure!(reply.addresses().len() == 100, "{reply}");
    // What is in the zone is the fleet's, and what is not there does not exist, unless the world is to be asked.
    resolves(agent, PAYMENTS, &PAYMENTS_ADDRESSES).await?;
    let reply = agent.udp("www.other.global", RecordType::A).await?;
    ensure!(reply.code == ResponseCode::NXDomain && reply.authoritative, "{reply}");
    let _other = bed.agent(AGENTS[1], &[forward, "dns.unknown=forward"]).await?;
    let other = bed.agent_dns(AGENTS[1]);
    resolves(other, "www.other.global", &["198.51.100.8"]).await?;
    resolves(other, PAYMENTS, &PAYMENTS_ADDRESSES).await?;

    world.kill()?;
    resolves(agent, PAYMENTS, &PAYMENTS_ADDRESSES).await?;
    let reply = agent.udp("unheard.example.com", RecordType::A).await?;
    ensure!(reply.code == ResponseCode::ServFail, "{reply}");
    Ok(())
}
