//! Splits a byte stream into AMQP frames, however the bytes are cut. Keeps only methods and content headers, never
//! message bodies.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::AMQPClass;

use super::head::Head;

/// Length of type, channel and size.
const HEAD: usize = 7;

/// Length of the end byte.
const END: usize = 1;

/// The protocol header at the start of a connection is one byte longer than a frame's head.
const GREETING_REST: usize = 1;

/// Larger than any frame that brokers allow by default.
const LONGEST: usize = 1 << 20;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const GREETING: u8 = b'A';

/// A parsed frame, with its channel.
pub enum Frame {
    Method(u16, AMQPClass),
    /// The content header of a message.
    Head(u16, Head),
}

/// One direction of a connection.
#[derive(Default)]
pub struct Frames {
    begun: Vec<u8>,
    skipped: usize,
}

impl Frames {
    /// Parses the next bytes and passes each complete frame to `each`.
    ///
    /// # Errors
    /// The bytes are no AMQP. Do not call `hear` again.
    pub fn hear(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) -> Result<(), String> {
        while !bytes.is_empty() {
            let skipped = self.skipped.min(bytes.len());
            self.skipped -= skipped;
            bytes = &bytes[skipped..];
            let taken = self.wanted()?.saturating_sub(self.begun.len()).min(bytes.len());
            self.begun.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.begun.len() < HEAD || self.begun.len() < self.wanted()? {
                continue;
            }
            match self.begun[0] {
                METHOD => match parse_frame(&self.begun[..]).map_err(|error| format!("a frame: {error:?}"))?.1 {
                    AMQPFrame::Method(channel, method) => each(Frame::Method(channel, method)),
                    other => return Err(format!("{other} as a method")),
                },
                HEADER => {
                    let channel = u16::from_be_bytes([self.begun[1], self.begun[2]]);
                    each(Frame::Head(channel, Head::read(&self.begun[HEAD..self.begun.len() - END])?));
                }
                GREETING => self.skipped = GREETING_REST,
                _ => self.skipped = self.length() + END,
            }
            self.begun.clear();
        }
        Ok(())
    }

    /// Number of bytes of the current frame to keep.
    fn wanted(&self) -> Result<usize, String> {
        if self.begun.len() < HEAD || ![METHOD, HEADER].contains(&self.begun[0]) {
            return Ok(HEAD);
        }
        match self.length() {
            length if length > LONGEST => Err(format!("a frame of {length} bytes")),
            length => Ok(HEAD + length + END),
        }
    }

    fn length(&self) -> usize {
        u32::from_be_bytes([self.begun[3], self.begun[4], self.begun[5], self.begun[6]]) as usize
    }
}
