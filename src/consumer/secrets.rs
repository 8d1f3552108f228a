//! The Secrets that a consumer has, by what they are for: mounted, and read at every use so that a rotated
//! one counts at once, or held in memory for one look. It must never show a value, not even in `Debug`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::api::names::SecretRole;

/// Where they are read.
#[derive(Clone)]
pub enum Secrets {
    /// A directory of each role's name below this one, with a file a key.
    Mounted(PathBuf),
    /// In memory.
    Held(HashMap<SecretRole, Held>),
}

/// A Secret as it was once.
#[derive(Clone)]
pub struct Held {
    /// How a person finds it.
    pub place: String,
    /// Its keys; none: it is not there.
    pub keys: BTreeMap<String, Vec<u8>>,
}

impl Secrets {
    /// A key's value in the Secret of a role.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub fn read(&self, role: SecretRole, key: &str) -> io::Result<Vec<u8>> {
        match self {
            Secrets::Mounted(directory) => std::fs::read(directory.join(role.as_str()).join(key)),
            Secrets::Held(held) => {
                let value = held.get(&role).and_then(|held| held.keys.get(key));
                value.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        }
    }

    /// Where a person finds the Secret of a role.
    pub fn place(&self, role: SecretRole) -> String {
        match self {
            Secrets::Mounted(directory) => {
                let directory = directory.join(role.as_str());
                // On one host it is a link, and where that leads is what its user knows.
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
