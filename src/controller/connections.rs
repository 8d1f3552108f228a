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

/// Channels per connection: half of RabbitMQ's default limit of 2,047. Each pipeline has one channel, and briefly a
/// second one while it is opened again.
const CHANNELS: usize = 1_000;

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
    /// The latest one has room for channels; earlier ones are full.
    connections: Vec<Weak<Connection>>,
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
        if let Some(connection) = with_room(&link.connections, Connection::is_open) {
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
                link.connections.retain(|earlier| earlier.strong_count() > 0);
                link.connections.push(Arc::downgrade(&connection));
                link.failed = None;
                Ok((connection, place))
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

/// The last connection, if it has room for another channel; each channel holds its connection.
fn with_room<C>(connections: &[Weak<C>], is_open: impl Fn(&C) -> bool) -> Option<Arc<C>> {
    let channels = connections.last()?.strong_count();
    let last = connections.last()?.upgrade()?;
    (channels < CHANNELS && is_open(&last)).then_some(last)
}

/// A task that holds the link may be about to connect.
fn is_used(link: &Arc<Mutex<Link>>) -> bool {
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
    fn a_connection_that_is_full_or_closed_is_not_used_again() {
        let (full, last) = (Arc::new(1), Arc::new(2));
        let channels = vec![Arc::clone(&full); CHANNELS - 1];
        let connections = [Arc::downgrade(&full), Arc::downgrade(&last)];
        assert!(with_room(&connections[..1], |_| true).is_none(), "{} channels", channels.len() + 1);
        assert_eq!(with_room(&connections, |_| true), Some(Arc::clone(&last)));
        assert_eq!(with_room(&connections, |_| false), None);
        drop((channels, last));
        assert!(with_room(&connections[..1], |_| true).is_some(), "channels were closed");
        assert_eq!(with_room(&connections, |_| true), None, "the connection is gone");
        assert_eq!(with_room::<i32>(&[], |_| true), None);
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
