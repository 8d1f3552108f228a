//! Huffman codes for DEFLATE (RFC 1951, section 3.2.2): the code length of each symbol, and the codes. No code is
//! longer than the limit, and only symbols that occur get a code.

use std::iter;

/// A code in the order it is written: the lowest bit first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Code {
    pub bits: u32,
    pub length: u32,
}

/// The longest code that DEFLATE allows.
pub(crate) const LONGEST: usize = 15;

/// The code length for each symbol, given how often it occurs; 0 for symbols that do not occur. A single symbol gets
/// a code of one bit.
pub(crate) fn lengths(counts: &[u32], longest: usize) -> Vec<u8> {
    let mut symbols: Vec<(u32, usize)> = counts.iter().copied().zip(0..).filter(|(count, _)| *count > 0).collect();
    symbols.sort_unstable();
    let weights: Vec<u32> = symbols.iter().map(|(count, _)| *count).collect();
    let numbers = limit(&depths(&weights), longest);
    let mut lengths = vec![0; counts.len()];
    // The rarest symbols come first, and get the longest codes.
    let longest_first = numbers.iter().enumerate().rev().flat_map(|(length, number)| iter::repeat_n(length, *number));
    for ((_, symbol), length) in symbols.into_iter().zip(longest_first) {
        if let Some(place) = lengths.get_mut(symbol) {
            *place = length as u8;
        }
    }
    lengths
}

/// The depths of the leaves in the Huffman tree. `weights` must ascend.
fn depths(weights: &[u32]) -> Vec<usize> {
    let leaves = weights.len();
    let all = (2 * leaves).saturating_sub(1);
    // Inner nodes follow the leaves. Their weights ascend, too.
    let mut weights = weights.to_vec();
    let mut parents = vec![0; all];
    let (mut leaf, mut made) = (0, leaves);
    for parent in leaves..all {
        let mut sum = 0;
        for _ in 0..2 {
            let is_leaf = leaf < leaves && weights.get(made).is_none_or(|weight| weights.get(leaf) <= Some(weight));
            let lightest = if is_leaf { &mut leaf } else { &mut made };
            sum += weights.get(*lightest).copied().unwrap_or_default();
            if let Some(place) = parents.get_mut(*lightest) {
                *place = parent;
            }
            *lightest += 1;
        }
        weights.push(sum);
    }
    // The last node is the root. Every other node is one deeper than its parent.
    let mut depths = vec![usize::from(leaves == 1); all];
    for index in (0..all.saturating_sub(1)).rev() {
        let above = parents.get(index).and_then(|parent| depths.get(*parent)).copied().unwrap_or_default();
        if let Some(place) = depths.get_mut(index) {
            *place = above + 1;
        }
    }
    depths.truncate(leaves);
    depths
}

/// The number of codes of each length, with none longer than `longest`. Codes that are deeper in the tree are cut to
/// `longest`; to make room for them, the longest of the shorter codes grow by one bit.
fn limit(depths: &[usize], longest: usize) -> Vec<usize> {
    let mut numbers = vec![0; longest + 1];
    for depth in depths {
        if let Some(number) = numbers.get_mut(*depth.min(&longest)) {
            *number += 1;
        }
    }
    // Kraft's inequality, in units of the longest code.
    let room = 1usize << longest;
    let taken: usize = numbers.iter().zip(0..).map(|(number, length)| number << (longest - length)).sum();
    for _ in room..taken {
        let Some(length) = (1..longest).rev().find(|length| numbers.get(*length).is_some_and(|number| *number > 0))
        else {
            break;
        };
        // A code of length `longest` becomes the sibling of the code that grows.
        for (length, change) in [(longest, -1), (length, -1), (length + 1, 2)] {
            if let Some(number) = numbers.get_mut(length) {
                *number = number.saturating_add_signed(change);
            }
        }
    }
    numbers
}

/// The canonical codes for these lengths.
pub(crate) fn codes(lengths: &[u8]) -> Vec<Code> {
    let mut next = [0u32; LONGEST + 1];
    let mut code = 0;
    for (length, next) in (1u8..).zip(next.iter_mut().skip(1)) {
        *next = code;
        let number = lengths.iter().filter(|other| **other == length).count();
        code = (code + number as u32) << 1;
    }
    let code = |length: &u8| {
        let place = next.get_mut(usize::from(*length)).filter(|_| *length > 0)?;
        let bits = place.reverse_bits() >> (u32::BITS - u32::from(*length));
        *place += 1;
        Some(Code { bits, length: u32::from(*length) })
    };
    lengths.iter().map(code).map(Option::unwrap_or_default).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The code space that the codes use, in units of the longest code.
    fn taken(lengths: &[u8], longest: usize) -> usize {
        lengths.iter().filter(|length| **length > 0).map(|length| 1 << (longest - usize::from(*length))).sum()
    }

    #[test]
    fn gives_short_codes_to_what_is_frequent() {
        assert_eq!(lengths(&[5, 0, 1, 1, 2], 15), [1, 0, 3, 3, 2]);
        assert_eq!(lengths(&[0, 7, 0], 15), [0, 1, 0]);
        assert_eq!(lengths(&[0, 0], 15), [0, 0]);
    }

    /// The example of RFC 1951, section 3.2.2; its codes are written from the highest bit.
    #[test]
    fn counts_codes_up_within_a_length() {
        let codes = codes(&[3, 3, 3, 3, 3, 2, 4, 4, 0]);
        let bits: Vec<u32> =
            codes.iter().map(|code| code.bits.reverse_bits().checked_shr(32 - code.length).unwrap_or(0)).collect();
        assert_eq!(bits, [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111, 0]);
    }

    proptest! {
        #[test]
        fn fills_the_room_and_no_more(
            counts in prop::collection::vec(prop_oneof![Just(0u32), 1..10u32, 1..4_000_000u32], 2..286),
            longest in 9..=LONGEST,
        ) {
            let lengths = lengths(&counts, longest);
            let used = counts.iter().filter(|count| **count > 0).count();
            prop_assert!(counts.iter().zip(&lengths).all(|(count, length)| (*count > 0) == (*length > 0)));
            prop_assert!(lengths.iter().all(|length| usize::from(*length) <= longest));
            let room = 1 << longest;
            prop_assert_eq!(taken(&lengths, longest), match used { 0 => 0, 1 => room / 2, _ => room });
        }
    }
}
