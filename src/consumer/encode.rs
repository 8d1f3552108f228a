//! Converts an image file to a PNG with the same pixels. Pure and CPU-bound: run it on a blocking thread. `inspect`
//! checks the header before any pixel is allocated. The same file and settings always give the same PNG.
//!
//! - PNG: color type, bit depth, palette and tRNS are kept; interlacing is undone.
//! - TIFF: gray of 1, 2, 4, 8 and 16 bits, color of 8 and 16 bits, alpha and 8-bit palettes are kept. Other bits
//!   become 8 or 16 bits by repeating their bits from the top: 12 bits become `v << 4 | v >> 8`, and `stored >> 4` is
//!   the sample again. The orientation (tag 274) is not applied.
//! - Other formats: 8 and 16 bits, gray and alpha are kept; BMP palettes and samples under 8 bits become 8 bits. GIF:
//!   the color table becomes the palette. PNM: samples are scaled to the full range of 1, 8 or 16 bits.
//! - Pixel formats that PNG lacks are converted: CMYK to RGB; palettes of 16 bits to RGB; premultiplied alpha to
//!   straight alpha, rounded; 32-bit floats from 0.0 to 1.0 to 16-bit integers over the full range. Floats outside 0.0
//!   to 1.0 are refused.
//! - Animation: the first frame is converted.
//! - Damaged data is refused wherever the format makes the damage detectable, including JPEGs that lenient decoders
//!   fill with gray.
//! - An ICC profile of at most 1 MiB that matches the colors is kept. Other metadata (EXIF, text, gamma) is dropped.
//!   An EXIF orientation is not applied: pixels keep the order they have in the file.

use bytes::Bytes;
use image::{ImageDecoder, ImageFormat};
use png_recode::{Encoding, Layout};

pub use self::digest::PixelDigest;
use crate::api::image::{ImageSettings, PngEncoding, Reencode};
use crate::reason::Reason;

mod bmp;
mod digest;
mod format;
mod gif;
mod image_crate;
mod jpeg;
mod pnm;
mod tiff;
mod webp;

/// Memory for a decoder's own tables, in addition to the pixels.
const DECODER_BYTES: u64 = 16 << 20;

/// The header of an image file, checked. Only `inspect` constructs it.
#[derive(Debug)]
pub struct Header {
    format: FileFormat,
    bytes_needed: u64,
}

#[derive(Clone, Copy, Debug)]
enum FileFormat {
    Png(png_recode::Header),
    Jpeg(jpeg::JpegHeader),
    Tiff(tiff::TiffHeader),
    Gif(Layout),
    Pnm(pnm::PnmHeader),
    /// WebP or BMP, which the `image` crate decodes.
    OfImageCrate(ImageFormat),
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
    #[error("the image is {0}; supported are PNG, JPEG, TIFF, WebP, BMP, GIF and PNM, recognized by content")]
    UnknownFormat(String),
    #[error("the image is empty (0 bytes): the publisher sent no file; check what it reads")]
    Empty,
    #[error(
        "the image has {width} × {height} pixels, more than {limit}; raise image.maxPixels, or publish smaller \
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
            EncodeError::UnknownFormat(_) | EncodeError::Empty => Reason::UnknownFormat,
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
    /// in the decoder's buffers or compressed; as a PNG). WebP counts them once more, because it may be a frame of an
    /// animation. A TIFF needs more if a strip or tile is larger than its pixels. The file's length is added once: a
    /// PNG with many IDAT chunks is joined, and a JPEG is copied.
    pub fn bytes_needed(&self) -> u64 {
        self.bytes_needed
    }
}

