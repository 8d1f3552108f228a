//! The digest of a picture's pixels, independent of the file's compression. Stored objects carry it, and it
//! distinguishes a repeated image from a different image of the same name: the definition must not change between
//! releases.

use std::fmt;

use png_recode::Picture;

/// BLAKE3 of width, height, bit depth and color type (the first ten bytes of IHDR), the pixel bytes, and the palette,
/// transparency and color profile if present. Displayed as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct PixelDigest([u8; 32]);

impl PixelDigest {
    pub(super) fn of(picture: &Picture) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&picture.layout.to_bytes());
        hasher.update(&picture.pixels);
        let parts =
            [("palette", &picture.palette), ("transparency", &picture.transparency), ("profile", &picture.profile)];
        for (name, part) in parts {
            if let Some(part) = part {
                hasher.update(name.as_bytes()).update(&(part.len() as u64).to_be_bytes()).update(part);
            }
        }
        Self(hasher.finalize().into())
    }
}

impl From<[u8; 32]> for PixelDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<PixelDigest> for [u8; 32] {
    fn from(PixelDigest(bytes): PixelDigest) -> Self {
        bytes
    }
}

impl fmt::Display for PixelDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for PixelDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PixelDigest({self})")
    }
}
