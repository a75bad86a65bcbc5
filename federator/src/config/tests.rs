//! Proves that a configuration is checked as a whole before anything starts, and that whatever is wrong with it is
//! one line that names the field.

use super::*;
use model::export::AnswerMode;
use std::num::NonZero;

const MINIMAL: &str = "cluster: east\nclusters: [{id: east, kubernetes: {}}]\n";

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::check(overrides::parse("f.yaml", text, std::iter::empty(), &[])?)
}

/// The minimal configuration with this besides is refused with this.
fn refuse(more: &str, message: &str) {
    refuse_all(&format!("{MINIMAL}{more}"), message);
}

fn refuse_all(text: &str, message: &str) {
    let error = read(text).expect_err(text).to_string();
    assert!(error.starts_with("configuration ") && error.contains(message), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = read(&format!("{MINIMAL}agent: a1\n")).unwrap();
    assert_eq!((config.cluster.as_str(), &*config.agent, &*config.zone), ("east", "a1", "global"));
    assert!(matches!(config.store, Store::Embedded));
    assert!(matches!(config.emit.target, EmitTarget::Nothing));
    assert_eq!((config.dns.ttl, config.dns.negative_ttl, config.dns.listeners.len()), (5, 5, 0));
    assert_eq!(config.admin.to_string(), "127.0.0.1:9153");
    assert_eq!(config.export, ExportRules::default());
    assert_eq!(config.import, ImportRules { home: Some(config.cluster), zone: config.zone, ..ImportRules::default() });
    assert_eq!(&*config.clusters[0].root_namespace, "istio-system");
    assert_eq!((config.log.format, &*config.log.filter), (file::LogFormat::Json, "info"));
    assert!(read(MINIMAL).unwrap().agent.ends_with(&std::process::id().to_string()));
}

#[test]
fn everything_can_be_said() {
    let home = tempfile::TempDir::new().unwrap();
    let text = format!(
        "cluster: east\nzone: mesh.example\nclusters:\n\
         - {{id: east, network: n1, rootNamespace: mesh, locality: eu/eu-a, kubernetes: {{kubeconfig: k}}}}\n\
         - {{id: west, directory: {0}}}\n\
         export: {{mode: opt-in, namespaces: {{allow: [shop, 'b*'], deny: []}}}}\n\
         import: {{namespaces: {{allow: [shop]}}, clusters: {{deny: ['lab-*']}}, services: {{allow: ['shop/*']}}}}\n\
         store: {{etcd: {{endpoints: ['http://etcd:2379'], root: /r, leaseSeconds: 7}}}}\n\
         dns: {{ttl: 1, negativeTtl: 2, listeners: [{{address: '127.0.0.1:0', mode: vip}}],\n\
         \x20 nameservers: [192.0.2.55], stale: servfail, staleAfterSeconds: 9, limits: {{clientQueries: 100, clientConnections: 20, forwarders: [10.0.0.10/32]}}}}\n\
         emit: {{kubernetes: {{}}, namespace: mesh}}\n\
         gateways: {{mode: workload, nameservers: [192.0.2.53, '192.0.2.54:5353', '2001:db8::53', '[2001:db8::54]:5353']}}\n\
         vips: {{ipv4: 10.8.0.0/16, ipv6: 'fd00::/64'}}\n\
         admin: {{address: '[::1]:0'}}\nlog: {{format: text, filter: debug}}\n",
        home.path().display()
    );
    let config = read(&text).unwrap();
    let [east, west] = &config.clusters[..] else { panic!("two clusters") };
    assert_eq!((east.network.as_str(), east.locality.to_string()), ("n1", "eu/eu-a".to_owned()));
    assert_eq!(&*east.root_namespace, "mesh");
    let texts = |patterns: &[rules::Pattern]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
    let exported = &config.export.namespaces;
    assert_eq!((config.export.mode, texts(&exported.deny)), (file::ExportMode::OptIn, vec![]));
    assert_eq!(texts(&exported.allow), ["shop", "b*"]);
    // A list that is not given keeps its default.
    assert_eq!(texts(&config.import.namespaces.deny), ["kube-*", "*-system"]);
    assert_eq!(texts(&config.import.clusters.deny), ["lab-*"]);
    assert_eq!(texts(&config.import.services.allow), ["shop/*"]);
    assert!(matches!(&west.source, Source::Directory(path) if path == home.path()));
    assert!(
        matches!(&config.store, Store::Etcd { settings, .. } if (&*settings.root, settings.lease_seconds) == ("/r", 7))
    );
    assert_eq!(config.dns.listeners[0].mode, AnswerMode::Vip);
    let limits = &config.dns.limits;
    assert_eq!((limits.client_queries, limits.client_connections), (NonZero::new(100), NonZero::new(20)));
    let addresses: Vec<String> = config.dns.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1"]);
    assert_eq!(config.dns.nameservers, ["192.0.2.55:53".parse().unwrap()]);
    assert_eq!(config.dns.stale, (Duration::from_secs(9), file::Stale::Servfail));
    let servers: Vec<String> = config.gateways.nameservers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "192.0.2.54:5353", "[2001:db8::53]:53", "[2001:db8::54]:5353"]);
    assert_eq!(config.gateways.mode, model::reach::Mode::Workload);
    // `{}` is the cluster as it is observed.
    let EmitTarget::Kubernetes { by: target, dry_run: false } = &config.emit.target else { panic!("to the cluster") };
    assert_eq!(target.kubeconfig.as_deref(), Some(std::path::Path::new("k")));
}

