//! What an earlier life has left in the agent's own cluster: ServiceEntries of ours say which virtual addresses their hosts
//! had. Read once at the start. Knows nothing of what is emitted now.

use super::object::{GROUP, Kind, MANAGED_BY};
use crate::{kubernetes::explain::explain, publish::seeds::Seeds};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use std::time::Duration;
use tokio::time::timeout;

/// How long that may take: publishing waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Objects in one answer.
const PAGE: u32 = 500;

/// Any that is served has all objects.
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

/// Reads them; none where they cannot be read.
pub async fn read(client: &Client) -> Seeds {
    match timeout(PATIENCE, list(client)).await {
        Ok(Ok(seeds)) => {
            tracing::info!(hosts = seeds.len(), "read which virtual addresses hosts had");
            return seeds;
        }
        Ok(Err(error)) => tracing::warn!(error = %explain(&error), "cannot read which virtual addresses hosts had"),
        Err(_) => tracing::warn!("cannot read which virtual addresses hosts had: the API server does not answer"),
    }
    Seeds::default()
}

async fn list(client: &Client) -> kube::Result<Seeds> {
    let (name, plural) = (Kind::ServiceEntry.as_str(), Kind::ServiceEntry.plural());
    let ours = ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)).limit(PAGE);
    let mut seeds = Seeds::default();
    for version in VERSIONS {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, version, name), plural);
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let mut page = match api.list(&ours).await {
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            page => page?,
        };
        loop {
            page.items.iter().for_each(|entry| sow(&mut seeds, entry));
            match page.metadata.continue_.take().filter(|token| !token.is_empty()) {
                Some(token) => page = api.list(&ours.clone().continue_token(&token)).await?,
                None => return Ok(seeds),
            }
        }
    }
    Ok(seeds)
}

/// What cannot be an address says nothing.
fn sow(seeds: &mut Seeds, entry: &DynamicObject) {
    let texts = |field: &str| {
        let list = entry.data["spec"][field].as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str())
    };
    for host in texts("hosts") {
        seeds.sow(host, texts("addresses").filter_map(|address| address.parse().ok()).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Json, Router, extract::Request, http::StatusCode, response::IntoResponse as _};
    use serde_json::{Value, json};

    fn entry(hosts: &[&str], addresses: &[&str]) -> Value {
        let metadata = json!({ "name": hosts[0], "namespace": "demo" });
        json!({ "metadata": metadata, "spec": { "hosts": hosts, "addresses": addresses } })
    }

    async fn served(served: &'static str, pages: [Vec<Value>; 2]) -> Seeds {
        let respond = async move |request: Request| {
            let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
            if path != format!("/apis/networking.istio.io/{served}/serviceentries") {
                let status = json!({ "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound" });
                return (StatusCode::NOT_FOUND, Json(status)).into_response();
            }
            assert!(query.contains("managed-by%3Dfederator"), "{query}");
            let [first, second] = pages.clone();
            let (items, next) = if query.contains("continue=") { (second, "") } else { (first, "next") };
            let (api_version, metadata) = (format!("networking.istio.io/{served}"), json!({ "continue": next }));
            let list = json!({ "apiVersion": api_version, "kind": "List", "metadata": metadata, "items": items });
            Json(list).into_response()
        };
        read(&Client::new(Router::new().fallback(respond), "default")).await
    }

    #[tokio::test]
    async fn what_is_there_is_read_in_whatever_version_and_however_many_pages() {
        let mut expected = Seeds::default();
        expected.sow("web.demo.global", ["240.64.0.1".parse(), "fd66::1".parse()].map(|ip| ip.expect("good")).into());
        expected.sow("api.demo.global", vec!["240.64.0.2".parse().expect("good")]);
        for version in VERSIONS {
            let first = vec![entry(&["web.demo.global"], &["240.64.0.1", "fd66::1"])];
            let others = [entry(&["headless.demo.global"], &[]), entry(&["odd.demo.global"], &["240.64.0.0/24"])];
            let second = [vec![entry(&["api.demo.global"], &["240.64.0.2"])], others.to_vec()].concat();
            assert_eq!(served(version, [first, second]).await, expected, "{version}");
        }
        assert_eq!(served("v9", [vec![], vec![]]).await, Seeds::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_not_waited_for() {
        let silent = Router::new().fallback(async || std::future::pending::<()>().await);
        assert!(read(&Client::new(silent, "default")).await.is_empty());
    }
}
