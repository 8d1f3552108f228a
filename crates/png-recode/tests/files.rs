//! What the crate makes of files: compared with the `png` crate, which shares none of this code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Cursor;

use png_recode::{Color, Encoding, Error, fits, header, read, write};
use proptest::prelude::*;

const ENCODINGS: [Encoding; 3] = [Encoding::Fast, Encoding::Balanced, Encoding::Smallest];

fn recoded(file: &[u8], encoding: Encoding) -> Result<Vec<u8>, Error> {
    write(read(file, header(file)?)?.picture, encoding)
}

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A chunk, with a checksum that is computed bit by bit (PNG specification, annex D).
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let covered = [&kind[..], data].concat();
    let step =
        |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)));
    let checksum = !covered.iter().fold(!0, step);
    [&(data.len() as u32).to_be_bytes()[..], &covered, &checksum.to_be_bytes()].concat()
}

/// A PNG with a header for one row of three gray pixels, followed by these chunks.
fn parts(parts: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let chunks: Vec<u8> = parts.iter().flat_map(|(kind, data)| chunk(kind, data)).collect();
    [SIGNATURE, &chunk(b"IHDR", &[0, 0, 0, 3, 0, 0, 0, 1, 8, 0, 0, 0, 0]), &chunks, &chunk(b"IEND", &[])].concat()
}

fn pixels(file: &[u8]) -> Vec<u8> {
    seen(&recoded(file, Encoding::Fast).unwrap()).4
}

/// A PNG written by the `png` crate.
fn png_file(kind: (png::ColorType, png::BitDepth), size: (u32, u32), filter: png::Filter, samples: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.0, size.1);
    encoder.set_color(kind.0);
    encoder.set_depth(kind.1);
    encoder.set_filter(filter);
    if kind.0 == png::ColorType::Indexed {
        encoder.set_palette((0..=255).flat_map(|color| [color, 255 - color, 7]).collect::<Vec<u8>>());
        encoder.set_trns(vec![0, 128]);
    } else if kind == (png::ColorType::Rgb, png::BitDepth::Eight) {
        encoder.set_trns(vec![0, 1, 0, 2, 0, 3]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(samples).unwrap();
    writer.finish().unwrap();
    file
}

/// Color type, depth, palette, transparency and packed rows of a PNG, as the `png` crate reads them.
type Seen = (png::ColorType, png::BitDepth, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

fn seen(file: &[u8]) -> Seen {
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let info = reader.info();
    let owned = |part: &Option<std::borrow::Cow<'_, [u8]>>| part.as_ref().map(|part| part.to_vec());
    (info.color_type, info.bit_depth, owned(&info.palette), owned(&info.trns), pixels)
}

const KINDS: [(png::ColorType, png::BitDepth, usize); 15] = {
    use png::BitDepth::{Eight, Four, One, Sixteen, Two};
    use png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
    [
        (Grayscale, One, 1),
        (Grayscale, Two, 2),
        (Grayscale, Four, 4),
        (Grayscale, Eight, 8),
        (Grayscale, Sixteen, 16),
        (Rgb, Eight, 24),
        (Rgb, Sixteen, 48),
        (Indexed, One, 1),
        (Indexed, Two, 2),
        (Indexed, Four, 4),
        (Indexed, Eight, 8),
        (GrayscaleAlpha, Eight, 16),
        (GrayscaleAlpha, Sixteen, 32),
        (Rgba, Eight, 32),
        (Rgba, Sixteen, 64),
    ]
};

proptest! {
    #[test]
    fn every_kind_of_png_keeps_all_that_its_pixels_are_made_of(
        which in 0..KINDS.len(), width in 1u32..40, height in 1u32..12, filter in 0usize..6, seed: u64, smooth: bool,
    ) {
        use png::Filter::{Adaptive, Avg, NoFilter, Paeth, Sub, Up};
        let (color, depth, bits) = KINDS[which];
        let row = (width as usize * bits).div_ceil(8);
        let mut random = fastrand::Rng::with_seed(seed);
        let samples: Vec<u8> = (0..row * height as usize)
            .map(|index| if smooth { (index / 3) as u8 ^ random.u8(..2) } else { random.u8(..) })
            .collect();
        let file = png_file((color, depth), (width, height), [NoFilter, Sub, Up, Avg, Paeth, Adaptive][filter], &samples);
        for encoding in ENCODINGS {
            let written = recoded(&file, encoding).unwrap();
            prop_assert_eq!(seen(&written), seen(&file));
            prop_assert_eq!(&recoded(&written, encoding).unwrap(), &written, "the same pixels give the same bytes");
        }
    }
}

/// `wide`, `fdeflate` and libdeflate have other code for each processor. The digest changes only with the pixels or with
/// a compressor, whose new version writes other files for the same pixels.
#[test]
fn every_processor_writes_the_same_bytes() {
    use png::Filter::{Adaptive, Avg, NoFilter, Paeth, Sub, Up};
    let (mut random, mut digest) = (fastrand::Rng::with_seed(17), blake3::Hasher::new());
    for (color, depth, bits) in KINDS {
        for (width, height) in [(1, 1), (31, 7), (150, 40)] {
            let row = (width as usize * bits).div_ceil(8);
            for filter in [NoFilter, Sub, Up, Avg, Paeth, Adaptive] {
                let samples: Vec<u8> =
                    (0..row * height as usize).map(|index| (index / 3) as u8 ^ random.u8(..4)).collect();
                let file = png_file((color, depth), (width, height), filter, &samples);
                for encoding in ENCODINGS {
                    digest.update(&recoded(&file, encoding).unwrap());
                }
            }
        }
    }
    assert_eq!(digest.finalize().to_string(), "29ee4db49daaf285377a6d6089e7eef6743e8879feb24f5239667b483f5f4ffd");
}

/// The expected pixels are what libpng decodes.
#[test]
fn what_libpng_ignores_in_a_png_is_ignored() {
    let packed = |raw: &[u8]| fdeflate::compress_to_vec(raw);
    for raw in [&[0, 1, 2, 3, 0][..], &[0, 1, 2, 3, 0, 9, 9, 9]] {
        assert_eq!(pixels(&parts(&[(b"IDAT", &packed(raw))])), [1, 2, 3]);
    }
    let file = [
        SIGNATURE.to_vec(),
        chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 6, 0, 0, 0]),
        chunk(b"tRNS", &[0, 1, 0, 2, 0, 3]),
        chunk(b"IDAT", &packed(&[0, 1, 2, 3, 4])),
        chunk(b"IEND", &[]),
    ];
    assert_eq!(pixels(&file.concat()), [1, 2, 3, 4]);
}

