//! Proves that a directory of manifests is read as it is edited: what cannot be read keeps what it last held, and
//! nothing vanishes on its way from one file to another.

use super::*;
use crate::testing::configured;
use model::locality::Network;
use serde_json::json;
use tempfile::TempDir;

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: {name}}}\n")
}

fn on_port(name: &str, port: &str) -> String {
    format!("{}spec: {{ports: [{{port: {port}}}]}}\n", service(name))
}

/// Some day. Files are from later, if nothing else is said of them.
fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// A directory with these files, and its observer.
struct Bench {
    home: TempDir,
    directory: Directory,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let home = TempDir::new().unwrap();
        let config = Config {
            path: home.path().join("manifests"),
            place: Place { network: Network::new("n"), ..Place::default() },
            vips: configured(serde_json::json!({})).vips,
            rules: watch::channel(ExportRules::default()).1,
            clock,
        };
        fs::create_dir(&config.path).unwrap();
        let bench = Self { home, directory: Directory::new(config) };
        files.iter().for_each(|(name, text)| bench.write(name, text));
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("manifests").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Says that a file, or the directory, was changed so long ago.
    fn changed(&self, name: &str, ago: Duration) {
        fs::File::open(self.path(name)).unwrap().set_modified(clock() - ago).unwrap();
    }

    /// Looks, and expects news: these services, each with its first port, and this left out.
    fn check(&mut self, services: &[&str], left_out: &[&str]) -> Observed {
        let seen = self.directory.look().expect("news");
        let show = |export: &model::export::Export| match export.head.ports.first() {
            Some(port) => format!(":{}", port.number),
            None => String::new(),
        };
        let held: Vec<String> =
            seen.exports.iter().map(|(key, export)| format!("{}{}", key.name, show(export))).collect();
        assert_eq!(held, services);
        let home = format!("{}/manifests/", self.home.path().display());
        let found: Vec<String> =
            seen.left_out.iter().map(|(what, why)| format!("{what}: {why}").replace(&home, "")).collect();
        assert_eq!(found.len(), left_out.len(), "{found:?}");
        for (found, part) in found.iter().zip(left_out) {
            assert!(found.contains(part) && !found.contains('\n'), "{found:?}, not {part:?}");
        }
        assert!(self.directory.look().is_none(), "the same again is no news");
        seen
    }
}

#[test]
fn manifests_right_in_the_directory_are_read() {
    let web = service("web");
    let mut bench = Bench::new(&[
        ("a.yaml", &service("a")),
        ("b.yml", &service("b")),
        ("c.json", r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"shop","name":"c"}}"#),
        (".hidden.yaml", &web),
        ("d.txt", &web),
        ("e.yaml~", &web),
        ("uid.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system, uid: u1}\n"),
    ]);
    fs::create_dir(bench.path("sub.yaml")).unwrap();
    let seen = bench.check(&["a", "b", "c"], &[]);
    assert!(seen.synced && seen.conditions.is_empty());
    assert_eq!((&*seen.meta.uid, seen.meta.network.as_str()), ("u1", "n"));
    assert_eq!(&*seen.source_version, "look 1");
}

#[test]
fn what_a_cluster_says_about_its_endpoints_may_stand_in_manifests_too() {
    let web = "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n\
        spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}\n---\n\
        apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
        metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}\n\
        endpoints: [{addresses: [10.1.0.1], targetRef: {kind: Pod, name: web-0}}]\n\
        ports: [{name: http, port: 8080}]\n";
    let others = "apiVersion: v1\nkind: Pod\n\
        metadata: {namespace: shop, name: web-0, labels: {version: v1}}\nspec: {serviceAccountName: web}\n---\n\
        apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {namespace: shop, name: vm}\n\
        spec: {address: 10.9.0.1, labels: {app: web}, network: n2, locality: eu/eu-a}\n---\n\
        apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system, labels: {topology.istio.io/network: n1}}\n";
    let mut bench = Bench::new(&[("a.yaml", web), ("b.yaml", others)]);
    let seen = bench.check(&["web:80"], &[]);
    assert_eq!(seen.meta.network.as_str(), "n1");
    let (_, export) = seen.exports.iter().next().unwrap();
    let shown = export.endpoints().map(|member| {
        let endpoint = member.endpoint;
        let network = endpoint.network.as_ref().map_or("", Network::as_str);
        let version = endpoint.workload.labels.get("version").map_or("", |version| version);
        format!("{} {network} {version} {}", endpoint.address, endpoint.locality)
    });
    assert_eq!(shown.collect::<Vec<_>>(), ["10.1.0.1  v1 ", "10.9.0.1 n2  eu/eu-a"]);

    let asks =
        "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {namespace: shop, name: web}\n";
    bench.directory.index.set_rules(configured(json!({ "export": { "mode": "opt-in" } })).export);
    bench.write("c.yaml", &service("other"));
    bench.check(&[], &["Service shop/other: export.mode is opt-in", "Service shop/web: export.mode is opt-in"]);
    bench.write("d.yaml", asks);
    bench.check(&["web:80"], &["Service shop/other: export.mode is opt-in"]);
}

