//! Proves that a directory becomes what is desired by writing differences alone, that files of others stay as they
//! are, and that nothing half-written is left behind.

use super::*;
use crate::emit::{
    object::{API_VERSION, On},
    service_entry::{Port, ServiceEntry},
};
use std::{future::Future, time::Duration};
use tempfile::TempDir;

fn key(name: &str) -> ObjectKey {
    ObjectKey { kind: Kind::ServiceEntry, namespace: "mesh".into(), name: name.into() }
}

fn entry(host: &str) -> Desired {
    let port = |name: &'static str| Port { name: name.into(), number: 80, protocol: "HTTP" };
    let entry = ServiceEntry {
        hosts: vec![host.to_owned()],
        // Each of these would be something else without quotes.
        addresses: vec!["240.64.0.1".to_owned(), "fd00::".to_owned()],
        ports: ["on", "1e3", "null", "0o7", "1:30"].map(port).to_vec(),
        ..ServiceEntry::default()
    };
    entry.into()
}

/// A directory, what is desired of it, and how that stands.
struct Bench {
    home: TempDir,
    desired: Tracked<ObjectKey, Desired>,
    sender: watch::Sender<Tracked<ObjectKey, Desired>>,
    status: watch::Receiver<Status>,
}

impl Bench {
    /// A bench, and the run that it has to be driven by.
    fn new(files: &[(&str, &str)]) -> (Self, impl Future<Output = io::Result<()>> + use<>) {
        let home = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(home.path().join(name), text).unwrap();
        }
        let (sender, receiver) = watch::channel(Tracked::default());
        let (status, seen) = watch::channel(Status::default());
        let running = run(home.path().to_owned(), receiver, status);
        let bench = Self { home, desired: Tracked::default(), sender, status: seen };
        (bench, running)
    }

    /// Desires this and waits until it is seen to.
    async fn want(&mut self, changes: &[(&str, Option<Desired>)]) -> Status {
        for (name, desired) in changes {
            self.desired.set(key(name), desired.clone());
        }
        self.status.mark_unchanged();
        self.sender.send_replace(self.desired.clone());
        self.status.changed().await.unwrap();
        self.status.borrow_and_update().clone()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.home.path().join(name)).unwrap()
    }
}

