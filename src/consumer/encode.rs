//! Second step: an image file becomes a PNG with the same pixels. Pure, and heavy: it belongs on a
//! thread that may be kept busy. It must never allocate pixels before the header was judged, and
//! the same file must always give the same PNG.
//!
//! Bit depth (8 or 16), grey and alpha stay as they are. What PNG can't hold is converted: CMYK to
//! RGB by the decoder; 32-bit floats to 16-bit integers, 0.0–1.0 over the full range, clamped.
//! Palettes and depths under 8 bits are expanded to 8. Of an animation, the first frame is taken.
//! Metadata (EXIF, ICC, text) is not carried over, and an EXIF orientation is not applied.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader, Limits,
};

use crate::reason::Reason;

/// The most pixels (width × height) an image may have.
pub const MAX_PIXELS: u64 = 50_000_000;

/// Room for a decoder's own tables, beside the pixels.
const DECODER_BYTES: u64 = 16 << 20;

/// What an image file says of itself, found acceptable. Only `inspect` makes one.
#[derive(Debug)]
pub struct Header {
    format: ImageFormat,
    bytes_needed: u64,
}

/// A PNG file. Only `encode` makes one.
#[derive(Clone)]
pub struct Png(Bytes);

impl Png {
    /// The file. A clone of it shares the memory.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// An image that can't become a PNG. The texts repeat nothing of the image.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The content is of no format that is read.
    #[error("the image is {0}; PNG, JPEG, TIFF, WebP and BMP are read, whatever the name says")]
    UnknownFormat(String),
    /// More pixels than are taken.
    #[error("the image has {width} × {height} pixels and at most {MAX_PIXELS} are taken; publish it in parts")]
    TooManyPixels {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// More memory than the process has in all.
    #[error(
        "decoding the image may take {needed} bytes and the memory limit is {limit}; raise the memory limit in \
         consumer.resources, or publish it in parts"
    )]
    TooMuchMemory {
        /// Bytes that may be needed.
        needed: u64,
        /// Bytes that there are.
        limit: u64,
    },
    /// The file asks for more memory than its pixels justify.
    #[error("the image asks its decoder for more memory than its size justifies")]
    OverLimits,
    /// The file is damaged, or uses something of its format that is not read.
    #[error("the image can't be decoded: {0}")]
    InvalidImage(String),
}

impl EncodeError {
    /// The bounded reason.
    pub fn reason(&self) -> Reason {
        match self {
            EncodeError::UnknownFormat(_) => Reason::UnknownFormat,
            EncodeError::TooManyPixels { .. } | EncodeError::TooMuchMemory { .. } | EncodeError::OverLimits => {
                Reason::ImageTooLarge
            }
            EncodeError::InvalidImage(_) => Reason::InvalidImage,
        }
    }
}

impl Header {
    /// Bytes that decoding and encoding may take at their peak, measured: the pixels three times
    /// (decoded, in buffers of the decoder, and as a growing PNG), and once more where their bytes
    /// have to be swapped, which PNG asks for above 8 bits.
    pub fn bytes_needed(&self) -> u64 {
        self.bytes_needed
    }
}

/// Judges an image file by its first bytes and its header; no pixel is allocated.
///
/// # Errors
/// The format is unknown, the header damaged, or the image has too many pixels.
pub fn inspect(image: &[u8]) -> Result<Header, EncodeError> {
    let format = match image::guess_format(image) {
        Ok(
            format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Tiff | ImageFormat::WebP | ImageFormat::Bmp),
        ) => format,
        Ok(other) => return Err(EncodeError::UnknownFormat(format!("of format {}", other.to_mime_type()))),
        Err(_) => return Err(EncodeError::UnknownFormat("of no known format".to_owned())),
    };
    let mut reader = ImageReader::with_format(Cursor::new(image), format);
    reader.limits(limits(DECODER_BYTES));
    let decoder = reader.into_decoder().map_err(|error| undecodable(&error))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(EncodeError::TooManyPixels { width, height });
    }
    if format == ImageFormat::Jpeg && !ends(image) {
        return Err(EncodeError::InvalidImage("the JPEG is cut off: its end marker is missing".to_owned()));
    }
    let color = decoder.color_type();
    let copies = if color.bytes_per_pixel() == color.channel_count() { 3 } else { 4 };
    Ok(Header { format, bytes_needed: decoder.total_bytes() * copies })
}

/// Decodes an image file and encodes it as PNG. May panic: decoders of hostile input do, and whoever
/// calls this catches it.
///
/// # Errors
/// The file is damaged.
pub fn encode(image: &[u8], header: &Header) -> Result<Png, EncodeError> {
    let mut reader = ImageReader::with_format(Cursor::new(image), header.format);
    reader.limits(limits(header.bytes_needed() + DECODER_BYTES));
    // Not `DynamicImage::from_decoder`: that one ignores the limits (image #3081).
    let pixels = representable(reader.decode().map_err(|error| undecodable(&error))?);
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Adaptive)
        .write_image(pixels.as_bytes(), pixels.width(), pixels.height(), ExtendedColorType::from(pixels.color()))
        .map_err(|error| undecodable(&error))?;
    png.shrink_to_fit();
    Ok(Png(png.into()))
}

