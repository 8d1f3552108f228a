//! Messages about reaching S3: name resolution, connection, TLS.

use rustls::CertificateError;
use url::Url;

use super::names::store;
use crate::api::destination::S3Destination;

/// The connection attempt timed out.
pub fn not_connected(destination: &S3Destination) -> String {
    format!(
        "{} accepts no connection (timeout); check destination.s3.endpoint and region, and that network policies allow \
         this pod to reach it",
        store(destination)
    )
}

/// The connection attempt failed.
pub fn unreachable(destination: &S3Destination, cause: &str) -> String {
    let (store, cause) = (store(destination), without_password(destination, cause));
    format!("{store} can't be reached ({cause}); check destination.s3.endpoint and region")
}

/// The connection broke before the answer.
pub fn broken(destination: &S3Destination, cause: &str) -> String {
    let (store, cause) = (store(destination), without_password(destination, cause));
    format!(
        "the connection to {store} broke before the answer ({cause}); if only large images fail, an HTTP proxy limits \
         the body size: raise the limit (nginx: client_max_body_size)"
    )
}

/// The host name does not resolve. Without `forcePathStyle`, the bucket is part of the host name.
pub fn unresolved(destination: &S3Destination, cause: &str) -> String {
    let S3Destination { bucket, region, endpoint, force_path_style, .. } = destination;
    let endpoint = Url::parse(endpoint).ok();
    let host = endpoint.as_ref().and_then(Url::host_str);
    match host {
        None => format!(
            "the host of bucket {bucket:?} at S3 in {region} can't be resolved ({cause}); check destination.s3.region \
             and the pod's DNS"
        ),
        Some(host) if *force_path_style => {
            format!("the host {host:?} can't be resolved ({cause}); check destination.s3.endpoint")
        }
        Some(host) => format!(
            "the host \"{bucket}.{host}\" can't be resolved ({cause}); set destination.s3.forcePathStyle: true if the \
             object store has no host name per bucket, or check destination.s3.endpoint"
        ),
    }
}

fn without_password(destination: &S3Destination, cause: &str) -> String {
    match destination.endpoint.as_str() {
        // An empty pattern would match between all characters.
        "" => cause.to_owned(),
        endpoint => cause.replace(endpoint, &store(destination)),
    }
}

/// The TLS handshake failed.
pub fn tls(destination: &S3Destination, error: &rustls::Error) -> String {
    let store = store(destination);
    // `BadSignature`: `ca.crt` has an authority of the same name but another key.
    let unknown = matches!(
        error,
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)
    );
    let next = match (error, &destination.tls) {
        (_, None) if unknown => {
            "its certificate comes from an authority that is not trusted: put that authority's certificate as \
             ca.crt into a Secret and name it in destination.s3.tls.caSecret"
        }
        (_, Some(_)) if unknown => {
            "no authority in ca.crt issued its certificate: correct the Secret of destination.s3.tls.caSecret, or the \
             store's certificate"
        }
        (rustls::Error::InvalidCertificate(_), _) => {
            "its certificate must name the host in destination.s3.endpoint and be valid now: correct it, the \
             endpoint, or the node's clock"
        }
        _ => "the server at destination.s3.endpoint must speak TLS; for a server without TLS, use an http:// endpoint",
    };
    format!("the TLS connection to {store} failed ({error}); {next}")
}
