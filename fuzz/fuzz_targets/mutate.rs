//! Mutates PNGs. Half of the mutations change the data inside a chunk and fix the checksum; without that, nearly
//! every mutation would fail at a checksum. The other half change the file anywhere, and also test damaged checksums.

use libdeflater::{CompressionLvl, Compressor, Decompressor, crc32};
use libfuzzer_sys::fuzzer_mutate;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The most bytes that are decompressed from a chunk.
const MAX_UNPACKED: usize = 1 << 16;

/// The signature that `fuzz_mutator!` requires: returns the new size.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let chunks = chunks(&data[..size]);
    let file = chunks.get(seed as usize % (chunks.len() * 2).max(1)).map(|&(start, end)| {
        let (before, after) = (&data[..start], &data[end..size]);
        let kind = &data[start + 4..start + 8];
        let content = changed(kind, &data[start + 8..end - 4]);
        let covered = [kind, &content].concat();
        [before, &(content.len() as u32).to_be_bytes(), &covered, &crc32(&covered).to_be_bytes(), after].concat()
    });
    match file.filter(|file| file.len() <= max_size) {
        Some(file) => {
            data[..file.len()].copy_from_slice(&file);
            file.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
}

/// Start and end of each chunk, up to the first with an invalid length.
fn chunks(file: &[u8]) -> Vec<(usize, usize)> {
    let mut chunks = Vec::new();
    let mut start = SIGNATURE.len();
    while let Some(length) = file.get(start..).and_then(<[u8]>::first_chunk) {
        let end = start + 12 + u32::from_be_bytes(*length) as usize;
        if end > file.len() || !file.starts_with(SIGNATURE) {
            break;
        }
        chunks.push((start, end));
        start = end;
    }
    chunks
}

/// Mutates a chunk's data. IDAT is decompressed, mutated and compressed again, if it holds one valid stream.
fn changed(kind: &[u8], content: &[u8]) -> Vec<u8> {
    let mut unpacked = vec![0; MAX_UNPACKED];
    let packed = Some(content).filter(|_| kind == b"IDAT");
    match packed.and_then(|content| Decompressor::new().zlib_decompress(content, &mut unpacked).ok()) {
        Some(length) => packed_again(&altered(&unpacked[..length])),
        None => altered(content),
    }
}

fn altered(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    let size = content.len();
    content.resize(size * 2 + 16, 0);
    let max_size = content.len();
    let size = fuzzer_mutate(&mut content, size, max_size);
    content.truncate(size);
    content
}

fn packed_again(raw: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::fastest());
    let mut packed = vec![0; compressor.zlib_compress_bound(raw.len())];
    let length = compressor.zlib_compress(raw, &mut packed).unwrap();
    packed.truncate(length);
    packed
}
