//! What can go wrong with a store, named: one bounded reason, one of three kinds, and a sentence
//! for a person. It must never repeat a secret, an object's name, nor text of the store's (which
//! names objects, and differs at every attempt).

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;

use super::Destination;
use super::credentials::Unusable;
use crate::reason::Reason;

/// A failure to store one object.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct UploadError {
    reason: Reason,
    kind: Kind,
    message: String,
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The object's own: it will never be stored as it is.
    Message,
    /// Nobody's: it passes by itself.
    Passing,
    /// Something around us, that a person has to repair.
    Environment,
}

impl UploadError {
    /// The bounded reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    #[cfg(test)]
    pub(in crate::consumer) fn of_kind(kind: Kind) -> Self {
        Self { reason: Reason::StorageRefused, kind, message: "refused".to_owned() }
    }

    /// The store answered, and not with 2xx. `region` is where it says the bucket is; `text` is only
    /// searched for a region.
    pub(super) fn answered(
        destination: &Destination,
        status: u16,
        code: Option<&str>,
        region: Option<&str>,
        text: Option<&str>,
    ) -> Self {
        let (kind, reason) = judge(status, code.unwrap_or_default());
        let answer = match code {
            Some(code) => format!("HTTP {status} {code}"),
            None => format!("HTTP {status}"),
        };
        let message = match reason {
            Reason::WrongRegion => wrong_region(destination, &answer, region, text),
            Reason::StorageTimeout => return Self::timed_out(destination),
            _ => advice(destination, reason, &answer),
        };
        Self { reason, kind, message }
    }

    /// Connected, and no answer in time.
    pub(super) fn timed_out(destination: &Destination) -> Self {
        let message = format!("{} did not answer in time; it is tried again", store(destination));
        Self { reason: Reason::StorageTimeout, kind: Kind::Passing, message }
    }

    /// No connection in time.
    pub(super) fn not_connected(destination: &Destination) -> Self {
        let message = format!(
            "{} takes no connection; check destination.s3.endpoint and region, and that network policies let this \
             pod reach it",
            store(destination)
        );
        Self { reason: Reason::EndpointUnreachable, kind: Kind::Passing, message }
    }

    /// The request did not go out, or the connection broke.
    pub(super) fn not_sent(destination: &Destination, error: &(dyn Error + 'static)) -> Self {
        let store = store(destination);
        let cause = root(error).replace(destination.endpoint.as_deref().unwrap_or(&store), &store);
        if causes(error).any(|cause| cause.is::<rustls::Error>()) {
            let message = format!(
                "the TLS connection to {store} failed ({cause}); its certificate must name this host and come from a \
                 known authority"
            );
            return Self { reason: Reason::TlsFailed, kind: Kind::Environment, message };
        }
        let message = format!("{store} can't be reached ({cause}); check destination.s3.endpoint and region");
        Self { reason: Reason::EndpointUnreachable, kind: Kind::Passing, message }
    }

    /// There were no credentials to sign with, if that is the error's cause.
    pub(super) fn from_credentials(destination: &Destination, error: &(dyn Error + 'static)) -> Option<Self> {
        let problem = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
        let message =
            match (causes(problem).find_map(|cause| cause.downcast_ref::<Unusable>()), &destination.credentials) {
                (Some(unusable), Some(directory)) => format!(
                    "{unusable} (mounted at {}); it needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: create it, or \
                 correct destination.s3.credentialsSecret",
                    directory.display()
                ),
                _ => format!(
                    "no AWS credentials: {problem}; give the pod's service account a role, or set \
                 destination.s3.credentialsSecret"
                ),
            };
        Some(Self { reason: Reason::CredentialsMissing, kind: Kind::Environment, message })
    }
}

/// What an HTTP status and an S3 error code mean. The codes are those of AWS, and of other stores
/// where AWS has no such case.
fn judge(status: u16, code: &str) -> (Kind, Reason) {
    match (status, code) {
        (_, "EntityTooLarge") => (Kind::Message, Reason::ImageTooLarge),
        (
            _,
            "KeyTooLongError"
            | "KeyTooLong"
            | "ObjectParentIsFile"
            | "ExistingObjectIsDirectory"
            | "XMinioInvalidObjectName"
            | "XMinioParentIsObject"
            | "XMinioObjectExistsAsDirectory",
        ) => (Kind::Message, Reason::InvalidName),
        (_, "NoSuchBucket") => (Kind::Environment, Reason::BucketNotFound),
        (301 | 307, _) | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            (Kind::Environment, Reason::WrongRegion)
        }
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken") => {
            (Kind::Environment, Reason::CredentialsInvalid)
        }
        (_, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired") => {
            (Kind::Environment, Reason::CredentialsExpired)
        }
        (_, "RequestTimeTooSkewed") => (Kind::Environment, Reason::ClockSkewed),
        (_, "RequestTimeout") => (Kind::Passing, Reason::StorageTimeout),
        (429, _)
        | (_, "SlowDown" | "Throttling" | "ThrottlingException" | "TooManyRequests" | "RequestLimitExceeded") => {
            (Kind::Passing, Reason::StorageThrottled)
        }
        (401 | 403, _) => (Kind::Environment, Reason::AccessDenied),
        (500.., _) => (Kind::Passing, Reason::StorageUnavailable),
        _ => (Kind::Environment, Reason::StorageRefused),
    }
}

