//! Third step: a PNG goes into the bucket. The only place that knows `aws_sdk_s3`. It must never
//! report success before the store's 2xx or the sight of the same object, nor wait without a limit.

use std::time::Duration;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::decode::ObjectKey;
use super::origin::Origin;
use super::secrets::Secrets;
use crate::api::destination::{Checksum, EncryptionAlgorithm, OnConflict, S3Destination};

mod advice;
mod connection;
mod credentials;
mod error;
#[cfg(test)]
mod tests;

use connection::Connection;
use error::Action;
pub use error::{Kind, UploadError};

/// The metadata field that says which pixels an object has.
const DIGEST: &str = "image-pipeline-digest";
/// The metadata field that says which message an object came by.
const MESSAGE_ID: &str = "image-pipeline-message-id";
/// The metadata field that says which trace that message was part of.
const TRACEPARENT: &str = "image-pipeline-traceparent";

/// What one operation may take, beside the time for its bytes: a store that hangs is named in the
/// status within ten seconds.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

/// The slowest transfer that is waited for.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// What a tag can hold as it is within a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// The whole key, prefix included.
    pub key: &'a ObjectKey,
    /// A PNG file. It is sent as it lies there, without a copy.
    pub png: &'a Bytes,
    /// The digest of the pixels, 64 hexadecimal digits.
    pub digest: &'a str,
    /// Which message it came by.
    pub origin: Origin<'a>,
}

/// An object is in the bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stored {
    /// The store has taken it.
    New,
    /// It was there, with the same pixels: this is a message that has been processed before.
    AlreadyThere,
}

/// One bucket.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    destination: S3Destination,
    tags: Option<String>,
}

impl Store {
    /// Makes a client; nothing is read nor sent yet. `secrets` are read again at every use.
    pub async fn new(destination: &S3Destination, secrets: &Secrets) -> Self {
        Self {
            connection: Connection::new(destination, secrets).await,
            destination: destination.clone(),
            tags: tagging(destination),
        }
    }

    /// Stores a PNG under its key. `onConflict` says what happens to an object that is there.
    ///
    /// # Errors
    /// The store did not answer 2xx in time; it may have stored the object all the same.
    pub async fn put(&self, object: &Object<'_>) -> Result<Stored, UploadError> {
        let conditional = self.destination.on_conflict != OnConflict::Overwrite;
        let mut request = self
            .request(object.key, object.png.clone(), "image/png")?
            .metadata(DIGEST, object.digest)
            .set_if_none_match(conditional.then(|| "*".to_owned()));
        if let Some(id) = object.origin.message_id() {
            request = request.metadata(MESSAGE_ID, id.to_string());
        }
        if let Some(trace) = object.origin.traceparent() {
            request = request.metadata(TRACEPARENT, trace);
        }
        match self.send(request, object.png.len()).await? {
            Ok(()) => Ok(Stored::New),
            Err(error) if conditional && status(&error) == Some(412) => self.compare(object).await,
            Err(error) => Err(UploadError::of(&self.destination, Action::Put, &error)),
        }
    }

    /// Stores a small object, in place of whatever was there, with the encryption, owner, tags and
    /// so on that images get: what is refused here would be refused there.
    ///
    /// # Errors
    /// As `put`.
    pub async fn probe(&self, key: &ObjectKey) -> Result<(), UploadError> {
        let body = Bytes::from_static(b"ImagePipeline writes this to see whether the bucket takes objects.\n");
        let length = body.len();
        let request = self.request(key, body, "text/plain")?;
        self.send(request, length).await?.map_err(|error| UploadError::of(&self.destination, Action::Put, &error))
    }

    fn request(&self, key: &ObjectKey, body: Bytes, content_type: &str) -> Result<PutObjectFluentBuilder, UploadError> {
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
            .set_checksum_algorithm(checksum(destination.checksum))
            .set_server_side_encryption(encryption.map(|encryption| match encryption.algorithm {
                EncryptionAlgorithm::Aes256 => types::ServerSideEncryption::Aes256,
                EncryptionAlgorithm::AwsKms => types::ServerSideEncryption::AwsKms,
            }))
            .set_ssekms_key_id(encryption.and_then(|encryption| encryption.kms_key_id.clone()));
        Ok(destination.metadata.iter().fold(request, |request, (name, value)| request.metadata(name, value)))
    }

    /// Sends an object; the outer error is that there was no answer in time.
    async fn send(
        &self,
        request: PutObjectFluentBuilder,
        length: usize,
    ) -> Result<Result<(), SdkError<PutObjectError>>, UploadError> {
        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
        let limit = OPERATION_TIMEOUT + Duration::from_secs(bytes / BYTES_PER_SECOND);
        let sent = async {
            // TLS protects the body already. Over plain HTTP its SHA-256 is part of the signature.
            let output = if advice::is_https(&self.destination) {
                request.customize().disable_payload_signing().send().await
            } else {
                request.send().await
            };
            output.map(drop)
        };
        tokio::time::timeout(limit, sent).await.map_err(|_| UploadError::timed_out(&self.destination))
    }

    /// There is an object of this key already: ours, of an earlier delivery, or another?
    async fn compare(&self, object: &Object<'_>) -> Result<Stored, UploadError> {
        let destination = &self.destination;
        let head = self
            .connection
            .client()?
            .head_object()
            .bucket(&destination.bucket)
            .key(object.key.as_str())
            .set_expected_bucket_owner(given(&destination.expected_bucket_owner))
            .send();
        let there = tokio::time::timeout(OPERATION_TIMEOUT, head)
            .await
            .map_err(|_| UploadError::timed_out(destination))?
            .map_err(|error| UploadError::of(destination, Action::Head, &error))?;
        match digest(&there) {
            Some(digest) if digest == object.digest => Ok(Stored::AlreadyThere),
            other => Err(UploadError::exists(other.is_some())),
        }
    }
}

fn digest(object: &HeadObjectOutput) -> Option<&str> {
    object.metadata()?.get(DIGEST).map(String::as_str)
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn given(field: &str) -> Option<String> {
    Some(field.to_owned()).filter(|field| !field.is_empty())
}

/// The tags as `x-amz-tagging` has them: a query.
fn tagging(destination: &S3Destination) -> Option<String> {
    let encoded = |text| utf8_percent_encode(text, QUERY);
    let pairs = destination.tags.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value)));
    given(&pairs.collect::<Vec<_>>().join("&"))
}

/// The algorithm to ask the SDK for; without one it follows `connection::checksums`.
fn checksum(checksum: Checksum) -> Option<types::ChecksumAlgorithm> {
    match checksum {
        Checksum::Auto | Checksum::None => None,
        Checksum::Crc32 => Some(types::ChecksumAlgorithm::Crc32),
        Checksum::Crc32c => Some(types::ChecksumAlgorithm::Crc32C),
        Checksum::Sha256 => Some(types::ChecksumAlgorithm::Sha256),
    }
}
