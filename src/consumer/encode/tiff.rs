//! Reads the first directory of a TIFF or BigTIFF. Memory follows from the checked header. A kind that is not read is
//! refused by name, and a strip or tile that is damaged refuses the file. Pure.

use png_recode::{Color, Layout, Picture, fits};

use self::bands::Colors;
use self::compression::{Codec, Compression};
use self::directory::Directory;
pub(super) use self::directory::is_tiff;
use self::grid::Grid;
use self::kind::Kind;
use self::palette::ColorMap;
use self::samples::Samples;
use super::{DECODER_BYTES, EncodeError};

mod bands;
mod compression;
mod directory;
mod finish;
mod grid;
mod jpeg;
mod kind;
mod palette;
mod predictor;
mod read;
mod samples;
mod sparse;
mod tag;
#[cfg(test)]
mod tests;
mod unpack;
mod zstd;

/// The header of a TIFF, checked. Only `header` makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct TiffHeader {
    pub layout: Layout,
    kind: Kind,
    grid: Grid,
}

impl TiffHeader {
    /// Bytes of memory for decoding and encoding, not counting the file: the pixels three times, as for every format;
    /// or, while decoding, the samples, the pixels if they differ, and a decompressed strip or tile. ZSTD has a window
    /// and its buffer in addition.
    pub fn bytes_needed(&self) -> u64 {
        let Self { layout, kind, grid } = self;
        let height = u64::from(layout.height);
        let pixels = (layout.bytes() as u64).saturating_add(height);
        let chunk = read::chunk_bytes(kind, grid) as u64;
        let unpacked = match kind.compression {
            Compression::None if !kind.is_reversed => 0,
            Compression::Packed(Codec::Zstd) => chunk.saturating_mul(4).saturating_add(DECODER_BYTES),
            Compression::Jpeg => jpeg::bytes_needed(grid.chunk_width, grid.chunk_height),
            _ => chunk,
        };
        // CMYK has four samples for three, and a palette of 16 bits has indices beside the pixels.
        let samples =
            if kind.colors == Colors::Cmyk { (pixels / 3).saturating_mul(4).saturating_add(height) } else { pixels };
        let colored = if kind.colors == Colors::Palette { pixels } else { 0 };
        let decoding = samples.saturating_add(colored).saturating_add(unpacked);
        pixels.saturating_mul(3).max(decoding)
    }
}

/// Checks the directory. Allocates no pixels.
pub(super) fn header(file: &[u8]) -> Result<TiffHeader, EncodeError> {
    let directory = Directory::first(file)?;
    let kind = Kind::of(&directory)?;
    let grid = Grid::of(&directory, &kind)?;
    grid.places(&directory)?;
    let is_indexed = kind.colors == Colors::Palette && ColorMap::of(&directory, kind.bits)?.eight_bits().is_some();
    let color = match (kind.colors, kind.alpha.is_some()) {
        (Colors::Palette, _) if is_indexed => Color::Indexed,
        (Colors::BlackIsZero | Colors::WhiteIsZero, false) => Color::Grey,
        (Colors::BlackIsZero | Colors::WhiteIsZero, true) => Color::GreyAlpha,
        (_, false) => Color::Rgb,
        (_, true) => Color::Rgba,
    };
    let is_colored = kind.colors == Colors::Palette && !is_indexed;
    let depth = if is_colored { 16 } else { Samples::of(&kind, is_indexed).depth() };
    Ok(TiffHeader { layout: Layout { width: grid.width, height: grid.height, color, depth }, kind, grid })
}

/// Reads the pixels of a file whose header `header` has checked.
pub(super) fn read(file: &[u8], header: TiffHeader) -> Result<Picture, EncodeError> {
    let TiffHeader { layout, kind, grid } = header;
    let directory = Directory::first(file)?;
    let is_indexed = layout.color == Color::Indexed;
    let samples = read::samples(file, &directory, kind, grid, Samples::of(&kind, is_indexed))?;
    let (palette, pixels) = if kind.colors == Colors::Palette {
        let map = ColorMap::of(&directory, kind.bits)?;
        match map.eight_bits() {
            Some(palette) => (Some(palette), finish::finish(&kind, layout, samples)?),
            None => (None, finish::colored(layout, &samples, &map.sixteen_bits())),
        }
    } else {
        (None, finish::finish(&kind, layout, samples)?)
    };
    let profile = directory.bytes(tag::PROFILE).ok().flatten();
    let profile = profile.filter(|profile| fits(profile, layout.color)).map(<[u8]>::to_vec);
    Ok(Picture { layout, palette, transparency: None, profile, pixels })
}

fn unsupported<T>(found: String) -> Result<T, EncodeError> {
    Err(EncodeError::UnsupportedImage(format!("it is a TIFF with {found}")))
}