#[test]
fn an_empty_directory_is_a_cluster_without_services() {
    assert!(Bench::new(&[]).check(&[], &[]).synced);
}

#[test]
fn edits_are_followed() {
    let mut bench = Bench::new(&[("a.yaml", &on_port("a", "80"))]);
    bench.check(&["a:80"], &[]);
    bench.write("a.yaml", &on_port("a", "81"));
    bench.check(&["a:81"], &[]);
    bench.write("b.yaml", &service("b"));
    bench.check(&["a:81", "b"], &[]);
    fs::remove_file(bench.path("a.yaml")).unwrap();
    assert_eq!(&*bench.check(&["b"], &[]).source_version, "look 4");
}

#[test]
fn an_unreadable_file_keeps_what_it_last_held_and_the_others_go_on() {
    let good = service("a");
    let mut bench = Bench::new(&[("a.yaml", &good), ("b.yaml", &service("b"))]);
    bench.check(&["a", "b"], &[]);
    for (broken, part) in [
        ("kind: [".into(), "file a.yaml: "),
        (b"\xff\xfe".to_vec(), "UTF-8"),
        (vec![b' '; usize::try_from(MAX_FILE).unwrap() + 1], "at most 16777216"),
    ] {
        fs::write(bench.path("a.yaml"), broken).unwrap();
        bench.check(&["a", "b"], &[part]);
    }
    bench.write("b.yaml", &service("c"));
    bench.check(&["a", "c"], &["at most"]);
    // Undone, it is as it was.
    bench.write("a.yaml", &good);
    bench.check(&["a", "c"], &[]);
    bench.write("a.yaml", "kind: [");
    bench.check(&["a", "c"], &["file a.yaml"]);
    fs::remove_file(bench.path("a.yaml")).unwrap();
    bench.check(&["c"], &[]);
}

/// An editor empties a file and fills it, or removes it and makes another, and we may look in between.
#[test]
fn a_file_that_is_being_changed_keeps_what_it_held() {
    let mut bench = Bench::new(&[("a.yaml", &service("a")), ("b.yaml", &service("b"))]);
    bench.check(&["a", "b"], &[]);
    bench.write("a.yaml", &service("c"));
    fs::remove_file(bench.path("b.yaml")).unwrap();
    bench.changed("a.yaml", STANDS_STILL / 2);
    bench.changed("", STANDS_STILL / 2);
    assert!(bench.directory.look().is_none() && bench.directory.unsettled);
    bench.changed("a.yaml", STANDS_STILL);
    bench.write("b.yaml", &service("d"));
    bench.check(&["c", "d"], &[]);
    assert!(!bench.directory.unsettled);
    // However long it takes.
    bench.write("a.yaml", "\n");
    bench.check(&["c", "d"], &["file a.yaml: it is empty now"]);
    bench.write("a.yaml", &service("a"));
    bench.check(&["a", "d"], &[]);
}

#[test]
fn an_unreadable_file_that_is_emptied_to_be_written_anew_is_not_empty() {
    let mut bench = Bench::new(&[("a.yaml", "kind: [\n")]);
    assert!(!bench.check(&[], &["file a.yaml"]).settled());
    bench.write("a.yaml", "");
    bench.changed("a.yaml", Duration::from_millis(1));
    assert!(bench.directory.look().is_none());
    bench.changed("a.yaml", STANDS_STILL);
    assert!(!bench.check(&[], &["it is empty now"]).settled());
    bench.write("a.yaml", &service("a"));
    assert!(bench.check(&["a"], &[]).settled());
}

#[test]
fn a_malformed_object_in_a_good_file_keeps_what_it_was() {
    let both = |port: &str| format!("{}---\n{}", on_port("a", port), service("b"));
    let mut bench = Bench::new(&[("x.yaml", &both("80"))]);
    bench.check(&["a:80", "b"], &[]);
    bench.write("x.yaml", &both("eighty"));
    bench.check(&["a:80", "b"], &["Service shop/a: invalid type"]);
    bench.write("x.yaml", &both("81"));
    bench.check(&["a:81", "b"], &[]);
    bench.write("x.yaml", &both("eighty"));
    bench.check(&["a:81", "b"], &["Service shop/a"]);
    bench.write("x.yaml", &service("b"));
    bench.check(&["b"], &[]);
}

