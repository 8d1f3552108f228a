//! Checks that a TIFF is of a supported kind. A kind is unsupported if the `tiff` crate decodes it to other pixels
//! than libtiff, panics, or refuses it with a bare number. Each refusal names what was found.

use super::directory::Directory;
use super::tag;
use crate::consumer::encode::EncodeError;

const LZW: u32 = 5;
const PLANES: u32 = 2;

/// Checks the kind. Returns whether LZW tiles extend beyond the picture.
pub(super) fn check(directory: &Directory<'_>) -> Result<bool, EncodeError> {
    let compression = directory.number(tag::COMPRESSION)?.unwrap_or(1);
    if let Some(name) = other_compression(compression) {
        return unsupported(format!("{name} compression; publish it with LZW, Deflate or no compression, or as a PNG"));
    }
    if directory.number(tag::FILL_ORDER)?.unwrap_or(1) != 1 {
        return unsupported("reversed bit order (FillOrder 2); publish it with FillOrder 1".to_owned());
    }
    let samples = directory.number(tag::SAMPLES)?.unwrap_or(1);
    let colors = colors(directory, samples)?;
    check_samples(directory, colors)?;
    check_bands(directory, samples, colors)?;
    let planar = is_planar(directory)?;
    if planar && colors == 4 {
        return unsupported("planar CMYK; publish it with interleaved samples (PlanarConfiguration 1)".to_owned());
    }
    let has_odd_tiles = has_odd_tiles(directory)?;
    if planar && has_odd_tiles {
        let found = "planar tiles that extend beyond the picture; publish it with interleaved samples \
                     (PlanarConfiguration 1)";
        return unsupported(found.to_owned());
    }
    check_chunks(directory)?;
    Ok(has_odd_tiles && compression == LZW)
}

fn unsupported<T>(found: String) -> Result<T, EncodeError> {
    Err(EncodeError::UnsupportedImage(format!("it is a TIFF with {found}")))
}

fn other_compression(number: u32) -> Option<String> {
    let name = match number {
        1 | 5 | 8 | 32_773 | 32_946 => return None,
        2..=4 => "fax",
        6 | 7 => "JPEG",
        34_712 => "JPEG 2000",
        34_887 => "LERC",
        34_925 => "LZMA",
        50_000 => "ZSTD",
        50_001 => "WebP",
        50_002 | 52_546 => "JPEG XL",
        _ => return Some(format!("unknown (number {number})")),
    };
    Some(name.to_owned())
}

/// Whether the chunks hold one sample each.
fn is_planar(directory: &Directory<'_>) -> Result<bool, EncodeError> {
    Ok(directory.number(tag::SAMPLES)?.unwrap_or(1) > 1 && directory.number(tag::PLANES)? == Some(PLANES))
}

/// The number of color samples per pixel.
fn colors(directory: &Directory<'_>, samples: u32) -> Result<u32, EncodeError> {
    let found = match directory.number(tag::PHOTOMETRIC)? {
        Some(0 | 1) => return Ok(1),
        Some(2) => return Ok(3),
        Some(5) if samples == 4 => return Ok(4),
        Some(3) => "a palette".to_owned(),
        Some(4) => "a transparency mask".to_owned(),
        Some(5) => format!("{samples} bands, of which 4 are CMYK"),
        Some(6) => "YCbCr colors".to_owned(),
        Some(8..=10) => "CIE L*a*b* colors".to_owned(),
        Some(number) => format!("the unknown PhotometricInterpretation {number}"),
        None => return Err("the TIFF has no PhotometricInterpretation (tag 262)".into()),
    };
    unsupported(format!("{found}; publish it with RGB or gray pixels, or as a PNG"))
}

/// Checks the depth and format of the samples.
fn check_samples(directory: &Directory<'_>, colors: u32) -> Result<(), EncodeError> {
    let bits = same(directory, tag::BITS)?.unwrap_or(1);
    let kind = same(directory, tag::SAMPLE_FORMAT)?.unwrap_or(1);
    let advice = "publish it with 8-bit or 16-bit integers";
    match (bits, kind, colors) {
        (8 | 16, 1, _) | (1, 1, 1) | (32, 3, 3) => Ok(()),
        (_, 1, _) if bits < 32 => unsupported(format!("{bits} bits per sample; {advice}")),
        (_, 1, _) => unsupported(format!("integers of {bits} bits; {advice}, or RGB with floats from 0 to 1")),
        (_, 2, _) => unsupported(format!("signed integers of {bits} bits; {advice}")),
        (_, 3, _) => unsupported(format!("floats of {bits} bits; {advice}, or RGB with floats of 32 bits")),
        _ => unsupported(format!("the unknown SampleFormat {kind}; {advice}")),
    }
}

