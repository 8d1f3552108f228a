//! Which TIFFs are refused, and how the refusal names them. The files are built by hand, not with the `tiff` crate.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::api::image::ImageSettings;
use crate::consumer::encode::{Png, encode, inspect};
use crate::reason::Reason;

const BYTE: u16 = 1;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const UNDEFINED: u16 = 7;

/// A tag: its number, the type of its values, and the values.
type Tag<'a> = (u16, u16, &'a [u32]);

/// A file with these tags, which must ascend, and `data` at offset 8, before the directory.
fn file(is_little: bool, tags: &[Tag<'_>], data: &[u8]) -> Vec<u8> {
    let bytes = |kind, value: u32| match (kind, is_little) {
        (BYTE | UNDEFINED, _) => vec![value as u8],
        (SHORT, true) => (value as u16).to_le_bytes().to_vec(),
        (SHORT, false) => (value as u16).to_be_bytes().to_vec(),
        (_, true) => value.to_le_bytes().to_vec(),
        (_, false) => value.to_be_bytes().to_vec(),
    };
    let mut file = if is_little { b"II".to_vec() } else { b"MM".to_vec() };
    let directory = 8 + data.len() as u32;
    file.extend([bytes(SHORT, 42), bytes(LONG, directory), data.to_vec(), bytes(SHORT, tags.len() as u32)].concat());
    let mut elsewhere = directory + 2 + 12 * tags.len() as u32 + 4;
    let mut rest = Vec::new();
    for (tag, kind, values) in tags {
        let mut place: Vec<u8> = values.iter().flat_map(|value| bytes(*kind, *value)).collect();
        if place.len() > 4 {
            let at = bytes(LONG, elsewhere);
            elsewhere += place.len() as u32;
            rest.extend(std::mem::replace(&mut place, at));
        }
        place.resize(4, 0);
        file.extend(
            [bytes(SHORT, (*tag).into()), bytes(SHORT, (*kind).into()), bytes(LONG, values.len() as u32), place]
                .concat(),
        );
    }
    [file, vec![0; 4], rest].concat()
}

/// A picture of two pixels in one row and one strip. `others` replace its tags or are added to them.
fn picture(photometric: u32, bits: &[u32], data: &[u8], others: &[Tag<'_>]) -> Vec<u8> {
    let samples = [bits.len() as u32];
    let length = [data.len() as u32];
    let mut tags: Vec<Tag<'_>> = vec![
        (tag::WIDTH, SHORT, &[2]),
        (tag::HEIGHT, SHORT, &[1]),
        (tag::BITS, SHORT, bits),
        (tag::COMPRESSION, SHORT, &[1]),
        (tag::STRIP_OFFSETS, LONG, &[8]),
        (tag::SAMPLES, SHORT, &samples),
        (tag::STRIP_BYTES, LONG, &length),
    ];
    let photometric = [photometric];
    tags.push((tag::PHOTOMETRIC, SHORT, &photometric));
    tags.retain(|(tag, ..)| others.iter().all(|(other, ..)| tag != other));
    tags.extend(others);
    tags.sort_by_key(|(tag, ..)| *tag);
    file(true, &tags, data)
}

fn stored(file: &[u8]) -> Result<Png, EncodeError> {
    encode(file.to_vec().into(), &inspect(file, 1000)?, &ImageSettings::default())
}

/// The pixels of the stored PNG, as the `png` crate reads them.
fn pixels(file: &[u8]) -> Vec<u8> {
    let png = stored(file).expect("valid");
    let mut reader = png::Decoder::new(std::io::Cursor::new(png.bytes())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels
}

fn is_excessive(file: &[u8]) -> bool {
    header(file).is_err_and(|error| error.reason() == Reason::ImageTooLarge)
}

#[test]
fn what_comes_out_wrong_is_refused_by_name() {
    let grey = |others: &[Tag<'_>]| picture(1, &[16], &[1, 0, 2, 0], others);
    let rgb = |bits: u32, others: &[Tag<'_>]| picture(2, &[bits; 3], &[0; 24], others);
    let bands = |count, others: &[Tag<'_>]| picture(2, &vec![8; count], &[7; 20], others);
    let tiles: [Tag<'_>; 5] = [
        (tag::PLANES, SHORT, &[2]),
        (tag::TILE_WIDTH, SHORT, &[16]),
        (tag::TILE_HEIGHT, SHORT, &[16]),
        (tag::TILE_OFFSETS, LONG, &[8; 3]),
        (tag::TILE_BYTES, LONG, &[256; 3]),
    ];
    for (file, found) in [
        (
            bands(4, &[(338, SHORT, &[0])]),
            "4 bands: 3 colors and one that is not alpha; PNG supports 3 colors and one alpha",
        ),
        (bands(5, &[(338, SHORT, &[2, 0])]), "5 bands: 3 colors and 2 more; PNG supports 3 colors and one alpha"),
        (bands(5, &[(338, SHORT, &[2])]), "5 bands: 3 colors and 2 more"),
        (bands(5, &[]), "5 bands: 3 colors and 2 more"),
        (picture(1, &[8; 2], &[0; 4], &[(338, SHORT, &[0])]), "2 bands: gray and one that is not alpha"),
        (picture(1, &[8; 2], &[0; 4], &[(338, SHORT, &[2])]), "gray with alpha"),
        (picture(5, &[8; 5], &[0; 10], &[(338, SHORT, &[2])]), "5 bands, of which 4 are CMYK"),
        (bands(4, &[(338, SHORT, &[1])]), "premultiplied alpha (ExtraSamples 1)"),
        (grey(&[(266, SHORT, &[2])]), "reversed bit order (FillOrder 2)"),
        (rgb(32, &[]), "integers of 32 bits"),
        (rgb(32, &[(339, SHORT, &[1; 3])]), "integers of 32 bits"),
        (rgb(32, &[(339, SHORT, &[2; 3])]), "signed integers of 32 bits"),
        (rgb(16, &[(339, SHORT, &[3; 3])]), "floats of 16 bits"),
        (picture(1, &[32], &[0; 8], &[(339, SHORT, &[3])]), "floats of 32 bits"),
        (grey(&[(339, SHORT, &[2])]), "signed integers of 16 bits"),
        (picture(1, &[4], &[0], &[]), "4 bits per sample"),
        (picture(2, &[12; 3], &[0; 9], &[]), "12 bits per sample"),
        (picture(2, &[5, 6, 5], &[0; 4], &[]), "samples of different depths"),
        (picture(3, &[8], &[0; 2], &[]), "a palette"),
        (picture(6, &[8; 3], &[0; 6], &[]), "YCbCr colors"),
        (picture(8, &[8; 3], &[0; 6], &[]), "CIE L*a*b* colors"),
        (grey(&[(259, SHORT, &[50_000])]), "ZSTD compression"),
        (grey(&[(259, SHORT, &[7])]), "JPEG compression"),
        (grey(&[(259, SHORT, &[4])]), "fax compression"),
        (grey(&[(259, SHORT, &[9])]), "unknown (number 9) compression"),
        (grey(&[(273, LONG, &[0])]), "1 of its 1 strips missing (sparse file)"),
        (grey(&[(279, LONG, &[0])]), "1 of its 1 strips missing (sparse file)"),
        (rgb(8, &tiles), "planar tiles that extend beyond the picture"),
    ] {
        let error = stored(&file).expect_err(found);
        assert_eq!(error.reason(), Reason::UnsupportedImage, "{found}: {error}");
        let text = error.to_string();
        assert!(text.contains(&format!("it is a TIFF with {found}")) && text.contains("; publish"), "{text}");
    }
}

/// The expected values are the bytes written here; libtiff reads the same values.
#[test]
fn what_is_like_it_and_right_is_stored() {
    let data = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(pixels(&picture(1, &[16], &data[..4], &[(266, SHORT, &[1])])), [2, 1, 4, 3]);
    assert_eq!(pixels(&picture(0, &[8], &data[..2], &[])), [254, 253]);
    assert_eq!(pixels(&picture(2, &[8; 3], &data[..6], &[])), data[..6]);
    assert_eq!(pixels(&picture(2, &[8; 3], &data[..6], &[(339, SHORT, &[1; 3])])), data[..6]);
    assert_eq!(pixels(&picture(2, &[8; 4], &data, &[(338, SHORT, &[2])])), data);
    assert_eq!(pixels(&picture(2, &[8; 4], &data, &[])), data, "Pillow, too, reads the fourth sample as alpha");
}

#[test]
fn a_profile_is_carried_over() {
    let mut profile = [7; 200];
    profile[..4].copy_from_slice(&[0, 0, 0, 200]);
    profile[16..20].copy_from_slice(&b"RGB ".map(u32::from));
    profile[36..40].copy_from_slice(&b"acsp".map(u32::from));
    let png = stored(&picture(2, &[8; 3], &[1, 2, 3, 4, 5, 6], &[(tag::PROFILE, UNDEFINED, &profile)])).expect("valid");
    let reader = png::Decoder::new(std::io::Cursor::new(png.bytes())).read_info().unwrap();
    let kept: Vec<u32> =
        reader.info().icc_profile.as_deref().expect("kept").iter().map(|byte| (*byte).into()).collect();
    assert_eq!(kept, profile);
}

/// Pixels of 32-bit floats.
fn floats(values: [f32; 6]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    picture(2, &[32; 3], &data, &[(339, SHORT, &[3; 3])])
}

#[test]
fn floats_beyond_0_and_1_are_refused_with_their_range() {
    assert_eq!(pixels(&floats([0.0, 0.25, 0.5, 0.75, 1.0, 1.0]))[..6], [0, 0, 0x40, 0, 0x80, 0]);
    for (values, found) in [
        ([10.0, 120.0, 250.0, 10.0, 10.0, 10.0], "floats from 10 to 250"),
        ([0.5, -0.25, 0.5, 0.5, 0.5, 0.5], "floats from -0.25 to 0.5"),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 1.5], "floats from 0.5 to 1.5"),
        ([f32::NAN, 0.5, 0.5, 0.5, 0.5, 0.5], "NaN among its floats"),
        ([0.5, 0.5, f32::INFINITY, 0.5, 0.5, 0.5], "floats from 0.5 to inf"),
    ] {
        let error = stored(&floats(values)).expect_err(found);
        assert_eq!(error.reason(), Reason::UnsupportedImage, "{error}");
        assert!(error.to_string().contains(found), "{error}");
    }
}

proptest! {
    /// A file with a band in addition to colors and alpha is never stored, in any layout, compression and predictor.
    #[test]
    fn a_band_that_is_no_alpha_is_never_dropped(
        is_little: bool, width in 1u32..40, height in 1u32..40, beyond in 1usize..4, extra in 0u32..4, predictor in 1u32..3,
        deep: bool, in_tiles: bool, is_planar: bool,
        compression in prop::sample::select(&[1u32, 5, 8, 32_773, 32_946][..]),
    ) {
        prop_assume!(beyond > 1 || extra != 2);
        let samples = [3 + beyond as u32];
        let bits = vec![if deep { 16 } else { 8 }; 3 + beyond];
        let extra = vec![extra; beyond];
        let (width, height, predictor, compression) = ([width], [height], [predictor], [compression]);
        let planes = [if is_planar { 2 } else { 1 }];
        let chunks = if is_planar { 3 + beyond } else { 1 } * if in_tiles { 9 } else { 1 };
        let (offsets, lengths) = (vec![8; chunks], vec![60_000; chunks]);
        let mut tags: Vec<Tag<'_>> = vec![
            (tag::WIDTH, LONG, &width),
            (tag::HEIGHT, LONG, &height),
            (tag::BITS, SHORT, &bits),
            (tag::COMPRESSION, SHORT, &compression),
            (tag::PHOTOMETRIC, SHORT, &[2]),
            (tag::SAMPLES, SHORT, &samples),
            (tag::PLANES, SHORT, &planes),
            (tag::PREDICTOR, SHORT, &predictor),
            (tag::EXTRA_SAMPLES, SHORT, &extra),
        ];
        if in_tiles {
            tags.extend([(tag::TILE_WIDTH, SHORT, &[16][..]), (tag::TILE_HEIGHT, SHORT, &[16])]);
            tags.extend([(tag::TILE_OFFSETS, LONG, &offsets[..]), (tag::TILE_BYTES, LONG, &lengths)]);
        } else {
            tags.extend([(tag::STRIP_OFFSETS, LONG, &offsets[..]), (tag::STRIP_BYTES, LONG, &lengths)]);
        }
        tags.sort_by_key(|(tag, ..)| *tag);
        let error = stored(&file(is_little, &tags, &[0; 60_000])).expect_err("refused");
        prop_assert_eq!(error.reason(), Reason::UnsupportedImage, "{}", error);
    }
}

#[test]
fn refuses_a_tag_of_too_many_values() {
    for is_little in [false, true] {
        // The count of the second tag is at offset 8 + 2 + 12 + 4.
        let counted = |tag, count: u32| {
            let mut file = file(is_little, &[(256, SHORT, &[1]), (tag, SHORT, &[1])], &[]);
            file[26..30].copy_from_slice(&if is_little { count.to_le_bytes() } else { count.to_be_bytes() });
            file
        };
        assert!(is_excessive(&counted(258, MAX_VALUES + 1)) && is_excessive(&counted(273, u32::MAX)));
        assert!(!is_excessive(&counted(258, MAX_VALUES)));
        assert!(!is_excessive(&counted(34_377, u32::MAX)), "the decoder does not read this tag");
        assert_eq!(inspect(&counted(258, MAX_VALUES + 1), 1).expect_err("refused").reason(), Reason::ImageTooLarge);
    }
}

#[test]
fn refuses_tiles_that_are_wider_than_any() {
    for (kind, width, expected) in
        [(LONG, MAX_TILE_WIDTH + 1, true), (LONG, MAX_TILE_WIDTH, false), (SHORT, 512, false)]
    {
        assert_eq!(is_excessive(&file(true, &[(tag::TILE_WIDTH, kind, &[width])], &[])), expected);
    }
}

/// The decoder would read the bytes after the strip or tile as its pixels.
#[test]
fn a_strip_or_tile_that_is_shorter_than_its_rows_is_refused() {
    let data = [7; 900];
    let rows: [Tag<'_>; 3] =
        [(tag::HEIGHT, SHORT, &[5]), (tag::ROWS_PER_STRIP, SHORT, &[2]), (tag::STRIP_OFFSETS, LONG, &[8, 20, 32])];
    let strips = |lengths: [u32; 3]| {
        picture(2, &[8; 3], &data, &[&rows[..], &[(tag::STRIP_BYTES, LONG, &lengths[..])]].concat())
    };
    assert_eq!(pixels(&strips([12, 12, 6])), [7; 30]);
    for lengths in [[11, 12, 6], [12, 11, 6], [12, 12, 5]] {
        let error = stored(&strips(lengths)).expect_err("refused");
        assert_eq!(error.reason(), Reason::InvalidImage);
        assert!(error.to_string().contains("the TIFF is damaged: one of its strips has"), "{error}");
    }
    let tile = |length| {
        let tags: [Tag<'_>; 10] = [
            (tag::WIDTH, SHORT, &[3]),
            (tag::HEIGHT, SHORT, &[2]),
            (tag::BITS, SHORT, &[8; 3]),
            (tag::COMPRESSION, SHORT, &[1]),
            (tag::PHOTOMETRIC, SHORT, &[2]),
            (tag::SAMPLES, SHORT, &[3]),
            (tag::TILE_WIDTH, SHORT, &[16]),
            (tag::TILE_HEIGHT, SHORT, &[16]),
            (tag::TILE_OFFSETS, LONG, &[8]),
            (tag::TILE_BYTES, LONG, &[length]),
        ];
        file(true, &tags, &data)
    };
    assert_eq!(pixels(&tile(768)), [7; 18]);
    let error = stored(&tile(767)).expect_err("refused");
    assert!(error.to_string().contains("one of its tiles has 767 bytes of 768"), "{error}");
}

/// LZW (TIFF 6.0, section 13) that begins a new table before each byte, so that every code has nine bits.
fn lzw(data: &[u8]) -> Vec<u8> {
    const CLEAR: u16 = 256;
    const END: u16 = 257;
    let codes = data.iter().flat_map(|byte| [CLEAR, u16::from(*byte)]).chain([END]);
    let bits: Vec<u8> = codes.flat_map(|code| (0..9).rev().map(move |bit| (code >> bit & 1) as u8)).collect();
    bits.chunks(8).map(|bits| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | bit << (7 - at))).collect()
}

/// The decoder does not find the end of some of them.
#[test]
fn lzw_tiles_beyond_the_picture_are_stored_right_or_refused_by_name() {
    let tile: Vec<u8> = (0..16 * 16 * 3).map(|at| (at * 7 % 251) as u8).collect();
    let data = lzw(&tile);
    let length = [data.len() as u32];
    let sizes = (1..=16).flat_map(|width| [1, 2, 15, 16].map(|height| (width, height)));
    for (width, height) in sizes {
        let (columns, rows) = ([width], [height]);
        let tags: [Tag<'_>; 10] = [
            (tag::WIDTH, SHORT, &columns),
            (tag::HEIGHT, SHORT, &rows),
            (tag::BITS, SHORT, &[8; 3]),
            (tag::COMPRESSION, SHORT, &[5]),
            (tag::PHOTOMETRIC, SHORT, &[2]),
            (tag::SAMPLES, SHORT, &[3]),
            (tag::TILE_WIDTH, SHORT, &[16]),
            (tag::TILE_HEIGHT, SHORT, &[16]),
            (tag::TILE_OFFSETS, LONG, &[8]),
            (tag::TILE_BYTES, LONG, &length),
        ];
        let file = file(true, &tags, &data);
        let expected: Vec<u8> =
            tile.chunks(48).take(height as usize).flat_map(|row| row[..width as usize * 3].to_vec()).collect();
        match stored(&file) {
            Ok(_) => assert_eq!(pixels(&file), expected, "{width} × {height}"),
            Err(error) => assert!(error.to_string().contains("LZW tiles that extend beyond"), "{error}"),
        }
    }
}

#[test]
fn a_directory_that_is_damaged_is_refused() {
    let whole = picture(2, &[8; 3], &[1, 2, 3, 4, 5, 6], &[]);
    for length in 0..whole.len() {
        assert!(stored(&whole[..length]).is_err(), "cut to {length}");
    }
    for (tags, found) in [
        (&[(tag::COMPRESSION, 6, &[5][..])][..], "tag 259 has unsupported type 6"),
        (&[(tag::TILE_WIDTH, 16, &[5])], "tag 322 has unsupported type 16"),
        (&[(tag::WIDTH, SHORT, &[5]), (tag::WIDTH, SHORT, &[6])], "its tag 256 twice"),
        (&[(tag::COMPRESSION, SHORT, &[])], "tag 259 must have exactly one value"),
    ] {
        let error = header(&file(true, tags, &[])).expect_err(found);
        assert_eq!(error.reason(), Reason::InvalidImage);
        assert!(error.to_string().contains(found), "{error}");
    }
    assert_eq!(inspect(b"II*\0\xff\xff\xff\xff", 1).expect_err("refused").reason(), Reason::InvalidImage);
}
