//! Where a JPEG ends, and which JPEGs are refused. The expected pixels are what libjpeg-turbo decodes from the seeds.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::reason::Reason;

const PLAIN: &[u8] = include_bytes!("../../../../fuzz/seeds/image/subsampled.jpg");
const RESTARTS: &[u8] = include_bytes!("../../../../fuzz/seeds/image/restarts.jpg");
const PROGRESSIVE: &[u8] = include_bytes!("../../../../fuzz/seeds/image/progressive-subsampled.jpg");
const CMYK: &[u8] = include_bytes!("../../../../fuzz/seeds/image/cmyk.jpg");
const PROGRESSIVE_CMYK: &[u8] = include_bytes!("../../../../fuzz/seeds/image/progressive-cmyk.jpg");
const GREY: &[u8] = include_bytes!("../../../../fuzz/seeds/image/grey.jpg");

const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];

fn pixels(file: &[u8]) -> Result<Vec<u8>, EncodeError> {
    Ok(read(file, header(file)?)?.pixels)
}

/// The offsets of a marker.
fn places(file: &[u8], marker: u8) -> Vec<usize> {
    (0..file.len() - 1).filter(|at| file[*at..at + 2] == [0xff, marker]).collect()
}

#[test]
fn pixels_are_those_of_libjpeg() {
    for (file, width, expected) in [
        (PLAIN, 40, [(0, 0, [2, 11, 6]), (36, 22, [216, 198, 86]), (20, 12, [127, 119, 160])]),
        (RESTARTS, 40, [(0, 0, [2, 11, 6]), (36, 22, [216, 198, 86]), (20, 12, [127, 119, 160])]),
        (PROGRESSIVE, 40, [(0, 0, [2, 11, 6]), (36, 22, [216, 198, 86]), (20, 12, [127, 119, 160])]),
        (CMYK, 40, [(0, 0, [4, 4, 4]), (36, 22, [28, 50, 199]), (20, 12, [64, 71, 3])]),
        (PROGRESSIVE_CMYK, 40, [(0, 0, [4, 4, 4]), (36, 22, [28, 50, 199]), (20, 12, [64, 71, 3])]),
    ] {
        let pixels = pixels(file).expect("valid");
        for (x, y, expected) in expected {
            let found = &pixels[(y * width + x) * 3..][..3];
            let is_near = found.iter().zip(expected).all(|(found, expected): (&u8, u8)| found.abs_diff(expected) <= 2);
            assert!(is_near, "{found:?}, {expected:?}");
        }
    }
    assert_eq!(pixels(GREY).expect("valid"), [82, 49, 158, 98, 52, 140]);
}

/// Phones append a video, a second picture or other data to a JPEG. Those bytes must not affect the picture.
#[test]
fn what_follows_the_end_is_not_read() {
    for file in [PLAIN, RESTARTS, PROGRESSIVE, CMYK, PROGRESSIVE_CMYK, GREY] {
        let expected = pixels(file).expect("valid");
        let behind =
            [&b"ftypmp42 \xff\xda"[..], &[0xff, 0xda, 0, 8, 1], PLAIN, &PLAIN[..500], &END_OF_IMAGE, &[0; 9000]];
        for behind in behind {
            assert_eq!(pixels(&[file, behind].concat()).expect("valid"), expected);
        }
    }
}

