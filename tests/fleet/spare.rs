//! A cluster that can be destroyed: what an API server says after its etcd went back, and who is shut out by a new
//! authority. These are facts about Kubernetes that the scenarios build on.

use anyhow::ensure;
use harness::{Cluster, Fleet, RestartApiServer, Result, SOON, eventually};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::Api;
use kube::api::ListParams;

#[test]
fn an_api_server_lies_after_its_etcd_went_back() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("back").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        north.deploy(&ns, "web", 2, 8080).await?;
        let snapshot = north.snapshot()?;
        add(&north, &ns, "after").await?;

        north.restore(&snapshot, RestartApiServer::No).await?;
        assert!(!has(&north, &ns, "after").await?, "GET tells the truth");
        assert!(lists(&north, &ns, "after").await?, "LIST does not");

        north.restore(&snapshot, RestartApiServer::Yes).await?;
        assert!(!has(&north, &ns, "after").await?);
        assert!(!lists(&north, &ns, "after").await?);
        assert_eq!(north.endpoints(&ns, "web").await?.len(), 2);
        north.deploy(&ns, "api", 1, 8080).await?;
        north.scale(&ns, "web", 3).await
    })
}

#[test]
fn a_wiped_cluster_is_another_one() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("wiped").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        let before = identity(&north).await?;

        north.wipe_etcd(RestartApiServer::No).await?;
        assert!(lists(&north, "kube-system", "kube-root-ca.crt").await?, "it lies");
        assert!(!has(&north, "kube-system", "kube-root-ca.crt").await?);

        north.wipe_etcd(RestartApiServer::Yes).await?;
        assert_ne!(identity(&north).await?, before);
        north.furnish().await?;
        ns.add_to(&north).await?;
        north.deploy(&ns, "web", 1, 8080).await
    })
}

#[test]
fn a_new_authority_shuts_out_who_trusts_the_old_one() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("authority").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        let reader = north.reader("reader").await?;
        let (open, old) = (reader.client().await?, reader.client().await?);
        open.apiserver_version().await?;

        let authority = north.rotate_ca().await?;
        open.apiserver_version().await?;
        let refused = old.apiserver_version().await.unwrap_err();
        let refused = format!("{:#}", anyhow::Error::from(refused));
        assert!(refused.contains("certificate"), "{refused}");
        reader.client().await?.apiserver_version().await?;

        // The bed goes on: administrators trust both, and Secrets of tokens get the new one.
        north.deploy(&ns, "web", 1, 8080).await?;
        let secrets = Api::<Secret>::namespaced(north.client(), "istio-system");
        eventually(SOON, "the Secret has the new authority", async || {
            let all = secrets.list(&ListParams::default()).await?;
            let authorities = all.iter().filter_map(|secret| secret.data.as_ref()?.get("ca.crt"));
            ensure!(authorities.into_iter().any(|ca| ca.0 == authority.as_bytes()), "not yet");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_spare_cluster_is_on_the_network_of_east_and_can_be_cut_off() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("spare").await?;
        let east = fleet.cluster("east");
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        let pod = std::net::SocketAddr::new(north.endpoints(&ns, "web").await?[0].address, 8080);
        let _listener = north.place().listen(pod)?;
        east.place().connect(pod).await?;

        let api_server = north.place().port(6443);
        let cut = north.cut("east")?;
        assert!(east.place().connect(api_server).await.is_err());
        fleet.cluster("west").place().connect(api_server).await?;
        cut.heal()?;
        east.place().connect(api_server).await?;

        let agent = fleet.agent_of(&north).start().await?;
        agent.ready().await
    })
}

async fn add(cluster: &Cluster, ns: &str, name: &str) -> Result {
    cluster.apply(ns, &format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}")).await
}

async fn has(cluster: &Cluster, ns: &str, name: &str) -> Result<bool> {
    Ok(Api::<ConfigMap>::namespaced(cluster.client(), ns).get_opt(name).await?.is_some())
}

async fn lists(cluster: &Cluster, ns: &str, name: &str) -> Result<bool> {
    let all = Api::<ConfigMap>::namespaced(cluster.client(), ns).list(&ListParams::default()).await?;
    Ok(all.iter().any(|config_map| config_map.metadata.name.as_deref() == Some(name)))
}

/// What tells a cluster from every other one.
async fn identity(cluster: &Cluster) -> Result<Option<String>> {
    Ok(Api::<Namespace>::all(cluster.client()).get("kube-system").await?.metadata.uid)
}