/// The value of a tag that must be the same for every sample.
fn same(directory: &Directory<'_>, tag: u16) -> Result<Option<u32>, EncodeError> {
    let Some(mut values) = directory.values(tag)? else { return Ok(None) };
    let first = values.next();
    if values.all(|value| Some(value) == first) {
        return Ok(first);
    }
    let what = if tag == tag::BITS { "depths" } else { "formats" };
    unsupported(format!("samples of different {what}; publish it with 8-bit or 16-bit integers"))
}

/// Allows one sample in addition to the colors: alpha. The decoder drops all other samples, before it undoes the
/// predictor and at the ends of tiles.
fn check_bands(directory: &Directory<'_>, samples: u32, colors: u32) -> Result<(), EncodeError> {
    const ASSOCIATED: u32 = 1;
    const ALPHA: u32 = 2;
    let extra: Vec<u32> = directory.values(tag::EXTRA_SAMPLES)?.map(Iterator::collect).unwrap_or_default();
    let Some(beyond) = samples.checked_sub(colors) else {
        return Err(EncodeError::InvalidImage(format!("the TIFF has {samples} samples for {colors} colors")));
    };
    let names = if colors == 1 { "gray" } else { "3 colors" };
    let advice = format!("PNG supports {names} and one alpha; publish only the color bands");
    match (colors, beyond, extra.as_slice()) {
        (_, 0, []) | (3, 1, [] | [ALPHA]) => Ok(()),
        (1, 1, [ASSOCIATED | ALPHA]) => {
            unsupported("gray with alpha; publish it as RGB with alpha, or as a PNG".to_owned())
        }
        (3, 1, [ASSOCIATED]) => unsupported(
            "premultiplied alpha (ExtraSamples 1); publish it with straight alpha (ExtraSamples 2)".to_owned(),
        ),
        (_, 0, _) => Err("the TIFF lists extra samples (tag 338) but has none".into()),
        (_, 1, _) => unsupported(format!("{samples} bands: {names} and one that is not alpha; {advice}")),
        _ => unsupported(format!("{samples} bands: {names} and {beyond} more; {advice}")),
    }
}

fn has_odd_tiles(directory: &Directory<'_>) -> Result<bool, EncodeError> {
    let is_odd = |side, tile| {
        let (side, tile) = (directory.number(side)?.unwrap_or(0), directory.number(tile)?);
        Ok::<_, EncodeError>(tile.is_some_and(|tile| tile > 0 && side % tile > 0))
    };
    Ok(is_odd(tag::WIDTH, tag::TILE_WIDTH)? || is_odd(tag::HEIGHT, tag::TILE_HEIGHT)?)
}

/// Checks that no strip or tile is missing or too short: the decoder would read the bytes at offset 0, or those after
/// the chunk's end, as pixels.
fn check_chunks(directory: &Directory<'_>) -> Result<(), EncodeError> {
    for (name, offsets, lengths) in
        [("strips", tag::STRIP_OFFSETS, tag::STRIP_BYTES), ("tiles", tag::TILE_OFFSETS, tag::TILE_BYTES)]
    {
        let (Some(offsets), Some(lengths)) = (directory.values(offsets)?, directory.values(lengths)?) else { continue };
        let all = offsets.clone().count();
        let absent = offsets.zip(lengths.clone()).filter(|(offset, length)| *offset == 0 || *length == 0).count();
        if absent > 0 {
            return unsupported(format!(
                "{absent} of its {all} {name} missing (sparse file); publish all of them (GDAL: SPARSE_OK=FALSE)"
            ));
        }
        if directory.number(tag::COMPRESSION)?.unwrap_or(1) == 1 {
            check_lengths(directory, name, lengths)?;
        }
    }
    Ok(())
}

/// Checks that each uncompressed chunk has at least the bytes of its rows.
fn check_lengths(directory: &Directory<'_>, name: &str, lengths: impl Iterator<Item = u32>) -> Result<(), EncodeError> {
    let number = |tag, or: u32| Ok::<_, EncodeError>(u64::from(directory.number(tag)?.unwrap_or(or)));
    let samples = if is_planar(directory)? { 1 } else { number(tag::SAMPLES, 1)? };
    let pixel = samples * u64::from(same(directory, tag::BITS)?.unwrap_or(1));
    let (width, height) = (number(tag::WIDTH, 0)?, number(tag::HEIGHT, 0)?);
    let is_tiled = name == "tiles";
    let across = if is_tiled { number(tag::TILE_WIDTH, 0)? } else { width };
    let down = number(if is_tiled { tag::TILE_HEIGHT } else { tag::ROWS_PER_STRIP }, u32::MAX)?.max(1);
    let strips = height.div_ceil(down).max(1);
    for (index, length) in (0u64..).zip(lengths) {
        let rows = if is_tiled { down } else { down.min(height.saturating_sub(index % strips * down)) };
        let expected = (across * pixel).div_ceil(8).saturating_mul(rows);
        if u64::from(length) < expected {
            let found = format!("one of its {name} has {length} bytes of {expected}");
            return Err(EncodeError::InvalidImage(format!("the TIFF is damaged: {found}")));
        }
    }
    Ok(())
}
