//! Judges a JPEG by its markers and reads its pixels. Damage that `image` and browsers pass over is refused here: no
//! row of a stored image is made up. Damage that happens to be valid codes is not seen: a JPEG has no checksum.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use self::frame::Frame;
use super::EncodeError;
use super::picture::{Color, Layout, Picture, fits};

mod frame;
#[cfg(test)]
mod tests;

/// What follows the data that the decoder reads: ones, which begin no code of any table (ITU-T T.81, C.2), and the
/// end marker. At a marker zune-jpeg 0.5 goes on with zeros, which are codes, and so makes up the rows of a file that
/// was cut off; at ones it reports damage. A complete scan leaves at most 64 bits of them in its look-ahead.
const END: &[u8] = b"\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\xd9";

/// What a JPEG says of itself, found acceptable.
#[derive(Clone, Copy, Debug)]
pub(super) struct JpegHeader {
    pub layout: Layout,
    /// Bytes that decoding takes, with the pixels and a copy of the file.
    pub decoding: u64,
    end: usize,
}

/// Judges the markers; no pixel is allocated.
pub(super) fn header(file: &[u8]) -> Result<JpegHeader, EncodeError> {
    let frame = Frame::of(file)?;
    let color = if frame.components.len() == 1 { Color::Grey } else { Color::Rgb };
    let layout = Layout { width: frame.width.into(), height: frame.height.into(), color, depth: 8 };
    let decoding = frame.decoder_bytes() + layout.bytes() as u64 + file.len() as u64;
    Ok(JpegHeader { layout, decoding, end: frame.end })
}

/// Decodes a file whose header was judged.
pub(super) fn read(file: &[u8], header: JpegHeader) -> Result<Picture, EncodeError> {
    let JpegHeader { layout, end, .. } = header;
    let space = if layout.color == Color::Grey { ColorSpace::Luma } else { ColorSpace::RGB };
    let data = [file.get(..end).unwrap_or_default(), END].concat();
    // Some cameras leave bytes between headers, which no pixel is made of.
    let lenient = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&data), lenient);
    decoder.decode_headers().map_err(damaged)?;
    decoder.set_options(lenient.set_strict_mode(true));
    let mut pixels = Vec::with_capacity(layout.bytes() + layout.height as usize);
    pixels.resize(layout.bytes(), 0);
    decoder.decode_into(&mut pixels).map_err(damaged)?;
    let profile = decoder.icc_profile().filter(|profile| fits(profile, layout.color));
    Ok(Picture { layout, palette: None, transparency: None, profile, pixels })
}

fn damaged(error: DecodeErrors) -> EncodeError {
    EncodeError::InvalidImage(format!("the JPEG is damaged, or its data ends before its last row: {error}"))
}
