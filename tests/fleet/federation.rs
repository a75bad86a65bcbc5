//! Three real clusters answer as one, and one revision runs through all of it: from a Deployment in one cluster to
//! the answers of CoreDNS and the ServiceEntries of another.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use harness::{Agent, Cluster, Fleet, RecordType, ResponseCode, Result, SOON, eventually};
use k8s_openapi::api::core::v1::Service;
use kube::api::{ApiResource, DeleteParams, DynamicObject};
use kube::{Api, ResourceExt as _};
use serde_json::Value;

/// The pods of a service in a cluster that take traffic.
pub(crate) async fn pods(cluster: &Cluster, ns: &str, service: &str) -> Result<BTreeSet<IpAddr>> {
    let endpoints = cluster.endpoints(ns, service).await?;
    Ok(endpoints.into_iter().filter(|endpoint| endpoint.ready).map(|endpoint| endpoint.address).collect())
}

/// Waits until a cluster's own CoreDNS answers exactly these addresses.
pub(crate) async fn answers(cluster: &Cluster, name: &str, expected: &BTreeSet<IpAddr>) -> Result {
    let what = format!("{name} in {} is {expected:?}", cluster.name());
    eventually(SOON, &what, async || {
        let reply = cluster.dig(name, RecordType::A).await?;
        ensure!(reply.addresses() == *expected, "{reply}");
        Ok(())
    })
    .await
}

/// Waits until all agents hold one View, byte for byte, and say so everywhere. Returns its revision.
pub(crate) async fn converged(agents: &[&Agent]) -> Result<u64> {
    eventually(SOON, "all agents hold one View", async || {
        let mut seen = BTreeSet::new();
        for agent in agents {
            let (view, status) = (agent.view().await?, agent.status().await?);
            let revision = status["revision"].as_u64().context("a revision")?;
            let digest = status["digest"].as_str().context("a digest")?.to_owned();
            let metrics = agent.metrics().await?;
            ensure!(metrics.contains(&format!("\nfederator_revision {revision}\n")), "metric at {revision}");
            let txt = agent.dig("_revision.global", RecordType::TXT).await?;
            ensure!(txt.answers.iter().any(|a| a.data.trim_matches('"') == revision.to_string()), "{txt}");
            seen.insert((view, revision, digest));
        }
        match seen.pop_first() {
            Some((_, revision, _)) if seen.is_empty() => Ok(revision),
            _ => bail!("{} different Views", seen.len() + 1),
        }
    })
    .await
}

/// The ServiceEntry of a host in a cluster.
pub(crate) async fn service_entry(cluster: &Cluster, ns: &str, host: &str) -> Result<DynamicObject> {
    service_entry_in("v1", cluster, ns, host).await
}

/// The same, in a version of the API.
pub(crate) async fn service_entry_in(version: &str, cluster: &Cluster, ns: &str, host: &str) -> Result<DynamicObject> {
    let gvk = kube::core::GroupVersionKind::gvk("networking.istio.io", version, "ServiceEntry");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "serviceentries");
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), ns, &resource);
    api.get(host).await.with_context(|| format!("ServiceEntry {ns}/{host} in {}", cluster.name()))
}

/// The endpoint addresses of a ServiceEntry.
pub(crate) fn entry_addresses(entry: &DynamicObject) -> BTreeSet<IpAddr> {
    let endpoints = entry.data.pointer("/spec/endpoints").and_then(Value::as_array).cloned().unwrap_or_default();
    endpoints.iter().filter_map(|endpoint| endpoint["address"].as_str()?.parse().ok()).collect()
}

