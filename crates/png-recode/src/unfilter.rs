//! Undoes PNG's filters (PNG specification, section 9). With Average and Paeth, each pixel depends on the pixel
//! before it. Two neighboring rows with these filters are therefore undone together, the lower row one pixel behind
//! the upper. Allocates a few rows, and one byte for each row.

use wide::{i16x8, u8x16};

use crate::filter::{average, paeth};

const SUB: u8 = 1;
const UP: u8 = 2;
const AVERAGE: u8 = 3;
const PAETH: u8 = 4;

/// Undoes the filters in place and removes the filter bytes, which moves the rows together. Each row is a filter byte
/// and `length` bytes. `step`: bytes from a sample to the same sample of the next pixel. `None`: unknown filter type.
pub(crate) fn unfilter(rows: &mut [u8], length: usize, step: usize) -> Option<()> {
    let filters: Vec<u8> = rows.chunks_exact(length + 1).filter_map(|row| row.first().copied()).collect();
    let (first, mut copies) = (vec![0; length], Copies::default());
    let mut index = 0;
    while let Some(filter) = filters.get(index) {
        let (from, to) = (index * (length + 1) + 1, index * length);
        let both = both(step, *filter, filters.get(index + 1).copied());
        if both.is_some() {
            copy(&mut copies.upper, rows.get(from..from + length)?);
            copy(&mut copies.lower, rows.get(from + length + 1..from + 2 * length + 1)?);
        } else {
            rows.copy_within(from..from + length, to);
        }
        let (done, rest) = rows.split_at_mut_checked(to)?;
        let above = to.checked_sub(length).and_then(|start| done.get(start..)).unwrap_or(&first);
        let (row, rest) = rest.split_at_mut_checked(length)?;
        if let Some(both) = both {
            copy(&mut copies.above, above);
            both(row, rest.get_mut(..length)?, &copies);
            index += 2;
        } else {
            alone(*filter, step, row, above)?;
            index += 1;
        }
    }
    Some(())
}

fn alone(filter: u8, step: usize, row: &mut [u8], above: &[u8]) -> Option<()> {
    match filter {
        0 => {}
        UP => row.iter_mut().zip(above).for_each(|(byte, above)| *byte = byte.wrapping_add(*above)),
        SUB | AVERAGE | PAETH => match step {
            1 => serial::<1>(filter, row, above),
            2 => serial::<2>(filter, row, above),
            3 => serial::<3>(filter, row, above),
            4 => serial::<4>(filter, row, above),
            6 => serial::<6>(filter, row, above),
            _ => serial::<8>(filter, row, above),
        },
        _ => return None,
    }
    Some(())
}

fn serial<const STEP: usize>(filter: u8, row: &mut [u8], above: &[u8]) {
    match filter {
        SUB => predicted::<STEP>(row, above, |left, _, _| left),
        AVERAGE => predicted::<STEP>(row, above, |left, above, _| average(left, above)),
        _ => predicted::<STEP>(row, above, paeth),
    }
}

#[inline(always)]
fn predicted<const STEP: usize>(row: &mut [u8], above: &[u8], predict: impl Fn(u8, u8, u8) -> u8) {
    let (mut left, mut corner) = ([0; STEP], [0; STEP]);
    for (pixel, above) in row.as_chunks_mut::<STEP>().0.iter_mut().zip(above.as_chunks::<STEP>().0) {
        for (((byte, left), above), corner) in pixel.iter_mut().zip(&mut left).zip(above).zip(&mut corner) {
            *byte = byte.wrapping_add(predict(*left, *above, *corner));
            (*left, *corner) = (*byte, *above);
        }
    }
}

/// Undoes the filters of two copied rows into two output rows: upper, lower.
type Both = fn(&mut [u8], &mut [u8], &Copies);

/// Two filtered rows and the row above them. Each is padded, so that the last pixel can be loaded like all others.
#[derive(Default)]
struct Copies {
    above: Vec<u8>,
    upper: Vec<u8>,
    lower: Vec<u8>,
}

fn copy(copy: &mut Vec<u8>, row: &[u8]) {
    copy.clear();
    copy.reserve(row.len() + LOADED);
    copy.extend_from_slice(row);
    copy.extend_from_slice(&[0; LOADED]);
}

/// Bytes per load.
const LOADED: usize = 8;

/// The function that undoes two rows with these filters together, where that is faster.
fn both(step: usize, upper: u8, lower: Option<u8>) -> Option<Both> {
    Some(match (step, upper, lower?) {
        (3, AVERAGE, AVERAGE) => at_once::<3, AVERAGE, AVERAGE>,
        (3, AVERAGE, PAETH) => at_once::<3, AVERAGE, PAETH>,
        (3, PAETH, AVERAGE) => at_once::<3, PAETH, AVERAGE>,
        (3, PAETH, PAETH) => at_once::<3, PAETH, PAETH>,
        (4, AVERAGE, AVERAGE) => at_once::<4, AVERAGE, AVERAGE>,
        (4, AVERAGE, PAETH) => at_once::<4, AVERAGE, PAETH>,
        (4, PAETH, AVERAGE) => at_once::<4, PAETH, AVERAGE>,
        (4, PAETH, PAETH) => at_once::<4, PAETH, PAETH>,
        _ => return None,
    })
}

