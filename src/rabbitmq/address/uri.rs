//! Parses the URI of a broker: an AMQP URI, or the URI of RabbitMQ's HTTP API. A URI with unencoded reserved characters
//! is rejected, since part of a password could be taken for the host.

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The parts of a URI. From a URI of the HTTP API, which the Messaging Topology Operator uses, only the host is taken:
/// port, user and TLS are not those of AMQP.
pub(super) struct Uri {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) tls: bool,
    pub(super) login: Option<(String, String)>,
    pub(super) vhost: Option<String>,
}

impl Uri {
    /// `None`: unsupported scheme or form, or reserved characters that are not percent-encoded.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // The Messaging Topology Operator treats an address without a scheme as HTTP.
        let uri = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) }.ok()?;
        // An unencoded # or / ends the host early; the @ is then in the path, query or fragment.
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
