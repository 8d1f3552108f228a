//! Errors of the connection to RabbitMQ: maps every failure of `lapin` to a `Reason` and a sentence. Messages contain
//! no password, and of remote text only the broker's AMQP reply.

use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use super::frame_filter::Refused;
use crate::reason::Reason;

mod connecting;

/// Part of RabbitMQ 3's reply to the declaration of a quorum queue if the feature flag is missing.
const FLAG_MISSING: &str = "feature flag is disabled";

/// Parts of RabbitMQ's replies to operations that streams do not support: `basic.consume` with a priority, `basic.get`.
const STREAM: [&str; 2] = ["of queue type rabbit_stream_queue", "not supported by stream queues"];

/// Parts of RabbitMQ's replies if the node of a queue is down; the code is 404, as for a missing queue. RabbitMQ 3:
/// "home node 'rabbit@b' of durable queue 'q' in vhost '/' is down or inaccessible"; RabbitMQ 4: "failed to perform
/// operation on queue 'q' in vhost '/' due to timeout".
const NODE_DOWN: [&str; 2] = ["is down or inaccessible", "due to timeout"];

/// A failure of the connection to RabbitMQ or of an operation on a queue.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct QueueError {
    reason: Reason,
    found: String,
    /// What to do, in terms of ImagePipeline fields; may be empty.
    advice: String,
    kind: Kind,
}

/// What callers distinguish beyond the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Other,
    /// The broker refused username and password.
    Login,
    /// The broker did not answer in time.
    Silence,
    /// The broker rejected arguments or properties of a declaration (`PRECONDITION_FAILED`).
    Precondition,
    NoQuorumQueues,
    /// The broker rejected a published message.
    NotConfirmed,
}

/// The event at which the broker deletes a queue and its messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The last consumer is canceled (`auto_delete`).
    LastConsumer,
    /// The queue is unused for this many milliseconds (`x-expires`).
    Unused(String),
    /// The broker's node restarts (not `durable`).
    Restart,
}

impl std::fmt::Display for QueueError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { found, advice, .. } = self;
        let stop = if advice.is_empty() { "" } else { "; " };
        write!(formatter, "{found}{stop}{advice}")
    }
}

impl QueueError {
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The message without the advice, which names ImagePipeline fields.
    pub fn found(&self) -> &str {
        &self.found
    }

    /// Whether the broker rejected a published message, as opposed to not responding.
    pub fn is_publish_refused(&self) -> bool {
        self.kind == Kind::NotConfirmed || self.reason == Reason::DeclareRefused
    }

    pub fn is_queue_not_found(&self) -> bool {
        self.reason == Reason::QueueNotFound
    }

    /// Whether the broker rejected arguments or properties of a declaration.
    pub(super) fn is_precondition(&self) -> bool {
        self.kind == Kind::Precondition
    }

    pub(super) fn is_timeout(&self) -> bool {
        self.kind == Kind::Silence
    }

    /// Whether the broker does not support quorum queues. In RabbitMQ 3 they need a feature flag; without it, RabbitMQ
    /// closes the connection of a client that declares one.
    pub fn is_no_quorum(&self) -> bool {
        self.kind == Kind::NoQuorumQueues
    }

    pub(super) fn lacks_permission(&self) -> bool {
        self.reason == Reason::DeclareRefused
    }

    /// Adds the name of the Secret that has the login to the advice for a refused login.
    pub fn with_login_secret(mut self, secret: &str) -> Self {
        if self.kind == Kind::Login {
            self.advice = format!("check username and password in Secret {secret:?}");
        }
        self
    }

    fn new(reason: Reason, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { reason, found: found.into(), advice: advice.into(), kind: Kind::Other }
    }

    fn login_refused(found: String) -> Self {
        let advice = "check username and password in the Secret they come from";
        Self { kind: Kind::Login, ..Self::new(Reason::AuthenticationFailed, found, advice) }
    }

    pub(super) fn timed_out(doing: &str) -> Self {
        let found = format!("the broker did not answer in time while {doing}");
        Self { kind: Kind::Silence, ..Self::new(Reason::BrokerUnreachable, found, "") }
    }

