//! Reads the address and login of RabbitMQ from Secrets: the keys that RabbitMQ's operators write, those of a service
//! binding, and those that users write by hand. Pure: the caller reads the Secrets, as objects or as mounted files.
//! `Debug` and errors show no password and no key (tests hold this).

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::api::names::SecretRole;
use crate::api::source::{BrokerTls, RabbitmqSource};
use crate::reason::Reason;

mod uri;

use uri::Uri;

const DEFAULT_PORT: u16 = 5672;
const DEFAULT_TLS_PORT: u16 = 5671;

/// Address and login of a RabbitMQ broker. Equal addresses can share a connection.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct BrokerAddress {
    /// Host name or IP address.
    pub host: String,
    pub port: u16,
    pub vhost: String,
    /// User name. Empty: the client certificate names the user (SASL EXTERNAL).
    pub username: String,
    /// Password. Empty if the user name is empty.
    pub password: String,
    /// TLS settings; `None`: plain TCP.
    pub tls: Option<Tls>,
}

/// Key material for TLS, in PEM that was parsed successfully.
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct Tls {
    /// CA certificates to trust in addition to the system's.
    pub authorities: Option<Vec<u8>>,
    /// Client certificate.
    pub certificate: Option<ClientCertificate>,
}

/// A client certificate and its private key, in PEM.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct ClientCertificate {
    /// The certificate, followed by the intermediate certificates.
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
}

/// A Secret that does not give an address or login.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("the Secret of {} {problem}", role.field())]
pub struct Invalid {
    pub role: SecretRole,
    pub problem: Problem,
}

/// What is wrong with a Secret.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    /// The Secret has none of the listed keys, or does not exist.
    #[error("is missing, or has none of the keys {0}; create it, or correct the field")]
    Absent(String),
    /// The named key is absent or empty.
    #[error("needs the key {0}, which is missing or empty; supported keys: {1}")]
    Missing(&'static str, String),
    #[error("has a key {0} that is not UTF-8 text")]
    NotText(&'static str),
    #[error("has a key port that is not a number between 1 and 65535")]
    Port,
    /// The URI is malformed, or has characters that must be percent-encoded.
    #[error(
        "has a key uri that is not of the form amqp://user:password@host:port; percent-encode all characters except \
         letters, digits, - . _ and ~ (# as %23, @ as %40, / as %2F), or use the keys host, port, username and \
         password, which need no encoding"
    )]
    Uri,
    /// The URI names another virtual host than the resource.
    #[error(
        "has a key uri with the virtual host {uri:?}, but source.rabbitmq.vhost is {field:?}; set both to the same value"
    )]
    Vhost { uri: String, field: String },
    /// The key is not PEM, or holds another kind of object: a CA bundle without certificate, an encrypted key.
    #[error("has a key {0} that holds no {1} in PEM")]
    NotPem(&'static str, &'static str),
}

impl Invalid {
    pub fn reason(&self) -> Reason {
        match self.problem {
            Problem::Absent(_) => Reason::SecretNotFound,
            _ => Reason::SecretInvalid,
        }
    }
}

impl BrokerAddress {
    /// Reads an address from the Secrets of a source; `value` returns the bytes of a key in the Secret of a role.
    /// [`RabbitmqSource`] documents the keys.
    pub fn read(source: &RabbitmqSource, value: impl Fn(SecretRole, &str) -> Option<Vec<u8>>) -> Result<Self, Invalid> {
        let secret = |role| Secret { role, value: &value }.found();
        let credentials = match source.credentials_secret {
            Some(_) => Some(secret(SecretRole::BrokerCredentials)?),
            None => None,
        };
        let tls = source.tls.as_ref().map(|tls| Tls::read(tls, secret)).transpose()?;
        Self::assemble(&source.vhost, &secret(SecretRole::Broker)?, credentials.as_ref(), tls)
    }

