//! systemd-resolved, told to validate, with the files of the manual: it sees a directory `/etc` of its own, in which the
//! only user of the sandbox is the one that it wants to be.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::ensure;
use harness::{Process, RecordType, Resolver, ResponseCode, Result, SOON, eventually};

use crate::bed::{Bed, PAYMENTS, serves_the_zone, serves_without_one};
use crate::manual;

/// What an administrator has already.
const BEFORE: &str = "[Resolve]\nDNSSEC=yes\nLLMNR=no\nMulticastDNS=no\nFallbackDNS=\n";

/// Started by `ip netns exec`, so the mounts are its own.
const START: &str = "mkdir -p /run/systemd/resolve && mount --bind \"$1\" /etc && exec \"$2\"";

/// Its stub listener.
fn stub(bed: &Bed) -> Resolver {
    bed.place().resolver((Ipv4Addr::new(127, 0, 0, 53), 53).into())
}

fn resolved(bed: &Bed, anchor: bool) -> Result<Process> {
    let etc = bed.path("etc");
    for directory in ["systemd/resolved.conf.d", "dnssec-trust-anchors.d"] {
        fs::create_dir_all(etc.join(directory))?;
    }
    let [settings, negative] = &manual::stanzas("systemd-resolved")[..] else { panic!("two files") };
    bed.write("etc/passwd", "root:x:0:0::/:/bin/sh\nsystemd-resolve:x:0:0::/:/bin/false\n")?;
    bed.write("etc/systemd/resolved.conf", BEFORE)?;
    bed.write("etc/systemd/resolved.conf.d/global.conf", settings)?;
    bed.write("etc/dnssec-trust-anchors.d/global.negative", if anchor { negative } else { "" })?;
    let program = bed.parts().bin("systemd-resolved")?;
    let arguments = ["-c".as_ref(), START.as_ref(), "resolved".as_ref(), etc.as_os_str(), program.as_os_str()];
    let process = bed.process("systemd-resolved", PathBuf::from("sh"), arguments);
    process.start()?;
    Ok(process)
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_resolved_asks_agents_for_the_zone() -> Result {
    let bed = Bed::new("resolved")?;
    let agents = bed.agents().await?;
    let server = resolved(&bed, true)?;
    bed.answers(stub(&bed), &server).await?;
    serves_the_zone(stub(&bed)).await?;
    agents[0].kill()?;
    serves_without_one(stub(&bed)).await?;
    drop(server);

    agents[0].start()?;
    let _server = resolved(&bed, false)?;
    eventually(SOON, "it does not believe the zone without the anchor", async || {
        let reply = stub(&bed).udp(PAYMENTS, RecordType::A).await?;
        ensure!(reply.code == ResponseCode::ServFail, "{reply}");
        Ok(())
    })
    .await
}
