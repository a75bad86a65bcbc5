//! An etcd of three members: one may die, hang or be cut off, and two may not; nobody who asks for a name notices either.

use harness::{Fleet, Result, Trio};

use super::Scene;

/// Cuts a member off from the other two.
fn isolate(trio: &Trio, member: usize) -> Result<Vec<harness::Cut>> {
    let others = (0..3).filter(|other| *other != member);
    others.map(|other| trio.cut(member, trio.place(other).name())).collect()
}

#[test]
fn one_member_after_the_other_dies_and_changes_go_on() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        let scene = Scene::on(&trio, fleet, "members-die").await?;
        for member in 0..3 {
            let leads = trio.leader().await? == member;
            scene.observer.note(&format!("member {member} is killed, which leads: {leads}"));
            trio.member(member).kill()?;
            scene.change("west", 3).await?;
            scene.change("east", 1).await?;
            trio.start()?;
            trio.ready().await?;
            scene.observer.note("it is back");
            scene.change("west", 1).await?;
            scene.change("east", 2).await?;
        }
        scene.endure().await?;
        scene.end().await
    })
}

#[test]
fn a_leader_that_hangs_is_followed_by_another() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        let scene = Scene::on(&trio, fleet, "leader-hangs").await?;
        let leader = trio.leader().await?;
        scene.observer.note(&format!("member {leader}, which leads, stops"));
        trio.member(leader).pause()?;
        scene.change("west", 3).await?;
        scene.change("east", 1).await?;
        scene.endure().await?;
        scene.observer.note("it goes on");
        trio.member(leader).resume()?;
        scene.change("west", 1).await?;
        scene.end().await
    })
}

#[test]
fn a_leader_that_is_cut_off_leads_nobody() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        let scene = Scene::on(&trio, fleet, "leader-alone").await?;
        let leader = trio.leader().await?;
        scene.observer.note(&format!("member {leader}, which leads, is cut off from the others"));
        let cuts = isolate(&trio, leader)?;
        // Agents reach all three, and one of them says nothing that is new.
        scene.change("west", 3).await?;
        scene.change("east", 1).await?;
        scene.endure().await?;
        scene.observer.note("it is no longer cut off");
        cuts.into_iter().try_for_each(harness::Cut::heal)?;
        scene.change("west", 1).await?;
        scene.end().await
    })
}

#[test]
fn without_a_majority_everything_is_held() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        let scene = Scene::on(&trio, fleet, "no-majority").await?;
        for left in [trio.leader().await?, (trio.leader().await? + 1) % 3] {
            scene.observer.note(&format!("all members but {left} are killed"));
            for member in (0..3).filter(|member| *member != left) {
                trio.member(member).kill()?;
            }
            scene.store_is("lost").await?;
            scene.scale("west", 3).await?;
            scene.endure().await?;
            trio.start()?;
            trio.ready().await?;
            scene.observer.note("they are back");
            scene.expect("web").await?;
            scene.everywhere("web").await?;
            scene.change("west", 1).await?;
        }
        scene.end().await
    })
}

#[test]
fn all_members_die_at_once() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        let scene = Scene::on(&trio, fleet, "all-die").await?;
        scene.observer.note("all members are killed");
        trio.kill()?;
        scene.store_is("lost").await?;
        scene.scale("west", 3).await?;
        scene.endure().await?;
        trio.start()?;
        trio.ready().await?;
        scene.observer.note("they are back");
        scene.expect("web").await?;
        scene.everywhere("web").await?;
        scene.end().await
    })
}
