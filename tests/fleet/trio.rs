//! An etcd of three members with TLS and users: what it does when it is broken, which the scenarios build on.

use anyhow::{Context, ensure};
use etcd_client::Error;
use harness::{Fleet, Result, SOON, Trio, eventually};

#[test]
fn users_have_the_rights_that_they_were_given_and_others_none() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        trio.admit("east", "/a/").await?;
        let mut east = trio.client_of(1, "east").await?;
        east.put("/a/key", "", None).await?;
        refused("permission denied", east.put("/b/key", "", None).await)?;
        refused("permission denied", trio.client_of(1, "nobody").await?.get("/a/key", None).await)?;

        // Members need no restart to serve certificates of another authority, and trust clients of both.
        trio.rotate_authority()?;
        trio.client_of(1, "east").await?.get("/a/key", None).await?;
        east.get("/a/key", None).await?;

        trio.wipe().await?;
        let found = trio.client_of(2, "east").await?.get("/a/key", None).await?;
        ensure!(found.kvs().is_empty(), "it is wiped, and the user is admitted again");
        Ok(())
    })
}

#[test]
fn one_member_may_die_and_two_may_not() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        put(&trio, "0").await?;
        let first = trio.leader().await?;
        trio.member(first).kill()?;
        let second = trio.leader().await?;
        ensure!(first != second, "{first} leads, and is dead");
        eventually(SOON, "the other two go on", async || put(&trio, "1").await).await?;

        trio.member(second).pause()?;
        let third = 3 - first - second;
        let alone = trio.client_of(third, "root").await?.put("/key", "2", None).await;
        ensure!(alone.is_err(), "{alone:?}");

        trio.member(second).resume()?;
        trio.start()?;
        trio.ready().await?;
        eventually(SOON, "all go on", async || put(&trio, "3").await.map(drop)).await
    })
}

#[test]
fn a_member_that_is_cut_off_leads_nobody() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        let first = trio.leader().await?;
        let others = [0, 1, 2].into_iter().filter(|&member| member != first);
        let cuts = others.map(|member| trio.cut(first, trio.place(member).name())).collect::<Result<Vec<_>>>()?;
        eventually(SOON, "another one leads", async || {
            ensure!(trio.leader().await? != first, "it is {first} still");
            Ok(())
        })
        .await?;
        drop(cuts);
        trio.ready().await
    })
}

#[test]
fn it_goes_back_to_a_snapshot_and_forgets_what_is_compacted() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        let before = put(&trio, "before").await?;
        let snapshot = trio.snapshot()?;
        let after = put(&trio, "after").await?;
        trio.compact(after).await?;
        let at = etcd_client::GetOptions::new().with_revision(before.cast_signed());
        refused("compacted", trio.client().await?.get("/key", Some(at)).await)?;
        trio.defragment().await?;

        trio.restore(&snapshot).await?;
        let found = trio.client().await?.get("/key", None).await?;
        ensure!(found.kvs()[0].value() == b"before", "{found:?}");
        Ok(())
    })
}

#[test]
fn it_refuses_writes_when_its_room_is_full() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().quota(1 << 20).start().await?;
        let mut client = trio.client().await?;
        let big = vec![b'x'; 100 << 10];
        // A member counts what it has committed to its file, ten times a second: how many writes that is, is up to the disk.
        let mut n = 0;
        eventually(SOON, "it is full", async || {
            n += 1;
            refused("space exceeded", client.put(format!("/big/{n}"), big.clone(), None).await)
        })
        .await?;
        ensure!(trio.etcdctl(["alarm", "list"])?.contains("NOSPACE"), "and says so");
        client.get("/big/1", None).await?;
        Ok(())
    })
}

async fn put(trio: &Trio, value: &str) -> Result<u64> {
    let done = trio.client().await?.put("/key", value, None).await?;
    Ok(done.header().context("no header")?.revision().cast_unsigned())
}

fn refused<T: std::fmt::Debug>(why: &str, outcome: std::result::Result<T, Error>) -> Result {
    let said = outcome.map_err(|error| error.to_string());
    ensure!(said.as_ref().is_err_and(|said| said.contains(why)), "{said:?}");
    Ok(())
}
