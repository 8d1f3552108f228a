//! Undoes the predictors of rows (TIFF 6.0, section 14; TIFF technical note 3).

use super::kind::{Kind, Predictor};

/// Undoes the predictor of one row of so many samples per pixel.
pub(super) fn undo(kind: &Kind, row: &mut [u8]) {
    let samples = usize::from(kind.chunk_samples());
    match (kind.predictor, kind.bits) {
        (Predictor::None, _) => {}
        (Predictor::Float, _) => undo_float(row, samples),
        (Predictor::Horizontal, 8) => undo_bytes(row, samples),
        (Predictor::Horizontal, 16) => undo_words(row, samples, kind.is_little),
        (Predictor::Horizontal, _) => undo_longs(row, samples, kind.is_little),
    }
}

fn undo_bytes(row: &mut [u8], samples: usize) {
    match samples {
        1 => sum_bytes::<1>(row),
        2 => sum_bytes::<2>(row),
        3 => sum_bytes::<3>(row),
        _ => sum_bytes::<4>(row),
    }
}

fn sum_bytes<const SAMPLES: usize>(row: &mut [u8]) {
    let mut previous = [0u8; SAMPLES];
    for pixel in row.as_chunks_mut::<SAMPLES>().0 {
        for (sample, previous) in pixel.iter_mut().zip(&mut previous) {
            *sample = sample.wrapping_add(*previous);
            *previous = *sample;
        }
    }
}

fn undo_words(row: &mut [u8], samples: usize, is_little: bool) {
    let mut previous = [0u16; 4];
    let (from, to) = if is_little {
        (u16::from_le_bytes as fn([u8; 2]) -> u16, u16::to_le_bytes as fn(u16) -> [u8; 2])
    } else {
        (u16::from_be_bytes as _, u16::to_be_bytes as _)
    };
    for pixel in row.as_chunks_mut::<2>().0.chunks_mut(samples) {
        for (sample, previous) in pixel.iter_mut().zip(&mut previous) {
            *previous = previous.wrapping_add(from(*sample));
            *sample = to(*previous);
        }
    }
}

fn undo_longs(row: &mut [u8], samples: usize, is_little: bool) {
    let mut previous = [0u32; 4];
    for pixel in row.as_chunks_mut::<4>().0.chunks_mut(samples) {
        for (sample, previous) in pixel.iter_mut().zip(&mut previous) {
            let number = if is_little { u32::from_le_bytes(*sample) } else { u32::from_be_bytes(*sample) };
            *previous = previous.wrapping_add(number);
            *sample = if is_little { previous.to_le_bytes() } else { previous.to_be_bytes() };
        }
    }
}

/// Leaves the floats in big-endian order, whatever the file's order.
fn undo_float(row: &mut [u8], samples: usize) {
    let mut previous = [0u8; 4];
    for bytes in row.chunks_mut(samples) {
        for (byte, previous) in bytes.iter_mut().zip(&mut previous) {
            *byte = byte.wrapping_add(*previous);
            *previous = *byte;
        }
    }
    let parts = row.to_vec();
    let quarter = parts.len() / 4;
    let part = |number: usize| parts.get(number * quarter..).unwrap_or_default();
    let bytes = part(0).iter().zip(part(1)).zip(part(2)).zip(part(3));
    for (float, (((a, b), c), d)) in row.as_chunks_mut().0.iter_mut().zip(bytes) {
        *float = [*a, *b, *c, *d];
    }
}
