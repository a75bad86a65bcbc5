//! Agents and the store die under a constant load of queries, and nobody notices; afterwards all converge.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use harness::{Agent, Expected, Fleet, Load, RecordType, ResponseCode, Result, SOON, eventually};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::federation::{answers, converged, pods};
use crate::membership::{all_pods, told};

/// How long whatever dies stays dead.
const OUTAGE: Duration = Duration::from_secs(30);

/// Between two queries of one cluster's pods.
const PERIOD: Duration = Duration::from_millis(50);

/// A load of fewer answers than this in an outage would prove little; a busy machine gives four times as many.
const ENOUGH: usize = 300;

#[test]
fn no_answer_is_lost_when_agents_or_etcd_die() -> Result {
    Fleet::exclusive(async |fleet| {
        let ns = fleet.namespace("faults").await?;
        let [east, west] = ["east", "west"].map(|name| fleet.cluster(name));
        east.deploy(&ns, "web", 2, 8080).await?;
        west.deploy(&ns, "web", 2, 8080).await?;
        let firsts = fleet.agents().await?;
        let mut replicas = Vec::new();
        for cluster in ["east", "west", "south"] {
            let replica = fleet.agent(cluster).replica().start().await?;
            replica.ready().await?;
            replicas.push(replica);
        }
        let all: Vec<&Agent> = firsts.iter().chain(&replicas).collect();
        let name = format!("web.{ns}.global");
        let both = async || -> Result<BTreeSet<IpAddr>> {
            Ok(pods(east, &ns, "web").await?.union(&pods(west, &ns, "web").await?).copied().collect())
        };
        let before = both().await?;
        answers(east, &name, &before).await?;
        answers(west, &name, &before).await?;
        converged(&all).await?;
        let load = |right| Load::start(&[east.dns(), west.dns()], &name, Expected::exactly(right), PERIOD);

        // Every cluster loses the agent that owns it. The replicas answer, take over, and publish what changes.
        let lasting = load(&before);
        let until = Instant::now() + OUTAGE;
        for agent in &firsts {
            agent.kill()?;
        }
        sleep_until(until).await;
        lasting.stop().await?.flawless(ENOUGH)?;
        west.scale(&ns, "web", 1).await?;
        let after = both().await?;
        assert_eq!(after.len(), 3);
        answers(east, &name, &after).await?;
        answers(west, &name, &after).await?;
        for agent in &firsts {
            agent.start().await?;
        }
        converged(&all).await?;

        // The store is gone: everything known is served.
        let lasting = load(&after);
        let until = Instant::now() + OUTAGE;
        let etcd = fleet.store();
        etcd.etcd().kill()?;
        eventually(SOON, "an agent says that the store is lost", async || {
            let status = firsts[0].status().await?;
            ensure!(status["store"]["state"] == "lost", "{}", status["store"]);
            Ok(())
        })
        .await?;
        sleep_until(until).await;
        etcd.etcd().start()?;
        etcd.ready().await?;
        lasting.stop().await?.flawless(ENOUGH)?;
        west.scale(&ns, "web", 3).await?;
        let last = both().await?;
        assert_eq!(last.len(), 5);
        answers(east, &name, &last).await?;
        answers(west, &name, &last).await?;
        converged(&all).await?;
        Ok(())
    })
}

#[test]
fn an_agent_without_a_store_says_so_and_serves_what_it_can() -> Result {
    Fleet::exclusive(async |fleet| {
        let ns = fleet.namespace("storeless").await?;
        let east = fleet.cluster("east");
        east.deploy(&ns, "web", 2, 8080).await?;
        fleet.store().etcd().kill()?;
        let agent = fleet.agent("east").start().await?;
        let name = format!("web.{ns}.global");

        // What its own cluster has is answered; of anything else nobody can say that it does not exist.
        answers(east, &name, &pods(east, &ns, "web").await?).await?;
        let absent = agent.dig(&format!("nobody.{ns}.global"), RecordType::A).await?;
        assert_eq!(absent.code, ResponseCode::ServFail, "{absent}");
        let status = agent.status().await?;
        assert_eq!(status["ready"], false, "{status}");
        assert_eq!(status["store"]["state"], "never-read", "{status}");
        let troubles = status["clusters"]["east"]["observed"]["troubles"].to_string();
        assert!(troubles.contains("store unavailable"), "{troubles}");

        fleet.store().etcd().start()?;
        agent.ready().await?;
        agent.wait_until("it publishes", |status| status["clusters"]["east"]["synced"] == true).await?;
        answers(east, &name, &pods(east, &ns, "web").await?).await?;
        let absent = agent.dig(&format!("nobody.{ns}.global"), RecordType::A).await?;
        assert_eq!(absent.code, ResponseCode::NXDomain, "{absent}");
        Ok(())
    })
}

