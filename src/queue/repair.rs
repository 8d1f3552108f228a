//! What repairing a parking queue needs of a broker: to take one message at a time, and to redrive it. It must
//! never acknowledge: that is for the caller, who knows that the copy was confirmed.

use lapin::options::BasicGetOptions;

use super::{Channel, Delivery, QueueError, properties, short, within};

impl Channel {
    /// Takes the next message that is ready, and says how many more are. Unless it is acknowledged it is
    /// the queue's again when the connection ends; a quorum queue then counts one delivery more.
    ///
    /// # Errors
    /// The queue is missing, the user may not read it, or the broker does not answer.
    pub async fn get(&self, queue: &str) -> Result<Option<(Delivery, u32)>, QueueError> {
        within("taking a message", async {
            let taken = self.inner.basic_get(short(queue)?, BasicGetOptions::default()).await;
            let taken = taken.map_err(|error| QueueError::on_queue(queue, &error))?;
            Ok(taken.map(|message| (Delivery::new(message.delivery), message.message_count)))
        })
        .await
    }

    /// Publishes what was parked to a queue that is consumed, and waits for the broker's confirm; `times`
    /// says how often that was done with it, this time included. The channel must be in confirm mode.
    ///
    /// # Errors
    /// The broker refused the message, returned it (no such queue), blocks publishers, or did not confirm in
    /// time: the message may not be in the queue.
    pub async fn redrive(&self, queue: &str, delivery: &Delivery, times: u32) -> Result<(), QueueError> {
        self.publish_unless_blocked(queue, delivery.body(), properties::redriven(delivery.properties(), times)).await
    }
}

impl Delivery {
    /// How often it was redriven.
    pub fn redriven(&self) -> u32 {
        self.header(properties::REDRIVEN).and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}
