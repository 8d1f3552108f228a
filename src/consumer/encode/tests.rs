//! The PNGs that `encode` makes, read back with the `png` and `image` crates instead of our own reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Cursor;

use image::{ColorType, GrayAlphaImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;
use crate::api::image::PngEncoding;

const MAX: u32 = 50_000_000;
const ENCODINGS: [PngEncoding; 3] = [PngEncoding::Fast, PngEncoding::Balanced, PngEncoding::Smallest];

fn encoded(image: &[u8], encoding: PngEncoding, reencode: Reencode) -> Result<Png, EncodeError> {
    let settings = ImageSettings { encoding, reencode, ..ImageSettings::default() };
    encode(Bytes::copy_from_slice(image), &inspect(image, MAX)?, &settings)
}

fn file(pixels: &image::DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    pixels.write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn converted(image: &[u8]) -> Result<image::DynamicImage, EncodeError> {
    let png = encoded(image, PngEncoding::Fast, Reencode::Always)?;
    Ok(image::load_from_memory_with_format(png.bytes(), ImageFormat::Png).expect("a PNG"))
}

fn rgb() -> image::DynamicImage {
    RgbImage::from_fn(37, 23, |x, y| Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8])).into()
}

#[test]
fn keeps_every_pixel_of_lossless_files() {
    let rgba: image::DynamicImage = RgbaImage::from_fn(9, 5, |x, y| Rgba([x as u8, y as u8, 7, (x * 28) as u8])).into();
    let grey: image::DynamicImage = GrayImage::from_fn(9, 5, |x, y| Luma([(x * y) as u8])).into();
    let grey_alpha: image::DynamicImage = GrayAlphaImage::from_pixel(9, 5, image::LumaA([3, 200])).into();
    let deep = ImageBuffer::<Rgb<u16>, _>::from_fn(9, 5, |x, y| Rgb([x as u16 * 7001, y as u16 * 257, 65535]));
    let deep_grey = ImageBuffer::<Luma<u16>, _>::from_fn(9, 5, |x, y| Luma([(x * y) as u16 * 1403]));
    for (pixels, formats) in [
        (rgb(), &[ImageFormat::Png, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Bmp][..]),
        (rgba, &[ImageFormat::Png, ImageFormat::Tiff, ImageFormat::WebP]),
        (grey, &[ImageFormat::Png, ImageFormat::Tiff]),
        (grey_alpha, &[ImageFormat::Png]),
        (deep.into(), &[ImageFormat::Png, ImageFormat::Tiff]),
        (deep_grey.into(), &[ImageFormat::Png, ImageFormat::Tiff]),
    ] {
        for format in formats {
            let stored = converted(&file(&pixels, *format)).expect("valid");
            assert_eq!(stored.color(), pixels.color(), "{format:?}");
            assert_eq!(stored.as_bytes(), pixels.as_bytes(), "{format:?} {:?}", pixels.color());
        }
    }
}

#[test]
fn gives_a_jpeg_the_pixels_that_its_decoder_sees() {
    for pixels in [rgb(), rgb().into_luma8().into()] {
        let jpeg = file(&pixels, ImageFormat::Jpeg);
        let stored = converted(&jpeg).expect("valid");
        assert_eq!(stored.color(), pixels.color());
        assert_eq!(stored.as_bytes(), image::load_from_memory(&jpeg).unwrap().as_bytes());
    }
}

#[test]
fn brings_floats_to_sixteen_bits() {
    let pixels = image::Rgb32FImage::from_fn(3, 1, |x, _| Rgb([x as f32 / 2.0, 0.0, 1.0]));
    let stored = converted(&file(&pixels.into(), ImageFormat::Tiff)).expect("valid");
    assert_eq!(stored.color(), ColorType::Rgb16);
    let stored = stored.into_rgb16();
    assert_eq!(stored.get_pixel(0, 0).0, [0, 0, 65535]);
    assert_eq!(stored.get_pixel(1, 0).0[0], 32768);
    assert_eq!(stored.get_pixel(2, 0).0[0], 65535);
}

#[test]
fn gives_the_same_bytes_every_time() {
    let image = file(&rgb(), ImageFormat::Bmp);
    for encoding in ENCODINGS {
        let once = encoded(&image, encoding, Reencode::Always).unwrap();
        assert_eq!(once.bytes(), encoded(&image, encoding, Reencode::Always).unwrap().bytes());
    }
}

