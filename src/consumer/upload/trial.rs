//! `image-pipeline check` tries the bucket with a sample object, with the same requests as for images.

use super::fault::Action;
use super::{Object, Store, UploadError, Written, given};

/// The result of a successful trial: the bucket accepts images.
#[derive(Debug)]
pub struct Trial {
    /// Why the sample could not be deleted, if it is still in the bucket.
    pub left_behind: Option<UploadError>,
}

impl Store {
    /// Stores a sample object under a key that no image has, and deletes it. Unless `onConflict` is `Overwrite`, S3
    /// must refuse to store the sample a second time, and must allow the credentials to read it.
    ///
    /// # Errors
    /// Images could not be stored, or would overwrite other images.
    pub async fn try_out(&self, sample: &Object<'_>) -> Result<Trial, UploadError> {
        if let Written::KeyTaken = self.write(sample).await? {
            self.existing(sample).await?.stored()?;
        }
        let tried = if self.is_conditional() { self.try_conditions(sample).await } else { Ok(()) };
        let left_behind = self.delete(sample).await.err();
        tried.map(|()| Trial { left_behind })
    }

    async fn try_conditions(&self, sample: &Object<'_>) -> Result<(), UploadError> {
        match self.write(sample).await? {
            Written::Taken => Err(UploadError::precondition_ignored(&self.destination)),
            Written::KeyTaken => self.existing(sample).await?.stored().map(drop),
        }
    }

    async fn delete(&self, sample: &Object<'_>) -> Result<(), UploadError> {
        let destination = &self.destination;
        let delete = self
            .connection
            .client()?
            .delete_object()
            .bucket(&destination.bucket)
            .key(sample.key.as_str())
            .set_expected_bucket_owner(given(&destination.expected_bucket_owner))
            .send();
        let deleted = self.in_time(0, delete).await?;
        deleted.map(drop).map_err(|error| UploadError::of(destination, Action::Delete, &error))
    }
}
