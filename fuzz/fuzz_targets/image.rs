//! Fuzzes the encoder with arbitrary files. It must refuse a file, or make a PNG that the `png` crate reads, with the
//! same digest in every mode and, for a PNG, with the same pixels as before. Memory must stay within what the header
//! predicts. A panic counts as a crash, unless a third-party decoder panics on the same file, since the consumer
//! catches panics.
#![no_main]

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, take_hook};

use bytes::Bytes;
use image::{ImageDecoder, ImageFormat, ImageReader};
use image_pipeline::api::image::{ImageSettings, PngEncoding, Reencode};
use image_pipeline::consumer::encode::{EncodeError, Png, encode, inspect};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

use memory::within;

mod memory;
mod mutate;

/// Larger images are slower and reach no other code.
const MAX_BYTES_NEEDED: u64 = 1 << 20;

/// Memory allowed in addition to the pixels: tables, windows and a few rows; a profile and its compressed data.
const ROOM: u64 = 256 << 10;
const PROFILE_ROOM: u64 = 4 << 20;
/// Copies of a JPEG's segments that its decoder makes: each segment, and the joined data.
const JPEG_COPIES: u64 = 4;

const ENCODINGS: [PngEncoding; 3] = [PngEncoding::Fast, PngEncoding::Balanced, PngEncoding::Smallest];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mutate(data, size, max_size, seed)
});

// libFuzzer's panic hook aborts before `catch_unwind` can catch a panic: remove it.
fuzz_target!(init: drop(take_hook()), |file: &[u8]| {
    let file = Bytes::copy_from_slice(file);
    let max_pixels = ImageSettings::default().max_pixels;
    let room = room(&file);
    let inspected = within(room, || not_theirs(&file, || inspect(&file, max_pixels)));
    let Some(Ok(header)) = inspected else { return };
    if header.bytes_needed() > MAX_BYTES_NEEDED {
        return;
    }
    let bound = header.bytes_needed() + room;
    let png = |encoding, reencode| {
        let settings = ImageSettings { encoding, reencode, max_pixels };
        within(bound, || not_theirs(&file, || encode(file.clone(), &header, &settings)))
    };
    let Some(first) = png(PngEncoding::Fast, Reencode::Always) else { return };
    for encoding in ENCODINGS {
        agree(&file, first.as_ref(), png(encoding, Reencode::Always).unwrap().as_ref());
    }
    if let Ok(kept) = png(PngEncoding::Fast, Reencode::WhenNotPng).unwrap() {
        agree(&file, first.as_ref(), Ok(&kept));
        assert!(kept.bytes() == &file || !is_intact_png(&file));
    }
});

fn room(file: &[u8]) -> u64 {
    let has_profile = [&b"iCCP"[..], b"ICCP", b"ICC_PROFILE", b"acsp"].iter().any(|mark| has(file, mark));
    let copies = if file.starts_with(b"\xff\xd8") { JPEG_COPIES * file.len() as u64 } else { 0 };
    ROOM + copies + if has_profile { PROFILE_ROOM } else { 0 }
}

fn has(file: &[u8], mark: &[u8]) -> bool {
    file.windows(mark.len()).any(|part| part == mark)
}

/// Runs `work`. `None`: it panicked, and a third-party decoder alone panics on the same file.
fn not_theirs<T>(file: &[u8], work: impl FnOnce() -> T) -> Option<T> {
    let panicked = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => return Some(result),
        Err(panicked) => panicked,
    };
    let decoder = || {
        let mut decoder = ImageReader::new(Cursor::new(file)).with_guessed_format().unwrap().into_decoder().ok()?;
        let profile = decoder.icc_profile();
        let mut pixels = vec![0; decoder.total_bytes() as usize];
        Some((profile.is_ok(), decoder.read_image(&mut pixels).is_ok()))
    };
    if is_png(file) || catch_unwind(decoder).is_ok() {
        resume_unwind(panicked);
    }
    None
}

fn is_png(file: &[u8]) -> bool {
    image::guess_format(file).is_ok_and(|format| format == ImageFormat::Png)
}

fn is_intact_png(file: &[u8]) -> bool {
    png_recode::header(file).and_then(|header| png_recode::read(file, header)).is_ok_and(|file| file.intact)
}

/// Two results for one file must be the same picture or the same error.
fn agree(file: &[u8], first: Result<&Png, &EncodeError>, second: Result<&Png, &EncodeError>) {
    let (first, second) = match (first, second) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(first), Err(second)) => return assert_eq!(first.to_string(), second.to_string()),
        (first, second) => panic!("{first:?}, and then {second:?}"),
    };
    assert_eq!(first.digest(), second.digest());
    let pixels = seen(second.bytes()).unwrap();
    assert!(pixels == seen(first.bytes()).unwrap());
    if let Some(before) = seen(file).ok().filter(|_| is_png(file)) {
        assert!(pixels == before);
    }
    let settings = ImageSettings::default();
    let again = inspect(second.bytes(), settings.max_pixels).unwrap();
    let again = encode(second.bytes().clone(), &again, &settings).unwrap();
    assert_eq!(again.digest(), first.digest());
    assert!(again.bytes() == first.bytes());
}

/// Color type, depth, palette, transparency and packed rows of a PNG, as the `png` crate reads them.
type Seen = (png::ColorType, png::BitDepth, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

fn seen(file: &[u8]) -> Result<Seen, png::DecodingError> {
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels)?;
    let info = reader.info();
    // Without indexed colors, a palette is only a suggestion.
    let palette = info.palette.clone().filter(|_| info.color_type == png::ColorType::Indexed);
    let transparency = info.trns.clone();
    Ok((info.color_type, info.bit_depth, palette.map(Vec::from), transparency.map(Vec::from), pixels))
}