/// Converts what PNG has no form for.
fn representable(pixels: DynamicImage) -> DynamicImage {
    match pixels {
        DynamicImage::ImageRgb32F(_) => pixels.into_rgb16().into(),
        DynamicImage::ImageRgba32F(_) => pixels.into_rgba16().into(),
        representable => representable,
    }
}

fn limits(bytes: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes);
    limits
}

/// Whether a JPEG has its end marker after its last start of scan. The decoder would fill what is
/// missing with grey and call it a success.
fn ends(jpeg: &[u8]) -> bool {
    let last = |marker: [u8; 2]| jpeg.windows(2).rposition(|bytes| bytes == marker);
    last([0xff, 0xd9]) > last([0xff, 0xda])
}

fn undecodable(error: &ImageError) -> EncodeError {
    match error {
        ImageError::Limits(_) => EncodeError::OverLimits,
        _ => EncodeError::InvalidImage(error.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use image::{ColorType, GrayAlphaImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
    use proptest::prelude::*;

    use super::*;

    fn file(pixels: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        pixels.write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    fn converted(image: &[u8]) -> Result<DynamicImage, EncodeError> {
        let png = encode(image, &inspect(image)?)?;
        Ok(image::load_from_memory_with_format(png.bytes(), ImageFormat::Png).expect("a PNG"))
    }

    fn rgb() -> DynamicImage {
        RgbImage::from_fn(37, 23, |x, y| Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8])).into()
    }

    #[test]
    fn keeps_every_pixel_of_lossless_files() {
        let rgba: DynamicImage = RgbaImage::from_fn(9, 5, |x, y| Rgba([x as u8, y as u8, 7, (x * 28) as u8])).into();
        let grey: DynamicImage = GrayImage::from_fn(9, 5, |x, y| Luma([(x * y) as u8])).into();
        let grey_alpha: DynamicImage = GrayAlphaImage::from_pixel(9, 5, image::LumaA([3, 200])).into();
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
        let pixels = image::Rgb32FImage::from_fn(3, 1, |x, _| Rgb([x as f32 / 2.0, -1.0, 2.0]));
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
        let once = encode(&image, &inspect(&image).unwrap()).unwrap();
        assert_eq!(once.bytes(), encode(&image, &inspect(&image).unwrap()).unwrap().bytes());
    }

    #[test]
    fn refuses_what_is_not_an_image_that_it_reads() {
        for image in [&b""[..], b"hello", b"GIF89a\x01\0\x01\0\0\0\0;", b"<svg/>", b"II*"] {
            assert_eq!(inspect(image).expect_err("refused").reason(), Reason::UnknownFormat, "{image:?}");
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

    /// A PNG of which only the header is there: deciding must not need more.
    fn png_of(width: u32, height: u32) -> Vec<u8> {
        let mut file = file(&rgb(), ImageFormat::Png);
        file[16..20].copy_from_slice(&width.to_be_bytes());
        file[20..24].copy_from_slice(&height.to_be_bytes());
        let checksum = crc(&file[12..29]);
        file[29..33].copy_from_slice(&checksum.to_be_bytes());
        file
    }

    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    }

    #[test]
    fn judges_the_size_by_the_header() {
        let header = inspect(&png_of(10_000, 5_000)).expect("at the limit");
        assert_eq!(header.bytes_needed(), 10_000 * 5_000 * 3 * 3);
        assert!(inspect(&png_of(10_000, 5_001)).expect_err("refused").to_string().contains("10000 × 5001"));
        for (width, height) in [(10_000, 5_001), (65_535, 65_535), (0x7fff_ffff, 0x7fff_ffff)] {
            let error = inspect(&png_of(width, height)).expect_err("refused");
            assert_eq!(error.reason(), Reason::ImageTooLarge, "{error}");
        }
        assert_eq!(converted(&png_of(10_000, 5_000)).expect_err("too few pixels").reason(), Reason::InvalidImage);
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_refused_or_keeps_its_size(at in 0usize..4000, value: u8, which in 0usize..5) {
            let format =
                [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Bmp][which];
            let mut image = file(&rgb(), format);
            let at = at % image.len();
            image[at] = value;
            if let Ok(header) = inspect(&image) {
                prop_assert!(header.bytes_needed() <= MAX_PIXELS * 16 * 4);
                // A panic is the driver's to catch; anything else must be a PNG or a refusal.
                let result = std::panic::catch_unwind(|| encode(&image, &header));
                if let Ok(Ok(png)) = result {
                    prop_assert!(image::load_from_memory_with_format(png.bytes(), ImageFormat::Png).is_ok());
                }
            }
        }
    }
}
