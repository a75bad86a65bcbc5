//! One cluster's keys and certificates, made anew for each run, and the kubeconfig that opens it.
//!
//! Everything in the kubeconfig is inline, as in a remote secret: it names no other file.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use crate::Result;
use crate::site::Site;

/// Files for the cluster's parts to read.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) ca: PathBuf,
    pub(crate) serving_certificate: PathBuf,
    pub(crate) serving_key: PathBuf,
    pub(crate) account_key: PathBuf,
    pub(crate) account_public_key: PathBuf,
    /// The API server's token file: the administrator is its only user.
    pub(crate) tokens: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

impl Credentials {
    /// Makes them all and writes them to `directory`.
    pub(crate) fn make(site: &Site, directory: &Path) -> Result<Self> {
        let ca = authority(site)?;
        let (serving_certificate, serving_key) = serving(site, &ca)?;
        let account = KeyPair::generate()?;
        let token = format!("admin-of-{}", site.name);

        let write = |name: &str, content: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, content)?;
            Ok(path)
        };
        Ok(Self {
            ca: write("ca.crt", &ca.pem())?,
            serving_certificate: write("serving.crt", &serving_certificate)?,
            serving_key: write("serving.key", &serving_key)?,
            account_key: write("service-account.key", &account.serialize_pem())?,
            account_public_key: write("service-account.pub", &account.public_key_pem())?,
            tokens: write("tokens.csv", &format!("{token},admin,admin,system:masters\n"))?,
            kubeconfig: write("kubeconfig", &kubeconfig(site, &ca.pem(), &token)?)?,
        })
    }
}

fn authority(site: &Site) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("{} authority", site.name));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn serving(site: &Site, ca: &CertifiedIssuer<'static, KeyPair>) -> Result<(String, String)> {
    let names = [
        site.place().address().to_string(),
        site.kubernetes_service().to_string(),
        "127.0.0.1".to_owned(),
        "localhost".to_owned(),
        "kubernetes.default.svc".to_owned(),
    ];
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, ca)?.pem(), key.serialize_pem()))
}

fn kubeconfig(site: &Site, ca: &str, token: &str) -> Result<String> {
    let (name, server) = (site.name, format!("https://{}", site.place().port(6443)));
    let ca = ByteString(ca.as_bytes().to_vec());
    Ok(serde_saphyr::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": ca}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
        "current-context": name,
    }))?)
}
