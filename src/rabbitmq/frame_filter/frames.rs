//! Checks the frames that a broker sends, before lapin receives them. Pure, and without a buffer: the caller provides
//! complete frames of methods and content headers; bodies pass unchecked.

use std::sync::{Arc, OnceLock};

use lapin::protocol::basic::parse_properties;
use lapin::types::AMQPValue;
use lapin::types::parsing::parse_field_table;

use super::methods::{Arguments, arguments, make_readable};
use super::{table, unreadable};

/// Maximum frame size before Connection.Tune. RabbitMQ's Connection.Start has less than 1 KiB.
const UNTUNED: usize = 16 << 10;

/// Bytes of type, channel and size, and of the frame-end octet.
const HEAD: usize = 7;
const END: usize = 1;
const FRAME_END: u8 = 0xCE;

/// The lowest maximum frame size that AMQP 0-9-1 allows (frame-min-size).
const FRAME_MIN_MAX: u32 = 4096;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// First byte of a protocol header (`AMQP` and a version), which the broker sends if it supports another version only.
const PROTOCOL_HEADER: u8 = b'A';
const PROTOCOL_HEADER_BYTES: usize = 8;

/// Version of RabbitMQ: major, minor, patch.
pub type Version = (u16, u16, u16);

/// Data that RabbitMQ never sends. It ends the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Another protocol, or frames out of step.
    #[error("it sent a byte that does not begin an AMQP 0-9-1 frame ({0:#04x})")]
    NotAFrame(u8),
    /// lapin parses a frame before it checks its size.
    #[error("it sent a frame of {bytes} bytes; the limit is {most}")]
    TooLarge {
        bytes: u64,
        /// The negotiated maximum, or `UNTUNED` before.
        most: usize,
    },
    /// The octet after the payload is not frame-end (0xCE).
    #[error("it sent a frame without the frame-end octet")]
    NoEnd,
    #[error("it sent a frame too short for its type")]
    TooShort,
    #[error("the table in its Connection.Start can't be parsed: {0}")]
    Start(table::TableFault),
    #[error("it sent a method that only clients send ({class}, {method})")]
    OfClients { class: u16, method: u16 },
}

/// Why checking stopped.
#[derive(Debug, Eq, PartialEq)]
pub enum Next {
    /// All bytes are checked.
    Done,
    /// The next frame is incomplete: this number of its bytes is needed.
    Needs(usize),
    /// The next bytes must be replaced.
    Replaced {
        /// Number of bytes to remove.
        length: usize,
        /// Bytes for lapin in their place.
        by: Vec<u8>,
    },
}

/// Checks the frames of one connection, in the order of arrival.
#[derive(Debug)]
pub struct Frames {
    /// Maximum frame size that this side proposes.
    offered: u32,
    /// Negotiated maximum frame size; `None` before Connection.Tune.
    tuned: Option<usize>,
    /// Remaining bytes of the current frame that pass unchecked.
    passing: usize,
    /// Remaining bytes of the current frame that are dropped.
    dropping: u64,
    version: Arc<OnceLock<Version>>,
}

impl Frames {
    /// `offered` is the maximum frame size that this side proposes, in bytes. `version` is set when the broker sends
    /// it (Connection.Start).
    pub fn new(offered: u32, version: Arc<OnceLock<Version>>) -> Self {
        Self { offered, tuned: None, passing: 0, dropping: 0, version }
    }

