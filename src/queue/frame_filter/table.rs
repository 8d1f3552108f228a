//! Walks the properties and tables of AMQP 0-9-1 by a loop, as `amq-protocol` parses them by recursion. Pure.
//! What this accepts nests at most `MOST_LEVELS` deep and has UTF-8 wherever the parser demands it.

/// Tables and arrays in each other, the outermost included. Neither RabbitMQ nor its clients nest more than a few.
pub const MOST_LEVELS: usize = 32;

/// Why properties or a table can't be parsed. `at` counts bytes from their beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The parser would call itself once for each level.
    #[error("tables or arrays nest more than {MOST_LEVELS} deep (byte {at})")]
    TooDeep {
        /// Where the level too many begins.
        at: usize,
    },
    /// RabbitMQ passes short strings on without a look at their encoding.
    #[error("{what} is not UTF-8 (byte {at})")]
    NotUtf8 {
        /// Which text.
        what: &'static str,
        /// Where it begins.
        at: usize,
    },
    /// A type that `amq-protocol` does not know.
    #[error("the value of a header has the unknown type {byte:#04x} (byte {at})")]
    UnknownType {
        /// The type's code.
        byte: u8,
        /// Where it stands.
        at: usize,
    },
    /// A length leads beyond the end of what holds it.
    #[error("a length leads beyond the end (byte {at})")]
    CutOff {
        /// Where the bytes that are missing would begin.
        at: usize,
    },
    /// There are bytes behind the last property.
    #[error("bytes follow the last property (byte {at})")]
    Rest {
        /// Where they begin.
        at: usize,
    },
}

enum Kind {
    Text,
    Table,
    Bytes(usize),
}

/// The properties of class basic (AMQP 0-9-1, 1.8) in the order of their flags, from bit 15 down.
const PROPERTIES: [(&str, Kind); 14] = [
    ("content_type", Kind::Text),
    ("content_encoding", Kind::Text),
    ("headers", Kind::Table),
    ("delivery_mode", Kind::Bytes(1)),
    ("priority", Kind::Bytes(1)),
    ("correlation_id", Kind::Text),
    ("reply_to", Kind::Text),
    ("expiration", Kind::Text),
    ("message_id", Kind::Text),
    ("timestamp", Kind::Bytes(8)),
    ("type", Kind::Text),
    ("user_id", Kind::Text),
    ("app_id", Kind::Text),
    ("cluster_id", Kind::Text),
];

/// Walks the properties of a content header: what follows class, weight and body size. Of `whole` bytes, the last may
/// be missing in `bytes`.
///
/// # Errors
/// The first reason why they can't be parsed.
pub fn properties(bytes: &[u8], whole: usize) -> Result<(), Fault> {
    let mut walk = Walk { bytes, at: 0 };
    let flags = u16::from_be_bytes(walk.array(whole)?);
    for (bit, (name, kind)) in (0..16).rev().zip(&PROPERTIES) {
        match kind {
            _ if flags & 1 << bit == 0 => {}
            Kind::Text => walk.text(name, whole)?,
            Kind::Table => walk.table(whole)?,
            Kind::Bytes(length) => drop(walk.take(*length, whole)?),
        }
    }
    if walk.at < whole { Err(Fault::Rest { at: walk.at }) } else { Ok(()) }
}

/// Walks one table, at the beginning of `bytes`.
///
/// # Errors
/// The first reason why it can't be parsed.
pub fn table(bytes: &[u8]) -> Result<(), Fault> {
    Walk { bytes, at: 0 }.table(bytes.len())
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A table or an array that is being walked.
struct Level {
    end: usize,
    named: bool,
}

impl<'a> Walk<'a> {
    fn take(&mut self, length: usize, end: usize) -> Result<&'a [u8], Fault> {
        let cut_off = Fault::CutOff { at: self.at };
        let next = self.at.checked_add(length).filter(|next| *next <= end).ok_or(cut_off)?;
        let taken = self.bytes.get(self.at..next).ok_or(cut_off)?;
        self.at = next;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, end: usize) -> Result<[u8; N], Fault> {
        let cut_off = Fault::CutOff { at: self.at };
        self.take(N, end)?.try_into().map_err(|_| cut_off)
    }

    fn length(&mut self, end: usize) -> Result<usize, Fault> {
        let cut_off = Fault::CutOff { at: self.at };
        usize::try_from(u32::from_be_bytes(self.array(end)?)).map_err(|_| cut_off)
    }

    fn text(&mut self, what: &'static str, end: usize) -> Result<(), Fault> {
        let [length] = self.array(end)?;
        let at = self.at;
        let text = self.take(length.into(), end)?;
        std::str::from_utf8(text).map(drop).map_err(|_| Fault::NotUtf8 { what, at })
    }

    fn table(&mut self, within: usize) -> Result<(), Fault> {
        let mut levels = Vec::with_capacity(4);
        self.enter(true, within, &mut levels)?;
        while let Some(&Level { end, named }) = levels.last() {
            if self.at == end {
                levels.pop();
                continue;
            }
            if named {
                self.text("the name of a header", end)?;
            }
            let at = self.at;
            let [kind] = self.array(end)?;
            match kind {
                b't' | b'b' | b'B' => drop(self.take(1, end)?),
                b's' | b'U' | b'u' => drop(self.take(2, end)?),
                b'I' | b'i' | b'f' => drop(self.take(4, end)?),
                b'L' | b'l' | b'd' | b'T' => drop(self.take(8, end)?),
                b'D' => drop(self.take(5, end)?),
                b'S' | b'x' => {
                    let length = self.length(end)?;
                    self.take(length, end)?;
                }
                b'A' => self.enter(false, end, &mut levels)?,
                b'F' => self.enter(true, end, &mut levels)?,
                b'V' => {}
                byte => return Err(Fault::UnknownType { byte, at }),
            }
        }
        Ok(())
    }

    fn enter(&mut self, named: bool, within: usize, levels: &mut Vec<Level>) -> Result<(), Fault> {
        let at = self.at;
        if levels.len() == MOST_LEVELS {
            return Err(Fault::TooDeep { at });
        }
        let length = self.length(within)?;
        let end = self.at.checked_add(length).filter(|end| *end <= within).ok_or(Fault::CutOff { at })?;
        levels.push(Level { end, named });
        Ok(())
    }
}
