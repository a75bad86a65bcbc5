//! Clients of API servers, made of a kubeconfig file or of the pod's own service account.

use super::{
    connection::{self, Reach},
    kubeconfig::{Access, Identity, Trust},
};
use crate::config::file::Kubernetes;
use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Uri;
use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use std::{fmt, path::Path, sync::Arc};

/// Makes clients of one API server, each with a connection of its own.
#[derive(Clone)]
pub struct Connector {
    /// The API server, for people.
    pub server: Arc<str>,
    connect: Arc<dyn Fn() -> anyhow::Result<Client> + Send + Sync>,
}

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
    connection::client(&config, Reach::Harmless { loopback: access.loopback })
}

/// Clients of what an operator's own kubeconfig file, or the pod's service account, leads to.
///
/// # Errors
/// When a kubeconfig cannot be read or says what cannot be.
pub async fn connector(typed: &Kubernetes) -> anyhow::Result<Connector> {
    match &typed.kubeconfig {
        None => trusted(Config::incluster().context("no `kubeconfig` is given, and this is not a pod")?),
        Some(path) => administrator(Some(path), typed.context.as_deref()).await,
    }
}

/// Clients of what a kubeconfig file leads to that an operator chose, by default the one that kubectl would use.
///
/// # Errors
/// When the kubeconfig cannot be read or says what cannot be.
pub async fn administrator(path: Option<&Path>, context: Option<&str>) -> anyhow::Result<Connector> {
    let shown = path.map_or_else(|| "the kubeconfig".to_owned(), |path| path.display().to_string());
    let read = path.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let kubeconfig = read.with_context(|| shown.clone())?;
    let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let proxies: Vec<_> = clusters.filter_map(|cluster| cluster.proxy_url.clone()).collect();
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(|| shown.clone())?;
    // A proxy of the environment's is not meant for API servers; one of the file's own is, and cannot be had.
    let same = |typed: &String| typed.parse().ok().is_some_and(|typed: Uri| config.proxy_url.as_ref() == Some(&typed));
    ensure!(!proxies.iter().any(same), "{shown}: proxy-url: connections through proxies are not supported");
    trusted(config)
}

fn trusted(config: Config) -> anyhow::Result<Connector> {
    let server = config.cluster_url.to_string();
    let connector = Connector::new(&server, move || connection::client(&config, Reach::Anywhere));
    // What is wrong with the file is to be known now.
    connector.connect()?;
    Ok(connector)
}

// === impl Connector ===

impl Connector {
    /// A connector to `server`.
    pub fn new(server: &str, connect: impl Fn() -> anyhow::Result<Client> + Send + Sync + 'static) -> Self {
        Self { server: server.into(), connect: Arc::new(connect) }
    }

    /// A client with a connection of its own, which is made when something is asked.
    ///
    /// # Errors
    /// When the credentials cannot be used, like a key that does not fit its certificate.
    pub fn connect(&self) -> anyhow::Result<Client> {
        (self.connect)()
    }

    /// Whether this is that very connector.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.connect, &other.connect)
    }
}

impl From<Access> for Connector {
    fn from(access: Access) -> Self {
        Self::new(&access.server.to_string(), move || connect(&access))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.server).finish()
    }
}
