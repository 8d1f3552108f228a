//! The operator's connections to RabbitMQ. Pipelines with the same host, port, vhost, user and TLS settings share a
//! connection, and each has a channel on it. After a failure they share the error for a few seconds, instead of each
//! dialing a broker that does not answer. A namespace may have a limited number of brokers, so that its Secrets can't
//! make the operator hold any number of connections.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::rabbitmq::address::BrokerAddress;
use crate::rabbitmq::{Connection, DialPolicy, QueueError};

/// How long a failed connection attempt counts for all pipelines before the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// Channels that a pipeline may open on a connection that it was given: its own, one to look for a stream, one to
/// explain a timeout.
const CHANNELS_PER_READER: usize = 3;

pub struct Connections {
    /// Limits the addresses that a Secret may name.
    dial_policy: DialPolicy,
    /// Brokers that a namespace may have.
    per_namespace: usize,
    brokers: parking_lot::Mutex<HashMap<BrokerAddress, BrokerConnections>>,
}

/// One broker and user.
#[derive(Default)]
struct BrokerConnections {
    link: Arc<Mutex<Link>>,
    /// Those whose pipelines use it: they hold the `Place`.
    namespaces: HashMap<String, Weak<Place>>,
}

/// The place of a namespace at a broker, kept as long as a pipeline of the namespace uses the broker.
#[derive(Debug)]
pub struct Place;

/// The connections to a broker. A connection stays open while a channel holds it.
#[derive(Default)]
struct Link {
    /// The connection that is given to pipelines. Earlier ones stay open for the pipelines that were given them.
    connection: Weak<Connection>,
    /// How often it was given.
    given: usize,
    failed: Option<(Instant, QueueError)>,
}

impl Connections {
    pub fn new(dial_policy: DialPolicy, per_namespace: usize) -> Self {
        Self { dial_policy, per_namespace, brokers: parking_lot::Mutex::default() }
    }

    /// An open connection with room for a channel.
    ///
    /// # Errors
    /// The broker refused the connection or did not answer, now or in the last 3 s; or the namespace has as many
    /// brokers as it may have.
    pub async fn open(
        &self,
        namespace: &str,
        address: &BrokerAddress,
    ) -> Result<(Arc<Connection>, Arc<Place>), QueueError> {
        let (link, place) = self.link(namespace, address)?;
        let mut link = link.lock().await;
        if let Some(connection) = link.connection.upgrade().filter(|one| one.is_open() && link.has_room(one)) {
            link.given += 1;
            return Ok((connection, place));
        }
        if let Some((when, error)) = &link.failed
            && when.elapsed() < RETRY_AFTER
        {
            return Err(error.clone());
        }
        match Connection::open_to_look(self.dial_policy, address, "image-pipeline controller").await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *link = Link { connection: Arc::downgrade(&connection), given: 1, failed: None };
                Ok((connection, place))
            }
            Err(error) => {
                link.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Drops the state of brokers that no pipeline uses.
    pub fn retain_used(&self) {
        let is_used = |broker: &BrokerConnections| broker.namespaces.values().any(|place| place.strong_count() > 0);
        self.brokers.lock().retain(|_, broker| is_used(broker));
    }

    fn link(&self, namespace: &str, address: &BrokerAddress) -> Result<(Arc<Mutex<Link>>, Arc<Place>), QueueError> {
        let mut brokers = self.brokers.lock();
        let place = |broker: &BrokerConnections| broker.namespaces.get(namespace)?.upgrade();
        let place = match brokers.get(address).and_then(place) {
            Some(place) => place,
            None if brokers.values().filter(|broker| place(broker).is_some()).count() >= self.per_namespace => {
                return Err(QueueError::too_many_brokers(self.per_namespace));
            }
            None => Arc::new(Place),
        };
        let broker = brokers.entry(address.clone()).or_default();
        broker.namespaces.insert(namespace.to_owned(), Arc::downgrade(&place));
        Ok((Arc::clone(&broker.link), place))
    }
}

impl Link {
    fn has_room(&self, connection: &Connection) -> bool {
        (self.given + 1) * CHANNELS_PER_READER <= connection.channel_max()
    }
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
        let mut used: Vec<_> = (0..3).map(|number| connections.link("a", &address(number)).unwrap()).collect();
        let refused = connections.link("a", &address(3)).map(drop).unwrap_err();
        assert!(refused.to_string().contains("have 3 brokers"), "{refused}");
        assert!(connections.link("a", &address(0)).is_ok(), "a broker that it uses");
        let shared = connections.link("b", &address(0)).unwrap();
        assert!(Arc::ptr_eq(&used[0].0, &shared.0), "namespaces share a broker");
        drop(used.remove(0));
        assert!(connections.link("a", &address(3)).is_ok(), "it left a broker that another namespace uses");
        drop((used, shared));
        connections.retain_used();
        assert_eq!(connections.brokers.lock().len(), 0);
    }
}