#[test]
fn what_cannot_be_is_refused_by_the_name_of_its_field() {
    let of = |clusters: &str, message: &str| {
        refuse_all(&format!("cluster: east\nclusters: {clusters}\n"), message);
    };
    refuse_all("cluster: East\nclusters: []\n", "field `cluster`: `East` is not a DNS label");
    refuse_all("cluster: local\nclusters: []\n", "field `cluster`: `local` cannot be a cluster id");
    of("[]", "field `clusters`: the agent's own cluster `east` is not among them");
    of("[{id: east}]", "field `clusters[0]`: give either");
    of("[{id: east, kubernetes: {}, directory: /}]", "field `clusters[0]`: give either");
    of("[{id: e.e, kubernetes: {}}]", "field `clusters[0].id`: `e.e`");
    of("[{id: east, kubernetes: {}}, {id: east, kubernetes: {}}]", "field `clusters[1].id`: `east` is there twice");
    of("[{id: east, directory: /does/not/exist}]", "field `clusters[0].directory`: /does/not/exist: ");
    for locality in ["a/b/c/d", "/b", "a//c", "a/"] {
        of(&format!("[{{id: east, locality: {locality}, kubernetes: {{}}}}]"), "field `clusters[0].locality`");
    }
    refuse("dns: {minAnswers: 9, maxAnswers: 8}\n", "field `dns.minAnswers`: `9` is more than `dns.maxAnswers`, 8");
    refuse("dns: {unknown: forward}\n", "field `dns.unknown`: `forward` needs servers in `dns.forward`");
    let asks_itself = "dns: {listeners: [{address: '127.0.0.1:53'}], forward: ['127.0.0.1:53']}\n";
    refuse(asks_itself, "field `dns.forward`: `127.0.0.1:53` is one of `dns.listeners`");
    refuse("dns: {nameservers: [ns.example]}\n", "field `dns.nameservers[0]`: `ns.example` is no name server");
    refuse("zone: a..b\n", "field `zone`");
    refuse("zone: ''\n", "field `zone`");
    refuse("emit: {kubernetes: {}, directory: d}\n", "field `emit`: give");
    refuse("emit: {directory: d, dryRun: true}\n", "field `emit.dryRun`: give `emit.kubernetes`");
    refuse("store: {etcd: {endpoints: []}}\n", "field `store.etcd.endpoints`: give at least one");
    refuse("export: {namespaces: {deny: [a, 'B']}}\n", "field `export.namespaces.deny[1]`: `B` is no namespace");
    refuse("import: {namespaces: {allow: ['']}}\n", "field `import.namespaces.allow[0]`: `` is no namespace");
    refuse("import: {clusters: {deny: [west, we.st]}}\n", "field `import.clusters.deny[1]`: `we.st` is no cluster id");
    for service in ["web", "shop/", "shop/web/x", "Shop/web"] {
        refuse(
            &format!("import: {{services: {{allow: ['{service}']}}}}\n"),
            &format!("field `import.services.allow[0]`: `{service}` is no service: use NAMESPACE/NAME"),
        );
    }
    refuse("import: {cluster: {}}\n", "did you mean `clusters`");
    refuse("export: {mode: optIn}\n", "did you mean `opt-in`");
    refuse("vips: {ipv4: 10.0.0.0/30}\n", "field `vips`");
    refuse("vips: {restSeconds: 5}\n", "field `vips.restSeconds`: give more than `dns.ttl`");
}

