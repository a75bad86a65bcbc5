//! An administrator takes a cluster out of the fleet and back in, on the shared store: the others forget it at once, and
//! its own agent writes nothing until it may, even if it slept over its removal.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use etcd_client::{EventType, WatchOptions};
use harness::{Agent, Cluster, Expected, Fleet, Load, RecordType, Result, Said};

use crate::federation::{converged, pods};
use crate::membership::{all_pods, told};

/// Between two queries.
const PERIOD: Duration = Duration::from_millis(20);

/// Does something to a cluster, as an administrator with the configuration of an agent.
fn administer(cluster: &Cluster, agent: &Agent, act: &str, id: &str) -> Result<Said> {
    let config = agent.config_file().display().to_string();
    cluster.federator(["cluster", act, id, "--config", &config])
}

/// The revision at which west's tombstone was written last.
async fn buried(fleet: &Fleet) -> Result<i64> {
    let mut store = fleet.store().client().await?;
    let found = store.get(format!("{}/tombstones/west", fleet.root()), None).await?;
    Ok(found.kvs().first().context("no tombstone")?.mod_revision())
}

/// Fails if anything was written of west between two revisions; there has to be something after the second.
async fn nothing_was_written(fleet: &Fleet, removed: i64, readmitted: i64) -> Result {
    ensure!(removed < readmitted);
    let mut store = fleet.store().client().await?;
    for of_it in ["records/west/", "clusters/west/meta", "clusters/west/synced"] {
        let prefix = format!("{}/{of_it}", fleet.root());
        let history = WatchOptions::new().with_prefix().with_start_revision(removed + 1);
        let mut stream = store.watch(&*prefix, Some(history)).await?;
        'history: loop {
            let response = stream.message().await?.context("the watch ended")?;
            for event in response.events().iter().filter(|event| event.event_type() == EventType::Put) {
                let written = event.kv().context("a key")?;
                if written.mod_revision() > readmitted {
                    break 'history;
                }
                let key = written.key_str()?;
                ensure!(false, "{key} was written at {}, removed at {removed}", written.mod_revision());
            }
        }
    }
    Ok(())
}

async fn is_removed(agent: &Agent) -> Result {
    let removed = |status: &serde_json::Value| !status["clusters"]["west"]["conditions"]["Removed"].is_null();
    agent.wait_until("says that west is removed", removed).await.map(drop)
}

#[test]
fn a_cluster_is_removed_and_readmitted() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("removal").await?;
        let [east, west] = ["east", "west"].map(|name| fleet.cluster(name));
        east.deploy(&ns, "web", 1, 8080).await?;
        west.deploy(&ns, "web", 2, 8080).await?;
        let [in_east, in_west, in_south] = fleet.agents().await?;
        let agents = [&in_east, &in_west, &in_south];
        let name = format!("web.{ns}.global");
        let (own, both) = (pods(east, &ns, "web").await?, all_pods(&[east, west], &ns, "web").await?);
        let everywhere = async |expected| -> Result {
            told(&in_east, &name, expected).await?;
            told(&in_west, &name, expected).await?;
            converged(&agents).await.map(drop)
        };
        everywhere(&both).await?;
        let vip = in_south.vip_dns().udp(&name, RecordType::A).await?.addresses();
        let load = Load::start(&[in_east.dns()], &name, Expected::exactly(&both), PERIOD);

        load.expect(Expected::between(&own, &both));
        let said = administer(east, &in_east, "remove", "west")?.done()?;
        assert!(said.starts_with("cluster west is removed: tombstone 1"), "{said}");
        let removed = buried(fleet).await?;
        everywhere(&own).await?;
        load.expect(Expected::exactly(&own));
        is_removed(&in_west).await?;
        let status = in_south.status().await?;
        let exports = &status["services"][format!("{ns}/web")]["exports"];
        assert_eq!(exports.as_array().map(Vec::len), Some(1), "{exports}");
        assert!(status["clusters"]["west"].is_null(), "{status}");
        // What changes there is nobody's business, and what changes elsewhere is seen as ever.
        west.scale(&ns, "web", 3).await?;
        load.expect(Expected::between(&own, &east.pod_addresses()));
        east.scale(&ns, "web", 2).await?;
        let (own, both) = (pods(east, &ns, "web").await?, all_pods(&[east, west], &ns, "web").await?);
        everywhere(&own).await?;
        load.expect(Expected::exactly(&own));
        is_removed(&in_west).await?;
        let again = administer(east, &in_east, "remove", "west")?.done()?;
        assert!(again.starts_with("cluster west is removed already: tombstone 1"), "{again}");

        load.expect(Expected::between(&own, &both));
        let said = administer(west, &in_west, "readmit", "west")?.done()?;
        assert!(said.starts_with("cluster west is readmitted: tombstone 2"), "{said}");
        let readmitted = buried(fleet).await?;
        everywhere(&both).await?;
        load.expect(Expected::exactly(&both));
        nothing_was_written(fleet, removed, readmitted).await?;
        let status = in_west.wait_until("all is well", |now| now["clusters"]["west"]["conditions"].is_null()).await?;
        assert_eq!(status["clusters"]["west"]["synced"], true, "{status}");
        assert_eq!(in_south.vip_dns().udp(&name, RecordType::A).await?.addresses(), vip);

        // It sleeps over its removal, with something to write.
        in_west.pause()?;
        west.scale(&ns, "web", 1).await?;
        load.expect(Expected::between(&own, &both));
        administer(east, &in_east, "remove", "west")?.done()?;
        let removed = buried(fleet).await?;
        told(&in_east, &name, &own).await?;
        load.expect(Expected::exactly(&own));
        in_west.resume()?;
        is_removed(&in_west).await?;
        everywhere(&own).await?;
        let fewer = all_pods(&[east, west], &ns, "web").await?;
        // The agent of west may not have seen yet what went while it slept.
        load.expect(Expected::between(&own, &both));
        administer(east, &in_east, "readmit", "west")?.done()?;
        let readmitted = buried(fleet).await?;
        everywhere(&fewer).await?;
        nothing_was_written(fleet, removed, readmitted).await?;
        load.stop().await?.flawless(60)
    })
}

#[test]
fn what_cannot_be_removed_is_said_in_a_line() -> Result {
    Fleet::shared(async |fleet| {
        let east = fleet.cluster("east");
        let agent = fleet.agent("east").start().await?;
        agent.ready().await?;
        agent.wait_until("it publishes", |status| status["clusters"]["east"]["synced"] == true).await?;
        for (act, id, why) in [
            (
                "remove",
                "nowhere",
                "the store knows no cluster `nowhere`; it knows east; --force bars it before it comes",
            ),
            ("readmit", "east", "cluster `east` is not removed"),
        ] {
            let said = administer(east, &agent, act, id)?;
            assert_eq!((said.code, &*said.out, said.err), (2, "", format!("federator: {why}\n")));
        }
        Ok(())
    })
}
