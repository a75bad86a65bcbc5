//! A remote secret: what makes one cluster observed from another. It is made in the cluster that is to be observed,
//! and put where the observers are. Its form is istioctl's, so that istiod takes it too; what it holds is held to what
//! this agent accepts, before it is handed out.

use super::{
    client,
    explain::explain,
    grant::{self, Account},
    kubeconfig::{self, Allowed, address},
};
use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use model::name::ClusterId;
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use tokio::time::{Instant, sleep};

/// As which what is applied is ours.
const FIELD_MANAGER: &str = "federator";

/// How long a cluster may take to fill in a token; it is done in a quarter of a second.
const TOKEN_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to make, and where.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id by which the fleet is to know the cluster.
    pub id: ClusterId,
    /// Its administrator's kubeconfig. Default: as kubectl finds it.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it. Default: its current one.
    pub context: Option<String>,
    /// The account that is made in the cluster.
    pub account: Account,
    /// The address by which others reach its API server. Default: that of the kubeconfig.
    pub server: Option<String>,
    /// The namespace that the remote secret is for.
    pub secret_namespace: String,
}

/// What a cluster gave to the account.
struct Granted {
    ca: Vec<u8>,
    token: String,
}

/// Makes the account in the cluster, and returns the manifest of the remote secret.
///
/// # Errors
/// In one line, what cannot be read, reached or applied.
pub async fn create(request: &Request) -> anyhow::Result<String> {
    let connector = client::administrator(request.kubeconfig.as_deref(), request.context.as_deref()).await?;
    let (client, found) = (connector.connect()?, connector.server.to_string());
    let server = request.server.as_deref().unwrap_or_else(|| found.trim_end_matches('/'));
    // Known before anything is changed.
    if let Err(why) = address::server(server, false) {
        bail!("the API server's address {why}; --server overrides it");
    }
    create_by(client, server, request).await
}

async fn create_by(client: Client, server: &str, request: &Request) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let name = &request.account.namespace;
    if namespaces.get_opt(name).await.map_err(|error| failed("read", "Namespace", name, &error))?.is_none() {
        apply(&client, &grant::namespace(name)).await?;
    }
    for object in request.account.objects() {
        apply(&client, &object).await?;
    }
    let granted = granted(&client, &request.account).await?;
    let kubeconfig = kubeconfig(&request.id, server, &granted)?;
    kubeconfig::parse(kubeconfig.as_bytes(), &Allowed::default()).context("the cluster gave what cannot be used")?;
    manifest(request, &kubeconfig)
}

/// What [`create`] would apply, as manifests.
///
/// # Errors
/// None that is known.
pub fn dry_run(account: &Account) -> anyhow::Result<String> {
    let all = [grant::namespace(&account.namespace)].into_iter().chain(account.objects());
    let all: Vec<_> = all.map(|object| yaml(&object)).collect::<Result<_, _>>()?;
    Ok(all.join("---\n"))
}

async fn apply(client: &Client, object: &Value) -> anyhow::Result<()> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or_else(|| ("", text("/apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = match text("/metadata/namespace") {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &params, &Patch::Apply(object)).await.map_err(|error| failed("apply", kind, name, &error))?;
    Ok(())
}

/// Waits until the cluster has filled in the account's token.
async fn granted(client: &Client, account: &Account) -> anyhow::Result<Granted> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &account.namespace);
    let (name, deadline) = (account.token(), Instant::now() + TOKEN_WITHIN);
    loop {
        let secret = secrets.get(&name).await.map_err(|error| failed("read", "Secret", &name, &error))?;
        let mut data = secret.data.unwrap_or_default();
        if let (Some(token), Some(ca)) = (data.remove("token"), data.remove("ca.crt")) {
            let token = String::from_utf8(token.0).context("the token is not text")?;
            return Ok(Granted { ca: ca.0, token });
        }
        if Instant::now() >= deadline {
            bail!(
                "Secret {name} was not filled in within {TOKEN_WITHIN:?}: the cluster's kube-controller-manager makes \
                 tokens, and knows its certificate authority by --root-ca-file"
            );
        }
        sleep(LOOK_EVERY).await;
    }
}

fn failed(what: &str, kind: &str, name: &str, error: &kube::Error) -> anyhow::Error {
    let why = match error {
        // The server says who may not do what.
        kube::Error::Api(status) if status.code == 403 => status.message.clone(),
        error => explain(error),
    };
    anyhow::anyhow!("cannot {what} {kind} {name}: {why}")
}

fn kubeconfig(id: &ClusterId, server: &str, granted: &Granted) -> anyhow::Result<String> {
    let id = id.as_str();
    yaml(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": id,
            "cluster": {"certificate-authority-data": STANDARD.encode(&granted.ca), "server": server},
        }],
        "contexts": [{"name": id, "context": {"cluster": id, "user": id}}],
        "current-context": id,
        "preferences": {},
        "users": [{"name": id, "user": {"token": granted.token}}],
    }))
}

fn manifest(request: &Request, kubeconfig: &str) -> anyhow::Result<String> {
    let id = request.id.as_str();
    let manifest = yaml(&json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "annotations": {"networking.istio.io/cluster": id},
            "labels": {"istio/multiCluster": "true"},
            "name": format!("istio-remote-secret-{id}"),
            "namespace": request.secret_namespace,
        },
        "stringData": {id: kubeconfig},
    }))?;
    Ok(format!(
        "# Gives whoever holds it the rights of the account in cluster {id}: keep it like a password.\n{manifest}"
    ))
}

fn yaml(value: &Value) -> anyhow::Result<String> {
    // As Go's writers do it: a text of one line stays one line, however long.
    let options = serde_saphyr::ser_options! {
        compact_list_indent: true,
        prefer_block_scalars: true,
        folded_wrap_chars: usize::MAX,
    };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
