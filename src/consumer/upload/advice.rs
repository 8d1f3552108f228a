//! Messages about S3's answers: what was found, and which field to correct. Messages repeat no text from S3.

use super::fault::Action;
use super::names::{credentials, store};
use crate::api::destination::S3Destination;
use crate::reason::Reason;

/// An answer from S3.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The S3 error code; `None` for answers to HEAD.
    pub code: Option<&'a str>,
    /// The bucket's region, from the header `x-amz-bucket-region`.
    pub region: Option<&'a str>,
    /// The header `Location`.
    pub location: Option<&'a str>,
    /// The message of the S3 error. It is only searched for a region, a permission and a header name, never shown.
    pub text: Option<&'a str>,
}

impl std::fmt::Display for Answer<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Some(code) => write!(formatter, "HTTP {} {code}", self.status),
            None => write!(formatter, "HTTP {}", self.status),
        }
    }
}

/// Whether an S3 error code concerns encryption at rest.
pub fn is_encryption(code: &str) -> bool {
    code.starts_with("KMS.") || code.contains("KMS") || code == "ServerSideEncryptionConfigurationNotFoundError"
}

/// The message for an error answer.
pub fn advice(destination: &S3Destination, action: Action, reason: Reason, answer: &Answer<'_>) -> String {
    let (store, bucket) = (store(destination), &destination.bucket);
    match reason {
        Reason::ImageTooLarge => too_large(&store, answer),
        Reason::InvalidName => {
            format!(
                "{store} refuses the object key as too long, invalid, or in conflict with an existing object's key \
                 ({answer}); rename the image"
            )
        }
        Reason::BucketNotFound => format!(
            "bucket {bucket:?} does not exist at {store} ({answer}); create it, or correct destination.s3.bucket"
        ),
        Reason::WrongRegion => wrong_region(destination, answer),
        Reason::CredentialsInvalid => format!(
            "{store} rejects the credentials ({answer}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if set, \
             AWS_SESSION_TOKEN: correct {}",
            credentials(destination)
        ),
        Reason::CredentialsExpired => {
            format!("the credentials have expired ({answer} from {store}); renew them in {}", credentials(destination))
        }
        Reason::ClockSkewed => {
            format!("the clocks of this node and of {store} differ too much ({answer}); set the node's clock")
        }
        Reason::AccessDenied => denied(destination, action, answer),
        Reason::StorageThrottled => format!("{store} throttles requests ({answer}); the consumer retries"),
        Reason::StorageUnavailable => format!("{store} is unavailable ({answer}); the consumer retries"),
        Reason::StorageFull => format!(
            "{store} has no room left for bucket {bucket:?} ({answer}); free or add space, or raise the bucket's quota"
        ),
        _ => refused(destination, answer),
    }
}

fn too_large(store: &str, answer: &Answer<'_>) -> String {
    match answer.status {
        413 => format!(
            "{store}, or an HTTP proxy in front of it, refuses a body of this size ({answer}); raise the proxy's limit \
             (nginx: client_max_body_size) or the object store's, or publish smaller images"
        ),
        414 => format!(
            "{store}, or an HTTP proxy in front of it, refuses a request line of this length ({answer}); raise the \
             proxy's limit (nginx: large_client_header_buffers), or publish the image under a shorter name"
        ),
        _ => format!(
            "{store} refuses an object of this size ({answer}); raise its size limit, or publish smaller images"
        ),
    }
}

/// A success answer without the fields that S3 always sets.
pub fn not_s3(destination: &S3Destination, found: &str) -> String {
    format!(
        "{} answers, but not like S3 ({found}); check destination.s3.endpoint: it must be the address of the \
         S3 API, not of a console or a web page",
        store(destination)
    )
}

/// The SDK can't build a valid HTTP request.
pub fn no_request(destination: &S3Destination) -> String {
    format!(
        "the fields of destination.s3 make no valid request to {}; check endpoint and bucket, and that metadata and \
         cacheControl are printable ASCII",
        store(destination)
    )
}

/// The object store accepted the same key twice.
pub fn precondition_ignored(destination: &S3Destination) -> String {
    format!(
        "{} ignores If-None-Match, so destination.s3.onConflict {:?} would overwrite images; set it to Overwrite, or \
         use an object store with conditional writes, without a proxy that removes the header",
        store(destination),
        destination.on_conflict
    )
}

pub fn conditions_unknown(destination: &S3Destination, answer: &Answer<'_>) -> String {
    format!(
        "{} does not support conditional writes (If-None-Match; {answer}), which destination.s3.onConflict {:?} needs; \
         set it to Overwrite, or use an object store with conditional writes",
        store(destination),
        destination.on_conflict
    )
}

