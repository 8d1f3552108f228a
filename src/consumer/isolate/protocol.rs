//! The protocol between a consumer and its decoder process. A frame is a length (4 bytes, little-endian) and JSON.
//! The body follows the order, and the PNG follows `Report::Done`, both as plain bytes.
//!
//! consumer: order, body ─▶ decoder: `Ready`, `Needs` ─▶ consumer: one byte ─▶ decoder: `Done`, PNG.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api::destination::S3Destination;
use crate::api::image::ImageSettings;
use crate::api::message::MessageFormat;
use crate::consumer::settle::Refusal;

/// The longest JSON of a frame, in bytes. The JSON contains the headers of a message, but not the body.
pub const MAX_FRAME: u32 = 16 << 20;

/// The byte that the consumer sends once it has reserved the memory for the image.
pub const GO: u8 = 1;

/// Bytes for the decoder process itself (a few MiB) and the decoder's tables.
const MARGIN: u64 = 32 << 20;

/// Seconds that each of the two phases may take, in addition to the seconds for its bytes.
pub const SECONDS: u64 = 60;

/// Bytes per second that even a very slow CPU processes. Usual CPUs process fifty times as many.
const BYTES_A_SECOND: u64 = 1 << 20;

/// The parts of an assignment that decoding and encoding depend on.
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

/// One message without its body.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct Order {
    pub settings: Settings,
    /// The AMQP property `timestamp`, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// The headers that the decoder reads.
    pub headers: BTreeMap<String, String>,
    /// The length of the body that follows the frame.
    pub body_bytes: u64,
}

/// The decoder process's reports to the consumer.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub enum Report {
    /// The limits are set. If the process ends after this report, the message is usually the cause.
    Ready,
    /// The image's header is read; decoding it needs this many bytes of memory. The process waits for `GO`.
    Needs(u64),
    /// The PNG follows.
    Done {
        /// The object key.
        key: String,
        /// The digest of the pixels.
        digest: [u8; 32],
        /// The length of the PNG.
        bytes: u64,
    },
    /// The message can never succeed.
    Refused(Refusal),
    Panicked,
}

/// The memory limit, in bytes, while a body of this length and the header of its image are read: the body, its image,
/// and a copy of one of them.
pub fn memory_for_body(bytes: u64) -> u64 {
    bytes.saturating_mul(3).saturating_add(MARGIN)
}

/// The memory limit, in bytes, while an image is decoded that needs `needs` bytes by its header. Allows a quarter
/// more, because the header does not determine the decoder's use exactly, and a valid image must not fail at the
/// limit.
pub fn memory_for_image(needs: u64) -> u64 {
    needs.saturating_add(needs / 4).saturating_add(MARGIN)
}

/// Seconds that processing so many bytes may take.
pub fn seconds_for(bytes: u64) -> u64 {
    bytes / BYTES_A_SECOND
}

/// # Errors
/// The JSON is longer than `MAX_FRAME`.
pub fn frame(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a frame is too long"))?;
    Ok([&length.to_le_bytes()[..], &json].concat())
}

/// # Errors
/// The other process has closed its pipe, the frame is longer than `MAX_FRAME`, or the JSON is not a `T`.
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::other("a frame is too long"));
    }
    Ok(serde_json::from_slice(&read_bytes(input, length.into())?)?)
}

/// Reads `length` bytes. Reserves them at the start; the kernel provides the pages as they are written.
///
/// # Errors
/// The other process has closed its pipe before so many bytes.
pub fn read_bytes(input: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
    if input.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

pub fn write(output: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    output.write_all(&frame(value)?)?;
    output.flush()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::reason::Reason;

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
