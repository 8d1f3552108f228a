//! What can go wrong with a broker, named: every failure of `lapin` becomes one bounded reason and
//! a sentence for a person. It must never repeat a password, nor a remote text beyond the broker's
//! own AMQP reply.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::broker_address::BrokerAddress;
use crate::reason::Reason;

/// A failure to speak with the broker.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct QueueError {
    reason: Reason,
    message: String,
}

impl QueueError {
    /// The bounded reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether the broker said that there is no such queue.
    pub fn is_queue_not_found(&self) -> bool {
        self.reason == Reason::QueueNotFound
    }

    fn new(reason: Reason, message: String) -> Self {
        Self { reason, message }
    }

    pub(super) fn timed_out(doing: &str) -> Self {
        Self::new(Reason::BrokerUnreachable, format!("the broker did not answer in time while {doing}"))
    }

    pub(super) fn too_long(name: &str) -> Self {
        let message =
            format!("a name has {} bytes and AMQP takes at most 255; shorten queue, vhost or parkingQueue", name.len());
        Self::new(Reason::NameTooLong, message)
    }

    pub(super) fn dns(host: &str, error: &std::io::Error) -> Self {
        let message =
            format!("the broker's host {host:?} can't be resolved ({error}); check host in the broker's Secret");
        Self::new(Reason::DnsFailed, message)
    }

    pub(super) fn not_confirmed(queue: &str) -> Self {
        let message = format!(
            "the broker did not take a message for queue {queue:?}: it does not exist, or is full; create it, or let \
             this user declare it, or raise its limit"
        );
        Self::new(Reason::ParkingRefused, message)
    }

    pub(super) fn connection_lost(detail: &str) -> Self {
        Self::new(Reason::ConnectionLost, detail.to_owned())
    }

    /// A failure while connecting to `address`.
    pub(super) fn connecting(address: &BrokerAddress, error: &lapin::Error) -> Self {
        let BrokerAddress { host, port, vhost, username, .. } = address;
        match code(error) {
            Some(Code::AccessRefused) => {
                let message = format!(
                    "the broker at {host}:{port} refused user {username:?}; \
                     check username and password in the broker's Secret"
                );
                Self::new(Reason::AuthenticationFailed, message)
            }
            Some(Code::NotAllowed | Code::NotFound) => {
                let message = format!(
                    "the broker at {host}:{port} has no virtual host {vhost:?} that user {username:?} may use; \
                     check source.rabbitmq.vhost and the user's permissions"
                );
                Self::new(Reason::VhostNotFound, message)
            }
            _ => {
                let detail = Self::from_lapin(error).message;
                let message = format!("the broker at {host}:{port} can't be reached: {detail}");
                Self::new(Reason::BrokerUnreachable, message)
            }
        }
    }

    /// A failure of something done to `queue`.
    pub(super) fn on_queue(queue: &str, error: &lapin::Error) -> Self {
        match code(error) {
            Some(Code::NotFound) => {
                let message = format!("queue {queue:?} does not exist; create it, or correct source.rabbitmq.queue");
                Self::new(Reason::QueueNotFound, message)
            }
            Some(Code::AccessRefused) => {
                let message = format!("the broker refuses access to queue {queue:?}; check the user's permissions");
                Self::new(Reason::DeclareRefused, message)
            }
            _ => Self::from_lapin(error),
        }
    }

    /// A failure of anything else.
    pub(super) fn from_lapin(error: &lapin::Error) -> Self {
        let message = match error.kind() {
            ErrorKind::ProtocolError(amqp) => format!("the broker closed the session: {}", amqp.get_message()),
            ErrorKind::IOError(io) => io.to_string(),
            ErrorKind::MissingHeartbeatError => "the broker has been silent for two heartbeats".to_owned(),
            _ => error.to_string(),
        };
        Self::new(Reason::ConnectionLost, message)
    }
}

enum Code {
    AccessRefused,
    NotAllowed,
    NotFound,
}

fn code(error: &lapin::Error) -> Option<Code> {
    let ErrorKind::ProtocolError(amqp) = error.kind() else { return None };
    match amqp.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Some(Code::AccessRefused),
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Some(Code::NotFound),
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Some(Code::NotAllowed),
        _ => None,
    }
}
