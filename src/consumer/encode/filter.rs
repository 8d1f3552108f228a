//! PNG's filters, both ways, in loops that compilers turn into vector instructions where the filter
//! allows it. It must never allocate more than a few rows.

use super::picture::Layout;

/// The predictor of PNG's filter 4, in the form with the fewest dependent steps.
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let (low, high) = (left.min(above), left.max(above));
    let threshold = i16::from(corner) * 3 - i16::from(left) - i16::from(above);
    let otherwise = if i16::from(high) <= threshold { low } else { corner };
    if threshold <= i16::from(low) { high } else { otherwise }
}

fn average(left: u8, above: u8) -> u8 {
    (left & above) + ((left ^ above) >> 1)
}

/// Undoes `filter` on a row; nothing if there is no such filter.
pub(super) fn unfilter(filter: u8, step: usize, row: &mut [u8], above: &[u8]) -> Option<()> {
    match filter {
        0 => {}
        2 => row.iter_mut().zip(above).for_each(|(byte, above)| *byte = byte.wrapping_add(*above)),
        1 | 3 | 4 => match step {
            1 => unfilter_by::<1>(filter, row, above),
            2 => unfilter_by::<2>(filter, row, above),
            3 => unfilter_by::<3>(filter, row, above),
            4 => unfilter_by::<4>(filter, row, above),
            6 => unfilter_by::<6>(filter, row, above),
            _ => unfilter_by::<8>(filter, row, above),
        },
        _ => return None,
    }
    Some(())
}

fn unfilter_by<const STEP: usize>(filter: u8, row: &mut [u8], above: &[u8]) {
    match filter {
        1 => predicted::<STEP>(row, above, |left, _, _| left),
        3 => predicted::<STEP>(row, above, |left, above, _| average(left, above)),
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

/// Filters all rows in place, from the last to the first, each with the filter that leaves the least
/// sum of absolute differences. Every row gets its filter's number before it.
pub(super) fn filter(pixels: &mut Vec<u8>, layout: Layout) {
    let (length, height) = (layout.row_bytes(layout.width), layout.height as usize);
    pixels.resize((length + 1) * height, 0);
    let none = vec![0; length];
    let mut tries = [(); 4].map(|()| vec![0; length]);
    // Neighbours in a palette, or within a byte, say little of each other.
    let adaptive = layout.color != super::picture::Color::Indexed && layout.depth >= 8;
    for index in (0..height).rev() {
        let (before, from) = pixels.split_at_mut(index * length);
        let above = before.len().checked_sub(length).and_then(|start| before.get(start..)).unwrap_or(&none);
        let Some((row, _)) = from.split_at_mut_checked(length) else { continue };
        let chosen = if adaptive { choose(row, above, layout.step(), &mut tries) } else { 0 };
        let start = index * (length + 1);
        match chosen.checked_sub(1).and_then(|index| tries.get(index)) {
            Some(filtered) => {
                if let Some(place) = pixels.get_mut(start + 1..start + 1 + length) {
                    place.copy_from_slice(filtered);
                }
            }
            None => pixels.copy_within(index * length..(index + 1) * length, start + 1),
        }
        if let Some(place) = pixels.get_mut(start) {
            *place = chosen as u8;
        }
    }
}

/// Tries filters 1 to 4 on a row, and names the best of all five.
fn choose(row: &[u8], above: &[u8], step: usize, tries: &mut [Vec<u8>; 4]) -> usize {
    let [sub, up, mean, path] = tries;
    let step = step.min(row.len());
    let ((first, rest), (first_above, rest_above)) = (row.split_at(step), above.split_at(step));
    for ((((byte, above), sub), mean), path) in
        first.iter().zip(first_above).zip(&mut *sub).zip(&mut *mean).zip(&mut *path)
    {
        (*sub, *mean, *path) = (*byte, byte.wrapping_sub(above >> 1), byte.wrapping_sub(*above));
    }
    for ((byte, above), up) in row.iter().zip(above).zip(&mut *up) {
        *up = byte.wrapping_sub(*above);
    }
    let ((_, sub_rest), (_, mean_rest), (_, path_rest)) =
        (sub.split_at_mut(step), mean.split_at_mut(step), path.split_at_mut(step));
    for ((byte, left), to) in rest.iter().zip(row).zip(sub_rest) {
        *to = byte.wrapping_sub(*left);
    }
    for (((byte, left), above), to) in rest.iter().zip(row).zip(rest_above).zip(mean_rest) {
        *to = byte.wrapping_sub(average(*left, *above));
    }
    for ((((byte, left), up), corner), to) in rest.iter().zip(row).zip(rest_above).zip(above).zip(path_rest) {
        *to = byte.wrapping_sub(paeth(*left, *up, *corner));
    }
    let costs = [cost(row), cost(sub), cost(up), cost(mean), cost(path)];
    costs.iter().enumerate().min_by_key(|(_, cost)| **cost).map_or(0, |(filter, _)| filter)
}

/// The sum of a row's bytes, taken as signed and without their signs.
fn cost(row: &[u8]) -> u64 {
    row.chunks(256)
        .map(|part| u64::from(part.iter().map(|byte| u16::from((*byte).min(byte.wrapping_neg()))).sum::<u16>()))
        .sum()
}
