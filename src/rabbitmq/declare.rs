//! Declares parking queues, and inspects existing queues with declarations that RabbitMQ always rejects.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::error::End;
use super::{Connection, QueueError, short, within};
use crate::reason::Reason;

/// Arguments of a new parking queue, in order of preference. Without a delivery limit, the queue drops no message
/// however often `parked` returns it; with RabbitMQ 4's default limit, it drops a message at its 21st return.
const QUORUM: [&[(&str, Argument)]; 2] = [
    &[("x-queue-type", Argument::Text("quorum")), ("x-delivery-limit", Argument::Number(-1))],
    &[("x-queue-type", Argument::Text("quorum"))],
];

/// An invalid `x-expires`. RabbitMQ's log shows this text with the rejected declaration.
const LOOK: &str = "image-pipeline only looks";

#[derive(Clone, Copy)]
enum Argument {
    Text(&'static str),
    Number(i32),
}

/// What a rejected declaration reveals about a queue.
#[derive(Debug, Eq, PartialEq)]
enum Refusal {
    Ends(End),
    Stream,
    /// Nothing that concerns this module.
    Other,
}

/// Whether a broker supports quorum queues.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum QuorumQueues {
    /// Supported, as far as is known.
    #[default]
    Offered,
    /// Not supported.
    Missing,
}

impl Connection {
    /// Declares a durable queue if it does not exist: a quorum queue if the broker supports them, else a classic queue.
    /// An existing queue is used unchanged, whatever its type and arguments.
    ///
    /// # Errors
    /// The broker rejects the declaration, or a timeout. If the error `is_no_quorum`, RabbitMQ has closed the
    /// connection: repeat on a new connection with `QuorumQueues::Missing`.
    pub async fn ensure_queue(&self, queue: &str, quorum: QuorumQueues) -> Result<(), QueueError> {
        match self.depth(queue).await {
            Err(error) if error.is_queue_not_found() => {}
            found => return found.map(drop),
        }
        if quorum == QuorumQueues::Offered {
            for arguments in QUORUM {
                match self.declare(queue, table(arguments)).await {
                    // The broker does not support the queue type or argument, or another consumer declared the queue.
                    Err(error) if error.is_precondition() => {}
                    declared => return declared,
                }
            }
        }
        self.declare(queue, FieldTable::default()).await
    }

    /// Fails if the broker will delete the queue with its messages, or if the queue is a stream.
    ///
    /// Sends a declaration that creates nothing: its `x-expires` is not a number, so RabbitMQ rejects it as invalid for
    /// a new queue, and for an existing queue reports the first property or argument that differs (RabbitMQ 3.10, 4.0
    /// and 4.3 alike). The rejection appears in RabbitMQ's log. Policies are not detected, and neither is anything if
    /// the user lacks the configure permission.
    ///
    /// # Errors
    /// The queue is temporary, is a stream or exclusive to another connection; or a timeout.
    pub async fn ensure_lasting(&self, queue: &str) -> Result<(), QueueError> {
        match self.declare(queue, table(&[("x-expires", Argument::Text(LOOK))])).await {
            Err(error) if error.is_precondition() => match read(error.found()) {
                Refusal::Ends(end) => Err(QueueError::temporary(queue, &end)),
                Refusal::Stream => Err(QueueError::stream(queue)),
                Refusal::Other => Ok(()),
            },
            Err(error) if error.lacks_permission() => Ok(()),
            declared => declared,
        }
    }

    /// Fails only if the queue is a stream.
    pub async fn ensure_no_stream(&self, queue: &str) -> Result<(), QueueError> {
        match self.ensure_lasting(queue).await {
            Err(error) if error.reason() == Reason::StreamNotSupported => Err(error),
            _ => Ok(()),
        }
    }

    async fn declare(&self, queue: &str, arguments: FieldTable) -> Result<(), QueueError> {
        let channel = self.channel().await?;
        within("declaring the queue", async {
            let declared = channel.inner.queue_declare(short(queue)?, QueueDeclareOptions::durable(), arguments).await;
            declared.map(drop).map_err(|error| QueueError::on_queue(queue, &error))
        })
        .await
    }
}

fn read(refusal: &str) -> Refusal {
    let argument = refusal.split_once("inequivalent arg '").and_then(|(_, rest)| rest.split_once('\''));
    let Some((argument, rest)) = argument else { return Refusal::Other };
    let current = rest.rsplit_once("current is ").map_or("", |(_, current)| current);
    let value = current.trim_start_matches("the value ").trim_start_matches('\'');
    match (argument, value.split_once('\'').map_or(value, |(value, _)| value)) {
        ("auto_delete", "true") => Refusal::Ends(End::LastConsumer),
        ("durable", "false") => Refusal::Ends(End::Restart),
        ("x-expires", milliseconds) if milliseconds != "none" => Refusal::Ends(End::Unused(milliseconds.to_owned())),
        ("x-queue-type", "stream") => Refusal::Stream,
        _ => Refusal::Other,
    }
}

fn table(arguments: &[(&str, Argument)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString((*text).into()),
            Argument::Number(number) => AMQPValue::LongInt(*number),
        };
        table.insert((*key).into(), value);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_declaration_reports_what_ends_a_queue() {
        let of = |argument: &str, rest: &str| {
            read(&format!("PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/': {rest}"))
        };
        let unused = || Refusal::Ends(End::Unused("600000".to_owned()));
        for (argument, rest, expected) in [
            ("auto_delete", "received 'false' but current is 'true'", Refusal::Ends(End::LastConsumer)),
            ("durable", "received 'true' but current is 'false'", Refusal::Ends(End::Restart)),
            ("x-expires", "received 'never' but current is '600000'", unused()),
            ("x-expires", "received none but current is the value '600000' of type 'signedint'", unused()),
            ("x-expires", "received the value 'never' of type 'longstr' but current is none", Refusal::Other),
            ("x-queue-type", "received 'classic' but current is 'stream'", Refusal::Stream),
            ("x-queue-type", "received none but current is the value 'stream' of type 'longstr'", Refusal::Stream),
            ("x-max-length", "received none but current is the value '5' of type 'signedint'", Refusal::Other),
        ] {
            assert_eq!(of(argument, rest), expected, "{argument} {rest}");
        }
        assert_eq!(read("PRECONDITION_FAILED - another broker's words"), Refusal::Other);
    }
}
