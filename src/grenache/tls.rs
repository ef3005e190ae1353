//! TLS for Grenache RPC, from PEM: what stock programs are given as `secure: {key, cert, ca}`.
//!
//! Services are found by address, not by name, so a server's certificate must name its IP address (a subject alternative name
//! of type IP): that is what a client that verifies checks, stock or ours. Ours always verifies.

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::sync::Arc;

/// Who a side is, in PEM.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// Its certificate, followed by those between it and the authority's, if any.
    pub cert: &'a [u8],
    /// The certificate's private key.
    pub key: &'a [u8],
}

/// Why PEM cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nothing of the kind is in it.
    #[error("there is no certificate in the PEM of {0}; it begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate(&'static str),
    /// It is there and cannot be read.
    #[error("the PEM of {what} cannot be read: {reason}")]
    Unreadable {
        /// Whose.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// They do not belong together, or are of a kind that TLS does not use.
    #[error("certificate and key cannot be used: {0}")]
    Refused(String),
}

const CERT: &str = "the certificate";
const KEY: &str = "the private key";
const AUTHORITY: &str = "the authority's certificate";

/// For a service that is `identity`. With `clients_of` only clients whose certificate that authority signed are served.
///
/// # Errors
/// When the PEM cannot be used.
pub fn server(identity: Identity<'_>, clients_of: Option<&[u8]>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let builder = match clients_of {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(refused)?)
        }
    };
    let (chain, key) = read(identity)?;
    let mut config = builder.with_single_cert(chain, key).map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// For a client that believes servers whose certificate `servers_of` signed, and that shows `identity` to those who ask.
///
/// # Errors
/// When the PEM cannot be used.
pub fn client(servers_of: &[u8], identity: Option<Identity<'_>>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_root_certificates(roots(servers_of)?);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => {
            let (chain, key) = read(identity)?;
            builder.with_client_auth_cert(chain, key).map_err(refused)
        }
    }
}

/// For a client that uses no TLS: reqwest insists on a set-up, and this one needs neither a process-wide crypto provider nor a
/// certificate store on the machine.
pub(super) fn none() -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(refused)?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn refused(error: impl std::fmt::Display) -> TlsError {
    TlsError::Refused(error.to_string())
}

fn read(identity: Identity<'_>) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key = PrivateKeyDer::from_pem_slice(identity.key);
    let key = key.map_err(|error| TlsError::Unreadable { what: KEY, reason: error.to_string() })?;
    Ok((certificates(identity.cert, CERT)?, key))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, AUTHORITY)? {
        let unreadable =
            |error: rustls::Error| TlsError::Unreadable { what: AUTHORITY, reason: error.to_string() };
        roots.add(certificate).map_err(unreadable)?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::NoCertificate(what)),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::Unreadable { what, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pem_is_refused_by_name() {
        let none = server(Identity { cert: b"", key: b"" }, None).unwrap_err();
        assert!(matches!(none, TlsError::Unreadable { what: KEY, .. }), "{none}");
        let none = client(b"nothing", None).unwrap_err();
        assert!(matches!(none, TlsError::NoCertificate(AUTHORITY)), "{none}");
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let bad = client(pem, None).unwrap_err();
        assert!(matches!(bad, TlsError::Unreadable { what: AUTHORITY, .. }), "{bad}");
    }
}
