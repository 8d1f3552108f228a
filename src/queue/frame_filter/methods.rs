//! What the filter knows of AMQP 0-9-1's methods: which have tables, and where a broker sends texts that others
//! wrote. Pure.

/// How the arguments of a method are judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arguments {
    /// Nothing in them can hurt a parser that is given one frame.
    Plain,
    /// Short strings that may not be UTF-8.
    Texts(&'static [Field]),
    /// Connection.Start: a table.
    Start,
    /// Connection.Tune: the broker's longest frame.
    Tune,
    /// They have a table, and no broker sends them.
    OfClients,
}

/// One argument, or several in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Field {
    /// So many bytes that are no text.
    Skip(usize),
    /// A short string.
    Text,
}

use Field::{Skip, Text};

/// The arguments of a method, by its class and number (AMQP 0-9-1, 1.4 to 1.8, and RabbitMQ's extensions).
pub fn arguments(class: u16, method: u16) -> Arguments {
    match (class, method) {
        (10, 10) => Arguments::Start,
        (10, 30) => Arguments::Tune,
        // Connection.StartOk, Exchange.Declare, Bind and Unbind, Queue.Declare, Bind and Unbind, Basic.Consume.
        (10, 11) | (40, 10 | 30 | 40) | (50, 10 | 20 | 50) | (60, 20) => Arguments::OfClients,
        // Connection.Close and Channel.Close: RabbitMQ cuts its text at 255 bytes, inside of a character too.
        (10, 50) | (20, 40) => Arguments::Texts(&[Skip(2), Text]),
        // Connection.Blocked.
        (10, 60) => Arguments::Texts(&[Text]),
        // Basic.Return.
        (60, 50) => Arguments::Texts(&[Skip(2), Text, Text, Text]),
        // Basic.Deliver and Basic.GetOk: exchange and routing key are the publisher's.
        (60, 60) => Arguments::Texts(&[Text, Skip(9), Text, Text]),
        (60, 71) => Arguments::Texts(&[Skip(9), Text, Text]),
        _ => Arguments::Plain,
    }
}

/// Makes the texts UTF-8: in one that is not, every byte beyond ASCII becomes `?`. Lengths stay. The product
/// uses no routing key and no exchange of a delivery, and shows what a broker says as well as it can.
pub fn make_readable(mut arguments: &mut [u8], fields: &[Field]) {
    for field in fields {
        let (length, skipped) = match (field, arguments.first()) {
            (Skip(length), _) => (*length, 0),
            (Text, Some(length)) => (usize::from(*length), 1),
            (Text, None) => return,
        };
        let Some((text, rest)) = arguments.get_mut(skipped..).and_then(|rest| rest.split_at_mut_checked(length)) else {
            return;
        };
        if matches!(field, Text) && std::str::from_utf8(text).is_err() {
            text.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
        }
        arguments = rest;
    }
}
