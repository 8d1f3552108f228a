//! Content headers that the client library can't parse. Each becomes one that it can, of the same channel, class
//! and body size, with the original properties in base64 as a header: the body is delivered, and nothing is lost.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::table;

/// The header that has the original properties, in base64.
pub const PROPERTIES: &str = "x-image-pipeline-unreadable-properties";

/// How many of their last bytes are not in it, if they would not fit in a frame.
pub const LEFT_OUT: &str = "x-image-pipeline-unreadable-left-out";

/// Class, weight and body size, before the properties of every content header.
pub const FIXED: usize = 12;

const FRAME_HEADER: u8 = 2;
const FRAME_END: u8 = 0xCE;
const HAS_HEADERS: u16 = 1 << 13;

/// How many bytes of properties a replacement can carry: three quarters of a frame in base64. The rest is for
/// the headers that parking adds.
pub fn room(frame_max: usize) -> usize {
    frame_max / 16 * 9
}

/// A frame of a content header with `properties`, of which `room` bytes at most, as a header. `fixed` are the
/// original's class, weight and body size, `all` is the length of its properties, of which the last may be missing.
pub fn replacement(channel: [u8; 2], fixed: [u8; FIXED], properties: &[u8], all: usize, room: usize) -> Vec<u8> {
    let kept = properties.get(..room).unwrap_or(properties);
    let text = BASE64_STANDARD.encode(kept);
    let mut table = Vec::with_capacity(text.len() + 128);
    push_name(&mut table, PROPERTIES);
    table.push(b'S');
    push_length(&mut table, text.len());
    table.extend_from_slice(text.as_bytes());
    if all > kept.len() {
        push_name(&mut table, LEFT_OUT);
        table.push(b'i');
        push_length(&mut table, all - kept.len());
    }
    let mut frame = Vec::with_capacity(table.len() + 32);
    frame.push(FRAME_HEADER);
    frame.extend(channel);
    push_length(&mut frame, FIXED + 2 + 4 + table.len());
    frame.extend(fixed);
    frame.extend(HAS_HEADERS.to_be_bytes());
    push_length(&mut frame, table.len());
    frame.append(&mut table);
    frame.push(FRAME_END);
    frame
}

/// What was wrong with the original, for a person. `original` is what `PROPERTIES` has, and `left_out` what
/// `LEFT_OUT` has.
pub fn explain(original: &[u8], left_out: usize) -> String {
    let Ok(properties) = BASE64_STANDARD.decode(original) else {
        return format!("it has a header {PROPERTIES} that is not base64, which only the consumer sets");
    };
    let found = match table::properties(&properties, properties.len().saturating_add(left_out)) {
        Err(table::Fault::CutOff { .. }) if left_out > 0 => {
            "they are longer than a frame, or wrong near their end".to_owned()
        }
        Err(fault) => fault.to_string(),
        Ok(()) => "the client library refuses them".to_owned(),
    };
    format!("the message's properties can't be read: {found}; the original is in the header {PROPERTIES}, in base64")
}

/// Our names are shorter than 255 bytes.
fn push_name(to: &mut Vec<u8>, name: &str) {
    to.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    to.extend_from_slice(name.as_bytes());
}

/// A frame is shorter than 4 GiB.
fn push_length(to: &mut Vec<u8>, length: usize) {
    to.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}
