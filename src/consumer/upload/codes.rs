//! Maps HTTP statuses and S3 error codes to kinds and reasons.

use super::advice::is_encryption;
use super::fault::Kind;
use crate::reason::Reason;

/// The kind and reason of an answer. The codes are those of AWS, and of other object stores for cases that AWS does not
/// have.
pub fn judge(status: u16, code: &str) -> (Kind, Reason) {
    match (status, code) {
        (413 | 414, _) | (_, "EntityTooLarge") => (Kind::Message, Reason::ImageTooLarge),
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
        (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
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
        // A concurrent writer of the key, or a body that was damaged in transit.
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
        (_, code) if is_encryption(code) => (Kind::Environment, Reason::StorageRefused),
        (401 | 403, _) => (Kind::Environment, Reason::AccessDenied),
        (501, _) | (_, "NotImplemented") => (Kind::Environment, Reason::StorageRefused),
        (500.., _) => (Kind::Passing, Reason::StorageUnavailable),
        _ => (Kind::Environment, Reason::StorageRefused),
    }
}