/// The decoders and compressors have other code for each processor. The digest changes only with the pixels or with a
/// compressor, whose new version writes other files for the same pixels.
#[test]
fn every_processor_stores_the_same_bytes() {
    let seeds = std::fs::read_dir(support::repository().join("fuzz/seeds/image")).unwrap();
    let mut seeds: Vec<_> = seeds.map(|seed| seed.unwrap().path()).collect();
    seeds.sort();
    let files = seeds.iter().map(|seed| std::fs::read(seed).unwrap());
    // Not the samples of 16-bit gray, which the conversion by `image` makes different files on each processor.
    let samples = (0..30).filter(|number| !matches!(number % 15, 11 | 12));
    let samples = samples.map(|number| support::images::sample(number).file);
    let (mut stored, mut digest) = (0, blake3::Hasher::new());
    for file in files.chain(samples) {
        for encoding in ENCODINGS {
            let Ok(png) = encoded(&file, encoding, Reencode::Always) else { continue };
            digest.update(png.bytes());
            stored += 1;
        }
    }
    let expected = (177, "0c08155ed0097321e2a27f209313723af74b3e64ff67ace57ecb6d6a2df71368");
    assert_eq!((stored, digest.finalize().to_string().as_str()), expected);
}

#[test]
fn refuses_what_is_not_an_image_that_it_reads() {
    for (image, found) in [
        (&b""[..], "the image is empty (0 bytes)"),
        (b"hello", "of an unknown format"),
        (b"<svg/>", "of an unknown format"),
        (b"II*", "of an unknown format"),
        (b"\x00\x53\x77\xb0\0\0\0\x07\x89PNG", "the image is a section of an AMQP 1.0 message (such as amqp-value)"),
        (b"{\"image\": \"\"}", "the image is JSON"),
        (b"iVBORw0KGgoAAAANSUhEUgAAAAE", "still base64 after decoding"),
        (b"/9j/4AAQSkZJRgABAQ", "still base64 after decoding"),
    ] {
        let error = inspect(image, MAX).expect_err("refused");
        assert_eq!(error.reason(), Reason::UnknownFormat, "{image:?}");
        assert!(error.to_string().contains(found), "{error}");
    }
}

#[test]
fn other_formats_are_named() {
    for (image, found) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0"[..], "it is a HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "it is a HEIF"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "it is an AVIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "it is a video (MP4)"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "it is a JPEG XL"),
        (b"\xff\x0a\0\0", "it is a JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "it is a JPEG 2000"),
        (b"\xff\x4f\xff\x51\0", "it is a JPEG 2000"),
        (b"%PDF-1.7", "it is a PDF"),
        (b"PF\n1 1\n-1.0\n", "it is a PFM"),
        (b"\x1f\x8b\x08", "it is compressed with gzip"),
    ] {
        let error = inspect(image, MAX).expect_err("refused");
        assert_eq!(error.reason(), Reason::UnsupportedImage, "{error}");
        assert!(error.to_string().contains(found), "{error}");
    }
}

#[test]
fn refuses_files_that_are_cut_off() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Bmp] {
        let image = file(&rgb(), format);
        for keep in [image.len() / 4, image.len() / 2, image.len() * 9 / 10] {
            let error = converted(&image[..keep]).expect_err("refused");
            assert_eq!(error.reason(), Reason::InvalidImage, "{format:?} cut to {keep}: {error}");
        }
    }
}

/// A JPEG with its end marker, and with bits in its data that are no valid code in any table.
#[test]
fn refuses_a_jpeg_with_damage_in_its_data() {
    let noise =
        image::RgbImage::from_fn(64, 64, |x, y| Rgb([(x * 7) ^ (y * 13), x * 31, y * 17].map(|value| value as u8)));
    let mut image = file(&noise.into(), ImageFormat::Jpeg);
    converted(&image).expect("whole");
    let middle = image.len() * 3 / 4;
    image[middle..middle + 16].copy_from_slice(&[[0xff, 0x00]; 8].concat());
    let error = converted(&image).expect_err("refused");
    assert_eq!(error.reason(), Reason::InvalidImage);
    assert!(error.to_string().contains("the JPEG is damaged"), "{error}");
    assert!(image::load_from_memory(&image).is_ok(), "the `image` crate tolerates the damage");
}

