//! ZSTD (RFC 8878), one frame for each strip or tile. A window larger than the output is reduced to it: no match
//! reaches further back than the output's first byte, and the decoder allocates the window that a frame claims.

use std::io::Read as _;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::compression::LONG;
use crate::consumer::encode::EncodeError;

const DAMAGED: &str = "the TIFF is damaged: the ZSTD data of a strip or tile can't be decompressed";
const SINGLE_SEGMENT: u8 = 1 << 5;

/// Decompresses a frame. Returns the number of bytes.
pub(super) fn decompress(data: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
    let (head, rest) = data.split_first_chunk::<6>().ok_or(DAMAGED)?;
    let &[m, a, g, i, descriptor, window] = head;
    let is_single = descriptor & SINGLE_SEGMENT != 0;
    let window = if is_single { window } else { window.min(smallest_window(out.len())) };
    let head = [m, a, g, i, descriptor, window];
    let mut source = head.chain(rest);
    let mut decoder = FrameDecoder::new();
    // A single segment's window is the size of its content.
    decoder.set_max_window_size(out.len().next_power_of_two().max(1 << 10) as u64 * 2);
    decoder.reset(&mut source).map_err(|_| DAMAGED)?;
    let mut filled = 0;
    loop {
        if !decoder.is_finished() {
            decoder.decode_blocks(&mut source, BlockDecodingStrategy::UptoBlocks(1)).map_err(|_| DAMAGED)?;
        }
        filled += decoder.read(out.get_mut(filled..).unwrap_or_default()).map_err(|_| DAMAGED)?;
        if decoder.can_collect() > 0 {
            return Err(LONG.into());
        }
        if decoder.is_finished() {
            break;
        }
    }
    match decoder.get_checksum_from_data() {
        Some(checksum) if decoder.get_calculated_checksum() != Some(checksum) => Err(DAMAGED.into()),
        _ => Ok(filled),
    }
}

/// The descriptor of the smallest window of a power of two that holds so many bytes (RFC 8878, 3.1.1.1.2).
fn smallest_window(bytes: usize) -> u8 {
    let exponent = bytes.max(1 << 10).next_power_of_two().trailing_zeros().saturating_sub(10).min(31);
    (exponent << 3) as u8
}