/// A chunk whose checksum is wrong.
fn damaged(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut chunk = chunk(kind, data);
    *chunk.last_mut().unwrap() ^= 1;
    chunk
}

/// A PNG of one row of three gray pixels, with these bytes before its image data.
fn with(before: &[u8]) -> Vec<u8> {
    let header = chunk(b"IHDR", &[0, 0, 0, 3, 0, 0, 0, 1, 8, 0, 0, 0, 0]);
    let data = chunk(b"IDAT", &fdeflate::compress_to_vec(&[0, 1, 2, 3]));
    [SIGNATURE, &header, before, &data, &chunk(b"IEND", &[])].concat()
}

#[test]
fn a_damaged_chunk_that_no_pixel_depends_on_is_left_out() {
    let is_intact = |file: &[u8]| read(file, header(file).unwrap()).map(|file| (file.intact, file.picture.pixels));
    let pixels = || vec![1, 2, 3];
    assert_eq!(is_intact(&with(&chunk(b"tEXt", b"a\0b"))), Ok((true, pixels())));
    for before in [
        damaged(b"tEXt", b"a\0b"),
        damaged(b"prVt", b""),
        damaged(b"iCCP", b"x\0\0abc"),
        [damaged(b"tIME", &[7, 234, 1, 2, 3, 4, 5]), damaged(b"tEXt", b"a\0IDAT")].concat(),
    ] {
        assert_eq!(is_intact(&with(&before)), Ok((false, pixels())), "{before:?}");
    }
    assert_eq!(is_intact(&[with(b""), b"x".to_vec()].concat()), Ok((false, pixels())));
}

#[test]
fn a_damaged_chunk_that_pixels_may_depend_on_is_refused() {
    let mut another_type = chunk(b"tRNS", &[0, 1]);
    another_type[4] = b'u';
    let mut longer = [chunk(b"tEXt", b"a\0b"), chunk(b"tRNS", &[0, 1])].concat();
    longer[3] += 14;
    for (wrong, before) in [
        ("critical", damaged(b"PLTE", &[1, 2, 3])),
        ("unknown and critical", damaged(b"ABCD", b"")),
        ("transparency", damaged(b"tRNS", &[0, 1])),
        ("transparency with another type", another_type),
        ("a length that covers transparency", longer),
        ("no type", damaged(b"te\0t", b"")),
        ("many types", damaged(b"tEXt", &b"0000IDAT".repeat(20))),
    ] {
        let file = with(&before);
        assert!(read(&file, header(&file).unwrap()).is_err(), "{wrong}");
    }
}

/// No bit of a file with a palette, transparency and a text may change a pixel or its alpha.
#[test]
fn a_wrong_bit_changes_no_pixel() {
    let header = chunk(b"IHDR", &[0, 0, 0, 3, 0, 0, 0, 1, 8, 3, 0, 0, 0]);
    let (plte, trns) = (chunk(b"PLTE", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]), chunk(b"tRNS", &[9, 8]));
    let (text, data) = (chunk(b"tEXt", b"Comment\0forest"), chunk(b"IDAT", &fdeflate::compress_to_vec(&[0, 1, 2, 3])));
    let file = [SIGNATURE, &header, &plte, &text, &trns, &data, &text, &chunk(b"IEND", &[])].concat();
    let expected = recoded(&file, Encoding::Fast).unwrap();
    let mut accepted = 0;
    for bit in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(found) = recoded(&damaged, Encoding::Fast) {
            assert_eq!(found, expected, "bit {bit}");
            accepted += 1;
        }
    }
    assert!(accepted > 2 * 14 * 8, "{accepted}");
}

