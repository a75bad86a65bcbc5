//! Who gets into an etcd and who does not, what is said to those who do not, and certificates that change meanwhile.

use std::fs;

use anyhow::{Context, ensure};
use federator::store::Store as _;
use federator::store::etcd::{Etcd, Settings, Tls, User};
use harness::{ClientFiles, Fleet, Result, SOON, eventually};

use super::settings;
use crate::battery::{changes_until, put};

#[test]
fn who_is_not_let_in_is_told_why() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        trio.admit("east", "/fleet/").await?;
        let whole = settings(&trio, "east")?;
        put(&Etcd::connect(&whole).await?, "key", "").await?;

        let ca = whole.tls.clone().context("no TLS")?.ca;
        let forged = trio.forged_credentials("east")?;
        let identity = |files: &ClientFiles| Some((files.cert.clone(), files.key.clone()));
        let with = |tls: Tls| Settings { tls: Some(tls), ..whole.clone() };
        let nobody = settings(&trio, "nobody")?;
        let elsewhere = Settings { root: "/elsewhere".to_owned(), ..whole.clone() };
        for (settings, expected) in [
            (with(Tls { ca: ca.clone(), identity: None }), "store.etcd.tls.certFile"),
            (with(Tls { ca, identity: identity(&forged) }), "store.etcd.tls.certFile"),
            (with(Tls { ca: forged.cert.clone(), identity: None }), "store.etcd.tls.caFile"),
            (nobody, "federator etcd init"),
            (elsewhere, "federator etcd init"),
        ] {
            let store = Etcd::connect(&settings).await?;
            for said in [
                store.read("").await.map(drop),
                store.watch(1).await.map(drop),
                put(&store, "key", "").await.map(drop).map_err(super::unavailable),
            ] {
                let said = said.map_err(|error| error.to_string());
                ensure!(said.as_ref().is_err_and(|said| said.contains(expected)), "{expected}: {said:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn certificates_change_while_it_is_used() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        trio.admit("east", "/fleet/").await?;
        let settings = settings(&trio, "east")?;
        let tls = settings.tls.clone().context("no TLS")?;
        let old = tls.ca.with_extension("old");
        fs::copy(&tls.ca, &old)?;
        let store = Etcd::connect(&settings).await?;
        let last = put(&store, "key", "0").await?;
        let mut watch = store.watch(last + 1).await?;

        // Another authority vouches for everybody; what is connected stays so.
        trio.rotate_authority()?;
        trio.credentials("east")?;
        let done = put(&store, "key", "1").await?;
        changes_until(&mut *watch, done).await?;
        // Now everybody must connect anew.
        trio.kill()?;
        trio.start()?;
        trio.ready().await?;
        let done = eventually(SOON, "it is let in", async || put(&store, "key", "2").await).await?;
        let mut watch = eventually(SOON, "it is watched", async || Ok(store.watch(last + 1).await?)).await?;
        ensure!(changes_until(&mut *watch, done).await?.len() >= 2, "nothing was lost");

        let old = Settings { tls: Some(Tls { ca: old, ..tls }), ..settings };
        let refused = Etcd::connect(&old).await?.read("").await.map_err(|error| error.to_string());
        ensure!(refused.as_ref().is_err_and(|said| said.contains("store.etcd.tls.caFile")), "{refused:?}");
        Ok(())
    })
}

#[test]
fn a_password_opens_it_and_a_lost_token_is_renewed() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        trio.admit("nobody", "/nothing/").await?;
        trio.admit("east", "/fleet/").await?;
        let mut admin = trio.client().await?;
        admin.user_add("writer", "secret", None).await?;
        admin.user_grant_role("writer", "east").await?;
        let files = trio.credentials("nobody")?;
        let password = files.key.with_extension("password");
        fs::write(&password, "secret\n")?;
        let user = |password| Some(User { name: "writer".to_owned(), password });
        let settings = Settings { user: user(password.clone()), ..settings(&trio, "nobody")? };
        let store = Etcd::connect(&settings).await?;
        let last = put(&store, "key", "0").await?;

        // Members hold tokens in memory only.
        trio.kill()?;
        trio.start()?;
        trio.ready().await?;
        trio.leader().await?;
        // An agent that only follows must be let in again, too.
        let mut watch = eventually(SOON, "it is watched", async || Ok(store.watch(last + 1).await?)).await?;
        let done = put(&store, "key", "1").await?;
        changes_until(&mut *watch, done).await?;

        fs::write(&password, "wrong")?;
        let wrong = Etcd::connect(&settings).await?.read("").await.map_err(|error| error.to_string());
        ensure!(wrong.as_ref().is_err_and(|said| said.contains("store.etcd.passwordFile")), "{wrong:?}");
        Ok(())
    })
}

#[test]
fn endpoints_of_two_etcds_are_refused() -> Result {
    Fleet::shared(async |fleet| {
        let one = fleet.store().endpoint();
        let other = format!("http://{}", fleet.cluster("east").place().port(2379));
        let settings = Settings {
            endpoints: vec![one.clone(), other.clone()],
            root: "/two".to_owned(),
            lease_seconds: 5,
            tls: None,
            user: None,
        };
        let store = Etcd::connect(&settings).await?;
        for _ in 0..3 {
            let said = store.read("").await.map_err(|error| error.to_string());
            let clear = "store.etcd.endpoints are of different etcd clusters: the one in use is ";
            ensure!(said.as_ref().is_err_and(|said| said.contains(clear) && said.contains(&other)), "{said:?}");
        }
        let alone = Settings { endpoints: vec![one], ..settings };
        put(&Etcd::connect(&alone).await?, "key", "0").await?;
        Ok(())
    })
}
