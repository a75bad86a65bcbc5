//! The stub domains for kube-dns, by the dnsmasq that its pod asks them through: with the arguments that its manifest has, and
//! behind them those that dnsmasq-nanny makes of the ConfigMap.

use std::collections::BTreeMap;

use anyhow::Context as _;
use harness::{Process, Result};
use serde_json::Value;

use crate::bed::{AGENTS, Bed, serves_the_zone, serves_without_one};
use crate::manual;

/// What dnsmasq has in the pod.
const IN_THE_POD: &str = "-k --cache-size=1000 --no-negcache --dns-loop-detect --log-facility=- \
                          --server=/cluster.local/127.0.0.1#10053 --server=/in-addr.arpa/127.0.0.1#10053 \
                          --server=/ip6.arpa/127.0.0.1#10053";

/// What it needs here.
const HERE: &str = "--conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file=";

/// `192.0.2.11:5353` for a domain becomes `--server=/domain/192.0.2.11#5353`.
fn stub_domains() -> Result<Vec<String>> {
    let config: Value = serde_saphyr::from_str(&manual::stanzas("kube-dns")[0])?;
    let stub_domains = config["data"]["stubDomains"].as_str().context("no stub domains")?;
    let stub_domains: BTreeMap<String, Vec<String>> = serde_json::from_str(stub_domains)?;
    let servers = |(domain, servers): (String, Vec<String>)| {
        let server = move |server: String| format!("--server=/{domain}/{}", server.replace(':', "#"));
        servers.into_iter().map(server)
    };
    Ok(stub_domains.into_iter().flat_map(servers).collect())
}

fn dnsmasq(bed: &Bed, more: &[&str]) -> Result<Process> {
    let arguments = IN_THE_POD.split_whitespace().chain(HERE.split_whitespace()).chain(more.iter().copied());
    let arguments = arguments.map(str::to_owned).chain(stub_domains()?);
    let process = bed.process("dnsmasq", bed.parts().bin("dnsmasq")?, arguments);
    process.start()?;
    Ok(process)
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_dns_asks_agents_for_the_zone() -> Result {
    let bed = Bed::new("kube-dns")?;
    let agents = bed.agents().await?;
    let server = dnsmasq(&bed, &[])?;
    bed.answers(bed.resolver(), &server).await?;
    serves_the_zone(bed.resolver()).await?;
    drop(server);

    // Without it nothing is known of names for which the one agent is asked that is gone.
    let server = dnsmasq(&bed, &["--all-servers"])?;
    bed.answers(bed.resolver(), &server).await?;
    for (agent, address) in agents.iter().zip(AGENTS) {
        agent.kill()?;
        serves_without_one(bed.resolver()).await?;
        agent.start()?;
        bed.answers(bed.agent_dns(address), agent).await?;
    }
    Ok(())
}
