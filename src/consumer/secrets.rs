//! A consumer's Secrets by role: mounted, and read at every use so that a rotated value applies immediately; or read
//! once into memory, for `check`. `Debug` shows no value.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::api::names::SecretRole;

#[derive(Clone)]
pub enum Secrets {
    /// A directory with one directory per role, and in it one file per key.
    Mounted(PathBuf),
    Held(HashMap<SecretRole, Held>),
}

/// The content of a Secret at the time it was read.
#[derive(Clone)]
pub struct Held {
    /// Where a user finds the Secret, for messages.
    pub place: String,
    /// Values by key; empty: the Secret does not exist.
    pub keys: BTreeMap<String, Vec<u8>>,
}

impl Secrets {
    /// The value of a key in the Secret of a role.
    ///
    /// # Errors
    /// `NotFound` if the Secret or the key does not exist; other I/O errors of a mounted Secret.
    pub fn read(&self, role: SecretRole, key: &str) -> io::Result<Vec<u8>> {
        match self {
            Secrets::Mounted(directory) => std::fs::read(directory.join(role.as_str()).join(key)),
            Secrets::Held(held) => {
                let value = held.get(&role).and_then(|held| held.keys.get(key));
                value.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        }
    }

    /// Where a user finds the Secret of a role.
    pub fn place(&self, role: SecretRole) -> String {
        match self {
            Secrets::Mounted(directory) => {
                let directory = directory.join(role.as_str());
                // `run` mounts with symbolic links; the user knows the link's target.
                format!("mounted at {}", std::fs::read_link(&directory).unwrap_or(directory).display())
            }
            Secrets::Held(held) => held.get(&role).map(|held| held.place.clone()).unwrap_or_default(),
        }
    }
}

impl From<&Path> for Secrets {
    fn from(directory: &Path) -> Self {
        Secrets::Mounted(directory.to_owned())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secrets::Mounted(directory) => formatter.debug_tuple("Mounted").field(directory).finish(),
            Secrets::Held(_) => formatter.debug_tuple("Held").finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_read_as_what_is_mounted_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("store")).unwrap();
        std::fs::write(directory.path().join("store/key"), "hidden").unwrap();
        let store =
            Held { place: "Secret \"s3\"".to_owned(), keys: BTreeMap::from([("key".to_owned(), b"hidden".to_vec())]) };
        for (secrets, place) in [
            (Secrets::from(directory.path()), format!("mounted at {}/store", directory.path().display())),
            (Secrets::Held(HashMap::from([(SecretRole::Store, store)])), "Secret \"s3\"".to_owned()),
        ] {
            assert_eq!(secrets.read(SecretRole::Store, "key").unwrap(), b"hidden");
            for (role, key) in [(SecretRole::Store, "other"), (SecretRole::Broker, "key")] {
                assert_eq!(secrets.read(role, key).unwrap_err().kind(), io::ErrorKind::NotFound);
            }
            assert_eq!(secrets.place(SecretRole::Store), place);
            let shown = format!("{secrets:?}");
            assert!(!shown.contains("hidden") && !shown.contains(&format!("{:?}", b"hidden")), "{shown}");
        }
    }
}
