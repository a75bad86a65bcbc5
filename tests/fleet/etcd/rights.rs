//! `federator etcd init` against an etcd that asks for rights: agents can do their work, and nobody else's.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use federator::store::etcd::{Etcd, Settings};
use federator::store::{Store as _, StoreError};
use harness::{Fleet, Namespace, RecordType, Result, SOON, Said, Trio, eventually};
use serde_json::json;

use super::{settings, unavailable};
use crate::battery::{own, put, write};

#[test]
fn a_member_writes_what_is_its_own_and_nothing_of_others() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        let config = configuration(fleet, &trio)?;
        let deputy = ["--deputy", "south=west"];
        let done = init(fleet, &config, &["--apply", deputy[0], deputy[1]])?.done()?;
        ensure!(done.contains("\netcdctl role add fleet-east\n") && done.contains("It does not protect"), "{done}");

        for (user, key, may) in [
            ("east", "records/east/ns/svc/head", true),
            ("east", "clusters/east/owner", true),
            ("east", "order/ns/svc", true),
            ("east", "vips/hosts/svc.ns", true),
            ("east", "generation", true),
            ("east", "records/west/ns/svc/head", false),
            ("east", "clusters/west/synced", false),
            ("east", "tombstones/east", false),
            ("east", "tombstones/west", false),
            ("east", "other", false),
            ("south", "records/south/ns/svc/head", true),
            ("south", "records/west/ns/svc/head", true),
            ("south", "records/east/ns/svc/head", false),
            ("federator-admin", "tombstones/east", true),
            ("federator-admin", "records/east/ns/svc/head", true),
        ] {
            let store = of(&trio, user).await?;
            let written = put(&store, key, user).await.map(drop).map_err(unavailable);
            let refused = matches!(&written, Err(StoreError::Refused(why)) if why.contains("federator etcd init"));
            ensure!(if may { written.is_ok() } else { refused }, "{user} writes {key}: {written:?}");
            ensure!(store.read("").await.is_ok() && store.watch(1).await.is_ok(), "{user} reads everything");
        }
        // In one transaction with what it may write, and bound to a lease, it is refused as well.
        let east = of(&trio, "east").await?;
        let both = [("records/east/x", Some("")), ("records/west/x", Some(""))];
        ensure!(write(&east, [], both).await.is_err(), "east writes west's");
        let lease = east.lease().await?;
        own(&east, "clusters/east/candidates/a", "", &*lease).await?;
        ensure!(own(&east, "clusters/west/owner", "", &*lease).await.is_err(), "east owns west");

        // Again there is nothing to do; and who deputises no more cannot write any more.
        let again = init(fleet, &config, &["--apply", deputy[0], deputy[1]])?.done()?;
        ensure!(again.contains("nothing: all is as it should be"), "{again}");
        let less = init(fleet, &config, &["--apply"])?.done()?;
        ensure!(less.contains("revoke-permission fleet-south"), "{less}");
        let written = put(&of(&trio, "south").await?, "records/west/ns/svc/head", "").await;
        ensure!(written.is_err(), "south writes west's still");
        Ok(())
    })
}

#[test]
fn what_it_prints_are_commands_that_do_it() -> Result {
    Fleet::shared(async |fleet| {
        let trio = fleet.trio().start().await?;
        let printed = fleet.cluster("east").federator(["etcd", "init", "east", "west", "--root", "/fleet"])?.done()?;
        for line in printed.lines().filter(|line| !line.starts_with('#')) {
            let command = line.strip_prefix("etcdctl ").context("no command")?;
            trio.etcdctl(command.split(' ')).with_context(|| line.to_owned())?;
        }
        put(&of(&trio, "west").await?, "records/west/ns/svc/head", "").await?;
        ensure!(put(&of(&trio, "west").await?, "records/east/ns/svc/head", "").await.is_err(), "west writes east's");
        Ok(())
    })
}

#[test]
fn agents_with_these_rights_federate_and_an_administrator_removes_a_cluster() -> Result {
    Fleet::shared(async |fleet| {
        let ns: Namespace = fleet.namespace("rights").await?;
        let trio = fleet.trio().start().await?;
        let config = configuration(fleet, &trio)?;
        init(fleet, &config, &["--apply"])?.done()?;
        fleet.cluster("west").deploy(&ns, "web", 2, 8080).await?;
        let root = |config: &mut serde_json::Value| config["store"]["etcd"]["root"] = json!("/fleet");
        let west = fleet.agent("west").trio(&trio)?.config(root).start().await?;
        let east = fleet.agent("east").trio(&trio)?.config(root).start().await?;
        east.ready().await?;
        let name = format!("web.{ns}.global");
        let answers = async |count: usize| {
            eventually(SOON, "east answers for west", async || {
                let reply = east.dig(&name, RecordType::A).await?;
                ensure!(reply.addresses().len() == count, "{reply}");
                Ok(())
            })
            .await
        };
        answers(2).await?;
        let looked_after = |status: &serde_json::Value| {
            let store = &status["store"];
            store["advice"] == json!([]) && store["members"].as_object().is_some_and(|members| members.len() == 3)
        };
        east.wait_until("says how etcd is", looked_after).await?;
        ensure!(east.metrics().await?.contains("federator_store_db_bytes "), "and in metrics");

        // As the agent's user it may not, as the administrator it may.
        let of_east = east.config_file().display().to_string();
        let remove = |more: &[String]| {
            let line = ["cluster", "remove", "west", "--config", &of_east].map(str::to_owned);
            fleet.cluster("east").federator(line.iter().chain(more))
        };
        let refused = remove(&[])?;
        ensure!(refused.code == 1 && refused.err.contains("permission denied"), "{refused:?}");
        let files = trio.credentials("federator-admin")?;
        let set =
            |field: &str, path: PathBuf| [String::from("--set"), format!("store.etcd.tls.{field}={}", path.display())];
        let admin: Vec<_> = [set("certFile", files.cert), set("keyFile", files.key)].concat();
        remove(&admin)?.done()?;
        answers(0).await?;
        drop(west);
        Ok(())
    })
}

/// Runs `federator etcd init` for the three clusters.
fn init(fleet: &Fleet, config: &str, more: &[&str]) -> Result<Said> {
    let line = ["etcd", "init", "east", "west", "south", "--config", config];
    fleet.cluster("east").federator(line.iter().chain(more))
}

/// The configuration of an agent that is etcd's `root`.
fn configuration(fleet: &Fleet, trio: &Trio) -> Result<String> {
    let mut etcd = trio.config("root")?;
    etcd["root"] = json!("/fleet");
    let cluster = fleet.cluster("east");
    let config = json!({"cluster": "east", "clusters": [cluster.membership()], "store": {"etcd": etcd}});
    let tls = settings(trio, "root")?.tls.context("no TLS")?;
    let file = tls.ca.with_extension("yaml");
    fs::write(&file, serde_saphyr::to_string(&config)?)?;
    Ok(file.display().to_string())
}

/// The store as a user sees it.
async fn of(trio: &Trio, user: &str) -> Result<Etcd> {
    Ok(Etcd::connect(&Settings { root: "/fleet".to_owned(), ..settings(trio, user)? }).await?)
}
