//! Reads the first frame of a GIF. Its color table becomes the palette, so indices and colors stay as they are. Refuses
//! a frame that does not cover the screen: decoders fill the rest in different ways.

use std::num::NonZeroU64;

use ::gif::{DecodeOptions, Decoder, DecodingError, MemoryLimit};
use png_recode::{Color, Layout, MAX_PROFILE, Picture, fits};

use super::EncodeError;

/// Bytes for extensions before the frame: a profile, and XMP of the same size.
const EXTENSIONS: NonZeroU64 = NonZeroU64::MIN.saturating_add(MAX_PROFILE as u64);

/// The size of the picture, checked. Allocates no pixels.
pub(super) fn layout(file: &[u8]) -> Result<Layout, EncodeError> {
    Ok(first_frame(file)?.1)
}

/// Decodes a file whose layout `layout` has checked.
pub(super) fn read(file: &[u8], layout: Layout) -> Result<Picture, EncodeError> {
    let (mut decoder, _) = first_frame(file)?;
    let palette = decoder.palette().map_err(damaged)?.to_vec();
    let colors = palette.len() / 3;
    let mut pixels = Vec::with_capacity(layout.bytes() + layout.height as usize);
    pixels.resize(layout.bytes(), 0);
    decoder.read_into_buffer(&mut pixels).map_err(damaged)?;
    if pixels.iter().any(|index| usize::from(*index) >= colors) {
        return Err("the GIF is damaged: a pixel has a color that its color table lacks".into());
    }
    let transparent = decoder.current_frame_info().and_then(|frame| frame.transparent).map(usize::from);
    let transparency = transparent.filter(|index| *index < colors).map(|index| {
        let mut alpha = vec![u8::MAX; index];
        alpha.push(0);
        alpha
    });
    let profile = decoder.icc_profile().filter(|profile| fits(profile, Color::Indexed)).map(<[u8]>::to_vec);
    Ok(Picture { layout, palette: Some(palette), transparency, profile, pixels })
}

/// A decoder before the pixels of the first frame.
fn first_frame(file: &[u8]) -> Result<(Decoder<&[u8]>, Layout), EncodeError> {
    let mut options = DecodeOptions::new();
    options.set_memory_limit(MemoryLimit::Bytes(EXTENSIONS));
    options.allow_unknown_blocks(true);
    let mut decoder = options.read_info(file).map_err(damaged)?;
    let screen = (decoder.width(), decoder.height());
    let Some(frame) = decoder.next_frame_info().map_err(damaged)? else {
        return Err("the GIF has no frame".into());
    };
    let place = (frame.left, frame.top, frame.width, frame.height);
    if screen.0 == 0 || screen.1 == 0 {
        return Err("the GIF's header is damaged: its width or height is 0".into());
    }
    if place != (0, 0, screen.0, screen.1) {
        let (left, top, width, height) = place;
        return Err(EncodeError::UnsupportedImage(format!(
            "it is a GIF whose first frame has {width} × {height} pixels at {left}, {top}, but whose screen has {} × \
             {}; publish it with a first frame that covers the screen, or as a PNG",
            screen.0, screen.1
        )));
    }
    let layout = Layout { width: screen.0.into(), height: screen.1.into(), color: Color::Indexed, depth: 8 };
    Ok((decoder, layout))
}

fn damaged(error: DecodingError) -> EncodeError {
    match error {
        DecodingError::MemoryLimit | DecodingError::OutOfMemory => EncodeError::OverLimits,
        error => EncodeError::InvalidImage(format!("the GIF is damaged or cut off: {error}")),
    }
}

#[cfg(test)]
mod tests;
