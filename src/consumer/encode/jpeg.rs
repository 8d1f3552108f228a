//! Checks a JPEG's markers and decodes its pixels. Refuses damage that the `image` crate and browsers tolerate, so no
//! row of a stored image is invented. Damage that forms valid codes goes unnoticed, because a JPEG has no checksum.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use self::frame::Frame;
use super::EncodeError;
use png_recode::{Color, Layout, Picture, fits};

mod frame;
#[cfg(test)]
mod tests;

/// Appended to the data before decoding: one bits, which are no valid code in any table (ITU-T T.81, C.2), and the
/// end marker. When zune-jpeg 0.5 reaches a marker too early, it continues with zero bits, which are valid codes, and
/// thus invents the missing rows of a truncated file. At one bits it reports damage. After a complete scan its
/// look-ahead holds at most 64 of these bits.
const END: &[u8] = b"\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\xd9";

/// The header of a JPEG, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct JpegHeader {
    pub layout: Layout,
    /// Bytes of memory for decoding, including the pixels and a copy of the file.
    pub decoding: u64,
    end: usize,
}

/// Checks the markers. Allocates no pixels.
pub(super) fn header(file: &[u8]) -> Result<JpegHeader, EncodeError> {
    let frame = Frame::of(file)?;
    let color = if frame.components.len() == 1 { Color::Grey } else { Color::Rgb };
    let layout = Layout { width: frame.width.into(), height: frame.height.into(), color, depth: 8 };
    let decoding = frame.decoder_bytes() + layout.bytes() as u64 + file.len() as u64;
    Ok(JpegHeader { layout, decoding, end: frame.end })
}

/// Decodes a file whose header `header` has checked.
pub(super) fn read(file: &[u8], header: JpegHeader) -> Result<Picture, EncodeError> {
    let JpegHeader { layout, end, .. } = header;
    let space = if layout.color == Color::Grey { ColorSpace::Luma } else { ColorSpace::RGB };
    let data = [file.get(..end).unwrap_or_default(), END].concat();
    let lenient = lenient().jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&data), lenient);
    decoder.decode_headers().map_err(damaged)?;
    decoder.set_options(lenient.set_strict_mode(true));
    let mut pixels = Vec::with_capacity(layout.bytes() + layout.height as usize);
    pixels.resize(layout.bytes(), 0);
    decoder.decode_into(&mut pixels).map_err(damaged)?;
    let profile = decoder.icc_profile().filter(|profile| fits(profile, layout.color));
    Ok(Picture { layout, palette: None, transparency: None, profile, pixels })
}

/// The colors of components whose meaning the file does not say, because a TIFF says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Conversion {
    /// From YCbCr to RGB.
    YCbCr,
    None,
}

/// Decodes the samples of a JPEG in a TIFF, whose header `header` has checked. Not of four components. `None`: its
/// components are named R, G and B, and should be YCbCr.
pub(super) fn samples(file: &[u8], header: JpegHeader, conversion: Conversion) -> Result<Option<Vec<u8>>, EncodeError> {
    let data = [file.get(..header.end).unwrap_or_default(), END].concat();
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&data), lenient());
    decoder.decode_headers().map_err(damaged)?;
    let coded = decoder.input_colorspace().unwrap_or(ColorSpace::YCbCr);
    let space = match conversion {
        Conversion::YCbCr if coded == ColorSpace::RGB => return Ok(None),
        Conversion::YCbCr => ColorSpace::RGB,
        Conversion::None => coded,
    };
    decoder.set_options(lenient().set_strict_mode(true).jpeg_set_out_colorspace(space));
    let mut samples = vec![0; header.layout.bytes()];
    decoder.decode_into(&mut samples).map_err(damaged)?;
    Ok(Some(samples))
}

/// Some cameras leave bytes between the headers. No pixel depends on them.
fn lenient() -> DecoderOptions {
    DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX)
}

fn damaged(error: DecodeErrors) -> EncodeError {
    EncodeError::InvalidImage(format!("the JPEG is damaged, or its data ends before its last row: {error}"))
}