fn denied(destination: &S3Destination, action: Action, answer: &Answer<'_>) -> String {
    let S3Destination { bucket, prefix, .. } = destination;
    let store = store(destination);
    let encryption = destination.server_side_encryption.as_ref();
    if let Some(permission) = kms_permission(answer) {
        let key = match encryption {
            Some(_) => "the key of destination.s3.serverSideEncryption",
            None => "the key of the bucket's own encryption",
        };
        return format!(
            "{store} denies {permission} on {key} for bucket {bucket:?} ({answer}); allow it for these credentials, \
             in their policy and in the key policy"
        );
    }
    let mut also = String::new();
    let denied = match action {
        Action::Read => "s3:GetObject (to compare the existing object, as destination.s3.onConflict requires)",
        Action::Delete => "s3:DeleteObject",
        Action::Put => {
            if !destination.tags.is_empty() {
                also += "; destination.s3.tags also needs s3:PutObjectTagging";
            }
            match encryption.map(|encryption| encryption.kms_key_id.is_some()) {
                Some(true) => {
                    also += "; destination.s3.serverSideEncryption.kmsKeyId also needs kms:GenerateDataKey on the key";
                }
                None if destination.endpoint.is_empty() => {
                    also += "; a bucket that encrypts with a KMS key also needs kms:GenerateDataKey on the key";
                }
                _ => {}
            }
            "s3:PutObject"
        }
    };
    if !destination.expected_bucket_owner.is_empty() {
        also += "; destination.s3.expectedBucketOwner is set: if another account owns the bucket, that is the reason";
    }
    format!(
        "{store} denies {denied} on {bucket}/{prefix}* ({answer}); allow it for these credentials, in their policy \
         and in the bucket policy{also}"
    )
}

/// The KMS permission that AWS names in its error message.
fn kms_permission(answer: &Answer<'_>) -> Option<&'static str> {
    let text = answer.text.filter(|text| text.contains("kms:"))?;
    Some(if text.contains("kms:Decrypt") { "kms:Decrypt" } else { "kms:GenerateDataKey" })
}

fn refused(destination: &S3Destination, answer: &Answer<'_>) -> String {
    let S3Destination { bucket, region, .. } = destination;
    let store = store(destination);
    match answer.code.unwrap_or_default() {
        code if is_encryption(code) => format!(
            "{store} can't encrypt with the configured key ({answer}); the key in \
             destination.s3.serverSideEncryption.kmsKeyId, or the bucket's default key, must exist in the bucket's \
             region, be enabled, and allow kms:GenerateDataKey for these credentials"
        ),
        "InvalidTag" => format!("{store} refuses the tags ({answer}); correct destination.s3.tags"),
        "InvalidStorageClass" => format!(
            "{store} does not support storage class {:?} ({answer}); correct destination.s3.storageClass",
            destination.storage_class
        ),
        "MetadataTooLarge" => format!(
            "{store} refuses the metadata as too large ({answer}; S3's limit is 2 KB in total); shorten \
             destination.s3.metadata"
        ),
        // Object Lock: "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests".
        _ if answer.text.is_some_and(|text| text.contains("x-amz-checksum-") || text.contains("Content-MD5")) => {
            format!(
                "bucket {bucket:?} at {store} requires a checksum for every object, as Object Lock does ({answer}); \
                 set destination.s3.checksum: CRC32"
            )
        }
        _ => {
            let fields = fields(destination).join(", ");
            let check = if fields.is_empty() { "destination.s3" } else { fields.as_str() };
            format!(
                "{store} refuses to store an object in bucket {bucket:?}, region {region:?} ({answer}); check {check}"
            )
        }
    }
}

/// The optional fields that are set and change the request.
fn fields(destination: &S3Destination) -> Vec<&'static str> {
    [
        ("destination.s3.serverSideEncryption", destination.server_side_encryption.is_some()),
        ("destination.s3.storageClass", !destination.storage_class.is_empty()),
        ("destination.s3.tags", !destination.tags.is_empty()),
        ("destination.s3.metadata", !destination.metadata.is_empty()),
        ("destination.s3.cacheControl", !destination.cache_control.is_empty()),
        ("destination.s3.checksum", destination.checksum != Default::default()),
        ("destination.s3.expectedBucketOwner", !destination.expected_bucket_owner.is_empty()),
    ]
    .into_iter()
    .filter_map(|(field, set)| set.then_some(field))
    .collect()
}

/// The bucket is in another region.
pub fn wrong_region(destination: &S3Destination, answer: &Answer<'_>) -> String {
    let S3Destination { bucket, region: configured, .. } = destination;
    let expected = || answer.text?.split("expecting '").nth(1)?.split('\'').next();
    match answer.region.or_else(expected) {
        Some(actual) => format!(
            "bucket {bucket:?} is in region {actual:?} and destination.s3.region is {configured:?} ({answer}); set \
             destination.s3.region to {actual:?}"
        ),
        None => format!(
            "bucket {bucket:?} is not in region {configured:?} ({answer}), and the answer does not say where; correct \
             destination.s3.region"
        ),
    }
}
