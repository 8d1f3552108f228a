//! The bands of a TIFF: colors, alpha, depth and format of their samples. A band that PNG can't hold is refused, never
//! dropped.

use super::compression::Compression;
use super::directory::Directory;
use super::{tag, unsupported};
use crate::consumer::encode::EncodeError;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Colors {
    BlackIsZero,
    WhiteIsZero,
    Rgb,
    /// In JPEG compression only, which converts it to RGB.
    YCbCr,
    Cmyk,
    Palette,
}

impl Colors {
    /// Samples per pixel.
    pub fn count(self) -> u8 {
        match self {
            Colors::BlackIsZero | Colors::WhiteIsZero | Colors::Palette => 1,
            Colors::Rgb | Colors::YCbCr => 3,
            Colors::Cmyk => 4,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Alpha {
    Straight,
    /// The colors are multiplied by alpha (ExtraSamples 1).
    Premultiplied,
}

pub(super) fn colors(directory: &Directory<'_>, samples: u64, compression: Compression) -> Result<Colors, EncodeError> {
    let found = match directory.number(tag::PHOTOMETRIC)? {
        Some(0) => return Ok(Colors::WhiteIsZero),
        Some(1) => return Ok(Colors::BlackIsZero),
        Some(2) => return Ok(Colors::Rgb),
        Some(3) if samples == 1 => return Ok(Colors::Palette),
        Some(3) => format!("a palette and {samples} bands"),
        Some(4) => "a transparency mask".to_owned(),
        Some(5) => match directory.number(tag::INK_SET)?.unwrap_or(1) {
            1 if samples == 4 => return Ok(Colors::Cmyk),
            1 => format!("{samples} bands, of which 4 are CMYK"),
            _ => format!("{samples} inks that are not CMYK (InkSet)"),
        },
        Some(6) if compression == Compression::Jpeg => return Ok(Colors::YCbCr),
        Some(6) => "YCbCr colors".to_owned(),
        Some(8..=10) => "CIE L*a*b* colors".to_owned(),
        Some(number) => format!("the unknown PhotometricInterpretation {number}"),
        None => return Err("the TIFF has no PhotometricInterpretation (tag 262)".into()),
    };
    unsupported(format!("{found}; publish it with RGB or gray pixels, or as a PNG"))
}

/// Checks the depth and format of the samples. Returns the bits, and whether they are floats.
pub(super) fn samples(directory: &Directory<'_>, colors: Colors) -> Result<(u8, bool), EncodeError> {
    let bits = same(directory, tag::BITS)?.unwrap_or(1);
    let format = same(directory, tag::SAMPLE_FORMAT)?.unwrap_or(1);
    let advice = "publish it with 8-bit or 16-bit integers";
    match (format, bits) {
        (_, 0) => Err("the TIFF has samples of 0 bits".into()),
        (1, 1 | 2 | 4 | 8) if colors == Colors::Palette => Ok((bits as u8, false)),
        (1, 8 | 16) if colors == Colors::Cmyk => Ok((bits as u8, false)),
        (1, _) if colors == Colors::Palette => unsupported(format!("a palette and {bits} bits per sample; {advice}")),
        (_, _) if matches!(colors, Colors::Cmyk | Colors::Palette) => {
            unsupported(format!("a palette or CMYK, and samples of {bits} bits that are not 8 or 16; {advice}"))
        }
        (1, 1..=16) => Ok((bits as u8, false)),
        (3, 32) => Ok((32, true)),
        (1, _) => unsupported(format!("integers of {bits} bits; {advice}, or with floats from 0 to 1")),
        (2, _) => unsupported(format!("signed integers of {bits} bits; {advice}")),
        (3, _) => unsupported(format!("floats of {bits} bits; {advice}, or with floats of 32 bits")),
        _ => unsupported(format!("the unknown SampleFormat {format}; {advice}")),
    }
}

/// The value of a tag that must be the same for every sample.
fn same(directory: &Directory<'_>, tag: u16) -> Result<Option<u64>, EncodeError> {
    let Some(values) = directory.values(tag)? else { return Ok(None) };
    let first = values.get(0);
    if first.is_none() {
        return Err(EncodeError::InvalidImage(format!("the TIFF's tag {tag} has no value")));
    }
    if values.iter().all(|value| Some(value) == first) {
        return Ok(first);
    }
    let what = if tag == tag::BITS { "depths" } else { "formats" };
    unsupported(format!("samples of different {what}; publish it with 8-bit or 16-bit integers"))
}

/// Allows one sample in addition to the colors, alpha, and refuses all other samples.
pub(super) fn alpha(directory: &Directory<'_>, samples: u64, colors: Colors) -> Result<Option<Alpha>, EncodeError> {
    const ASSOCIATED: u64 = 1;
    const STRAIGHT: u64 = 2;
    let count = u64::from(colors.count());
    let listed = directory.values(tag::EXTRA_SAMPLES)?;
    let extra = listed.as_ref().map_or(0, |values| values.len());
    let first = listed.and_then(|values| values.get(0));
    let Some(beyond) = samples.checked_sub(count) else {
        return Err(EncodeError::InvalidImage(format!("the TIFF has {samples} samples for {count} colors")));
    };
    let names = if count == 1 { "gray" } else { "3 colors" };
    let advice = format!("PNG supports {names} and one alpha; publish only the color bands");
    match (beyond, extra, first) {
        (0, 0, _) => Ok(None),
        (0, ..) => Err("the TIFF lists extra samples (tag 338) but has none".into()),
        (1, 1, Some(STRAIGHT)) => Ok(Some(Alpha::Straight)),
        (1, 1, Some(ASSOCIATED)) => Ok(Some(Alpha::Premultiplied)),
        (1, 0, _) if count == 3 => match directory.number(tag::MATTEING)?.unwrap_or(0) {
            0 => Ok(Some(Alpha::Straight)),
            _ => Ok(Some(Alpha::Premultiplied)),
        },
        (1, ..) => unsupported(format!("{samples} bands: {names} and one that is not alpha; {advice}")),
        _ => unsupported(format!("{samples} bands: {names} and {beyond} more; {advice}")),
    }
}
