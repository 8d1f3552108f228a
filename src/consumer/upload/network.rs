//! The sentences about the way to a store: its name, the connection, TLS.

use rustls::CertificateError;
use url::Url;

use super::advice::store;
use crate::api::destination::S3Destination;

/// No connection in time.
pub fn not_connected(destination: &S3Destination) -> String {
    format!(
        "{} takes no connection; check destination.s3.endpoint and region, and that network policies let this pod \
         reach it",
        store(destination)
    )
}

/// No connection.
pub fn unreachable(destination: &S3Destination, cause: &str) -> String {
    let (store, cause) = (store(destination), without_password(destination, cause));
    format!("{store} can't be reached ({cause}); check destination.s3.endpoint and region")
}

/// A connection that broke.
pub fn broken(destination: &S3Destination, cause: &str) -> String {
    let (store, cause) = (store(destination), without_password(destination, cause));
    format!(
        "the connection to {store} broke before it answered ({cause}); if that happens to large images alone, an HTTP \
         proxy limits the size of bodies (nginx: client_max_body_size): raise the limit"
    )
}

/// The host's name has no address. Without `forcePathStyle` the bucket is part of the name.
pub fn unresolved(destination: &S3Destination, cause: &str) -> String {
    let S3Destination { bucket, region, endpoint, force_path_style, .. } = destination;
    let endpoint = Url::parse(endpoint).ok();
    let host = endpoint.as_ref().and_then(Url::host_str);
    match host {
        None => format!(
            "the host of bucket {bucket:?} at S3 in {region} can't be looked up ({cause}); check destination.s3.region \
             and the pod's DNS"
        ),
        Some(host) if *force_path_style => {
            format!("the host {host:?} can't be looked up ({cause}); check destination.s3.endpoint")
        }
        Some(host) => format!(
            "the host \"{bucket}.{host}\" can't be looked up ({cause}); set destination.s3.forcePathStyle: true if the \
             store has no host of its own for each bucket, or check destination.s3.endpoint"
        ),
    }
}

fn without_password(destination: &S3Destination, cause: &str) -> String {
    match destination.endpoint.as_str() {
        // Replacing nothing would put the store between all letters.
        "" => cause.to_owned(),
        endpoint => cause.replace(endpoint, &store(destination)),
    }
}

/// No trust.
pub fn tls(destination: &S3Destination, error: &rustls::Error) -> String {
    let store = store(destination);
    // An authority that was made anew under its old name is found, and has not signed this.
    let unknown = matches!(
        error,
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)
    );
    let next = match (error, &destination.tls) {
        (_, None) if unknown => {
            "its certificate comes from no known authority: put that authority's certificate as ca.crt into a Secret \
             and name it in destination.s3.tls.caSecret"
        }
        (_, Some(_)) if unknown => {
            "its certificate comes from none of the authorities in ca.crt of the Secret in \
             destination.s3.tls.caSecret: correct that Secret, or the store's certificate"
        }
        (rustls::Error::InvalidCertificate(_), _) => {
            "its certificate must name the host in destination.s3.endpoint and be valid now: correct it, the \
             endpoint, or the node's clock"
        }
        _ => "destination.s3.endpoint must be a store that speaks TLS; one that does not has http:// before its host",
    };
    format!("the TLS connection to {store} failed ({error}); {next}")
}

pub(super) fn credentials(destination: &S3Destination) -> String {
    match &destination.credentials_secret {
        Some(secret) => format!("Secret {:?} of destination.s3.credentialsSecret", secret.name),
        None => "the identity of the pod, or set destination.s3.credentialsSecret".to_owned(),
    }
}
