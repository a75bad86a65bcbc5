//! What opens an etcd: certificates, or a name and a password, out of files that somebody may replace at any time.
//! Looks at the files again every so often, and at once when etcd has refused what they held; what cannot be used, a
//! half-done rotation for example, does not take the place of what could. Connects to nothing.

use super::{CALL_TIMEOUT, CONNECT_TIMEOUT, Settings};
use crate::store::StoreError;
use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How old a look at the files may be when a call is made. They are small, and calls are few.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Pings on a connection with open streams. etcd refuses more than one in 5 s (`--grpc-keepalive-min-time`).
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

pub(super) struct Access {
    settings: Settings,
    seen: Mutex<Seen>,
}

struct Seen {
    material: Arc<Material>,
    looked: Option<Instant>,
    /// What was said of files that cannot be used, so that it is said once.
    trouble: Option<String>,
}

/// What the files held. Not printable.
#[derive(PartialEq, Eq)]
pub(super) struct Material {
    ca: Option<Vec<u8>>,
    /// A certificate and its key.
    identity: Option<(Vec<u8>, Vec<u8>)>,
    password: Option<String>,
}

// === impl Access ===

impl Access {
    /// # Errors
    /// [`StoreError::Refused`] names the setting whose file cannot be used.
    pub(super) async fn new(settings: Settings) -> Result<Self, StoreError> {
        let material = Arc::new(Material::read(&settings).await?);
        let seen = Mutex::new(Seen { material, looked: Some(Instant::now()), trouble: None });
        Ok(Self { settings, seen })
    }

    /// What the files hold, as far as it can be used.
    pub(super) async fn material(&self) -> Arc<Material> {
        {
            let mut seen = self.seen();
            if seen.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN) {
                return seen.material.clone();
            }
            seen.looked = Some(Instant::now());
        }
        let read = Material::read(&self.settings).await;
        let mut seen = self.seen();
        match read {
            Ok(material) => {
                seen.trouble = None;
                if material != *seen.material {
                    tracing::info!("the files that open etcd have changed; new connections use them");
                    seen.material = Arc::new(material);
                }
            }
            Err(error) => {
                let trouble = Some(error.to_string());
                if seen.trouble != trouble {
                    tracing::warn!(%error, "the files that open etcd cannot be used; going on with what they held before");
                    seen.trouble = trouble;
                }
            }
        }
        seen.material.clone()
    }

    /// etcd refused what the files held: they are looked at again before the next call.
    pub(super) fn doubt(&self) {
        self.seen().looked = None;
    }

    // Every critical section leaves it whole, so a panic elsewhere does not make it unusable.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to connect with what the files held.
    pub(super) fn options(&self, material: &Material) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(CALL_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        if let Some(ca) = &material.ca {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
            if let Some((certificate, key)) = &material.identity {
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            options = options.with_tls(tls);
        }
        if let (Some(user), Some(password)) = (&self.settings.user, &material.password) {
            // Tokens run out after five minutes without a call.
            options = options.with_user(&*user.name, password).with_auto_token_refresh(true);
        }
        options
    }
}

// === impl Material ===

impl Material {
    async fn read(settings: &Settings) -> Result<Self, StoreError> {
        let mut material = Self { ca: None, identity: None, password: None };
        if let Some(tls) = &settings.tls {
            material.ca = Some(read_pem("tls.caFile", &tls.ca, is_certificate).await?);
            if let Some((certificate, key)) = &tls.identity {
                let certificate = read_pem("tls.certFile", certificate, is_certificate).await?;
                let key = read_pem("tls.keyFile", key, is_key).await?;
                check_pair(&certificate, &key)?;
                material.identity = Some((certificate, key));
            }
        }
        if let Some(user) = &settings.user {
            let password = read("passwordFile", &user.password).await?;
            let password = String::from_utf8(password);
            let password = password.map_err(|_| refused("passwordFile", &user.password, "it is not text"))?;
            // Whoever wrote it with an editor has a line end in it, and nobody has one in a password.
            material.password = Some(password.trim_end_matches(['\r', '\n']).to_owned());
        }
        Ok(material)
    }
}

async fn read(field: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    tokio::fs::read(path).await.map_err(|error| refused(field, path, &error.to_string()))
}

async fn read_pem(field: &str, path: &Path, holds: fn(&[u8]) -> Result<(), String>) -> Result<Vec<u8>, StoreError> {
    let pem = read(field, path).await?;
    holds(&pem).map_err(|reason| refused(field, path, &reason))?;
    Ok(pem)
}

