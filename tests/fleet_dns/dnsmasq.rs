//! dnsmasq, which validates by the keys of the real root and takes no private addresses from upstream, with what the manual
//! adds.

use anyhow::ensure;
use harness::{Process, RecordType, ResponseCode, Result, SOON, eventually};

use crate::bed::{AGENTS, Bed, PAYMENTS, serves_the_zone, serves_without_one};
use crate::manual;

/// What an administrator has already.
const BEFORE: &str = "\
no-daemon
no-resolv
no-hosts
bind-interfaces
listen-address=192.0.2.53
user=root
pid-file=
log-facility=-
stop-dns-rebind
dnssec
dnssec-check-unsigned
trust-anchor=.,20326,8,2,E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
";

fn dnsmasq(bed: &Bed, stanza: &str) -> Result<Process> {
    let config = bed.write("dnsmasq.conf", &format!("{BEFORE}{stanza}"))?;
    let process = bed.process("dnsmasq", bed.parts().bin("dnsmasq")?, ["-C".as_ref(), config.as_os_str()]);
    process.start()?;
    Ok(process)
}

#[tokio::test(flavor = "multi_thread")]
async fn dnsmasq_asks_agents_for_the_zone() -> Result {
    let bed = Bed::new("dnsmasq")?;
    let agents = bed.agents().await?;
    let stanza = &manual::stanzas("dnsmasq")[0];
    let server = dnsmasq(&bed, stanza)?;
    bed.answers(bed.resolver(), &server).await?;
    serves_the_zone(bed.resolver()).await?;
    for (agent, address) in agents.iter().zip(AGENTS) {
        agent.kill()?;
        serves_without_one(bed.resolver()).await?;
        agent.start()?;
        bed.answers(bed.agent_dns(address), agent).await?;
    }
    drop(server);

    let without = stanza.replace("rebind-domain-ok=/global/\n", "");
    ensure!(without != *stanza, "{stanza}");
    let _server = dnsmasq(&bed, &without)?;
    eventually(SOON, "private addresses are taken for an attack", async || {
        let reply = bed.resolver().udp(PAYMENTS, RecordType::A).await?;
        ensure!(reply.code == ResponseCode::NoError && reply.answers.is_empty(), "{reply}");
        Ok(())
    })
    .await
}
