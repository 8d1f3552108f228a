//! Checks the first directory of a TIFF file before the decoder reads it. Refuses, by name, the kinds for which the
//! `tiff` crate 0.11 gives other pixels than libtiff. Also refuses directories that would need too much memory: the
//! crate allocates 32 bytes per listed value before it applies any limit. Pure.

use self::directory::Directory;
use super::EncodeError;

mod directory;
mod kind;
#[cfg(test)]
mod tests;

/// The most values per tag. The longest lists have one value for each strip or tile.
const MAX_VALUES: u32 = 1 << 18;

/// The widest tile accepted: far wider than real tiles, and still a small row for the decoder to allocate.
const MAX_TILE_WIDTH: u32 = 1 << 16;

/// Bytes that the crate allocates per listed value: 32 while it reads a tag, and 2 × 8 that it keeps for strips and
/// tiles.
const VALUE_BYTES: u64 = 32 + 2 * 8;

/// What decoding needs to know about a checked file.
#[derive(Clone, Copy, Debug)]
pub(super) struct TiffHeader {
    /// Bytes that the decoder allocates for the values of the directory.
    pub value_bytes: u64,
    /// Whether LZW tiles extend beyond the picture. For some of them the decoder does not find the end of the data.
    pub has_odd_lzw_tiles: bool,
}

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

/// The ICC profile. Read here, because the decoder would allocate 32 bytes for each byte of it.
pub(super) fn profile(file: &[u8]) -> Option<&[u8]> {
    Directory::first(file)?.bytes(tag::PROFILE)
}

/// Tag numbers (TIFF 6.0, appendix A).
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
    /// Tags that the decoder reads before it applies a limit, and FillOrder, which the decoder ignores.
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