#[test]
fn reads_a_tiff_of_tiles_and_one_of_jpeg() {
    let tiled = include_bytes!("../../../fuzz/seeds/image/tiled.tiff");
    assert_eq!(converted(tiled).expect("valid").as_bytes(), image::load_from_memory(tiled).unwrap().as_bytes());
    converted(include_bytes!("../../../fuzz/seeds/image/jpeg.tiff")).expect("valid");
}

/// A PNG whose header claims another size than its data has.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut file = file(&rgb(), ImageFormat::Png);
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc(&file[12..29]);
    file[29..33].copy_from_slice(&checksum.to_be_bytes());
    file
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1))))
}

#[test]
fn judges_the_size_by_the_header() {
    let header = inspect(&png_of(10_000, 5_000), MAX).expect("at the limit");
    assert!((450_000_000..451_000_000).contains(&header.bytes_needed()), "{header:?}");
    assert!(inspect(&png_of(8, 8), 63).is_err());
    assert!(inspect(&png_of(10_000, 5_001), MAX).expect_err("refused").to_string().contains("10000 × 5001"));
    for (width, height) in [(10_000, 5_001), (65_535, 65_535), (0x7fff_ffff, 0x7fff_ffff)] {
        let error = inspect(&png_of(width, height), MAX).expect_err("refused");
        assert_eq!(error.reason(), Reason::ImageTooLarge, "{error}");
    }
    assert_eq!(converted(&png_of(10_000, 5_000)).expect_err("too few pixels").reason(), Reason::InvalidImage);
}

#[test]
fn promises_room_for_what_decoders_copy() {
    let pixels = 37 * 23 * 3 + 23;
    for (format, copies) in [(ImageFormat::Bmp, 3), (ImageFormat::WebP, 4)] {
        let image = file(&rgb(), format);
        let needed = inspect(&image, MAX).unwrap().bytes_needed();
        assert_eq!(needed, pixels * copies + image.len() as u64, "{format:?}");
    }
}

proptest! {
    #[test]
    fn a_damaged_file_is_refused_or_keeps_its_size(at in 0usize..4000, value: u8, which in 0usize..5) {
        let format =
            [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Bmp][which];
        let mut image = file(&rgb(), format);
        let at = at % image.len();
        image[at] = value;
        if let Ok(header) = inspect(&image, MAX) {
            prop_assert!(header.bytes_needed() <= u64::from(MAX) * 20 * 4);
            // The caller of `encode` catches panics. Without a panic the result must be a PNG or a refusal.
            let result = std::panic::catch_unwind(|| encode(image.clone().into(), &header, &ImageSettings::default()));
            if let Ok(Ok(png)) = result {
                prop_assert!(image::load_from_memory_with_format(png.bytes(), ImageFormat::Png).is_ok());
            }
        }
    }
}

#[test]
fn whatever_the_encoding_the_pixels_and_their_digest_are_the_same() {
    let grey_alpha: image::DynamicImage = GrayAlphaImage::from_pixel(9, 5, image::LumaA([3, 200])).into();
    let deep = ImageBuffer::<Luma<u16>, _>::from_fn(9, 5, |x, y| Luma([(x * y) as u16 * 1403]));
    for pixels in [rgb(), grey_alpha, deep.into()] {
        let image = file(&pixels, ImageFormat::Png);
        let kept = encoded(&image, PngEncoding::Fast, Reencode::WhenNotPng).unwrap();
        assert_eq!(kept.bytes()[..], image[..]);
        for encoding in ENCODINGS {
            let png = encoded(&image, encoding, Reencode::Always).unwrap();
            let stored = image::load_from_memory_with_format(png.bytes(), ImageFormat::Png).unwrap();
            assert_eq!((stored.color(), stored.as_bytes()), (pixels.color(), pixels.as_bytes()), "{encoding:?}");
            assert_eq!(png.digest(), kept.digest(), "{encoding:?}");
        }
    }
}

