//! One pass through a parking queue: takes every message that was ready at the start once. No message is lost whenever
//! the pass ends, none comes near the delivery limit of its queue, and at most one body is in memory.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::rabbitmq::address::BrokerAddress;
use crate::rabbitmq::{Channel, Connection, Delivery, QueueError};

/// A message with this many returns is copied instead of returned. By default a quorum queue drops a message at its
/// 21st return; half of the 20 returns before are left for other users of the command.
const WORN: u64 = 9;

/// Time limit of a pass: less than RabbitMQ's delivery acknowledgement timeout (30 minutes by default), at which the
/// broker closes the channel and requeues its messages.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// Taken messages stay unacknowledged until the end: if they were returned immediately, the pass would take them again.
/// Only the broker keeps their bodies.
pub struct Pass {
    address: BrokerAddress,
    queue: String,
    reading: Connection,
    channel: Channel,
    publishing: Option<Publishing>,
    /// Number of messages still to be taken; `None` before the first.
    ahead: Option<u32>,
    ends: Instant,
    stop: CancellationToken,
}

/// A separate connection for publishing: while a memory or disk alarm is active, RabbitMQ does not read from a
/// connection that publishes, so acknowledgements and closing would not work on it.
struct Publishing {
    connection: Connection,
    channel: Channel,
}

impl Pass {
    /// Connects, without taking a message.
    pub async fn open(address: BrokerAddress, queue: String, stop: CancellationToken) -> Result<Self, QueueError> {
        let reading = Connection::open(&address, "image-pipeline parked").await?;
        let channel = reading.channel().await?;
        let ends = Instant::now() + LONGEST;
        Ok(Self { address, queue, reading, channel, publishing: None, ahead: None, ends, stop })
    }

    /// Takes the next message. `None` when all messages were taken, the time is up, or `stop` is canceled.
    pub async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        let over = self.stop.is_cancelled() || Instant::now() > self.ends;
        match self.ahead {
            Some(0) => return Ok(None),
            Some(_) if over => return Ok(None),
            _ => {}
        }
        let taken = self.channel.get(&self.queue).await?;
        // Messages that were published since the start, also by `keep`, are behind the original ones.
        let behind = taken.as_ref().map_or(0, |(_, behind)| *behind);
        self.ahead = Some(self.ahead.map_or(behind, |ahead| behind.min(ahead.saturating_sub(1))));
        Ok(taken.map(|(delivery, _)| delivery))
    }

    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Number of messages that were ready at the start and not taken.
    pub fn unseen(&self) -> u32 {
        self.ahead.unwrap_or_default()
    }

    /// Leaves a message in the queue; replaces it by a copy if it was returned too often.
    ///
    /// # Errors
    /// The broker did not confirm the copy. The original is still in the queue.
    pub async fn keep(&mut self, delivery: &Delivery) -> Result<(), QueueError> {
        if delivery.returns().is_some_and(|returns| returns < WORN) {
            return Ok(());
        }
        let publishing = publishing(&mut self.publishing, &self.address).await?;
        publishing.channel.renew(&self.queue, delivery).await?;
        delivery.acknowledge().await
    }

    /// Publishes a message to another queue, and removes it from this one.
    ///
    /// # Errors
    /// The broker did not confirm the copy, and the message is still in this queue; or the connection was lost before
    /// the acknowledgement, and the message may be in both queues.
    pub async fn redrive(&mut self, delivery: &Delivery, to: &str) -> Result<(), QueueError> {
        let publishing = publishing(&mut self.publishing, &self.address).await?;
        publishing.channel.redrive(to, delivery, delivery.redriven().saturating_add(1)).await?;
        delivery.acknowledge().await
    }

    /// Closes the connections: the broker returns all unacknowledged messages.
    pub async fn end(self) {
        self.reading.close().await;
        if let Some(publishing) = self.publishing.filter(|publishing| !publishing.connection.is_blocked()) {
            publishing.connection.close().await;
        }
    }
}

async fn publishing<'a>(
    slot: &'a mut Option<Publishing>,
    address: &BrokerAddress,
) -> Result<&'a Publishing, QueueError> {
    if let Some(publishing) = slot {
        return Ok(publishing);
    }
    let connection = Connection::open(address, "image-pipeline parked, publishing").await?;
    let channel = connection.channel().await?;
    channel.confirm().await?;
    Ok(slot.insert(Publishing { connection, channel }))
}
