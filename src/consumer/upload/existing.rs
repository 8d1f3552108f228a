//! Compares an existing object with the image of the same key, by its bytes. Metadata is no proof, because any writer
//! of the bucket can set it.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use md5::{Digest as _, Md5};

use super::fault::{Action, Difference};
use super::{DIGEST, Object, Store, Stored, UploadError, given, has_etag, status};

pub enum Existing {
    /// An object with the image's bytes.
    Same,
    /// A different object: the message's fault.
    Other(UploadError),
    /// No object, or no permission to read it: without `s3:ListBucket`, S3 answers 403 for a missing object, too.
    /// Answers to HEAD have no body, so the cause is unknown.
    Unseen(UploadError),
}

impl Existing {
    /// The result of an upload whose precondition failed.
    pub fn stored(self) -> Result<Stored, UploadError> {
        match self {
            Existing::Same => Ok(Stored::AlreadyThere),
            Existing::Other(error) | Existing::Unseen(error) => Err(error),
        }
    }
}

impl Store {
    /// Reads the object under the image's key, if any, and compares it with the image.
    pub(super) async fn existing(&self, object: &Object<'_>) -> Result<Existing, UploadError> {
        let destination = &self.destination;
        let head = self
            .connection
            .client()?
            .head_object()
            .bucket(&destination.bucket)
            .key(object.key.as_str())
            .set_expected_bucket_owner(given(&destination.expected_bucket_owner))
            .send();
        let head = match self.in_time(0, head).await? {
            Ok(head) => head,
            Err(error) => {
                let unseen = matches!(status(&error), Some(301 | 307 | 400 | 401 | 403 | 404));
                let error = UploadError::of(destination, Action::Read, &error);
                return if unseen { Ok(Existing::Unseen(error)) } else { Err(error) };
            }
        };
        if !has_etag(head.e_tag()) {
            return Err(UploadError::not_s3(destination, "a success without an ETag"));
        }
        let is_same_size = head.content_length().is_some_and(|length| usize::try_from(length) == Ok(object.png.len()));
        if is_same_size && (is_md5(head.e_tag(), object.png) || self.has_bytes(object).await?) {
            return Ok(Existing::Same);
        }
        Ok(Existing::Other(UploadError::exists(difference(&head, object.digest))))
    }

    /// Downloads the object until the first difference. Needed where the ETag is not the MD5 of the bytes, as for
    /// encrypted and replicated objects.
    async fn has_bytes(&self, object: &Object<'_>) -> Result<bool, UploadError> {
        let destination = &self.destination;
        let get = self
            .connection
            .client()?
            .get_object()
            .bucket(&destination.bucket)
            .key(object.key.as_str())
            .set_expected_bucket_owner(given(&destination.expected_bucket_owner));
        let fetched = async {
            let answer = get.send().await.map_err(|error| UploadError::of(destination, Action::Read, &error))?;
            let (mut body, mut rest) = (answer.body, object.png.as_ref());
            while let Some(part) = body.next().await {
                let part = part.map_err(|error| UploadError::not_read(destination, &error))?;
                match rest.strip_prefix(part.as_ref()) {
                    Some(after) => rest = after,
                    None => return Ok(false),
                }
            }
            Ok(rest.is_empty())
        };
        self.in_time(object.png.len(), fetched).await?
    }
}

/// Whether the ETag is the MD5 of the bytes, as for an object that was stored by one PUT and is not KMS-encrypted.
fn is_md5(etag: Option<&str>, png: &[u8]) -> bool {
    let md5: String = Md5::digest(png).iter().map(|byte| format!("{byte:02x}")).collect();
    etag.is_some_and(|etag| etag.trim_matches('"').eq_ignore_ascii_case(&md5))
}

fn difference(head: &HeadObjectOutput, digest: &str) -> Difference {
    match head.metadata().and_then(|metadata| metadata.get(DIGEST)) {
        None => Difference::NoDigest,
        Some(found) if found == digest => Difference::Bytes,
        Some(_) => Difference::Pixels,
    }
}
