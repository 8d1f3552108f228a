//! Reads the strips or tiles of a TIFF and places their samples in the picture.

use std::borrow::Cow;

use super::compression::{Codec, Compression};
use super::directory::Directory;
use super::grid::{Chunk, Grid};
use super::kind::Kind;
use super::samples::{Range, Samples};
use super::{jpeg, predictor, sparse, tag, unpack};
use crate::consumer::encode::EncodeError;

/// Reads the samples of all bands, interleaved, as `Samples` converts them.
pub(super) fn samples(
    file: &[u8],
    directory: &Directory<'_>,
    kind: Kind,
    grid: Grid,
    samples: Samples,
) -> Result<Vec<u8>, EncodeError> {
    let tables = directory.bytes(tag::JPEG_TABLES)?.unwrap_or_default();
    let mut reader = Reader { kind, grid, tables, buffer: Vec::new() };
    let mut canvas = Canvas::new(kind, grid, samples);
    let mut range = Range::new();
    let (offsets, lengths) = grid.places(directory)?;
    for chunk in grid.chunks() {
        let place = offsets.get(chunk.index).unwrap_or_default();
        let length = lengths.get(chunk.index).unwrap_or_default();
        if (place, length) == (0, 0) {
            if let Some(row) = sparse::row(directory, &kind, reader.row_bytes())? {
                (0..chunk.rows).for_each(|line| canvas.put(chunk, line, &row, &mut range));
            }
            continue;
        }
        let data = data(file, place, length, &grid)?;
        let size = reader.row_bytes();
        let rows = reader.rows(data, chunk)?;
        for (line, row) in (0..chunk.rows).zip(rows.chunks_exact(size)) {
            canvas.put(chunk, line, row, &mut range);
        }
    }
    range.check()?;
    Ok(canvas.bytes)
}

fn data<'a>(file: &'a [u8], place: u64, length: u64, grid: &Grid) -> Result<&'a [u8], EncodeError> {
    let (start, length) = (usize::try_from(place).ok(), usize::try_from(length).ok());
    let found = start.and_then(|start| file.get(start..)).zip(length);
    let whole = found.and_then(|(rest, length)| rest.get(..length)).filter(|data| place > 0 && !data.is_empty());
    whole.ok_or_else(|| {
        let name = grid.name();
        EncodeError::InvalidImage(format!("the TIFF is cut off: one of its {name} does not lie within the file"))
    })
}

struct Reader<'a> {
    kind: Kind,
    grid: Grid,
    tables: &'a [u8],
    buffer: Vec<u8>,
}

impl Reader<'_> {
    /// Bytes of a row of a strip or tile.
    fn row_bytes(&self) -> usize {
        chunk_row_bytes(&self.kind, &self.grid)
    }

    /// The rows of a strip or tile.
    fn rows<'s>(&'s mut self, data: &'s [u8], chunk: Chunk) -> Result<&'s [u8], EncodeError> {
        let expected = self.row_bytes() * chunk.stored_rows as usize;
        match self.kind.compression {
            Compression::Packed(codec) => self.unpacked(codec, data, expected),
            Compression::Jpeg => {
                self.buffer = jpeg::decode(self.tables, data, self.expected_jpeg(chunk))?;
                Ok(&self.buffer)
            }
            Compression::None => {
                let rows = data.get(..expected).ok_or_else(|| {
                    let found = format!("one of its {} has {} bytes of {expected}", self.grid.name(), data.len());
                    EncodeError::InvalidImage(format!("the TIFF is damaged: {found}"))
                })?;
                if !self.kind.is_reversed {
                    return Ok(rows);
                }
                self.buffer = reversed(rows);
                Ok(&self.buffer)
            }
        }
    }

    fn unpacked(&mut self, codec: Codec, data: &[u8], expected: usize) -> Result<&[u8], EncodeError> {
        let data = if self.kind.is_reversed { Cow::Owned(reversed(data)) } else { Cow::Borrowed(data) };
        self.buffer.resize(chunk_bytes(&self.kind, &self.grid), 0);
        unpack::unpack(codec, &data, &mut self.buffer, expected)?;
        let size = self.row_bytes();
        let rows = self.buffer.get_mut(..expected).unwrap_or_default();
        rows.chunks_exact_mut(size).for_each(|row| predictor::undo(&self.kind, row));
        Ok(rows)
    }

    fn expected_jpeg(&self, chunk: Chunk) -> jpeg::Expected {
        jpeg::Expected {
            width: self.grid.chunk_width,
            height: chunk.stored_rows,
            most_height: self.grid.chunk_height,
            components: self.kind.chunk_samples(),
            colors: self.kind.colors,
        }
    }
}

/// Bytes of a row of a strip or tile.
fn chunk_row_bytes(kind: &Kind, grid: &Grid) -> usize {
    let bits = u64::from(kind.bits) * u64::from(kind.chunk_samples());
    (u64::from(grid.chunk_width) * bits).div_ceil(8) as usize
}

/// Bytes for a decompressed strip or tile. Some writers compress a row more, which libtiff ignores.
pub(super) fn chunk_bytes(kind: &Kind, grid: &Grid) -> usize {
    chunk_row_bytes(kind, grid).saturating_mul(grid.chunk_height as usize + 1)
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte.reverse_bits()).collect()
}

/// The samples of the picture, as far as they have been read; 0 at first.
struct Canvas {
    samples: Samples,
    /// Bytes of a row of the picture.
    row: usize,
    /// Bits of a pixel, and bytes of a sample of a planar picture; 0 if it is not planar.
    pixel_bits: usize,
    sample: usize,
    bytes: Vec<u8>,
    /// A row of a band.
    band: Vec<u8>,
}

impl Canvas {
    fn new(kind: Kind, grid: Grid, samples: Samples) -> Self {
        let pixel_bits = usize::from(kind.samples()) * usize::from(samples.depth());
        let row = (grid.width as usize * pixel_bits).div_ceil(8);
        let height = grid.height as usize;
        // The room for one filter byte per row is for the PNG.
        let mut bytes = Vec::with_capacity(row.saturating_mul(height).saturating_add(height));
        bytes.resize(row.saturating_mul(height), 0);
        let sample = if kind.is_planar { usize::from(samples.depth()) / 8 } else { 0 };
        Self { samples, row, pixel_bits, sample, bytes, band: vec![0; sample * grid.chunk_width as usize] }
    }

    /// Places a row of a strip or tile.
    fn put(&mut self, chunk: Chunk, line: u32, row: &[u8], range: &mut Range) {
        let start = (chunk.y + line) as usize * self.row;
        let (x, columns) = (chunk.x as usize, chunk.columns as usize);
        let (from, to) = (x * self.pixel_bits / 8, ((x + columns) * self.pixel_bits).div_ceil(8));
        let Some(target) = self.bytes.get_mut(start + from..start + to) else { return };
        if self.sample == 0 {
            self.samples.convert(row, target, range);
            return;
        }
        let band = self.band.get_mut(..columns * self.sample).unwrap_or_default();
        self.samples.convert(row, band, range);
        let at = usize::from(chunk.plane) * self.sample;
        for (pixel, sample) in target.chunks_exact_mut(self.pixel_bits / 8).zip(band.chunks_exact(self.sample)) {
            if let Some(place) = pixel.get_mut(at..at + self.sample) {
                place.copy_from_slice(sample);
            }
        }
    }
}
