//! What a consumer and its decoder process say to each other: frames of a length (4 bytes, little-endian) and JSON;
//! the body follows the order, and the PNG follows `Report::Done`. Pure but for the reads and writes.
//!
//! consumer: order, body ─▶ decoder: `Ready`, `Needs` ─▶ consumer: one byte ─▶ decoder: `Done`, PNG.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api::destination::S3Destination;
use crate::api::image::ImageSettings;
use crate::api::message::MessageFormat;
use crate::reason::Reason;

/// The most that the JSON of a frame may take. The headers of a message are in it, and no body.
pub const MAX_FRAME: u32 = 16 << 20;

/// The byte by which the consumer says that the image has its memory.
pub const GO: u8 = 1;

/// What a decoder process takes beside the image (a few MiB), and its tables.
const MARGIN: u64 = 32 << 20;

/// Seconds that each of the two phases may take, beside those for its bytes.
pub const SECONDS: u64 = 60;

/// Bytes that a processor works through in a second, if it is as slow as ever: others do fifty times as many.
const BYTES_A_SECOND: u64 = 1 << 20;

/// The parts of an assignment that decide what becomes of a body.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Settings {
    /// `spec.message`.
    pub message: MessageFormat,
    /// `spec.image`.
    pub image: ImageSettings,
    /// `spec.destination.s3`, for the key.
    pub s3: S3Destination,
    /// `spec.source.rabbitmq.maxBodyBytes`.
    pub max_body_bytes: u64,
}

/// One message, but for its body.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct Order {
    /// How to decode and encode.
    pub settings: Settings,
    /// The AMQP timestamp.
    pub timestamp: Option<u64>,
    /// The headers that the decoder reads.
    pub headers: BTreeMap<String, String>,
    /// The length of the body that follows.
    pub body_bytes: u64,
}

/// What a decoder reports.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub enum Report {
    /// It has set its limits. From here on, what ends it is the message.
    Ready,
    /// It has read the image's header, and waits for `GO`.
    Needs(u64),
    /// The PNG follows.
    Done {
        /// The object's key.
        key: String,
        /// The digest of the pixels.
        digest: [u8; 32],
        /// The PNG's length.
        bytes: u64,
    },
    /// The message can never succeed.
    Refused(Refusal),
    /// The decoder panicked.
    Panicked,
}

/// Why a message can never succeed, as its decoder process found.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refusal {
    /// The bounded reason.
    pub reason: Reason,
    /// The same for a person.
    pub detail: String,
}

/// Bytes of memory that reading a body of this length and the header of its image may take: the body, its image,
/// and a copy of either.
pub fn memory_for_body(bytes: u64) -> u64 {
    bytes.saturating_mul(3).saturating_add(MARGIN)
}

/// Bytes of memory that an image may take which `needs` so many by its header. A quarter more, because a header
/// does not tell everything about a decoder: a good image must not end here.
pub fn memory_for_image(needs: u64) -> u64 {
    needs.saturating_add(needs / 4).saturating_add(MARGIN)
}

/// Seconds that work on so many bytes may take.
pub fn seconds_for(bytes: u64) -> u64 {
    bytes / BYTES_A_SECOND
}

/// A frame.
///
/// # Errors
/// It would be too long.
pub fn frame(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a frame is too long"))?;
    Ok([&length.to_le_bytes()[..], &json].concat())
}

/// Reads a frame.
///
/// # Errors
/// The other side is gone, or what it said is no frame.
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::other("a frame is too long"));
    }
    Ok(serde_json::from_slice(&read_bytes(input, length.into())?)?)
}

/// Reads so many bytes. The memory is taken as they come.
///
/// # Errors
/// The other side is gone before.
pub fn read_bytes(input: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
    if input.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Writes a frame.
///
/// # Errors
/// The other side is gone.
pub fn write(output: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    output.write_all(&frame(value)?)?;
    output.flush()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for report in [
            Report::Ready,
            Report::Needs(u64::MAX),
            Report::Done { key: "north/ä.png".to_owned(), digest: [7; 32], bytes: 3 },
            Report::Refused(Refusal { reason: Reason::InvalidImage, detail: "cut \"off\"\n".to_owned() }),
            Report::Panicked,
        ] {
            let frame = frame(&report).unwrap();
            assert_eq!(read::<Report>(&mut &frame[..]).unwrap(), report);
            for cut in 0..frame.len() {
                assert!(read::<Report>(&mut &frame[..cut]).is_err(), "{report:?} cut to {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_takes_memory() {
        let too_long = (MAX_FRAME + 1).to_le_bytes();
        assert!(read::<Report>(&mut &too_long[..]).is_err());
        assert!(read::<Report>(&mut &[2, 0, 0, 0, b'{', b'}'][..]).is_err());
        assert!(frame(&"x".repeat(MAX_FRAME as usize)).is_err());
    }

    #[test]
    fn nothing_overflows() {
        assert_eq!(memory_for_body(u64::MAX), u64::MAX);
        assert_eq!(memory_for_image(u64::MAX), u64::MAX);
        assert_eq!(seconds_for(10 << 20), 10);
        assert!(seconds_for(u64::MAX).checked_add(2 * SECONDS).is_some());
    }
}
