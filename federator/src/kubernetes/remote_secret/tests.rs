//! Golden files, and that what is written is what is accepted.

use super::*;
use std::{
    fs,
    sync::{Arc, Mutex},
};

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

/// An API server that has nothing, fills in tokens a little late, and writes down what it is asked.
fn fake(forbidden: &'static str) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let line = format!("{} {}", request.method(), request.uri().path());
        let mut log = log.lock().unwrap();
        let looks = log.iter().filter(|earlier| **earlier == line).count();
        let (code, body) = if line.contains(forbidden) {
            (403, json!({"kind": "Status", "status": "Failure", "code": 403, "message": "you may not", "reason": ""}))
        } else if line == "GET /api/v1/namespaces/istio-system" {
            (404, json!({"kind": "Status", "status": "Failure", "code": 404, "message": "none", "reason": "NotFound"}))
        } else if line.starts_with("GET") && looks > 0 {
            (
                200,
                json!({"metadata": {}, "data": {"token": STANDARD.encode("s3cr3t.of-the.account"), "ca.crt": STANDARD.encode(CA)}}),
            )
        } else {
            (200, json!({"metadata": {"name": "any"}}))
        };
        log.push(line);
        let body = kube::client::Body::from(serde_json::to_vec(&body).unwrap());
        async move { Ok::<_, std::convert::Infallible>(http::Response::builder().status(code).body(body).unwrap()) }
    });
    (Client::new(service, "default"), asked)
}

#[tokio::test(start_paused = true)]
async fn everything_is_made_in_order_and_then_the_token_is_waited_for() {
    let (client, asked) = fake("nothing");
    let text = create_by(client, "https://10.0.0.2:6443", &request("west")).await.unwrap();
    assert_eq!(text, written("west"));
    let ns = "namespaces/istio-system";
    assert_eq!(
        *asked.lock().unwrap(),
        [
            format!("GET /api/v1/{ns}"),
            format!("PATCH /api/v1/{ns}"),
            format!("PATCH /api/v1/{ns}/serviceaccounts/federator-reader"),
            "PATCH /apis/rbac.authorization.k8s.io/v1/clusterroles/federator-reader-istio-system".to_owned(),
            "PATCH /apis/rbac.authorization.k8s.io/v1/clusterrolebindings/federator-reader-istio-system".to_owned(),
            format!("PATCH /apis/rbac.authorization.k8s.io/v1/{ns}/roles/federator-reader"),
            format!("PATCH /apis/rbac.authorization.k8s.io/v1/{ns}/rolebindings/federator-reader"),
            format!("PATCH /api/v1/{ns}/secrets/federator-reader-token"),
            format!("GET /api/v1/{ns}/secrets/federator-reader-token"),
            format!("GET /api/v1/{ns}/secrets/federator-reader-token"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_done_is_said_in_a_line() {
    let (client, _) = fake("clusterroles");
    let error = create_by(client, "https://10.0.0.2:6443", &request("west")).await.unwrap_err();
    assert_eq!(format!("{error:#}"), "cannot apply ClusterRole federator-reader-istio-system: you may not");
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
