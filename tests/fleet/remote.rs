//! What a cluster gives to agents of others, and how it can be taken away: credentials, Secrets, a way that breaks.

use std::time::Duration;

use anyhow::{bail, ensure};
use harness::{Fleet, Request, Result, SOON, eventually};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::timeout;

/// More than an answer takes on a busy machine.
const ANSWER: Duration = Duration::from_millis(500);

#[test]
fn a_reader_has_its_rights_and_loses_them() -> Result {
    Fleet::shared(async |fleet| {
        let mut reader = fleet.cluster("west").reader("reader").await?;
        let client = reader.client().await?;
        assert_eq!(refusal(list(&client).await)?, None);
        let secrets = Api::<Secret>::all(client.clone()).list(&ListParams::default()).await;
        assert_eq!(refusal(secrets.map(drop))?, Some(403));

        reader.without("list", "services").await?;
        assert_eq!(refusal(list(&client).await)?, Some(403));
        Api::<Service>::namespaced(client.clone(), "default").get("kubernetes").await?;
        assert!(reader.without("delete", "services").await.is_err(), "it never had that");
        reader.restore().await?;
        assert_eq!(refusal(list(&client).await)?, None);

        // The log of requests is this reader's own.
        let seen = reader.requests()?;
        let lists = seen.iter().filter(|request| (&*request.verb, &*request.resource) == ("list", "services"));
        assert_eq!(lists.count(), 3, "{seen:?}");
        let is_known = |request: &Request| request.uri.starts_with("/api");
        assert!(seen.iter().all(is_known), "{seen:?}");

        reader.revoke().await?;
        reader.refused().await?;
        assert_eq!(refusal(list(&client).await)?, Some(401));
        reader.renew().await?;
        assert_eq!(refusal(list(&reader.client().await?).await)?, None);
        Ok(())
    })
}

#[test]
fn a_remote_secret_is_what_istioctl_writes() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("remote").await?;
        let east = fleet.cluster("east");
        let reader = fleet.cluster("west").reader("reader").await?;
        let kubeconfig = reader.kubeconfig()?;
        let secret = east.remote_secret(&ns, "istio-remote-secret-west", &[("west", &kubeconfig)]).await?;

        let secrets = Api::<Secret>::namespaced(east.client(), &ns);
        let marked = ListParams::default().labels("istio/multiCluster=true");
        let found = secrets.list(&marked).await?.items;
        let [only] = &found[..] else { bail!("{found:?}") };
        let data = only.data.as_ref().unwrap();
        assert_eq!(data["west"].0, kubeconfig.as_bytes());
        assert_eq!(only.metadata.annotations.as_ref().unwrap()["networking.istio.io/cluster"], "west");

        secret.replace(&[("west", "one"), ("south", "two")]).await?;
        let changed = secrets.get("istio-remote-secret-west").await?;
        assert_eq!(changed.data.unwrap().into_keys().collect::<Vec<_>>(), ["south", "west"]);
        secret.change(|secret| secret.metadata.labels = None).await?;
        assert!(secrets.list(&marked).await?.items.is_empty());
        secret.delete().await?;
        assert!(secrets.get_opt("istio-remote-secret-west").await?.is_none());
        secret.create(&[("west", &kubeconfig)]).await
    })
}

#[test]
fn a_proxy_breaks_connections_in_three_ways() -> Result {
    Fleet::shared(async |fleet| {
        let west = fleet.cluster("west");
        let reader = west.reader("reader").await?;
        let proxy = west.proxy()?;
        let client = reader.client_at(&proxy.url()).await?;
        list(&client).await?;
        assert_eq!((proxy.accepted(), proxy.open()), (1, 1));

        // What is held back arrives later, on the connection that was silent.
        proxy.stall();
        let mut waiting = Box::pin(list(&client));
        assert!(timeout(ANSWER, &mut waiting).await.is_err(), "it is silent");
        proxy.resume();
        waiting.await?;
        assert_eq!(proxy.accepted(), 1);

        // A connection that goes silent does not keep others from working.
        proxy.stall_open();
        assert!(timeout(ANSWER, list(&client)).await.is_err(), "it is silent");
        let other = reader.client_at(&proxy.url()).await?;
        list(&other).await?;
        assert!(proxy.accepted() >= 2);

        proxy.cut();
        assert!(list(&other).await.is_err());
        eventually(SOON, "no connection is left", async || {
            ensure!(proxy.open() == 0, "{} are open", proxy.open());
            Ok(())
        })
        .await?;
        proxy.resume();
        list(&other).await?;
        Ok(())
    })
}

#[test]
fn an_agent_with_its_own_store_shows_what_it_holds() -> Result {
    Fleet::shared(async |fleet| {
        let east = fleet.cluster("east");
        let reader = east.reader("reader").await?;
        let kubeconfig = reader.kubeconfig_file()?;
        let agent = fleet
            .agent("east")
            .embedded()
            .config(|config| {
                config["clusters"][0]["kubernetes"]["kubeconfig"] = kubeconfig.display().to_string().into();
            })
            .start()
            .await?;
        agent.ready().await?;
        agent.wait_until("it has read its cluster", |status| status["clusters"]["east"]["synced"] == true).await?;

        let api_server = east.place().port(6443);
        let connections = agent.connections()?;
        assert!(connections.contains(&api_server), "{connections:?}");
        let leaks = agent.leaks()?;
        assert!(leaks.files > 10 && leaks.threads > 1 && leaks.resident > 1 << 20, "{leaks:?}");
        assert!(leaks.connections >= 1 && leaks.peak >= leaks.resident, "{leaks:?}");
        let requests = reader.requests()?;
        assert!(requests.iter().any(|request| request.verb == "watch"), "{requests:?}");
        Ok(())
    })
}

async fn list(client: &Client) -> kube::Result<()> {
    let first = ListParams::default().limit(1);
    Api::<Service>::all(client.clone()).list(&first).await?;
    Api::<Namespace>::all(client.clone()).list(&first).await.map(drop)
}

/// The code by which the API server refuses, if it does.
fn refusal(outcome: kube::Result<()>) -> Result<Option<u16>> {
    match outcome {
        Ok(()) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.code)),
        Err(error) => Err(error.into()),
    }
}
