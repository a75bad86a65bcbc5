//! Golden files, and that what is written is what is accepted.

use super::*;
use std::fs;

const CA: &str = include_str!("../kubeconfig/ca.pem");

fn request(id: &str) -> Request {
    Request {
        id: ClusterId::parse(id).unwrap(),
        kubeconfig: None,
        context: None,
        account: Account { namespace: "istio-system".to_owned(), name: "federator-reader".to_owned() },
        server: None,
        secret_namespace: "istio-system".to_owned(),
    }
}

fn written(id: &str) -> String {
    let granted = Granted { ca: CA.into(), token: "s3cr3t.of-the.account".to_owned() };
    let kubeconfig = kubeconfig(&ClusterId::parse(id).unwrap(), "https://10.0.0.2:6443", &granted).unwrap();
    manifest(&request(id), &kubeconfig).unwrap()
}

#[test]
fn golden_remote_secret() {
    golden("secret.yaml", &written("west"));
}

#[test]
fn golden_dry_run() {
    golden("grant.yaml", &dry_run(&request("west").account).unwrap());
}

/// Ids that YAML takes for something else when they are written without quotes.
#[test]
fn every_id_survives_the_way_through_the_secret() {
    for id in ["west", "true", "null", "no", "y", "1e5", "0x1f", "0o7", "1-2", "a-b", "2026-01-01"] {
        let secret: Secret = serde_saphyr::from_str(&written(id)).unwrap();
        assert_eq!(secret.metadata.name, Some(format!("istio-remote-secret-{id}")));
        assert_eq!(secret.metadata.annotations.unwrap()["networking.istio.io/cluster"], id);
        assert_eq!(secret.metadata.labels.unwrap()["istio/multiCluster"], "true");
        let data = secret.string_data.unwrap();
        assert_eq!(data.len(), 1);
        let access = kubeconfig::parse(data[id].as_bytes(), &Allowed::default()).unwrap();
        assert_eq!(access.server().to_string(), "https://10.0.0.2:6443/");
    }
}

/// Compares with a golden file; UPDATE_GOLDEN=1 writes it instead.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a golden file is rewritten by hand")]
fn golden(name: &str, text: &str) {
    let path = format!("{}/src/kubernetes/remote_secret/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "if it is meant, rewrite it: UPDATE_GOLDEN=1 cargo test -p federator --lib golden");
}
