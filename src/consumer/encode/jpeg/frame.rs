//! Walks the markers of a JPEG (ITU-T T.81, annex B) before the decoder runs, and finds the end of the pixel data.
//! Ignores everything after the end marker.

use memchr::memchr;

use crate::consumer::encode::EncodeError;

const SOS: u8 = 0xda;
const EOI: u8 = 0xd9;
const DRI: u8 = 0xdd;

/// The precision of a coefficient that no scan contains.
const MISSING: u8 = u8::MAX;

/// Size and components of a JPEG, and where its last scan ends.
#[derive(Clone, Debug)]
pub(in crate::consumer::encode) struct Frame {
    pub width: u16,
    pub height: u16,
    pub is_progressive: bool,
    pub components: Vec<Component>,
    /// Offset of the first marker after the data of the last scan.
    pub end: usize,
}

/// A component, and the precision of each of its coefficients: the number of low bits still missing, 0 if complete.
#[derive(Clone, Debug)]
pub(in crate::consumer::encode) struct Component {
    id: u8,
    pub across: u8,
    pub down: u8,
    precision: [u8; 64],
}

impl Frame {
    /// Walks to the end marker, or to the end of the only scan of a sequential JPEG.
    pub fn of(file: &[u8]) -> Result<Self, EncodeError> {
        let (mut at, mut frame, mut interval) = (2, None, 0);
        loop {
            let (marker, start) = marker(file, at).ok_or(CUT)?;
            if marker == EOI {
                let frame: Frame = frame.ok_or("the JPEG has no header")?;
                return if frame.is_complete() { Ok(frame) } else { Err(CUT.into()) };
            }
            let (segment, after) = segment(file, start).ok_or(CUT)?;
            at = after;
            match marker {
                0xc0..=0xc2 if frame.is_some() => return Err("the JPEG has two headers".into()),
                0xc0..=0xc2 => frame = Some(Frame::parse(marker, segment)?),
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Err(other_process(marker)),
                DRI => interval = segment.first_chunk().map_or(0, |interval| u16::from_be_bytes(*interval)),
                SOS => {
                    let frame = frame.as_mut().ok_or("the JPEG has a scan before its header")?;
                    frame.scan(segment)?;
                    at = data_end(file, after, interval > 0)?;
                    frame.end = at;
                    if !frame.is_progressive {
                        return Ok(frame.clone());
                    }
                }
                _ => {}
            }
        }
    }

    fn parse(marker: u8, segment: &[u8]) -> Result<Self, EncodeError> {
        let Some((&[bits, a, b, c, d, count], components)) = segment.split_first_chunk() else {
            return Err("the JPEG's header is cut off".into());
        };
        if bits != 8 {
            let found = format!("it is a JPEG of {bits} bits per sample; only 8 bits are supported");
            return Err(EncodeError::UnsupportedImage(found));
        }
        if !matches!(count, 1 | 3 | 4) {
            let found = format!("it is a JPEG of {count} components; only 1, 3 and 4 are supported");
            return Err(EncodeError::UnsupportedImage(found));
        }
        let component = |&[id, sampling, _]: &[u8; 3]| Component {
            id,
            across: sampling >> 4,
            down: sampling & 15,
            precision: [MISSING; 64],
        };
        let components: Vec<_> = components.as_chunks().0.iter().map(component).collect();
        let are_sampled = components.iter().all(|component| component.across > 0 && component.down > 0);
        let (width, height) = (u16::from_be_bytes([c, d]), u16::from_be_bytes([a, b]));
        if components.len() != usize::from(count) || !are_sampled || width == 0 || height == 0 {
            return Err("the JPEG's header is damaged".into());
        }
        Ok(Self { width, height, is_progressive: marker == 0xc2, components, end: 0 })
    }

