//! A stored PNG counts as the published image if it has the same pixels, and as a different image if one sample of
//! one pixel differs.

use std::io::Cursor;
use std::time::Instant;

use image::{DynamicImage, ImageFormat};

use super::history::{History, Step};
use accounting::ledger::{Digest, Entry};
use accounting::pixels::Decoder;
use support::images::{Sample, sample, samples};

/// Number of kinds in `images::sample`.
const KINDS: u32 = 15;

/// Two JPEG decoders may differ by this much in a sample, but not in only one sample of one pixel.
const CHANGE: u8 = 3;

fn png(image: &DynamicImage) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Png).expect("a PNG");
    file.into_inner()
}

/// The image with one sample in its middle changed by `by`.
fn changed(sample: &Sample, by: u8) -> DynamicImage {
    let change = |byte: &mut u8| *byte = byte.checked_add(by).unwrap_or_else(|| *byte - by);
    let change_deep = |value: &mut u16| *value = value.checked_add(by.into()).unwrap_or_else(|| *value - u16::from(by));
    let mut image = sample.pixels();
    match &mut image {
        DynamicImage::ImageLuma8(pixels) => change(&mut pixels.get_pixel_mut(20, 15).0[0]),
        DynamicImage::ImageLumaA8(pixels) => change(&mut pixels.get_pixel_mut(20, 15).0[1]),
        DynamicImage::ImageRgb8(pixels) => change(&mut pixels.get_pixel_mut(20, 15).0[1]),
        DynamicImage::ImageRgba8(pixels) => change(&mut pixels.get_pixel_mut(20, 15).0[3]),
        DynamicImage::ImageLuma16(pixels) => change_deep(&mut pixels.get_pixel_mut(20, 15).0[0]),
        DynamicImage::ImageRgb16(pixels) => change_deep(&mut pixels.get_pixel_mut(20, 15).0[2]),
        DynamicImage::ImageRgba16(pixels) => change_deep(&mut pixels.get_pixel_mut(20, 15).0[3]),
        other => panic!("{:?} is no kind of these samples", other.color()),
    }
    image
}

#[test]
fn every_kind_of_image_is_known_again_unless_one_sample_is_changed() {
    let mut decoder = Decoder::start();
    for sample in samples(2 * KINDS) {
        let expected = decoder.expected(&sample.file).expect("an image of our own");
        let mut stored = |image: &DynamicImage| decoder.stored(&png(image)).expect("a PNG");
        assert_eq!(stored(&sample.pixels()), expected, "{} unchanged", sample.name);
        assert_ne!(stored(&changed(&sample, CHANGE)), expected, "{} changed by {CHANGE}", sample.name);
        if !sample.name.ends_with(".jpg") {
            assert_ne!(stored(&changed(&sample, 1)), expected, "{} changed by 1", sample.name);
        }
    }
}

/// The `image` crate and Pillow differ by 3 in some samples of tile-0121 and tile-0151.
#[test]
fn a_jpeg_is_known_again_from_another_decoder() {
    let mut decoder = Decoder::start();
    let jpegs: Vec<_> = (0..40).map(|number| sample(1 + number * KINDS)).collect();
    let expected: Vec<_> = jpegs.iter().map(|jpeg| decoder.expected(&jpeg.file).expect("an image")).collect();
    for (jpeg, expected) in jpegs.iter().zip(expected) {
        assert_eq!(decoder.stored(&png(&jpeg.pixels())), Ok(expected), "{}", jpeg.name);
        assert_ne!(decoder.stored(&png(&changed(jpeg, CHANGE))), Ok(expected), "{}", jpeg.name);
    }
}

/// An RGB PNG and a JPEG are published. Both are stored with one sample of one pixel changed by 3.
#[test]
fn the_account_names_an_object_with_one_changed_pixel() {
    let mut decoder = Decoder::start();
    let mut account = |change: u8| {
        let mut history = History::default();
        for image in [sample(0), sample(1)] {
            let pixels = decoder.expected(&image.file).expect("an image of our own");
            let id = history.publish(Entry::good("q", "b", "", &image.name, pixels));
            history.steps(id, &image.name, &[Step::Deliver, Step::Put, Step::Acknowledge]);
            let file = png(&changed(&image, change));
            history.store(id, &image.name);
            history.found.stored.last_mut().unwrap().pixels = decoder.stored(&file);
        }
        history.account()
    };
    assert_eq!(account(0).faults(), [""; 0]);
    assert_eq!(account(CHANGE).wrong_pixels, ["b/tile-0000.png", "b/tile-0001.jpg"]);
}

#[test]
fn a_file_that_is_no_whole_png_has_no_pixels() {
    let mut decoder = Decoder::start();
    let whole = sample(0).file;
    decoder.stored(&whole).expect("a PNG");
    let mut stored = |file: &[u8]| decoder.stored(file).expect_err("no PNG");
    let mut changed = whole.clone();
    changed[60] ^= 1;
    assert!(stored(&changed).contains("checksum of b'IDAT'"));
    assert!(stored(&[&whole[..], b"\n"].concat()).contains("after the end"));
    stored(&whole[..whole.len() - 13]);
    stored(b"a line of text");
    assert!(stored(&sample(1).file).contains("no PNG"), "a JPEG");
    stored(b"");
    decoder.stored(&whole).expect("the decoder still works");
}

/// `cargo test --test accounting -- --ignored --nocapture rate`
#[test]
#[ignore = "prints a figure"]
fn rate() {
    let mut decoder = Decoder::start();
    let mut files: Vec<_> = samples(2000).iter().map(|sample| png(&sample.pixels())).collect();
    files.dedup();
    let start = Instant::now();
    let digests: Vec<Digest> = files.iter().map(|file| decoder.stored(file).expect("a PNG")).collect();
    let seconds = start.elapsed().as_secs_f64();
    println!("{} small PNGs a second", digests.len() as f64 / seconds);
}
