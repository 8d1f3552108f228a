//! Publishes messages to the parking queue, and renewed copies to the source queue, on a separate connection: when the
//! broker blocks publishers, acknowledgements still pass. The connection opens at the first publish. A message counts
//! as parked only after the broker's confirm.

use tokio::sync::Mutex;

use super::broker::{self, Broker, SessionError};
use crate::rabbitmq::{Channel, Connection, Delivery, Parked, Published, Publishing, QuorumQueues};
use crate::reason::Reason;

/// Publishes to one parking queue.
pub struct Parking {
    broker: Broker,
    queue: String,
    connection: Mutex<Option<PublishConnection>>,
    quorum: Mutex<QuorumQueues>,
}

/// The published copy of a delivery, in the parking queue or at the end of the source queue. A delivery has at most one
/// copy in flight.
#[derive(Debug, Default)]
pub enum Copy {
    /// No copy, as far as this consumer knows.
    #[default]
    Missing,
    /// The broker has not reported an outcome.
    UnderWay(Publishing),
    /// The broker confirmed the copy.
    Confirmed,
}

/// The connection for publishing.
struct PublishConnection {
    connection: Connection,
    /// The parking queue exists, or the user may not declare it.
    found: bool,
    /// Channels in confirm mode without an unconfirmed publish.
    idle: Vec<Channel>,
}

impl Parking {
    /// Opens no connection.
    pub fn new(broker: Broker, queue: String) -> Self {
        Self { broker, queue, connection: Mutex::default(), quorum: Mutex::default() }
    }

    /// Publishes a delivery to the parking queue, and declares the queue if it doesn't exist. Returns within about ten
    /// seconds; after an error, call it again with the same delivery and copy.
    ///
    /// A delivery is published once: if the publish of an earlier call, even a canceled one, may still be confirmed,
    /// this call waits for that confirm. Only a refusal, or a connection lost before the confirm, leads to another
    /// publish (at least once).
    ///
    /// # Errors
    /// The broker can't be reached, refuses the queue or the message, or has not confirmed the publish yet. The message
    /// may be in the queue or not.
    pub async fn park(&self, delivery: &Delivery, copy: &Mutex<Copy>, parked: &Parked<'_>) -> Result<(), SessionError> {
        let begin = async || {
            let channel = self.channel(Some(&self.queue)).await?;
            Ok(channel.start_parking(&self.queue, delivery, parked))
        };
        self.copy(copy, begin).await
    }

    /// Publishes a copy of a delivery to the queue it came from; the copy starts with 0 returns. Otherwise like `park`.
    /// A delivery that was parked or renewed is not published again.
    ///
    /// # Errors
    /// As for `park`.
    pub async fn renew(&self, queue: &str, delivery: &Delivery, copy: &Mutex<Copy>) -> Result<(), SessionError> {
        let begin = async || Ok(self.channel(None).await?.start_renewing(queue, delivery));
        self.copy(copy, begin).await
    }

    pub async fn close(&self) {
        if let Some(publishing) = self.connection.lock().await.take() {
            broker::close(&publishing.connection).await;
        }
    }

    async fn copy(
        &self,
        copy: &Mutex<Copy>,
        begin: impl AsyncFnOnce() -> Result<Publishing, SessionError>,
    ) -> Result<(), SessionError> {
        let mut copy = copy.lock().await;
        if matches!(*copy, Copy::Missing) {
            *copy = Copy::UnderWay(begin().await?);
        }
        let Copy::UnderWay(publishing) = &mut *copy else { return Ok(()) };
        match publishing.outcome().await {
            Published::Confirmed(channel) => {
                *copy = Copy::Confirmed;
                self.give_back(channel).await;
                Ok(())
            }
            Published::Failed(error) => {
                *copy = Copy::Missing;
                // The queue may have been deleted: declare it again before the next publish.
                self.look_again().await;
                Err(error.into())
            }
            Published::UnderWay(error) => Err(error.into()),
        }
    }

    async fn give_back(&self, channel: Channel) {
        if let Some(publishing) = &mut *self.connection.lock().await {
            publishing.idle.push(channel);
        }
    }

    async fn look_again(&self) {
        if let Some(publishing) = &mut *self.connection.lock().await {
            publishing.found = false;
        }
    }

    /// A channel in confirm mode; declares `queue` first if needed.
    async fn channel(&self, queue: Option<&str>) -> Result<Channel, SessionError> {
        let mut slot = self.connection.lock().await;
        let publishing = match slot.take().filter(|publishing| publishing.connection.is_open()) {
            Some(publishing) => slot.insert(publishing),
            None => slot.insert(PublishConnection::new(self.broker.connect("parking").await?)),
        };
        if let Some(queue) = queue.filter(|_| !publishing.found && !publishing.connection.is_blocked()) {
            let mut quorum = self.quorum.lock().await;
            match publishing.connection.ensure_queue(queue, *quorum).await {
                Ok(()) => {}
                // The refused declaration closed the connection. The next attempt opens a new one.
                Err(error) if error.is_no_quorum() => {
                    *quorum = QuorumQueues::Missing;
                    return Err(error.into());
                }
                // The user may be allowed to publish but not to declare. If the queue doesn't exist, the broker
                // returns the message, and the message does not count as parked.
                Err(error) if error.reason() == Reason::DeclareRefused => {}
                Err(error) => return Err(error.into()),
            }
            publishing.found = true;
        }
        while let Some(channel) = publishing.idle.pop() {
            if channel.is_open() && !publishing.connection.is_blocked() {
                return Ok(channel);
            }
        }
        Ok(publishing.connection.publishing_channel().await?)
    }
}

impl PublishConnection {
    fn new(connection: Connection) -> Self {
        Self { connection, found: false, idle: Vec::new() }
    }
}