    pub(super) fn too_long(name: &str) -> Self {
        let found = format!("a name has {} bytes, and AMQP allows at most 255", name.len());
        Self::new(Reason::NameTooLong, found, "shorten queue, vhost or parkingQueue")
    }

    pub(super) fn not_confirmed(queue: &str) -> Self {
        let found =
            format!("the broker did not accept a message for queue {queue:?}: the queue does not exist, or is full");
        let advice = "create the queue, or allow this user to declare it, or raise its length limit";
        Self { kind: Kind::NotConfirmed, ..Self::new(Reason::ParkingRefused, found, advice) }
    }

    pub(super) fn blocked() -> Self {
        let found = "the broker blocks publishers: it has a memory or disk alarm (rabbitmq-diagnostics alarms)";
        Self::new(Reason::ParkingRefused, found, "give the broker more memory or disk space")
    }

    pub(super) fn slow_confirm(queue: &str, waited: Duration) -> Self {
        let found = format!(
            "the broker has not confirmed a message for queue {queue:?} within {} s; the consumer waits for the \
             confirm and publishes no second copy while the connection lasts",
            waited.as_secs()
        );
        let advice = "check the disks and the nodes of the broker (rabbitmq-queues check_if_node_is_quorum_critical)";
        Self::new(Reason::ParkingRefused, found, advice)
    }

    pub(super) fn unavailable(queue: &str, detail: &str) -> Self {
        let found = format!("queue {queue:?} is unavailable, its node is down: {detail}");
        let advice = "start the node; don't declare the queue again, since that would lose its messages";
        Self::new(Reason::QueueUnavailable, found, advice)
    }

    pub(super) fn stream(queue: &str) -> Self {
        let found = format!("queue {queue:?} is a stream: acknowledged messages stay in it");
        Self::new(Reason::StreamNotSupported, found, "use a quorum or classic queue")
    }

    pub(super) fn temporary(queue: &str, end: &End) -> Self {
        let (when, declare) = match end {
            End::LastConsumer => ("when its last consumer is gone (auto_delete)".to_owned(), "without auto_delete"),
            End::Unused(milliseconds) => {
                (format!("after {milliseconds} ms without a consumer (x-expires)"), "without x-expires")
            }
            End::Restart => ("when its node restarts (not durable)".to_owned(), "durable"),
        };
        let found = format!("the broker deletes queue {queue:?} with its messages {when}");
        Self::new(Reason::QueueTemporary, found, format!("declare the queue {declare}"))
    }

    /// The pipelines of one namespace connect the operator to `limit` brokers already.
    pub fn too_many_brokers(limit: usize) -> Self {
        let found = format!(
            "the pipelines of this namespace have {limit} brokers, counted by address, vhost and login: the limit"
        );
        let advice = "let pipelines share vhost and login, or raise the chart's value brokersPerNamespace";
        Self::new(Reason::ConnectionLimit, found, advice)
    }

    pub(super) fn connection_lost(detail: &str) -> Self {
        Self::new(Reason::ConnectionLost, detail, "")
    }

    /// A failure of an operation on `queue`.
    pub(super) fn on_queue(queue: &str, error: &lapin::Error) -> Self {
        let (Some(code), ErrorKind::ProtocolError(amqp)) = (code(error), error.kind()) else {
            return Self::from_lapin(error);
        };
        let text = amqp.get_message().as_str();
        match code {
            Code::NotFound if NODE_DOWN.iter().any(|words| text.contains(words)) => Self::unavailable(queue, text),
            Code::NotFound => {
                let found = format!("queue {queue:?} does not exist");
                Self::new(Reason::QueueNotFound, found, "create it, or correct source.rabbitmq.queue")
            }
            Code::AccessRefused if text.contains("in exclusive use") => {
                let found = format!("another consumer uses queue {queue:?} exclusively (it consumes with `exclusive`)");
                let advice = "stop that consumer (rabbitmqctl list_consumers), or let it consume without `exclusive`";
                Self::new(Reason::QueueInUse, found, advice)
            }
            Code::ResourceLocked => {
                let found = format!("queue {queue:?} is exclusive to the connection that declared it");
                Self::new(Reason::QueueInUse, found, "declare the queue as durable and without `exclusive`")
            }
            Code::AccessRefused => {
                let found = format!("the broker refuses access to queue {queue:?}");
                Self::new(Reason::DeclareRefused, found, "check the user's permissions")
            }
            Code::NotImplemented | Code::PreconditionFailed if STREAM.iter().any(|words| text.contains(words)) => {
                Self::stream(queue)
            }
            Code::NotAllowed | Code::NotImplemented | Code::PreconditionFailed => Self::from_lapin(error),
        }
    }

