//! The CA certificates of `destination.s3.tls.caSecret`.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::secrets::Secrets;
use crate::api::names::SecretRole;

/// `ca.crt` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(
        "key ca.crt is missing in the Secret of destination.s3.tls.caSecret; create it with the authority's certificate, in PEM"
    )]
    Missing,
    #[error(
        "key ca.crt in the Secret of destination.s3.tls.caSecret {0}; it must hold certificates in PEM (-----BEGIN CERTIFICATE-----)"
    )]
    Invalid(&'static str),
}

pub fn read(secrets: &Secrets) -> Result<Vec<u8>, AuthorityError> {
    match secrets.read(SecretRole::StoreAuthority, "ca.crt") {
        Ok(pem) if pem.is_empty() => Err(AuthorityError::Missing),
        Ok(pem) => Ok(pem),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(AuthorityError::Missing),
        Err(_) => Err(AuthorityError::Invalid("can't be read")),
    }
}

/// The SDK panics on certificates that it can't parse, so they are parsed here first.
pub fn check(pem: &[u8]) -> Result<(), AuthorityError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| AuthorityError::Invalid("is not valid PEM"))?;
        roots.add(certificate).map_err(|_| AuthorityError::Invalid("has a certificate that can't be parsed"))?;
    }
    if roots.is_empty() { Err(AuthorityError::Invalid("has no certificate")) } else { Ok(()) }
}