fn at_once<const STEP: usize, const UPPER: u8, const LOWER: u8>(upper: &mut [u8], lower: &mut [u8], copies: &Copies) {
    let [mut above, mut filtered, mut lower_filtered] =
        [&copies.above, &copies.upper, &copies.lower].map(|copy| loads::<STEP>(copy));
    let (upper, _) = upper.as_chunks_mut::<STEP>();
    let (lower, _) = lower.as_chunks_mut::<STEP>();
    let none = i16x8::ZERO;
    let (Some((first, upper)), Some(up), Some(pixel)) = (upper.split_first_mut(), above.next(), filtered.next()) else {
        return;
    };
    let (mut left, mut corner) = (put(first, pixel + predict::<UPPER>(none, up, none)), up);
    let (mut lower_left, mut lower_corner) = (none, none);
    let (lower, last) = lower.split_at_mut(upper.len());
    let places = upper.iter_mut().zip(lower);
    // `lower_filtered` is borrowed, because one of its pixels remains for the end.
    for (((place, lower_place), (up, pixel)), lower_pixel) in places.zip(above.zip(filtered)).zip(&mut lower_filtered) {
        // The pixel to the left in the upper row lies above the lower row's current pixel.
        let predicted = predict::<LOWER>(lower_left, left, lower_corner);
        (lower_left, lower_corner) = (put(lower_place, lower_pixel + predicted), left);
        (left, corner) = (put(place, pixel + predict::<UPPER>(left, up, corner)), up);
    }
    if let ([last], Some(pixel)) = (last, lower_filtered.next()) {
        put(last, pixel + predict::<LOWER>(lower_left, left, lower_corner));
    }
}

/// The pixels of a copied row, one per load. The bytes after the pixel in each load are ignored.
#[inline(always)]
fn loads<const STEP: usize>(copy: &[u8]) -> impl Iterator<Item = i16x8> {
    copy.windows(LOADED).step_by(STEP).map(|bytes| {
        let bytes = bytes.first_chunk().copied().map_or(0, u64::from_le_bytes);
        i16x8::from_u8x16_low(u8x16::new(u128::from(bytes).to_le_bytes()))
    })
}

/// The Average and Paeth predictors for all bytes of a pixel.
#[inline(always)]
fn predict<const FILTER: u8>(left: i16x8, above: i16x8, corner: i16x8) -> i16x8 {
    if FILTER == AVERAGE {
        return (left + above) >> 1;
    }
    let (low, high) = (left.min(above), left.max(above));
    let threshold = corner + corner + corner - above - left;
    let otherwise = high.simd_gt(threshold).bitselect(corner, low);
    threshold.simd_gt(low).bitselect(otherwise, high)
}

/// Stores the low bytes of the sums, and returns them as the pixel.
#[inline(always)]
fn put<const STEP: usize>(place: &mut [u8; STEP], sums: i16x8) -> i16x8 {
    let pixel = sums & i16x8::splat(0xff);
    let bytes = u8x16::narrow_i16x8(pixel, pixel).to_array();
    if let Some(bytes) = bytes.first_chunk::<STEP>() {
        *place = *bytes;
    }
    pixel
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_at_once_are_what_they_are_alone(
            step in prop_oneof![Just(3usize), Just(4)],
            filters in prop::collection::vec(prop_oneof![3 => Just(PAETH), 3 => Just(AVERAGE), 1 => 0..=2u8], 1..9),
            width in 1..40usize,
            seed in any::<u32>(),
        ) {
            let length = width * step;
            let mut state = seed;
            let mut byte = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            let mut rows: Vec<u8> = Vec::new();
            for filter in &filters {
                rows.push(*filter);
                rows.extend((0..length).map(|_| byte()));
            }
            let mut expected: Vec<u8> = Vec::new();
            for (filter, row) in filters.iter().zip(rows.chunks_exact(length + 1)) {
                let above = expected.rchunks(length).next().map_or_else(|| vec![0; length], <[u8]>::to_vec);
                let mut row: Vec<u8> = row.iter().skip(1).copied().collect();
                prop_assert!(alone(*filter, step, &mut row, &above).is_some());
                expected.extend(row);
            }
            prop_assert!(unfilter(&mut rows, length, step).is_some());
            prop_assert_eq!(rows.get(..expected.len()), Some(&expected[..]));
        }
    }
}
