//! Which GIFs are read, and with which colors. The files are made by the `gif` crate's encoder or by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use ::gif::{Encoder, Frame};

use super::*;
use crate::consumer::encode::inspect;
use crate::reason::Reason;

const COLORS: [u8; 12] = [0, 0, 0, 200, 10, 20, 30, 210, 40, 50, 60, 220];

fn file(screen: (u16, u16), frame: &Frame<'_>) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, screen.0, screen.1, &COLORS).unwrap();
    encoder.write_frame(frame).unwrap();
    drop(encoder);
    file
}

fn frame(width: u16, height: u16) -> Frame<'static> {
    let pixels: Vec<u8> = (0..u32::from(width) * u32::from(height)).map(|at| (at % 1009 * 7 / 5 % 4) as u8).collect();
    Frame::from_indexed_pixels(width, height, pixels, None)
}

fn picture(file: &[u8]) -> Result<Picture, EncodeError> {
    read(file, layout(file)?)
}

#[test]
fn the_color_table_is_kept_as_the_palette() {
    // More pixels than the bytes allowed for extensions.
    for (width, height) in [(1, 1), (7, 5), (1200, 1000)] {
        let frame = frame(width, height);
        let picture = picture(&file((width, height), &frame)).expect("valid");
        assert_eq!((picture.layout.width, picture.layout.height), (width.into(), height.into()));
        assert_eq!(picture.palette.as_deref(), Some(&COLORS[..]));
        assert_eq!(picture.transparency, None);
        assert!(picture.pixels == frame.buffer[..]);
    }
}

#[test]
fn of_an_animation_the_first_frame_is_read() {
    let mut animation = Vec::new();
    let mut encoder = Encoder::new(&mut animation, 7, 5, &[9, 9, 9]).unwrap();
    for number in 0..3 {
        let mut frame = frame(7, 5);
        frame.palette = Some(COLORS.iter().map(|color| color + number).collect());
        frame.transparent = Some(2);
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    let picture = picture(&animation).expect("valid");
    assert_eq!(picture.palette.as_deref(), Some(&COLORS[..]), "the table of the frame");
    assert_eq!(picture.transparency.as_deref(), Some(&[255, 255, 0][..]));
    assert_eq!(picture.pixels, frame(7, 5).buffer[..]);
}

#[test]
fn a_frame_that_does_not_cover_the_screen_is_refused() {
    for (screen, left, top) in [((8, 5), 0, 0), ((7, 6), 0, 0), ((8, 6), 1, 1), ((7, 5), 1, 0), ((6, 5), 0, 0)] {
        let frame = Frame { left, top, ..frame(7, 5) };
        let error = layout(&file(screen, &frame)).expect_err("refused");
        assert_eq!(error.reason(), Reason::UnsupportedImage);
        assert!(error.to_string().contains("whose first frame has 7 × 5 pixels"), "{error}");
    }
}

#[test]
fn damage_is_refused() {
    let whole = file((40, 30), &frame(40, 30));
    for length in 6..whole.len() - 4 {
        for end in [&b""[..], b"\0;"] {
            let error = picture(&[&whole[..length], end].concat()).expect_err("refused");
            assert_eq!(error.reason(), Reason::InvalidImage, "cut to {length}: {error}");
        }
    }
    let mut few = whole.clone();
    // Half of the color table.
    few[10] -= 1;
    few.drain(19..25);
    let error = picture(&few).expect_err("refused").to_string();
    assert!(error.contains("a color that its color table lacks"), "{error}");
}

#[test]
fn the_size_is_checked_before_any_pixel() {
    let mut large = file((1, 1), &frame(1, 1));
    let frame = large.iter().rposition(|byte| *byte == b',').unwrap();
    for at in [6, 8, frame + 5, frame + 7] {
        large[at..at + 2].copy_from_slice(&u16::MAX.to_le_bytes());
    }
    let error = inspect(&large, 50_000_000).expect_err("refused");
    assert!(error.to_string().contains("65535 × 65535"), "{error}");
}
