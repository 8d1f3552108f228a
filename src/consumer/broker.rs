//! Connects to the broker. Every connection reads the Secrets again, so a rotated password or key applies to the next
//! connection.

use std::time::Duration;

use super::secrets::Secrets;
use crate::api::names;
use crate::api::source::RabbitmqSource;
use crate::rabbitmq::address::{self, BrokerAddress};
use crate::rabbitmq::{Connection, QueueError};
use crate::reason::Reason;

/// Limit for `connection.close`. After it the socket closes without the handshake, which the broker also detects.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Broker {
    pub secrets: Secrets,
    pub source: RabbitmqSource,
    /// Start of the connection names in the broker's management page; the connection's purpose follows.
    pub name: String,
}

/// A session with the broker failed, or could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The Secrets do not contain a broker's address and credentials.
    #[error("{invalid} ({place})")]
    Secret {
        /// The directory or the Secret's name, for the message.
        place: String,
        #[source]
        invalid: address::Invalid,
    },
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The broker sent `basic.cancel`; the connection is still open.
    #[error("the broker canceled the consumer: queue {0:?} was deleted or is moving to another node")]
    Canceled(String),
    /// The broker has this consumer and ready messages, but delivers none.
    #[error("the broker delivers nothing although queue {0:?} has ready messages; reconnecting")]
    Stalled(String),
    /// The task of a message panicked, or ended without a result.
    #[error("a worker task stopped unexpectedly; the broker will redeliver its message")]
    WorkerLost,
}

impl SessionError {
    pub fn reason(&self) -> Reason {
        match self {
            SessionError::Secret { invalid, .. } => invalid.reason(),
            SessionError::Queue(error) => error.reason(),
            SessionError::Stalled(_) => Reason::ConsumerStalled,
            SessionError::Canceled(_) | SessionError::WorkerLost => Reason::ConnectionLost,
        }
    }
}

impl SessionError {
    /// Whether the broker refused a published message. `false`: the broker could not answer.
    pub fn is_publish_refused(&self) -> bool {
        matches!(self, SessionError::Queue(error) if error.is_publish_refused())
    }
}

impl Broker {
    /// Reads the Secrets and connects. `purpose` distinguishes this process's connections in their names.
    ///
    /// # Errors
    /// The Secrets are incomplete, or the broker can't be reached or refuses the user.
    pub async fn connect(&self, purpose: &str) -> Result<Connection, SessionError> {
        let opened = Connection::open(&self.address()?, &format!("{} {purpose}", self.name)).await;
        Ok(opened.map_err(|error| error.with_login_secret(&names::login_secret(&self.source)))?)
    }

    fn address(&self) -> Result<BrokerAddress, SessionError> {
        BrokerAddress::read(&self.source, |role, key| self.secrets.read(role, key).ok())
            .map_err(|invalid| SessionError::Secret { place: self.secrets.place(invalid.role), invalid })
    }
}

/// Closes a connection; a broker that does not answer delays this by 2 s at most.
pub async fn close(connection: &Connection) {
    drop(tokio::time::timeout(CLOSE_TIMEOUT, connection.close()).await);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_read_anew_and_named_when_it_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("broker");
        let source = serde_json::from_value(serde_json::json!({ "queue": "q", "rabbitmqClusterReference": {} }));
        let broker = Broker { secrets: directory.path().into(), source: source.unwrap(), name: "test".to_owned() };
        assert_eq!(broker.address().unwrap_err().reason(), Reason::SecretNotFound);
        std::fs::create_dir(&secret).unwrap();
        assert_eq!(broker.address().unwrap_err().reason(), Reason::SecretNotFound, "an optional volume is empty");
        std::fs::write(secret.join("host"), "rabbit").unwrap();
        std::fs::write(secret.join("username"), "u").unwrap();
        let error = broker.address().unwrap_err();
        assert_eq!(error.reason(), Reason::SecretInvalid);
        assert!(error.to_string().contains("needs the key password"), "{error}");
        std::fs::write(secret.join("password"), "first\n").unwrap();
        assert_eq!(broker.address().unwrap().password, "first");
        std::fs::write(secret.join("password"), "second\n").unwrap();
        assert_eq!(broker.address().unwrap().password, "second");
    }
}
