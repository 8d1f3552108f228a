//! What messages call the object store and the place of its credentials.

use crate::api::destination::S3Destination;

pub fn is_https(destination: &S3Destination) -> bool {
    destination.endpoint.is_empty() || destination.endpoint.starts_with("https://")
}

/// The name of the object store in messages: the endpoint without `user:password@`, or "S3 in REGION".
pub fn store(destination: &S3Destination) -> String {
    match destination.endpoint.split_once("://") {
        None => format!("S3 in {}", destination.region),
        Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host)),
    }
}

/// Where the credentials are set.
pub fn credentials(destination: &S3Destination) -> String {
    match &destination.credentials_secret {
        Some(secret) => format!("Secret {:?} of destination.s3.credentialsSecret", secret.name),
        None => "the pod's AWS identity, or set destination.s3.credentialsSecret".to_owned(),
    }
}
