//! Strips and tiles that a file leaves out (offset 0 and length 0): GDAL writes such files, and reads the missing
//! samples as GDAL_NODATA, or as 0.

use super::directory::Directory;
use super::kind::Kind;
use super::{tag, unsupported};
use crate::consumer::encode::EncodeError;

/// A row of a missing strip or tile; `None` if all of its samples are 0.
pub(super) fn row(directory: &Directory<'_>, kind: &Kind, bytes: usize) -> Result<Option<Vec<u8>>, EncodeError> {
    let Some(text) = directory.bytes(tag::GDAL_NODATA)? else { return Ok(None) };
    let text = String::from_utf8_lossy(text);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    let value = text.parse::<f64>().ok().filter(|value| value.fract() == 0.0 && (0.0..=65535.0).contains(value));
    let advice = "publish all of its strips or tiles (GDAL: SPARSE_OK=FALSE)";
    match (value.map(|value| value as u16), kind.bits) {
        (Some(0), _) => Ok(None),
        _ if kind.alpha.is_some() => unsupported(format!("missing strips or tiles, alpha and GDAL_NODATA; {advice}")),
        (Some(value @ ..=255), 8) => Ok(Some(vec![value as u8; bytes])),
        (Some(value), 16) => {
            let sample = if kind.is_little { value.to_le_bytes() } else { value.to_be_bytes() };
            Ok(Some(sample.into_iter().cycle().take(bytes).collect()))
        }
        (_, bits) => {
            unsupported(format!("missing strips or tiles, whose GDAL_NODATA is no sample of {bits} bits; {advice}"))
        }
    }
}
