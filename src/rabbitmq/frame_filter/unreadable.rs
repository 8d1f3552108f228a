//! Replaces content headers that lapin cannot parse. The replacement has the same channel, class and body size, and the
//! original properties in base64 in a header: the body is delivered, and no data is lost.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::table;

/// Header with the original properties in base64.
pub const PROPERTIES: &str = "x-image-pipeline-unreadable-properties";

/// Header with the number of trailing bytes of the properties that did not fit in a frame and are left out.
pub const LEFT_OUT: &str = "x-image-pipeline-unreadable-left-out";

/// Bytes of class, weight and body size, which precede the properties of a content header.
pub const FIXED: usize = 12;

const FRAME_HEADER: u8 = 2;
const FRAME_END: u8 = 0xCE;
const HAS_HEADERS: u16 = 1 << 13;

/// Maximum bytes of properties in a replacement: in base64 they fill three quarters of a frame. The rest is for the
/// headers that parking adds.
pub fn room(frame_max: usize) -> usize {
    frame_max / 16 * 9
}

/// The frame of a content header that has at most `room` bytes of `properties` as a header. `fixed` is the original's
/// class, weight and body size; `all` is the length of its properties, whose end `properties` may lack.
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

/// Why the original properties could not be parsed. `original` and `left_out` are the values of the headers
/// `PROPERTIES` and `LEFT_OUT`.
pub fn explain(original: &[u8], left_out: usize) -> String {
    let Ok(properties) = BASE64_STANDARD.decode(original) else {
        return format!(
            "the message has a header {PROPERTIES} that is not base64; only the consumer may set this header"
        );
    };
    let found = match table::properties(&properties, properties.len().saturating_add(left_out)) {
        Err(table::TableFault::CutOff { .. }) if left_out > 0 => {
            "they are longer than a frame, or malformed near their end".to_owned()
        }
        Err(fault) => fault.to_string(),
        Ok(()) => "the AMQP library rejects them".to_owned(),
    };
    format!("the message's properties can't be parsed: {found}; header {PROPERTIES} has the original in base64")
}

/// `name` must be shorter than 256 bytes, as all of ours are.
fn push_name(to: &mut Vec<u8>, name: &str) {
    to.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    to.extend_from_slice(name.as_bytes());
}

/// `length` must be less than 4 GiB, as that of every frame is.
fn push_length(to: &mut Vec<u8>, length: usize) {
    to.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}
