//! Reads PNG files and verifies every checksum, so an intact file may be stored unchanged. Allocates by the sizes in
//! the checked header, never by the length of the decompressed data.

use std::borrow::Cow;

use libdeflater::{DecompressionError, Decompressor};
use png::{Adam7Info, expand_interlaced_row};

use crate::Error;
use crate::chunks::Chunks;
use crate::picture::{Color, Layout, MAX_PROFILE, Picture, fits};
use crate::unfilter::unfilter;

/// The content of IHDR, checked. Only `header` makes one.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub layout: Layout,
    pub interlaced: bool,
}

/// A picture, and whether the file may be stored unchanged.
pub struct File {
    pub picture: Picture,
    /// Whether the checksum of every chunk is right, and nothing follows IEND. Wrong checksums are accepted only in
    /// chunks that no pixel depends on, such as text.
    pub intact: bool,
}

/// Reads and checks the signature and IHDR.
///
/// # Errors
/// They are damaged.
pub fn header(file: &[u8]) -> Result<Header, Error> {
    const WRONG: Error = Error("its header is damaged");
    let Some(([b'I', b'H', b'D', b'R'], data)) = Chunks::new(file)?.next()? else { return Err(WRONG) };
    let &[a, b, c, d, e, f, g, h, depth, color, 0, 0, interlaced @ (0 | 1)] = data else { return Err(WRONG) };
    let color = match (color, depth) {
        (0, 1 | 2 | 4 | 8 | 16) => Color::Grey,
        (2, 8 | 16) => Color::Rgb,
        (3, 1 | 2 | 4 | 8) => Color::Indexed,
        (4, 8 | 16) => Color::GreyAlpha,
        (6, 8 | 16) => Color::Rgba,
        _ => return Err(WRONG),
    };
    let (width, height) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    if !(1..=0x7fff_ffff).contains(&width) || !(1..=0x7fff_ffff).contains(&height) {
        return Err(WRONG);
    }
    Ok(Header { layout: Layout { width, height, color, depth }, interlaced: interlaced == 1 })
}

/// Reads a file, whose header is the result of `header`. Allocates `Layout::bytes` for the pixels, once more while the
/// file is interlaced, and a copy of the image data if it is in several chunks.
///
/// # Errors
/// The file is damaged: a checksum that pixels depend on, a length, a filter, or a chunk that is unknown and critical,
/// or out of place.
pub fn read(file: &[u8], header: Header) -> Result<File, Error> {
    let layout = header.layout;
    let mut chunks = Chunks::new(file)?;
    let (mut palette, mut transparency, mut profile) = (None, None, None);
    let mut data: Option<Cow<'_, [u8]>> = None;
    let mut previous = [0; 4];
    chunks.next()?;
    while let Some((kind, content)) = chunks.next()? {
        match &kind {
            b"IDAT" => match &mut data {
                Some(_) if &previous != b"IDAT" => return Err(Error("its IDAT chunks are not consecutive")),
                Some(data) => data.to_mut().extend_from_slice(content),
                None => data = Some(Cow::Borrowed(content)),
            },
            b"PLTE" if data.is_none() && palette.is_none() => palette = Some(content.to_vec()),
            b"tRNS" if data.is_none() && transparency.is_none() => transparency = Some(content.to_vec()),
            b"iCCP" if data.is_none() && profile.is_none() => profile = uncompressed(content, layout.color),
            b"IEND" if content.is_empty() => {}
            [first, ..] if first.is_ascii_lowercase() => {}
            _ => return Err(Error("it has a chunk that is unknown, repeated or out of place")),
        }
        previous = kind;
    }
    let pixels = pixels(&data.ok_or(Error("it has no image data"))?, header)?;
    // libpng ignores tRNS if the pixels have alpha.
    let transparency = transparency.filter(|_| !matches!(layout.color, Color::GreyAlpha | Color::Rgba));
    check(layout, palette.as_deref(), transparency.as_deref())?;
    // Without indexed colors, a palette is only a suggestion (PNG specification, PLTE).
    let palette = palette.filter(|_| layout.color == Color::Indexed);
    Ok(File { picture: Picture { layout, palette, transparency, profile, pixels }, intact: chunks.are_intact() })
}

