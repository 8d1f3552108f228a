//! The AMQP 0-9-1 methods that the filter inspects: methods with tables, and methods with strings that other clients
//! wrote. Pure.

/// How the arguments of a method are checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arguments {
    /// Harmless for lapin's parser.
    Plain,
    /// Short strings that may be invalid UTF-8.
    Texts(&'static [Field]),
    /// Connection.Start: has a table.
    Start,
    /// Connection.Tune: has the broker's maximum frame size.
    Tune,
    /// Has a table, and only clients send the method.
    OfClients,
}

/// One argument, or several consecutive arguments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Field {
    /// This number of bytes that are not strings.
    Skip(usize),
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
        // Connection.Close and Channel.Close: RabbitMQ cuts the text at 255 bytes, even within a character.
        (10, 50) | (20, 40) => Arguments::Texts(&[Skip(2), Text]),
        // Connection.Blocked.
        (10, 60) => Arguments::Texts(&[Text]),
        // Basic.Return.
        (60, 50) => Arguments::Texts(&[Skip(2), Text, Text, Text]),
        // Basic.Deliver and Basic.GetOk: the publisher chose exchange and routing key.
        (60, 60) => Arguments::Texts(&[Text, Skip(9), Text, Text]),
        (60, 71) => Arguments::Texts(&[Skip(9), Text, Text]),
        _ => Arguments::Plain,
    }
}

/// Makes the strings valid UTF-8 without changing their lengths: in an invalid string, every byte beyond ASCII becomes
/// `?`. That loses nothing: exchange and routing key of a delivery are not used, and close texts are only displayed.
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
