//! Which PNMs are read, and with which samples. The expected samples follow from Netpbm's definition of the formats.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use super::*;
use crate::consumer::encode::inspect;
use crate::reason::Reason;

fn picture(file: &[u8]) -> Result<Picture, EncodeError> {
    read(file, header(file)?)
}

#[test]
fn every_kind_is_read() {
    for (file, size, depth, pixels) in [
        (&b"P1\n# forest\n3 2\n1 0 1\n0 1 0\n"[..], (3, 2), 1, &[0b0100_0000, 0b1010_0000][..]),
        (b"P1 3 2 101010", (3, 2), 1, &[0b0100_0000, 0b1010_0000]),
        (b"P1 9 1 1 0 1#c\n1 1 1 1 1 0", (9, 1), 1, &[0b0100_0000, 0b1000_0000]),
        (b"P4\n9 1\n\xbf\x7f", (9, 1), 1, &[0b0100_0000, 0b1000_0000]),
        (b"P2 2 1 255 0 255", (2, 1), 8, &[0, 255]),
        (b"P2\n2 1\n#c\n2 # d\n1\n2\n", (2, 1), 8, &[128, 255]),
        (b"P2 2 1 65535 258 65535", (2, 1), 16, &[1, 2, 255, 255]),
        (b"P2 2 1 256 128 256", (2, 1), 16, &[0x80, 0, 255, 255]),
        (b"P3 1 1 255 1 2 3", (1, 1), 8, &[1, 2, 3]),
        (b"P5 2 1 255 \x01\xff", (2, 1), 8, &[1, 255]),
        (b"P5 2 1 100\n\x00\x64", (2, 1), 8, &[0, 255]),
        (b"P5#a\n2#b\n 1#c\n255#d\n\x01\xff", (2, 1), 8, &[1, 255]),
        (b"P5 1 1 65535 \x01\x02", (1, 1), 16, &[1, 2]),
        (b"P5 1 1 1000 \x03\xe8", (1, 1), 16, &[255, 255]),
        (b"P6 1 1 255 \n\r ", (1, 1), 8, b"\n\r "),
        (b"P6 1 1 255 abc\n", (1, 1), 8, b"abc"),
        (b"P6 1 1 255 abcP6 1 1 255 def", (1, 1), 8, b"abc"),
        (b"P6 1 1 255\r\nbc", (1, 1), 8, b"\nbc"),
    ] {
        let picture = picture(file).expect("valid");
        let layout = picture.layout;
        assert_eq!((layout.width, layout.height, layout.depth), (size.0, size.1, depth), "{file:?}");
        assert_eq!(picture.pixels, pixels, "{file:?}");
    }
}

/// The scale keeps different samples different.
#[test]
fn no_sample_is_lost_by_the_scale() {
    for most in [1u16, 2, 3, 7, 100, 127, 254] {
        let samples: Vec<u8> = (0..=most as u8).collect();
        let file = [format!("P5 {} 1 {most} ", samples.len()).as_bytes(), &samples].concat();
        let pixels = picture(&file).expect("valid").pixels;
        assert!(pixels.is_sorted_by(|one, other| one < other) && pixels.ends_with(&[255]), "{most}");
    }
}

#[test]
fn damage_is_refused() {
    for (file, found) in [
        (&b"P5 2 1 255 a"[..], "cut off"),
        (b"P4 9 2 abc", "cut off"),
        (b"P1 2 2 101", "cut off"),
        (b"P1 2 2 1 0 1", "missing"),
        (b"P3 1 1 255 1 2", "missing"),
        (b"P2 2 1 255 1 x", "missing or not a number"),
        (b"P2 2 1 255 1 -1", "missing or not a number"),
        (b"P2 2 1 255 1 2x", "missing or not a number"),
        (b"P1 2 1 1 2", "neither 0 nor 1"),
        (b"P2 2 1 100 100 101", "above its largest value, 100"),
        (b"P5 2 1 100 \x64\x65", "above its largest value, 100"),
        (b"P5 1 1 1000 \x03\xe9", "above its largest value, 1000"),
        (b"P5 2 1 0 ab", "header"),
        (b"P5 1 1 65536 ab", "header"),
        (b"P5 0 1 255 a", "header"),
        (b"P5 1 255 a", "header"),
        (b"P5 99999999999 1 255 a", "header"),
        (b"P5 1 1 255", "header"),
        (b"P5 1 1 255 abc", "2 bytes after its last pixel"),
        // Written as text: the line break of the header has two characters.
        (b"P6 1 1 255\r\nabc", "1 bytes after its last pixel"),
        (b"P6 1 1 255\r\nab\n", "1 bytes after its last pixel"),
    ] {
        let error = picture(file).expect_err(found);
        assert_eq!(error.reason(), Reason::InvalidImage, "{error}");
        assert!(error.to_string().contains(found), "{file:?}: {error}");
    }
    let error = header(b"P7\nWIDTH 1\n").expect_err("refused");
    assert_eq!(error.reason(), Reason::UnsupportedImage);
}

#[test]
fn the_size_is_checked_before_any_pixel() {
    let error = inspect(b"P5 4294967295 4294967295 255 a", 50_000_000).expect_err("refused");
    assert_eq!(error.reason(), Reason::InvalidImage);
    let file = [&b"P4 8000 8000 "[..], &vec![0; 8_000_000]].concat();
    assert!(inspect(&file, 50_000_000).expect_err("refused").to_string().contains("8000 × 8000"));
    assert_eq!(inspect(&file, 64_000_000).expect("valid").bytes_needed(), (8_000_000 + 8000) * 3 + file.len() as u64);
}
