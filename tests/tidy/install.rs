//! What an operator applies fits together: kustomizations name files that are there, the program takes the configuration
//! they make, the rights to read are those of accounts elsewhere, and the clusters of kind do not overlap. That an API
//! server takes the objects, and an agent needs the rights, is for the fleet tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use federator::config::Config;
use federator::kubernetes::grant::Account;
use serde_json::Value;

use crate::maps::resolve;
use crate::tree::{Tree, Violation, is_under};

const KUSTOMIZATION: &str = "kustomization.yaml";
const OVERLAYS: &str = "manifests/overlays";
const RIGHTS: &str = "manifests/base/rights.yaml";
const KIND: &str = "kind-clusters";

/// What a kustomization makes of the configuration.
#[derive(Debug, Default, PartialEq, Eq)]
struct Installed {
    file: String,
    /// Fields by variables of the environment.
    variables: BTreeMap<String, String>,
}

/// Every file that a kustomization names is there.
pub(crate) fn kustomizations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| path.ends_with(KUSTOMIZATION)) {
        let missing = match parse(text) {
            Ok(kustomization) => named(&kustomization).into_iter().map(|name| resolve(directory(path), &name)),
            Err(error) => {
                found.push(Violation::new(path, error));
                continue;
            }
        };
        let missing = missing.filter(|name| !tree.exists(name));
        found.extend(missing.map(|name| Violation::new(path, format!("{name} does not exist"))));
    }
    found
}

/// The program takes the configuration of every overlay.
pub(crate) fn configurations(tree: &Tree, root: &Path) -> Vec<Violation> {
    let overlays: BTreeSet<_> = tree.files().map(|(path, _)| path).filter(|path| is_under(path, OVERLAYS)).collect();
    let overlays = overlays.into_iter().filter(|path| path.ends_with(KUSTOMIZATION)).map(directory);
    let mut found = Vec::new();
    for overlay in overlays {
        let Installed { file, variables } = installed(tree, overlay);
        let set: Vec<_> = variables.iter().map(|(name, value)| format!("{}={value}", field(name))).collect();
        if let Err(error) = Config::load(&root.join(&file), &set) {
            found.push(Violation::new(overlay, format!("the agent refuses what it makes of {file}: {error}")));
        }
    }
    found
}

/// An agent may read in its own cluster what accounts of agents elsewhere may, and renew the same Lease.
pub(crate) fn rights(tree: &Tree) -> Vec<Violation> {
    let account = Account { namespace: String::new(), name: String::new() }.objects();
    let granted: BTreeSet<_> = account.iter().flat_map(allowed).collect();
    let text = tree.text(RIGHTS).unwrap_or_default();
    let installed: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_default();
    let installed: BTreeSet<_> = installed.iter().flat_map(allowed).collect();
    let missing = granted.difference(&installed);
    missing.map(|(kind, what, verb)| Violation::new(RIGHTS, format!("{kind} lacks {verb} of {what}"))).collect()
}

/// Clusters of kind have addresses of their own, and the scripts can be read and name what is there.
pub(crate) fn kind_clusters(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut ranges = BTreeMap::new();
    let is_cluster = |path: &str| is_under(path, KIND) && path.ends_with(".yaml");
    for (path, text) in tree.files().filter(|(path, _)| is_cluster(path)) {
        let cluster = parse(text).unwrap_or_default();
        let name = path[KIND.len() + 1..].trim_end_matches(".yaml");
        if cluster["kind"] != "Cluster" || cluster["name"] != format!("federator-{name}") {
            found.push(Violation::new(path, format!("not the cluster federator-{name}")));
        }
        for field in ["podSubnet", "serviceSubnet"] {
            let range = cluster["networking"][field].as_str().unwrap_or_default();
            if !range.ends_with(".0.0/16") {
                found.push(Violation::new(path, format!("{field} `{range}` is not a /16")));
            } else if let Some(other) = ranges.insert(range.to_owned(), path) {
                found.push(Violation::new(path, format!("{field} {range} is in {other} too")));
            }
        }
        for script in ["up", "down"] {
            let script = format!("{KIND}/{script}");
            if !tree.text(&script).is_some_and(|text| text.contains(name)) {
                found.push(Violation::new(script, format!("does not know cluster {name}")));
            }
        }
    }
    found
}

