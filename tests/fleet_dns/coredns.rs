//! Agents behind the CoreDNS of the manual, and behind the same without its cache, over TCP and over UDP: what clients see
//! of a change, of an agent that dies, hangs or is started anew, and what agents are put to by it.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use harness::{Expected, Load, Process, RecordType, Resolver, ResponseCode, Result, SOON, eventually};
use tokio::time::timeout;

use crate::bed::{AGENTS, Bed, PAYMENTS, PAYMENTS_ADDRESSES, RESOLVER, resolves, set};
use crate::manual;

/// Between two questions of a client: often enough that some fall into every moment of a fault.
const PERIOD: Duration = Duration::from_millis(10);

/// So many answers of each way to ask are seen in each state of the agents.
const ANSWERS: usize = 100;

/// Connections of one query each, one after the other or at once: some hundreds.
const CONNECTIONS: usize = 300;

/// The manual's stanza, and the same at other ports with its line for newer versions, and with less in it.
const DOCUMENTED: u16 = 53;
const NEWER: u16 = 56;
const UNCACHED: u16 = 54;
const PLAIN: u16 = 55;

/// The manual's stanza, the same without its cache, without TCP either, and with the line for newer versions; `failover`, as
/// for agents that are started anew.
pub(crate) fn stanzas(failover: bool) -> Result<[String; 4]> {
    let [documented, forward, newer] = &manual::stanzas("CoreDNS")[..] else { panic!("a stanza, and parts of others") };
    let between = |text: &str, from: &str| {
        let start = text.find(from).with_context(|| format!("no `{from}` in {text}"))?;
        let end = text[start..].find("\n    }\n").context("no end")?;
        anyhow::Ok(text[start..start + end + "\n    }\n".len()].to_owned())
    };
    let documented = match failover {
        true => documented.replace(&between(documented, "    forward")?, forward),
        false => documented.clone(),
    };
    let uncached = documented.replace(&between(&documented, "    cache")?, "");
    let plain = uncached.replace("        force_tcp\n", "");
    let newer = documented.replace("        serve_stale 1h verify\n", newer);
    ensure!(uncached != documented && plain != uncached && newer != documented, "{documented}");
    Ok([documented, uncached, plain, newer])
}

/// Starts CoreDNS with all of them.
async fn coredns(bed: &Bed, failover: bool) -> Result<Process> {
    let [documented, uncached, plain, newer] = stanzas(failover)?;
    let at = |stanza: &str, port: u16| stanza.replace("global:53", &format!("global:{port}"));
    let corefile = [documented, at(&uncached, UNCACHED), at(&plain, PLAIN), at(&newer, NEWER)].concat();
    let corefile = bed.write("Corefile", &corefile)?;
    bed.start("coredns", ["-conf".as_ref(), corefile.as_os_str()]).await
}

/// All ways to ask.
fn ways(bed: &Bed) -> [Resolver; 4] {
    [DOCUMENTED, UNCACHED, PLAIN, NEWER].map(|port| bed.place().resolver(bed.place().port(port)))
}

/// Waits until clients have had so many answers more.
async fn more_answers(load: &Load, what: &str) -> Result {
    let before = load.counts().right;
    eventually(SOON, what, async || {
        let counts = load.counts();
        ensure!(counts.right >= before + ANSWERS * 4, "{counts}");
        Ok(())
    })
    .await
}

