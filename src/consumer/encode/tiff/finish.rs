//! What is left to do once all samples are in place: white as 0, CMYK, premultiplied alpha, and palettes that PNG
//! can't hold.

use png_recode::Layout;

use super::bands::{Alpha, Colors};
use super::kind::Kind;
use super::unsupported;
use crate::consumer::encode::EncodeError;

/// Turns samples of 8 or 16 bits, or packed ones, into the pixels of a PNG.
pub(super) fn finish(kind: &Kind, layout: Layout, mut pixels: Vec<u8>) -> Result<Vec<u8>, EncodeError> {
    if kind.colors == Colors::WhiteIsZero {
        invert(kind, layout, &mut pixels);
    }
    if kind.colors == Colors::Cmyk {
        if layout.depth == 8 {
            convert_cmyk(&mut pixels)
        } else {
            convert_deep_cmyk(&mut pixels)
        }
        pixels.truncate(layout.bytes());
    }
    if kind.alpha == Some(Alpha::Premultiplied) {
        divide_by_alpha(layout, &mut pixels)?;
    }
    clear_padding(layout, &mut pixels);
    Ok(pixels)
}

/// Inverts all samples but alpha. The complement of a widened sample is the widened complement.
fn invert(kind: &Kind, layout: Layout, pixels: &mut [u8]) {
    if kind.alpha.is_none() {
        pixels.iter_mut().for_each(|byte| *byte = !*byte);
        return;
    }
    for pixel in pixels.chunks_exact_mut(layout.step()) {
        pixel.iter_mut().take(usize::from(layout.depth / 8)).for_each(|byte| *byte = !*byte);
    }
}

/// Clears the bits after the last pixel of each row, which the file leaves undefined, so that the same pixels give the
/// same digest.
fn clear_padding(layout: Layout, pixels: &mut [u8]) {
    let bits = layout.width as usize * usize::from(layout.bits_per_pixel()) % 8;
    if bits > 0 {
        for last in pixels.iter_mut().skip(layout.row_bytes(layout.width) - 1).step_by(layout.row_bytes(layout.width)) {
            *last &= !(0xff >> bits);
        }
    }
}

/// CMYK without a profile, as the `image` crate converts it.
fn convert_cmyk(pixels: &mut [u8]) {
    for index in 0..pixels.len() / 4 {
        let Some(&[c, m, y, k]) = pixels.get(index * 4..).and_then(|rest| rest.first_chunk()) else { return };
        let light = 1.0 - f32::from(k) / 255.0;
        let rgb = [c, m, y].map(|ink| ((255.0 - f32::from(ink)) * light) as u8);
        if let Some(place) = pixels.get_mut(index * 3..index * 3 + 3) {
            place.copy_from_slice(&rgb);
        }
    }
}

fn convert_deep_cmyk(pixels: &mut [u8]) {
    for index in 0..pixels.len() / 8 {
        let Some(&[c, d, m, n, y, z, k, l]) = pixels.get(index * 8..).and_then(|rest| rest.first_chunk()) else {
            return;
        };
        let light = 1.0 - f32::from(u16::from_be_bytes([k, l])) / 65535.0;
        let ink = |ink| ((65535.0 - f32::from(u16::from_be_bytes(ink))) * light) as u16;
        let [[a, b], [e, f], [g, h]] = [[c, d], [m, n], [y, z]].map(|value| ink(value).to_be_bytes());
        if let Some(place) = pixels.get_mut(index * 6..index * 6 + 6) {
            place.copy_from_slice(&[a, b, e, f, g, h]);
        }
    }
}

/// Divides the colors by alpha, rounded. A color above its alpha means that the file's ExtraSamples is wrong: nothing
/// was multiplied.
fn divide_by_alpha(layout: Layout, pixels: &mut [u8]) -> Result<(), EncodeError> {
    for pixel in pixels.chunks_exact_mut(layout.step()) {
        let divided = if layout.depth == 8 { divide(pixel) } else { divide_deep(pixel) };
        if divided.is_none() {
            let found = "premultiplied alpha (ExtraSamples 1) and colors above their alpha";
            return unsupported(format!("{found}; publish it with straight alpha (ExtraSamples 2)"));
        }
    }
    Ok(())
}

fn divide(pixel: &mut [u8]) -> Option<()> {
    let (alpha, colors) = pixel.split_last_mut()?;
    let alpha = u32::from(*alpha);
    for color in colors {
        *color = quotient(u32::from(*color), alpha, 255)? as u8;
    }
    Some(())
}

fn divide_deep(pixel: &mut [u8]) -> Option<()> {
    let (alpha, colors) = pixel.as_chunks_mut().0.split_last_mut()?;
    let alpha = u32::from(u16::from_be_bytes(*alpha));
    for color in colors {
        *color = (quotient(u32::from(u16::from_be_bytes(*color)), alpha, 65535)? as u16).to_be_bytes();
    }
    Some(())
}

fn quotient(color: u32, alpha: u32, full: u32) -> Option<u32> {
    match (color, alpha) {
        (0, 0) => Some(0),
        _ if color > alpha => None,
        _ => Some(((u64::from(color) * u64::from(full) * 2 + u64::from(alpha)) / (2 * u64::from(alpha))) as u32),
    }
}

/// Replaces indices of 8 bits by their colors of 16 bits.
pub(super) fn colored(layout: Layout, indices: &[u8], colors: &[[u8; 6]]) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(layout.bytes().saturating_add(layout.height as usize));
    for index in indices {
        pixels.extend_from_slice(colors.get(usize::from(*index)).unwrap_or(&[0; 6]));
    }
    pixels
}
