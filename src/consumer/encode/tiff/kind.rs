//! What a TIFF's samples are and how they are stored, from its tags. Refuses kinds that are not read, and names what
//! was found.

use super::bands::{self, Alpha, Colors};
use super::compression::{Codec, Compression};
use super::directory::Directory;
use super::{tag, unsupported};
use crate::consumer::encode::EncodeError;

/// A kind of TIFF that is read. Only `Kind::of` makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub compression: Compression,
    pub predictor: Predictor,
    pub colors: Colors,
    pub alpha: Option<Alpha>,
    /// Bits per sample, from 1 to 16, or 32 for floats.
    pub bits: u8,
    pub is_float: bool,
    /// Whether a strip or tile has the samples of one band.
    pub is_planar: bool,
    /// Whether the bits of each byte are reversed (FillOrder 2).
    pub is_reversed: bool,
    pub is_little: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Predictor {
    None,
    /// Differences of samples.
    Horizontal,
    /// Differences of the bytes of floats, the first bytes of a row's samples first.
    Float,
}

impl Kind {
    pub fn of(directory: &Directory<'_>) -> Result<Self, EncodeError> {
        let compression = Compression::of(directory.number(tag::COMPRESSION)?.unwrap_or(1))?;
        let is_reversed = is_reversed(directory, compression)?;
        check_volume(directory)?;
        let samples = directory.number(tag::SAMPLES)?.unwrap_or(1);
        let colors = bands::colors(directory, samples, compression)?;
        let (bits, is_float) = bands::samples(directory, colors)?;
        let alpha = bands::alpha(directory, samples, colors)?;
        let is_planar = samples > 1 && is_planar(directory)?;
        let kind = Self {
            compression,
            predictor: predictor(directory, compression, bits, is_float)?,
            colors,
            alpha,
            bits,
            is_float,
            is_planar,
            is_reversed,
            is_little: directory.is_little,
        };
        kind.check_together()
    }

    /// Samples per pixel.
    pub fn samples(&self) -> u8 {
        self.colors.count() + u8::from(self.alpha.is_some())
    }

    /// Samples per pixel of a strip or tile.
    pub fn chunk_samples(&self) -> u8 {
        if self.is_planar { 1 } else { self.samples() }
    }

    /// Refuses combinations that decoders read differently, or that are not read.
    fn check_together(self) -> Result<Self, EncodeError> {
        let advice = "publish it with LZW or Deflate compression, or as a PNG";
        let colors = self.colors;
        if self.compression == Compression::Jpeg {
            if self.bits != 8 {
                return unsupported(format!("JPEG compression of {} bits per sample; {advice}", self.bits));
            }
            if self.alpha.is_some() || matches!(colors, Colors::Cmyk | Colors::Palette) {
                return unsupported(format!("JPEG compression of CMYK, a palette or alpha; {advice}"));
            }
            if self.is_planar && colors == Colors::YCbCr {
                return unsupported(format!("JPEG compression of planar YCbCr colors; {advice}"));
            }
        }
        let is_white_zero = colors == Colors::WhiteIsZero;
        if is_white_zero && (self.is_float || self.alpha == Some(Alpha::Premultiplied)) {
            let found = if self.is_float { "floats" } else { "premultiplied alpha" };
            return unsupported(format!("{found} and white as 0 (PhotometricInterpretation 0); publish it with 1"));
        }
        if self.is_float && self.alpha == Some(Alpha::Premultiplied) {
            return unsupported("floats with premultiplied alpha; publish it with straight alpha".to_owned());
        }
        Ok(self)
    }
}

fn is_reversed(directory: &Directory<'_>, compression: Compression) -> Result<bool, EncodeError> {
    match directory.number(tag::FILL_ORDER)?.unwrap_or(1) {
        1 => Ok(false),
        2 if compression == Compression::Jpeg => {
            unsupported("JPEG compression and reversed bits (FillOrder 2); publish it with FillOrder 1".to_owned())
        }
        2 => Ok(true),
        other => Err(EncodeError::InvalidImage(format!("the TIFF's FillOrder is {other}"))),
    }
}

/// Refuses volumes, of which only the first slice would be read.
fn check_volume(directory: &Directory<'_>) -> Result<(), EncodeError> {
    match directory.number(tag::IMAGE_DEPTH)?.unwrap_or(1) {
        0 | 1 => Ok(()),
        slices => unsupported(format!("a volume of {slices} slices; publish each slice as an image")),
    }
}

fn is_planar(directory: &Directory<'_>) -> Result<bool, EncodeError> {
    match directory.number(tag::PLANES)?.unwrap_or(1) {
        1 => Ok(false),
        2 => Ok(true),
        other => Err(EncodeError::InvalidImage(format!("the TIFF's PlanarConfiguration is {other}"))),
    }
}

/// libtiff ignores the predictor of compressions that have none, and other decoders apply it.
fn predictor(
    directory: &Directory<'_>,
    compression: Compression,
    bits: u8,
    is_float: bool,
) -> Result<Predictor, EncodeError> {
    let has_predictor = matches!(compression, Compression::Packed(Codec::Lzw | Codec::Deflate | Codec::Zstd));
    match directory.number(tag::PREDICTOR)?.unwrap_or(1) {
        1 => Ok(Predictor::None),
        2 if has_predictor && matches!(bits, 8 | 16 | 32) => Ok(Predictor::Horizontal),
        3 if has_predictor && is_float => Ok(Predictor::Float),
        number @ (2 | 3) => {
            let with = if has_predictor { format!("samples of {bits} bits") } else { "this compression".to_owned() };
            unsupported(format!("the Predictor {number} for {with}; publish it with Predictor 1"))
        }
        number => unsupported(format!("the unknown Predictor {number}; publish it with Predictor 1 or 2")),
    }
}
