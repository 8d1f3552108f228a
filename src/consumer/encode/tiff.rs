//! Judges the first directory of a TIFF file before its decoder reads it. Refuses what the `tiff` crate 0.11 gives
//! other pixels for than libtiff, by the name of what was found, and what would take more memory than is justified:
//! the crate allocates 32 bytes for each listed value before it takes a limit. Pure.

use self::directory::Directory;
use super::EncodeError;

mod directory;
mod kind;
#[cfg(test)]
mod tests;

/// The most values of a tag. A picture has one for each of its strips or tiles.
const MAX_VALUES: u32 = 1 << 18;

/// The widest tile: far beyond what is written, and a row of it is little.
const MAX_TILE_WIDTH: u32 = 1 << 16;

/// Bytes that the crate takes for a listed value while it reads a tag and, of strips and tiles, keeps.
const VALUE_BYTES: u64 = 32 + 2 * 8;

/// What a file may not be decoded without.
#[derive(Clone, Copy, Debug)]
pub(super) struct TiffHeader {
    /// Bytes for the values of the directory.
    pub value_bytes: u64,
    /// Whether it has tiles of LZW that reach beyond the picture. Of some the decoder finds no end.
    pub has_odd_lzw_tiles: bool,
}

/// Judges a file.
pub(super) fn header(file: &[u8]) -> Result<TiffHeader, EncodeError> {
    let Some(directory) = Directory::first(file) else {
        return Err("the TIFF is cut off: its directory is missing".into());
    };
    let mut values = 0;
    for (tag, count) in directory.read() {
        if count > MAX_VALUES {
            return Err(EncodeError::OverLimits);
        }
        if directory.read().filter(|(other, _)| *other == tag).count() > 1 {
            return Err(EncodeError::InvalidImage(format!("the TIFF has its tag {tag} twice")));
        }
        values += u64::from(count);
    }
    if directory.number(tag::TILE_WIDTH)?.is_some_and(|width| width > MAX_TILE_WIDTH) {
        return Err(EncodeError::OverLimits);
    }
    let has_odd_lzw_tiles = kind::check(&directory)?;
    Ok(TiffHeader { value_bytes: values * VALUE_BYTES, has_odd_lzw_tiles })
}

/// The ICC profile. The decoder would allocate 32 bytes for each of its bytes.
pub(super) fn profile(file: &[u8]) -> Option<&[u8]> {
    Directory::first(file)?.bytes(tag::PROFILE)
}

/// Numbers of tags (TIFF 6.0, appendix A).
mod tag {
    pub(super) const WIDTH: u16 = 256;
    pub(super) const HEIGHT: u16 = 257;
    pub(super) const BITS: u16 = 258;
    pub(super) const COMPRESSION: u16 = 259;
    pub(super) const PHOTOMETRIC: u16 = 262;
    pub(super) const FILL_ORDER: u16 = 266;
    pub(super) const STRIP_OFFSETS: u16 = 273;
    pub(super) const SAMPLES: u16 = 277;
    pub(super) const ROWS_PER_STRIP: u16 = 278;
    pub(super) const STRIP_BYTES: u16 = 279;
    pub(super) const PLANES: u16 = 284;
    pub(super) const PREDICTOR: u16 = 317;
    pub(super) const TILE_WIDTH: u16 = 322;
    pub(super) const TILE_HEIGHT: u16 = 323;
    pub(super) const TILE_OFFSETS: u16 = 324;
    pub(super) const TILE_BYTES: u16 = 325;
    pub(super) const EXTRA_SAMPLES: u16 = 338;
    pub(super) const SAMPLE_FORMAT: u16 = 339;
    pub(super) const PROFILE: u16 = 34_675;
    /// All that the decoder reads before it takes a limit, and FillOrder, which it does not read.
    pub(super) const ALL: [u16; 20] = [
        WIDTH,
        HEIGHT,
        BITS,
        COMPRESSION,
        PHOTOMETRIC,
        FILL_ORDER,
        STRIP_OFFSETS,
        SAMPLES,
        ROWS_PER_STRIP,
        STRIP_BYTES,
        PLANES,
        PREDICTOR,
        TILE_WIDTH,
        TILE_HEIGHT,
        TILE_OFFSETS,
        TILE_BYTES,
        EXTRA_SAMPLES,
        SAMPLE_FORMAT,
        347,
        530,
    ];
}