    /// Checks `bytes`, which continue where the last call stopped. Returns how many of them may pass to lapin, and what
    /// follows them. May replace invalid characters of strings in place.
    ///
    /// # Errors
    /// RabbitMQ never sends such data.
    pub fn judge(&mut self, bytes: &mut [u8]) -> Result<(usize, Next), Refused> {
        let mut at = 0;
        loop {
            let passing = self.passing.min(bytes.len() - at);
            at += passing;
            self.passing -= passing;
            let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) else { return Ok((at, Next::Done)) };
            if self.dropping > 0 {
                let length = usize::try_from(self.dropping).unwrap_or(usize::MAX).min(rest.len());
                self.dropping -= u64::try_from(length).unwrap_or(u64::MAX);
                return Ok((at, Next::Replaced { length, by: Vec::new() }));
            }
            match self.frame(rest)? {
                Next::Done => {}
                next => return Ok((at, next)),
            }
        }
    }

    fn most(&self) -> usize {
        self.tuned.unwrap_or(UNTUNED)
    }

    /// Checks the frame at the beginning of `bytes`. `Done`: it passes.
    fn frame(&mut self, bytes: &mut [u8]) -> Result<Next, Refused> {
        let kind = match bytes.first() {
            Some(&PROTOCOL_HEADER) => {
                self.passing = PROTOCOL_HEADER_BYTES;
                return Ok(Next::Done);
            }
            Some(&kind @ (METHOD | HEADER | BODY | HEARTBEAT)) => kind,
            Some(&other) => return Err(Refused::NotAFrame(other)),
            None => return Ok(Next::Done),
        };
        let Some((&[_, high, low, ref size @ ..], _)) = bytes.split_first_chunk::<HEAD>() else {
            return Ok(Next::Needs(HEAD));
        };
        let whole = u64::from(u32::from_be_bytes(*size)) + 8;
        let (most, bytes_in_all) = (self.most(), usize::try_from(whole).unwrap_or(usize::MAX));
        if bytes_in_all > most {
            return match (kind, self.tuned) {
                (HEADER, Some(_)) => self.too_large(bytes, [high, low], whole),
                _ => Err(Refused::TooLarge { bytes: whole, most }),
            };
        }
        if matches!(kind, BODY | HEARTBEAT) {
            self.passing = bytes_in_all;
            return Ok(Next::Done);
        }
        let Some(frame) = bytes.get_mut(..bytes_in_all) else { return Ok(Next::Needs(bytes_in_all)) };
        let (FRAME_END, Some(payload)) =
            (frame.last().copied().unwrap_or_default(), frame.get_mut(HEAD..bytes_in_all - END))
        else {
            return Err(Refused::NoEnd);
        };
        let by = if kind == METHOD { self.method(payload)? } else { self.header(payload, [high, low])? };
        Ok(match by {
            Some(by) => Next::Replaced { length: bytes_in_all, by },
            None => {
                self.passing = bytes_in_all;
                Next::Done
            }
        })
    }

    fn method(&mut self, payload: &mut [u8]) -> Result<Option<Vec<u8>>, Refused> {
        let Some((&mut [a, b, c, d], rest)) = payload.split_first_chunk_mut::<4>() else {
            return Err(Refused::TooShort);
        };
        let (class, method) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        match arguments(class, method) {
            Arguments::Plain => {}
            Arguments::Texts(fields) => make_readable(rest, fields),
            Arguments::OfClients => return Err(Refused::OfClients { class, method }),
            // Two octets of protocol version precede the table.
            Arguments::Start => {
                let properties = rest.get(2..).ok_or(Refused::TooShort)?;
                table::table(properties).map_err(Refused::Start)?;
                if let Some(version) = version(properties) {
                    self.version.get_or_init(|| version);
                }
            }
            // channel-max, in two octets, precedes frame-max; 0 means no limit.
            Arguments::Tune => {
                let longest = rest.get(2..6).and_then(|longest| longest.try_into().ok()).ok_or(Refused::TooShort)?;
                let longest = match u32::from_be_bytes(longest) {
                    0 => self.offered,
                    longest => longest.max(FRAME_MIN_MAX).min(self.offered),
                };
                // RabbitMQ sends it once. A second one must not raise the limit.
                self.tuned.get_or_insert(usize::try_from(longest).unwrap_or(UNTUNED));
            }
        }
        Ok(None)
    }

    /// Checks a content header; `Some`: the replacement frame.
    fn header(&self, payload: &[u8], channel: [u8; 2]) -> Result<Option<Vec<u8>>, Refused> {
        let (fixed, properties) = payload.split_first_chunk().ok_or(Refused::TooShort)?;
        // The parser recurses once per level: validate before parsing.
        let parsed = table::properties(properties, properties.len()).is_ok()
            && parse_properties(properties).is_ok_and(|(rest, _)| rest.is_empty());
        let replacement = || {
            let room = unreadable::room(self.most());
            unreadable::replacement(channel, *fixed, properties, properties.len(), room)
        };
        Ok((!parsed).then(replacement))
    }

    /// Replaces a content header that exceeds the maximum frame size, and keeps its first part. RabbitMQ sends such
    /// frames: it adds headers, such as `x-delivery-count`, to those with which a publisher filled the frame.
    fn too_large(&mut self, bytes: &[u8], channel: [u8; 2], whole: u64) -> Result<Next, Refused> {
        let room = unreadable::room(self.most());
        let length = HEAD + unreadable::FIXED + room;
        let Some((fixed, properties)) = bytes.get(HEAD..length).and_then(|kept| kept.split_first_chunk()) else {
            return Ok(Next::Needs(length));
        };
        self.dropping = whole - u64::try_from(length).unwrap_or(whole);
        let all = whole - u64::try_from(HEAD + unreadable::FIXED + END).unwrap_or(whole);
        let all = usize::try_from(all).unwrap_or(usize::MAX);
        Ok(Next::Replaced { length, by: unreadable::replacement(channel, *fixed, properties, all, room) })
    }
}

/// The version in the server properties, if the product is RabbitMQ. The properties must be validated.
fn version(properties: &[u8]) -> Option<Version> {
    let (_, properties) = parse_field_table(properties).ok()?;
    let text = |name: &str| match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => std::str::from_utf8(text.as_bytes()).ok(),
        _ => None,
    };
    (text("product") == Some("RabbitMQ")).then(|| parse_version(text("version")?)).flatten()
}

/// Parses versions such as `4.0.5`, `4.1.0-rc.1` and `3.10.0+2.g1234567`.
fn parse_version(version: &str) -> Option<Version> {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
pub(super) mod tests;
