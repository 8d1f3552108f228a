//! Reads PNM files: PBM, PGM and PPM, as text (P1 to P3) and as bytes (P4 to P6), as Netpbm defines them. Samples are
//! scaled to the full range: 1 bit for a bitmap, 8 bits up to a largest value of 255, and 16 bits above.

use png_recode::{Color, Layout, Picture};

use self::text::Reader;
use super::EncodeError;

#[cfg(test)]
mod tests;
mod text;

/// The header of a PNM, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct PnmHeader {
    pub layout: Layout,
    samples: Samples,
    /// The value of white, or of full color.
    most: u16,
    /// Offset of the pixels.
    start: usize,
}

/// How the samples are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Samples {
    /// P1.
    TextBits,
    /// P2, P3.
    Text,
    /// P4.
    Bits,
    /// P5, P6.
    Bytes,
}

const CUT: &str = "the PNM is cut off: pixels are missing";
const DAMAGED: &str = "the header of the PNM is damaged";

/// Checks the header, and that the file is long enough for its pixels. Allocates no pixels.
pub(super) fn header(file: &[u8]) -> Result<PnmHeader, EncodeError> {
    let (samples, color) = match file.get(1) {
        Some(b'1') => (Samples::TextBits, Color::Grey),
        Some(b'2') => (Samples::Text, Color::Grey),
        Some(b'3') => (Samples::Text, Color::Rgb),
        Some(b'4') => (Samples::Bits, Color::Grey),
        Some(b'5') => (Samples::Bytes, Color::Grey),
        Some(b'6') => (Samples::Bytes, Color::Rgb),
        _ => return Err(EncodeError::UnsupportedImage("it is a PAM (P7); publish it as a PPM or PNG".to_owned())),
    };
    let is_bitmap = matches!(samples, Samples::TextBits | Samples::Bits);
    let mut reader = Reader::new(file, 2);
    let (width, height) = (reader.number().ok_or(DAMAGED)?, reader.number().ok_or(DAMAGED)?);
    let most = if is_bitmap { 1 } else { reader.number().ok_or(DAMAGED)? };
    let (Ok(most @ 1..), true) = (u16::try_from(most), width > 0 && height > 0) else { return Err(DAMAGED.into()) };
    let depth = match most {
        _ if is_bitmap => 1,
        ..256 => 8,
        _ => 16,
    };
    let is_text = matches!(samples, Samples::TextBits | Samples::Text);
    let start = if is_text { reader.at() } else { reader.end_of_header().ok_or(DAMAGED)? };
    let layout = Layout { width, height, color, depth };
    let header = PnmHeader { layout, samples, most, start };
    // A sample in text is at least one character.
    let least = if is_text { u64::from(width) * u64::from(height) } else { layout.bytes() as u64 };
    if least > file.len().saturating_sub(start) as u64 {
        return Err(CUT.into());
    }
    Ok(header)
}

/// Decodes a file whose header `header` has checked.
pub(super) fn read(file: &[u8], header: PnmHeader) -> Result<Picture, EncodeError> {
    let PnmHeader { layout, samples, start, .. } = header;
    let mut pixels = Vec::with_capacity(layout.bytes() + layout.height as usize);
    let end = match samples {
        Samples::TextBits => text_bits(file, header, &mut pixels)?,
        Samples::Text => text_samples(file, header, &mut pixels)?,
        Samples::Bits | Samples::Bytes => {
            let data = file.get(start..).and_then(|rest| rest.get(..layout.bytes())).ok_or(CUT)?;
            if samples == Samples::Bits {
                bits(data, layout, &mut pixels)
            } else {
                bytes(data, header, &mut pixels)?
            }
            start + data.len()
        }
    };
    check_rest(file, header, end)?;
    Ok(Picture { layout, palette: None, transparency: None, profile: None, pixels })
}

/// In a PBM, 1 is black; in a PNG, 0 is. The bits behind each row are 0.
fn bits(data: &[u8], layout: Layout, pixels: &mut Vec<u8>) {
    let unused = (8 - layout.width % 8) % 8;
    for row in data.chunks_exact(layout.row_bytes(layout.width)) {
        pixels.extend(row.iter().map(|byte| !byte));
        if let Some(last) = pixels.last_mut() {
            *last &= u8::MAX << unused;
        }
    }
}

fn bytes(data: &[u8], header: PnmHeader, pixels: &mut Vec<u8>) -> Result<(), EncodeError> {
    match (header.layout.depth, header.most) {
        (8, 255) | (16, u16::MAX) => pixels.extend_from_slice(data),
        (8, _) => data.iter().try_for_each(|sample| put(u32::from(*sample), header, pixels))?,
        _ => {
            let samples = data.as_chunks().0.iter().map(|sample| u32::from(u16::from_be_bytes(*sample)));
            samples.into_iter().try_for_each(|sample| put(sample, header, pixels))?;
        }
    }
    Ok(())
}

fn text_samples(file: &[u8], header: PnmHeader, pixels: &mut Vec<u8>) -> Result<usize, EncodeError> {
    let mut reader = Reader::new(file, header.start);
    while pixels.len() < header.layout.bytes() {
        let sample = reader.number().ok_or("the PNM is damaged or cut off: a pixel is missing or not a number")?;
        put(sample, header, pixels)?;
    }
    Ok(reader.at())
}

fn text_bits(file: &[u8], header: PnmHeader, pixels: &mut Vec<u8>) -> Result<usize, EncodeError> {
    let mut reader = Reader::new(file, header.start);
    for _ in 0..header.layout.height {
        for column in 0..header.layout.width {
            let is_black =
                reader.bit().ok_or("the PNM is damaged or cut off: a pixel is missing, or neither 0 nor 1")?;
            if column % 8 == 0 {
                pixels.push(0);
            }
            if let (false, Some(last)) = (is_black, pixels.last_mut()) {
                *last |= 0x80 >> (column % 8);
            }
        }
    }
    Ok(reader.at())
}

/// Appends a sample, scaled to the full range and rounded.
fn put(sample: u32, header: PnmHeader, pixels: &mut Vec<u8>) -> Result<(), EncodeError> {
    let most = u32::from(header.most);
    if sample > most {
        return Err(EncodeError::InvalidImage(format!("the PNM has a sample above its largest value, {most}")));
    }
    if header.layout.depth == 8 {
        pixels.push(((sample * 255 + most / 2) / most) as u8);
    } else {
        let scaled = (u64::from(sample) * 65535 + u64::from(most) / 2) / u64::from(most);
        pixels.extend_from_slice(&(scaled as u16).to_be_bytes());
    }
    Ok(())
}

/// White space or another PNM may follow. Other data means that the header has a wrong size, or that a program wrote
/// its line breaks as two characters, which moves the pixels.
fn check_rest(file: &[u8], header: PnmHeader, end: usize) -> Result<(), EncodeError> {
    let rest = file.get(end..).unwrap_or_default();
    let is_next = matches!(rest.trim_ascii_start(), [] | [b'P', b'1'..=b'7', ..]);
    let is_moved = !rest.is_empty() && file.get(header.start - 1..=header.start) == Some(b"\r\n");
    if is_next && !is_moved {
        return Ok(());
    }
    let text =
        format!("the PNM has {} bytes after its last pixel: its size is wrong, or its pixels are moved", rest.len());
    Err(EncodeError::InvalidImage(text))
}