/// The scripts run as far as they can where there is no kind, and what they would use is there.
pub(crate) fn scripts(tree: &Tree, root: &Path) -> Vec<Violation> {
    let mut found = Vec::new();
    for arguments in [&["up", "--print", "etcd"][..], &["up", "--print", "embedded"], &["down", "--print"]] {
        let script = format!("{KIND}/{}", arguments[0]);
        let said = match Command::new(root.join(&script)).args(&arguments[1..]).output() {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(output) => {
                found.push(Violation::new(script, String::from_utf8_lossy(&output.stderr)));
                continue;
            }
            Err(error) => {
                found.push(Violation::new(script, format!("cannot be run: {error}")));
                continue;
            }
        };
        found.extend(
            absent(tree, &said).into_iter().map(|path| Violation::new(&*script, format!("{path} is not there"))),
        );
    }
    found
}

/// What is built has the compiler that everything else is built with.
pub(crate) fn image(tree: &Tree) -> Vec<Violation> {
    let toolchain = tree.text("rust-toolchain.toml").unwrap_or_default();
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'));
    let Some(channel) = channel else { return vec![Violation::new("rust-toolchain.toml", "no channel")] };
    let text = tree.text("Dockerfile").unwrap_or_default();
    let wanted = [format!("FROM rust:{channel}-"), format!("RUSTUP_TOOLCHAIN={channel} ")];
    let missing = wanted.into_iter().filter(|wanted| !text.contains(wanted));
    missing.map(|wanted| Violation::new("Dockerfile", format!("expected `{wanted}`"))).collect()
}

/// Paths of a script's commands that lead nowhere; what it makes itself is under `target`.
fn absent(tree: &Tree, commands: &str) -> Vec<String> {
    let words = commands.split(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    let paths = words.filter(|word| ["manifests/", "kind-clusters/"].iter().any(|start| word.starts_with(start)));
    paths.filter(|path| !tree.exists(path)).map(str::to_owned).collect()
}

/// Names of files and directories in a kustomization.
fn named(kustomization: &Value) -> Vec<String> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut names = texts(&kustomization["resources"]);
    for patch in kustomization["patches"].as_array().into_iter().flatten() {
        names.extend(patch["path"].as_str().map(str::to_owned));
    }
    for generator in kustomization["configMapGenerator"].as_array().into_iter().flatten() {
        names.extend(texts(&generator["files"]));
        names.extend(texts(&generator["envs"]));
    }
    names
}

/// What a kustomization and those below it make of the two ConfigMaps.
fn installed(tree: &Tree, dir: &str) -> Installed {
    let kustomization = parse(tree.text(&resolve(dir, KUSTOMIZATION)).unwrap_or_default()).unwrap_or_default();
    let mut made = Installed::default();
    for resource in named(&kustomization) {
        let path = resolve(dir, &resource);
        if tree.exists(&resolve(&path, KUSTOMIZATION)) {
            made = installed(tree, &path);
        } else if path.ends_with("/federator.yaml") {
            made.file = path;
        } else if path.ends_with(".env") {
            let lines = tree.text(&path).unwrap_or_default().lines().filter(|line| !line.starts_with('#'));
            let pairs = lines.filter_map(|line| line.split_once('='));
            made.variables.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
    }
    made
}

/// `FEDERATOR_CLUSTERS__0__ID` is the field `clusters.0.id`.
fn field(variable: &str) -> String {
    variable.trim_start_matches("FEDERATOR_").to_lowercase().replace("__", ".")
}

/// Kind, resource and verb of everything that a role allows.
fn allowed(role: &Value) -> Vec<(String, String, String)> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
    };
    let kind = role["kind"].as_str().unwrap_or_default();
    let mut all = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let group = texts(&rule["apiGroups"]).concat();
        for resource in texts(&rule["resources"]) {
            let what = format!("{group}/{resource}");
            all.extend(texts(&rule["verbs"]).into_iter().map(|verb| (kind.to_owned(), what.clone(), verb)));
        }
    }
    all
}

