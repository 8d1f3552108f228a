//! Second step: an image file becomes a PNG with the same pixels. Pure, and heavy: it belongs on a
//! thread that may be kept busy. It must never allocate pixels before the header was judged, and
//! the same file must always give the same PNG.
//!
//! Of a PNG, everything that its pixels are made of stays: colour type, bit depth, palette and tRNS;
//! interlacing is undone. Of the other formats, 8 and 16 bits, grey and alpha stay; their palettes and
//! depths under 8 bits are expanded to 8. What PNG can't hold is converted: CMYK to RGB; 32-bit floats
//! to 16-bit integers, 0.0–1.0 over the full range, clamped. Of an animation, the first frame is taken.
//! Data that is damaged is refused where its format can tell: a JPEG of which some decoders would make a part
//! grey, too. Of TIFF, those with JPEG compression are not read.
//! An ICC profile of at most 1 MiB that fits the colours is carried over. Other metadata (EXIF, text,
//! gamma) is not, and an EXIF orientation is not applied: pixels are stored as the file has them.

use std::io::Cursor;

use bytes::Bytes;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

pub use self::digest::PixelDigest;
use self::picture::{Color, Layout, Picture};
use crate::api::image::{ImageSettings, Reencode};
use crate::reason::Reason;

mod chunks;
mod deflate;
mod digest;
mod filter;
mod format;
mod huffman;
mod jpeg;
mod picture;
mod read;
mod tiff;
mod unfilter;
mod webp;
mod write;

/// Room for a decoder's own tables, beside the pixels.
const DECODER_BYTES: u64 = 16 << 20;

/// What an image file says of itself, found acceptable. Only `inspect` makes one.
#[derive(Debug)]
pub struct Header {
    format: Format,
    bytes_needed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Png(read::PngHeader),
    Jpeg(jpeg::JpegHeader),
    Tiff(tiff::TiffHeader),
    WebP,
    Bmp,
}

/// A PNG file, and what its pixels are known by. Only `encode` makes one, here or in a decoder process.
#[derive(Clone, Debug)]
pub struct Png {
    bytes: Bytes,
    digest: PixelDigest,
}

impl Png {
    /// What `encode` made in a decoder process.
    pub(in crate::consumer) fn of_process(bytes: Bytes, digest: PixelDigest) -> Self {
        Self { bytes, digest }
    }

    /// The file. A clone of it shares the memory.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The digest of the pixels, the same however the image was compressed.
    pub fn digest(&self) -> &PixelDigest {
        &self.digest
    }
}

/// An image that can't become a PNG. The texts repeat nothing of the image.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The content is of no format that is read.
    #[error("the image is {0}; PNG, JPEG, TIFF, WebP and BMP are read, whatever the name says")]
    UnknownFormat(String),
    /// More pixels than are taken.
    #[error(
        "the image has {width} × {height} pixels and at most {limit} are taken; raise \
         spec.image.maxPixels, or publish it in parts"
    )]
    TooManyPixels {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The most pixels that are taken.
        limit: u32,
    },
    /// More memory than the process has in all.
    #[error(
        "decoding the image may take {needed} bytes and the memory limit leaves {limit} for images; raise it in \
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
    /// The file is damaged.
    #[error("the image can't be decoded: {0}")]
    InvalidImage(String),
    /// The file is valid, as far as it was read, and of a kind that is not converted.
    #[error("the image can't be converted: {0}")]
    UnsupportedImage(String),
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
            EncodeError::UnsupportedImage(_) => Reason::UnsupportedImage,
        }
    }
}

impl Header {
    /// Bytes that decoding and encoding may take at their peak, beside the file: the pixels three
    /// times (decoded, in buffers of the decoder or compressed, and as a PNG), and once more where a
    /// decoder of another format than PNG has more than 8 bits, and for a WebP, which may be a frame
    /// of an animation. The file's length is in it once: a PNG in many parts is joined, a JPEG copied.
    pub fn bytes_needed(&self) -> u64 {
        self.bytes_needed
    }
}

/// Judges an image file by its first bytes and its header; no pixel is allocated.
///
/// # Errors
/// The format is unknown, the header damaged, or the image has more than `max_pixels`.
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
    let header = read::header(image)?;
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

/// Decodes an image file and makes it a PNG as the settings say. May panic: decoders of hostile
/// input do, and whoever calls this catches it.
///
/// # Errors
/// The file is damaged.
pub fn encode(image: Bytes, header: &Header, settings: &ImageSettings) -> Result<Png, EncodeError> {
    let picture = match header.format {
        Format::Png(png) => {
            let found = read::read(&image, png)?;
            if settings.reencode == Reencode::WhenNotPng {
                if found.followed {
                    return Err(EncodeError::InvalidImage("something follows its end chunk".to_owned()));
                }
                return Ok(Png { digest: PixelDigest::of(&found.picture), bytes: image });
            }
            found.picture
        }
        Format::Jpeg(jpeg) => jpeg::read(&image, jpeg)?,
        format => decode(&image, format, header.bytes_needed)?,
    };
    let digest = PixelDigest::of(&picture);
    let bytes = write::write(picture, settings.encoding).map_err(EncodeError::InvalidImage)?;
    Ok(Png { bytes: bytes.into(), digest })
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
        other => return Err(EncodeError::UnsupportedImage(format!("its pixels are {other:?}, which PNG can't hold"))),
    };
    let profile = match format {
        Format::Tiff(_) => tiff::profile(image).map(<[u8]>::to_vec),
        _ => decoder.icc_profile().ok().flatten(),
    };
    let profile = profile.filter(|profile| picture::fits(profile, color));
    let length = usize::try_from(decoder.total_bytes()).map_err(|_| EncodeError::OverLimits)?;
    let mut pixels = Vec::with_capacity(length + height as usize);
    pixels.resize(length, 0);
    decoder.read_image(&mut pixels).map_err(|error| match format {
        Format::Tiff(tiff) if tiff.has_odd_lzw_tiles => EncodeError::UnsupportedImage(format!(
            "it is a TIFF with tiles of LZW that the picture does not fill, of which some are not read, or it is \
             damaged ({error}); publish it with Deflate, or in strips"
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

/// Floats from 0 to 1 over the range of 16 bits. Others are reflectances, heights or numbers up to 255: which of their
/// values is white, the file does not say.
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
            "it is a TIFF with {found}; floats from 0 to 1 are read; publish it with integers of 8 or 16 bits"
        )));
    }
    Ok(samples().flat_map(|sample| ((sample * 65535.0).round() as u16).to_be_bytes()).collect())
}

/// A decoder that keeps to a limit of memory.
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

impl From<&'static str> for EncodeError {
    fn from(text: &'static str) -> Self {
        EncodeError::InvalidImage(text.to_owned())
    }
}

#[cfg(test)]
mod tests;
