//! The head of a message (AMQP 0-9-1, 4.2.6.1), read without the library that the product reads it with:
//! which message of the ledger it belongs to, also where the library could not read its headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ledger::{Id, id_of};

/// Class, weight and size of the body come before the properties.
const BEFORE_PROPERTIES: usize = 12;

/// The header of a copy that a consumer publishes to the queue it reads, as a table has it: after its length.
const RENEWALS: &[u8] = b"\x19x-image-pipeline-renewals";

/// The header that has the original properties of a message whose headers could not be read, in base64; as a table has
/// it, since a text in the table may name it.
const UNREADABLE: &[u8] = b"\x26x-image-pipeline-unreadable-properties";

/// The type of a text in a table.
const LONG_STRING: u8 = b'S';

/// What the accountant reads in a head.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// The message's number in the ledger, if it carries one.
    pub id: Option<Id>,
    /// A consumer published the message again to the queue that it reads.
    pub is_renewed: bool,
}

/// The properties in the order of their flags, highest bit first.
#[derive(Clone, Copy)]
enum Property {
    Short,
    Table,
    Octet,
    MessageId,
    Timestamp,
}

const PROPERTIES: [Property; 14] = {
    use Property::{MessageId, Octet, Short, Table, Timestamp};
    [Short, Short, Table, Octet, Octet, Short, Short, Short, MessageId, Timestamp, Short, Short, Short, Short]
};

impl Head {
    /// Reads the payload of a frame of type 2.
    ///
    /// # Errors
    /// The payload ends before its properties do.
    pub fn read(payload: &[u8]) -> Result<Self, String> {
        let properties = payload.get(BEFORE_PROPERTIES..).ok_or("a head that is too short")?;
        Self::of_properties(properties).ok_or_else(|| "a head whose properties are cut".to_owned())
    }

    fn of_properties(properties: &[u8]) -> Option<Self> {
        let mut rest = properties;
        let flags = u16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
        let mut head = Self::default();
        let present = |(place, _): &(usize, &Property)| flags & (0x8000 >> place) != 0;
        for (_, property) in PROPERTIES.iter().enumerate().filter(present) {
            match property {
                Property::Octet => drop(take(&mut rest, 1)?),
                Property::Timestamp => drop(take(&mut rest, 8)?),
                Property::Short => drop(short(&mut rest)?),
                Property::MessageId => {
                    let own = std::str::from_utf8(short(&mut rest)?).ok().and_then(id_of);
                    head.id = head.id.or(own);
                }
                Property::Table => {
                    let table = long(&mut rest)?;
                    head.is_renewed = position(table, RENEWALS).is_some();
                    head.id = original(table);
                }
            }
        }
        Some(head)
    }
}

/// The message whose original properties are these, in base64.
pub fn id_of_original(properties: &[u8]) -> Option<Id> {
    Head::of_properties(&STANDARD.decode(properties).ok()?)?.id
}

/// The message whose head the consumer could not read, from the copy that it parked.
fn original(table: &[u8]) -> Option<Id> {
    let mut rest = table.get(position(table, UNREADABLE)? + UNREADABLE.len()..)?;
    if take(&mut rest, 1)? != [LONG_STRING] {
        return None;
    }
    id_of_original(long(&mut rest)?)
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = *take(rest, 1)?.first()?;
    take(rest, length.into())
}

fn long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(take(rest, 4)?.try_into().ok()?);
    take(rest, length as usize)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}