    /// A failure of any other operation.
    pub(super) fn from_lapin(error: &lapin::Error) -> Self {
        let found = match error.kind() {
            ErrorKind::ProtocolError(amqp) => format!("the broker closed the session: {}", amqp.get_message()),
            ErrorKind::IOError(io) => match refused(io) {
                Some(refused) => format!("the broker sent data that RabbitMQ never sends: {refused}"),
                None => io.to_string(),
            },
            ErrorKind::ParsingError(_) => {
                "the broker sent data that RabbitMQ never sends: it can't be parsed".to_owned()
            }
            ErrorKind::MissingHeartbeatError => "the broker has been silent for two heartbeats".to_owned(),
            _ => error.to_string(),
        };
        let kind = match code(error) {
            Some(Code::NotImplemented) => Kind::NoQuorumQueues,
            _ if found.contains(FLAG_MISSING) => Kind::NoQuorumQueues,
            Some(Code::PreconditionFailed) => Kind::Precondition,
            _ => Kind::Other,
        };
        Self { kind, ..Self::new(Reason::ConnectionLost, found, "") }
    }
}

/// The frame filter's error, if the frame filter caused `error`.
fn refused(error: &std::io::Error) -> Option<Refused> {
    error.get_ref()?.downcast_ref().copied()
}

enum Code {
    AccessRefused,
    NotAllowed,
    NotFound,
    NotImplemented,
    PreconditionFailed,
    ResourceLocked,
}

fn code(error: &lapin::Error) -> Option<Code> {
    let ErrorKind::ProtocolError(amqp) = error.kind() else { return None };
    match amqp.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Some(Code::AccessRefused),
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Some(Code::NotFound),
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Some(Code::PreconditionFailed),
        AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => Some(Code::ResourceLocked),
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Some(Code::NotAllowed),
        AMQPErrorKind::Hard(AMQPHardError::NOTIMPLEMENTED) => Some(Code::NotImplemented),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_whose_node_is_down_is_not_missing() {
        let answered = |text: &str| {
            let kind = AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND);
            let error = lapin::protocol::AMQPError::new(kind, text.into());
            QueueError::on_queue("q", &ErrorKind::ProtocolError(error).into()).reason()
        };
        for (text, expected) in [
            ("NOT_FOUND - no queue 'q' in vhost '/'", Reason::QueueNotFound),
            (
                "NOT_FOUND - home node 'rabbit@b' of durable queue 'q' in vhost '/' is down or inaccessible",
                Reason::QueueUnavailable,
            ),
            (
                "NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout",
                Reason::QueueUnavailable,
            ),
        ] {
            assert_eq!(answered(text), expected, "{text}");
        }
    }

    #[test]
    fn the_secret_of_a_refused_user_is_named_and_no_other_advice_changed() {
        let refused = QueueError::login_refused("refused user \"u\"".to_owned());
        let named = refused.with_login_secret("rabbit-default-user").to_string();
        assert_eq!(named, "refused user \"u\"; check username and password in Secret \"rabbit-default-user\"");
        let by_certificate = QueueError::new(Reason::AuthenticationFailed, "refused", "create that user");
        assert_eq!(by_certificate.clone().with_login_secret("rabbit-default-user"), by_certificate);
        assert_eq!(QueueError::connection_lost("reset").to_string(), "reset", "no advice");
    }
}
