//! Declaring a parking queue, and what a declaration that can't succeed reports about a queue.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::{Connection, QueueError, short, within};
use crate::reason::Reason;

/// The arguments of a new parking queue, the first that the broker takes: a queue that drops nothing however
/// often somebody looks at its messages, or one with the broker's default (RabbitMQ 4 drops a message at its
/// 21st return).
const QUORUM: [&[(&str, Argument)]; 2] = [
    &[("x-queue-type", Argument::Text("quorum")), ("x-delivery-limit", Argument::Number(-1))],
    &[("x-queue-type", Argument::Text("quorum"))],
];

/// The broker's log shows it.
const LOOK: &str = "image-pipeline only looks";

#[derive(Clone, Copy)]
enum Argument {
    Text(&'static str),
    Number(i32),
}

/// What ends a queue together with its messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// Its last consumer goes (`auto_delete`).
    LastConsumer,
    /// So many milliseconds pass without a consumer (`x-expires`).
    Unused(String),
    /// The broker's node restarts (not `durable`).
    Restart,
}

/// What RabbitMQ's refusal of a declaration reports.
#[derive(Debug, Eq, PartialEq)]
enum Refusal {
    Ends(End),
    Stream,
    /// Nothing to report.
    Other,
}

/// Whether a broker has quorum queues.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum QuorumQueues {
    /// It has, as far as is known.
    #[default]
    Offered,
    /// It has none.
    Missing,
}

impl Connection {
    /// Declares a durable queue, a quorum queue where the broker offers them, unless the queue exists: then it is
    /// used as it is, whatever its type and arguments.
    ///
    /// # Errors
    /// The broker refuses the declaration or does not answer. Where the error `is_no_quorum`, the connection is
    /// closed, and the next one has to declare with `QuorumQueues::Missing`.
    pub async fn ensure_queue(&self, queue: &str, quorum: QuorumQueues) -> Result<(), QueueError> {
        match self.depth(queue).await {
            Err(error) if error.is_queue_not_found() => {}
            found => return found.map(drop),
        }
        if quorum == QuorumQueues::Offered {
            for arguments in QUORUM {
                match self.declare(queue, table(arguments)).await {
                    // The broker has no such type of queue or argument, or another consumer was first.
                    Err(error) if error.is_precondition() => {}
                    declared => return declared,
                }
            }
        }
        self.declare(queue, FieldTable::default()).await
    }

    /// Finds out whether the broker will delete a queue with its messages, by a declaration that creates nothing:
    /// its value for `x-expires` is no number, so the broker refuses it for a new queue as invalid, and for an
    /// existing queue names the first property or argument that differs (RabbitMQ 3.10, 4.0 and 4.3 alike). The
    /// refusal is a line in the broker's log. What a policy says stays unknown, and so does everything where the
    /// user may not configure the queue.
    ///
    /// # Errors
    /// The queue is temporary, is a stream or another connection's, or the broker does not answer.
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

    /// Refuses a stream, as `ensure_lasting` does, and nothing else.
    ///
    /// # Errors
    /// The queue is a stream.
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
