//! What an agent knew outlives it: killed and started again, it answers as before though its cluster cannot be read, by
//! what it kept or by what a sibling gives it. A snapshot that cannot be used is refused, and said.

use crate::{
    WEB,
    daemon::{Daemon, Ended, Scene, wait},
};
use serde_json::Value;
use std::{fs, path::Path};

/// What a file holds that cannot be read: it may hold anything.
const UNREADABLE: &str = "kind: [\n";

/// A configuration that keeps a snapshot in this directory.
fn keeping(directory: &Path, more: &str) -> String {
    format!("snapshot: {{directory: {}{more}}}\n", directory.display())
}

/// Starts an agent that sees one service, and kills it once that is in its snapshot; what it said last.
fn one_life(scene: &Scene, cluster: &Path, config: &str) -> Value {
    fs::write(cluster.join("web.yaml"), WEB).unwrap();
    let daemon = Daemon::start_with(scene, cluster, config);
    daemon.answers("web.demo.global", &["10.1.0.1"]);
    written(&daemon)
}

/// Waits until everything is written; the status then.
fn written(daemon: &Daemon) -> Value {
    daemon.wait_until("its snapshot is whole", |status| {
        let is_published = status["clusters"]["east"]["synced"] == true && status["local"] == 0;
        let is_written = status["snapshot"]["position"] == status["store"]["position"];
        is_published && is_written && status["snapshot"]["state"] == "kept"
    })
}

fn inspect(scene: &Scene, path: &Path, more: &[&str]) -> Ended {
    scene.command(&[&["snapshot", "inspect", path.to_str().unwrap(), "-o", "json"], more].concat())
}

#[test]
fn a_killed_agent_answers_as_before_though_its_cluster_cannot_be_read() {
    let scene = Scene::new();
    let (cluster, kept) = (scene.cluster("east", &[]), scene.path().join("kept"));
    let config = keeping(&kept, "");
    let before = one_life(&scene, &cluster, &config);
    assert!(before["snapshot"]["began"].is_null(), "{before}");

    let inspected = inspect(&scene, &kept, &["--config", scene.path().join("config.yaml").to_str().unwrap()]);
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!((&inspected["accepted"], &inspected["kinds"]["slices"]), (&true.into(), &1.into()), "{inspected}");
    assert!(inspected["markers"]["east"].is_u64() && inspected["torn"] == false, "{inspected}");

    fs::write(cluster.join("web.yaml"), UNREADABLE).unwrap();
    let daemon = Daemon::start_with(&scene, &cluster, &config);
    daemon.answers("web.demo.global", &["10.1.0.1"]);
    let after = daemon.status();
    let file = kept.join("snapshot").display().to_string();
    assert_eq!(after["snapshot"]["began"], file, "{after}");
    let addresses = |status: &Value| status["services"]["demo/web"]["addresses"].clone();
    assert!(addresses(&before)[0].is_string(), "{before}");
    assert_eq!(addresses(&after), addresses(&before));
    let metrics = daemon.get("/metrics").1;
    assert!(metrics.contains("\nfederator_snapshot_bytes ") && metrics.contains("\nfederator_snapshot_age_seconds "));
    // It goes on being kept, in the store's later revisions.
    fs::write(cluster.join("web.yaml"), WEB.replace("10.1.0.1", "10.1.0.9")).unwrap();
    daemon.answers("web.demo.global", &["10.1.0.9"]);
    let last = written(&daemon);
    assert!(last["revision"].as_u64() > before["revision"].as_u64(), "{last}");
    drop(daemon);
    fs::write(cluster.join("web.yaml"), UNREADABLE).unwrap();
    Daemon::start_with(&scene, &cluster, &config).answers("web.demo.global", &["10.1.0.9"]);
}

#[test]
fn a_snapshot_that_cannot_be_used_is_refused_and_said() {
    let scene = Scene::new();
    let (cluster, kept) = (scene.cluster("east", &[]), scene.path().join("kept"));
    let file = kept.join("snapshot");
    let name = file.display().to_string();
    one_life(&scene, &cluster, &keeping(&kept, ""));
    let good = fs::read(&file).unwrap();

    let refused = |config: &str, says: &str| {
        fs::write(cluster.join("web.yaml"), UNREADABLE).unwrap();
        let daemon = Daemon::start_with(&scene, &cluster, config);
        let status = daemon.wait_until("it has looked at its cluster", |status| {
            status["clusters"]["east"]["observed"]["synced"] == true
        });
        let why = status["snapshot"]["refused"][&name].as_str().unwrap_or_default().to_owned();
        assert!(why.contains(says) && status["snapshot"]["began"].is_null(), "{says}: {}", status["snapshot"]);
        // Nothing of it is used.
        daemon.answers("web.demo.global", &[]);
        assert!(daemon.terminate().stderr.contains("snapshot refused; it is ignored"));
        fs::write(&file, &good).unwrap();
    };
    fs::write(&file, &good[..60]).unwrap();
    refused(&keeping(&kept, ""), "it is torn");
    let mut broken = good.clone();
    broken[90] ^= 1;
    fs::write(&file, &broken).unwrap();
    let inspected = inspect(&scene, &kept, &[]);
    assert_eq!(inspected.code, Some(1), "{inspected:?}");
    assert!(inspected.stderr.contains("it is broken at byte"), "{inspected:?}");
    refused(&keeping(&kept, ""), "it is broken");

    refused(
        &format!("{}store: {{etcd: {{endpoints: ['http://127.0.0.1:1']}}}}\n", keeping(&kept, "")),
        "it is foreign",
    );

    // As old as it takes is what time makes of it.
    wait("it is two seconds old", || {
        let inspected: Value = serde_json::from_str(&inspect(&scene, &kept, &[]).stdout)?;
        anyhow::ensure!(inspected["ageSeconds"].as_u64() > Some(2), "{inspected}");
        Ok(())
    });
    refused(&keeping(&kept, ", maxAgeSeconds: 1"), "it is too old");
}

#[test]
fn a_new_volume_is_filled_by_a_sibling() {
    let scene = Scene::new();
    let (cluster, kept) = (scene.cluster("east", &[]), scene.path().join("kept"));
    fs::write(cluster.join("web.yaml"), WEB).unwrap();
    let sibling = Daemon::start_with(&scene, &cluster, &keeping(&kept, ""));
    sibling.answers("web.demo.global", &["10.1.0.1"]);
    written(&sibling);

    let other = Scene::new();
    let unreadable = other.cluster("east", &[("web.yaml", UNREADABLE)]);
    let config = keeping(&other.path().join("kept"), &format!(", siblings: ['{}']", sibling.admin()));
    let daemon = Daemon::start_with(&other, &unreadable, &config);
    daemon.answers("web.demo.global", &["10.1.0.1"]);
    let status = daemon.status();
    assert_eq!(status["snapshot"]["began"], sibling.admin().to_string(), "{status}");
    written(&daemon);
    drop((daemon, sibling));
    // It has one of its own now.
    Daemon::start_with(&other, &unreadable, &config).answers("web.demo.global", &["10.1.0.1"]);
}