#[test]
fn remote_secrets_are_read_where_it_says_so() {
    assert!(read(MINIMAL).unwrap().membership.is_none());
    let text = "cluster: east\nclusters: [{id: east, kubernetes: {kubeconfig: k}}]\nmembership: ";
    let place = |config: &Config, id: &str| {
        let Place { network, locality, .. } = config.membership.as_ref().unwrap().place(&ClusterId::parse(id).unwrap());
        format!("{network} {locality}")
    };
    let config = read(&format!("{text}{{}}\n")).unwrap();
    let membership = config.membership.as_ref().unwrap();
    // `{}` is the cluster as it is observed.
    assert_eq!(membership.kubernetes.kubeconfig.as_deref(), Some(std::path::Path::new("k")));
    assert!(
        membership.namespaces.is_empty() && membership.allowed == crate::kubernetes::kubeconfig::Allowed::default()
    );
    assert_eq!(place(&config, "west"), "(unnamed) ");
    let said =
        "{kubernetes: {context: c}, namespaces: [istio-system], aliases: {'arn:aws:x': prod-eu}, allow: [loopback],
                 defaults: {network: n0, locality: eu}, clusters: {west: {network: n1}, north: {locality: us/us-a}}}";
    let config = read(&format!("{text}{said}\n")).unwrap();
    let membership = config.membership.as_ref().unwrap();
    assert_eq!(membership.kubernetes.context.as_deref(), Some("c"));
    assert_eq!(membership.aliases["arn:aws:x"].as_str(), "prod-eu");
    assert_eq!(["west", "north", "south"].map(|id| place(&config, id)), ["n1 eu", "n0 us/us-a", "n0 eu"]);
    refuse("membership: {namespaces: [A]}\n", "field `membership.namespaces[0]`: `A`");
    refuse("membership: {aliases: {x: local}}\n", "field `membership.aliases.x`: `local`");
    refuse("membership: {clusters: {'1': {}}}\n", "field `membership.clusters.1`: `1`");
    refuse("membership: {clusters: {west: {locality: /a}}}\n", "field `membership.clusters.west.locality`");
    refuse("membership: {defaults: {locality: a//b}}\n", "field `membership.defaults.locality`");
}

#[test]
fn a_zone_may_end_in_a_dot() {
    assert_eq!(&*read(&format!("{MINIMAL}zone: mesh.example.\n")).unwrap().zone, "mesh.example");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let home = tempfile::TempDir::new().unwrap();
    let path = home.path().join("federator.yaml");
    let error = Config::load(&path, &[]).unwrap_err().to_string();
    assert!(error.starts_with(&format!("configuration {}: ", path.display())), "{error}");
    assert!(!error.contains('\n'), "{error}");
}
