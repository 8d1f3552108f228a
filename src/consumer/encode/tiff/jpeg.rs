//! JPEG compression in TIFFs (TIFF technical note 2): each strip or tile is a JPEG, whose tables may be in a tag. The
//! TIFF says what the components are, so markers that say it in JPEG files are left out.

use memchr::memchr;

use super::bands::Colors;
use super::unsupported;
use crate::consumer::encode::{EncodeError, jpeg};

const DAMAGED: &str = "the TIFF is damaged: the JPEG data of a strip or tile is cut off";

/// Size and components that the JPEG must have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub width: u32,
    /// The rows of the strip or tile, and the most that a JPEG may have: some writers fill the last strip.
    pub height: u32,
    pub most_height: u32,
    pub components: u8,
    pub colors: Colors,
}

/// Bytes that decoding a strip or tile may need, including its pixels.
pub(super) fn bytes_needed(width: u32, height: u32) -> u64 {
    // Coefficients of 2 bytes and pixels of 1, for 3 components, in units of at most 32 × 32 pixels; and rows.
    let (width, height) = (u64::from(width) + 32, u64::from(height) + 32);
    width * height * (3 * 2 + 3) + width * 4 * 72 * 3
}

/// Decodes a strip or tile to 8-bit samples.
pub(super) fn decode(tables: &[u8], data: &[u8], expected: Expected) -> Result<Vec<u8>, EncodeError> {
    let mut file = vec![0xff, 0xd8];
    append(&mut file, tables)?;
    let (count, scan) = append(&mut file, data)?;
    let scan = data.get(scan..).filter(|scan| !scan.is_empty()).ok_or(DAMAGED)?;
    file.extend_from_slice(scan);
    if count != Some(expected.components) {
        let found = count.unwrap_or_default();
        let text = format!("the TIFF is damaged: a JPEG of {found} components for {} bands", expected.components);
        return Err(EncodeError::InvalidImage(text));
    }
    let header = jpeg::header(&file)?;
    let (width, height) = (header.layout.width, header.layout.height);
    if width != expected.width || !(expected.height..=expected.most_height).contains(&height) {
        let found = format!("a JPEG of {width} × {height} pixels for {} × {}", expected.width, expected.height);
        return Err(EncodeError::InvalidImage(format!("the TIFF is damaged: it has {found}")));
    }
    if header.decoding > bytes_needed(width, height) + file.len() as u64 {
        return Err(EncodeError::OverLimits);
    }
    let conversion = if expected.colors == Colors::YCbCr { jpeg::Conversion::YCbCr } else { jpeg::Conversion::None };
    match jpeg::samples(&file, header, conversion)? {
        Some(samples) => Ok(samples),
        None => unsupported("YCbCr colors and JPEG compression of RGB; publish it as a PNG".to_owned()),
    }
}

/// Appends the tables and headers of a JPEG up to its first scan, without markers of applications and comments. Returns
/// the number of components, and where the scan starts.
fn append(file: &mut Vec<u8>, jpeg: &[u8]) -> Result<(Option<u8>, usize), EncodeError> {
    const SOS: u8 = 0xda;
    const EOI: u8 = 0xd9;
    let (mut at, mut components) = (2, None);
    if jpeg.is_empty() {
        return Ok((None, 0));
    }
    if !jpeg.starts_with(&[0xff, 0xd8]) {
        return Err("the TIFF is damaged: its JPEG data does not start with a marker".into());
    }
    loop {
        let start = at + memchr(0xff, jpeg.get(at..).unwrap_or_default()).ok_or(DAMAGED)?;
        let marker = *jpeg.get(start + 1).ok_or(DAMAGED)?;
        at = match marker {
            0xff => start + 1,
            0 | 0xd0..=0xd8 => start + 2,
            EOI => return Ok((components, jpeg.len())),
            SOS => return Ok((components, start)),
            _ => {
                let length = jpeg.get(start + 2..start + 4).and_then(|bytes| bytes.first_chunk()).ok_or(DAMAGED)?;
                let end = start + 2 + usize::from(u16::from_be_bytes(*length));
                let segment = jpeg.get(start..end).ok_or(DAMAGED)?;
                if matches!(marker, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf) {
                    components = segment.get(9).copied();
                }
                if !matches!(marker, 0xe0..=0xef | 0xfe) {
                    file.extend_from_slice(segment);
                }
                end
            }
        };
    }
}
