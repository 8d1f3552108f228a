//! Converts an image file to a PNG with the same pixels. Pure and CPU-bound: run it on a blocking thread. `inspect`
//! checks the header before any pixel is allocated. The same file and settings always give the same PNG.
//!
//! - PNG: color type, bit depth, palette and tRNS are kept; interlacing is undone.
//! - Other formats: 8 and 16 bits, gray and alpha are kept; BMP palettes and samples under 8 bits become 8 bits.
//! - Pixel formats that PNG lacks are converted: CMYK to RGB; 32-bit floats from 0.0 to 1.0 to 16-bit integers over
//!   the full range. Floats outside 0.0 to 1.0 are refused.
//! - Animation: the first frame is converted.
//! - Damaged data is refused wherever the format makes the damage detectable, including JPEGs that lenient decoders
//!   fill with gray. JPEG-compressed TIFFs are not supported.
//! - An ICC profile of at most 1 MiB that matches the colors is kept. Other metadata (EXIF, text, gamma) is dropped.
//!   An EXIF orientation is not applied: pixels keep the order they have in the file.

use std::io::Cursor;

use bytes::Bytes;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use png_recode::{Color, Encoding, Layout, Picture};

pub use self::digest::PixelDigest;
use crate::api::image::{ImageSettings, PngEncoding, Reencode};
use crate::reason::Reason;

mod digest;
mod format;
mod jpeg;
mod tiff;
mod webp;

/// Memory for a decoder's own tables, in addition to the pixels.
const DECODER_BYTES: u64 = 16 << 20;

/// The header of an image file, checked. Only `inspect` constructs it.
#[derive(Debug)]
pub struct Header {
    format: Format,
    bytes_needed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Png(png_recode::Header),
    Jpeg(jpeg::JpegHeader),
    Tiff(tiff::TiffHeader),
    WebP,
    Bmp,
}

/// A PNG file and the digest of its pixels. Only `encode` makes one, in this process or in a decoder process.
#[derive(Clone, Debug)]
pub struct Png {
    bytes: Bytes,
    digest: PixelDigest,
}

impl Png {
    /// A PNG that `encode` made in a decoder process.
    pub(in crate::consumer) fn of_process(bytes: Bytes, digest: PixelDigest) -> Self {
        Self { bytes, digest }
    }

    /// The PNG file. Cloning it does not copy the bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The digest of the pixels. It does not depend on the compression.
    pub fn digest(&self) -> &PixelDigest {
        &self.digest
    }
}

/// Why an image can't become a PNG. The texts contain no bytes of the image.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the image is {0}; supported are PNG, JPEG, TIFF, WebP and BMP, recognized by content, not by name")]
    UnknownFormat(String),
    #[error(
        "the image has {width} × {height} pixels, more than {limit}; raise spec.image.maxPixels, or publish smaller \
         images"
    )]
    TooManyPixels {
        width: u32,
        height: u32,
        /// `maxPixels`.
        limit: u32,
    },
    /// Decoding needs more memory than the pod has for images. Waiting for other images would not help.
    #[error(
        "decoding the image may need {needed} bytes, and the memory limit leaves {limit} for images; raise \
         consumer.resources.limits.memory, or publish smaller images"
    )]
    TooMuchMemory {
        /// Bytes that decoding may need.
        needed: u64,
        /// Bytes that the pod has for images.
        limit: u64,
    },
    #[error("decoding the image needs more memory than its size justifies")]
    OverLimits,
    #[error("the image can't be decoded: {0}")]
    InvalidImage(String),
    /// The file is valid as far as it was read, but of a kind that is not supported.
    #[error("the image can't be converted: {0}")]
    UnsupportedImage(String),
}

impl EncodeError {
    pub fn reason(&self) -> Reason {
        match self {
            EncodeError::UnknownFormat(_) => Reason::UnknownFormat,
            EncodeError::TooManyPixels { .. } | EncodeError::TooMuchMemory { .. } | EncodeError::OverLimits => {
                Reason::ImageTooLarge
            }
            EncodeError::InvalidImage(_) => Reason::InvalidImage,
            EncodeError::UnsupportedImage(_) => Reason::UnsupportedImage,
        }
    }
}

impl Header {
    /// Peak memory in bytes for decoding and encoding, not counting the file itself: the pixels three times (decoded;
    /// in the decoder's buffers or compressed; as a PNG). Formats other than PNG with more than 8 bits count them
    /// once more, as does WebP, which may be a frame of an animation. The file's length is added once: a PNG with
    /// many IDAT chunks is joined, and a JPEG is copied.
    pub fn bytes_needed(&self) -> u64 {
        self.bytes_needed
    }
}

