//! Decides whether a chunk with a wrong checksum can be left out, as libpng does, without a pixel changing.

use libdeflater::Crc;

/// Types of the chunks that pixels depend on and that may precede or follow the chunk.
const OF_PIXELS: [&[u8; 4]; 4] = [b"IDAT", b"IEND", b"PLTE", b"tRNS"];

/// Whether no pixel depends on a chunk with a wrong checksum. `chunk`: its type, data and checksum. The damage may be in
/// the type or the length: the chunk must not be a chunk of pixels with another type, and must contain no other chunk.
pub(crate) fn is_harmless(chunk: &[u8]) -> bool {
    let Some((kind, rest)) = chunk.split_first_chunk::<4>() else { return false };
    let Some((data, checksum)) = rest.split_last_chunk() else { return false };
    let is_ancillary = kind.iter().all(u8::is_ascii_alphabetic) && kind.first().is_some_and(u8::is_ascii_lowercase);
    let was = |other: &[u8; 4]| crc(other, data) == u32::from_be_bytes(*checksum);
    // Up to the checksum: a length that is too large ends anywhere.
    is_ancillary && kind != b"tRNS" && !OF_PIXELS.into_iter().any(was) && !contains_chunk(rest)
}

/// The most types of chunks in a chunk's data that are looked at; each costs a checksum of what follows.
const MAX_TYPES: usize = 16;

/// Whether the data contains a whole chunk of pixels: then the length is damaged.
fn contains_chunk(data: &[u8]) -> bool {
    let known = |window: &[u8]| OF_PIXELS.into_iter().find(|known| known[..] == *window);
    let types = data.windows(4).enumerate().filter_map(|(at, window)| Some((at, known(window)?)));
    let is_chunk = |(at, kind): (usize, &[u8; 4])| {
        let length = at.checked_sub(4).and_then(|start| data.get(start..)?.first_chunk());
        let rest = data.get(at + 4..).unwrap_or_default();
        let parts = length.and_then(|length| rest.split_at_checked(u32::from_be_bytes(*length) as usize));
        let Some((content, after)) = parts else { return false };
        after.first_chunk().is_some_and(|checksum| crc(kind, content) == u32::from_be_bytes(*checksum))
    };
    types.enumerate().any(|(number, found)| number == MAX_TYPES || is_chunk(found))
}

fn crc(kind: &[u8; 4], data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    crc.sum()
}
