//! S3 credentials from a mounted Secret, read at every use so that a rotated one counts at once.
//! It must never show a value, not even in an error.

use std::path::PathBuf;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

/// A directory with `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and perhaps `AWS_SESSION_TOKEN`.
#[derive(Debug)]
pub struct MountedCredentials {
    directory: PathBuf,
}

/// A key of the Secret that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The key is absent or empty.
    #[error("key {0} is missing or empty in the S3 credentials Secret")]
    Missing(&'static str),
    /// The key is there and can't be read as text.
    #[error("key {0} of the S3 credentials Secret is not readable text")]
    Unreadable(&'static str),
}

impl MountedCredentials {
    /// Credentials from `directory`, which need not exist yet.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn read(&self) -> Result<Credentials, Unusable> {
        let required = |key| self.key(key)?.ok_or(Unusable::Missing(key));
        Ok(Credentials::new(
            required("AWS_ACCESS_KEY_ID")?,
            required("AWS_SECRET_ACCESS_KEY")?,
            self.key("AWS_SESSION_TOKEN")?,
            None,
            "mounted Secret",
        ))
    }

    fn key(&self, key: &'static str) -> Result<Option<String>, Unusable> {
        match std::fs::read_to_string(self.directory.join(key)) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(_) => Err(Unusable::Unreadable(key)),
        }
    }
}

impl ProvideCredentials for MountedCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.read().map_err(CredentialsError::not_loaded))
    }
}
