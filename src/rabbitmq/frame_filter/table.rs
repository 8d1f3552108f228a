//! Validates AMQP 0-9-1 properties and tables iteratively, since `amq-protocol` parses them recursively. Pure. Accepted
//! values nest at most `MOST_LEVELS` deep, and are UTF-8 where the parser requires it.

/// Maximum nesting of tables and arrays, including the outermost. RabbitMQ and its clients nest a few levels only.
pub const MOST_LEVELS: usize = 32;

/// Why properties or a table are rejected. `at` is a byte offset from their beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TableFault {
    /// The parser recurses once per level.
    #[error("tables or arrays nest more than {MOST_LEVELS} deep (byte {at})")]
    TooDeep {
        /// Where the level that exceeds the limit begins.
        at: usize,
    },
    /// RabbitMQ forwards short strings without checking their encoding.
    #[error("{what} is not UTF-8 (byte {at})")]
    NotUtf8 {
        /// Name of the string.
        what: &'static str,
        /// Where the string begins.
        at: usize,
    },
    /// A type that `amq-protocol` does not know.
    #[error("the value of a header has the unknown type {byte:#04x} (byte {at})")]
    UnknownType {
        /// The type's code.
        byte: u8,
        /// Where the code is.
        at: usize,
    },
    /// A length exceeds the end of its container.
    #[error("a length exceeds the end (byte {at})")]
    CutOff {
        /// Where the missing bytes would begin.
        at: usize,
    },
    #[error("bytes follow the last property (byte {at})")]
    Rest { at: usize },
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

/// Validates the properties of a content header: the bytes after class, weight and body size. `whole` is their length;
/// `bytes` may lack the end.
///
/// # Errors
/// The first fault.
pub fn properties(bytes: &[u8], whole: usize) -> Result<(), TableFault> {
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
    if walk.at < whole { Err(TableFault::Rest { at: walk.at }) } else { Ok(()) }
}

/// Validates the table at the beginning of `bytes`.
///
/// # Errors
/// The first fault.
pub fn table(bytes: &[u8]) -> Result<(), TableFault> {
    Walk { bytes, at: 0 }.table(bytes.len())
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Container {
    /// Each value follows its name.
    Table,
    Array,
}

/// An open table or array.
struct Level {
    end: usize,
    container: Container,
}

impl<'a> Walk<'a> {
    fn take(&mut self, length: usize, end: usize) -> Result<&'a [u8], TableFault> {
        let cut_off = TableFault::CutOff { at: self.at };
        let next = self.at.checked_add(length).filter(|next| *next <= end).ok_or(cut_off)?;
        let taken = self.bytes.get(self.at..next).ok_or(cut_off)?;
        self.at = next;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, end: usize) -> Result<[u8; N], TableFault> {
        let cut_off = TableFault::CutOff { at: self.at };
        self.take(N, end)?.try_into().map_err(|_| cut_off)
    }

    fn length(&mut self, end: usize) -> Result<usize, TableFault> {
        let cut_off = TableFault::CutOff { at: self.at };
        usize::try_from(u32::from_be_bytes(self.array(end)?)).map_err(|_| cut_off)
    }

    fn text(&mut self, what: &'static str, end: usize) -> Result<(), TableFault> {
        let [length] = self.array(end)?;
        let at = self.at;
        let text = self.take(length.into(), end)?;
        std::str::from_utf8(text).map(drop).map_err(|_| TableFault::NotUtf8 { what, at })
    }

    fn table(&mut self, within: usize) -> Result<(), TableFault> {
        let mut levels = Vec::with_capacity(4);
        self.enter(Container::Table, within, &mut levels)?;
        while let Some(&Level { end, container }) = levels.last() {
            if self.at == end {
                levels.pop();
                continue;
            }
            if container == Container::Table {
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
                b'A' => self.enter(Container::Array, end, &mut levels)?,
                b'F' => self.enter(Container::Table, end, &mut levels)?,
                b'V' => {}
                byte => return Err(TableFault::UnknownType { byte, at }),
            }
        }
        Ok(())
    }

    fn enter(&mut self, container: Container, within: usize, levels: &mut Vec<Level>) -> Result<(), TableFault> {
        let at = self.at;
        if levels.len() == MOST_LEVELS {
            return Err(TableFault::TooDeep { at });
        }
        let length = self.length(within)?;
        let end = self.at.checked_add(length).filter(|end| *end <= within).ok_or(TableFault::CutOff { at })?;
        levels.push(Level { end, container });
        Ok(())
    }
}