/// Waits until an agent that was started (again) answers.
async fn is_back(bed: &Bed, agent: &Process, address: Ipv4Addr) -> Result {
    bed.answers(bed.agent_dns(address), agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_an_agent_that_hangs_or_dies() -> Result {
    let bed = Bed::new("faults")?;
    let agents = bed.agents().await?;
    let server = coredns(&bed, false).await?;
    let load = Load::start(&ways(&bed), PAYMENTS, Expected::exactly(&set(&PAYMENTS_ADDRESSES)), PERIOD);
    more_answers(&load, "both agents are there").await?;
    // The other one next: CoreDNS must have found out by itself that the first is back.
    for (agent, address) in agents.iter().zip(AGENTS) {
        agent.pause()?;
        more_answers(&load, "one agent hangs").await?;
        agent.resume()?;
        is_back(&bed, agent, address).await?;
        more_answers(&load, "the agent goes on").await?;
    }
    agents[0].kill()?;
    more_answers(&load, "one agent was killed").await?;
    load.stop().await?.flawless(ANSWERS).with_context(|| server.logs())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_agents_that_are_started_anew() -> Result {
    let bed = Bed::new("restarts")?;
    let agents = bed.agents().await?;
    let server = coredns(&bed, true).await?;
    let load = Load::start(&ways(&bed), PAYMENTS, Expected::exactly(&set(&PAYMENTS_ADDRESSES)), PERIOD);
    more_answers(&load, "both agents are there").await?;
    for ends_by_itself in [true, false] {
        for (agent, address) in agents.iter().zip(AGENTS) {
            match ends_by_itself {
                true => drop(agent.terminate(SOON).await?),
                false => agent.kill()?,
            }
            more_answers(&load, "one agent is gone").await?;
            agent.start()?;
            is_back(&bed, agent, address).await?;
            more_answers(&load, "the agent is back").await?;
        }
    }
    load.stop().await?.flawless(ANSWERS).with_context(|| server.logs())
}

/// What it knew it finds in its snapshot, or sees anew; what is asked meanwhile waits for that, and is not refused.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_answers_before_it_would_refuse() -> Result {
    for remembers in [true, false] {
        let bed = Bed::new(if remembers { "remembers" } else { "forgets" })?;
        let snapshots = bed.path("snapshots");
        let kept = format!("snapshot.directory={}", snapshots.display());
        let settings: &[&str] = if remembers { &[&kept] } else { &[] };
        let (agent, resolver) = (bed.launch(AGENTS[0], 5353, settings)?, bed.agent_dns(AGENTS[0]));
        for _ in 0..5 {
            // Without a pause: what is wrong at first is not wrong for long.
            let first = timeout(SOON, async {
                loop {
                    if let Ok(reply) = resolver.udp(PAYMENTS, RecordType::A).await {
                        break reply;
                    }
                }
            });
            let first = first.await.with_context(|| agent.logs())?;
            ensure!(first.addresses() == set(&PAYMENTS_ADDRESSES), "{first}");
            eventually(SOON, "it has written down what it knows", async || {
                ensure!(!remembers || std::fs::read_dir(&snapshots)?.next().is_some());
                Ok(())
            })
            .await?;
            agent.kill()?;
            agent.start()?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_through_the_cache_within_about_a_second() -> Result {
    let bed = Bed::new("change")?;
    let _agents = [bed.agent(AGENTS[0], &[]).await?, bed.agent(AGENTS[1], &[]).await?];
    let _server = coredns(&bed, false).await?;
    for round in 0..3 {
        let addresses = [format!("10.2.0.{round}"), format!("10.2.1.{round}")];
        let addresses = [&*addresses[0], &*addresses[1]];
        bed.say("payments", &addresses)?;
        let mut looks = 0;
        eventually(SOON, "the change is seen", async || {
            looks += 1;
            let reply = bed.resolver().udp(PAYMENTS, RecordType::A).await?;
            // An agent says 5 s, and so does what CoreDNS raises.
            assert!(reply.answers.iter().all(|answer| answer.ttl <= 1), "{reply}");
            resolves(bed.resolver(), PAYMENTS, &addresses).await
        })
        .await?;
        // A look every 20 ms or less often: 5 s, to which a cache that is not told otherwise raises a TTL, have more.
        ensure!(looks < 200, "{looks} looks");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_is_answered_when_all_agents_are_gone() -> Result {
    let bed = Bed::new("stale")?;
    let agents = [bed.agent(AGENTS[0], &["dns.ttl=1"]).await?, bed.agent(AGENTS[1], &["dns.ttl=1"]).await?];
    let _server = coredns(&bed, false).await?;
    let [documented, uncached, ..] = ways(&bed);
    resolves(uncached, PAYMENTS, &PAYMENTS_ADDRESSES).await?;
    agents.iter().try_for_each(Process::kill)?;
    let reply = uncached.udp(PAYMENTS, RecordType::A).await?;
    ensure!(reply.code == ResponseCode::ServFail, "{reply}");
    eventually(SOON, "the answer is one that has run out", async || {
        let reply = documented.udp(PAYMENTS, RecordType::A).await?;
        assert!(reply.addresses() == set(&PAYMENTS_ADDRESSES), "{reply}");
        // An agent says 1 s, and CoreDNS of what has run out none.
        ensure!(reply.answers.iter().all(|answer| answer.ttl == 0), "{reply}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_takes_connections_as_they_come() -> Result {
    let bed = Bed::new("connections")?;
    let agents = bed.agents().await?;
    let _server = coredns(&bed, false).await?;
    let dns = bed.agent_dns(AGENTS[0]);

    // One query each, all at once, and then CoreDNS has as many under way; datagrams at once would fill its socket.
    try_join_all((0..CONNECTIONS).map(async |_| {
        let reply = dns.tcp(PAYMENTS, RecordType::A).await?;
        ensure!(reply.addresses() == set(&PAYMENTS_ADDRESSES), "{reply}");
        Ok(())
    }))
    .await?;
    let [_, uncached, ..] = ways(&bed);
    try_join_all((0..CONNECTIONS).map(async |number| {
        let reply = uncached.tcp(&format!("n{number}.shop.global"), RecordType::A).await?;
        ensure!(reply.code == ResponseCode::NXDomain && reply.soa.is_some(), "{reply}");
        Ok(())
    }))
    .await?;

    // CoreDNS asks so whether an agent is well, each time on a connection of its own.
    for _ in 0..CONNECTIONS {
        let reply = dns.tcp(".", RecordType::NS).await?;
        ensure!(reply.code == ResponseCode::Refused, "{reply}");
    }

    // Clients that say half of a question, or do not wait for the answer.
    let question =
        b"\x00\x26\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x08payments\x04shop\x06global\x00\x00\x01\x00\x01";
    for length in 0..CONNECTIONS {
        let stream = bed.place().connect((AGENTS[0], 5353).into()).await?;
        stream.writable().await?;
        stream.try_write(&question[..1 + length % question.len()])?;
        stream.set_zero_linger()?;
    }
    resolves(dns, PAYMENTS, &PAYMENTS_ADDRESSES).await?;
    let reply = dns.tcp(PAYMENTS, RecordType::A).await?;
    ensure!(reply.addresses() == set(&PAYMENTS_ADDRESSES), "{reply}");
    let reply = bed.place().resolver((RESOLVER, UNCACHED).into()).udp(PAYMENTS, RecordType::A).await?;
    ensure!(reply.addresses() == set(&PAYMENTS_ADDRESSES), "{reply}");
    ensure!(agents.iter().all(Process::is_running), "{}", agents[0].logs());
    Ok(())
}

#[test]
fn the_manual_and_the_manifests_have_one_stanza() {
    let manifest = include_str!("../../manifests/coredns/stanza").lines().filter(|line| !line.starts_with('#'));
    let manifest: String = manifest.map(|line| format!("{line}\n")).collect();
    let manual = manual::stanzas("CoreDNS")[0].replace("192.0.2.11:5353 192.0.2.12:5353", "FEDERATOR-DNS");
    assert_eq!(manual.trim(), manifest.trim());
}
