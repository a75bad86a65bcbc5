//! Clocks that are wrong. What an agent decides depends on how long things take, and never on what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use harness::{Agent, Fleet, Result};
use serde_json::Value;

use super::{Scene, owns};

/// Seconds by which a clock is wrong.
const HOUR: i64 = 3600;

#[test]
fn an_owner_whose_clock_is_an_hour_off_is_as_good_as_any() -> Result {
    Fleet::shared(async |fleet| {
        let scene = Scene::with(fleet, "clock", |cluster, _, setup| match cluster {
            "west" => setup.clock(HOUR),
            "south" => setup.clock(-HOUR),
            _ => setup,
        });
        let scene = scene.await?;
        for (agent, ahead) in [(&scene.west, HOUR), (&scene.south, -HOUR), (&scene.east, 0)] {
            let off = clock(agent)? - seconds_now()?;
            ensure!((off - ahead).abs() < HOUR / 2, "its clock is {off} s ahead, and should be {ahead}");
        }
        scene.change("west", 3).await?;
        scene.change("south", 1).await?;

        // Its successor has the wrong time as well, and gets it back from one that has died.
        scene.observer.leave(&scene.west);
        scene.observer.note("the owner of west is killed");
        scene.west.kill()?;
        scene.change_for(&[&scene.east, &scene.replica, &scene.south], "west", 1).await?;
        owns(&scene.replica, "west").await?;
        scene.west.start().await?;
        scene.west.ready().await?;
        scene.observer.back(&scene.west);
        scene.end().await
    })
}

/// Seconds since 1970 when an agent wrote the last line of its log, by its own clock.
fn clock(agent: &Agent) -> Result<i64> {
    let logs = agent.logs();
    let last: Value = serde_json::from_str(logs.lines().last().context("an empty log")?)?;
    let written = last["timestamp"].as_str().context("a line without a time")?;
    let time: k8s_openapi::jiff::Timestamp = written.parse()?;
    Ok(time.as_second())
}

fn seconds_now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}
