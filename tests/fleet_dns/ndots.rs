//! How many queries one lookup of glibc is, with the `resolv.conf` that Kubernetes gives to pods.

use anyhow::ensure;
use harness::{RecordType, Result, SOON, eventually};

use crate::bed::Bed;
use crate::manual;

/// What pods of the namespace `shop` have, but for `ndots`.
const SEARCH: &str = "nameserver 192.0.2.53\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_is_as_many_queries_as_the_manual_says() -> Result {
    let bed = Bed::new("ndots")?;
    let _agents = bed.agents().await?;
    let zone =
        bed.write("cluster.zone", "cluster.local. 5 IN SOA ns.cluster.local. root.cluster.local. 1 5 5 5 5\n")?;
    let global = manual::stanzas("CoreDNS")[0].replace("    errors\n", "    errors\n    log\n");
    let cluster = format!("cluster.local:53 {{\n    log\n    file {} cluster.local\n}}\n", zone.display());
    let corefile = bed.write("Corefile", &(global + &cluster))?;
    let server = bed.start("coredns", ["-conf".as_ref(), corefile.as_os_str()]).await?;

    for (number, row) in manual::rows("What a name costs").iter().enumerate() {
        let [name, options, database, queries, of_zone] = &row[..] else { panic!("{row:?}") };
        let marker = format!("marker-{number}.cluster.local.");
        let before = server.logs().lines().count();
        let resolv_conf = format!("{SEARCH}options {options}\n");
        let said = bed.with_resolv_conf(&resolv_conf, &["getent", database, name])?;
        ensure!(said.contains("10.1.0.1") && said.contains("10.1.0.2"), "{row:?}: {said}");
        bed.resolver().udp(&marker, RecordType::A).await?;
        eventually(SOON, &format!("{row:?} are the queries"), async || {
            let log = server.logs();
            let lines = log.lines().skip(before);
            let is_marked = lines.clone().any(|line| line.contains(&marker));
            // glibc asks without EDNS, and what else asks here with it.
            let asked: Vec<&str> =
                lines.filter(|line| line.contains(" IN ") && line.contains(" false 512\"")).collect();
            let zone = asked.iter().filter(|line| line.contains(" IN payments.shop.global. ")).count();
            ensure!(is_marked, "there are more to come");
            ensure!(asked.len().to_string() == *queries && zone.to_string() == *of_zone, "{asked:#?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
