//! Failures of name resolution, TCP, TLS and login.

use std::net::IpAddr;

use lapin::ErrorKind;

use super::{Code, QueueError, code, refused};
use crate::rabbitmq::address::BrokerAddress;
use crate::rabbitmq::tls;
use crate::reason::Reason;

/// Part of RabbitMQ's replies if a connection limit is reached.
const LIMIT: &str = "connection limit";

impl QueueError {
    pub(in crate::rabbitmq) fn dns(host: &str, error: &std::io::Error) -> Self {
        let found = format!("the broker's host {host:?} can't be resolved ({error})");
        Self::new(Reason::DnsFailed, found, "check host in the broker's Secret")
    }

    /// `why` describes the address, such as "a multicast group".
    pub(in crate::rabbitmq) fn refused_address(host: &str, address: IpAddr, why: &str) -> Self {
        let found =
            format!("the broker's host {host:?} resolves to {address}, {why}, which the operator does not connect to");
        let advice = "set host in the broker's Secret to the name of the broker's Service, or start the operator with \
                      --allow-local-brokers";
        Self::new(Reason::AddressRefused, found, advice)
    }

    /// A failure while connecting to `address`.
    pub(in crate::rabbitmq) fn connecting(address: &BrokerAddress, error: &lapin::Error) -> Self {
        let BrokerAddress { host, port, vhost, .. } = address;
        let user = user(address);
        match (code(error), error.kind()) {
            (Some(Code::AccessRefused), _) => {
                let found = format!("the broker at {host}:{port} refused {user}");
                if !address.username.is_empty() {
                    return Self::login_refused(found);
                }
                let advice = "create that user, and check ssl_cert_login_from in the broker's configuration";
                Self::new(Reason::AuthenticationFailed, found, advice)
            }
            // RabbitMQ's texts: "connection limit (1) is reached", "user connection limit (0) is reached".
            (Some(Code::NotAllowed), ErrorKind::ProtocolError(amqp)) if amqp.get_message().as_str().contains(LIMIT) => {
                let found = format!("the broker at {host}:{port} refused {user}: {}", amqp.get_message());
                let advice = "close unused connections, or raise the limit (rabbitmqctl set_user_limits, \
                              rabbitmqctl set_vhost_limits)";
                Self::new(Reason::ConnectionLimit, found, advice)
            }
            (Some(Code::NotAllowed | Code::NotFound), _) => {
                let found = format!("the broker at {host}:{port} has no virtual host {vhost:?} that {user} may use");
                let advice = "check source.rabbitmq.vhost and the user's permissions";
                Self::new(Reason::VhostNotFound, found, advice)
            }
            (_, ErrorKind::IOError(io)) => Self::connecting_io(address, io),
            (_, ErrorKind::ParsingError(_)) => Self::not_rabbitmq(address, "it sent a method that can't be parsed"),
            (_, ErrorKind::InvalidProtocolVersion(_)) => Self::not_rabbitmq(address, "it uses another version"),
            _ => Self::unreachable(address, &Self::from_lapin(error).found, ""),
        }
    }

    /// Like `connecting`, for errors of TLS and of the operating system.
    pub(in crate::rabbitmq) fn connecting_io(address: &BrokerAddress, error: &std::io::Error) -> Self {
        let BrokerAddress { host, port, .. } = address;
        if let Some(refused) = refused(error) {
            return Self::not_rabbitmq(address, &refused.to_string());
        }
        match tls::explain(address, error) {
            Some((why, advice)) => {
                Self::new(Reason::TlsFailed, format!("TLS with the broker at {host}:{port} failed: {why}"), advice)
            }
            // AMQP has no reply for an unsupported SASL mechanism: the broker just closes the connection.
            None if address.username.is_empty() && tls::closed(error) => {
                let found = format!("the broker at {host}:{port} closes the connection ({error})");
                let advice = "enable the broker's plugin rabbitmq_auth_mechanism_ssl and the SASL mechanism EXTERNAL, or set \
                              a username in the Secret";
                Self::new(Reason::AuthenticationFailed, found, advice)
            }
            None if address.tls.is_none() && tls::closed(error) => {
                let detail = format!("it closes the connection ({error})");
                Self::unreachable(address, &detail, "if the port uses TLS, set source.rabbitmq.tls")
            }
            None => Self::unreachable(address, &error.to_string(), ""),
        }
    }

    fn not_rabbitmq(BrokerAddress { host, port, .. }: &BrokerAddress, detail: &str) -> Self {
        let found = format!("the server at {host}:{port} does not speak plain AMQP 0-9-1: {detail}");
        let advice = "correct host and port in the broker's Secret, or, if the port uses TLS, set source.rabbitmq.tls";
        Self::new(Reason::BrokerUnreachable, found, advice)
    }

    fn unreachable(BrokerAddress { host, port, .. }: &BrokerAddress, detail: &str, advice: &str) -> Self {
        let found = format!("the broker at {host}:{port} can't be reached: {detail}");
        Self::new(Reason::BrokerUnreachable, found, advice)
    }
}

fn user(address: &BrokerAddress) -> String {
    match address.username.as_str() {
        "" => "the user that the client certificate names".to_owned(),
        username => format!("user {username:?}"),
    }
}
