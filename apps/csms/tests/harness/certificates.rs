//! Certificates as files: of authorities, servers and stations.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::folder::Folder;

/// An authority, with the folder of what it has signed.
pub(crate) struct Authority {
    folder: Folder,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one; its certificate is the file `ca.pem`, its key `ca.key`.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Authority of the tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { folder: Folder::new(), issuer };
        fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        fs::write(authority.path("ca.key"), authority.issuer.key().serialize_pem()).unwrap();
        authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same path, as a text.
    pub(crate) fn file(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Makes a request for a certificate, and writes its key as the file of that name.
    pub(crate) fn request(&self, file: &str, common_name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    /// Signs a certificate, and writes it and its key as files of that name.
    pub(crate) fn issue(&self, file: &str, common_name: &str, host: Option<&str>) {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<String> = host.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
        fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
    }
}