/// Checks an image file's format and header. Allocates no pixels.
///
/// # Errors
/// The format is unknown or unsupported, the header is damaged, or the image has more than `max_pixels` pixels.
pub fn inspect(image: &[u8], max_pixels: u32) -> Result<Header, EncodeError> {
    let (format, values) = match image::guess_format(image) {
        Ok(ImageFormat::Png) => return inspect_png(image, max_pixels),
        Ok(ImageFormat::Jpeg) => return inspect_jpeg(image, max_pixels),
        Ok(ImageFormat::Tiff) => {
            let tiff = tiff::header(image)?;
            (Format::Tiff(tiff), tiff.value_bytes)
        }
        Ok(ImageFormat::WebP) => (Format::WebP, 0),
        Ok(ImageFormat::Bmp) => (Format::Bmp, 0),
        _ => return Err(format::refusal(image)),
    };
    let decoder = decoder(image, format, DECODER_BYTES)?;
    let (width, height) = decoder.dimensions();
    check_pixels(width, height, max_pixels)?;
    if matches!(format, Format::WebP) {
        webp::check(image, width, height)?;
    }
    let color = decoder.color_type();
    let is_simple = color.bytes_per_pixel() == color.channel_count() && !matches!(format, Format::WebP);
    let pixels = (decoder.total_bytes() + u64::from(height)) * if is_simple { 3 } else { 4 };
    Ok(Header { format, bytes_needed: pixels + image.len() as u64 + values })
}

fn inspect_png(image: &[u8], max_pixels: u32) -> Result<Header, EncodeError> {
    let header = png_recode::header(image)?;
    let layout = header.layout;
    check_pixels(layout.width, layout.height, max_pixels)?;
    let bytes_needed = ((layout.bytes() + layout.height as usize) * 3 + image.len()) as u64;
    Ok(Header { format: Format::Png(header), bytes_needed })
}

fn inspect_jpeg(image: &[u8], max_pixels: u32) -> Result<Header, EncodeError> {
    let header = jpeg::header(image)?;
    let Layout { width, height, .. } = header.layout;
    check_pixels(width, height, max_pixels)?;
    let encoding = (header.layout.bytes() as u64 + u64::from(height)) * 3;
    Ok(Header { format: Format::Jpeg(header), bytes_needed: encoding.max(header.decoding) })
}

fn check_pixels(width: u32, height: u32, limit: u32) -> Result<(), EncodeError> {
    if u64::from(width) * u64::from(height) > u64::from(limit) {
        return Err(EncodeError::TooManyPixels { width, height, limit });
    }
    Ok(())
}

/// Decodes an image file and encodes it as a PNG. May panic: third-party decoders panic on some hostile files, so the
/// caller must catch panics.
///
/// # Errors
/// The file is damaged, or of a kind that only shows while its pixels are decoded, such as floats beyond 0 to 1.
pub fn encode(image: Bytes, header: &Header, settings: &ImageSettings) -> Result<Png, EncodeError> {
    let picture = match header.format {
        Format::Png(png) => {
            let found = png_recode::read(&image, png)?;
            if settings.reencode == Reencode::WhenNotPng {
                if found.followed {
                    return Err(EncodeError::InvalidImage("data follows its IEND chunk".to_owned()));
                }
                return Ok(Png { digest: PixelDigest::of(&found.picture), bytes: image });
            }
            found.picture
        }
        Format::Jpeg(jpeg) => jpeg::read(&image, jpeg)?,
        format => decode(&image, format, header.bytes_needed)?,
    };
    let digest = PixelDigest::of(&picture);
    let bytes = png_recode::write(picture, encoding(settings.encoding))?;
    Ok(Png { bytes: bytes.into(), digest })
}

fn encoding(encoding: PngEncoding) -> Encoding {
    match encoding {
        PngEncoding::Fast => Encoding::Fast,
        PngEncoding::Balanced => Encoding::Balanced,
        PngEncoding::Smallest => Encoding::Smallest,
    }
}

