//! An authority of a test's own, and certificates for IP addresses, as stock programs read them: PEM files.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use std::{net::IpAddr, path::PathBuf};
use tempfile::TempDir;
use vintner::grenache::tls::Identity;

/// Signs certificates and keeps them as files.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate with its key.
pub(crate) struct Papers {
    pub(crate) cert: String,
    pub(crate) key: String,
    files: [PathBuf; 3],
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key), dir: tempfile::tempdir().unwrap() }
    }

    /// For `name` at `ips`.
    pub(crate) fn sign(&self, name: &str, ips: &[IpAddr]) -> Papers {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = ips.iter().map(|ip| SanType::IpAddress(*ip)).collect();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        let key = key.serialize_pem();
        let file = |kind: &str, text: &str| {
            let path = self.dir.path().join(format!("{name}-{kind}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = [file("key", &key), file("cert", &cert), file("ca", &self.pem)];
        Papers { cert, key, files }
    }
}

impl Papers {
    pub(crate) fn identity(&self) -> Identity<'_> {
        Identity { cert: self.cert.as_bytes(), key: self.key.as_bytes() }
    }

    /// What the scripts make `secure` of: everything is verified, and clients must have a certificate.
    pub(crate) fn secure(&self) -> Value {
        let [key, cert, ca] = &self.files;
        json!({"key": key, "cert": cert, "ca": ca, "requestCert": true, "rejectUnauthorized": true})
    }
}