/// What was found, and what to do about it.
fn advice(destination: &Destination, reason: Reason, answer: &str) -> String {
    let Destination { bucket, prefix, region, .. } = destination;
    let store = store(destination);
    match reason {
        Reason::ImageTooLarge => {
            format!("{store} refuses an object of this size ({answer}); raise its limit, or publish smaller images")
        }
        Reason::InvalidName => {
            format!("{store} can't hold an object of this name beside those it has ({answer}); rename the image")
        }
        Reason::BucketNotFound => format!(
            "bucket {bucket:?} does not exist at {store} ({answer}); create it, or correct destination.s3.bucket"
        ),
        Reason::CredentialsInvalid => format!(
            "{store} does not accept the credentials ({answer}); AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if \
             there is one, AWS_SESSION_TOKEN must be as its administrator gave them: correct the credentials Secret"
        ),
        Reason::CredentialsExpired => {
            format!("the credentials have expired ({answer} from {store}); renew them in the credentials Secret")
        }
        Reason::ClockSkewed => {
            format!("the clocks of this node and of {store} differ too much ({answer}); set the node's clock")
        }
        Reason::AccessDenied => format!(
            "{store} denies s3:PutObject on {bucket}/{prefix}* ({answer}); allow it to these credentials in their \
             policy and in the bucket's"
        ),
        Reason::StorageThrottled => format!("{store} asks to go slower ({answer}); it is tried again"),
        Reason::StorageUnavailable => format!("{store} fails ({answer}); it is tried again"),
        _ => format!(
            "{store} refuses to store an object in bucket {bucket:?}, region {region:?} ({answer}); check \
             destination.s3"
        ),
    }
}

fn wrong_region(destination: &Destination, answer: &str, region: Option<&str>, text: Option<&str>) -> String {
    let Destination { bucket, region: configured, .. } = destination;
    let expected = || text?.split("expecting '").nth(1)?.split('\'').next();
    match region.or_else(expected) {
        Some(actual) => format!(
            "bucket {bucket:?} is in region {actual:?} and destination.s3.region is {configured:?} ({answer}); set \
             destination.s3.region to {actual:?}"
        ),
        None => format!(
            "bucket {bucket:?} is not in region {configured:?} ({answer}), and the store does not say where; correct \
             destination.s3.region"
        ),
    }
}

/// The store as a person knows it; what an endpoint has before its host (`user:password@`) is left
/// out.
fn store(destination: &Destination) -> String {
    match &destination.endpoint {
        None => format!("S3 in {}", destination.region),
        Some(endpoint) => match endpoint.split_once("://") {
            Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host)),
            None => endpoint.clone(),
        },
    }
}

/// An error and everything under it. An I/O error hides what it wraps from `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn root(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
