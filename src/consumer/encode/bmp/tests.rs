//! Which BMPs with a color table are refused. The files are written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::consumer::encode::inspect;
use crate::reason::Reason;

/// A BMP of 4 × 2 pixels.
fn bmp(bits: u16, compression: u32, colors: u32, data: &[u8]) -> Vec<u8> {
    let table = vec![7; if colors == 0 { 4 << bits } else { colors as usize * 4 }];
    let offset = (54 + table.len()) as u32;
    let head = [offset + data.len() as u32, 0, offset, 40, 4, 2].map(u32::to_le_bytes).concat();
    let planes = [1, bits].map(u16::to_le_bytes).concat();
    let rest = [compression, data.len() as u32, 0, 0, colors, 0].map(u32::to_le_bytes).concat();
    [&b"BM"[..], &head, &planes, &rest, &table, data].concat()
}

#[test]
fn whole_pictures_are_accepted() {
    for (bits, compression, colors, data) in [
        (8, 0, 3, &[0, 1, 2, 0, 2, 2, 2, 2][..]),
        (8, 0, 0, &[0, 255, 2, 0, 2, 2, 2, 2]),
        (4, 0, 3, &[0x01, 0x20, 0xff, 0xff, 0x22, 0x22, 0, 0]),
        (1, 0, 0, &[0xf0, 0, 0, 0, 0xa0, 0, 0, 0]),
        (8, 1, 0, &[4, 9, 0, 0, 4, 8, 0, 0, 0, 1]),
        (8, 1, 0, &[4, 9, 0, 0, 4, 8, 0, 1]),
        (8, 1, 0, &[0, 3, 1, 2, 3, 0, 1, 9, 0, 0, 2, 8, 2, 7, 0, 0, 0, 1]),
        (4, 2, 0, &[0, 4, 0x12, 0x34, 0, 0, 4, 0x89, 0, 0, 0, 1]),
    ] {
        inspect(&bmp(bits, compression, colors, data), 100).expect("valid");
    }
}

#[test]
fn a_pixel_without_a_color_is_refused() {
    for (bits, compression, data) in [
        (8, 0, &[0, 1, 2, 3, 2, 2, 2, 2][..]),
        (4, 0, &[0x01, 0x20, 0, 0, 0x22, 0x23, 0, 0]),
        (8, 1, &[4, 3, 0, 0, 4, 2, 0, 0, 0, 1]),
        (8, 1, &[0, 4, 0, 1, 2, 3, 0, 0, 4, 2, 0, 0, 0, 1]),
        (4, 2, &[4, 0x13, 0, 0, 4, 2, 0, 0, 0, 1]),
    ] {
        let error = inspect(&bmp(bits, compression, 3, data), 100).expect_err("refused");
        assert_eq!(error.reason(), Reason::InvalidImage);
        assert!(error.to_string().contains("that its color table lacks"), "{error}");
    }
}

#[test]
fn runs_that_leave_pixels_out_are_refused() {
    for data in [
        &[3, 9, 0, 0, 4, 8, 0, 0, 0, 1][..],
        &[0, 0, 4, 8, 0, 0, 0, 1],
        &[4, 9, 0, 0, 0, 1],
        &[4, 9, 0, 1],
        &[0, 1],
        &[4, 9, 0, 0, 0, 2, 1, 0, 3, 8, 0, 0, 0, 1],
    ] {
        let error = inspect(&bmp(8, 1, 0, data), 100).expect_err("refused");
        assert_eq!(error.reason(), Reason::UnsupportedImage);
        assert!(error.to_string().contains("leave pixels out"), "{error}");
    }
    let error = inspect(&bmp(8, 1, 0, &[5, 9, 0, 0, 4, 8, 0, 0, 0, 1]), 100).expect_err("refused");
    assert!(error.to_string().contains("longer than its row"), "{error}");
}
