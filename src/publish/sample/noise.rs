//! Deterministic random numbers: a hash of coordinates, and smooth noise. Uses integers only, so that the results are
//! the same on every platform.

/// A hash of a seed and two coordinates. Each output bit depends on all input bits. Multipliers and shifts are from
/// Ettinger's search for 32-bit finalizers.
pub(super) fn hash(seed: u32, x: u32, y: u32) -> u32 {
    let mut mixed = seed ^ x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77).rotate_left(13);
    mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x21F0_AAAD);
    mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x735A_2D97);
    mixed ^ (mixed >> 15)
}

/// Maps a hash to a number in `low..=high`.
pub(super) fn between(hash: u32, low: i32, high: i32) -> i32 {
    let span = u64::from(high.abs_diff(low)) + 1;
    low.saturating_add(i32::try_from((u64::from(hash) * span) >> 32).unwrap_or(0))
}

/// Smooth noise for an image, row by row, with values in `-128..=127`: random values on a lattice of `1 << shift`
/// pixels, interpolated with a smooth step.
pub(super) fn plane(seed: u32, width: u32, height: u32, shift: u32) -> Vec<i32> {
    let step = smooth_step(shift);
    let lattice_row = |y: u32| -> Vec<i32> {
        let columns = (width >> shift) + 2;
        (0..columns).map(|x| (hash(seed, x, y) >> 24).cast_signed() - 128).collect()
    };
    let mut values = Vec::with_capacity(width as usize * height as usize);
    let (mut above, mut below) = (Vec::new(), lattice_row(0));
    for y in 0..height {
        let within = y & ((1 << shift) - 1);
        if within == 0 {
            above = std::mem::replace(&mut below, lattice_row((y >> shift) + 1));
        }
        let down = step.get(within as usize).copied().unwrap_or(0);
        let blended: Vec<i32> =
            above.iter().zip(&below).map(|(above, below)| (above << 8) + (below - above) * down).collect();
        let cells = blended.iter().zip(blended.iter().skip(1));
        let row = cells
            .flat_map(|(left, right)| step.iter().map(move |across| ((left << 8) + (right - left) * across) >> 16));
        values.extend(row.take(width as usize));
    }
    values
}

/// `3t² − 2t³` for each pixel of a lattice cell, in 256ths.
fn smooth_step(shift: u32) -> Vec<i32> {
    let cell = 1_i32 << shift;
    (0..cell)
        .map(|position| {
            let t = (position << 8) / cell;
            (t * t * (768 - 2 * t)) >> 16
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn noise_fills_its_range_and_has_no_seams() {
        let (width, height) = (200, 150);
        let values = plane(7, width, height, 4);
        assert_eq!(values.len(), 200 * 150);
        assert!(values.iter().all(|value| (-128..=127).contains(value)));
        assert!(values.iter().min() < Some(&-100) && values.iter().max() > Some(&100));
        let steepest = values.chunks(200).flat_map(|row| row.windows(2)).map(|pair| (pair[0] - pair[1]).abs()).max();
        assert!(steepest < Some(30), "{steepest:?}");
    }

    #[test]
    fn numbers_between_reach_both_ends() {
        let numbers: Vec<i32> = (0..1000).map(|index| between(hash(1, index, 0), -3, 3)).collect();
        assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&-3), Some(&3)));
    }
}
