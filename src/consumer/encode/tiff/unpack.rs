//! Decompresses the data of one strip or tile. A strip or tile that is too short is damaged. Memory is bounded by the
//! size that the caller expects, whatever the data claims.

use libdeflater::{DecompressionError, Decompressor};
use weezl::decode::Configuration;
use weezl::{BitOrder, LzwStatus};

use super::compression::{Codec, LONG};
use super::{unsupported, zstd};
use crate::consumer::encode::EncodeError;

const DAMAGED: &str = "the TIFF is damaged: the data of a strip or tile can't be decompressed";
const SHORT: &str = "the TIFF is damaged, or cut off: a strip or tile has too little data for its rows";

/// Decompresses `data` into `out`, of which the first `expected` bytes must be filled.
pub(super) fn unpack(codec: Codec, data: &[u8], out: &mut [u8], expected: usize) -> Result<(), EncodeError> {
    let filled = match codec {
        Codec::Lzw => lzw(data, out.get_mut(..expected).unwrap_or_default())?,
        Codec::PackBits => pack_bits(data, out.get_mut(..expected).unwrap_or_default()),
        Codec::Deflate => deflate(data, out)?,
        Codec::Zstd => zstd::decompress(data, out)?,
    };
    if filled < expected { Err(SHORT.into()) } else { Ok(()) }
}

fn copied(data: &[u8], out: &mut [u8]) -> usize {
    out.iter_mut().zip(data).map(|(to, from)| *to = *from).count()
}

fn deflate(data: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
    Decompressor::new().zlib_decompress(data, out).map_err(|error| match error {
        DecompressionError::InsufficientSpace => LONG.into(),
        DecompressionError::BadData => DAMAGED.into(),
    })
}

/// Decompresses until `out` is full, as libtiff does: some writers leave out the end code.
fn lzw(data: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
    // As in libtiff, the first code shows that a file from before 1988 has codes from the lowest bit.
    if matches!(data, [0, second, ..] if second & 1 == 1) {
        return unsupported("old-style LZW compression (codes from the lowest bit); publish it again".to_owned());
    }
    /// Calls without input or output: the decoder may hold 7 codes of 9 bits.
    const MOST_IDLE: u8 = 8;
    let mut decoder = Configuration::with_tiff_size_switch(BitOrder::Msb, 8).with_yield_on_full_buffer(true).build();
    let (mut rest, mut filled, mut idle) = (data, 0, 0);
    while let Some(free) = out.get_mut(filled..).filter(|free| !free.is_empty()) {
        let result = decoder.decode_bytes(rest, free);
        rest = rest.get(result.consumed_in..).unwrap_or_default();
        filled += result.consumed_out;
        idle = if result.consumed_in + result.consumed_out > 0 { 0 } else { idle + 1 };
        match result.status {
            Ok(LzwStatus::Ok) if idle < MOST_IDLE => {}
            Ok(_) => break,
            Err(_) if filled == out.len() => break,
            Err(_) => return Err(DAMAGED.into()),
        }
    }
    Ok(filled)
}

/// PackBits (TIFF 6.0, section 9). Ends when `out` is full.
fn pack_bits(mut data: &[u8], out: &mut [u8]) -> usize {
    let mut filled = 0;
    while let Some(free) = out.get_mut(filled..).filter(|free| !free.is_empty()) {
        let Some((&control, rest)) = data.split_first() else { break };
        let control = control as i8;
        data = rest;
        if control >= 0 {
            let (run, rest) = data.split_at(data.len().min(usize::from(control.unsigned_abs()) + 1));
            filled += copied(run, free);
            data = rest;
        } else if control != i8::MIN {
            let Some((&value, rest)) = data.split_first() else { break };
            let run = free.iter_mut().take(usize::from(control.unsigned_abs()) + 1);
            filled += run.map(|to| *to = value).count();
            data = rest;
        }
    }
    filled
}
