//! An agent that cannot reach the shared store goes on seeing its own cluster, and answers what it sees there.

use harness::{Fleet, Result};

use super::{Scene, store_is};

#[test]
fn owners_are_fresh_at_home_while_etcd_is_down() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "etcd-away").await?;
        let etcd = fleet.store();
        scene.observer.note("etcd is killed");
        etcd.etcd().kill()?;
        scene.store_is("lost").await?;
        for replicas in [3, 1] {
            scene.scale("west", replicas).await?;
            scene.known_to(&[&scene.west, &scene.replica], "web").await?;
        }
        scene.endure().await?;
        etcd.etcd().start()?;
        etcd.ready().await?;
        scene.observer.note("etcd is back");
        scene.expect("web").await?;
        scene.everywhere("web").await?;
        scene.end().await
    })
}

#[test]
fn an_agent_that_is_cut_off_from_etcd_is_fresh_at_home() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "cut-off").await?;
        scene.observer.note("west is cut off from etcd");
        let cut = fleet.cut("west", "store")?;
        for agent in [&scene.west, &scene.replica] {
            agent.wait_until("has lost the store", |status| store_is(status, "lost")).await?;
        }
        // Home is fresh; east goes on, and what changes there the cut-off agents cannot know.
        for replicas in [3, 1] {
            scene.scale("west", replicas).await?;
            scene.known_to(&[&scene.west, &scene.replica], "web").await?;
        }
        cut.heal()?;
        scene.observer.note("west is no longer cut off");
        scene.expect("web").await?;
        scene.everywhere("web").await?;
        scene.change("west", 2).await?;
        scene.end().await
    })
}