/// Cuts a file at every byte, with and without an end marker appended. Each result must be refused, unless only
/// padding bits were lost.
#[test]
fn a_row_is_never_made_up() {
    for file in [PLAIN, RESTARTS, PROGRESSIVE, CMYK, PROGRESSIVE_CMYK, GREY] {
        let whole = pixels(file).expect("valid");
        let end = header(file).expect("valid").end;
        for length in 2..end {
            let cut = &file[..length];
            let cut = cut.strip_suffix(&[0xff]).unwrap_or(cut);
            assert!(pixels(cut).is_err(), "cut to {length} of {end}");
            let ended = pixels(&[cut, &END_OF_IMAGE].concat());
            let is_last = length + 1 == end;
            assert!(ended.is_err() || is_last && ended.is_ok_and(|pixels| pixels == whole), "cut to {length} of {end}");
        }
        let next = [&file[..end - 3], &PLAIN[2..]].concat();
        assert!(pixels(&next).is_err(), "cut, followed by another JPEG");
    }
    let cut = &PLAIN[..PLAIN.len() * 3 / 4];
    let error = pixels(&[cut, &END_OF_IMAGE].concat()).expect_err("refused");
    assert_eq!(error.reason(), Reason::InvalidImage);
    assert!(error.to_string().contains("its data ends before its last row"), "{error}");
    let error = pixels(cut).expect_err("refused");
    assert!(error.to_string().contains("cut off"), "{error}");
}

#[test]
fn data_between_restart_markers_is_not_skipped() {
    let (first, second) = (places(RESTARTS, 0xd0)[0], places(RESTARTS, 0xd1)[0]);
    let without = [&RESTARTS[..first], &RESTARTS[second..]].concat();
    let error = pixels(&without).expect_err("refused");
    assert!(error.to_string().contains("data before its restart marker 1 is lost"), "{error}");
}

#[test]
fn a_progressive_jpeg_without_its_last_scan_is_refused() {
    for file in [PROGRESSIVE, PROGRESSIVE_CMYK] {
        for scan in places(file, 0xda) {
            let error = pixels(&[&file[..scan], &END_OF_IMAGE].concat()).expect_err("refused");
            assert_eq!(error.reason(), Reason::InvalidImage, "{error}");
        }
    }
}

#[test]
fn kinds_that_are_not_read_are_named() {
    let changed = |file: &[u8], marker: u8, at: usize, value: u8| {
        let mut file = file.to_vec();
        let place = places(&file, marker)[0];
        file[place + at] = value;
        file
    };
    let process = |kind| changed(PLAIN, 0xc0, 1, kind);
    let first_scan = |components: &[u8]| {
        let at = places(PLAIN, 0xda)[0];
        let count = components.len() as u8 / 2;
        [&PLAIN[..at], &[0xff, 0xda, 0, 6 + 2 * count, count], components, &PLAIN[at + 11..]].concat()
    };
    for (file, found) in [
        (first_scan(&[1, 0]), "a sequential JPEG whose first scan has 1 of its 3 components"),
        (first_scan(&[1, 0, 2, 17]), "a sequential JPEG whose first scan has 2 of its 3 components"),
        (process(0xc3), "a lossless JPEG"),
        (process(0xc5), "a JPEG with hierarchical or lossless coding"),
        (process(0xc9), "a JPEG with arithmetic coding"),
        (process(0xca), "a JPEG with arithmetic coding"),
        (changed(PLAIN, 0xc0, 4, 12), "a JPEG of 12 bits per sample"),
        (changed(PLAIN, 0xc0, 9, 2), "a JPEG of 2 components"),
    ] {
        let error = header(&file).expect_err(found);
        assert_eq!(error.reason(), Reason::UnsupportedImage, "{error}");
        assert!(error.to_string().contains(found), "{error}");
    }
    for (file, found) in [
        (changed(PLAIN, 0xc0, 11, 0x02), "header is damaged"),
        (changed(PLAIN, 0xc0, 11, 0x20), "header is damaged"),
        (changed(PLAIN, 0xda, 5, 9), "a scan whose header is damaged"),
        ([&PLAIN[..2], &PLAIN[places(PLAIN, 0xc0)[0]..][..19], &PLAIN[2..]].concat(), "two headers"),
        ([&PLAIN[..2], &END_OF_IMAGE].concat(), "no header"),
    ] {
        let error = header(&file).expect_err(found);
        assert_eq!(error.reason(), Reason::InvalidImage, "{error}");
        assert!(error.to_string().contains(found), "{error}");
    }
}
