//! The way to the broker: its Secrets, read at every use, and a connection. It must never
//! keep a password or a key, so that a rotated one counts at the next connection.

use std::time::Duration;

use super::secrets::Secrets;
use crate::api::names;
use crate::api::source::RabbitmqSource;
use crate::broker_address::{self, BrokerAddress};
use crate::queue::{Connection, QueueError};
use crate::reason::Reason;

/// How long a goodbye may take; the broker notices a closed socket as well.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the Secrets are, and what to use of them.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Where the Secrets are read.
    pub secrets: Secrets,
    /// What they are for.
    pub source: RabbitmqSource,
    /// What the broker's management page calls the connections.
    pub name: String,
}

/// No session with the broker, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The Secrets do not name a broker.
    #[error("{invalid} ({place})")]
    Secret {
        /// Where the wrong one is found.
        place: String,
        /// What is wrong with it.
        #[source]
        invalid: broker_address::Invalid,
    },
    /// The broker refused something, or is gone.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The broker ended the consumer and kept the connection.
    #[error("the broker cancelled the consumer: queue {0:?} was deleted, or moves to another node")]
    Cancelled(String),
    /// The consumer is registered and gets nothing.
    #[error("the broker has sent nothing for a while though messages are ready in queue {0:?}; consuming anew")]
    Stalled(String),
    /// A message's task ended in a way it never should.
    #[error("a worker stopped unexpectedly; its message will be delivered again")]
    WorkerLost,
}

impl BrokerError {
    /// The bounded reason.
    pub fn reason(&self) -> Reason {
        match self {
            BrokerError::Secret { invalid, .. } => invalid.reason(),
            BrokerError::Queue(error) => error.reason(),
            BrokerError::Stalled(_) => Reason::ConsumerStalled,
            BrokerError::Cancelled(_) | BrokerError::WorkerLost => Reason::ConnectionLost,
        }
    }
}

impl BrokerError {
    /// Whether the broker refused what was published, rather than being unable to answer.
    pub fn is_publish_refused(&self) -> bool {
        matches!(self, BrokerError::Queue(error) if error.is_publish_refused())
    }
}

impl Broker {
    /// Reads the Secrets and connects. `purpose` tells this process's connections apart.
    ///
    /// # Errors
    /// The Secrets do not name a broker, or the broker can't be reached or refuses the user.
    pub async fn connect(&self, purpose: &str) -> Result<Connection, BrokerError> {
        let opened = Connection::open(&self.address()?, &format!("{} {purpose}", self.name)).await;
        Ok(opened.map_err(|error| error.with_login_secret(&names::login_secret(&self.source)))?)
    }

    fn address(&self) -> Result<BrokerAddress, BrokerError> {
        BrokerAddress::read(&self.source, |role, key| self.secrets.read(role, key).ok())
            .map_err(|invalid| BrokerError::Secret { place: self.secrets.place(invalid.role), invalid })
    }
}

/// Closes a connection without waiting for a broker that does not answer.
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