/// Checks an image file's format and header. Allocates no pixels.
///
/// # Errors
/// The format is unknown or unsupported, the header is damaged, or the image has more than `max_pixels` pixels.
pub fn inspect(image: &[u8], max_pixels: u32) -> Result<Header, EncodeError> {
    match image::guess_format(image) {
        _ if tiff::is_tiff(image) => inspect_tiff(image, max_pixels),
        Ok(ImageFormat::Png) => inspect_png(image, max_pixels),
        Ok(ImageFormat::Jpeg) => inspect_jpeg(image, max_pixels),
        Ok(ImageFormat::Gif) => {
            let layout = gif::layout(image)?;
            inspected(FileFormat::Gif(layout), layout, image, max_pixels)
        }
        Ok(ImageFormat::Pnm) => {
            let header = pnm::header(image)?;
            inspected(FileFormat::Pnm(header), header.layout, image, max_pixels)
        }
        Ok(format @ (ImageFormat::WebP | ImageFormat::Bmp)) => inspect_by_image_crate(image, format, max_pixels),
        _ => Err(format::refusal(image)),
    }
}

fn inspect_by_image_crate(image: &[u8], format: ImageFormat, max_pixels: u32) -> Result<Header, EncodeError> {
    let decoder = image_crate::decoder(image, format, DECODER_BYTES)?;
    let (width, height) = decoder.dimensions();
    check_pixels(width, height, max_pixels)?;
    let copies = if format == ImageFormat::WebP {
        webp::check(image, width, height)?;
        4
    } else {
        bmp::check(image)?;
        3
    };
    let pixels = (decoder.total_bytes() + u64::from(height)) * copies;
    Ok(Header { format: FileFormat::OfImageCrate(format), bytes_needed: pixels + image.len() as u64 })
}

fn inspect_png(image: &[u8], max_pixels: u32) -> Result<Header, EncodeError> {
    let header = png_recode::header(image)?;
    inspected(FileFormat::Png(header), header.layout, image, max_pixels)
}

fn inspected(format: FileFormat, layout: Layout, image: &[u8], max_pixels: u32) -> Result<Header, EncodeError> {
    check_pixels(layout.width, layout.height, max_pixels)?;
    let bytes_needed = ((layout.bytes() + layout.height as usize) * 3 + image.len()) as u64;
    Ok(Header { format, bytes_needed })
}

fn inspect_jpeg(image: &[u8], max_pixels: u32) -> Result<Header, EncodeError> {
    let header = jpeg::header(image)?;
    let Layout { width, height, .. } = header.layout;
    check_pixels(width, height, max_pixels)?;
    let encoding = (header.layout.bytes() as u64 + u64::from(height)) * 3;
    Ok(Header { format: FileFormat::Jpeg(header), bytes_needed: encoding.max(header.decoding) })
}

fn inspect_tiff(image: &[u8], max_pixels: u32) -> Result<Header, EncodeError> {
    let header = tiff::header(image)?;
    check_pixels(header.layout.width, header.layout.height, max_pixels)?;
    let bytes_needed = header.bytes_needed().saturating_add(image.len() as u64);
    Ok(Header { format: FileFormat::Tiff(header), bytes_needed })
}

fn check_pixels(width: u32, height: u32, limit: u32) -> Result<(), EncodeError> {
    if u64::from(width) * u64::from(height) > u64::from(limit) {
        return Err(EncodeError::TooManyPixels { width, height, limit });
    }
    Ok(())
}

/// Decodes an image file and encodes it as a PNG. May panic: third-party decoders panic on some files, so the caller
/// must catch panics.
///
/// # Errors
/// The file is damaged, or of a kind that only shows while its pixels are decoded, such as floats beyond 0 to 1.
pub fn encode(image: Bytes, header: &Header, settings: &ImageSettings) -> Result<Png, EncodeError> {
    let picture = match header.format {
        FileFormat::Png(png) => {
            let found = png_recode::read(&image, png)?;
            if settings.reencode == Reencode::WhenNotPng && found.intact {
                return Ok(Png { digest: PixelDigest::of(&found.picture), bytes: image });
            }
            found.picture
        }
        FileFormat::Jpeg(jpeg) => jpeg::read(&image, jpeg)?,
        FileFormat::Gif(layout) => gif::read(&image, layout)?,
        FileFormat::Pnm(pnm) => pnm::read(&image, pnm)?,
        FileFormat::Tiff(tiff) => tiff::read(&image, tiff)?,
        FileFormat::OfImageCrate(format) => image_crate::decode(&image, format, header.bytes_needed)?,
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
