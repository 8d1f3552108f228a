//! Converts rows of a TIFF's samples to samples as PNG has them: packed, 8 bits, or 16 bits in big-endian order.
//! Samples of 3, 5, 6 and 7 bits become 8 bits and those of 9 to 15 bits 16, by repeating their bits from the top: 0
//! and the largest value stay black and white, and the upper bits of the result are the sample.

use super::bands::Colors;
use super::kind::{Kind, Predictor};
use crate::consumer::encode::EncodeError;

/// How samples are converted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Samples {
    /// 1, 2 or 4 bits, one sample per pixel: kept.
    Packed { bits: u8 },
    /// 8 bits: kept.
    Bytes,
    /// 16 bits.
    Words { is_little: bool },
    /// Other bits, widened to 8 or 16.
    Bits { bits: u8 },
    /// Indices of fewer than 8 bits, which become 8 bits.
    Indices { bits: u8 },
    /// Floats from 0 to 1, scaled to 16 bits.
    Floats { is_little: bool },
}

impl Samples {
    /// `is_indexed`: whether indices of a palette are kept.
    pub fn of(kind: &Kind, is_indexed: bool) -> Self {
        let Kind { bits, is_little, .. } = *kind;
        match bits {
            _ if kind.is_float => Samples::Floats { is_little: is_little && kind.predictor != Predictor::Float },
            8 => Samples::Bytes,
            16 => Samples::Words { is_little },
            _ if kind.colors == Colors::Palette && !is_indexed => Samples::Indices { bits },
            1 | 2 | 4 if kind.samples() == 1 => Samples::Packed { bits },
            _ => Samples::Bits { bits },
        }
    }

    /// Bits of a converted sample.
    pub fn depth(self) -> u8 {
        match self {
            Samples::Packed { bits } => bits,
            Samples::Bits { bits: 9.. } | Samples::Words { .. } | Samples::Floats { .. } => 16,
            Samples::Bytes | Samples::Bits { .. } | Samples::Indices { .. } => 8,
        }
    }

    /// Converts a row, as many samples as `to` holds.
    pub fn convert(self, row: &[u8], to: &mut [u8], range: &mut Range) {
        match self {
            Samples::Packed { .. } | Samples::Bytes => copy(row, to),
            Samples::Words { is_little: false } => copy(row, to),
            Samples::Words { is_little: true } => {
                for (to, [low, high]) in to.as_chunks_mut().0.iter_mut().zip(row.as_chunks().0) {
                    *to = [*high, *low];
                }
            }
            Samples::Indices { bits } => {
                to.iter_mut().zip(numbers(row, bits)).for_each(|(to, index)| *to = index as u8);
            }
            Samples::Bits { bits: bits @ 9.. } => {
                for (to, sample) in to.as_chunks_mut().0.iter_mut().zip(numbers(row, bits)) {
                    *to = widen(sample, bits, 16).to_be_bytes();
                }
            }
            Samples::Bits { bits } => {
                to.iter_mut().zip(numbers(row, bits)).for_each(|(to, sample)| *to = widen(sample, bits, 8) as u8);
            }
            Samples::Floats { is_little } => {
                for (to, sample) in to.as_chunks_mut().0.iter_mut().zip(row.as_chunks().0) {
                    let sample = if is_little { f32::from_le_bytes(*sample) } else { f32::from_be_bytes(*sample) };
                    range.add(sample);
                    *to = ((sample * 65535.0).round() as u16).to_be_bytes();
                }
            }
        }
    }
}

fn copy(row: &[u8], to: &mut [u8]) {
    if let Some(row) = row.get(..to.len()) {
        to.copy_from_slice(row);
    }
}

/// The numbers in a row of packed bits, the first in the highest bits, whatever the file's byte order.
fn numbers(row: &[u8], bits: u8) -> impl Iterator<Item = u16> {
    let (mut bytes, mut held, mut count) = (row.iter(), 0u32, 0);
    std::iter::from_fn(move || {
        while count < bits {
            held = held << 8 | u32::from(*bytes.next()?);
            count += 8;
        }
        count -= bits;
        Some((held >> count & ((1 << bits) - 1)) as u16)
    })
}

/// Repeats the bits of a sample until it has `depth` bits.
fn widen(sample: u16, bits: u8, depth: u8) -> u16 {
    let (mut wide, mut filled) = (u32::from(sample) << (depth - bits), bits);
    while filled < depth {
        wide |= wide >> filled;
        filled *= 2;
    }
    wide as u16
}

/// The range of the floats that were converted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    least: f32,
    most: f32,
    has_nan: bool,
}

impl Range {
    pub fn new() -> Self {
        Self { least: f32::INFINITY, most: f32::NEG_INFINITY, has_nan: false }
    }

    fn add(&mut self, sample: f32) {
        self.least = self.least.min(sample);
        self.most = self.most.max(sample);
        self.has_nan |= sample.is_nan();
    }

    /// Refuses floats outside 0 to 1: reflectances, heights or values up to 255 would need a white level, which the
    /// file does not contain.
    pub fn check(&self) -> Result<(), EncodeError> {
        let Self { least, most, has_nan } = *self;
        if !has_nan && least >= 0.0 && most <= 1.0 || least > most && !has_nan {
            return Ok(());
        }
        let found = if has_nan { "NaN among its floats".to_owned() } else { format!("floats from {least} to {most}") };
        super::unsupported(format!(
            "{found}; only floats from 0 to 1 are supported; publish it with 8-bit or 16-bit integers"
        ))
    }
}