#[test]
fn data_that_is_not_what_the_header_says_is_refused() {
    let packed = |raw: &[u8]| fdeflate::compress_to_vec(raw);
    let good = packed(&[0, 1, 2, 3]);
    let mut adler = good.clone();
    *adler.last_mut().unwrap() ^= 1;
    let read = |given: &[(&[u8; 4], &[u8])]| recoded(&parts(given), Encoding::Fast);
    assert!(read(&[(b"IDAT", &good)]).is_ok());
    assert!(read(&[(b"IDAT", &good[..5]), (b"IDAT", &good[5..])]).is_ok(), "in parts");
    assert!(read(&[(b"tEXt", b"a\0b"), (b"IDAT", &good), (b"tEXt", b"a\0b")]).is_ok());
    for (wrong, given) in [
        ("checksum", &[(b"IDAT", &adler[..])][..]),
        ("too short", &[(b"IDAT", &packed(&[0, 1, 2]))]),
        ("more than a row too long", &[(b"IDAT", &packed(&[0, 1, 2, 3, 0, 1, 2, 3, 0]))]),
        ("a bomb", &[(b"IDAT", &packed(&[0; 100_000]))]),
        ("no such filter", &[(b"IDAT", &packed(&[5, 1, 2, 3]))]),
        ("no data", &[]),
        ("split", &[(b"IDAT", &good[..5]), (b"tEXt", b"a\0b"), (b"IDAT", &good[5..])]),
        ("unknown and critical", &[(b"ABCD", b""), (b"IDAT", &good)]),
        ("two headers", &[(b"IHDR", &[0, 0, 0, 3, 0, 0, 0, 1, 8, 0, 0, 0, 0]), (b"IDAT", &good)]),
        ("transparency", &[(b"tRNS", b"x"), (b"IDAT", &good)]),
    ] {
        assert!(read(given).is_err(), "{wrong}");
    }
}

/// Compares deinterlacing with the `png` crate, on files with random filtered rows.
#[test]
fn interlaced_files_come_out_in_order() {
    let mut random = fastrand::Rng::with_seed(7);
    for (color, depth, bits) in KINDS {
        for (width, height) in [(1, 1), (3, 2), (5, 9), (17, 16)] {
            let layout_bytes = [width, height].map(u32::to_be_bytes).concat();
            let mut raw = Vec::new();
            for (x, across, y, down) in
                [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
            {
                let columns = (x..width).step_by(across).count();
                for _ in (y..height).step_by(down).take(if columns == 0 { 0 } else { usize::MAX }) {
                    raw.push(random.u8(..5));
                    raw.extend((0..(columns * bits).div_ceil(8)).map(|_| random.u8(..)));
                }
            }
            let ihdr = chunk(b"IHDR", &[&layout_bytes[..], &[depth as u8, color as u8, 0, 0, 1]].concat());
            let plte = match color {
                png::ColorType::Indexed => chunk(b"PLTE", &vec![9; 3 << bits.min(8)]),
                _ => Vec::new(),
            };
            let idat = chunk(b"IDAT", &fdeflate::compress_to_vec(&raw));
            let file = [SIGNATURE, &ihdr, &plte, &idat, &chunk(b"IEND", &[])].concat();
            let written = recoded(&file, Encoding::Fast).unwrap();
            assert_eq!(seen(&written), seen(&file), "{color:?} {depth:?} {width} × {height}");
        }
    }
}

#[test]
fn a_profile_fits_pixels_of_its_kind() {
    let mut profile = vec![7; 200];
    profile[..4].copy_from_slice(&200u32.to_be_bytes());
    profile[16..20].copy_from_slice(b"RGB ");
    profile[36..40].copy_from_slice(b"acsp");
    assert!(fits(&profile, Color::Rgb) && !fits(&profile, Color::Grey));
    for (at, value) in [(16, b'G'), (36, b'x'), (3, 1)] {
        let mut wrong = profile.clone();
        wrong[at] = value;
        assert!(!fits(&wrong, Color::Rgb), "{at}");
    }
}

/// Equal rows without runs: only a search for repetitions compresses them.
#[test]
fn finds_rows_that_are_alike_in_pictures_without_a_filter() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 256, 256);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(vec![7; 768]);
    let row: Vec<u8> = (0..=255u8).map(|at| at.wrapping_mul(37) ^ (at >> 3)).collect();
    encoder.write_header().unwrap().write_image_data(&row.repeat(256)).unwrap();
    for encoding in ENCODINGS {
        let written = recoded(&file, encoding).unwrap();
        assert!(written.len() < 4096, "{encoding:?}: {} bytes", written.len());
    }
}
