//! What can go wrong with a store, named: one bounded reason, one of three kinds, and a sentence
//! for a person. It must never repeat a secret, an object's name, nor text of the store's (which
//! names objects, and differs at every attempt).

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::advice::{self, Answer};
use super::connection::AuthorityError;
use super::credentials::Unusable;
use crate::api::destination::{OnConflict, S3Destination};
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

/// What the store was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// To take an object.
    Put,
    /// To tell the metadata of the one that is in the way.
    Head,
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

    /// What the SDK has to say of an operation.
    pub(super) fn of<E>(destination: &S3Destination, action: Action, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(error) = Self::from_credentials(error) {
            return error;
        }
        match error {
            SdkError::TimeoutError(_) => Self::timed_out(destination),
            SdkError::ServiceError(refused) => {
                let (raw, meta) = (refused.raw(), refused.err().meta());
                let answer = Answer {
                    status: raw.status().as_u16(),
                    code: meta.code(),
                    region: raw.headers().get("x-amz-bucket-region"),
                    text: meta.message(),
                };
                Self::answered(destination, action, &answer)
            }
            SdkError::ResponseError(unreadable) => {
                let status = unreadable.raw().status().as_u16();
                Self::answered(destination, action, &Answer { status, code: None, region: None, text: None })
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self {
                reason: Reason::EndpointUnreachable,
                kind: Kind::Passing,
                message: advice::not_connected(destination),
            },
            _ => Self::not_sent(destination, error),
        }
    }

    /// Connected, and no answer in time.
    pub(super) fn timed_out(destination: &S3Destination) -> Self {
        let message = format!("{} did not answer in time; it is tried again", advice::store(destination));
        Self { reason: Reason::StorageTimeout, kind: Kind::Passing, message }
    }

    /// Another object has the key; `known`: one that a pipeline has stored.
    pub(super) fn exists(known: bool) -> Self {
        let found = if known { "with other pixels" } else { "without the digest that a pipeline's objects have" };
        let message = format!(
            "the bucket has an object of this key already, {found}, and destination.s3.onConflict lets it stay; \
             publish the image under another name, or put {{digest}} into destination.s3.keyTemplate"
        );
        Self { reason: Reason::ObjectExists, kind: Kind::Message, message }
    }

    /// Whether a store that takes other objects may answer so for one: a policy may speak of keys, and a store
    /// refuse one for what it is. All else that is refused concerns every object.
    pub fn may_be_of_one_object(&self) -> bool {
        self.kind == Kind::Message || matches!(self.reason, Reason::AccessDenied | Reason::StorageRefused)
    }

    /// The store answered, and not with 2xx.
    fn answered(destination: &S3Destination, action: Action, answer: &Answer<'_>) -> Self {
        let (kind, reason) = match (action, answer.status) {
            // Who deleted it has made way for ours.
            (Action::Head, 404) if answer.code != Some("NoSuchBucket") => (Kind::Passing, Reason::StorageUnavailable),
            _ => judge(answer.status, answer.code.unwrap_or_default()),
        };
        let message = match reason {
            Reason::StorageTimeout => return Self::timed_out(destination),
            Reason::StorageRefused if unconditional_only(destination, answer) => {
                advice::conditions_unknown(destination, answer)
            }
            _ => advice::advice(destination, action, reason, answer),
        };
        Self { reason, kind, message }
    }

    /// The request did not go out, or the connection broke.
    fn not_sent(destination: &S3Destination, error: &(dyn Error + 'static)) -> Self {
        if let Some(tls) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
            let message = advice::tls(destination, tls);
            return Self { reason: Reason::TlsFailed, kind: Kind::Environment, message };
        }
        let cause = causes(error).last().map(ToString::to_string).unwrap_or_default();
        let message = advice::unreachable(destination, &cause);
        Self { reason: Reason::EndpointUnreachable, kind: Kind::Passing, message }
    }

    /// There were no credentials to sign with, if that is the error's cause.
    fn from_credentials(error: &(dyn Error + 'static)) -> Option<Self> {
        let problem = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
        let unusable = causes(problem).find_map(|cause| cause.downcast_ref::<Unusable>());
        let message = unusable.map_or_else(|| format!("no AWS credentials: {problem}"), ToString::to_string);
        let reason = unusable.map_or(Reason::CredentialsMissing, Unusable::reason);
        Some(Self { reason, kind: Kind::Environment, message })
    }
}

impl From<AuthorityError> for UploadError {
    fn from(error: AuthorityError) -> Self {
        let reason = match error {
            AuthorityError::Missing => Reason::SecretNotFound,
            AuthorityError::Invalid(_) => Reason::SecretInvalid,
        };
        Self { reason, kind: Kind::Environment, message: error.to_string() }
    }
}

fn unconditional_only(destination: &S3Destination, answer: &Answer<'_>) -> bool {
    destination.on_conflict != OnConflict::Overwrite && (answer.status == 501 || answer.code == Some("NotImplemented"))
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
        | (
            _,
            "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "RequestLimitExceeded"
            | "KMS.ThrottlingException",
        ) => (Kind::Passing, Reason::StorageThrottled),
        // Another writer of the key; or the body was damaged on its way.
        (
            _,
            "OperationAborted"
            | "ConditionalRequestConflict"
            | "BadDigest"
            | "XAmzContentSHA256Mismatch"
            | "IncompleteBody",
        ) => (Kind::Passing, Reason::StorageUnavailable),
        (507, _)
        | (
            _,
            "QuotaExceeded"
            | "XMinioStorageFull"
            | "XMinioAdminBucketQuotaExceeded"
            | "BucketQuotaExceeded"
            | "StorageFull"
            | "InsufficientStorage",
        ) => (Kind::Environment, Reason::StorageFull),
        (_, code) if advice::is_encryption(code) => (Kind::Environment, Reason::StorageRefused),
        (401 | 403, _) => (Kind::Environment, Reason::AccessDenied),
        (501, _) | (_, "NotImplemented") => (Kind::Environment, Reason::StorageRefused),
        (500.., _) => (Kind::Passing, Reason::StorageUnavailable),
        _ => (Kind::Environment, Reason::StorageRefused),
    }
}

/// An error and everything under it. An I/O error hides what it wraps from `source`.
pub(super) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}
