//! The shared store forgets everything, or what was written last. What agents know, and the store does not any more, is
//! told to it again: no address, no order and no removal is decided twice.

use std::collections::BTreeSet;

use harness::{Expected, Fleet, Result};

use super::{Scene, owns};
use crate::federation::converged;
use crate::membership::{all_pods, told};

#[test]
fn etcd_loses_everything() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "wiped").await?;
        scene.observer.store_forgets();
        fleet.store().wipe().await?;
        scene.observer.note("etcd is empty");
        for (agent, cluster) in [(&scene.east, "east"), (&scene.south, "south")] {
            owns(agent, cluster).await?;
        }
        scene.store_is("followed").await?;
        scene.change("west", 3).await?;
        scene.change("east", 1).await?;
        scene.endure().await?;
        scene.end().await
    })
}

#[test]
fn etcd_goes_back_to_a_backup() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "rolled-back").await?;
        let backup = fleet.store().snapshot()?;
        scene.observer.note("a backup is made");

        // What the backup lacks: a service with its address and its order, a pod, and that another pod has gone.
        for cluster in ["west", "east"] {
            fleet.cluster(cluster).deploy(&scene.ns, "late", 1, 8080).await?;
            scene.everywhere("late").await?;
        }
        scene.expect("late").await?;
        scene.change("west", 3).await?;
        scene.change("east", 1).await?;
        converged(&scene.agents()).await?;

        scene.observer.store_forgets();
        fleet.store().restore(&backup).await?;
        scene.observer.note("etcd has gone back");
        for (agent, cluster) in [(&scene.east, "east"), (&scene.south, "south")] {
            owns(agent, cluster).await?;
        }
        scene.store_is("followed").await?;
        scene.everywhere("late").await?;
        scene.endure().await?;
        scene.change("west", 2).await?;
        scene.end().await
    })
}

#[test]
fn a_removed_cluster_stays_removed_when_etcd_goes_back() -> Result {
    Fleet::exclusive(async |fleet| {
        let scene = Scene::new(fleet, "unremoved").await?;
        let backup = fleet.store().snapshot()?;
        let east = fleet.cluster("east");
        let own = [all_pods(&[east], &scene.ns, "web").await?, all_pods(&[east], &scene.ns, "still").await?];
        for (service, own) in ["web", "still"].into_iter().zip(&own) {
            let all = &scene.pods(service).await?[0];
            scene.observer.expect(&scene.name(service), "n1", Expected::between(own, all));
        }
        let config = scene.east.config_file().display().to_string();
        scene.observer.note("west is removed");
        east.federator(["cluster", "remove", "west", "--config", &config])?.done()?;
        let without_west = async || -> Result {
            for agent in [&scene.east, &scene.west, &scene.replica] {
                for (service, own) in ["web", "still"].into_iter().zip(&own) {
                    told(agent, &scene.name(service), own).await?;
                }
            }
            converged(&scene.agents()).await.map(drop)
        };
        without_west().await?;
        for (service, own) in ["web", "still"].into_iter().zip(&own) {
            scene.observer.expect(&scene.name(service), "n1", Expected::exactly(own));
        }

        scene.observer.store_forgets();
        fleet.store().restore(&backup).await?;
        scene.observer.note("etcd has gone back to before the removal");
        owns(&scene.east, "east").await?;
        scene.store_is("followed").await?;
        scene.endure().await?;
        without_west().await?;

        scene.observer.note("west is readmitted");
        for service in ["web", "still"] {
            let [all, _] = scene.pods(service).await?;
            scene.observer.expect(&scene.name(service), "n1", Expected::between(&BTreeSet::new(), &all));
        }
        east.federator(["cluster", "readmit", "west", "--config", &config])?.done()?;
        scene.everywhere("web").await?;
        scene.expect("web").await?;
        scene.everywhere("still").await?;
        scene.expect("still").await?;
        scene.end().await
    })
}