fn check(layout: Layout, palette: Option<&[u8]>, transparency: Option<&[u8]>) -> Result<(), Error> {
    let colors = match palette {
        Some(palette) if palette.len() % 3 == 0 && (1..=256).contains(&(palette.len() / 3)) => palette.len() / 3,
        Some(_) => return Err(Error("its palette is damaged")),
        None if layout.color == Color::Indexed => return Err(Error("its palette is missing")),
        None => 0,
    };
    let fits = |length: usize| match layout.color {
        Color::Grey => length == 2,
        Color::Rgb => length == 6,
        Color::Indexed => (1..=colors).contains(&length),
        Color::GreyAlpha | Color::Rgba => false,
    };
    match transparency {
        Some(transparency) if !fits(transparency.len()) => Err(Error("its transparency is damaged")),
        _ => Ok(()),
    }
}

/// The profile in iCCP; `None` if it is damaged or does not match the colors.
fn uncompressed(content: &[u8], color: Color) -> Option<Vec<u8>> {
    let name = content.iter().position(|byte| *byte == 0)?;
    let (method, data) = content.get(name + 1..)?.split_first()?;
    let mut profile = vec![0; MAX_PROFILE];
    let length = Decompressor::new().zlib_decompress(data, &mut profile).ok().filter(|_| *method == 0)?;
    profile.truncate(length);
    profile.shrink_to_fit();
    fits(&profile, color).then_some(profile)
}

fn pixels(data: &[u8], header: Header) -> Result<Vec<u8>, Error> {
    let layout = header.layout;
    let passes: Vec<(u8, u32, u32)> =
        if header.interlaced { passes(layout) } else { vec![(0, layout.width, layout.height)] };
    let length = passes.iter().map(|(_, width, height)| (layout.row_bytes(*width) + 1) * *height as usize).sum();
    let mut rows = inflate(data, length, layout.row_bytes(layout.width) + 1)?;
    let mut expanded = if header.interlaced { vec![0; layout.bytes()] } else { Vec::new() };
    let mut start = 0;
    for (pass, width, height) in passes {
        let row = layout.row_bytes(width);
        let bytes = (row + 1) * height as usize;
        let part = rows.get_mut(start..start + bytes).ok_or(Error("its image data ends early"))?;
        unfilter(part, row, layout.step()).ok_or(Error("it uses an unknown filter type"))?;
        start += bytes;
        if header.interlaced {
            for (line, row) in (0..height).zip(part.chunks_exact(row)) {
                let place = Adam7Info::new(pass, line, layout.width);
                expand_interlaced_row(
                    &mut expanded,
                    layout.row_bytes(layout.width),
                    row,
                    &place,
                    layout.bits_per_pixel(),
                );
            }
        }
    }
    if header.interlaced {
        return Ok(expanded);
    }
    rows.truncate(layout.bytes());
    Ok(rows)
}

/// Decompresses the image data. Some encoders compress a byte or a row more than the pixels need. libpng ignores the
/// excess, and so does this function; the checksum covers the excess and is verified.
fn inflate(data: &[u8], length: usize, row: usize) -> Result<Vec<u8>, Error> {
    let mut rows = vec![0; length];
    let found = match Decompressor::new().zlib_decompress(data, &mut rows) {
        Err(DecompressionError::InsufficientSpace) => {
            rows = vec![0; length + row];
            Decompressor::new().zlib_decompress(data, &mut rows)
        }
        found => found,
    };
    match found {
        Ok(found) if found >= length => {
            rows.truncate(length);
            Ok(rows)
        }
        Ok(_) => Err(Error("its image data ends early")),
        Err(DecompressionError::InsufficientSpace) => {
            Err(Error("its image data is more than a row longer than its pixels"))
        }
        Err(DecompressionError::BadData) => Err(Error("its image data is damaged")),
    }
}

/// The passes of an interlaced file that are not empty, of up to seven: number, width and height.
fn passes(layout: Layout) -> Vec<(u8, u32, u32)> {
    let every = |length: u32, offset: u32, step: u32| length.saturating_sub(offset).div_ceil(step);
    [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
        .into_iter()
        .zip(1..)
        .map(|((x, across, y, down), pass)| (pass, every(layout.width, x, across), every(layout.height, y, down)))
        .filter(|(_, width, height)| *width > 0 && *height > 0)
        .collect()
}