#[test]
fn two_clusters_with_one_id_are_told_apart() -> Result {
    Fleet::exclusive(async |fleet| {
        let first = fleet.agent("east").start().await?;
        first.ready().await?;
        first.wait_until("it publishes", |status| status["clusters"]["east"]["synced"] == true).await?;

        // West's API server, under east's id: refused, with an exit code of its own, and nothing is written.
        let kubeconfig = fleet.cluster("west").membership()["kubernetes"]["kubeconfig"].clone();
        let second = fleet
            .agent("west")
            .config(|config| {
                config["cluster"] = "east".into();
                config["clusters"][0]["id"] = "east".into();
                config["clusters"][0]["kubernetes"]["kubeconfig"] = kubeconfig;
            })
            .launch()
            .await?;
        let status = second.ended().await?;
        assert_eq!(status.code(), Some(4), "{}", second.logs());
        let logs = second.logs();
        assert!(logs.contains("federator: cluster id `east` is taken"), "{logs}");

        // The same cluster twice is a replica: it stands by.
        let replica = fleet.agent("east").replica().start().await?;
        replica
            .wait_until("it stands by", |status| {
                status["clusters"]["east"]["observed"]["troubles"].to_string().contains("standing by")
            })
            .await?;
        converged(&[&first, &replica]).await?;
        Ok(())
    })
}

#[test]
fn refused_credentials_are_named_and_nothing_stops() -> Result {
    Fleet::shared(async |fleet| {
        let east = fleet.cluster("east");
        let good = std::fs::read_to_string(east.kubeconfig())?;
        let bad = east.kubeconfig().with_extension("refused");
        std::fs::write(&bad, good.replace("token: ", "token: not-"))?;
        let agent = fleet
            .agent("east")
            .config(|config| config["clusters"][0]["kubernetes"]["kubeconfig"] = bad.display().to_string().into())
            .start()
            .await?;
        agent
            .wait_until("it names the credentials", |status| {
                status["clusters"]["east"]["observed"]["troubles"].to_string().contains("refuses the credentials")
            })
            .await?;
        let reply = agent.dig("web.nobody.global", RecordType::A).await?;
        assert_ne!(reply.code, ResponseCode::NoError, "{reply}");
        Ok(())
    })
}

