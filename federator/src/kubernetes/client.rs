//! Clients of API servers, made of a kubeconfig file or of the pod's own service account.

use crate::config::file::Kubernetes;
use anyhow::Context as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::time::Duration;

/// How long connecting may take: an API server that is not there is to be known soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client, and the server's address for people.
///
/// # Errors
/// When a kubeconfig cannot be read or says what cannot be.
pub async fn client(typed: &Kubernetes) -> anyhow::Result<(Client, String)> {
    let mut config = match &typed.kubeconfig {
        None => Config::incluster().context("no `kubeconfig` is given, and this is not a pod")?,
        Some(path) => {
            let shown = path.display().to_string();
            let kubeconfig = Kubeconfig::read_from(path).context(shown)?;
            let options = KubeConfigOptions { context: typed.context.clone(), ..KubeConfigOptions::default() };
            Config::from_custom_kubeconfig(kubeconfig, &options).await.context(path.display().to_string())?
        }
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // An error is to be seen at once; trying again is the stages' business.
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    Ok((Client::try_from(config)?, server))
}
