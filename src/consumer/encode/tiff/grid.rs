//! The strips or tiles of a TIFF: their number, size and place in the picture.

use super::directory::{Directory, Values};
use super::kind::Kind;
use super::{tag, unsupported};
use crate::consumer::encode::EncodeError;

/// The widest and highest tile accepted: far larger than real tiles.
pub(super) const MAX_TILE_SIDE: u64 = 1 << 16;

/// Pixels that tiles may have beyond four times those of the picture: more is a file made to waste time.
const MAX_OVERHANG: u64 = 1 << 26;

/// How strips or tiles cover the picture. Only `Grid::of` makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub width: u32,
    pub height: u32,
    pub is_tiled: bool,
    /// Size of a tile, or of a strip that is not the last.
    pub chunk_width: u32,
    pub chunk_height: u32,
    across: u64,
    down: u64,
    planes: u64,
}

/// A strip or tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub index: usize,
    pub plane: u8,
    /// Its first column and row in the picture.
    pub x: u32,
    pub y: u32,
    /// Its columns and rows within the picture.
    pub columns: u32,
    pub rows: u32,
    /// Its rows in the file. The last strip may have fewer than other strips.
    pub stored_rows: u32,
}

impl Grid {
    pub fn of(directory: &Directory<'_>, kind: &Kind) -> Result<Self, EncodeError> {
        let side = |tag, name| match directory.number(tag)?.map(u32::try_from) {
            Some(Ok(side @ 1..=0x7fff_ffff)) => Ok(side),
            Some(Err(_) | Ok(0x8000_0000..)) => Err(EncodeError::OverLimits),
            _ => Err(EncodeError::InvalidImage(format!("the TIFF has no {name}"))),
        };
        let (width, height) = (side(tag::WIDTH, "width")?, side(tag::HEIGHT, "height")?);
        let is_tiled = directory.number(tag::TILE_WIDTH)?.is_some();
        let (chunk_width, chunk_height) = if is_tiled {
            (tile_side(directory, tag::TILE_WIDTH)?, tile_side(directory, tag::TILE_HEIGHT)?)
        } else {
            (width, rows_per_strip(directory, height)?)
        };
        let (across, down) = (u64::from(width.div_ceil(chunk_width)), u64::from(height.div_ceil(chunk_height)));
        let covered = across.saturating_mul(down).saturating_mul(u64::from(chunk_width) * u64::from(chunk_height));
        if covered > (u64::from(width) * u64::from(height)).saturating_mul(4).saturating_add(MAX_OVERHANG) {
            return Err(EncodeError::OverLimits);
        }
        if is_tiled && chunk_width % 8 > 0 && kind.bits < 8 && across > 1 {
            return unsupported(format!("tiles of {chunk_width} pixels; publish it with a multiple of 16"));
        }
        let planes = u64::from(if kind.is_planar { kind.samples() } else { 1 });
        Ok(Self { width, height, is_tiled, chunk_width, chunk_height, across, down, planes })
    }

    /// Strips or tiles, for texts.
    pub fn name(&self) -> &'static str {
        if self.is_tiled { "tiles" } else { "strips" }
    }

    /// All strips or tiles, in the order of the file's lists.
    pub fn chunks(self) -> impl Iterator<Item = Chunk> {
        let plane = self.across * self.down;
        (0..plane.saturating_mul(self.planes)).map(move |index| {
            let (row, column) = (index % plane / self.across, index % self.across);
            let (x, y) = (column as u32 * self.chunk_width, row as u32 * self.chunk_height);
            let rows = self.chunk_height.min(self.height - y);
            Chunk {
                index: index as usize,
                plane: (index / plane) as u8,
                x,
                y,
                columns: self.chunk_width.min(self.width - x),
                rows,
                stored_rows: if self.is_tiled { self.chunk_height } else { rows },
            }
        })
    }

    /// The offsets and lengths of all strips or tiles.
    pub fn places<'a>(&self, directory: &Directory<'a>) -> Result<(Values<'a>, Values<'a>), EncodeError> {
        let expected = self.across.saturating_mul(self.down).saturating_mul(self.planes);
        let list = |tag| {
            let found = directory.values(tag)?;
            let count = found.as_ref().map_or(0, Values::len);
            let complete = found.filter(|_| count as u64 >= expected);
            complete.ok_or_else(|| {
                let name = self.name();
                let found = format!("the TIFF has {count} values in its tag {tag} for {expected} {name}");
                EncodeError::InvalidImage(found)
            })
        };
        if self.is_tiled {
            Ok((list(tag::TILE_OFFSETS)?, list(tag::TILE_BYTES)?))
        } else {
            Ok((list(tag::STRIP_OFFSETS)?, list(tag::STRIP_BYTES)?))
        }
    }
}

fn tile_side(directory: &Directory<'_>, tag: u16) -> Result<u32, EncodeError> {
    match directory.number(tag)? {
        Some(side @ 1..=MAX_TILE_SIDE) => Ok(side as u32),
        Some(1..) => Err(EncodeError::OverLimits),
        _ => Err("the TIFF's tiles have no size".into()),
    }
}

fn rows_per_strip(directory: &Directory<'_>, height: u32) -> Result<u32, EncodeError> {
    match directory.number(tag::ROWS_PER_STRIP)?.unwrap_or(u64::from(u32::MAX)) {
        0 => Err("the TIFF's strips have no rows".into()),
        rows => Ok(u32::try_from(rows).unwrap_or(height).min(height)),
    }
}