    /// Records which coefficients a scan contains, from the scan's header.
    fn scan(&mut self, header: &[u8]) -> Result<(), EncodeError> {
        const DAMAGED: &str = "the JPEG has a scan whose header is damaged";
        let (count, rest) = header.split_first().ok_or(DAMAGED)?;
        let (chosen, rest) = rest.split_at_checked(usize::from(*count) * 2).ok_or(DAMAGED)?;
        let all = self.components.len();
        if !self.is_progressive && usize::from(*count) < all {
            return Err(EncodeError::UnsupportedImage(format!(
                "it is a sequential JPEG whose first scan has {count} of its {all} components; publish it with one \
                 scan, or as a progressive JPEG"
            )));
        }
        let &[first, last, precision] = rest.first_chunk().ok_or(DAMAGED)?;
        for [id, _] in chosen.as_chunks().0 {
            let component = self.components.iter_mut().find(|component| component.id == *id).ok_or(DAMAGED)?;
            let coefficients = component.precision.get_mut(usize::from(first)..=usize::from(last)).ok_or(DAMAGED)?;
            coefficients.fill(precision & 15);
        }
        Ok(())
    }

    /// Whether the scans contain every bit of every coefficient. Encoders write only such progressive JPEGs; a file
    /// that was cut between two scans is incomplete.
    fn is_complete(&self) -> bool {
        self.components.iter().all(|component| component.precision.iter().all(|precision| *precision == 0))
    }

    /// Bytes that the decoder allocates in addition to the pixels: rows of units for each component and, for a
    /// progressive JPEG, 2 bytes for each coefficient.
    pub fn decoder_bytes(&self) -> u64 {
        let most = |side: fn(&Component) -> u8| u64::from(self.components.iter().map(side).max().unwrap_or(1));
        let (across, down) = (most(|component| component.across), most(|component| component.down));
        let units = u64::from(self.width).div_ceil(8 * across) * u64::from(self.height).div_ceil(8 * down);
        let blocks = |component: &Component| u64::from(component.across) * u64::from(component.down);
        let coefficients = self.components.iter().map(blocks).sum::<u64>() * units * 64 * 2;
        let width = u64::from(self.width).next_multiple_of(8 * across);
        let rows = width * down * ROW_BYTES * self.components.len() as u64;
        rows + if self.is_progressive { coefficients } else { 0 }
    }
}

/// Bytes per pixel of a row and component. For each row of blocks, zune-jpeg 0.5 allocates rows of 2-byte samples:
/// eight as coded, up to sixteen as upsampled, eight in between, and four more.
const ROW_BYTES: u64 = 2 * (8 + 16 + 8 + 4);

const CUT: &str = "the JPEG is cut off: its end marker, or data before it, is missing";

/// The next marker and the offset after it. Skips any bytes before the marker, as decoders do.
fn marker(file: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += memchr(0xff, file.get(at..)?)? + 1;
        match *file.get(at)? {
            0 | 0xff => {}
            marker => return Some((marker, at + 1)),
        }
    }
}

/// The content of a marker's segment, and the offset after it.
fn segment(file: &[u8], start: usize) -> Option<(&[u8], usize)> {
    let length = u16::from_be_bytes(*file.get(start..)?.first_chunk()?);
    let end = start + usize::from(length);
    Some((file.get(start + 2..end)?, end))
}

/// The offset of the first marker after a scan's data. Restart markers are part of the data and count from 0 to 7
/// repeatedly (ITU-T T.81, B.2.1): a gap in the sequence means lost data.
fn data_end(file: &[u8], start: usize, restarts: bool) -> Result<usize, EncodeError> {
    let (mut at, mut expected) = (start, 0);
    loop {
        let found = at + memchr(0xff, file.get(at..).unwrap_or_default()).ok_or(CUT)?;
        let fill = file.get(found..).unwrap_or_default().iter().take_while(|byte| **byte == 0xff).count();
        match *file.get(found + fill).ok_or(CUT)? {
            0 => {}
            restart @ 0xd0..=0xd7 if restarts => {
                if restart != 0xd0 + expected {
                    let text =
                        format!("the JPEG is damaged: data before its restart marker {} is lost", restart - 0xd0);
                    return Err(EncodeError::InvalidImage(text));
                }
                expected = (expected + 1) % 8;
            }
            _ => return Ok(found),
        }
        at = found + fill + 1;
    }
}

fn other_process(marker: u8) -> EncodeError {
    let process = match marker {
        0xc3 => "a lossless JPEG",
        0xc9 | 0xca => "a JPEG with arithmetic coding",
        _ => "a JPEG with hierarchical or lossless coding",
    };
    EncodeError::UnsupportedImage(format!("it is {process}; publish it as a baseline or progressive JPEG, or as a PNG"))
}
