//! The block for NodeLocal DNSCache, by the CoreDNS that it is made of.

use harness::Result;

use crate::bed::{Bed, serves_the_zone, serves_without_one};
use crate::manual;

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_on_the_node_forwards_the_zone() -> Result {
    let bed = Bed::new("nodelocal")?;
    let agents = bed.agents().await?;
    let corefile = bed.write("Corefile", &manual::stanzas("NodeLocal DNSCache")[0])?;
    let _server = bed.start("coredns", ["-conf".as_ref(), corefile.as_os_str()]).await?;
    serves_the_zone(bed.resolver()).await?;
    agents[0].kill()?;
    serves_without_one(bed.resolver()).await
}
