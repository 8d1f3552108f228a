//! Reads the content header of a message (AMQP 0-9-1, 4.2.6.1) without the library that the product uses. Finds the
//! message's id even if the library could not read the headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ledger::{Id, id_of};

/// Length of class, weight and body size, which precede the properties.
const BEFORE_PROPERTIES: usize = 12;

/// Header of a copy that a consumer publishes to the queue it reads, as encoded in a table, with its length before
/// it.
const RENEWALS: &[u8] = b"\x19x-image-pipeline-renewals";

/// Header with the original properties of a message whose headers could not be read, in base64. Encoded as in a
/// table, because the text of another header may contain the name.
const UNREADABLE: &[u8] = b"\x26x-image-pipeline-unreadable-properties";

/// Type code of a long string in a table.
const LONG_STRING: u8 = b'S';

/// The parts of a content header that the accountant reads.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// The message's number in the ledger, if it has one.
    pub id: Option<Id>,
    /// Whether a consumer published this copy to the queue that it reads.
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
    /// Reads the payload of a content header frame.
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

/// Id of the message with these original properties (base64).
pub fn id_of_original(properties: &[u8]) -> Option<Id> {
    Head::of_properties(&STANDARD.decode(properties).ok()?)?.id
}

/// Id of a message whose header the consumer could not read, from the parked copy.
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