/// Decodes a TIFF, a WebP or a BMP.
fn decode(image: &[u8], format: Format, bytes_needed: u64) -> Result<Picture, EncodeError> {
    let mut decoder = decoder(image, format, bytes_needed + DECODER_BYTES)?;
    let (width, height) = decoder.dimensions();
    let (color, depth, float) = match decoder.color_type() {
        ColorType::L8 => (Color::Grey, 8, false),
        ColorType::La8 => (Color::GreyAlpha, 8, false),
        ColorType::Rgb8 => (Color::Rgb, 8, false),
        ColorType::Rgba8 => (Color::Rgba, 8, false),
        ColorType::L16 => (Color::Grey, 16, false),
        ColorType::La16 => (Color::GreyAlpha, 16, false),
        ColorType::Rgb16 => (Color::Rgb, 16, false),
        ColorType::Rgba16 => (Color::Rgba, 16, false),
        ColorType::Rgb32F => (Color::Rgb, 16, true),
        ColorType::Rgba32F => (Color::Rgba, 16, true),
        other => return Err(EncodeError::UnsupportedImage(format!("its pixels are {other:?}, which PNG lacks"))),
    };
    let profile = match format {
        Format::Tiff(_) => tiff::profile(image).map(<[u8]>::to_vec),
        _ => decoder.icc_profile().ok().flatten(),
    };
    let profile = profile.filter(|profile| png_recode::fits(profile, color));
    let length = usize::try_from(decoder.total_bytes()).map_err(|_| EncodeError::OverLimits)?;
    let mut pixels = Vec::with_capacity(length + height as usize);
    pixels.resize(length, 0);
    decoder.read_image(&mut pixels).map_err(|error| match format {
        Format::Tiff(tiff) if tiff.has_odd_lzw_tiles => EncodeError::UnsupportedImage(format!(
            "it is damaged, or a TIFF with LZW tiles that extend beyond the picture, some of which can't be decoded \
             ({error}); publish it with Deflate, or in strips"
        )),
        _ => undecodable(&error),
    })?;
    if float {
        pixels = sixteen_bits(&pixels)?;
    } else if depth == 16 {
        for sample in pixels.as_chunks_mut().0 {
            *sample = u16::from_ne_bytes(*sample).to_be_bytes();
        }
    }
    let layout = Layout { width, height, color, depth };
    Ok(Picture { layout, palette: None, transparency: None, profile, pixels })
}

/// Scales floats from 0 to 1 to 16 bits. Other ranges are refused: reflectances, heights or values up to 255 would
/// need a white level, which the file does not contain.
fn sixteen_bits(floats: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let samples = || floats.as_chunks().0.iter().map(|sample| f32::from_ne_bytes(*sample));
    if !samples().all(|sample| (0.0..=1.0).contains(&sample)) {
        let (least, most) = samples()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), sample| (least.min(sample), most.max(sample)));
        let found = if samples().any(f32::is_nan) {
            "NaN among its floats".to_owned()
        } else {
            format!("floats from {least} to {most}")
        };
        return Err(EncodeError::UnsupportedImage(format!(
            "it is a TIFF with {found}; only floats from 0 to 1 are supported; publish it with 8-bit or 16-bit integers"
        )));
    }
    Ok(samples().flat_map(|sample| ((sample * 65535.0).round() as u16).to_be_bytes()).collect())
}

/// A decoder that may allocate at most `bytes`.
fn decoder(image: &[u8], format: Format, bytes: u64) -> Result<impl ImageDecoder, EncodeError> {
    let format = match format {
        Format::Png(_) => ImageFormat::Png,
        Format::Jpeg(_) => ImageFormat::Jpeg,
        Format::Tiff(_) => ImageFormat::Tiff,
        Format::WebP => ImageFormat::WebP,
        Format::Bmp => ImageFormat::Bmp,
    };
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes);
    let mut reader = ImageReader::with_format(Cursor::new(image), format);
    reader.limits(limits);
    reader.into_decoder().map_err(|error| undecodable(&error))
}

fn undecodable(error: &ImageError) -> EncodeError {
    match error {
        ImageError::Limits(_) => EncodeError::OverLimits,
        ImageError::Unsupported(error) => EncodeError::UnsupportedImage(error.to_string()),
        _ => EncodeError::InvalidImage(error.to_string()),
    }
}

impl From<png_recode::Error> for EncodeError {
    fn from(error: png_recode::Error) -> Self {
        EncodeError::InvalidImage(error.to_string())
    }
}

impl From<&'static str> for EncodeError {
    fn from(text: &'static str) -> Self {
        EncodeError::InvalidImage(text.to_owned())
    }
}

#[cfg(test)]
mod tests;