/// Runs the stage beside the test until the test is through.
async fn beside(running: impl Future<Output = io::Result<()>>, test: impl Future<Output = ()>) {
    let both = async {
        tokio::select! {
            biased;
            end = running => panic!("it ends with what it is given: {end:?}"),
            () = test => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(600), both).await.expect("the state that is waited for");
}

/// What a run that was before has written.
fn written(desired: &Desired, name: &str) -> String {
    yaml::text(&key(name), desired)
}

#[tokio::test(start_paused = true)]
async fn only_differences_are_written() {
    let old = written(&entry("same"), "same").replace("\"7\"", "\"3\"");
    let (mut bench, running) = Bench::new(&[
        ("serviceentry_mesh_same.yaml", &old),
        ("serviceentry_mesh_other.yaml", &written(&entry("before"), "other")),
        ("serviceentry_mesh_orphan.yaml", &written(&entry("orphan"), "orphan")),
    ]);
    beside(running, async {
        let all = [("same", Some(entry("same"))), ("other", Some(entry("after"))), ("new", Some(entry("new")))];
        let status = bench.want(&all).await;
        assert_eq!((status.in_place, status.writes, status.failures), (3, 3, 0));
        assert_eq!(
            bench.files(),
            ["serviceentry_mesh_new.yaml", "serviceentry_mesh_other.yaml", "serviceentry_mesh_same.yaml"]
        );
        assert_eq!(bench.text("serviceentry_mesh_same.yaml"), old, "not rewritten for another revision");
        assert_eq!(bench.text("serviceentry_mesh_other.yaml"), written(&entry("after"), "other"));
        let status = bench.want(&[("new", None)]).await;
        assert_eq!((status.in_place, status.writes), (2, 4));
        assert_eq!(bench.files(), ["serviceentry_mesh_other.yaml", "serviceentry_mesh_same.yaml"]);
    })
    .await;
}

#[test]
fn what_is_written_reads_as_what_was_meant() {
    let home = TempDir::new().unwrap();
    let (want, at) = (entry("a"), key("a"));
    let fresh = || Home { directory: home.path().to_owned(), left: HashMap::new() };
    let mut writer = fresh();
    assert!(writer.settle(&at, Some(&want)).unwrap());
    let text = fs::read_to_string(home.path().join(file_name(&at))).unwrap();
    let object: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(object, serde_json::to_value(want.object(&at, API_VERSION, On::Anything)).unwrap());
    assert!(read(&home.path().join(file_name(&at))).unwrap().ours);
    assert!(!writer.settle(&at, Some(&want)).unwrap(), "a plan settles");
    assert!(!fresh().settle(&at, Some(&want)).unwrap(), "and that of who comes later");
    assert!(writer.settle(&at, None).unwrap());
    assert!(!writer.settle(&at, None).unwrap(), "what is gone need not be removed");
}

#[test]
fn what_others_do_to_a_file_is_seen_when_its_object_changes() {
    let home = TempDir::new().unwrap();
    let (at, path) = (key("a"), home.path().join(file_name(&key("a"))));
    let mut writer = Home { directory: home.path().to_owned(), left: HashMap::new() };
    assert!(writer.settle(&at, Some(&entry("a"))).unwrap());
    fs::write(&path, written(&entry("elsewhere"), "a")).unwrap();
    assert!(writer.settle(&at, Some(&entry("a"))).unwrap(), "ours is put right");
    fs::write(&path, "theirs: now").unwrap();
    assert!(writer.settle(&at, Some(&entry("b"))).is_err());
    assert!(!writer.settle(&at, None).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs: now");
}

#[tokio::test(start_paused = true)]
async fn files_of_others_are_left_alone() {
    let theirs = written(&entry("a"), "a").replace("federator\n", "helm\n");
    let (mut bench, running) = Bench::new(&[
        ("serviceentry_mesh_a.yaml", &theirs),
        ("serviceentry_mesh_b.yaml", "no object: at all"),
        ("README.md", "hello"),
        ("kustomization.yaml", "resources: []"),
        (".serviceentry_mesh_c.yaml.swp", "an editor's"),
    ]);
    let before = bench.files();
    beside(running, async {
        let status = bench.want(&[("a", Some(entry("a"))), ("b", None)]).await;
        assert_eq!((status.in_place, status.writes), (0, 0));
        assert_eq!(
            status.troubles.iter().next().map(|(at, why)| format!("{at}: {why}")).unwrap(),
            "ServiceEntry mesh/a: a file of this name is somebody else's"
        );
        assert_eq!(bench.files(), before);
        assert_eq!(bench.text("serviceentry_mesh_a.yaml"), theirs);
        // Once they take it away, ours is written without anything else to tell of.
        fs::remove_file(bench.home.path().join("serviceentry_mesh_a.yaml")).unwrap();
        let done = |status: &Status| status.in_place == 1 && status.troubles.is_empty();
        bench.status.wait_for(done).await.unwrap();
        assert_eq!(bench.text("serviceentry_mesh_a.yaml"), written(&entry("a"), "a"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_half_written_is_left() {
    let (mut bench, running) = Bench::new(&[(".serviceentry_mesh_a.yaml.tmp", "apiVersion: netw")]);
    // In the way of the file, so that it cannot be put in its place.
    fs::create_dir(bench.home.path().join("serviceentry_mesh_b.yaml")).unwrap();
    beside(running, async {
        let status = bench.want(&[("b", Some(entry("b")))]).await;
        assert_eq!((status.in_place, status.failures), (0, 1));
        assert_eq!(bench.files(), ["serviceentry_mesh_b.yaml"]);
    })
    .await;
    let away = TempDir::new().unwrap().path().join("away");
    let mut nowhere = Home { directory: away, left: HashMap::new() };
    assert!(nowhere.settle(&key("a"), Some(&entry("a"))).is_err(), "nowhere to write to");
}

#[tokio::test(start_paused = true)]
async fn before_the_first_projection_nothing_is_removed() {
    let orphan = written(&entry("a"), "a");
    let (bench, running) = Bench::new(&[("serviceentry_mesh_a.yaml", &orphan)]);
    let Bench { home, sender, .. } = bench;
    drop(sender);
    running.await.unwrap();
    assert_eq!(fs::read_to_string(home.path().join("serviceentry_mesh_a.yaml")).unwrap(), orphan);
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_made() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("a/b");
    let (sender, receiver) = watch::channel(Tracked::default());
    let (status, _) = watch::channel(Status::default());
    drop(sender);
    run(path.clone(), receiver, status).await.unwrap();
    assert!(path.is_dir());
}
