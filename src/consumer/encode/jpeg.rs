//! Reads the pixels of a JPEG whose header was judged. What `image` reads leniently, as browsers do, is strict
//! here: it must never pass over damage that the decoder has seen, and make the rest of the image grey. Damage that
//! makes other codes, or an end marker, is not seen: a JPEG has no checksum.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::EncodeError;
use super::picture::Color;

/// Decodes into `pixels`, which are as many as the header says, in this colour.
pub(super) fn read(file: &[u8], color: Color, pixels: &mut [u8]) -> Result<(), EncodeError> {
    let space = match color {
        Color::Grey => ColorSpace::Luma,
        Color::GreyAlpha => ColorSpace::LumaA,
        Color::Rgba => ColorSpace::RGBA,
        Color::Rgb | Color::Indexed => ColorSpace::RGB,
    };
    // Some cameras leave bytes between headers, which no pixel is made of.
    let lenient = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), lenient);
    decoder.decode_headers().map_err(damaged)?;
    decoder.set_options(lenient.set_strict_mode(true));
    decoder.decode_into(pixels).map_err(damaged)
}

fn damaged(error: DecodeErrors) -> EncodeError {
    EncodeError::InvalidImage(format!("the JPEG is damaged: {error}"))
}
