//! The records of the multicluster DNS specification, by its numbers, as the manual says what becomes of them: in the zone
//! as it is called by default, and as the specification calls it.

use anyhow::{Context as _, ensure};
use harness::{RecordType, Result, SOON, eventually};

use crate::bed::{AGENTS, Bed, service};
use crate::manual;

#[tokio::test(flavor = "multi_thread")]
async fn the_records_of_the_specification_are_as_the_manual_says() -> Result {
    let bed = Bed::new("mcs")?;
    let idle = service("idle", "clusterIP: None, ", &["10.1.2.1".to_owned()]);
    bed.write("east/idle.yaml", &idle.replace("hostname:", "conditions: {ready: false}, hostname:"))?;
    bed.write("east/bare.yaml", &service("bare", "", &["10.1.3.1".to_owned()]).replace("{name: http, port", "{port"))?;
    let _global = bed.agent(AGENTS[0], &[]).await?;
    let clusterset = bed.launch(AGENTS[1], 5353, &["zone=clusterset.local"])?;
    for row in manual::rows("The multicluster DNS specification") {
        let [number, name, kind, answer, ..] = &row[..] else { panic!("{row:?}") };
        let kind: RecordType = kind.parse()?;
        for (address, zone) in AGENTS.into_iter().zip(["global", "clusterset.local"]) {
            let name = name.replace("ZONE", zone);
            eventually(SOON, &format!("record {number}, {name} {kind}, is {answer}"), async || {
                let reply = bed.agent_dns(address).tcp(&name, kind).await?;
                ensure!(format!("{:?} {}", reply.code, reply.answers.len()) == *answer, "{reply}");
                Ok(())
            })
            .await
            .with_context(|| clusterset.logs())?;
        }
    }
    Ok(())
}
