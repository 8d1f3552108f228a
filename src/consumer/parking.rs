//! The parking queue: a connection of its own, so that a broker that blocks publishers blocks no
//! acknowledgement; opened when first needed, and kept. It must never report a message as parked
//! before the broker's confirm.

use tokio::sync::Mutex;

use super::broker::{self, Broker, BrokerError};
use crate::queue::{Channel, Connection, Delivery, Parked, QueueError};
use crate::reason::Reason;

/// Publishes to one parking queue, one message at a time.
pub struct Parking {
    broker: Broker,
    queue: String,
    session: Mutex<Option<Session>>,
}

struct Session {
    connection: Connection,
    channel: Channel,
    /// Something that nobody waits for any more may still be on its way by the channel.
    was_blocked: bool,
}

impl Session {
    fn usable(&self) -> bool {
        let open = self.connection.is_open() && self.channel.is_open();
        open && (!self.was_blocked || self.connection.is_blocked())
    }
}

impl Parking {
    /// Nothing is opened yet.
    pub fn new(broker: Broker, queue: String) -> Self {
        Self { broker, queue, session: Mutex::new(None) }
    }

    /// Publishes a delivery to the parking queue, which is declared if it is not there.
    ///
    /// # Errors
    /// The broker can't be reached, refuses the queue, or did not confirm: the message may not be
    /// in it.
    pub async fn park(&self, delivery: &Delivery, parked: &Parked<'_>) -> Result<(), BrokerError> {
        self.publish(async |channel| channel.park(&self.queue, delivery, parked).await).await
    }

    /// Tries whether the parking queue takes messages, with one that is gone at once.
    ///
    /// # Errors
    /// It does not.
    pub async fn probe(&self) -> Result<(), BrokerError> {
        self.publish(async |channel| channel.probe(&self.queue).await).await
    }

    async fn publish(&self, publish: impl AsyncFnOnce(&Channel) -> Result<(), QueueError>) -> Result<(), BrokerError> {
        let mut slot = self.session.lock().await;
        // Taken out, so that a failure, or a caller that stops waiting, leaves no half-used session.
        let session = match slot.take() {
            Some(session) if session.usable() => session,
            Some(session) => {
                broker::close(&session.connection).await;
                self.open().await?
            }
            None => self.open().await?,
        };
        match publish(&session.channel).await {
            Ok(()) => {
                *slot = Some(session);
                Ok(())
            }
            // A blocked connection can't even be closed: another at every attempt would pile them up.
            Err(error) if session.connection.is_blocked() => {
                *slot = Some(Session { was_blocked: true, ..session });
                Err(error.into())
            }
            Err(error) => {
                broker::close(&session.connection).await;
                Err(error.into())
            }
        }
    }

    /// Closes the connection, if there is one.
    pub async fn close(&self) {
        if let Some(session) = self.session.lock().await.take() {
            broker::close(&session.connection).await;
        }
    }

    async fn open(&self) -> Result<Session, BrokerError> {
        let connection = self.broker.connect("parking").await?;
        match self.prepare(&connection).await {
            Ok(channel) => Ok(Session { connection, channel, was_blocked: false }),
            Err(error) => {
                broker::close(&connection).await;
                Err(error.into())
            }
        }
    }

    async fn prepare(&self, connection: &Connection) -> Result<Channel, QueueError> {
        let channel = connection.channel().await?;
        let channel = match channel.ensure_queue(connection, &self.queue).await {
            Ok(()) => channel,
            // A user may be allowed to publish and not to look or declare. If the queue is not there,
            // the broker returns the message, and it does not count as parked.
            Err(error) if error.reason() == Reason::DeclareRefused => connection.channel().await?,
            Err(error) => return Err(error),
        };
        channel.confirm().await?;
        Ok(channel)
    }
}