/// A reason that takes another's place is not taken away with it.
#[test]
fn what_was_malformed_may_be_left_out_for_another_reason() {
    let mut bench = Bench::new(&[("x.yaml", &on_port("a", "eighty"))]);
    bench.check(&[], &["invalid type"]);
    bench.write("x.yaml", &format!("{}spec: {{type: ExternalName}}\n", service("a")));
    bench.check(&[], &["ExternalName"]);
}

#[test]
fn an_object_that_moves_to_another_file_does_not_vanish() {
    let mut bench = Bench::new(&[("m.yaml", &service("web"))]);
    bench.check(&["web"], &[]);
    // To a file before, by removing the old one; and to one behind, by emptying it.
    bench.write("a.yaml", &service("web"));
    fs::remove_file(bench.path("m.yaml")).unwrap();
    bench.check(&["web"], &[]);
    bench.write("z.yaml", &on_port("web", "80"));
    bench.write("a.yaml", "# in z.yaml\n");
    bench.check(&["web:80"], &[]);
    bench.write("a.yaml", &on_port("web", "80"));
    bench.write("z.yaml", &service("other"));
    bench.check(&["other", "web:80"], &[]);
}

#[test]
fn of_two_files_with_one_object_the_last_counts() {
    let mut bench = Bench::new(&[("a.yaml", &on_port("web", "1")), ("b.yaml", &on_port("web", "2"))]);
    bench.check(&["web:2"], &["Service shop/web in file a.yaml: b.yaml has it too, and counts"]);
    bench.write("a.yaml", &on_port("web", "3"));
    bench.check(&["web:2"], &["in file a.yaml"]);
    fs::remove_file(bench.path("b.yaml")).unwrap();
    bench.check(&["web:3"], &[]);
    bench.write("b.yaml", &on_port("web", "4"));
    bench.check(&["web:4"], &["in file a.yaml"]);
    fs::remove_file(bench.path("a.yaml")).unwrap();
    bench.check(&["web:4"], &[]);
}

#[test]
fn a_directory_that_goes_takes_nothing_with_it_and_may_come_back() {
    let mut bench = Bench::new(&[("a.yaml", &service("a"))]);
    bench.check(&["a"], &[]);
    let (here, away) = (bench.path(""), bench.home.path().join("away"));
    fs::rename(&here, &away).unwrap();
    let seen = bench.check(&["a"], &[]);
    assert!(seen.frozen_since.is_some());
    let trouble = seen.conditions.get(Reason::Unreachable).unwrap();
    assert!(trouble.starts_with("directory ") && !trouble.contains('\n'), "{trouble}");
    fs::rename(&away, &here).unwrap();
    let seen = bench.check(&["a"], &[]);
    assert!(seen.conditions.is_empty() && seen.frozen_since.is_none());
}

#[test]
fn a_directory_that_is_not_there_yet_is_not_an_empty_one() {
    let mut bench = Bench::new(&[]);
    fs::remove_dir(bench.path("")).unwrap();
    let seen = bench.check(&[], &[]);
    assert!(!seen.synced && seen.settled());
    fs::create_dir(bench.path("")).unwrap();
    assert!(bench.check(&[], &[]).synced);
}

/// Even where the kernel tells nothing, and across a directory that was replaced.
#[tokio::test(start_paused = true)]
async fn edits_are_seen_at_the_latest_when_looking_again() {
    let bench = Bench::new(&[("a.yaml", &service("a"))]);
    let (sender, mut observed) = watch::channel(Observed::default());
    let running = run(bench.directory.config.clone(), sender);
    let edits = async {
        observed.wait_for(|seen| seen.exports.len() == 1).await.unwrap();
        bench.write("b.yaml", &service("b"));
        observed.wait_for(|seen| seen.exports.len() == 2).await.unwrap();
        fs::remove_dir_all(bench.path("")).unwrap();
        observed.wait_for(|seen| !seen.conditions.is_empty()).await.unwrap();
        fs::create_dir(bench.path("")).unwrap();
        bench.write("c.yaml", &service("c"));
        let one = |seen: &Observed| seen.conditions.is_empty() && seen.exports.len() == 1;
        observed.wait_for(one).await.unwrap();
        drop(observed);
    };
    let together = async { tokio::join!(running, edits) };
    tokio::time::timeout(Duration::from_secs(600), together).await.unwrap();
}
