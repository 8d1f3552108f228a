//! How a Secret names a broker: the keys that RabbitMQ's cluster operator writes, and users write
//! by hand. Pure: whoever calls it has read the Secret, as an object or as mounted files.
//! It must never show the password, not even in `Debug`.

use crate::reason::Reason;

/// The keys of a broker's Secret.
pub const KEYS: [&str; 4] = ["host", "port", "username", "password"];

const DEFAULT_PORT: u16 = 5672;

/// A broker and who speaks to it.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct BrokerAddress {
    /// Host name or address.
    pub host: String,
    /// AMQP port.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

/// A Secret that does not name a broker.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// A key is absent or empty.
    #[error("key {0} is missing or empty; the Secret needs host, username and password, and optionally port")]
    Missing(&'static str),
    /// A value is not text.
    #[error("key {0} is not UTF-8 text")]
    NotText(&'static str),
    /// The port is no port.
    #[error("key port is not a number between 1 and 65535")]
    Port,
}

impl Invalid {
    /// The bounded reason.
    pub fn reason(&self) -> Reason {
        Reason::SecretInvalid
    }
}

impl BrokerAddress {
    /// Reads an address from a Secret's keys; `value` gives a key's bytes.
    ///
    /// # Errors
    /// A key that is needed is missing, or a value has the wrong form.
    pub fn from_secret(vhost: &str, value: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self, Invalid> {
        let text = |key: &'static str| -> Result<Option<String>, Invalid> {
            let Some(bytes) = value(key) else { return Ok(None) };
            let text = String::from_utf8(bytes).map_err(|_| Invalid::NotText(key))?;
            Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|text| !text.is_empty()))
        };
        let required = |key: &'static str| text(key)?.ok_or(Invalid::Missing(key));
        let port = match text("port")? {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(Invalid::Port)?,
        };
        Ok(Self {
            host: required("host")?,
            port,
            vhost: vhost.to_owned(),
            username: required("username")?,
            password: required("password")?,
        })
    }
}

impl std::fmt::Debug for BrokerAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}@{}:{}/{}", self.username, self.host, self.port, self.vhost)
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<BrokerAddress, Invalid> {
        BrokerAddress::from_secret("/", |key| {
            pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_bytes().to_vec())
        })
    }

    #[test]
    fn reads_what_the_cluster_operator_writes() {
        let address =
            parse(&[("host", "rabbit.greench.svc"), ("port", "5671"), ("username", "u"), ("password", "p#%/@")]);
        let address = address.expect("valid");
        assert_eq!((address.host.as_str(), address.port), ("rabbit.greench.svc", 5671));
        assert_eq!(address.password, "p#%/@");
        assert_eq!(format!("{address:?}"), "u@rabbit.greench.svc:5671//");
    }

    #[test]
    fn takes_the_trailing_newline_of_a_file_away_and_defaults_the_port() {
        let address = parse(&[("host", "h\n"), ("username", "u\n"), ("password", "p\n")]).expect("valid");
        assert_eq!((address.port, address.password.as_str()), (5672, "p"));
    }

    #[test]
    fn names_the_key_that_is_wrong() {
        assert_eq!(parse(&[("host", "h"), ("username", "u")]), Err(Invalid::Missing("password")));
        assert_eq!(parse(&[("host", ""), ("username", "u"), ("password", "p")]), Err(Invalid::Missing("host")));
        let wrong_port = [("host", "h"), ("port", "0"), ("username", "u"), ("password", "p")];
        assert_eq!(parse(&wrong_port), Err(Invalid::Port));
    }
}
