//! The operator's connections to RabbitMQ. Pipelines with the same host, port, vhost, user and TLS settings share a
//! connection, and each has a channel on it. After a failure they share the error for a few seconds, instead of each
//! dialing a broker that does not answer. A namespace may have a limited number of brokers, so that its Secrets can't
//! make the operator hold any number of connections.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::rabbitmq::address::BrokerAddress;
use crate::rabbitmq::{Connection, DialPolicy, QueueError};

/// How long a failed connection attempt counts for all pipelines before the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// Channels per connection: half of RabbitMQ's default limit of 2,047. Each pipeline has one channel, and briefly a
/// second one while it is opened again.
const CHANNELS: usize = 1_000;

pub struct Connections {
    /// Limits the addresses that a Secret may name.
    dial_policy: DialPolicy,
    /// Brokers that a namespace may have.
    per_namespace: usize,
    brokers: Mutex<HashMap<BrokerAddress, Broker>>,
}

/// One broker and user.
#[derive(Default)]
struct Broker {
    link: Arc<tokio::sync::Mutex<Link>>,
    /// Those whose pipelines have used it since it was dialed.
    namespaces: HashSet<String>,
}

/// The connections to a broker. A connection stays open while a channel holds it.
#[derive(Default)]
struct Link {
    /// The latest one has room for channels; earlier ones are full.
    connections: Vec<Weak<Connection>>,
    failed: Option<(Instant, QueueError)>,
}

impl Connections {
    pub fn new(dial_policy: DialPolicy, per_namespace: usize) -> Self {
        Self { dial_policy, per_namespace, brokers: Mutex::default() }
    }

    /// An open connection with room for a channel.
    ///
    /// # Errors
    /// The broker refused the connection or did not answer, now or in the last 3 s; or the namespace has as many
    /// connections as it may have.
    pub async fn open(&self, namespace: &str, address: &BrokerAddress) -> Result<Arc<Connection>, QueueError> {
        let link = self.link(namespace, address)?;
        let mut link = link.lock().await;
        if let Some(connection) = link.connections.last().and_then(Weak::upgrade).filter(has_room) {
            return Ok(connection);
        }
        if let Some((when, error)) = &link.failed
            && when.elapsed() < RETRY_AFTER
        {
            return Err(error.clone());
        }
        match Connection::open_to_look(self.dial_policy, address, "image-pipeline controller").await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                link.connections.retain(|earlier| earlier.strong_count() > 0);
                link.connections.push(Arc::downgrade(&connection));
                link.failed = None;
                Ok(connection)
            }
            Err(error) => {
                link.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Drops the state of brokers without a connection.
    pub fn retain_used(&self) {
        self.brokers.lock().retain(|_, broker| is_used(&broker.link));
    }

    fn link(&self, namespace: &str, address: &BrokerAddress) -> Result<Arc<tokio::sync::Mutex<Link>>, QueueError> {
        let mut brokers = self.brokers.lock();
        let has = |broker: &Broker| broker.namespaces.contains(namespace);
        let count = |brokers: &HashMap<_, Broker>| brokers.values().filter(|broker| has(broker)).count();
        if !brokers.get(address).is_some_and(has) && count(&brokers) >= self.per_namespace {
            brokers.retain(|_, broker| !has(broker) || is_used(&broker.link));
            if count(&brokers) >= self.per_namespace {
                return Err(QueueError::too_many_brokers(self.per_namespace));
            }
        }
        let broker = brokers.entry(address.clone()).or_default();
        broker.namespaces.insert(namespace.to_owned());
        Ok(Arc::clone(&broker.link))
    }
}

/// The caller's `Arc` counts too.
fn has_room(connection: &Arc<Connection>) -> bool {
    connection.is_open() && Arc::strong_count(connection) <= CHANNELS
}

/// A task that holds the link may be about to connect.
fn is_used(link: &Arc<tokio::sync::Mutex<Link>>) -> bool {
    let is_open = |link: &Link| link.connections.iter().any(|connection| connection.strong_count() > 0);
    Arc::strong_count(link) > 1 || link.try_lock().is_ok_and(|link| is_open(&link))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(vhost: usize) -> BrokerAddress {
        let [host, username, password] = ["127.0.0.1", "u", "p"].map(str::to_owned);
        BrokerAddress { host, port: 1, vhost: vhost.to_string(), username, password, tls: None }
    }

    #[test]
    fn brokers_of_one_namespace_leave_those_of_others_alone() {
        let connections = Connections::new(DialPolicy::AnyAddress, 3);
        let used: Vec<_> = (0..3).map(|number| connections.link("a", &address(number)).unwrap()).collect();
        let refused = connections.link("a", &address(3)).map(drop).unwrap_err();
        assert!(refused.to_string().contains("have 3 brokers"), "{refused}");
        assert!(connections.link("a", &address(0)).is_ok(), "a broker that has a place");
        let other = connections.link("b", &address(3)).unwrap();
        assert!(Arc::ptr_eq(&used[0], &connections.link("b", &address(0)).unwrap()), "namespaces share a broker");
        drop(other);
        drop(used);
        assert!(connections.link("a", &address(3)).is_ok(), "the others have no connection");
        connections.retain_used();
        assert_eq!(connections.brokers.lock().len(), 0);
    }
}
