//! Third step: a PNG goes into the bucket. The only place that knows `aws_sdk_s3`. It must never
//! report success before S3's 2xx with an ETag or the sight of the same bytes, nor wait without a limit.

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
mod checksum;
mod codes;
mod connection;
mod credentials;
mod error;
mod existing;
mod network;
mod redirect;
#[cfg(test)]
mod tests;
mod trial;

use checksum::BodyChecksum;
use connection::Connection;
use error::Action;
pub use error::{Kind, Scope, UploadError};
use existing::Existing;
pub use trial::Trial;

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
    /// Whether this process has seen the store refuse to replace an object.
    honors_preconditions: AtomicBool,
}

/// What became of one PUT.
enum Written {
    /// The store has the object.
    Taken,
    /// The precondition failed: the key has an object.
    KeyTaken,
}

impl Store {
    /// Makes a client; nothing is read nor sent yet. `secrets` are read again at every use.
    pub async fn new(destination: &S3Destination, secrets: &Secrets) -> Self {
        Self {
            connection: Connection::new(destination, secrets).await,
            destination: destination.clone(),
            tags: tagging(destination),
            honors_preconditions: AtomicBool::new(false),
        }
    }

    /// Stores a PNG under its key. `onConflict` says what happens to an object that has the key.
    ///
    /// # Errors
    /// The store did not answer as S3 does in time; it may have stored the object all the same.
    pub async fn put(&self, object: &Object<'_>) -> Result<Stored, UploadError> {
        if self.is_conditional() && !self.honors_preconditions.load(Ordering::Relaxed) {
            return self.put_and_repeat(object).await;
        }
        match self.write(object).await? {
            Written::Taken => Ok(Stored::New),
            Written::KeyTaken => self.existing(object).await?.stored(),
        }
    }

    /// `put`, until the store has refused to replace an object. Stores and proxies that don't know
    /// `If-None-Match` pass over it and answer 200, and an image would replace another. So the object is looked
    /// for before the first PUT, and the PUT is repeated with the same bytes, which must be refused.
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

    /// One PUT.
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

    /// Any HTTP server may answer 200 to a PUT. S3 gives an ETag, and repeats the checksum if it knows it.
    fn is_s3(&self, answer: &PutObjectOutput, checksum: Option<&BodyChecksum>) -> Result<(), UploadError> {
        if !has_etag(answer.e_tag()) {
            return Err(UploadError::not_s3(&self.destination, "a success without an ETag"));
        }
        if checksum.is_some_and(|checksum| checksum.differs(answer)) {
            return Err(UploadError::not_s3(&self.destination, "another checksum than the object's"));
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

    /// Sends an object; the outer error is that there was no answer in time.
    async fn send(
        &self,
        request: PutObjectFluentBuilder,
        length: usize,
    ) -> Result<Result<PutObjectOutput, SdkError<PutObjectError>>, UploadError> {
        let sent = async {
            // TLS protects the body already. Over plain HTTP its SHA-256 is part of the signature.
            if advice::is_https(&self.destination) {
                request.customize().disable_payload_signing().send().await
            } else {
                request.send().await
            }
        };
        self.in_time(length, sent).await
    }

    /// What an operation with a body of this length gives, if it ends in time.
    async fn in_time<T>(&self, length: usize, operation: impl Future<Output = T>) -> Result<T, UploadError> {
        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
        let limit = OPERATION_TIMEOUT + Duration::from_secs(bytes / BYTES_PER_SECOND);
        tokio::time::timeout(limit, operation).await.map_err(|_| UploadError::timed_out(&self.destination))
    }
}

/// Whether a header `ETag` names something.
fn has_etag(etag: Option<&str>) -> bool {
    etag.is_some_and(|etag| !etag.trim_matches('"').is_empty())
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