    /// Reads an address from a single Secret; `value` returns the bytes of a key.
    pub fn from_secret(vhost: &str, value: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self, Invalid> {
        let value = |_, key: &str| value(key);
        Self::assemble(vhost, &Secret { role: SecretRole::Broker, value: &value }, None, None)
    }

    fn assemble(
        vhost: &str,
        broker: &Secret<'_>,
        credentials: Option<&Secret<'_>>,
        tls: Option<Tls>,
    ) -> Result<Self, Invalid> {
        let host = broker.text("host")?;
        let mut login = credentials.unwrap_or(broker).login()?;
        let mut uri = None;
        if host.is_none() || login.is_none() {
            uri = broker.uri(vhost)?;
        }
        if login.is_none() {
            login = uri.as_mut().and_then(|uri| uri.login.take());
        }
        let certificate = tls.as_ref().is_some_and(|tls| tls.certificate.is_some());
        let (username, password) = match login {
            Some(login) => login,
            None if certificate => Default::default(),
            None => return Err(broker.missing("username")),
        };
        let (host, place) = match (host, uri) {
            (Some(host), _) => (host, None),
            (None, Some(uri)) => (uri.host, Some((uri.port, uri.tls))),
            (None, None) => return Err(broker.missing("host")),
        };
        let (uri_port, uri_tls) = place.unwrap_or_default();
        let tls = tls.or_else(|| uri_tls.then(Tls::default));
        let default = if tls.is_some() { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        let port = broker.port()?.or(uri_port).unwrap_or(default);
        Ok(Self { host, port, vhost: vhost.to_owned(), username, password, tls })
    }
}

impl Tls {
    fn read<'a>(tls: &BrokerTls, secret: impl Fn(SecretRole) -> Result<Secret<'a>, Invalid>) -> Result<Self, Invalid> {
        let mut read = Self::default();
        if tls.ca_secret.is_some() {
            read.authorities = Some(secret(SecretRole::BrokerAuthority)?.certificates("ca.crt")?);
        }
        if tls.client_cert_secret.is_some() {
            let secret = secret(SecretRole::BrokerCertificate)?;
            read.certificate =
                Some(ClientCertificate { chain: secret.certificates("tls.crt")?, key: secret.key("tls.key")? });
        }
        Ok(read)
    }
}

/// The keys that are read from the Secret of a role.
fn keys(role: SecretRole) -> &'static [&'static str] {
    match role {
        SecretRole::Broker => &["host", "port", "username", "password", "uri"],
        SecretRole::BrokerCredentials => &["username", "password"],
        SecretRole::BrokerAuthority => &["ca.crt"],
        SecretRole::BrokerCertificate => &["tls.crt", "tls.key"],
        SecretRole::Store | SecretRole::StoreAuthority => &[],
    }
}

struct Secret<'a> {
    role: SecretRole,
    value: &'a dyn Fn(SecretRole, &str) -> Option<Vec<u8>>,
}

impl Secret<'_> {
    /// Fails if no key exists: the mount of a missing Secret is an empty directory.
    fn found(self) -> Result<Self, Invalid> {
        let keys = keys(self.role);
        if keys.iter().all(|key| self.bytes(key).is_none()) {
            return Err(self.invalid(Problem::Absent(keys.join(", "))));
        }
        Ok(self)
    }

    fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        (self.value)(self.role, key)
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, Invalid> {
        let Some(bytes) = self.bytes(key) else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|_| self.invalid(Problem::NotText(key)))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|text| !text.is_empty()))
    }

    fn port(&self) -> Result<Option<u16>, Invalid> {
        let parse = |port: String| port.parse().ok().filter(|port| *port != 0);
        self.text("port")?.map(|port| parse(port).ok_or_else(|| self.invalid(Problem::Port))).transpose()
    }

    /// User name and password: both or neither.
    fn login(&self) -> Result<Option<(String, String)>, Invalid> {
        match (self.text("username")?, self.text("password")?) {
            (Some(username), Some(password)) => Ok(Some((username, password))),
            (None, None) if self.role == SecretRole::Broker => Ok(None),
            (None, _) => Err(self.missing("username")),
            (_, None) => Err(self.missing("password")),
        }
    }

    fn uri(&self, vhost: &str) -> Result<Option<Uri>, Invalid> {
        let Some(text) = self.text("uri")? else { return Ok(None) };
        let uri = Uri::parse(&text).ok_or_else(|| self.invalid(Problem::Uri))?;
        match uri.vhost.as_deref() {
            None | Some("/") => Ok(Some(uri)),
            Some(same) if same == vhost => Ok(Some(uri)),
            Some(other) => Err(self.invalid(Problem::Vhost { uri: other.to_owned(), field: vhost.to_owned() })),
        }
    }

    fn certificates(&self, key: &'static str) -> Result<Vec<u8>, Invalid> {
        let pem = self.bytes(key).filter(|pem| !pem.is_empty()).ok_or_else(|| self.missing(key))?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(pem),
            _ => Err(self.invalid(Problem::NotPem(key, "certificate"))),
        }
    }

    fn key(&self, key: &'static str) -> Result<Vec<u8>, Invalid> {
        let pem = self.bytes(key).filter(|pem| !pem.is_empty()).ok_or_else(|| self.missing(key))?;
        match PrivateKeyDer::from_pem_slice(&pem) {
            Ok(_) => Ok(pem),
            Err(_) => Err(self.invalid(Problem::NotPem(key, "unencrypted private key"))),
        }
    }

    fn missing(&self, key: &'static str) -> Invalid {
        self.invalid(Problem::Missing(key, keys(self.role).join(", ")))
    }

    fn invalid(&self, problem: Problem) -> Invalid {
        Invalid { role: self.role, problem }
    }
}

impl std::fmt::Debug for BrokerAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tls = if self.tls.is_some() { " with TLS" } else { "" };
        write!(formatter, "{}@{}:{}/{}{tls}", self.username, self.host, self.port, self.vhost)
    }
}

#[cfg(test)]
mod tests;
