//! The bed: clusters, pods, networks, partitions and parts that die are what the scenarios believe them to be.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use harness::{Cluster, Fleet, RecordType, ResponseCode, Result, SOON, eventually};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn every_cluster_has_three_nodes_in_three_zones() -> Result {
    Fleet::shared(async |fleet| {
        for cluster in fleet.clusters() {
            let nodes = Api::<Node>::all(cluster.client()).list(&ListParams::default()).await?;
            let zone = |node: &Node| node.labels().get("topology.kubernetes.io/zone").cloned();
            let zones: BTreeSet<_> = nodes.iter().filter_map(zone).collect();
            assert_eq!(zones, [1, 2, 3].map(|zone| format!("{}-{zone}", cluster.name())).into());
        }
        Ok(())
    })
}

#[test]
fn pods_spread_over_the_zones_and_follow_the_scale() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("pods").await?;
        let west = fleet.cluster("west");
        west.deploy(&ns, "web", 3, 8080).await?;

        let endpoints = west.endpoints(&ns, "web").await?;
        let zones: BTreeSet<_> = endpoints.iter().filter_map(|endpoint| endpoint.zone.as_deref()).collect();
        assert_eq!(zones, ["west-1", "west-2", "west-3"].into());
        let addresses: BTreeSet<_> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
        assert_eq!(addresses.len(), 3, "{endpoints:?}");
        assert!(addresses.iter().all(|address| address.starts_with("10.20.")), "{addresses:?}");

        west.scale(&ns, "web", 1).await?;
        assert_eq!(west.endpoints(&ns, "web").await?.len(), 1);
        Ok(())
    })
}

#[test]
fn a_pod_is_reached_from_its_own_network_only() -> Result {
    Fleet::shared(async |fleet| {
        let [east, west, south] = ["east", "west", "south"].map(|name| fleet.cluster(name));
        let ns = fleet.namespace("networks").await?;
        east.deploy(&ns, "web", 1, 8080).await?;
        let pod = SocketAddr::new(east.endpoints(&ns, "web").await?[0].address, 8080);

        let silent = west.place().connect(pod).await.unwrap_err();
        assert!(format!("{silent:#}").contains("refused"), "{silent:#}");

        let listener = east.place().listen(pod)?;
        let mut client = west.place().connect(pod).await?;
        listener.accept().await?.0.write_all(b"hello").await?;
        let mut said = String::new();
        client.read_to_string(&mut said).await?;
        assert_eq!(said, "hello");

        let elsewhere = south.place().connect(pod).await.unwrap_err();
        assert!(format!("{elsewhere:#}").contains("unreachable"), "{elsewhere:#}");
        Ok(())
    })
}

#[test]
fn istio_and_mcs_kinds_are_served() -> Result {
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("kinds").await?;
        let manifests = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec: {hosts: [web.test], ports: [{number: 80, name: http}], resolution: STATIC}
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: web}
";
        for cluster in fleet.clusters() {
            cluster.apply(&ns, manifests).await?;
        }
        Ok(())
    })
}

#[test]
fn coredns_answers_for_its_own_cluster() -> Result {
    Fleet::shared(async |fleet| {
        for cluster in fleet.clusters() {
            let name = "kubernetes.default.svc.cluster.local";
            for reply in [cluster.dig(name, RecordType::A).await?, cluster.dns().tcp(name, RecordType::A).await?] {
                assert_eq!(reply.addresses(), [api_service(cluster)].into(), "{reply}");
                assert!(reply.authoritative, "{reply}");
            }
            let unknown = cluster.dig("nobody.default.svc.cluster.local", RecordType::A).await?;
            assert_eq!(unknown.code, ResponseCode::NXDomain);
            assert!(unknown.soa.is_some());
        }
        let [east, south] = ["east", "south"].map(|name| fleet.cluster(name));
        let remote = south.place().resolver(east.place().port(53));
        let reply = remote.udp("kubernetes.default.svc.cluster.local", RecordType::A).await?;
        assert_eq!(reply.addresses(), [api_service(east)].into(), "{reply}");
        Ok(())
    })
}

