//! Reads and writes the chunks of a PNG file. Verifies every checksum, and checks every length against the file. Leaves
//! out damaged chunks that no pixel depends on.

use crate::Error;
use crate::damage::is_harmless;

pub(crate) const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// The largest chunk length that PNG allows (PNG specification, section 5.3).
pub(crate) const MAX_CHUNK: usize = 0x7fff_ffff;

/// A chunk's type and its data.
pub(crate) type Chunk<'a> = ([u8; 4], &'a [u8]);

/// Reads the chunks of a file, up to and including IEND.
pub(crate) struct Chunks<'a> {
    rest: &'a [u8],
    ended: bool,
    left_out: bool,
}

impl<'a> Chunks<'a> {
    pub fn new(file: &'a [u8]) -> Result<Self, Error> {
        let rest = file.strip_prefix(&SIGNATURE).ok_or(Error("its PNG signature is damaged"))?;
        Ok(Self { rest, ended: false, left_out: false })
    }

    /// Whether no chunk was left out, and no byte follows the last chunk that `next` returned.
    pub fn are_intact(&self) -> bool {
        !self.left_out && self.rest.is_empty()
    }

    /// The next chunk, or `None` after IEND.
    pub fn next(&mut self) -> Result<Option<Chunk<'a>>, Error> {
        const CUT: Error = Error("it is cut off: its IEND chunk is missing");
        while !self.ended {
            let (length, rest) = self.rest.split_first_chunk().ok_or(CUT)?;
            let (kind, _) = rest.split_first_chunk::<4>().ok_or(CUT)?;
            let length = u32::from_be_bytes(*length) as usize;
            if length > MAX_CHUNK {
                return Err(Error("a chunk's length is out of range"));
            }
            let (chunk, after) = rest.split_at_checked(length + 8).ok_or(CUT)?;
            let (covered, checksum) = chunk.split_last_chunk().ok_or(CUT)?;
            self.rest = after;
            if libdeflater::crc32(covered) == u32::from_be_bytes(*checksum) {
                self.ended = kind == b"IEND";
                return Ok(Some((*kind, covered.get(4..).unwrap_or_default())));
            }
            if !is_harmless(chunk) {
                return Err(Error("a chunk's checksum is wrong"));
            }
            self.left_out = true;
        }
        Ok(None)
    }
}

pub(crate) fn put(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    let start = file.len() + 4;
    file.extend_from_slice(&(data.len() as u32).to_be_bytes());
    file.extend_from_slice(&kind);
    file.extend_from_slice(data);
    let checksum = libdeflater::crc32(file.get(start..).unwrap_or_default());
    file.extend_from_slice(&checksum.to_be_bytes());
}
