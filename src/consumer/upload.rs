//! Third step: uploads a PNG to the bucket. The only module that uses `aws_sdk_s3`. Success means that S3 returned 2xx
//! with an ETag, or that the bucket already has an object with the same bytes. Every operation has a timeout.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::operation::put_object::{PutObjectError, PutObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::decode::ObjectKey;
use super::origin::Origin;
use super::secrets::Secrets;
use crate::api::destination::{EncryptionAlgorithm, OnConflict, S3Destination};

mod advice;
mod authority;
mod checksum;
mod codes;
mod connection;
mod credentials;
mod error;
mod existing;
mod fault;
mod names;
mod network;
mod redirect;
#[cfg(test)]
mod tests;
mod trial;

use checksum::BodyChecksum;
use connection::Connection;
pub use error::UploadError;
use existing::Existing;
use fault::Action;
pub use fault::{Extent, Kind};
pub use trial::Trial;

/// Object metadata: digest of the pixels.
const DIGEST: &str = "image-pipeline-digest";
/// Object metadata: AMQP message id.
const MESSAGE_ID: &str = "image-pipeline-message-id";
/// Object metadata: trace context of the message.
const TRACEPARENT: &str = "image-pipeline-traceparent";

/// Timeout of one operation, without the transfer time of its bytes. With it, the status names an S3 server that hangs
/// within 10 s.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

/// The slowest transfer rate that does not time out: 1 MiB/s.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// Characters to percent-encode in a tag within a query string.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// The complete key, including the prefix.
    pub key: &'a ObjectKey,
    /// A PNG file, sent without a copy.
    pub png: &'a Bytes,
    /// The digest of the pixels, 64 hexadecimal digits.
    pub digest: &'a str,
    /// The message that the image came from.
    pub origin: Origin<'a>,
}

/// The result of a successful upload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stored {
    /// S3 stored the object.
    New,
    /// The bucket already has an object with the same key and bytes, from an earlier delivery of the message.
    AlreadyThere,
}

/// The client for one bucket.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    destination: S3Destination,
    tags: Option<String>,
    /// Whether this process has seen S3 refuse to replace an object.
    honors_preconditions: AtomicBool,
}

/// The result of one PUT.
enum Written {
    Taken,
    /// HTTP 412: the key already has an object.
    KeyTaken,
}

impl Store {
    /// Creates a client; sends no request yet. Every use reads `secrets` again.
    pub async fn new(destination: &S3Destination, secrets: &Secrets) -> Self {
        Self {
            connection: Connection::new(destination, secrets).await,
            destination: destination.clone(),
            tags: tagging(destination),
            honors_preconditions: AtomicBool::new(false),
        }
    }

    /// Stores a PNG under its key. `onConflict` decides what happens to an existing object with this key.
    ///
    /// # Errors
    /// S3 did not answer with success in time; it may have stored the object nevertheless.
    pub async fn put(&self, object: &Object<'_>) -> Result<Stored, UploadError> {
        let put = if !self.is_conditional() || self.honors_preconditions.load(Ordering::Relaxed) {
            self.put_once(object).await
        } else {
            self.put_and_repeat(object).await
        };
        match put {
            Err(broken) if self.is_conditional() && broken.scope() == Extent::MaybeTooLarge => {
                self.after_break(object, broken).await
            }
            put => put,
        }
    }

    async fn put_once(&self, object: &Object<'_>) -> Result<Stored, UploadError> {
        match self.write(object).await? {
            Written::Taken => Ok(Stored::New),
            Written::KeyTaken => self.existing(object).await?.stored(),
        }
    }

    /// A store that answers 412 before it has read the body closes the connection (RFC 9112, section 9.6), and the
    /// answer may be lost: then only the object shows why the connection broke.
    async fn after_break(&self, object: &Object<'_>, broken: UploadError) -> Result<Stored, UploadError> {
        match self.existing(object).await {
            Ok(Existing::Same) => Ok(Stored::AlreadyThere),
            Ok(Existing::Other(exists)) => Err(exists),
            Ok(Existing::Unseen(_)) | Err(_) => Err(broken),
        }
    }

    /// `put`, until the object store has refused to replace an object once. Object stores and proxies that don't
    /// support `If-None-Match` ignore it and answer 200, so an image would replace another image. Therefore this looks
    /// for an existing object before the first PUT, and then repeats the PUT with the same bytes: S3 must refuse it.
    async fn put_and_repeat(&self, object: &Object<'_>) -> Result<Stored, UploadError> {
        let stored = match self.existing(object).await? {
            Existing::Same => Stored::AlreadyThere,
            Existing::Unseen(_) => match self.write(object).await? {
                Written::Taken => Stored::New,
                Written::KeyTaken => return self.existing(object).await?.stored(),
            },
            other @ Existing::Other(_) => return other.stored(),
        };
        match self.write(object).await? {
            Written::KeyTaken => Ok(stored),
            Written::Taken => Err(UploadError::precondition_ignored(&self.destination)),
        }
    }

