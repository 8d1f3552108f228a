//! The RabbitMQ options of `publish` and `parked`: options, environment variables, or a directory with the files of a
//! Secret. No option takes a password, since other users of the machine can read command lines.

use std::path::{Path, PathBuf};

use super::address::{BrokerAddress, Problem};
use crate::rabbitmq::QueueError;
use crate::reason::Reason;

/// The environment variable that holds the password.
const PASSWORD_VARIABLE: &str = "BROKER_PASSWORD";

/// Kubernetes, EKS and AKS mount tokens of ServiceAccounts in directories below these. Docker puts files directly here.
const TOKENS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

/// Address of RabbitMQ and login. The password comes from --password-file, from the environment variable
/// BROKER_PASSWORD, or from --broker-secret.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Broker")]
pub struct BrokerArgs {
    /// Host name or IP address of RabbitMQ
    #[arg(long, env = "BROKER_HOST")]
    pub host: Option<String>,
    /// AMQP port of RabbitMQ [default: 5672]
    #[arg(long, env = "BROKER_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// User name
    #[arg(long, env = "BROKER_USERNAME")]
    pub username: Option<String>,
    /// File with the password [default: the environment variable BROKER_PASSWORD]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Directory with the files host, port, username and password, or uri, like a mounted Secret. Other
    /// options and environment variables take precedence
    #[arg(long, value_name = "DIR", env = "BROKER_SECRET")]
    pub broker_secret: Option<PathBuf>,
    /// Virtual host of the queue
    #[arg(long, env = "VHOST", default_value = "/")]
    pub vhost: String,
}

/// The options do not give a complete RabbitMQ address.
#[derive(Debug, thiserror::Error)]
pub enum BrokerArgsError {
    #[error("{path:?} can't be read: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// A user who may start this command in a pod could send the pod's token to any host.
    #[error("{0:?} (--password-file) is in a directory for tokens of ServiceAccounts; use a file elsewhere")]
    Token(PathBuf),
    #[error("no {part} for the connection to RabbitMQ: set {ways}")]
    Missing {
        /// Name of the missing part: host, username or password.
        part: &'static str,
        /// The options and variables that set it.
        ways: &'static str,
    },
    /// The URI names another virtual host than `--vhost`.
    #[error(
        "the uri in --broker-secret has the virtual host {uri:?}, but --vhost is {vhost:?}; set both to the same value"
    )]
    Vhost { uri: String, vhost: String },
    /// A value is malformed.
    #[error("--broker-secret {0}")]
    Invalid(Problem),
}

impl BrokerArgs {
    /// Assembles the address; reads the files of `--password-file` and `--broker-secret`.
    pub fn address(&self) -> Result<BrokerAddress, BrokerArgsError> {
        let Self { host, port, username, password_file, broker_secret, vhost } = self;
        if let Some(directory) = broker_secret {
            let unreadable = |source| BrokerArgsError::Unreadable { path: directory.clone(), source };
            std::fs::read_dir(directory).map_err(unreadable)?;
        }
        let in_secret = |key: &str| match broker_secret {
            Some(directory) => read_if_there(&directory.join(key)),
            None => Ok(None),
        };
        let given = |value: Option<String>, key| match value {
            Some(value) => Ok(Some(value.into_bytes())),
            None => in_secret(key),
        };
        let password = match password_file {
            Some(file) => Some(read_password(file)?),
            None => given(std::env::var(PASSWORD_VARIABLE).ok(), "password")?,
        };
        let host = given(host.clone(), "host")?;
        let port = given(port.map(|port| port.to_string()), "port")?;
        let username = given(username.clone(), "username")?;
        let uri = in_secret("uri")?;
        let parts = |key: &str| match key {
            "host" => host.clone(),
            "port" => port.clone(),
            "username" => username.clone(),
            "password" => password.clone(),
            "uri" => uri.clone(),
            _ => None,
        };
        BrokerAddress::from_secret(vhost, parts).map_err(|invalid| match invalid.problem {
            Problem::Missing(part, _) => BrokerArgsError::Missing { part, ways: ways_to_give(part) },
            Problem::Vhost { uri, field } => BrokerArgsError::Vhost { uri, vhost: field },
            problem => BrokerArgsError::Invalid(problem),
        })
    }
}

