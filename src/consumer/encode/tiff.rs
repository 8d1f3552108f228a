//! Judges the first directory of a TIFF file before its decoder reads it: of every value listed there the decoder
//! makes 32 bytes, and only then takes a limit; of a tile it takes a whole row, and of a JPEG within it what that
//! says of itself. Pure. It must never refuse a tag that the decoder doesn't read; what it can't read itself, it
//! leaves to the decoder to refuse.

use super::EncodeError;

/// The most values of a tag. A picture has one for each of its strips or tiles.
const MAX_VALUES: u32 = 1 << 18;

/// The widest tile: far beyond what is written, and a row of it is little.
const MAX_TILE_WIDTH: u32 = 1 << 16;

const COMPRESSION: u32 = 259;
const TILE_WIDTH: u32 = 322;

/// The compression that is JPEG (TIFF Technical Note 2).
const JPEG: u32 = 7;

/// What the decoder reads while there is no limit: size, kind and place of the pixels.
const READ: [u32; 19] = [256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 347, 530];

/// Refuses a file whose decoder would take more memory than is justified, or is not to be trusted.
pub(super) fn check(file: &[u8]) -> Result<(), EncodeError> {
    let number = |place: &[u8]| {
        let more = |number, byte: &u8| number << 8 | u32::from(*byte);
        if file.starts_with(b"II") { place.iter().rev().fold(0, more) } else { place.iter().fold(0, more) }
    };
    let start = file.get(4..8).map_or(usize::MAX, |start| number(start) as usize);
    let Some((tags, rest)) = file.get(start..).and_then(|directory| directory.split_at_checked(2)) else {
        return Ok(());
    };
    for &[tag_a, tag_b, kind_a, kind_b, ref values @ .., a, b, c, d] in
        rest.as_chunks::<12>().0.iter().take(number(tags) as usize)
    {
        // Of the kinds BYTE, SHORT and LONG a single one stands in its place. The decoder takes others as well, which
        // nobody writes.
        let value = match number(&[kind_a, kind_b]) {
            1 => Some(u32::from(a)),
            3 => Some(number(&[a, b])),
            4 => Some(number(&[a, b, c, d])),
            _ => None,
        };
        match number(&[tag_a, tag_b]) {
            tag if READ.contains(&tag) && number(values) > MAX_VALUES => return Err(EncodeError::OverLimits),
            TILE_WIDTH if value.is_none_or(|width| width > MAX_TILE_WIDTH) => return Err(EncodeError::OverLimits),
            COMPRESSION if value.is_none() => return Err("its compression is told by an odd kind of number".into()),
            COMPRESSION if value == Some(JPEG) => {
                let text = "it is a TIFF with JPEG compression, which is not read; publish it in another, or as a JPEG";
                return Err(EncodeError::InvalidImage(text.to_owned()));
            }
            _ => {}
        }
    }
    Ok(())
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

    fn is_excessive(file: &[u8]) -> bool {
        check(file).is_err_and(|error| error.reason() == Reason::ImageTooLarge)
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

    /// A file of one tag with one value, of a kind: 1 BYTE, 3 SHORT, 4 LONG.
    fn valued(is_little: bool, tag: u16, kind: u16, value: u32) -> Vec<u8> {
        let short = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let long = |number: u32| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let mut place = match kind {
            1 => vec![value.to_le_bytes()[0]],
            3 => short(value as u16).to_vec(),
            _ => long(value).to_vec(),
        };
        place.resize(4, 0);
        let order: &[u8] = if is_little { b"II" } else { b"MM" };
        [order, &short(42), &long(8), &short(1), &short(tag), &short(kind), &long(1), &place].concat()
    }

    #[test]
    fn refuses_tiles_that_are_wider_than_any_and_jpeg_within() {
        for is_little in [false, true] {
            let refused = |tag, kind, value| check(&valued(is_little, tag, kind, value)).err();
            for kind in [1, 3, 4] {
                let jpeg = refused(259, kind, 7).expect("refused");
                assert_eq!(jpeg.reason(), Reason::InvalidImage);
                assert!(jpeg.to_string().contains("JPEG compression"), "{jpeg}");
                assert!(refused(259, kind, 5).is_none());
            }
            for odd in [6, 7, 16, 18] {
                assert_eq!(refused(259, odd, 5).map(|error| error.reason()), Some(Reason::InvalidImage));
                assert!(is_excessive(&valued(is_little, 322, odd, 16)));
            }
            assert!(is_excessive(&valued(is_little, 322, 4, MAX_TILE_WIDTH + 1)));
            assert!(refused(322, 4, MAX_TILE_WIDTH).is_none() && refused(322, 3, 512).is_none());
        }
    }
}
