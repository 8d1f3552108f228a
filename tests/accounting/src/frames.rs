//! AMQP frames out of a stream of bytes, however it is cut. It must never hold a body: only methods
//! and the heads of messages are looked at.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::AMQPClass;

use super::head::Head;

/// Type, channel and length.
const HEAD: usize = 7;

/// The last byte.
const END: usize = 1;

/// What a connection begins with in place of a frame is one longer than a frame's head.
const GREETING_REST: usize = 1;

/// More than any frame that brokers allow, unless they are told to.
const LONGEST: usize = 1 << 20;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const GREETING: u8 = b'A';

/// A frame that matters, with its channel.
pub enum Frame {
    /// A method.
    Method(u16, AMQPClass),
    /// The head of a message.
    Head(u16, Head),
}

/// One direction of a connection.
#[derive(Default)]
pub struct Frames {
    begun: Vec<u8>,
    skipped: usize,
}

impl Frames {
    /// Hears the next bytes and hands on what they complete.
    ///
    /// # Errors
    /// They are no AMQP. What follows must not be heard.
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

    /// How much of what has begun is to be held.
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
