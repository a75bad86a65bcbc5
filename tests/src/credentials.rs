//! One cluster's keys and certificates, made anew for each run, and the kubeconfigs that open it.
//!
//! Everything in a kubeconfig is inline, as in a remote secret: it names no other file. There are two authorities
//! from the beginning, of which one counts; the administrator trusts both, so that nothing of the bed is shut out
//! when the other one takes over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

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
    authorities: [Authority; 2],
    /// Which of them counts.
    present: AtomicUsize,
}

/// Who vouches for the API server, and the certificate that says so, both in PEM.
#[derive(Debug)]
struct Authority {
    ca: String,
    serving: String,
}

impl Credentials {
    /// Makes them all and writes them to `directory`.
    pub(crate) fn make(site: &Site, directory: &Path) -> Result<Self> {
        // One key for both certificates: a rotation replaces one file, and no reader sees a half.
        let serving_key = KeyPair::generate()?;
        let authorities = [Authority::make(site, &serving_key)?, Authority::make(site, &serving_key)?];
        let account = KeyPair::generate()?;
        let token = administrator(site);
        let both = authorities.each_ref().map(|authority| authority.ca.as_str()).concat();
        let server = format!("https://{}", site.place().port(6443));

        let write = |name: &str, content: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, content)?;
            Ok(path)
        };
        Ok(Self {
            ca: write("ca.crt", &authorities[0].ca)?,
            serving_certificate: write("serving.crt", &authorities[0].serving)?,
            serving_key: write("serving.key", &serving_key.serialize_pem())?,
            account_key: write("service-account.key", &account.serialize_pem())?,
            account_public_key: write("service-account.pub", &account.public_key_pem())?,
            tokens: write("tokens.csv", &format!("{token},admin,admin,system:masters\n"))?,
            kubeconfig: write("kubeconfig", &kubeconfig(site.name, &server, &both, "admin", &token)?)?,
            authorities,
            present: AtomicUsize::new(0),
        })
    }

    /// The authority that counts, in PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authorities[self.present.load(Ordering::Relaxed)].ca
    }

    /// Has the other authority count, for whoever reads the files.
    pub(crate) fn rotate(&self) -> Result {
        let next = 1 - self.present.load(Ordering::Relaxed);
        replace(&self.ca, &self.authorities[next].ca)?;
        replace(&self.serving_certificate, &self.authorities[next].serving)?;
        self.present.store(next, Ordering::Relaxed);
        Ok(())
    }
}

impl Authority {
    fn make(site: &Site, serving_key: &KeyPair) -> Result<Self> {
        let ca = authority(site)?;
        Ok(Self { serving: serving(site, serving_key, &ca)?, ca: ca.pem() })
    }
}

/// The administrator's token.
pub(crate) fn administrator(site: &Site) -> String {
    format!("admin-of-{}", site.name)
}

/// A kubeconfig as `istioctl create-remote-secret` writes it.
pub(crate) fn kubeconfig(cluster: &str, server: &str, ca: &str, user: &str, token: &str) -> Result<String> {
    let ca = ByteString(ca.as_bytes().to_vec());
    Ok(serde_saphyr::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": ca}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
        "preferences": {},
    }))?)
}

/// Puts new content in the place of a file, at once.
pub(crate) fn replace(file: &Path, content: &str) -> Result {
    let next = file.with_extension("next");
    fs::write(&next, content)?;
    fs::rename(&next, file)?;
    Ok(())
}

fn authority(site: &Site) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("{} authority", site.name));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn serving(site: &Site, key: &KeyPair, ca: &CertifiedIssuer<'static, KeyPair>) -> Result<String> {
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
    Ok(params.signed_by(key, ca)?.pem())
}