#[test]
fn three_clusters_answer_as_one() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("one").await?;
        let [east, west, south] = ["east", "west", "south"].map(|name| fleet.cluster(name));
        south.apply("", "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}").await?;
        east.deploy(&ns, "web", 2, 8080).await?;
        west.deploy(&ns, "web", 3, 8080).await?;
        let start = async |name| fleet.agent(name).emitting().start().await;
        let agents: [Agent; 3] = futures::try_join!(start("east"), start("west"), start("south"))?.into();
        let [in_east, in_west, in_south] = &agents;
        let name = format!("web.{ns}.global");

        // East and west share a network: each answers the pods of both.
        let both: BTreeSet<_> = pods(east, &ns, "web").await?.union(&pods(west, &ns, "web").await?).copied().collect();
        assert_eq!(both.len(), 5, "{both:?}");
        answers(east, &name, &both).await?;
        answers(west, &name, &both).await?;
        let srv = in_east.dig(&format!("_http._tcp.{name}"), RecordType::SRV).await?;
        assert_eq!(srv.answers.len(), 1, "{srv}");
        assert!(srv.answers[0].data.ends_with(&format!("8080 {name}.")), "{srv}");

        // South is on another network: the name is known there, has nothing to give, and status says why.
        let status = in_south
            .wait_until("it knows both exports", |status| {
                status["services"][format!("{ns}/web")]["exports"].as_array().is_some_and(|e| e.len() == 2)
            })
            .await?;
        let nodata = south.dig(&name, RecordType::A).await?;
        assert_eq!((nodata.code, nodata.answers.len()), (ResponseCode::NoError, 0), "{nodata}");
        assert!(nodata.soa.is_some(), "{nodata}");
        let left_out = status["services"][format!("{ns}/web")]["leftOut"].to_string();
        assert!(left_out.contains("on network n1, and no gateway into it is known"), "{left_out}");
        let unknown = south.dig(&format!("nobody.{ns}.global"), RecordType::A).await?;
        assert_eq!(unknown.code, ResponseCode::NXDomain, "{unknown}");

        // The virtual address is the same everywhere.
        let mut vips = BTreeSet::new();
        for cluster in [east, west, south] {
            let reply = cluster.vip_dns().udp(&name, RecordType::A).await?;
            assert_eq!(reply.addresses().len(), 1, "{reply}");
            vips.extend(reply.addresses());
        }
        assert_eq!(vips.len(), 1, "{vips:?}");

        // The ServiceEntries say the same, with locality, network, cluster and virtual address.
        for cluster in [east, west] {
            let entry = eventually(SOON, "the entry holds both", async || {
                let entry = service_entry(cluster, &ns, &name).await?;
                ensure!(entry_addresses(&entry) == both, "{:?}", entry.data);
                Ok(entry)
            })
            .await?;
            let spec = &entry.data["spec"];
            assert_eq!(spec["addresses"], serde_json::json!(vips), "{spec}");
            for endpoint in spec["endpoints"].as_array().unwrap() {
                let home = endpoint["labels"]["federator.io/cluster"].as_str().unwrap();
                assert!(endpoint["locality"].as_str().unwrap().starts_with(&format!("{home}/{home}-")), "{endpoint}");
                assert_eq!(endpoint["network"], "n1", "{endpoint}");
            }
            let revision: u64 = entry.annotations()["federator.io/revision"].parse()?;
            assert!(revision <= converged(&[in_east, in_west, in_south]).await?);
        }
        let entry =
            eventually(SOON, "south has an entry", async || service_entry(south, "istio-system", &name).await).await?;
        assert_eq!(entry_addresses(&entry), BTreeSet::new(), "no pod of another network");

        // A change in one cluster reaches the others.
        west.scale(&ns, "web", 1).await?;
        let fewer: BTreeSet<_> = pods(east, &ns, "web").await?.union(&pods(west, &ns, "web").await?).copied().collect();
        assert_eq!(fewer.len(), 3, "{fewer:?}");
        answers(east, &name, &fewer).await?;
        // Has everybody caught up with what east answers? That is a comparison of two integers.
        let revision = in_east.revision().await?;
        for agent in &agents {
            agent.wait_for(revision).await?;
        }
        converged(&[in_east, in_west, in_south]).await?;
        Ok(())
    })
}

#[test]
fn an_object_of_somebody_else_is_left_alone() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("foreign").await?;
        let north = fleet.spare().await?;
        ns.add_to(&north).await?;
        let host = format!("web.{ns}.global");
        let theirs = format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {host}}}
spec: {{hosts: [web.test], ports: [{{number: 80, name: http}}], resolution: STATIC}}
"
        );
        north.apply(&ns, &theirs).await?;
        north.deploy(&ns, "web", 1, 8080).await?;
        let agent = fleet.agent_of(&north).embedded().emitting().start().await?;
        let key = format!("ServiceEntry {ns}/{host}");
        agent
            .wait_until("it names the foreign object", |status| {
                status["emit"]["troubles"][&key].as_str().is_some_and(|why| why.contains("somebody else's"))
            })
            .await?;
        let entry = service_entry(&north, &ns, &host).await?;
        assert_eq!(entry.data["spec"]["hosts"], serde_json::json!(["web.test"]));

        // It is ours once its owner says so, and goes with what it is for.
        let adopt = "metadata: {annotations: {federator.io/adopt: \"true\"}, ";
        north.apply(&ns, &theirs.replace("metadata: {", adopt)).await?;
        let ours = async || {
            let entry = service_entry(&north, &ns, &host).await?;
            ensure!(entry.data["spec"]["hosts"] == serde_json::json!([host]), "{}", entry.data);
            Ok(())
        };
        eventually(SOON, "the object is ours", ours).await?;
        agent.wait_until("nothing is said of it", |status| status["emit"]["troubles"][&key].is_null()).await?;
        Api::<Service>::namespaced(north.client(), &ns).delete("web", &DeleteParams::default()).await?;
        eventually(SOON, "it is gone", async || {
            let entry = service_entry(&north, &ns, &host).await;
            ensure!(entry.is_err(), "it is still there");
            Ok(())
        })
        .await
    })
}
