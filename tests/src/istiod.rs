//! istiod beside a cluster's API server, as a judge of what it is given: without injection or an authority of its own. It
//! says what it admits, and what it tells proxies.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::process::Process;
use crate::site::loopback;
use crate::{Result, Spare, XdsClient, XdsNode, eventually, http};

/// Its ports, on the loopback of a place that nobody shares.
const HTTP: u16 = 18080;
pub(crate) const XDS: u16 = 15010;
const MONITORING: u16 = 15014;

/// The namespace in which it looks for Secrets.
const NAMESPACE: &str = "istio-system";

/// Its first start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// istiod of one cluster; it ends when it is dropped.
#[derive(Debug)]
pub struct Istiod {
    process: Process,
    place: crate::Place,
}

impl Spare {
    /// Starts istiod for this cluster with a mesh that encrypts nothing, and returns when it is ready.
    pub async fn istiod(&self) -> Result<Istiod> {
        self.istiod_with("{enableAutoMtls: false}").await
    }

    /// The same with a mesh config of its own, as YAML.
    pub async fn istiod_with(&self, config: &str) -> Result<Istiod> {
        let mesh = self.logs().join("mesh.yaml");
        fs::write(&mesh, config)?;
        let variables = [
            "PILOT_CERT_PROVIDER=none",
            "ENABLE_CA_SERVER=false",
            "PILOT_ENABLE_GATEWAY_API=false",
            "INJECTION_WEBHOOK_CONFIG_NAME=",
            "VALIDATION_WEBHOOK_CONFIG_NAME=",
            "ENABLE_LEADER_ELECTION=false",
            // Filters that only Istio's own build of Envoy has.
            "PILOT_ENABLE_METADATA_EXCHANGE=false",
            "PILOT_ENABLE_ALPN_FILTER=false",
            "PILOT_DISABLE_MX_ALPN=true",
            "POD_NAME=istiod",
        ];
        let mut arguments: Vec<OsString> = variables.iter().map(Into::into).collect();
        arguments.push(format!("CLUSTER_ID={}", self.name()).into());
        arguments.push(format!("POD_NAMESPACE={NAMESPACE}").into());
        arguments.push(self.part("pilot-discovery")?.into_os_string());
        let flags = [
            "discovery".to_owned(),
            format!("--kubeconfig={}", self.kubeconfig().display()),
            format!("--clusterID={}", self.name()),
            format!("--meshConfig={}", mesh.display()),
            "--networksConfig=none".to_owned(),
            format!("--httpAddr={}", loopback(HTTP)),
            format!("--grpcAddr={}", loopback(XDS)),
            format!("--monitoringAddr={}", loopback(MONITORING)),
            "--httpsAddr=".to_owned(),
            "--secureGRPCAddr=".to_owned(),
            "--ctrlz_port=0".to_owned(),
            "--shutdownDuration=1s".to_owned(),
        ];
        arguments.extend(flags.map(OsString::from));
        let process = Process::new("istiod", self.place(), PathBuf::from("/usr/bin/env"), arguments, self.logs());
        process.start()?;
        let istiod = Istiod { process, place: self.place() };
        eventually(START, "istiod is ready", async || {
            ensure!(istiod.process.is_running(), "it ended: {}", istiod.process.tail());
            http::get(istiod.place, loopback(HTTP), "/ready").await
        })
        .await?;
        Ok(istiod)
    }
}

impl Istiod {
    /// A proxy of this cluster, and what istiod tells it.
    pub async fn proxy(&self, node: &XdsNode) -> Result<XdsClient> {
        XdsClient::connect(self.place, loopback(XDS), node).await.context("a proxy connects to istiod")
    }

    /// A proxy that asks for the endpoints of these clusters and for nothing else: of very many services, all clusters are
    /// more than it has to know.
    pub async fn endpoints(&self, node: &XdsNode, clusters: Vec<String>) -> Result<XdsClient> {
        let proxy = XdsClient::of_endpoints(self.place, loopback(XDS), node, clusters);
        proxy.await.context("a proxy connects to istiod")
    }

    /// Whether Istio's validation lets an object pass without a word; a warning is an error too. It passes kinds that it
    /// does not know.
    pub async fn admits(&self, object: &DynamicObject) -> Result {
        let types = object.types.as_ref().context("an object without apiVersion and kind")?;
        let (group, version) = types.api_version.split_once('/').context("no kind of Istio's")?;
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "1",
                "kind": {"group": group, "version": version, "kind": types.kind},
                "name": object.metadata.name,
                "namespace": object.metadata.namespace,
                "operation": "CREATE",
                "userInfo": {},
                "object": object,
            },
        });
        let text = http::post(self.place, loopback(HTTP), "/validate", &review.to_string()).await?;
        let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let response = &answer["response"];
        let what = || format!("{} {}", types.kind, object.name_any());
        ensure!(response["allowed"] == true, "istiod refuses {}: {}", what(), response["status"]["message"]);
        ensure!(response["warnings"].is_null(), "istiod warns of {}: {}", what(), response["warnings"]);
        Ok(())
    }

    /// Its process: what it logs, and whether it lives.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Its metrics, in the Prometheus text format.
    pub async fn metrics(&self) -> Result<String> {
        http::get(self.place, loopback(MONITORING), "/metrics").await
    }

    /// How it stands with its clusters: the id of each, and `synced` when it has read it whole.
    pub async fn clusters(&self) -> Result<Vec<(String, String)>> {
        let text = http::get(self.place, loopback(HTTP), "/debug/clusterz").await?;
        let clusters: Vec<Value> = serde_json::from_str(&text).with_context(|| text.clone())?;
        let field = |cluster: &Value, name: &str| cluster[name].as_str().unwrap_or_default().to_owned();
        Ok(clusters.iter().map(|cluster| (field(cluster, "id"), field(cluster, "syncStatus"))).collect())
    }
}