#[test]
fn the_same_pixels_have_the_same_digest() {
    let digest = |file: &[u8]| *encoded(file, PngEncoding::Fast, Reencode::Always).unwrap().digest();
    let deep: image::DynamicImage =
        ImageBuffer::<Rgb<u16>, _>::from_fn(9, 5, |x, y| Rgb([x as u16 * 7001, y as u16 * 257, 65535])).into();
    let once = digest(&file(&rgb(), ImageFormat::Png));
    for format in [ImageFormat::Tiff, ImageFormat::Bmp, ImageFormat::WebP] {
        assert_eq!(digest(&file(&rgb(), format)), once, "{format:?}");
    }
    assert_eq!(digest(&file(&deep, ImageFormat::Png)), digest(&file(&deep, ImageFormat::Tiff)));
    let mut other = rgb().into_rgb8();
    other.get_pixel_mut(36, 22).0[2] ^= 1;
    assert_ne!(digest(&file(&other.into(), ImageFormat::Png)), once);
    let flat = |width, height| file(&GrayImage::new(width, height).into(), ImageFormat::Png);
    assert_ne!(digest(&flat(6, 4)), digest(&flat(4, 6)));
    assert_eq!(once.to_string().len(), 64);
    assert_eq!(PixelDigest::from([0xab; 32]).to_string(), "ab".repeat(32));
}

#[test]
fn a_png_stored_as_it_came_is_the_very_same_memory() {
    let image = Bytes::from(file(&rgb(), ImageFormat::Png));
    let settings = ImageSettings { reencode: Reencode::WhenNotPng, ..ImageSettings::default() };
    let stored = encode(image.clone(), &inspect(&image, MAX).unwrap(), &settings).unwrap();
    assert_eq!((stored.bytes().as_ptr(), stored.bytes().len()), (image.as_ptr(), image.len()));
    let jpeg = file(&rgb(), ImageFormat::Jpeg);
    assert_eq!(&encoded(&jpeg, PngEncoding::Fast, Reencode::WhenNotPng).unwrap().bytes()[..4], b"\x89PNG");
}

#[test]
fn no_bit_of_a_png_may_be_wrong() {
    let image = file(&rgb(), ImageFormat::Png);
    for reencode in [Reencode::Always, Reencode::WhenNotPng] {
        for bit in 0..image.len() * 8 {
            let mut damaged = image.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(encoded(&damaged, PngEncoding::Fast, reencode).is_err(), "bit {bit} of {}", image.len() * 8);
        }
        for length in 0..image.len() {
            assert!(encoded(&image[..length], PngEncoding::Fast, reencode).is_err(), "cut to {length}");
        }
    }
}

/// A wrong checksum that no pixel depends on, and data behind the end.
#[test]
fn a_png_that_is_not_intact_is_encoded_again() {
    let image = file(&rgb(), ImageFormat::Png);
    let text = [0, 0, 0, 3, b't', b'E', b'X', b't', b'a', 0, b'b', 1, 2, 3, 4];
    for changed in [[&image[..], b"x"].concat(), [&image[..33], &text, &image[33..]].concat()] {
        let always = encoded(&changed, PngEncoding::Fast, Reencode::Always).unwrap();
        let kept = encoded(&changed, PngEncoding::Fast, Reencode::WhenNotPng).unwrap();
        assert_eq!(kept.bytes(), always.bytes());
        assert_eq!(always.bytes(), encoded(&image, PngEncoding::Fast, Reencode::Always).unwrap().bytes());
    }
}

#[test]
fn a_profile_is_kept_if_it_fits() {
    let mut profile = vec![7; 200];
    profile[..4].copy_from_slice(&200u32.to_be_bytes());
    profile[16..20].copy_from_slice(b"RGB ");
    profile[36..40].copy_from_slice(b"acsp");
    let mut jpeg = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new(&mut jpeg);
    image::ImageEncoder::set_icc_profile(&mut encoder, profile.clone()).unwrap();
    encoder.encode_image(&rgb()).unwrap();
    let png = encoded(&jpeg, PngEncoding::Fast, Reencode::Always).unwrap();
    let again = encoded(png.bytes(), PngEncoding::Smallest, Reencode::Always).unwrap();
    for png in [&png, &again] {
        let reader = png::Decoder::new(Cursor::new(png.bytes())).read_info().unwrap();
        assert_eq!(reader.info().icc_profile.as_deref(), Some(&profile[..]));
    }
    assert_eq!(png.digest(), again.digest());
    assert_ne!(
        png.digest(),
        encoded(&file(&image::load_from_memory(&jpeg).unwrap(), ImageFormat::Bmp), PngEncoding::Fast, Reencode::Always)
            .unwrap()
            .digest()
    );
}
