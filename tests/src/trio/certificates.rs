//! The certificates of one etcd: an authority, its members, and whoever talks to it.
//!
//! There are two authorities from the beginning, as there are of a cluster: members trust both, and one counts, which
//! vouches for members and clients. A user of etcd is the common name of a client's certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::credentials::replace;
use crate::place::Place;
use crate::{ClientFiles, Result};

pub(super) struct Certificates {
    directory: PathBuf,
    authorities: [CertifiedIssuer<'static, KeyPair>; 2],
    /// Which of them counts.
    present: AtomicUsize,
    /// One key for all certificates of members: a rotation replaces one file, and no reader sees a half.
    members: KeyPair,
}

// === impl Certificates ===

impl Certificates {
    /// Makes the authorities, and certificates of these members, in a directory.
    pub(super) fn make(directory: &Path, members: &[Place]) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let made = Self {
            directory: directory.to_owned(),
            authorities: [authority("first")?, authority("second")?],
            present: AtomicUsize::new(0),
            members: KeyPair::generate()?,
        };
        fs::write(made.trusted_by_members(), made.authorities.each_ref().map(CertifiedIssuer::pem).concat())?;
        fs::write(made.member_key(), made.members.serialize_pem())?;
        made.issue_members(members)?;
        Ok(made)
    }

    /// Both authorities.
    pub(super) fn trusted_by_members(&self) -> PathBuf {
        self.directory.join("trusted-by-members.crt")
    }

    pub(super) fn member_certificate(&self, member: Place) -> PathBuf {
        self.directory.join(format!("{}.crt", member.name()))
    }

    pub(super) fn member_key(&self) -> PathBuf {
        self.directory.join("members.key")
    }

    /// Files of a user. Every call makes them anew, in the same place, as whoever renews certificates does.
    pub(super) fn issue(&self, user: &str) -> Result<ClientFiles> {
        self.write(user, user, self.authority())
    }

    /// Files of a user that nobody here vouches for.
    pub(super) fn forge(&self, user: &str) -> Result<ClientFiles> {
        self.write(&format!("forged-{user}"), user, &authority("foreign")?)
    }

    /// Has the other authority count: members serve its certificates from now on, and clients get them.
    pub(super) fn rotate_authority(&self, members: &[Place]) -> Result {
        self.present.store(1 - self.present.load(Ordering::Relaxed), Ordering::Relaxed);
        self.issue_members(members)
    }

    fn authority(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.authorities[self.present.load(Ordering::Relaxed)]
    }

    fn issue_members(&self, members: &[Place]) -> Result {
        for &member in members {
            let mut params = CertificateParams::new([member.address().to_string(), "127.0.0.1".to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, member.name());
            // A member is a client of its peers.
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = params.signed_by(&self.members, self.authority())?;
            replace(&self.member_certificate(member), &certificate.pem())?;
        }
        Ok(())
    }

    fn write(&self, name: &str, user: &str, authority: &CertifiedIssuer<'static, KeyPair>) -> Result<ClientFiles> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, authority)?;
        let file = |suffix: &str| self.directory.join(format!("user-{name}.{suffix}"));
        let files = ClientFiles { ca: file("ca"), cert: file("crt"), key: file("key") };
        replace(&files.ca, &self.authority().pem())?;
        replace(&files.cert, &certificate.pem())?;
        replace(&files.key, &key.serialize_pem())?;
        Ok(files)
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("{name} authority of etcd"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}
