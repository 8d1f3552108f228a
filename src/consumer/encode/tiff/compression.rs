//! The compressions of a TIFF's strips and tiles (tag 259). Those that are not read are refused by name.

use super::unsupported;
use crate::consumer::encode::EncodeError;

pub(super) const LONG: &str = "the TIFF is damaged: a strip or tile has more data than its rows";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compression {
    None,
    Jpeg,
    Packed(Codec),
}

/// A compression of bytes, whatever they mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Codec {
    Lzw,
    Deflate,
    PackBits,
    Zstd,
}

impl Compression {
    pub fn of(number: u64) -> Result<Self, EncodeError> {
        let name = match number {
            1 => return Ok(Self::None),
            5 => return Ok(Self::Packed(Codec::Lzw)),
            7 => return Ok(Self::Jpeg),
            8 | 32_946 => return Ok(Self::Packed(Codec::Deflate)),
            32_773 => return Ok(Self::Packed(Codec::PackBits)),
            50_000 => return Ok(Self::Packed(Codec::Zstd)),
            2..=4 => "fax",
            6 => "old-style JPEG",
            34_712 => "JPEG 2000",
            34_887 => "LERC",
            34_925 => "LZMA",
            50_001 => "WebP",
            50_002 | 52_546 => "JPEG XL",
            _ => {
                let found = format!("unknown (number {number}) compression");
                return unsupported(format!("{found}; publish it with LZW, Deflate or no compression, or as a PNG"));
            }
        };
        unsupported(format!("{name} compression; publish it with LZW, Deflate or no compression, or as a PNG"))
    }
}
