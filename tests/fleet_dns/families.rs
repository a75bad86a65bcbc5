//! Several listeners, of both families: each is asked over UDP and over TCP, at the addresses that it has.

use anyhow::ensure;
use harness::{Result, SOON, eventually};

use crate::bed::{AGENTS, Bed, PAYMENTS, PAYMENTS_ADDRESSES};

/// One of each family; and one that has all addresses of both.
const LISTENERS: &str = "dns.listeners=[{address: '192.0.2.11:5353'}, {address: '[::1]:5353'}]";
const WILDCARD: &str = "dns.listeners=[{address: '[::]:5454'}]";

#[tokio::test(flavor = "multi_thread")]
async fn listeners_of_both_families_answer() -> Result {
    let bed = Bed::new("families")?;
    let _agent = bed.agent(AGENTS[0], &[LISTENERS]).await?;
    for server in ["192.0.2.11", "::1"] {
        answers(&bed, server, "5353")?;
    }
    let _other = bed.launch(AGENTS[1], 5353, &[WILDCARD])?;
    eventually(SOON, "a wildcard listener answers", async || answers(&bed, "127.0.0.1", "5454")).await?;
    answers(&bed, "::1", "5454")
}

/// Asks once over each transport.
fn answers(bed: &Bed, server: &str, port: &str) -> Result {
    for transport in ["+notcp", "+tcp"] {
        let server = format!("@{server}");
        let arguments = [&server, "-p", port, transport, "+time=2", "+tries=1", "+short", PAYMENTS];
        let said = bed.run("dig", arguments)?.done()?;
        ensure!(PAYMENTS_ADDRESSES.iter().all(|address| said.lines().any(|line| line == *address)), "{said}");
    }
    Ok(())
}
