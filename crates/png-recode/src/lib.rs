//! Reads and writes PNG files (W3C PNG specification, third edition) for services that encode many photographs.
//!
//! - Every checksum is verified, and every length is checked against the file and its header. Memory follows from the
//!   header alone, so a caller can refuse a file before anything is allocated.
//! - A file that `read` reports as intact may be stored as it is.
//! - The same picture and encoding always give the same bytes.
//!
//! Pure, and without unsafe code of its own.

mod chunks;
mod damage;
mod deflate;
mod filter;
mod huffman;
mod picture;
mod read;
mod unfilter;
mod write;

pub use picture::{Color, Layout, MAX_PROFILE, Picture, fits};
pub use read::{File, Header, header, read};
pub use write::{Encoding, write};

/// Why a file can't be read; completes a sentence about the file, and contains none of its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Error(&'static str);

impl Error {
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for Error {}
