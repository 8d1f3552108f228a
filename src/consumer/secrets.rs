//! A consumer's Secrets by role, as files. They are read at every use, so that a rotated value applies immediately.

use std::io;
use std::path::{Path, PathBuf};

use crate::api::names::SecretRole;

/// A directory with one directory per role, and in it one file per key.
#[derive(Clone, Debug)]
pub struct Secrets(PathBuf);

impl Secrets {
    /// The value of a key in the Secret of a role.
    ///
    /// # Errors
    /// `NotFound` if the Secret or the key does not exist; other I/O errors.
    pub fn read(&self, role: SecretRole, key: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.0.join(role.as_str()).join(key))
    }

    /// Where a user finds the Secret of a role.
    pub fn place(&self, role: SecretRole) -> String {
        let directory = self.0.join(role.as_str());
        // `run` mounts with symbolic links; the user knows the link's target.
        format!("mounted at {}", std::fs::read_link(&directory).unwrap_or(directory).display())
    }
}

impl From<&Path> for Secrets {
    fn from(directory: &Path) -> Self {
        Self(directory.to_owned())
    }
}
