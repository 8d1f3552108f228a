//! A broker's URI, of AMQP or of the HTTP API. It must never guess where a part of it ends: what is
//! not encoded as it must be is refused, since a piece of a password would be taken for a host.

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// What a URI says. One of the HTTP API, as RabbitMQ's topology operator takes it, says the host
/// alone: its port, its user and its TLS are not AMQP's.
pub(super) struct Uri {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) tls: bool,
    pub(super) login: Option<(String, String)>,
    pub(super) vhost: Option<String>,
}

impl Uri {
    /// `None`: not of a form that is taken, or not encoded as it must be.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // The topology operator takes an address without a scheme as one of HTTP.
        let uri = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) }.ok()?;
        // A # or a / that was not encoded ends the host early; what should have followed it still
        // has the @.
        if uri.fragment().is_some() || uri.path().contains('@') || uri.query().is_some_and(|query| query.contains('@'))
        {
            return None;
        }
        let host = match uri.host()? {
            Host::Domain(name) => decoded(name)?,
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let tls = match uri.scheme() {
            "http" | "https" => return Some(Self { host, port: None, tls: false, login: None, vhost: None }),
            "amqp" => false,
            "amqps" => true,
            _ => return None,
        };
        let login = match (uri.username(), uri.password()) {
            ("", _) => None,
            (username, password) => Some((decoded(username)?, decoded(password?)?)),
        };
        let vhost = match uri.path().strip_prefix('/') {
            None | Some("") => None,
            Some(path) => Some(decoded(path)?),
        };
        Some(Self { host, port: uri.port(), tls, login, vhost })
    }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(String::from)
}
