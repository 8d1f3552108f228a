//! Saves messages as files: the body unchanged, and properties and headers as JSON. Existing files are not replaced,
//! and file names do not come from message content.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Error;
use super::message::ParkedMessage;
use crate::rabbitmq::Delivery;

/// Writes the files of a message.
pub fn save(directory: &Path, number: u64, entry: &ParkedMessage, delivery: &Delivery) -> Result<(), Error> {
    let about = json!({ "message": entry, "properties": delivery.properties_json() });
    write(directory, number, delivery.body(), format!("{about:#}\n").as_bytes())
}

fn write(directory: &Path, number: u64, body: &[u8], about: &[u8]) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|source| failed(directory.to_owned(), source))?;
    for (end, content) in [("body", body), ("json", about)] {
        let path = directory.join(format!("{number:06}.{end}"));
        let written = fs::File::create_new(&path).and_then(|mut file| {
            file.write_all(content)?;
            // The user may drop the message next.
            file.sync_all()
        });
        written.map_err(|source| failed(path, source))?;
    }
    Ok(())
}

fn failed(path: PathBuf, source: std::io::Error) -> Error {
    match source.kind() {
        ErrorKind::AlreadyExists => Error::Exists(path),
        _ => Error::Save { path, source },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_and_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("new");
        write(&directory, 1, b"body", b"{}").unwrap();
        assert!(matches!(write(&directory, 1, b"other", b"{}"), Err(Error::Exists(_))));
        assert_eq!(fs::read(directory.join("000001.body")).unwrap(), b"body");
        fs::write(directory.join("000002.json"), "mine").unwrap();
        assert!(matches!(write(&directory, 2, b"body", b"{}"), Err(Error::Exists(_))));
        assert_eq!(fs::read(directory.join("000002.json")).unwrap(), b"mine");
    }
}
