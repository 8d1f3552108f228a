//! The frames of one direction of one connection, from the broker to the client library, judged before the
//! library sees them. Pure. It must never buffer: whoever reads gives it whole frames of methods and content
//! headers, and lets bodies through without a look.

use std::sync::{Arc, OnceLock};

use lapin::protocol::basic::parse_properties;
use lapin::types::AMQPValue;
use lapin::types::parsing::parse_field_table;

use super::methods::{Arguments, arguments, make_readable};
use super::{table, unreadable};

/// The longest frame before the broker has said how long it makes them (Connection.Tune). RabbitMQ's
/// Connection.Start has less than 1 KiB.
const UNTUNED: usize = 16 << 10;

/// Type, channel and size; and the octet that ends a frame.
const HEAD: usize = 7;
const END: usize = 1;
const FRAME_END: u8 = 0xCE;

/// AMQP 0-9-1 allows no lower bound for the longest frame.
const FRAME_MIN_MAX: u32 = 4096;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// `AMQP` and a version, in place of frames: the broker speaks another.
const PROTOCOL_HEADER: u8 = b'A';
const PROTOCOL_HEADER_BYTES: usize = 8;

/// The version that a RabbitMQ says it is.
pub type Version = (u16, u16, u16);

/// What no RabbitMQ sends. It ends the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Another protocol, or another place in a frame than was thought.
    #[error("it sent a byte that begins no frame of AMQP 0-9-1 ({0:#04x})")]
    NotAFrame(u8),
    /// The client library parses a frame before it looks at its size.
    #[error("it sent a frame of {bytes} bytes, and {most} is the most")]
    TooLarge {
        /// The frame's size.
        bytes: u64,
        /// The size that was agreed, or that is usual before.
        most: usize,
    },
    /// The octet behind the payload is another.
    #[error("it sent a frame without its end")]
    NoEnd,
    /// Too short to have what every frame of its type has.
    #[error("it sent a frame too short for its type")]
    TooShort,
    /// Its table is nested, or broken.
    #[error("the table in its Connection.Start can't be read: {0}")]
    Start(table::Fault),
    /// A method of clients.
    #[error("it sent a method that only clients send ({class}, {method})")]
    OfClients {
        /// The method's class.
        class: u16,
        /// Its number.
        method: u16,
    },
}

/// Where judging stopped.
#[derive(Debug, Eq, PartialEq)]
pub enum Next {
    /// At the end of the bytes.
    Done,
    /// Before a frame that is judged as a whole, or whose head is not whole: so many bytes of it are needed.
    Needs(usize),
    /// Before so many bytes that others take the place of.
    Replaced {
        /// How many.
        length: usize,
        /// What the client library is given.
        by: Vec<u8>,
    },
}

/// Judges frames as they come.
#[derive(Debug)]
pub struct Frames {
    /// The longest frame that this side offers.
    offered: u32,
    /// The longest frame now; `None`: the broker has not said.
    tuned: Option<usize>,
    /// Bytes of a frame that pass without a look.
    passing: usize,
    /// Bytes of a frame that the client library does not get.
    dropping: u64,
    version: Arc<OnceLock<Version>>,
}

impl Frames {
    /// For a connection where this side offers frames of at most `offered` bytes. `version` is set once the broker
    /// has said it.
    pub fn new(offered: u32, version: Arc<OnceLock<Version>>) -> Self {
        Self { offered, tuned: None, passing: 0, dropping: 0, version }
    }

    /// Judges `bytes`, which continue where the last call stopped. So many of them may be given to the client
    /// library, and then comes what is told beside. Texts in them may be changed.
    ///
    /// # Errors
    /// No RabbitMQ sends this.
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

    /// Judges the frame at the beginning of `bytes`. `Done`: it passes.
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
            // Two octets of version before the table.
            Arguments::Start => {
                let properties = rest.get(2..).ok_or(Refused::TooShort)?;
                table::table(properties).map_err(Refused::Start)?;
                if let Some(version) = version(properties) {
                    self.version.get_or_init(|| version);
                }
            }
            // The most channels, in two octets, before the longest frame: 0 is for as long as you like.
            Arguments::Tune => {
                let longest = rest.get(2..6).and_then(|longest| longest.try_into().ok()).ok_or(Refused::TooShort)?;
                let longest = match u32::from_be_bytes(longest) {
                    0 => self.offered,
                    longest => longest.max(FRAME_MIN_MAX).min(self.offered),
                };
                self.tuned = Some(usize::try_from(longest).unwrap_or(UNTUNED));
            }
        }
        Ok(None)
    }

    /// Judges a content header; `Some`: the frame in its place.
    fn header(&self, payload: &[u8], channel: [u8; 2]) -> Result<Option<Vec<u8>>, Refused> {
        let (fixed, properties) = payload.split_first_chunk().ok_or(Refused::TooShort)?;
        // The parser calls itself for every level, so it is given nothing that was not walked before.
        let parsed = table::properties(properties, properties.len()).is_ok()
            && parse_properties(properties).is_ok_and(|(rest, _)| rest.is_empty());
        let replacement = || {
            let room = unreadable::room(self.most());
            unreadable::replacement(channel, *fixed, properties, properties.len(), room)
        };
        Ok((!parsed).then(replacement))
    }

    /// A content header that is longer than a frame may be, which RabbitMQ sends: it adds headers of its own
    /// (`x-delivery-count`, for one) to those that a publisher filled its frame with. The first part is kept.
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

/// The version in the properties of a server that calls itself RabbitMQ. They must have been walked.
fn version(properties: &[u8]) -> Option<Version> {
    let (_, properties) = parse_field_table(properties).ok()?;
    let text = |name: &str| match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => std::str::from_utf8(text.as_bytes()).ok(),
        _ => None,
    };
    (text("product") == Some("RabbitMQ")).then(|| parse_version(text("version")?)).flatten()
}

/// `4.0.5`, `4.1.0-rc.1`, `3.10.0+2.g1234567`.
fn parse_version(version: &str) -> Option<Version> {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
pub(super) mod tests;
