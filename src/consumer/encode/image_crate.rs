//! WebP and BMP, decoded by the `image` crate.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use png_recode::{Color, Layout, Picture, fits};

use super::{DECODER_BYTES, EncodeError};

/// Decodes a WebP or a BMP.
pub(super) fn decode(image: &[u8], format: ImageFormat, bytes_needed: u64) -> Result<Picture, EncodeError> {
    let mut decoder = decoder(image, format, bytes_needed + DECODER_BYTES)?;
    let (width, height) = decoder.dimensions();
    let color = match decoder.color_type() {
        ColorType::L8 => Color::Grey,
        ColorType::La8 => Color::GreyAlpha,
        ColorType::Rgb8 => Color::Rgb,
        ColorType::Rgba8 => Color::Rgba,
        other => return Err(EncodeError::UnsupportedImage(format!("its pixels are {other:?}, which PNG lacks"))),
    };
    let profile = decoder.icc_profile().ok().flatten().filter(|profile| fits(profile, color));
    let length = usize::try_from(decoder.total_bytes()).map_err(|_| EncodeError::OverLimits)?;
    let mut pixels = Vec::with_capacity(length + height as usize);
    pixels.resize(length, 0);
    decoder.read_image(&mut pixels).map_err(|error| undecodable(&error))?;
    let layout = Layout { width, height, color, depth: 8 };
    Ok(Picture { layout, palette: None, transparency: None, profile, pixels })
}

/// A decoder that may allocate at most `bytes`.
pub(super) fn decoder(image: &[u8], format: ImageFormat, bytes: u64) -> Result<impl ImageDecoder, EncodeError> {
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