/// The error's text with advice in terms of command-line options instead of `spec` fields.
pub fn explained(error: &QueueError) -> String {
    let found = error.found();
    let advice = match error.reason() {
        Reason::DnsFailed => "check --host",
        Reason::BrokerUnreachable => "check --host and --port",
        Reason::AuthenticationFailed => "check --username and the password",
        Reason::VhostNotFound => "check --vhost and the user's permissions",
        Reason::QueueNotFound => "create it, or correct --queue",
        Reason::DeclareRefused => "check the user's permissions",
        Reason::NameTooLong => "shorten --queue or --vhost",
        Reason::ConnectionLimit | Reason::QueueInUse | Reason::QueueUnavailable | Reason::StreamNotSupported => {
            return error.to_string();
        }
        _ => return found.to_owned(),
    };
    format!("{found}; {advice}")
}

/// Parses the value of a queue option: 1 to 255 bytes, the limit of an AMQP short string.
pub fn queue_name(text: &str) -> Result<String, String> {
    if (1..=255).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("a queue name must have 1 to 255 bytes".to_owned())
    }
}

fn ways_to_give(part: &str) -> &'static str {
    match part {
        "host" => "--host, BROKER_HOST or --broker-secret",
        "username" => "--username, BROKER_USERNAME or --broker-secret",
        _ => "--password-file, BROKER_PASSWORD or --broker-secret",
    }
}

/// Reads the file that `path` leads to, unless that is a token.
fn read_password(path: &Path) -> Result<Vec<u8>, BrokerArgsError> {
    let unreadable = |source| BrokerArgsError::Unreadable { path: path.to_owned(), source };
    let file = path.canonicalize().map_err(unreadable)?;
    if is_token(&file) {
        return Err(BrokerArgsError::Token(path.to_owned()));
    }
    std::fs::read(file).map_err(unreadable)
}

fn is_token(file: &Path) -> bool {
    TOKENS.iter().filter_map(|directory| file.strip_prefix(directory).ok()).any(|below| below.components().count() > 1)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, BrokerArgsError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BrokerArgsError::Unreadable { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn none() -> BrokerArgs {
        BrokerArgs {
            host: None,
            port: None,
            username: None,
            password_file: None,
            broker_secret: None,
            vhost: "/".to_owned(),
        }
    }

    #[test]
    fn options_go_before_the_files_of_a_secret() {
        let secret = tempfile::tempdir().unwrap();
        for (key, value) in [("host", "rabbit\n"), ("port", "5673"), ("username", "device"), ("password", "p#%/@\n")] {
            std::fs::write(secret.path().join(key), value).unwrap();
        }
        let broker_secret = Some(secret.path().to_owned());

        let address = BrokerArgs { broker_secret: broker_secret.clone(), ..none() }.address().unwrap();
        assert_eq!((address.host.as_str(), address.port, address.password.as_str()), ("rabbit", 5673, "p#%/@"));

        let elsewhere = BrokerArgs { host: Some("other".to_owned()), port: Some(5672), broker_secret, ..none() };
        let address = elsewhere.address().unwrap();
        assert_eq!((address.host.as_str(), address.port, address.username.as_str()), ("other", 5672, "device"));
    }

    #[test]
    fn a_token_of_a_service_account_is_no_password() {
        for token in [
            "/run/secrets/kubernetes.io/serviceaccount/..2026_11_30/token",
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
        ] {
            assert!(is_token(Path::new(token)), "{token}");
        }
        for password in ["/run/secrets/rabbit", "/etc/image-pipeline/password", "/home/run/secrets/a/b"] {
            assert!(!is_token(Path::new(password)), "{password}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_ways_to_give_it() {
        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(password.path(), "p").unwrap();
        let password_file = Some(password.path().to_owned());
        let error = BrokerArgs { host: Some("h".to_owned()), password_file, ..none() }.address().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no username for the connection to RabbitMQ: set --username, BROKER_USERNAME or --broker-secret"
        );

        let absent = Some(PathBuf::from("/nowhere/password"));
        let error = BrokerArgs { password_file: absent, ..none() }.address().unwrap_err();
        assert!(error.to_string().starts_with(r#""/nowhere/password" can't be read"#), "{error}");
    }
}