fn parse(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(found: &[Violation]) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_kustomization_names_what_is_there() {
        let text = "resources: [../base, gone.yaml]\npatches: [{path: patch.yaml}]\n\
                    configMapGenerator: [{files: [a.yaml], envs: [b.env]}]\n";
        let found = kustomizations(&Tree::of([
            ("m/o/kustomization.yaml", text),
            ("m/base/kustomization.yaml", "resources: []"),
            ("m/o/patch.yaml", ""),
            ("m/o/a.yaml", ""),
        ]));
        let place = "m/o/kustomization.yaml";
        assert_eq!(
            texts(&found),
            [format!("{place}: m/o/gone.yaml does not exist"), format!("{place}: m/o/b.env does not exist")]
        );
    }

    #[test]
    fn an_overlay_makes_a_configuration_the_agent_takes() {
        let generator = "configMapGenerator: [{files: [federator.yaml], envs: [cluster.env]}]\n";
        let over = "resources: [../../base]\nconfigMapGenerator: [{behavior: merge, envs: [cluster.env]}]\n";
        let tree = |wrong: &'static str| {
            Tree::of([
                ("manifests/base/kustomization.yaml", generator),
                ("manifests/base/federator.yaml", "clusters: [{kubernetes: {}}]"),
                ("manifests/base/cluster.env", "# Its id.\nFEDERATOR_CLUSTER=a\nFEDERATOR_CLUSTERS__0__ID=a\n"),
                ("manifests/overlays/o/kustomization.yaml", over),
                ("manifests/overlays/o/cluster.env", wrong),
            ])
        };
        let made = installed(&tree("FEDERATOR_CLUSTER=b\n"), "manifests/overlays/o");
        assert_eq!(made.file, "manifests/base/federator.yaml");
        let variables: Vec<_> = made.variables.iter().map(|(name, value)| format!("{}={value}", field(name))).collect();
        assert_eq!(variables, ["cluster=b", "clusters.0.id=a"]);
        let root = tempfile::TempDir::new().expect("a directory");
        std::fs::create_dir_all(root.path().join("manifests/base")).expect("a directory");
        std::fs::write(root.path().join(made.file), "clusters: [{kubernetes: {}}]").expect("a file");
        assert_eq!(configurations(&tree(""), root.path()), []);
        let found = texts(&configurations(&tree("FEDERATOR_ZON=x\n"), root.path()));
        assert!(
            found[0].starts_with("manifests/overlays/o: the agent refuses") && found[0].contains("zon"),
            "{found:?}"
        );
    }

    #[test]
    fn what_accounts_elsewhere_may_is_allowed() {
        let found = texts(&rights(&Tree::of([(RIGHTS, "kind: ClusterRole\nrules: []\n")])));
        assert!(found.contains(&format!("{RIGHTS}: ClusterRole lacks watch of /pods")), "{found:?}");
        assert!(found.contains(&format!("{RIGHTS}: Role lacks update of coordination.k8s.io/leases")), "{found:?}");
    }

    #[test]
    fn clusters_do_not_overlap() {
        let cluster = |name: &str, pods: &str| {
            format!(
                "kind: Cluster\nname: federator-{name}\nnetworking: {{podSubnet: {pods}, serviceSubnet: {name}.0.0/16}}"
            )
        };
        let (a, b) = (cluster("a", "10.1.0.0/16"), cluster("b", "10.1.0.0/16"));
        let c = cluster("x", "10.3.0.0/24");
        let found = kind_clusters(&Tree::of([
            ("kind-clusters/a.yaml", &a),
            ("kind-clusters/b.yaml", &b),
            ("kind-clusters/c.yaml", &c),
            ("kind-clusters/up", "a b c"),
            ("kind-clusters/down", "a b"),
        ]));
        assert_eq!(
            texts(&found),
            [
                "kind-clusters/b.yaml: podSubnet 10.1.0.0/16 is in kind-clusters/a.yaml too",
                "kind-clusters/c.yaml: not the cluster federator-c",
                "kind-clusters/c.yaml: podSubnet `10.3.0.0/24` is not a /16",
                "kind-clusters/down: does not know cluster c",
            ]
        );
    }

    #[test]
    fn a_script_uses_what_is_there() {
        let tree = Tree::of([("manifests/base/a.yaml", "")]);
        let commands = "+ x apply manifests/base/a.yaml target/b\n+ 'sed manifests/base/c' <kind-clusters/d.yaml\n";
        assert_eq!(absent(&tree, commands), ["manifests/base/c"]);
    }

    #[test]
    fn the_image_has_our_compiler() {
        let toolchain = ("rust-toolchain.toml", "[toolchain]\nchannel = \"1.2.3\"\n");
        let good = "FROM rust:1.2.3-bookworm AS build\nENV RUSTUP_TOOLCHAIN=1.2.3 A=b\n";
        assert_eq!(image(&Tree::of([toolchain, ("Dockerfile", good)])), []);
        assert_eq!(image(&Tree::of([toolchain, ("Dockerfile", &good.replace("1.2.3", "1.2.4"))])).len(), 2);
    }
}
