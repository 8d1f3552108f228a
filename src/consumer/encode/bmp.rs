//! Checks the pixels of a BMP with a color table before the decoder runs. Where pixels are left out, or have a color that
//! the table lacks, the decoder makes them black. Damage of other kinds is left to the decoder. Pure.

use super::EncodeError;

#[cfg(test)]
mod tests;

const RLE8: u32 = 1;
const RLE4: u32 = 2;

const NO_COLOR: &str = "the BMP is damaged: a pixel has a color that its color table lacks";
const LEFT_OUT: &str =
    "it is a BMP with run lengths that leave pixels out; publish it without run lengths, or as a PNG";
const TOO_LONG: &str = "the BMP is damaged: a run is longer than its row";

/// Size and color table of a BMP with at most 8 bits per pixel.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    width: usize,
    height: usize,
    bits: usize,
    compression: u32,
    /// Colors in the table.
    colors: usize,
}

pub(super) fn check(file: &[u8]) -> Result<(), EncodeError> {
    let Some(indexed) = Indexed::of(file) else { return Ok(()) };
    let start = number(file, 10).unwrap_or(0) as usize;
    let data = file.get(start..).unwrap_or_default();
    match indexed.compression {
        0 => indexed.check_rows(data),
        RLE8 | RLE4 => indexed.check_runs(data),
        _ => Ok(()),
    }
}

/// A number of 4 bytes.
fn number(file: &[u8], at: usize) -> Option<u32> {
    file.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn short(file: &[u8], at: usize) -> Option<u16> {
    file.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

impl Indexed {
    fn of(file: &[u8]) -> Option<Self> {
        // The header of OS/2 has 12 bytes, and no number of colors.
        let is_old = number(file, 14)? == 12;
        let (width, height, bits) = if is_old {
            (short(file, 18)?.into(), short(file, 20)?.into(), short(file, 24)?)
        } else {
            let height = number(file, 22)?.cast_signed().unsigned_abs();
            (number(file, 18)?, height, short(file, 28)?)
        };
        let (compression, used) = if is_old { (0, 0) } else { (number(file, 30)?, number(file, 46)?) };
        let bits = usize::from(bits);
        let most = 1 << Some(bits).filter(|bits| matches!(bits, 1 | 2 | 4 | 8))?;
        let colors = Some(used as usize).filter(|used| (1..most).contains(used)).unwrap_or(most);
        Some(Self { width: width as usize, height: height as usize, bits, compression, colors })
    }

    /// The indices in packed bytes.
    fn indices(self, bytes: &[u8]) -> impl Iterator<Item = usize> {
        let per_byte = 8 / self.bits;
        bytes.iter().flat_map(move |byte| {
            (1..=per_byte).map(move |place| usize::from(*byte) >> (8 - place * self.bits) & ((1 << self.bits) - 1))
        })
    }

    fn check_rows(self, data: &[u8]) -> Result<(), EncodeError> {
        if self.colors == 1 << self.bits {
            return Ok(());
        }
        let stride = (self.width * self.bits).div_ceil(32) * 4;
        let rows = data.chunks(stride.max(1)).take(self.height);
        let has_no_color = |row: &[u8]| self.indices(row).take(self.width).any(|index| index >= self.colors);
        if rows.into_iter().any(has_no_color) { Err(NO_COLOR.into()) } else { Ok(()) }
    }

    /// Walks the runs. The decoder reports runs that are cut off.
    fn check_runs(self, mut data: &[u8]) -> Result<(), EncodeError> {
        let left_out = || Err(EncodeError::UnsupportedImage(LEFT_OUT.to_owned()));
        let (mut column, mut row) = (0, 0);
        while let [count, value, rest @ ..] = data {
            let (count, length) = (usize::from(*count), usize::from(*value));
            data = rest;
            let (pixels, literal) = match (count, length) {
                (0, 0) if column != self.width => return left_out(),
                (0, 0) => {
                    (column, row) = (0, row + 1);
                    continue;
                }
                (0, 1) if row + usize::from(column == self.width) < self.height => return left_out(),
                (0, 1) => return Ok(()),
                (0, 2) => return left_out(),
                (0, _) => (length, rest.get(..(length * self.bits).div_ceil(8)).unwrap_or_default()),
                _ => (count, std::slice::from_ref(value)),
            };
            column += pixels;
            if column > self.width {
                return Err(TOO_LONG.into());
            }
            if self.indices(literal).take(pixels).any(|index| index >= self.colors) {
                return Err(NO_COLOR.into());
            }
            if count == 0 {
                data = rest.get(literal.len().next_multiple_of(2)..).unwrap_or_default();
            }
        }
        Ok(())
    }
}
