//! The shared store dies, hangs, has no room, or forgets its history.

use anyhow::ensure;
use etcd_client::{AlarmAction, AlarmType};
use harness::{Fleet, Result};

use super::{Scene, revision, store_is};

#[test]
fn etcd_dies_and_comes_back() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "etcd-dies").await?;
        let etcd = fleet.store();
        scene.observer.note("etcd is killed");
        etcd.etcd().kill()?;
        scene.store_is("lost").await?;

        // Nobody elsewhere can know what changes now; what was up is held.
        scene.scale("west", 3).await?;
        scene.endure().await?;
        etcd.etcd().start()?;
        etcd.ready().await?;
        scene.observer.note("etcd is back");
        scene.expect("web").await?;
        scene.everywhere("web").await?;
        scene.store_is("followed").await?;
        scene.change("west", 1).await?;
        scene.end().await
    })
}

#[test]
fn etcd_hangs_and_goes_on() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "etcd-hangs").await?;
        scene.observer.note("etcd stops");
        fleet.store().etcd().pause()?;
        scene.store_is("lost").await?;
        scene.scale("west", 3).await?;
        scene.endure().await?;
        fleet.store().etcd().resume()?;
        scene.observer.note("etcd goes on");
        scene.expect("web").await?;
        scene.everywhere("web").await?;
        scene.change("west", 1).await?;
        scene.end().await
    })
}

#[test]
fn etcd_has_no_room_for_a_while() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "etcd-full").await?;
        let mut etcd = fleet.store().client().await?;
        scene.observer.note("etcd has no room");
        etcd.alarm(AlarmAction::Activate, AlarmType::Nospace, None).await?;
        let full = async {
            scene.scale("west", 3).await?;
            let says = |status: &serde_json::Value| {
                status["clusters"]["west"]["observed"]["troubles"].to_string().contains("space exceeded")
            };
            scene.west.wait_until("says why it cannot publish", says).await?;
            scene.endure().await
        };
        let full = full.await;
        // The alarm outlives this test if it is not taken back.
        etcd.alarm(AlarmAction::Deactivate, AlarmType::Nospace, None).await?;
        full?;
        scene.observer.note("etcd has room again");
        scene.expect("web").await?;
        scene.everywhere("web").await?;
        scene.change("west", 1).await?;
        scene.end().await
    })
}

#[test]
fn etcd_forgets_its_history_while_an_agent_is_cut_off() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "compacted").await?;
        scene.observer.note("east is cut off from etcd");
        let cut = fleet.cut("east", "store")?;
        scene.east.wait_until("has lost the store", |status| store_is(status, "lost")).await?;
        let before = revision(&scene.east.status().await?)?;

        // A service comes and endpoints go; then nobody can say any more that they did.
        fleet.cluster("west").deploy(&scene.ns, "late", 1, 8080).await?;
        scene.scale("west", 1).await?;
        let others = [&scene.west, &scene.replica, &scene.south];
        scene.known_to(&others, "web").await?;
        scene.known_to(&others, "late").await?;
        let mut etcd = fleet.store().client().await?;
        let now = etcd.get(format!("{}/", fleet.root()), None).await?;
        let now = now.header().map_or(0, etcd_client::ResponseHeader::revision);
        ensure!(u64::try_from(now)? > before, "nothing was written that east does not know");
        etcd.compact(now, None).await?;
        scene.observer.note(&format!("etcd is compacted at {now}"));

        cut.heal()?;
        scene.observer.note("east is no longer cut off");
        scene.expect("web").await?;
        scene.known_to(&[&scene.east], "late").await?;
        scene.expect("late").await?;
        scene.endure().await?;
        scene.end().await
    })
}
