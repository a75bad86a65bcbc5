//! Clients of API servers, made of a kubeconfig file or of the pod's own service account.

use super::kubeconfig::{Access, Identity, Trust};
use crate::config::file::Kubernetes;
use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use std::time::Duration;

/// How long connecting may take: an API server that is not there is to be known soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of what a kubeconfig of a Secret leads to. It is made of the inline data alone: no file is read, no variable
/// of the environment is looked at, and nothing runs.
///
/// # Errors
/// When the credentials cannot be used, like a key that does not fit its certificate.
pub fn connect(access: &Access) -> anyhow::Result<Client> {
    let mut config = Config::new(access.server.clone());
    match &access.trust {
        Trust::Authority(pem) => {
            let all = CertificateDer::pem_slice_iter(pem).map(|found| found.map(|found| found.to_vec()));
            config.root_cert = Some(all.collect::<Result<_, _>>().context("certificate-authority-data")?);
        }
        Trust::Anybody => config.accept_invalid_certs = true,
    }
    config.tls_server_name.clone_from(&access.tls_server_name);
    config.auth_info = match &access.identity {
        Identity::Token(token) => AuthInfo { token: Some(token.expose().into()), ..AuthInfo::default() },
        Identity::Certificate { certificate, key } => AuthInfo {
            client_certificate_data: Some(STANDARD.encode(certificate.expose())),
            client_key_data: Some(STANDARD.encode(key.expose()).into()),
            ..AuthInfo::default()
        },
        Identity::Password { username, password } => AuthInfo {
            username: Some(username.expose().to_owned()),
            password: Some(password.expose().into()),
            ..AuthInfo::default()
        },
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

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