/// Neither the store answers nor the API server of its cluster, which is a spare one: controllers find their way back to
/// an API server that was away in their own time, and other tests need them.
#[test]
fn an_agent_that_starts_where_nothing_answers_knows_what_it_knew() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("alone").await?;
        let (north, west) = (&fleet.spare().await?, fleet.cluster("west"));
        ns.add_to(north).await?;
        north.deploy(&ns, "web", 2, 8080).await?;
        west.deploy(&ns, "web", 1, 8080).await?;
        let volume = tempfile::tempdir()?;
        let way = fleet.store().proxy()?;
        let endpoints = serde_json::json!([format!("http://{}", way.address())]);
        let of_west = fleet.agent("west").start().await?;
        of_west.ready().await?;
        let agent = fleet.agent_of(north).config(|config| {
            config["store"]["etcd"]["endpoints"] = endpoints;
            config["snapshot"] = serde_json::json!({ "directory": volume.path() });
        });
        let agent = agent.start().await?;
        let name = format!("web.{ns}.global");
        let both = all_pods(&[north, west], &ns, "web").await?;
        told(&agent, &name, &both).await?;
        let is_kept = |status: &Value| {
            let is_all = status["clusters"]["north"]["synced"] == true && status["local"] == 0;
            let (kept, followed) = (&status["snapshot"], &status["store"]);
            is_all && kept["state"] == "kept" && kept["position"] == followed["position"]
        };
        let before = agent.wait_until("keeps all of it", is_kept).await?;
        let vip = agent.vip_dns().udp(&name, RecordType::A).await?.addresses();

        agent.kill()?;
        way.cut();
        north.component("kube-apiserver")?.kill()?;
        agent.start().await?;
        agent.ready().await?;
        let reply = agent.dig(&name, RecordType::A).await?;
        assert_eq!(reply.addresses(), both, "{reply}");
        let reply = agent.vip_dns().udp(&name, RecordType::A).await?;
        assert_eq!(reply.addresses(), vip, "{reply}");
        // It may have come meanwhile.
        let unknown = format!("nobody.{ns}.global");
        let reply = agent.dig(&unknown, RecordType::A).await?;
        assert_eq!(reply.code, ResponseCode::ServFail, "{reply}");
        let status = agent.status().await?;
        let (state, revision) = (&status["store"]["state"], &status["revision"]);
        assert_eq!((state, revision), (&"snapshot".into(), &before["revision"]), "{status}");
        assert!(status["store"]["ageSeconds"].is_u64(), "{status}");
        let file = volume.path().join("snapshot").display().to_string();
        assert_eq!(status["snapshot"]["began"], file, "{status}");

        // The store comes back alone: what changes elsewhere is seen, and what was known of its own cluster stays.
        way.resume();
        agent.wait_until("follows the store", |status| status["store"]["state"] == "followed").await?;
        west.scale(&ns, "web", 2).await?;
        let own: BTreeSet<_> = both.difference(&pods(west, &ns, "web").await?).copied().collect();
        let more: BTreeSet<_> = own.union(&pods(west, &ns, "web").await?).copied().collect();
        assert_eq!(more.len(), 4, "{more:?}");
        told(&agent, &name, &more).await?;
        agent.wait_until("knows what there is not", |status| status["complete"] == true).await?;
        let reply = agent.dig(&unknown, RecordType::A).await?;
        assert_eq!(reply.code, ResponseCode::NXDomain, "{reply}");
        Ok(())
    })
}

#[test]
fn what_is_known_is_stale_when_the_store_is_gone_for_long() -> Result {
    Fleet::exclusive(async |fleet| {
        let ns = fleet.namespace("stale").await?;
        let east = fleet.cluster("east");
        east.deploy(&ns, "web", 2, 8080).await?;
        let right = pods(east, &ns, "web").await?;
        let begin = async |cluster: &str, stale: &str| {
            let agent = fleet.agent(cluster).config(|config| {
                config["dns"]["stale"] = stale.into();
                config["dns"]["staleAfterSeconds"] = 1.into();
            });
            let agent = agent.start().await?;
            agent.ready().await?;
            anyhow::Ok(agent)
        };
        let (knows, fails) = (begin("east", "known").await?, begin("west", "servfail").await?);
        let (name, nobody) = (format!("web.{ns}.global"), format!("nobody.{ns}.global"));
        let says = async |agent: &Agent, name: &str, code: ResponseCode, pods: &BTreeSet<IpAddr>, is_stale: bool| {
            eventually(SOON, &format!("{} says {code} of {name}, stale: {is_stale}", agent.url()), async || {
                let reply = agent.dig(name, RecordType::A).await?;
                ensure!(reply.code == code && reply.addresses() == *pods, "{reply}");
                ensure!(reply.extended_error.as_ref().is_some_and(|(code, _)| *code == 3) == is_stale, "{reply}");
                Ok(())
            })
            .await
        };
        let none = BTreeSet::new();
        for agent in [&knows, &fails] {
            says(agent, &name, ResponseCode::NoError, &right, false).await?;
            says(agent, &nobody, ResponseCode::NXDomain, &none, false).await?;
        }
        fleet.store().etcd().kill()?;
        says(&knows, &name, ResponseCode::NoError, &right, true).await?;
        says(&fails, &name, ResponseCode::ServFail, &none, true).await?;
        for agent in [&knows, &fails] {
            says(agent, &nobody, ResponseCode::ServFail, &none, true).await?;
            let metrics = agent.metrics().await?;
            let age = metrics.lines().find_map(|line| line.strip_prefix("federator_unconfirmed_seconds "));
            ensure!(age.and_then(|age| age.parse::<u64>().ok()).is_some_and(|age| age >= 1), "{metrics}");
        }
        fleet.store().etcd().start()?;
        for agent in [&knows, &fails] {
            says(agent, &name, ResponseCode::NoError, &right, false).await?;
            says(agent, &nobody, ResponseCode::NXDomain, &none, false).await?;
        }
        Ok(())
    })
}
