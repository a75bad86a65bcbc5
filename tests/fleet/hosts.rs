//! Endpoints that are host names: an agent answers the addresses that a name server outside says they have.

use anyhow::ensure;
use harness::{Agent, Fleet, RecordType, Reply, Result, SOON, eventually};
use serde_json::json;

/// A Service without pods, and who serves it: a host name.
const OUTSIDE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME-outside, labels: {kubernetes.io/service-name: NAME}}
addressType: FQDN
ports: [{name: http, port: 80}]
endpoints: [{addresses: [NAME.outside.example], conditions: {ready: true}}]
";

/// What names have beside the one that moves; the last one none that anybody could use.
const WEB: (&str, &str) = ("web.outside.example", "192.0.2.9");
const LOOP: (&str, &str) = ("loop.outside.example", "127.0.0.1");

/// What a name answers, as one text: the code, addresses, and what an extended error says of host names.
fn shown(reply: &Reply) -> String {
    let mut text = format!("{:?}", reply.code);
    reply.addresses().iter().for_each(|address| text += &format!(" {address}"));
    if let Some((code, _)) = reply.extended_error.as_ref().filter(|(_, why)| why.contains("host names")) {
        text += &format!(" ({code})");
    }
    text
}

/// Waits until that is answered; SRV has the same code.
async fn answers(agent: &Agent, name: &str, expected: &str) -> Result {
    eventually(SOON, &format!("{name} is {expected}"), async || {
        let reply = agent.dig(name, RecordType::A).await?;
        ensure!(shown(&reply) == expected, "{reply}");
        let reply = agent.dig(&format!("_http._tcp.{name}"), RecordType::SRV).await?;
        ensure!(expected.split(' ').next() == Some(&format!("{:?}", reply.code)), "{reply}");
        Ok(())
    })
    .await
}

#[test]
fn an_endpoint_that_is_a_host_name_is_followed_to_its_addresses() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("hosts").await?;
        let here = &fleet.spare().await?;
        ns.add_to(here).await?;
        let namer = here.namer(&[("db.outside.example", "192.0.2.7"), WEB, LOOP]).await?;
        let servers = json!([namer.address()]);
        let agent = fleet.agent_of(here).embedded().config(|config| config["dns"]["nameservers"] = servers);
        let agent = agent.start().await?;
        agent.ready().await?;
        for service in ["db", "web", "loop"] {
            here.apply(&ns, &OUTSIDE.replace("NAME", service)).await?;
        }
        let [db, web, own] = ["db", "web", "loop"].map(|service| format!("{service}.{ns}.global"));
        answers(&agent, &db, "NoError 192.0.2.7").await?;
        answers(&agent, &web, "NoError 192.0.2.9").await?;
        // Nobody else can be at that address: it is known to have none.
        answers(&agent, &own, "NoError (0)").await?;

        // Each is asked for again, and only its own name moves.
        namer.say(&[("db.outside.example", "192.0.2.8"), ("db.outside.example", "192.0.2.6"), WEB, LOOP])?;
        answers(&agent, &db, "NoError 192.0.2.6 192.0.2.8").await?;
        answers(&agent, &web, "NoError 192.0.2.9").await?;

        // Nobody answers: what was known is kept, and what was never known is not said to be absent.
        namer.kill()?;
        here.apply(&ns, &OUTSIDE.replace("NAME", "late")).await?;
        answers(&agent, &format!("late.{ns}.global"), "ServFail (23)").await?;
        let failed = |host: &str| {
            let lines = agent.logs();
            lines.lines().any(|line| {
                line.contains(&format!("{host}.outside.example"))
                    && line.contains("host name")
                    && line.contains("timed out")
            })
        };
        eventually(SOON, "it asked in vain", async || {
            ensure!(failed("db") && failed("web"), "{}", agent.logs());
            Ok(())
        })
        .await?;
        answers(&agent, &db, "NoError 192.0.2.6 192.0.2.8").await?;
        answers(&agent, &web, "NoError 192.0.2.9").await
    })
}