fn is_certificate(pem: &[u8]) -> Result<(), String> {
    CertificateDer::from_pem_slice(pem).map(drop).map_err(|error| format!("no certificate in PEM: {error}"))
}

fn is_key(pem: &[u8]) -> Result<(), String> {
    PrivateKeyDer::from_pem_slice(pem).map(drop).map_err(|error| format!("no private key in PEM: {error}"))
}

/// A certificate and a key of two different rotations would be refused by nobody before etcd.
fn check_pair(certificate: &[u8], key: &[u8]) -> Result<(), StoreError> {
    let certificates = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let pair = certificates.map_err(|error| error.to_string()).and_then(|certificates| {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
        let provider = rustls::crypto::ring::default_provider();
        let pair = rustls::sign::CertifiedKey::from_der(certificates, key, &provider);
        pair.map(drop).map_err(|error| error.to_string())
    });
    pair.map_err(|reason| {
        StoreError::Refused(format!("store.etcd.tls.certFile and keyFile do not belong together: {reason}"))
    })
}

fn refused(field: &str, path: &Path, reason: &str) -> StoreError {
    StoreError::Refused(format!("store.etcd.{field} {}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::etcd::{Tls, User};

    struct Files(tempfile::TempDir);

    impl Files {
        fn write(&self, name: &str, content: &str) {
            std::fs::write(self.0.path().join(name), content).expect("written");
        }

        fn pair(&self) -> (String, String) {
            let made = rcgen::generate_simple_self_signed(["etcd".to_owned()]).expect("a certificate");
            (made.cert.pem(), made.signing_key.serialize_pem())
        }

        fn settings(&self) -> Settings {
            let path = |name: &str| self.0.path().join(name);
            Settings {
                endpoints: vec![],
                root: String::new(),
                lease_seconds: 1,
                tls: Some(Tls { ca: path("ca"), identity: Some((path("cert"), path("key"))) }),
                user: Some(User { name: "east".to_owned(), password: path("password") }),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_change_are_read_again_and_those_that_cannot_be_used_are_not() {
        let files = Files(tempfile::TempDir::new().expect("a directory"));
        let (cert, key) = files.pair();
        for (name, content) in [("ca", &cert), ("cert", &cert), ("key", &key), ("password", &"secret\n".to_owned())] {
            let missing = Access::new(files.settings()).await.err().expect("incomplete").to_string();
            assert!(missing.contains(&files.0.path().join(name).display().to_string()), "{missing}");
            files.write(name, content);
        }
        let access = Access::new(files.settings()).await.expect("all there");
        let first = access.material().await;
        assert_eq!(first.password.as_deref(), Some("secret"));

        // Half of a rotation.
        let (other_cert, other_key) = files.pair();
        files.write("cert", &other_cert);
        assert!(Arc::ptr_eq(&first, &access.material().await), "it is too early to look");
        tokio::time::advance(LOOK_AGAIN).await;
        assert!(Arc::ptr_eq(&first, &access.material().await), "the key is another one's");
        files.write("key", &other_key);
        assert!(Arc::ptr_eq(&first, &access.material().await), "it is too early to look");
        access.doubt();
        let second = access.material().await;
        assert_eq!(second.identity, Some((other_cert.into(), other_key.into())));

        files.write("ca", "nothing");
        access.doubt();
        assert!(Arc::ptr_eq(&second, &access.material().await));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_file_is_said_by_the_name_of_its_setting() {
        let files = Files(tempfile::TempDir::new().expect("a directory"));
        let ((cert, key), (_, other)) = (files.pair(), files.pair());
        for (name, content, said) in [
            ("ca", "", "store.etcd.tls.caFile "),
            ("cert", &*key, "store.etcd.tls.certFile "),
            ("key", &*cert, "store.etcd.tls.keyFile "),
            ("key", &*other, "certFile and keyFile do not belong together"),
        ] {
            for (name, content) in [("ca", &cert), ("cert", &cert), ("key", &key), ("password", &key)] {
                files.write(name, content);
            }
            files.write(name, content);
            let error = Access::new(files.settings()).await.err().expect(said).to_string();
            assert!(error.starts_with("store refuses: ") && error.contains(said), "{error}");
            assert!(!error.contains("PRIVATE"), "{error}");
        }
    }
}
