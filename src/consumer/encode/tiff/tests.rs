//! Which TIFFs are refused, and how the refusal names them. The files are built by hand, not with a library.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

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

fn stored(file: &[u8]) -> Result<Picture, EncodeError> {
    read(file, header(file)?)
}

fn pixels(file: &[u8]) -> Vec<u8> {
    stored(file).expect("valid").pixels
}

/// The text of a refusal of a valid file.
fn unread(file: &[u8], expected: &str) -> String {
    match stored(file) {
        Err(EncodeError::UnsupportedImage(text)) => text,
        other => panic!("{expected}: {other:?}"),
    }
}

/// The text of a refusal of a damaged file.
fn damaged(file: &[u8], expected: &str) -> String {
    match stored(file) {
        Err(EncodeError::InvalidImage(text)) => text,
        other => panic!("{expected}: {other:?}"),
    }
}

#[test]
fn what_comes_out_wrong_is_refused_by_name() {
    let grey = |others: &[Tag<'_>]| picture(1, &[16], &[1, 0, 2, 0], others);
    let rgb = |bits: u32, others: &[Tag<'_>]| picture(2, &[bits; 3], &[0; 24], others);
    let bands = |count, others: &[Tag<'_>]| picture(2, &vec![8; count], &[7; 20], others);
    for (file, found) in [
        (
            bands(4, &[(338, SHORT, &[0])]),
            "4 bands: 3 colors and one that is not alpha; PNG supports 3 colors and one alpha",
        ),
        (bands(5, &[(338, SHORT, &[2, 0])]), "5 bands: 3 colors and 2 more; PNG supports 3 colors and one alpha"),
        (bands(5, &[(338, SHORT, &[2])]), "5 bands: 3 colors and 2 more"),
        (bands(5, &[]), "5 bands: 3 colors and 2 more"),
        (picture(1, &[8; 2], &[0; 4], &[(338, SHORT, &[0])]), "2 bands: gray and one that is not alpha"),
        (picture(5, &[8; 5], &[0; 10], &[(338, SHORT, &[2])]), "5 bands, of which 4 are CMYK"),
        (rgb(32, &[]), "integers of 32 bits"),
        (rgb(32, &[(339, SHORT, &[1; 3])]), "integers of 32 bits"),
        (rgb(32, &[(339, SHORT, &[2; 3])]), "signed integers of 32 bits"),
        (rgb(16, &[(339, SHORT, &[3; 3])]), "floats of 16 bits"),
        (grey(&[(339, SHORT, &[2])]), "signed integers of 16 bits"),
        (picture(2, &[5, 6, 5], &[0; 4], &[]), "samples of different depths"),
        (picture(6, &[8; 3], &[0; 6], &[]), "YCbCr colors"),
        (picture(8, &[8; 3], &[0; 6], &[]), "CIE L*a*b* colors"),
        (grey(&[(259, SHORT, &[4])]), "fax compression"),
        (grey(&[(259, SHORT, &[9])]), "unknown (number 9) compression"),
        (
            picture(1, &[8; 2], &[9, 8, 0, 0], &[(338, SHORT, &[1])]),
            "premultiplied alpha (ExtraSamples 1) and colors above",
        ),
        (picture(3, &[16], &[0; 4], &[]), "a palette and 16 bits"),
        (grey(&[(259, SHORT, &[7])]), "JPEG compression of 16 bits"),
        (grey(&[(317, SHORT, &[2])]), "the Predictor 2 for this compression"),
        (grey(&[(32_997, SHORT, &[3])]), "a volume of 3 slices"),
        (grey(&[(259, SHORT, &[6])]), "old-style JPEG"),
        (picture(1, &[8], &[0, 1, 0, 0], &[(259, SHORT, &[5])]), "old-style LZW"),
    ] {
        let text = unread(&file, found);
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
    let picture =
        stored(&picture(2, &[8; 3], &[1, 2, 3, 4, 5, 6], &[(tag::PROFILE, UNDEFINED, &profile)])).expect("valid");
    let kept: Vec<u32> = picture.profile.expect("kept").iter().map(|byte| (*byte).into()).collect();
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
        let text = unread(&floats(values), found);
        assert!(text.contains(found), "{text}");
    }
}

#[test]
fn samples_become_those_of_png() {
    assert_eq!(pixels(&picture(1, &[4], &[0x5f], &[])), [0x5f]);
    assert_eq!(pixels(&picture(0, &[1], &[0x7f], &[])), [0x80], "bits after the last pixel are cleared");
    assert_eq!(pixels(&picture(1, &[12], &[0xab, 0xc1, 0x23], &[])), [0xab, 0xca, 0x12, 0x31]);
    assert_eq!(pixels(&picture(1, &[16], &[0x80, 0, 0x40, 0], &[(tag::FILL_ORDER, SHORT, &[2])])), [0, 1, 0, 2]);
    assert_eq!(pixels(&picture(1, &[8; 2], &[64, 128, 0, 0], &[(338, SHORT, &[1])])), [128, 128, 0, 0]);
    assert_eq!(pixels(&picture(1, &[8], &[255, 7], &[(tag::COMPRESSION, SHORT, &[32_773])])), [7, 7]);
    let map: Vec<u32> = [0u32, 1, 2, 3].iter().cycle().take(12).map(|value| value * 257).collect();
    let stored = stored(&picture(3, &[2], &[0b0111_0000], &[(tag::COLOR_MAP, SHORT, &map)])).unwrap();
    assert_eq!((stored.layout.color, stored.layout.depth, stored.pixels), (Color::Indexed, 2, vec![0x70]));
    assert_eq!(stored.palette.unwrap(), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
}

#[test]
fn missing_strips_are_0() {
    let missing: [Tag<'_>; 2] = [(tag::STRIP_OFFSETS, LONG, &[0]), (tag::STRIP_BYTES, LONG, &[0])];
    assert_eq!(pixels(&picture(1, &[8], &[9; 20], &missing)), [0, 0]);
    let nodata: [Tag<'_>; 1] = [(tag::GDAL_NODATA, BYTE, &[55, 0])];
    assert_eq!(pixels(&picture(1, &[8], &[9; 20], &[&missing[..], &nodata].concat())), [7, 7]);
    for lost in [missing[0], missing[1]] {
        damaged(&picture(1, &[8], &[9; 20], &[lost]), "one of both");
    }
}

#[test]
fn sizes_are_bounded() {
    let tile = |side: u32, offsets: &[u32]| {
        let tags: [Tag<'_>; 5] = [
            (tag::COMPRESSION, SHORT, &[5]),
            (tag::TILE_WIDTH, LONG, &[side]),
            (tag::TILE_HEIGHT, LONG, &[16]),
            (tag::TILE_OFFSETS, LONG, offsets),
            (tag::TILE_BYTES, LONG, offsets),
        ];
        header(&picture(1, &[8], &[9; 20], &tags))
    };
    assert!(matches!(tile(1 << 17, &[8]), Err(EncodeError::OverLimits)));
    assert!(matches!(tile(16, &[]), Err(EncodeError::InvalidImage(_))));
    assert!(tile(1 << 16, &[8]).unwrap().bytes_needed() >= 1 << 20);
    let large =
        header(&picture(2, &[8; 3], &[9; 20], &[(tag::WIDTH, LONG, &[60_000]), (tag::HEIGHT, LONG, &[60_000])]));
    assert!(large.unwrap().bytes_needed() >= 3 * 3 * 60_000 * 60_000);
    let huge = header(&picture(2, &[8; 3], &[9; 20], &[(tag::WIDTH, LONG, &[u32::MAX])]));
    assert!(matches!(huge, Err(EncodeError::OverLimits)));
}

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
        let text = damaged(&strips(lengths), "short");
        assert!(text.contains("the TIFF is damaged: one of its strips has"), "{text}");
    }
}

#[test]
fn a_directory_that_is_damaged_is_refused() {
    let whole = picture(2, &[8; 3], &[1, 2, 3, 4, 5, 6], &[]);
    for length in 0..whole.len() - 4 {
        // The last four bytes, where the next directory is, are not read; nor are two values of BitsPerSample.
        if length < whole.len() - 10 {
            assert!(stored(&whole[..length]).is_err(), "cut to {length}");
        }
    }
    for (tags, found) in [
        (&[(tag::COMPRESSION, 6, &[5][..])][..], "tag 259 has unsupported type 6"),
        (&[(tag::COMPRESSION, SHORT, &[1]), (tag::COMPRESSION, SHORT, &[1])], "its tag 259 twice"),
        (&[(tag::COMPRESSION, SHORT, &[])], "tag 259 must have exactly one value"),
    ] {
        let text = damaged(&file(true, tags, &[]), found);
        assert!(text.contains(found), "{text}");
    }
    damaged(b"II*\0\xff\xff\xff\xff", "no directory");
}
