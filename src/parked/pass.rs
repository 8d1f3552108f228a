//! One pass through a parking queue: every message that was ready when it began is taken once. It must
//! never lose a message, whenever it ends, nor bring one near the number of returns after which its queue
//! drops it, nor hold more than one body.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::broker_address::BrokerAddress;
use crate::queue::{Channel, Connection, Delivery, QueueError};

/// With so many returns a message is copied rather than returned once more. A quorum queue drops a message at
/// its 21st return by default, and half of the 20 before are for others who look.
const WORN: u64 = 9;

/// A broker takes everything back from who holds a message for 30 minutes.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// What is taken stays unacknowledged until the end: given back at once, it would be met again. Only the
/// broker keeps its body.
pub struct Pass {
    address: BrokerAddress,
    queue: String,
    reading: Connection,
    channel: Channel,
    publishing: Option<Publishing>,
    /// How many are still to be taken, once that is known.
    ahead: Option<u32>,
    ends: Instant,
    stop: CancellationToken,
}

/// A connection of its own: a broker that is short of memory stops reading one that publishes, and
/// would see no acknowledgement by it, nor its end.
struct Publishing {
    connection: Connection,
    channel: Channel,
}

impl Pass {
    /// Connects; nothing is taken yet.
    ///
    /// # Errors
    /// The broker can't be reached or refuses the user.
    pub async fn open(address: BrokerAddress, queue: String, stop: CancellationToken) -> Result<Self, QueueError> {
        let reading = Connection::open(&address, "image-pipeline parked").await?;
        let channel = reading.channel().await?;
        let ends = Instant::now() + LONGEST;
        Ok(Self { address, queue, reading, channel, publishing: None, ahead: None, ends, stop })
    }

    /// Takes the next message; `None` when all were taken, the time is up, or the command was told to stop.
    ///
    /// # Errors
    /// The queue is missing, the user may not read it, or the connection is lost.
    pub async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        let over = self.stop.is_cancelled() || Instant::now() > self.ends;
        match self.ahead {
            Some(0) => return Ok(None),
            Some(_) if over => return Ok(None),
            _ => {}
        }
        let taken = self.channel.get(&self.queue).await?;
        // What others, or `keep`, have put there meanwhile is behind what was there.
        let behind = taken.as_ref().map_or(0, |(_, behind)| *behind);
        self.ahead = Some(self.ahead.map_or(behind, |ahead| behind.min(ahead.saturating_sub(1))));
        Ok(taken.map(|(delivery, _)| delivery))
    }

    /// The parking queue.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// How many were not taken that were ready when the pass began.
    pub fn unseen(&self) -> u32 {
        self.ahead.unwrap_or_default()
    }

    /// Leaves a message in the queue.
    ///
    /// # Errors
    /// It had to be copied, and the broker did not take the copy: the message is where it was.
    pub async fn keep(&mut self, delivery: &Delivery) -> Result<(), QueueError> {
        if delivery.returns() < WORN {
            return Ok(());
        }
        let publishing = publishing(&mut self.publishing, &self.address).await?;
        publishing.channel.renew(&self.queue, delivery).await?;
        delivery.acknowledge().await
    }

    /// Puts a message on another queue, and takes it out of this one.
    ///
    /// # Errors
    /// The other queue did not take it, and it is where it was; or the broker was lost before it knew that
    /// it was taken out, and it may be in both.
    pub async fn redrive(&mut self, delivery: &Delivery, to: &str) -> Result<(), QueueError> {
        let publishing = publishing(&mut self.publishing, &self.address).await?;
        publishing.channel.redrive(to, delivery, delivery.redriven().saturating_add(1)).await?;
        delivery.acknowledge().await
    }

    /// Gives back everything that was taken and not acknowledged.
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
