//! Owners that die, and owners that sleep over their successor.

use anyhow::ensure;
use harness::{Fleet, Result};

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
            scene.scale("west", replicas).await?;
            scene.expect("web").await?;
            scene.known_to(&[&scene.east, &scene.replica, &scene.south], "web").await?;
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
        scene.scale("west", 4).await?;
        scene.expect("web").await?;
        scene.known_to(&[&scene.east, &scene.replica, &scene.south], "web").await?;
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
