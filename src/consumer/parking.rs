//! The connection that publishes: messages for the parking queue, and renewals for the source queue. It is a
//! connection of its own, so that a broker that blocks publishers blocks no acknowledgement; it opens when first
//! needed. A message counts as parked only after the broker's confirm.

use tokio::sync::Mutex;

use super::broker::{self, Broker, BrokerError};
use crate::queue::{Channel, Connection, Copy, Delivery, Parked, Published, Publishing, QuorumQueues};
use crate::reason::Reason;

/// Publishes to one parking queue.
pub struct Parking {
    broker: Broker,
    queue: String,
    session: Mutex<Option<Session>>,
    quorum: Mutex<QuorumQueues>,
}

struct Session {
    connection: Connection,
    /// The parking queue exists, or the user may not look.
    found: bool,
    /// Channels in confirm mode with nothing under way.
    idle: Vec<Channel>,
}

impl Parking {
    /// Nothing is opened yet.
    pub fn new(broker: Broker, queue: String) -> Self {
        Self { broker, queue, session: Mutex::default(), quorum: Mutex::default() }
    }

    /// Publishes a delivery to the parking queue, which is declared if it doesn't exist. Returns within about ten
    /// seconds; after an error, call it again with the same delivery.
    ///
    /// A delivery has one copy: if an earlier call's publish may still be confirmed, this call waits for that
    /// confirm, also if the earlier call was canceled. Only a refusal, or the loss of the connection while the
    /// outcome is unknown, leads to another publish (at least once).
    ///
    /// # Errors
    /// The broker can't be reached, refuses the queue or the message, or has not confirmed yet: the message may
    /// not be in the queue.
    pub async fn park(&self, delivery: &Delivery, parked: &Parked<'_>) -> Result<(), BrokerError> {
        let begin = async || {
            let channel = self.channel(Some(&self.queue)).await?;
            Ok(channel.start_parking(&self.queue, delivery, parked))
        };
        self.copy(delivery, begin).await
    }

    /// Publishes a delivery again to the queue it came from, with a count of returns that begins at 0. Otherwise
    /// as `park`; a delivery that was parked or renewed has its one copy, and is not published again.
    ///
    /// # Errors
    /// As `park`.
    pub async fn renew(&self, queue: &str, delivery: &Delivery) -> Result<(), BrokerError> {
        let begin = async || Ok(self.channel(None).await?.start_renewing(queue, delivery));
        self.copy(delivery, begin).await
    }

    /// Closes the connection, if there is one.
    pub async fn close(&self) {
        if let Some(session) = self.session.lock().await.take() {
            broker::close(&session.connection).await;
        }
    }

    async fn copy(
        &self,
        delivery: &Delivery,
        begin: impl AsyncFnOnce() -> Result<Publishing, BrokerError>,
    ) -> Result<(), BrokerError> {
        let mut copy = delivery.copy().await;
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
                // The queue may be gone.
                self.look_again().await;
                Err(error.into())
            }
            Published::UnderWay(error) => Err(error.into()),
        }
    }

    async fn give_back(&self, channel: Channel) {
        if let Some(session) = &mut *self.session.lock().await {
            session.idle.push(channel);
        }
    }

    async fn look_again(&self) {
        if let Some(session) = &mut *self.session.lock().await {
            session.found = false;
        }
    }

    /// A channel in confirm mode, once the queue that is named exists.
    async fn channel(&self, queue: Option<&str>) -> Result<Channel, BrokerError> {
        let mut slot = self.session.lock().await;
        let session = match slot.take().filter(|session| session.connection.is_open()) {
            Some(session) => slot.insert(session),
            None => slot.insert(Session::new(self.broker.connect("parking").await?)),
        };
        if let Some(queue) = queue.filter(|_| !session.found && !session.connection.is_blocked()) {
            let mut quorum = self.quorum.lock().await;
            match session.connection.ensure_queue(queue, *quorum).await {
                Ok(()) => {}
                // That closed the connection. The next attempt opens another.
                Err(error) if error.is_no_quorum() => {
                    *quorum = QuorumQueues::Missing;
                    return Err(error.into());
                }
                // A user may be allowed to publish and not to look or declare. If the queue doesn't exist, the
                // broker returns the message, and it does not count as parked.
                Err(error) if error.reason() == Reason::DeclareRefused => {}
                Err(error) => return Err(error.into()),
            }
            session.found = true;
        }
        while let Some(channel) = session.idle.pop() {
            if channel.is_open() && !session.connection.is_blocked() {
                return Ok(channel);
            }
        }
        Ok(session.connection.publishing_channel().await?)
    }
}

impl Session {
    fn new(connection: Connection) -> Self {
        Self { connection, found: false, idle: Vec::new() }
    }
}
