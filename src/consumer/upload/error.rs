//! Upload errors: a bounded reason, a kind, a scope and a message for users. Messages contain no Secret values, no
//! object keys and no text from S3, which names objects and differs at every attempt.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::advice::{self, Answer};
use super::authority::AuthorityError;
use super::codes::judge;
use super::credentials::Unusable;
use super::fault::{Action, Difference, Extent, Kind, causes};
use super::{names, network, redirect};
use crate::api::destination::{OnConflict, S3Destination};
use crate::reason::Reason;

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct UploadError {
    reason: Reason,
    kind: Kind,
    scope: Extent,
    message: String,
}

impl UploadError {
    pub fn reason(&self) -> Reason {
        self.reason
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn scope(&self) -> Extent {
        self.scope
    }

    /// The reason and text for parking a message whose object S3 refuses while it stores others. A proxy may
    /// refuse a body above its limit by closing the connection, so a connection that breaks only for this object means
    /// `ImageTooLarge`.
    pub fn as_fault_of_object(&self) -> (Reason, String) {
        match self.scope {
            Extent::MaybeTooLarge => {
                (Reason::ImageTooLarge, format!("other images are stored, only this one fails: {}", self.message))
            }
            _ => (self.reason, self.message.clone()),
        }
    }

    fn new(kind: Kind, reason: Reason, message: String) -> Self {
        let scope = if kind == Kind::Message { Extent::Object } else { Extent::Store };
        Self { reason, kind, scope, message }
    }

    /// Converts an SDK error.
    pub(super) fn of<E>(destination: &S3Destination, action: Action, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(error) = Self::from_credentials(error) {
            return error;
        }
        match error {
            SdkError::TimeoutError(_) => Self::timed_out(destination),
            SdkError::ConstructionFailure(_) => {
                Self::new(Kind::Environment, Reason::StorageRefused, advice::no_request(destination))
            }
            SdkError::ServiceError(refused) => {
                let meta = refused.err().meta();
                Self::answered(destination, action, &answer(refused.raw(), meta.code(), meta.message()))
            }
            SdkError::ResponseError(unreadable) => {
                Self::answered(destination, action, &answer(unreadable.raw(), None, None))
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                Self::new(Kind::Passing, Reason::EndpointUnreachable, network::not_connected(destination))
            }
            SdkError::DispatchFailure(failure) if !failure.is_user() && broke(error) => Self {
                scope: Extent::MaybeTooLarge,
                ..Self::new(Kind::Passing, Reason::EndpointUnreachable, network::broken(destination, &innermost(error)))
            },
            _ => Self::not_sent(destination, error),
        }
    }

    /// No answer before the timeout.
    pub(super) fn timed_out(destination: &S3Destination) -> Self {
        let message = format!("{} did not answer in time; the consumer retries", names::store(destination));
        Self::new(Kind::Passing, Reason::StorageTimeout, message)
    }

    /// The connection broke during a download.
    pub(super) fn not_read(destination: &S3Destination, error: &(dyn Error + 'static)) -> Self {
        let message = network::broken(destination, &innermost(error));
        Self::new(Kind::Passing, Reason::EndpointUnreachable, message)
    }

    /// A success answer that S3 never gives.
    pub(super) fn not_s3(destination: &S3Destination, found: &str) -> Self {
        Self::new(Kind::Environment, Reason::StorageRefused, advice::not_s3(destination, found))
    }

    /// The object store replaced an object although the request had `If-None-Match`.
    pub(super) fn precondition_ignored(destination: &S3Destination) -> Self {
        Self::new(Kind::Environment, Reason::StorageRefused, advice::precondition_ignored(destination))
    }

    /// A different object has the key.
    pub(super) fn exists(difference: Difference) -> Self {
        let found = match difference {
            Difference::Pixels => "with other pixels",
            Difference::NoDigest => "without the digest that a pipeline writes",
            Difference::Bytes => {
                "whose metadata has the same digest but whose bytes differ: another program or version wrote it"
            }
        };
        let message = format!(
            "the bucket already has an object with this key, {found}, and destination.s3.onConflict keeps it; \
             publish the image under another name, or put {{digest}} into destination.s3.keyTemplate"
        );
        Self::new(Kind::Message, Reason::ObjectExists, message)
    }

    /// S3 answered with an error, a redirect, or a success that the SDK can't parse.
    fn answered(destination: &S3Destination, action: Action, answer: &Answer<'_>) -> Self {
        let (kind, reason) = match (action, answer.status) {
            (_, 200..=299) => return Self::not_s3(destination, "a success that can't be parsed"),
            (_, 300..=399) => {
                let (kind, reason, message) = redirect::judge(destination, answer);
                return Self::new(kind, reason, message);
            }
            // The object was deleted after the precondition failed.
            (Action::Read, 404) if answer.code != Some("NoSuchBucket") => (Kind::Passing, Reason::StorageUnavailable),
            _ => judge(answer.status, answer.code.unwrap_or_default()),
        };
        let message = match reason {
            Reason::StorageTimeout => return Self::timed_out(destination),
            Reason::StorageRefused if unconditional_only(destination, answer) => {
                advice::conditions_unknown(destination, answer)
            }
            _ => advice::advice(destination, action, reason, answer),
        };
        let error = Self::new(kind, reason, message);
        // A policy may allow only some keys, and S3 may refuse one object for its size, name or metadata.
        let may_be_one = matches!(reason, Reason::AccessDenied | Reason::StorageRefused);
        if may_be_one { Self { scope: Extent::MaybeObject, ..error } } else { error }
    }

    /// The request was not sent: name resolution, connection or TLS failed.
    fn not_sent(destination: &S3Destination, error: &(dyn Error + 'static)) -> Self {
        if let Some(tls) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
            return Self::new(Kind::Environment, Reason::TlsFailed, network::tls(destination, tls));
        }
        // hyper-util reports a failed name resolution only by this text.
        let message = match causes(error).any(|cause| cause.to_string() == "dns error") {
            true => network::unresolved(destination, &innermost(error)),
            false => network::unreachable(destination, &innermost(error)),
        };
        Self::new(Kind::Passing, Reason::EndpointUnreachable, message)
    }

    /// The error for missing credentials, if they are the cause.
    fn from_credentials(error: &(dyn Error + 'static)) -> Option<Self> {
        let problem = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
        let unusable = causes(problem).find_map(|cause| cause.downcast_ref::<Unusable>());
        let message = unusable.map_or_else(|| format!("no AWS credentials: {problem}"), ToString::to_string);
        let reason = unusable.map_or(Reason::CredentialsMissing, Unusable::reason);
        Some(Self::new(Kind::Environment, reason, message))
    }
}

impl From<AuthorityError> for UploadError {
    fn from(error: AuthorityError) -> Self {
        let reason = match error {
            AuthorityError::Missing => Reason::SecretNotFound,
            AuthorityError::Invalid(_) => Reason::SecretInvalid,
        };
        Self::new(Kind::Environment, reason, error.to_string())
    }
}

fn answer<'a>(raw: &'a HttpResponse, code: Option<&'a str>, text: Option<&'a str>) -> Answer<'a> {
    let header = |name: &str| raw.headers().get(name);
    let (region, location) = (header("x-amz-bucket-region"), header("location"));
    Answer { status: raw.status().as_u16(), code, region, location, text }
}

/// Whether the connection was established and broke before the answer.
fn broke(error: &(dyn Error + 'static)) -> bool {
    let is_tls = causes(error).any(|cause| cause.is::<rustls::Error>());
    let failed = causes(error).find_map(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>());
    !is_tls && failed.is_some_and(|failed| !failed.is_connect())
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn unconditional_only(destination: &S3Destination, answer: &Answer<'_>) -> bool {
    destination.on_conflict != OnConflict::Overwrite && (answer.status == 501 || answer.code == Some("NotImplemented"))
}