    fn is_conditional(&self) -> bool {
        self.destination.on_conflict != OnConflict::Overwrite
    }

    async fn write(&self, object: &Object<'_>) -> Result<Written, UploadError> {
        let conditional = self.is_conditional();
        let checksum = BodyChecksum::of(object.png, &self.destination);
        let mut request = self
            .request(object.key, object.png.clone(), "image/png", checksum.as_ref())?
            .metadata(DIGEST, object.digest)
            .set_if_none_match(conditional.then(|| "*".to_owned()));
        if let Some(id) = object.origin.message_id() {
            request = request.metadata(MESSAGE_ID, id.to_string());
        }
        if let Some(trace) = object.origin.traceparent() {
            request = request.metadata(TRACEPARENT, trace);
        }
        match self.send(request, object.png.len()).await? {
            Ok(answer) => self.is_s3(&answer, checksum.as_ref()).map(|()| Written::Taken),
            Err(error) if conditional && status(&error) == Some(412) => {
                self.honors_preconditions.store(true, Ordering::Relaxed);
                Ok(Written::KeyTaken)
            }
            Err(error) => Err(UploadError::of(&self.destination, Action::Put, &error)),
        }
    }

    /// Any HTTP server may answer 200 to a PUT. S3 returns an ETag, and repeats the checksum if it supports the
    /// algorithm.
    fn is_s3(&self, answer: &PutObjectOutput, checksum: Option<&BodyChecksum>) -> Result<(), UploadError> {
        if !has_etag(answer.e_tag()) {
            return Err(UploadError::not_s3(&self.destination, "a success without an ETag"));
        }
        if checksum.is_some_and(|checksum| checksum.differs(answer)) {
            return Err(UploadError::not_s3(&self.destination, "a different checksum than the object's"));
        }
        Ok(())
    }

    fn request(
        &self,
        key: &ObjectKey,
        body: Bytes,
        content_type: &str,
        checksum: Option<&BodyChecksum>,
    ) -> Result<PutObjectFluentBuilder, UploadError> {
        let destination = &self.destination;
        let encryption = destination.server_side_encryption.as_ref();
        let request = self
            .connection
            .client()?
            .put_object()
            .bucket(&destination.bucket)
            .key(key.as_str())
            .content_type(content_type)
            .set_content_length(i64::try_from(body.len()).ok())
            .body(ByteStream::from(body))
            .set_tagging(self.tags.clone())
            .set_storage_class(given(&destination.storage_class).map(|class| class.as_str().into()))
            .set_cache_control(given(&destination.cache_control))
            .set_expected_bucket_owner(given(&destination.expected_bucket_owner))
            .set_server_side_encryption(encryption.map(|encryption| match encryption.algorithm {
                EncryptionAlgorithm::Aes256 => types::ServerSideEncryption::Aes256,
                EncryptionAlgorithm::AwsKms => types::ServerSideEncryption::AwsKms,
            }))
            .set_ssekms_key_id(encryption.and_then(|encryption| encryption.kms_key_id.clone()));
        let request = destination.metadata.iter().fold(request, |request, (name, value)| request.metadata(name, value));
        Ok(match checksum {
            Some(checksum) => checksum.sent_with(request),
            None => request,
        })
    }

    /// Sends the request; the outer error means that the operation timed out.
    async fn send(
        &self,
        request: PutObjectFluentBuilder,
        length: usize,
    ) -> Result<Result<PutObjectOutput, SdkError<PutObjectError>>, UploadError> {
        let sent = async {
            // TLS already protects the body. Over plain HTTP, the signature includes the body's SHA-256.
            if names::is_https(&self.destination) {
                request.customize().disable_payload_signing().send().await
            } else {
                request.send().await
            }
        };
        self.in_time(length, sent).await
    }

    /// The result of an operation with a body of `length` bytes, if it ends before the timeout.
    async fn in_time<T>(&self, length: usize, operation: impl Future<Output = T>) -> Result<T, UploadError> {
        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
        let limit = OPERATION_TIMEOUT + Duration::from_secs(bytes / BYTES_PER_SECOND);
        tokio::time::timeout(limit, operation).await.map_err(|_| UploadError::timed_out(&self.destination))
    }
}

/// Whether the header `ETag` is present and not empty.
fn has_etag(etag: Option<&str>) -> bool {
    etag.is_some_and(|etag| !etag.trim_matches('"').is_empty())
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn given(field: &str) -> Option<String> {
    Some(field.to_owned()).filter(|field| !field.is_empty())
}

/// The tags as the header `x-amz-tagging`, a query string.
fn tagging(destination: &S3Destination) -> Option<String> {
    let encoded = |text| utf8_percent_encode(text, QUERY);
    let pairs = destination.tags.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value)));
    given(&pairs.collect::<Vec<_>>().join("&"))
}
