//! What can go wrong with a broker, named: every failure of `lapin` becomes one bounded reason and
//! a sentence for a person. It must never repeat a password, nor a remote text beyond the broker's
//! own AMQP reply.

use std::net::IpAddr;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use super::tls;
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

    /// `why` says what the address is.
    pub(super) fn refused_address(host: &str, address: IpAddr, why: &str) -> Self {
        let message = format!(
            "the broker's host {host:?} leads to {address}, {why}, which the operator does not dial; give the name of \
             the broker's Service as host in the broker's Secret, or start the operator with --allow-local-brokers"
        );
        Self::new(Reason::AddressRefused, message)
    }

    pub(super) fn not_confirmed(queue: &str) -> Self {
        let message = format!(
            "the broker did not take a message for queue {queue:?}: it does not exist, or is full; create it, or let \
             this user declare it, or raise its limit"
        );
        Self::new(Reason::ParkingRefused, message)
    }

    pub(super) fn blocked() -> Self {
        let message =
            "the broker blocks publishers: it has a memory or disk alarm (rabbitmq-diagnostics alarms); give \
                       it memory or disk space"
                .to_owned();
        Self::new(Reason::ParkingRefused, message)
    }

    pub(super) fn connection_lost(detail: &str) -> Self {
        Self::new(Reason::ConnectionLost, detail.to_owned())
    }

    /// A failure while connecting to `address`.
    pub(super) fn connecting(address: &BrokerAddress, error: &lapin::Error) -> Self {
        let BrokerAddress { host, port, vhost, .. } = address;
        match (code(error), error.kind()) {
            (Some(Code::AccessRefused), _) => {
                let message = format!("the broker at {host}:{port} refused {}", who(address));
                Self::new(Reason::AuthenticationFailed, message)
            }
            (Some(Code::NotAllowed | Code::NotFound), _) => {
                let message = format!(
                    "the broker at {host}:{port} has no virtual host {vhost:?} that {} may use; \
                     check source.rabbitmq.vhost and the user's permissions",
                    user(address)
                );
                Self::new(Reason::VhostNotFound, message)
            }
            (_, ErrorKind::IOError(io)) => Self::connecting_io(address, io),
            (_, ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_)) => {
                let message = format!(
                    "what answers at {host}:{port} does not speak plain AMQP 0-9-1; correct port in the broker's \
                     Secret, or, if TLS is spoken there, set source.rabbitmq.tls"
                );
                Self::new(Reason::BrokerUnreachable, message)
            }
            _ => Self::unreachable(address, &Self::from_lapin(error).message),
        }
    }

    /// As `connecting`, where TLS or the operating system failed.
    pub(super) fn connecting_io(address: &BrokerAddress, error: &std::io::Error) -> Self {
        let BrokerAddress { host, port, .. } = address;
        match tls::explain(address, error) {
            Some(why) => Self::new(Reason::TlsFailed, format!("no TLS with the broker at {host}:{port}: {why}")),
            // The broker has no word for a way to authenticate that it does not know.
            None if address.username.is_empty() && tls::closed(error) => {
                let message = format!(
                    "the broker at {host}:{port} closes the connection ({error}); if it takes no certificate for a \
                     user, enable its plugin rabbitmq_auth_mechanism_ssl and the mechanism EXTERNAL, or give a username"
                );
                Self::new(Reason::AuthenticationFailed, message)
            }
            None if address.tls.is_none() && tls::closed(error) => {
                let detail =
                    format!("it closes the connection ({error}); if TLS is spoken there, set source.rabbitmq.tls");
                Self::unreachable(address, &detail)
            }
            None => Self::unreachable(address, &error.to_string()),
        }
    }

    fn unreachable(BrokerAddress { host, port, .. }: &BrokerAddress, detail: &str) -> Self {
        Self::new(Reason::BrokerUnreachable, format!("the broker at {host}:{port} can't be reached: {detail}"))
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

fn user(address: &BrokerAddress) -> String {
    match address.username.as_str() {
        "" => "the user that the client certificate names".to_owned(),
        username => format!("user {username:?}"),
    }
}

/// Who was refused, and where to look.
fn who(address: &BrokerAddress) -> String {
    let keys = match address.username.as_str() {
        "" => "create that user, and check ssl_cert_login_from in the broker's configuration",
        _ => "check username and password in the Secret they come from",
    };
    format!("{}; {keys}", user(address))
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
