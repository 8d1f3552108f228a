//! Judges the first directory of a TIFF file before its decoder reads it: of every value listed there
//! the decoder makes 32 bytes, and only then takes a limit. Pure. It must never refuse a tag that the
//! decoder doesn't read; what it can't read itself, it leaves to the decoder to refuse.

/// The most values of a tag. A picture has one for each of its strips or tiles.
const MAX_VALUES: u32 = 1 << 18;

/// What the decoder reads while there is no limit: size, kind and place of the pixels.
const READ: [u32; 19] = [256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 347, 530];

/// Whether the decoder would take more memory for the directory than is justified.
pub(super) fn is_excessive(file: &[u8]) -> bool {
    let number = |place: &[u8]| {
        let more = |number, byte: &u8| number << 8 | u32::from(*byte);
        if file.starts_with(b"II") { place.iter().rev().fold(0, more) } else { place.iter().fold(0, more) }
    };
    let start = file.get(4..8).map_or(usize::MAX, |start| number(start) as usize);
    let Some((tags, rest)) = file.get(start..).and_then(|directory| directory.split_at_checked(2)) else {
        return false;
    };
    rest.as_chunks::<12>()
        .0
        .iter()
        .take(number(tags) as usize)
        .any(|[a, b, _, _, values @ .., _, _, _, _]| READ.contains(&number(&[*a, *b])) && number(values) > MAX_VALUES)
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;
    use crate::consumer::encode::inspect;
    use crate::reason::Reason;

    /// A file of two tags, of which the second is given.
    fn file(is_little: bool, tag: u16, values: u32) -> Vec<u8> {
        let short = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let long = |number: u32| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let mut file = if is_little { b"II".to_vec() } else { b"MM".to_vec() };
        file.extend([&short(42)[..], &long(8), &short(2)].concat());
        for (tag, values) in [(256, 1), (tag, values)] {
            file.extend([&short(tag)[..], &short(1), &long(values), &long(0)].concat());
        }
        file
    }

    #[test]
    fn refuses_a_tag_of_too_many_values() {
        for is_little in [false, true] {
            let excessive = |tag, values| is_excessive(&file(is_little, tag, values));
            assert!(excessive(258, MAX_VALUES + 1) && excessive(273, u32::MAX));
            assert!(!excessive(258, MAX_VALUES));
            assert!(!excessive(34_377, u32::MAX), "is not read");
            let whole = file(is_little, 258, MAX_VALUES + 1);
            assert_eq!(inspect(&whole, 1).expect_err("refused").reason(), Reason::ImageTooLarge);
        }
    }

    #[test]
    fn a_directory_that_is_cut_off_or_nowhere_is_left_to_the_decoder() {
        let whole = file(true, 258, u32::MAX);
        assert!((0..whole.len()).all(|length| !whole.get(..length).is_some_and(is_excessive)));
        assert!(!is_excessive(b"II*\0\xff\xff\xff\xff"));
    }
}
