//! Owners that die, and owners that sleep over their successor.

use anyhow::ensure;
use harness::{Fleet, Result};
use serde_json::Value;

use super::{Scene, is_owner, owns};

#[test]
fn an_owner_that_is_killed_is_missed_by_nobody() -> Result {
    Fleet::shared(async |fleet| {
        let mut scene = Scene::new(fleet, "killed").await?;
        for replicas in [3, 1] {
            // Whoever owns west dies, and the change comes before anybody knows.
            scene.observer.leave(&scene.west);
            scene.observer.note("the owner of west is killed");
            scene.west.kill()?;
            scene.change_for(&[&scene.east, &scene.replica, &scene.south], "west", replicas).await?;
            owns(&scene.replica, "west").await?;
            scene.west.start().await?;
            scene.west.ready().await?;
            scene.observer.back(&scene.west);
            // The next to die is the successor.
            std::mem::swap(&mut scene.west, &mut scene.replica);
        }
        scene.change("west", 2).await?;
        scene.end().await
    })
}

#[test]
fn an_owner_that_slept_longer_than_its_lease_writes_nothing() -> Result {
    Fleet::shared(async |fleet| {
        let scene = Scene::new(fleet, "slept").await?;
        let sleeper = scene.west.status().await?["agent"].clone();

        // It falls asleep with something to write, and finds more when it wakes up.
        scene.observer.leave(&scene.west);
        scene.observer.note("the owner of west stops");
        scene.west.pause()?;
        scene.change_for(&[&scene.east, &scene.replica, &scene.south], "west", 4).await?;
        let status = owns(&scene.replica, "west").await?;
        ensure!(status["clusters"]["west"]["owner"] != sleeper, "{status}");
        scene.observer.note("the former owner of west goes on");
        scene.west.resume()?;
        scene.observer.back(&scene.west);

        scene.west.wait_until("knows that it is not the owner", |status| !is_owner(status, "west")).await?;
        scene.change("west", 1).await?;
        ensure!(scene.east.status().await?["clusters"]["west"]["owner"] != sleeper, "it took the cluster back");
        scene.end().await
    })
}

#[test]
fn a_write_that_arrives_after_its_writer_was_deposed_is_refused() -> Result {
    Fleet::shared(async |fleet| {
        let way = fleet.store().proxy()?;
        let endpoints = serde_json::json!([format!("http://{}", way.address())]);
        let scene = Scene::with(fleet, "delayed", |cluster, replica, setup| match (cluster, replica) {
            ("west", false) => setup.config(|config| config["store"]["etcd"]["endpoints"] = endpoints.clone()),
            _ => setup,
        });
        let scene = scene.await?;

        // What it writes stays on the way. Once it has tried in vain it tries again, and is stopped while it waits.
        scene.observer.leave(&scene.west);
        scene.observer.note("nothing passes between the owner of west and etcd");
        way.stall();
        scene.scale("west", 4).await?;
        let tried = |status: &Value| {
            let troubles = status["clusters"]["west"]["observed"]["troubles"].to_string();
            troubles.contains("store unavailable")
        };
        scene.west.wait_until("has tried to publish", tried).await?;
        scene.observer.rounds(5).await?;
        scene.west.pause()?;
        owns(&scene.replica, "west").await?;
        scene.change_for(&[&scene.east, &scene.replica, &scene.south], "west", 3).await?;

        scene.observer.note("what the former owner has written arrives");
        way.resume();
        scene.endure().await?;
        scene.west.resume()?;
        scene.observer.back(&scene.west);
        scene.west.wait_until("knows that it is not the owner", |status| !is_owner(status, "west")).await?;
        scene.change("west", 1).await?;
        scene.end().await
    })
}
