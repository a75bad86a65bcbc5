//! unbound, which validates by the keys of the real root and takes no private addresses from just anybody, with what the
//! manual adds.

use harness::{Process, RecordType, ResponseCode, Result, SOON, eventually};

use anyhow::ensure;

use crate::bed::{Bed, PAYMENTS, serves_the_zone, serves_without_one};
use crate::manual;

/// What an administrator has already. There is no network, so what needs the root's keys cannot be validated.
const BEFORE: &str = r#"
server:
    interface: 192.0.2.53
    access-control: 0.0.0.0/0 allow
    chroot: ""
    directory: ""
    username: ""
    pidfile: ""
    do-daemonize: no
    use-syslog: no
    private-address: 10.0.0.0/8
    trust-anchor: ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"
remote-control:
    control-enable: no
"#;

fn unbound(bed: &Bed, stanza: &str) -> Result<Process> {
    let config = bed.write("unbound.conf", &format!("{BEFORE}{stanza}"))?;
    let process =
        bed.process("unbound", bed.parts().bin("unbound")?, ["-d".as_ref(), "-c".as_ref(), config.as_os_str()]);
    process.start()?;
    Ok(process)
}

#[tokio::test(flavor = "multi_thread")]
async fn unbound_asks_agents_for_the_zone() -> Result {
    let bed = Bed::new("unbound")?;
    let agents = bed.agents().await?;
    let stanza = &manual::stanzas("unbound")[0];
    // As it is, and with agents as forwarders, which some prefer.
    for stanza in [&stanza.replace("stub-", "forward-"), stanza] {
        let server = unbound(&bed, stanza)?;
        bed.answers(bed.resolver(), &server).await?;
        serves_the_zone(bed.resolver()).await?;
    }
    let _server = unbound(&bed, stanza)?;
    agents[0].kill()?;
    serves_without_one(bed.resolver()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn unbound_needs_each_line() -> Result {
    let bed = Bed::new("unbound-less")?;
    let _agents = bed.agents().await?;
    let stanza = &manual::stanzas("unbound")[0];
    for (line, code) in [("domain-insecure", ResponseCode::ServFail), ("private-domain", ResponseCode::NoError)] {
        let without: String =
            stanza.lines().filter(|text| !text.contains(line)).map(|text| format!("{text}\n")).collect();
        ensure!(without != *stanza, "no {line} in {stanza}");
        let _server = unbound(&bed, &without)?;
        eventually(SOON, &format!("there is no answer without {line}"), async || {
            let reply = bed.resolver().udp(PAYMENTS, RecordType::A).await?;
            ensure!(reply.code == code && reply.answers.is_empty(), "{reply}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
