//! Partitions of one pair of places only: everybody else goes on, and the two agree again afterwards.

use harness::{Fleet, Result};

use super::{Scene, owns, store_is};

#[test]
fn an_agent_that_is_cut_off_from_etcd_catches_up() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "catches-up").await?;
        scene.observer.note("west is cut off from etcd");
        let cut = fleet.cut("west", "store")?;
        scene.west.wait_until("has lost the store", |status| store_is(status, "lost")).await?;
        // Its lease is over long before the cut is.
        let nobody = |status: &serde_json::Value| status["clusters"]["west"]["owner"].is_null();
        scene.east.wait_until("says that nobody owns west", nobody).await?;
        scene.scale("west", 1).await?;
        scene.scale("east", 3).await?;
        scene.known_to(&[&scene.south], "web").await?;
        cut.heal()?;
        scene.observer.note("west is no longer cut off");
        scene.expect("web").await?;
        scene.everywhere("web").await?;
        scene.end().await
    })
}

#[test]
fn two_clusters_that_do_not_see_each_other_agree_all_the_same() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "apart").await?;
        scene.observer.note("east and west are cut off from each other");
        let cut = fleet.cut("east", "west")?;
        scene.change("west", 3).await?;
        scene.change("east", 1).await?;
        scene.endure().await?;
        owns(&scene.east, "east").await?;
        cut.heal()?;
        scene.observer.note("east and west see each other again");
        scene.change("west", 1).await?;
        scene.end().await
    })
}
