//! The block for NodeLocal DNSCache, by the CoreDNS that it is made of, and the same with the line for older ones.

use anyhow::ensure;
use harness::Result;

use crate::bed::{AGENTS, Bed, serves_the_zone, serves_without_one};
use crate::manual;

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_on_the_node_forwards_the_zone() -> Result {
    let bed = Bed::new("nodelocal")?;
    let agents = bed.agents().await?;
    let [block, older] = &manual::stanzas("NodeLocal DNSCache")[..] else { panic!("a block, and a line of another") };
    let with_older: String = block
        .split_inclusive('\n')
        .map(|line| if line.trim_start().starts_with("serve_stale ") { older.as_str() } else { line })
        .collect();
    ensure!(with_older != *block, "{block}");
    for block in [&with_older, block] {
        let corefile = bed.write("Corefile", block)?;
        let _server = bed.start("coredns", ["-conf".as_ref(), corefile.as_os_str()]).await?;
        serves_the_zone(bed.resolver()).await?;
        agents[0].kill()?;
        serves_without_one(bed.resolver()).await?;
        agents[0].start()?;
        bed.answers(bed.agent_dns(AGENTS[0]), &agents[0]).await?;
    }
    Ok(())
}
