//! The color map of a TIFF (TIFF 6.0, section 5): 16-bit red values of all colors, then green, then blue.

use super::directory::{Directory, Values};
use super::tag;
use crate::consumer::encode::EncodeError;

pub(super) struct ColorMap<'a> {
    values: Values<'a>,
    colors: usize,
}

impl<'a> ColorMap<'a> {
    /// The color map for indices of so many bits, at most 8.
    pub fn of(directory: &Directory<'a>, bits: u8) -> Result<Self, EncodeError> {
        let values = directory.values(tag::COLOR_MAP)?.ok_or("the TIFF's palette is missing")?;
        let colors = 1 << bits;
        if values.len() != 3 * colors || values.iter().any(|value| value > 0xffff) {
            return Err("the TIFF's palette is damaged".into());
        }
        Ok(Self { values, colors })
    }

    /// The content of PLTE, if the values are 8-bit values: multiplied by 257 or by 256, or, as libtiff and GDAL read
    /// maps of values below 256, as they are.
    pub fn eight_bits(&self) -> Option<Vec<u8>> {
        let value = |value: u64| value as u8;
        let are = |test: fn(u64) -> bool| self.values.iter().all(test);
        if are(|value| value < 256) {
            Some(self.interleaved(value))
        } else if are(|value| value % 257 == 0) || are(|value| value % 256 == 0) {
            Some(self.interleaved(|value| (value >> 8) as u8))
        } else {
            None
        }
    }

    /// 16-bit RGB of each color, in big-endian order.
    pub fn sixteen_bits(&self) -> Vec<[u8; 6]> {
        let pixel = |color| {
            let [[a, b], [c, d], [e, f]] = self.color(color).map(|value| (value as u16).to_be_bytes());
            [a, b, c, d, e, f]
        };
        (0..self.colors).map(pixel).collect()
    }

    fn interleaved(&self, value: impl Fn(u64) -> u8 + Copy) -> Vec<u8> {
        (0..self.colors).flat_map(|color| self.color(color).map(value)).collect()
    }

    fn color(&self, color: usize) -> [u64; 3] {
        [0, 1, 2].map(|band| self.values.get(band * self.colors + color).unwrap_or_default())
    }
}
