//! Marks of messages that are being decoded, in a directory that outlives the process: a mark found
//! again says that decoding this message, alone, ended a process. It must never mark anything by which
//! a message could be read, nor count what a redelivery alone would count.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Marks for the messages of one consumer. A broker's delivery counts would be no proof: they also
/// count outages and restarts.
pub struct Markers {
    directory: PathBuf,
    most: u32,
    /// Shared by messages that come for the first time, held alone by one that comes again: if the
    /// process ends, that one is to blame.
    alone: Arc<RwLock<()>>,
}

/// Leave to decode a message, until this is dropped.
#[derive(Debug)]
pub enum Leave {
    /// Beside others, without a mark.
    Shared {
        /// Keeps marked messages waiting.
        _guard: OwnedRwLockReadGuard<()>,
    },
    /// Alone, and marked.
    Alone {
        /// Taken away first.
        _marker: Marker,
        /// Keeps all others waiting.
        _guard: OwnedRwLockWriteGuard<()>,
    },
}

/// A message has ended too many processes.
#[derive(Debug, Eq, PartialEq)]
pub struct Killer {
    /// How many.
    pub processes: u32,
}

/// The mark of one message, taken away when this is dropped, also by a panic: only the end of the
/// process leaves it.
#[derive(Debug)]
pub struct Marker {
    file: Option<PathBuf>,
}

impl Markers {
    /// Marks in `directory`, which is made if it is not there; a message may end `most` processes.
    ///
    /// # Errors
    /// The directory can't be made or written: messages are then decoded without a mark.
    pub fn new(directory: &Path, most: u32) -> (Self, io::Result<()>) {
        let writable = || {
            fs::create_dir_all(directory)?;
            let trial = directory.join(".trial");
            fs::write(&trial, "")?;
            fs::remove_file(trial)
        };
        (Self { directory: directory.to_owned(), most, alone: Arc::default() }, writable())
    }

    /// Waits until a message may be decoded; one that was delivered before is marked.
    ///
    /// # Errors
    /// Its mark was found as often as is allowed.
    pub async fn leave(&self, body: &[u8], redelivered: bool) -> Result<Leave, Killer> {
        let alone = Arc::clone(&self.alone);
        if !redelivered {
            return Ok(Leave::Shared { _guard: alone.read_owned().await });
        }
        let guard = alone.write_owned().await;
        Ok(Leave::Alone { _marker: self.mark(body)?, _guard: guard })
    }

    /// Marks a message. A mark that can't be written is done without: a full disk must not stop the
    /// work. One that was found as often as is allowed is left where it is.
    fn mark(&self, body: &[u8]) -> Result<Marker, Killer> {
        let file = self.directory.join(blake3::hash(body).to_hex().as_str());
        let found = fs::read_to_string(&file).ok().and_then(|count| count.trim().parse().ok()).unwrap_or(0);
        if found >= self.most {
            return Err(Killer { processes: found });
        }
        let written = fs::write(&file, (found + 1).to_string());
        Ok(Marker { file: written.is_ok().then_some(file) })
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // One that stays counts against a message that is decoded again here, and no other.
            drop(fs::remove_file(file));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn markers(directory: &Path, most: u32) -> Markers {
        let (markers, writable) = Markers::new(directory, most);
        writable.unwrap();
        markers
    }

    #[test]
    fn a_mark_that_stays_is_counted_until_it_is_proof() {
        let directory = tempfile::tempdir().unwrap();
        for found in 0..3 {
            let marker = markers(directory.path(), 3).mark(b"bomb").unwrap();
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "after {found}");
            // As the end of the process leaves it.
            std::mem::forget(marker);
        }
        let after = markers(directory.path(), 3);
        assert_eq!(after.mark(b"bomb").unwrap_err(), Killer { processes: 3 });
        assert!(after.mark(b"another").is_ok());
    }

    #[test]
    fn a_decode_that_ends_takes_its_mark_away_even_by_a_panic() {
        let directory = tempfile::tempdir().unwrap();
        let markers = markers(directory.path(), 1);
        drop(markers.mark(b"good").unwrap());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _marker = markers.mark(b"good").unwrap();
            panic!("a decoder");
        }));
        assert!(panicked.is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(markers.mark(b"good").is_ok());
    }

    #[test]
    fn without_a_directory_work_goes_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (markers, writable) = Markers::new(&file.path().join("below-a-file"), 1);
        assert!(writable.is_err());
        assert!(markers.mark(b"good").is_ok() && markers.mark(b"good").is_ok());
    }
}