#[test]
fn a_cut_separates_two_places_and_no_others() -> Result {
    Fleet::exclusive(async |fleet| {
        let [east, west, south] = ["east", "west", "south"].map(|name| fleet.cluster(name));
        let cut = fleet.cut("east", "west")?;
        assert!(!sees(east, west).await);
        assert!(!sees(west, east).await);
        for (from, to) in [(east, south), (south, east), (west, south), (south, west)] {
            assert!(sees(from, to).await, "{} does not see {}", from.name(), to.name());
        }
        for cluster in [east, west] {
            cluster.ready().await?;
            let store = fleet.store().endpoint();
            let store: SocketAddr = store.trim_start_matches("http://").parse()?;
            cluster.place().connect(store).await?;
        }

        cut.heal()?;
        assert!(sees(east, west).await);
        assert!(sees(west, east).await);
        Ok(())
    })
}

#[test]
fn a_cluster_survives_the_death_of_its_etcd() -> Result {
    Fleet::exclusive(async |fleet| {
        let ns = fleet.namespace("etcd").await?;
        let east = fleet.cluster("east");
        east.apply(&ns, "{apiVersion: v1, kind: ConfigMap, metadata: {name: before}}").await?;

        east.component("etcd")?.kill()?;
        east.component("etcd")?.start()?;
        east.ready().await?;

        Api::<ConfigMap>::namespaced(east.client(), &ns).get("before").await?;
        east.deploy(&ns, "web", 1, 8080).await
    })
}

#[test]
fn a_paused_api_server_is_silent_and_comes_back() -> Result {
    Fleet::exclusive(async |fleet| {
        let south = fleet.cluster("south");
        south.component("kube-apiserver")?.pause()?;
        let silent = tokio::time::timeout(Duration::from_millis(500), south.client().apiserver_version()).await;
        assert!(silent.is_err(), "{silent:?}");

        south.component("kube-apiserver")?.resume()?;
        eventually(SOON, "the API server answers", async || Ok(south.client().apiserver_version().await?)).await?;
        Ok(())
    })
}

#[test]
fn whatever_an_exclusive_test_kills_is_mended_after_it() -> Result {
    Fleet::exclusive(async |fleet| {
        for name in ["kube-apiserver", "kube-controller-manager", "coredns"] {
            fleet.cluster("west").component(name)?.kill()?;
        }
        fleet.store().etcd().pause()
    })?;
    Fleet::shared(async |fleet| {
        let ns = fleet.namespace("mended").await?;
        fleet.cluster("west").deploy(&ns, "web", 2, 8080).await?;
        fleet.store().ready().await
    })
}

#[test]
fn the_store_keeps_what_it_has_until_it_is_wiped() -> Result {
    Fleet::exclusive(async |fleet| {
        let store = fleet.store();
        let mut client = store.client().await?;
        client.put("/harness/kept", "1", None).await?;

        store.etcd().kill()?;
        assert!(client.get("/harness/kept", None).await.is_err());
        store.etcd().start()?;
        store.ready().await?;
        assert_eq!(client.get("/harness/kept", None).await?.kvs().len(), 1);

        store.wipe().await?;
        let empty =
            eventually(SOON, "the client is connected again", async || Ok(client.get("/harness/kept", None).await?));
        assert_eq!(empty.await?.kvs().len(), 0);
        Ok(())
    })
}

/// Whether a connection from one cluster reaches the other's API server.
async fn sees(from: &Cluster, to: &Cluster) -> bool {
    from.place().connect(to.place().port(6443)).await.is_ok()
}

/// The ClusterIP of the API server: the first address of the cluster's service range.
fn api_service(cluster: &Cluster) -> std::net::IpAddr {
    let digit = cluster.place().address().octets()[3];
    std::net::Ipv4Addr::new(10, digit * 10 + 1, 0, 1).into()
}
