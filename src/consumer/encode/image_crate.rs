//! TIFF, WebP and BMP, decoded by the `image` crate.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use png_recode::{Color, Layout, Picture, fits};

use super::{DECODER_BYTES, EncodeError, FileFormat, tiff};

/// Decodes a TIFF, a WebP or a BMP.
pub(super) fn decode(image: &[u8], format: FileFormat, bytes_needed: u64) -> Result<Picture, EncodeError> {
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
        FileFormat::Tiff(_) => tiff::profile(image).map(<[u8]>::to_vec),
        _ => decoder.icc_profile().ok().flatten(),
    };
    let profile = profile.filter(|profile| fits(profile, color));
    let length = usize::try_from(decoder.total_bytes()).map_err(|_| EncodeError::OverLimits)?;
    let mut pixels = Vec::with_capacity(length + height as usize);
    pixels.resize(length, 0);
    decoder.read_image(&mut pixels).map_err(|error| match format {
        FileFormat::Tiff(tiff) if tiff.has_odd_lzw_tiles => EncodeError::UnsupportedImage(format!(
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
pub(super) fn decoder(image: &[u8], format: FileFormat, bytes: u64) -> Result<impl ImageDecoder, EncodeError> {
    let format = match format {
        FileFormat::Png(_) => ImageFormat::Png,
        FileFormat::Jpeg(_) => ImageFormat::Jpeg,
        FileFormat::Tiff(_) => ImageFormat::Tiff,
        FileFormat::WebP => ImageFormat::WebP,
        FileFormat::Bmp => ImageFormat::Bmp,
        FileFormat::Gif(_) => ImageFormat::Gif,
        FileFormat::Pnm(_) => ImageFormat::Pnm,
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
