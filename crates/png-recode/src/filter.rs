//! Applies PNG's filters (PNG specification, section 9) in loops that compilers vectorize. Allocates only a few rows.

use crate::picture::Layout;

/// The Paeth predictor (filter 4), in the form with the fewest dependent steps.
pub(crate) fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let (low, high) = (left.min(above), left.max(above));
    let threshold = i16::from(corner) * 3 - i16::from(left) - i16::from(above);
    let otherwise = if i16::from(high) <= threshold { low } else { corner };
    if threshold <= i16::from(low) { high } else { otherwise }
}

/// The Average predictor (filter 3): rounded down, without overflow.
pub(crate) fn average(left: u8, above: u8) -> u8 {
    (left & above) + ((left ^ above) >> 1)
}

/// The best filter for most rows of photographs.
const PAETH: u8 = 4;

/// Filters all rows in place, from the last to the first, and prefixes each row with the number of its filter. With
/// `choosing`, each row gets the filter of the lowest cost; otherwise all rows get the same filter.
pub(crate) fn filter(pixels: &mut Vec<u8>, layout: Layout, choosing: bool) {
    let (length, height) = (layout.row_bytes(layout.width), layout.height as usize);
    pixels.resize((length + 1) * height, 0);
    let first = vec![0; length];
    let (mut best, mut other) = (vec![0; length], vec![0; length]);
    let candidates = match (layout.is_filtered(), choosing) {
        (false, _) => 0..=0,
        (true, false) => PAETH..=PAETH,
        (true, true) => 0..=4,
    };
    for index in (0..height).rev() {
        let (before, from) = pixels.split_at_mut(index * length);
        let above = before.len().checked_sub(length).and_then(|start| before.get(start..)).unwrap_or(&first);
        let Some((row, _)) = from.split_at_mut_checked(length) else { continue };
        let (mut chosen, mut lowest) = (0, u64::MAX);
        for filter in candidates.clone() {
            apply(filter, layout.step(), row, above, &mut other);
            let cost = if choosing { cost(&other) } else { 0 };
            if cost < lowest {
                (chosen, lowest) = (filter, cost);
                std::mem::swap(&mut best, &mut other);
            }
        }
        if let Some([number, place @ ..]) = pixels.get_mut(index * (length + 1)..(index + 1) * (length + 1)) {
            *number = chosen;
            place.copy_from_slice(&best);
        }
    }
}

fn apply(filter: u8, step: usize, row: &[u8], above: &[u8], to: &mut [u8]) {
    match filter {
        1 => differences(step, row, above, to, |left, _, _| left),
        2 => differences(step, row, above, to, |_, above, _| above),
        3 => differences(step, row, above, to, |left, above, _| average(left, above)),
        PAETH => differences(step, row, above, to, paeth),
        _ => to.copy_from_slice(row),
    }
}

#[inline(always)]
fn differences(step: usize, row: &[u8], above: &[u8], to: &mut [u8], predict: impl Fn(u8, u8, u8) -> u8) {
    let (first, rest) = to.split_at_mut(step.min(row.len()));
    for ((to, byte), above) in first.iter_mut().zip(row).zip(above) {
        *to = byte.wrapping_sub(predict(0, *above, 0));
    }
    let here = row.iter().zip(above).skip(step);
    for ((to, (byte, up)), (left, corner)) in rest.iter_mut().zip(here).zip(row.iter().zip(above)) {
        *to = byte.wrapping_sub(predict(*left, *up, *corner));
    }
}

/// Estimates a row's compressed size: the sum of the bytes' absolute values as signed numbers. Larger values are so
/// rare that all of them cost the same.
fn cost(row: &[u8]) -> u64 {
    const RARE: u8 = 20;
    let cost = |byte: &u8| u16::from((*byte).min(byte.wrapping_neg()).min(RARE));
    row.chunks(1024).map(|part| u64::from(part.iter().map(cost).sum::<u16>())).sum()
}
